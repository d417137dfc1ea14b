//! Why a call gets no outcome. Each becomes a non-OK status, or an indeterminate reply over a session,
//! which the coordinator reads alike: it asks, and calls again.

use std::collections::{BTreeMap, HashMap};

use tercet_core::fence::Alarm;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{
    error::{MESSAGE_BYTES_MAX, clip},
    fence::FenceError,
};
use crate::proto::participant::v1 as pb;

/// The domain of the `google.rpc.ErrorInfo` that goes with every one.
const ERROR_DOMAIN: &str = "tercet";

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("{field}: {what}")]
    FieldInvalid { field: &'static str, what: String },
    #[error("participant {participant:?} has no resource {resource:?}; it has: {known}")]
    ResourceUnknown {
        participant: String,
        resource: String,
        known: String,
    },
    #[error("this branch belongs to resource {recorded:?}, and was called for {called:?}")]
    ResourceMismatch { recorded: String, called: String },
    #[error("{0}")]
    Alarm(#[from] Alarm),
    #[error("the resource could not say: {0}")]
    Resource(String),
    #[error(
        "what Try holds has {bytes} bytes, and at most {max} are allowed: let Held carry a key \
         instead of the data"
    )]
    ResultTooLarge { bytes: usize, max: usize },
    #[error("{0}")]
    Fence(String),
    #[error("the resource panicked; nothing was committed by this call")]
    Panicked,
    #[error("{max} jobs are running already; the call is repeated later")]
    JobsFull { max: usize },
}

impl Problem {
    fn code_and_reason(&self) -> (Code, &'static str) {
        match self {
            Self::FieldInvalid { .. } => (Code::InvalidArgument, "FIELD_INVALID"),
            Self::ResourceUnknown { .. } => (Code::NotFound, "RESOURCE_UNKNOWN"),
            Self::ResourceMismatch { .. } => (Code::InvalidArgument, "RESOURCE_MISMATCH"),
            Self::Alarm(alarm) => match alarm {
                Alarm::EpochStale { .. } => (Code::Aborted, "EPOCH_STALE"),
                Alarm::NotTried => (Code::FailedPrecondition, "NOT_TRIED"),
                Alarm::Contradiction(_) => (Code::FailedPrecondition, "STATE_CONTRADICTION"),
                Alarm::NotLocal(_) => (Code::FailedPrecondition, "RESOURCE_NOT_REMOTE"),
            },
            Self::Resource(_) => (Code::Unavailable, "RESOURCE_UNAVAILABLE"),
            Self::ResultTooLarge { .. } => (Code::Internal, "RESULT_TOO_LARGE"),
            Self::Fence(_) => (Code::Unavailable, "FENCE_UNAVAILABLE"),
            Self::Panicked => (Code::Internal, "RESOURCE_PANICKED"),
            Self::JobsFull { .. } => (Code::ResourceExhausted, "JOBS_FULL"),
        }
    }
}

impl Problem {
    /// As it is told over a session.
    pub(crate) fn into_failure(self) -> pb::Failure {
        let (code, reason) = self.code_and_reason();
        let message = self.to_string();
        pb::Failure {
            reason: reason.to_owned(),
            message: clip(&message, MESSAGE_BYTES_MAX).into(),
            metadata: BTreeMap::new(),
            code: code.into(),
        }
    }
}

impl From<FenceError> for Problem {
    fn from(error: FenceError) -> Self {
        Self::Fence(error.to_string())
    }
}

impl From<Problem> for Status {
    fn from(problem: Problem) -> Self {
        let (code, reason) = problem.code_and_reason();
        let details = ErrorDetails::with_error_info(reason, ERROR_DOMAIN, HashMap::new());
        let message = problem.to_string();
        Self::with_error_details(code, clip(&message, MESSAGE_BYTES_MAX), details)
    }
}
