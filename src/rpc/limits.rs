//! What is enforced at the door, so that nothing behind it ever has to refuse for size.

use std::{ops::RangeInclusive, time::Duration};

const SECOND_MS: u64 = 1_000;
const DAY_MS: u64 = 24 * 60 * 60 * SECOND_MS;

/// The limits on requests. Every one that is passed is named in the error, with what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Branches of one transaction. Default 64.
    pub branches_max: usize,
    /// Bytes of one payload, its type and its value together. Default 64 KiB.
    pub payload_bytes_max: usize,
    /// Bytes of one request as encoded. Default 1 MiB.
    pub request_bytes_max: usize,
    /// Labels of one transaction, and, counted apart, its switches. Default 16.
    pub labels_max: usize,
    /// Bytes of a label's or a switch's key. Default 63.
    pub label_key_bytes_max: usize,
    /// Bytes of a label's or a switch's value. Default 256.
    pub label_value_bytes_max: usize,
    /// Bytes of one name: a type, a business key, a resource, an endpoint, a method. Default 256.
    pub name_bytes_max: usize,
    /// Bytes of all names, labels and switches of one transaction together. It keeps a record without
    /// its payloads below 64 KiB, with room for its failures and its timeline. Default 24 KiB.
    pub words_bytes_max: usize,
    /// Bytes of a message for people. Default 1 KiB.
    pub message_bytes_max: usize,
    /// From creation to decision, in milliseconds. Default 1 s to 24 h.
    pub timeout_ms: RangeInclusive<u64>,
    /// The timeout of a transaction that names none, in milliseconds. Default 30 s.
    pub timeout_default_ms: u64,
    /// The Try timeout of a transaction that names none, in milliseconds. Default 3 s, or the
    /// transaction's timeout when that is shorter.
    pub try_timeout_default_ms: u64,
    /// How many retry intervals a transaction may list. Default 16.
    pub retry_intervals_max: usize,
    /// How long a listed retry interval may be, in milliseconds. Default 100 ms to 24 h.
    pub retry_interval_ms: RangeInclusive<u64>,
    /// How far ahead `submit_expire_time` may lie, in milliseconds: the time for which the store keeps
    /// a finished transaction whole. Default 7 days.
    pub submit_expire_ahead_max_ms: u64,
    /// The longest wait of one call. Default 60 s.
    pub wait_max: Duration,
    /// Results on a page that names no size. Default 50.
    pub page_size_default: usize,
    /// Results on a page; a larger size is reduced. Default 500.
    pub page_size_max: usize,
    /// Bytes of a page's results as encoded; a page that would pass them ends early, so that clients
    /// can read it within the 4 MiB that gRPC libraries take by default. Default 3 MiB.
    pub page_bytes_max: usize,
    /// Records looked at for one page or one count. Default 10,000.
    pub page_records_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            branches_max: 64,
            payload_bytes_max: 64 << 10,
            request_bytes_max: 1 << 20,
            labels_max: 16,
            label_key_bytes_max: 63,
            label_value_bytes_max: 256,
            name_bytes_max: 256,
            words_bytes_max: 24 << 10,
            message_bytes_max: 1 << 10,
            timeout_ms: SECOND_MS..=DAY_MS,
            timeout_default_ms: 30 * SECOND_MS,
            try_timeout_default_ms: 3 * SECOND_MS,
            retry_intervals_max: 16,
            retry_interval_ms: 100..=DAY_MS,
            submit_expire_ahead_max_ms: 7 * DAY_MS,
            wait_max: Duration::from_secs(60),
            page_size_default: 50,
            page_size_max: 500,
            page_bytes_max: 3 << 20,
            page_records_max: 10_000,
        }
    }
}

impl Limits {
    /// What the transport decodes at all: past it, a request is refused unread. Between the two, it is
    /// read and refused by [`request_bytes_max`](Self::request_bytes_max), which is the same error.
    pub(super) fn decode_bytes_max(&self) -> usize {
        self.request_bytes_max.saturating_mul(2)
    }
}
