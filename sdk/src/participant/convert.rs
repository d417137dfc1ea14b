//! Messages of `tercet.participant.v1` to and from what the rest of this module speaks of.

use std::time::Duration;

use prost::bytes::Bytes;
use tercet_core::{
    ids::{BranchId, IdError, Realm, TransactionId},
    operation::RecordState,
    payload::Failure,
};

use super::{
    branch::{Branch, BranchKey},
    problem::Problem,
};
use crate::proto::participant::v1 as pb;

/// The answer to a Try, Confirm or Cancel.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Reply {
    /// With what Try holds.
    Success(Option<Bytes>),
    Failed(Failure),
    /// With the time after which to ask again.
    Processing(Duration),
}

/// The answer to a Query.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recorded {
    pub(crate) state: RecordState,
    pub(crate) held: Option<Bytes>,
    pub(crate) failure: Option<pb::Failure>,
    pub(crate) retry_after: Option<Duration>,
}

/// Reads a context; every field that the fence needs must be there.
pub(crate) fn branch(context: Option<pb::BranchContext>) -> Result<Branch, Problem> {
    let context = context.ok_or_else(|| invalid("context", "it is missing"))?;
    let id = |field, error: IdError| invalid(field, &error.to_string());
    let key = BranchKey {
        realm: Realm::parse(&context.realm).map_err(|e| id("context.realm", e))?,
        transaction_id: TransactionId::parse(&context.transaction_id)
            .map_err(|e| id("context.transaction_id", e))?,
        branch_id: BranchId::parse(&context.branch_id).map_err(|e| id("context.branch_id", e))?,
    };
    let expire_time = context
        .expire_time
        .ok_or_else(|| invalid("context.expire_time", "it is missing"))?;
    Ok(Branch {
        key,
        resource: context.resource,
        attempt: context.attempt,
        epoch: context.epoch,
        create_time_ms: context.create_time.map(unix_ms),
        expire_time_ms: unix_ms(expire_time),
        switches: context.switches,
        labels: context.labels,
        report_token: context.report_token,
    })
}

pub(crate) fn try_response(reply: Reply) -> pb::TryResponse {
    let parts = Parts::from(reply);
    pb::TryResponse {
        outcome: parts.outcome.into(),
        result: parts.held.map(payload),
        failure: parts.failure,
        retry_after: parts.retry_after,
    }
}

pub(crate) fn confirm_response(reply: Reply) -> pb::ConfirmResponse {
    let parts = Parts::from(reply);
    pb::ConfirmResponse {
        outcome: parts.outcome.into(),
        result: None,
        failure: parts.failure,
        retry_after: parts.retry_after,
    }
}

pub(crate) fn cancel_response(reply: Reply) -> pb::CancelResponse {
    let parts = Parts::from(reply);
    pb::CancelResponse {
        outcome: parts.outcome.into(),
        failure: parts.failure,
        retry_after: parts.retry_after,
    }
}

pub(crate) fn query_response(recorded: Recorded) -> pb::QueryResponse {
    pb::QueryResponse {
        state: record_state(recorded.state).into(),
        try_result: recorded.held.map(payload),
        failure: recorded.failure,
        retry_after: recorded.retry_after.map(duration),
        confirm_result: None,
    }
}

pub(crate) fn failure_to_proto(failure: &Failure) -> pb::Failure {
    let text = |(name, value): (&std::sync::Arc<str>, &std::sync::Arc<str>)| {
        (name.to_string(), value.to_string())
    };
    pb::Failure {
        reason: failure.reason.to_string(),
        message: failure.message.to_string(),
        metadata: failure.metadata.iter().map(text).collect(),
        code: failure.code,
    }
}

pub(crate) fn failure_from_proto(failure: pb::Failure) -> Failure {
    let metadata = failure.metadata.into_iter();
    Failure {
        reason: failure.reason.into(),
        message: failure.message.into(),
        metadata: metadata.map(|(k, v)| (k.into(), v.into())).collect(),
        code: failure.code,
    }
}

/// The fields that the three answers have in common.
struct Parts {
    outcome: pb::Outcome,
    held: Option<Bytes>,
    failure: Option<pb::Failure>,
    retry_after: Option<prost_types::Duration>,
}

impl From<Reply> for Parts {
    fn from(reply: Reply) -> Self {
        let of = |outcome| Self {
            outcome,
            held: None,
            failure: None,
            retry_after: None,
        };
        match reply {
            Reply::Success(held) => Self {
                held,
                ..of(pb::Outcome::Success)
            },
            Reply::Failed(failure) => Self {
                failure: Some(failure_to_proto(&failure)),
                ..of(pb::Outcome::Failed)
            },
            Reply::Processing(retry_after) => Self {
                retry_after: Some(duration(retry_after)),
                ..of(pb::Outcome::Processing)
            },
        }
    }
}

fn record_state(state: RecordState) -> pb::RecordState {
    match state {
        RecordState::Unknown => pb::RecordState::Unknown,
        RecordState::Trying => pb::RecordState::Trying,
        RecordState::Tried => pb::RecordState::Tried,
        RecordState::TryFailed => pb::RecordState::TryFailed,
        RecordState::Confirming => pb::RecordState::Confirming,
        RecordState::Confirmed => pb::RecordState::Confirmed,
        RecordState::ConfirmFailed => pb::RecordState::ConfirmFailed,
        RecordState::Canceling => pb::RecordState::Canceling,
        RecordState::Canceled => pb::RecordState::Canceled,
        RecordState::CancelFailed => pb::RecordState::CancelFailed,
    }
}

fn payload(value: Bytes) -> pb::Payload {
    pb::Payload {
        type_url: String::new(),
        value,
    }
}

fn invalid(field: &'static str, what: &str) -> Problem {
    Problem::FieldInvalid {
        field,
        what: what.to_owned(),
    }
}

fn unix_ms(time: prost_types::Timestamp) -> i64 {
    let ms = i64::from(time.nanos / 1_000_000);
    time.seconds.saturating_mul(1000).saturating_add(ms)
}

fn duration(duration: Duration) -> prost_types::Duration {
    // Only beyond 290 thousand million years; the longest there is, then.
    duration.try_into().unwrap_or(prost_types::Duration {
        seconds: i64::MAX,
        nanos: 0,
    })
}
