//! The parts that requests are made of. Each function returns the parsed value, or adds to the faults
//! and returns none.

use std::{collections::BTreeMap, fmt::Display, ops::RangeInclusive, sync::Arc, time::Duration};

use tercet_core::{
    ids::{BranchId, IdError, TransactionId},
    payload::{Failure, Payload},
};

use super::super::{faults::Faults, limits::Limits};
use crate::{proto::tercet::participant::v1 as participant, store::UnixMs};

/// The latest time protobuf knows: the end of the year 9999.
const TIMESTAMP_SECONDS_MAX: i64 = 253_402_300_799;
/// The longest duration protobuf knows: about 10,000 years.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;
const NANOS_MAX: i32 = 999_999_999;
/// Characters of a failure's reason.
const REASON_CHARS_MAX: usize = 63;
/// Entries of a failure's metadata.
const METADATA_MAX: usize = 16;

pub(super) fn transaction_id(faults: &mut Faults, text: &str) -> Option<TransactionId> {
    id(faults, "transaction_id", TransactionId::parse(text))
}

pub(super) fn branch_id(faults: &mut Faults, field: impl Display, text: &str) -> Option<BranchId> {
    id(faults, field, BranchId::parse(text))
}

fn id<T>(faults: &mut Faults, field: impl Display, parsed: Result<T, IdError>) -> Option<T> {
    parsed.map_err(|error| faults.invalid(field, error)).ok()
}

/// A word or two on one line, possibly none.
pub(super) fn text(
    faults: &mut Faults,
    field: impl Display,
    text: &str,
    bytes_max: usize,
) -> Option<Arc<str>> {
    if text.len() > bytes_max {
        let found = text.len();
        faults.exceeded(
            field,
            format_args!("it has {found} bytes; at most {bytes_max} are allowed"),
        );
        return None;
    }
    if let Some((at, found)) = text.char_indices().find(|(_, c)| c.is_control()) {
        let why = format_args!("the control character {found:?} at byte {at} is not allowed");
        faults.invalid(field, why);
        return None;
    }
    Some(text.into())
}

/// Labels or switches.
pub(super) fn labels(
    faults: &mut Faults,
    field: &str,
    given: &BTreeMap<String, String>,
    limits: &Limits,
) -> Option<BTreeMap<Arc<str>, Arc<str>>> {
    if given.len() > limits.labels_max {
        let (found, max) = (given.len(), limits.labels_max);
        faults.exceeded(
            field,
            format_args!("it has {found} entries; at most {max} are allowed"),
        );
        return None;
    }
    let mut parsed = Some(BTreeMap::new());
    for (key, value) in given {
        let key_parsed = label_key(faults, field, key, limits);
        let value_field = format_args!("{field}[{key}]");
        let value_parsed = text(faults, value_field, value, limits.label_value_bytes_max);
        parsed = parsed.and_then(|mut parsed| {
            parsed.insert(key_parsed?, value_parsed?);
            Some(parsed)
        });
    }
    parsed
}

fn label_key(faults: &mut Faults, field: &str, key: &str, limits: &Limits) -> Option<Arc<str>> {
    if key.len() > limits.label_key_bytes_max {
        let (found, max) = (key.len(), limits.label_key_bytes_max);
        faults.exceeded(
            field,
            format_args!("the key {key:.20}… has {found} bytes; at most {max} are allowed"),
        );
        return None;
    }
    if key.is_empty() || !key.chars().all(is_label_key_char) {
        let why = format_args!("the key {key:?} is not made of letters, digits and . _ / -");
        faults.invalid(field, why);
        return None;
    }
    Some(key.into())
}

/// What a label's key is made of, so that a filter can name every label.
pub(in super::super) fn is_label_key_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '/' | '-')
}

pub(super) fn payload(
    faults: &mut Faults,
    field: impl Display,
    given: participant::Payload,
    limits: &Limits,
) -> Option<Payload> {
    let payload = Payload {
        type_url: given.type_url.into(),
        value: given.value.as_ref().into(),
    };
    let (found, max) = (payload.len(), limits.payload_bytes_max);
    if found > max {
        faults.exceeded(
            field,
            format_args!("the payload has {found} bytes; at most {max} are allowed"),
        );
        return None;
    }
    Some(payload)
}

/// What a participant reports as the reason of a failure.
pub(super) fn failure(
    faults: &mut Faults,
    given: participant::Failure,
    limits: &Limits,
) -> Option<Failure> {
    let reason_char = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
    let reason = &given.reason;
    let reason_is_good = reason.starts_with(|c: char| c.is_ascii_uppercase())
        && reason.len() <= REASON_CHARS_MAX
        && reason.chars().all(reason_char);
    if !reason_is_good {
        let why = format_args!(
            "{:?} is not UPPER_SNAKE_CASE of 1 to {REASON_CHARS_MAX} characters, like OUT_OF_STOCK",
            super::super::faults::cut(reason, REASON_CHARS_MAX)
        );
        faults.invalid("failure.reason", why);
    }
    let (found, max) = (given.message.len(), limits.message_bytes_max);
    if found > max {
        let why = format_args!("it has {found} bytes; at most {max} are allowed");
        faults.exceeded("failure.message", why);
    }
    let found: usize = given.metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
    let entries = given.metadata.len();
    if entries > METADATA_MAX || found > max {
        let why = format_args!(
            "it has {entries} entries of {found} bytes in all; at most {METADATA_MAX} of {max} are allowed"
        );
        faults.exceeded("failure.metadata", why);
    }
    let metadata = given.metadata.into_iter();
    Some(Failure {
        reason: given.reason.into(),
        message: given.message.into(),
        metadata: metadata.map(|(k, v)| (k.into(), v.into())).collect(),
        code: given.code,
    })
}

/// A duration within these bounds, in whole milliseconds; the default when it is not given.
pub(super) fn duration_ms(
    faults: &mut Faults,
    field: impl Display,
    given: Option<&prost_types::Duration>,
    allowed_ms: &RangeInclusive<u64>,
) -> Option<Option<u64>> {
    let Some(given) = given else {
        return Some(None);
    };
    let parsed = duration(given).and_then(|found| u64::try_from(found.as_millis()).ok());
    let parsed = parsed.filter(|ms| allowed_ms.contains(ms));
    if parsed.is_none() {
        let (min, max) = (show_ms(*allowed_ms.start()), show_ms(*allowed_ms.end()));
        let found = show(given);
        let why = format_args!("{found} is not allowed; give {min} to {max}");
        faults.invalid(field, why);
    }
    parsed.map(Some)
}

/// How long a caller asks to wait; longer than is allowed is reduced elsewhere.
pub(super) fn wait(
    faults: &mut Faults,
    field: &str,
    given: Option<&prost_types::Duration>,
) -> Option<Option<Duration>> {
    let Some(given) = given else {
        return Some(None);
    };
    let parsed = duration(given);
    if parsed.is_none() {
        let found = show(given);
        let why = format_args!("{found} is no time to wait; give 0 s or more");
        faults.invalid(field, why);
    }
    parsed.map(Some)
}

/// A time of day since 1970.
pub(super) fn timestamp_ms(
    faults: &mut Faults,
    field: &str,
    given: &prost_types::Timestamp,
) -> Option<UnixMs> {
    let valid = (0..=TIMESTAMP_SECONDS_MAX).contains(&given.seconds)
        && (0..=NANOS_MAX).contains(&given.nanos);
    if !valid {
        let (seconds, nanos) = (given.seconds, given.nanos);
        let why = format_args!(
            "{seconds} seconds and {nanos} nanoseconds is no time between 1970 and 9999"
        );
        faults.invalid(field, why);
        return None;
    }
    Some(given.seconds * 1000 + i64::from(given.nanos / 1_000_000))
}

fn duration(given: &prost_types::Duration) -> Option<Duration> {
    let valid = given.seconds <= DURATION_SECONDS_MAX && (0..=NANOS_MAX).contains(&given.nanos);
    let seconds = u64::try_from(given.seconds).ok().filter(|_| valid)?;
    Some(Duration::new(seconds, u32::try_from(given.nanos).ok()?))
}

fn show(given: &prost_types::Duration) -> String {
    match duration(given) {
        Some(found) => format!("{found:?}"),
        None => format!("{} seconds and {} nanoseconds", given.seconds, given.nanos),
    }
}

fn show_ms(ms: u64) -> String {
    format!("{:?}", Duration::from_millis(ms))
}
