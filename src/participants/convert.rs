//! From protobuf to the domain, for the contract that participants implement.

use std::{collections::BTreeMap, sync::Arc};

use prost_types::{Duration, Timestamp};
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    operation::RecordState,
    payload::{Failure, Payload},
};

use super::fault::Fault;
use crate::{proto::tercet::participant::v1 as proto, store::UnixMs};

/// The longest reason of a failure; a longer one is cut.
pub(super) const FAILURE_REASON_BYTES_MAX: usize = 63;
/// The longest message of a failure; a longer one is cut. Records keep many of them.
pub(super) const FAILURE_MESSAGE_BYTES_MAX: usize = 1024;
/// Entries kept of a failure's metadata.
pub(super) const FAILURE_METADATA_MAX: usize = 16;
/// Bytes kept of a failure's metadata, keys and values together.
pub(super) const FAILURE_METADATA_BYTES_MAX: usize = 1024;

/// The beginning of the year 1.
const TIMESTAMP_MS_MIN: UnixMs = -62_135_596_800_000;
/// The end of the year 9999.
const TIMESTAMP_MS_MAX: UnixMs = 253_402_300_799_999;

/// What Try, Confirm and Cancel have in common.
pub(super) struct Reply {
    pub(super) outcome: i32,
    pub(super) result: Option<proto::Payload>,
    pub(super) failure: Option<proto::Failure>,
    pub(super) retry_after: Option<Duration>,
}

impl From<proto::TryResponse> for Reply {
    fn from(reply: proto::TryResponse) -> Self {
        Self {
            outcome: reply.outcome,
            result: reply.result,
            failure: reply.failure,
            retry_after: reply.retry_after,
        }
    }
}

impl From<proto::ConfirmResponse> for Reply {
    fn from(reply: proto::ConfirmResponse) -> Self {
        Self {
            outcome: reply.outcome,
            result: reply.result,
            failure: reply.failure,
            retry_after: reply.retry_after,
        }
    }
}

impl From<proto::CancelResponse> for Reply {
    fn from(reply: proto::CancelResponse) -> Self {
        Self {
            outcome: reply.outcome,
            result: None,
            failure: reply.failure,
            retry_after: reply.retry_after,
        }
    }
}

/// What a reply means. Only `OUTCOME_FAILED` is a failure.
pub(super) fn answer(reply: Reply, payload_bytes_max: usize) -> Result<Answer, Fault> {
    match proto::Outcome::try_from(reply.outcome) {
        Ok(proto::Outcome::Success) => {
            let result = payload_in(reply.result, payload_bytes_max)?;
            Ok(Answer::Success(result))
        }
        Ok(proto::Outcome::Failed) => Ok(Answer::Failed(failure_in(
            reply.failure.unwrap_or_default(),
        ))),
        Ok(proto::Outcome::Processing) => Ok(Answer::Processing {
            retry_after_ms: retry_after_ms(reply.retry_after),
        }),
        Ok(proto::Outcome::Unspecified) | Err(_) => Err(Fault::Unspecified {
            outcome: reply.outcome,
        }),
    }
}

/// What a participant says it has recorded.
pub(super) fn query_answer(
    reply: proto::QueryResponse,
    payload_bytes_max: usize,
) -> Result<QueryAnswer, Fault> {
    let state = proto::RecordState::try_from(reply.state);
    let Some(state) = state.ok().and_then(record_state) else {
        return Ok(QueryAnswer::Unclear);
    };
    Ok(QueryAnswer::Recorded(Box::new(Recorded {
        state,
        try_result: payload_in(reply.try_result, payload_bytes_max)?,
        confirm_result: payload_in(reply.confirm_result, payload_bytes_max)?,
        failure: reply.failure.map(failure_in),
        retry_after_ms: retry_after_ms(reply.retry_after),
    })))
}

/// None when it is unspecified.
pub(super) fn record_state(state: proto::RecordState) -> Option<RecordState> {
    match state {
        proto::RecordState::Unspecified => None,
        proto::RecordState::Unknown => Some(RecordState::Unknown),
        proto::RecordState::Trying => Some(RecordState::Trying),
        proto::RecordState::Tried => Some(RecordState::Tried),
        proto::RecordState::TryFailed => Some(RecordState::TryFailed),
        proto::RecordState::Confirming => Some(RecordState::Confirming),
        proto::RecordState::Confirmed => Some(RecordState::Confirmed),
        proto::RecordState::ConfirmFailed => Some(RecordState::ConfirmFailed),
        proto::RecordState::Canceling => Some(RecordState::Canceling),
        proto::RecordState::Canceled => Some(RecordState::Canceled),
        proto::RecordState::CancelFailed => Some(RecordState::CancelFailed),
    }
}

/// A failure as it may be kept: what is too long is cut.
pub(super) fn failure(
    reason: &str,
    message: &str,
    metadata: impl IntoIterator<Item = (String, String)>,
    code: i32,
) -> Failure {
    let reason = match cut(reason, FAILURE_REASON_BYTES_MAX) {
        "" => "UNSPECIFIED",
        reason => reason,
    };
    let mut room = FAILURE_METADATA_BYTES_MAX;
    let mut kept = BTreeMap::new();
    for (key, value) in metadata {
        let bytes = key.len() + value.len();
        if bytes <= room && kept.len() < FAILURE_METADATA_MAX {
            room -= bytes;
            kept.insert(Arc::from(key), Arc::from(value));
        }
    }
    Failure {
        reason: reason.into(),
        message: cut(message, FAILURE_MESSAGE_BYTES_MAX).into(),
        metadata: kept,
        code: if (0..=16).contains(&code) { code } else { 0 },
    }
}

/// The longest beginning of at most this many bytes.
pub(super) fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Within what protobuf knows: a participant in another language refuses anything else.
pub(super) fn timestamp(ms: UnixMs) -> Timestamp {
    let ms = ms.clamp(TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX);
    Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000) * 1_000_000).unwrap_or_default(),
    }
}

fn payload_in(payload: Option<proto::Payload>, bytes_max: usize) -> Result<Option<Payload>, Fault> {
    let Some(payload) = payload else {
        return Ok(None);
    };
    let payload = Payload {
        type_url: payload.type_url.into(),
        value: payload.value[..].into(),
    };
    if payload.len() > bytes_max {
        return Err(Fault::TooLarge { bytes_max });
    }
    Ok(Some(payload))
}

fn failure_in(given: proto::Failure) -> Failure {
    failure(&given.reason, &given.message, given.metadata, given.code)
}

/// What is negative or out of range is as good as not said.
fn retry_after_ms(given: Option<Duration>) -> Option<u64> {
    let Duration { seconds, nanos } = given?;
    let seconds_ms = u64::try_from(seconds).ok()?.checked_mul(1000)?;
    let nanos = u64::try_from(nanos).ok().filter(|it| *it < 1_000_000_000)?;
    seconds_ms.checked_add(nanos / 1_000_000)
}
