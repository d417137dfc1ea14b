//! What a transaction is created with, beside its id and its branches.

use std::time::{Duration, SystemTime};

use super::resend::{Until, from_now};
use crate::proto::v1::{self, ReplyMode, RetryPolicy};

/// How long an id protects from running twice, unless told otherwise: long enough for any retry
/// of a person, well within the coordinator's retention (7 days), which bounds it.
pub const PROTECTION_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

/// Options of a transaction, by default the coordinator's: THREE_STATE, to be decided within 30 s,
/// 3 s for each Try.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Options(v1::TransactionOptions);

impl Options {
    /// All by default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What kind of work it is, for example `place-order`: to find, count and switch off by.
    #[must_use]
    pub fn transaction_type(mut self, name: impl Into<String>) -> Self {
        self.0.transaction_type = name.into();
        self
    }

    /// The key that people know it by, for example the order number; need not be unique.
    #[must_use]
    pub fn business_key(mut self, key: impl Into<String>) -> Self {
        self.0.business_key = key.into();
        self
    }

    /// Adds a label, to find it by and for participants to see; at most 16.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.labels.insert(key.into(), value.into());
        self
    }

    /// Pins a migration switch, which every participant sees in the same position.
    #[must_use]
    pub fn switch(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.switches.insert(key.into(), value.into());
        self
    }

    /// SUCCESS or FAILED only: a Try that doesn't answer in time fails the transaction at once,
    /// and what it may have reserved is released in the background.
    #[must_use]
    pub fn two_state(self) -> Self {
        self.reply_mode(ReplyMode::TwoState)
    }

    /// Does its best to finish; PROCESSING when that takes longer than the caller waits.
    #[must_use]
    pub fn three_state(self) -> Self {
        self.reply_mode(ReplyMode::ThreeState)
    }

    /// PROCESSING as soon as it is durable; the result by wait or watch.
    #[must_use]
    pub fn accepted(self) -> Self {
        self.reply_mode(ReplyMode::Accepted)
    }

    fn reply_mode(mut self, mode: ReplyMode) -> Self {
        self.0.set_reply_mode(mode);
        self
    }

    /// Until when it must be decided; else it is rolled back. 1 s to 24 h, by default 30 s.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.0.timeout = Some(duration(timeout));
        self
    }

    /// How long each Try may take before its answer counts as unknown; by default 3 s.
    #[must_use]
    pub fn try_timeout(mut self, timeout: Duration) -> Self {
        self.0.try_timeout = Some(duration(timeout));
        self
    }

    /// How calls without an answer are repeated: these intervals in order, then the last one for
    /// ever. An empty list is the coordinator's ladder, from 5 s to 300 s.
    #[must_use]
    pub fn retry_intervals(mut self, intervals: &[Duration]) -> Self {
        self.policy().intervals = intervals.iter().copied().map(duration).collect();
        self
    }

    /// How much of each interval is random, 0 to 500 of 1000; by default 100.
    #[must_use]
    pub fn retry_jitter_permille(mut self, permille: u16) -> Self {
        self.policy().jitter_permille = Some(permille.into());
        self
    }

    /// After how many attempts of one call a person is asked to look; by default 8.
    #[must_use]
    pub fn attention_after_attempts(mut self, attempts: u16) -> Self {
        self.policy().attention_after_attempts = attempts.into();
        self
    }

    fn policy(&mut self) -> &mut RetryPolicy {
        self.0.retry_policy.get_or_insert_default()
    }

    pub(crate) fn to_message(&self) -> v1::TransactionOptions {
        self.0.clone()
    }
}

impl From<v1::TransactionOptions> for Options {
    fn from(message: v1::TransactionOptions) -> Self {
        Self(message)
    }
}

/// The end of the time in which an id protects, and when that is on the running clock.
pub(crate) fn until(wait: Duration, expires_at: SystemTime, now: SystemTime) -> Until {
    let left = expires_at.duration_since(now).unwrap_or_default();
    Until {
        protected: Some(from_now(left)),
        ..Until::wait(wait)
    }
}

pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    // Protobuf counts seconds in i64; a longer one means "for ever", and the coordinator says no.
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}
