//! Errors as gRPC answers: a code, a reason that never changes its name, and the details that help.
//!
//! Each answer is bounded: a status travels in one HTTP header list, of which clients take 16 KiB.

use std::{collections::HashMap, fmt::Display, time::Duration};

use tercet_core::{ids::TransactionId, request::Refusal};
use tonic::{Code, Status};
use tonic_types::{
    ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt as _,
};

use super::faults::{Faults, cut};
use crate::{
    engine::EngineError, participants::TargetError, proto::tercet::v1::ErrorReason,
    store::StoreError,
};

/// The domain of every reason.
pub(super) const DOMAIN: &str = "tercet";
/// Characters of an answer's message, and of each text in its details.
const TEXT_CHARS_MAX: usize = 600;
/// When a caller may try again after what passes by itself.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl From<Faults> for Status {
    fn from(faults: Faults) -> Self {
        let violation = |fault: &super::faults::Fault| FieldViolation {
            reason: name(fault.reason).to_owned(),
            ..FieldViolation::new(&fault.field, &fault.description)
        };
        let violations: Vec<_> = faults.named().iter().map(violation).collect();
        let Some(first) = faults.named().first() else {
            return Status::internal("the request was refused without a fault");
        };
        let mut message = match first.field.as_str() {
            "" => first.description.clone(),
            field => format!("{field}: {}", first.description),
        };
        let more = violations.len() - 1 + faults.unnamed();
        if more > 0 {
            message += &format!(" (and {more} more bad fields, see the details)");
        }
        let mut details = ErrorDetails::new();
        details.set_bad_request(violations);
        answer(Code::InvalidArgument, first.reason, message, details)
    }
}

impl From<EngineError> for Status {
    fn from(error: EngineError) -> Self {
        let message = error.to_string();
        match &error {
            EngineError::NotFound(id) => {
                let reason = ErrorReason::TransactionNotFound;
                resource(Code::NotFound, reason, "transaction", id, message)
            }
            EngineError::IdReused(id) => {
                let reason = ErrorReason::TransactionIdReused;
                resource(Code::AlreadyExists, reason, "transaction", id, message)
            }
            EngineError::SubmitExpired { id, .. } => {
                precondition(ErrorReason::TransactionExpired, id, message)
            }
            EngineError::Refused { id, refusal } => refused(id, refusal, message),
            EngineError::Target { error, .. } => target(error, message),
            EngineError::ReportToken(_) => {
                let reason = ErrorReason::ReportTokenInvalid;
                answer(Code::PermissionDenied, reason, message, ErrorDetails::new())
            }
            EngineError::InflightLimit { limit, retry_after } => {
                let subject = "transactions in flight";
                let found = format!("at most {limit} are allowed");
                let mut details = ErrorDetails::new();
                details.set_quota_failure(vec![QuotaViolation::new(subject, found)]);
                details.set_retry_info(Some(*retry_after));
                let reason = ErrorReason::InflightLimit;
                answer(Code::ResourceExhausted, reason, message, details)
            }
            EngineError::WaitEnded(_) => {
                let reason = ErrorReason::WaitEnded;
                answer(Code::DeadlineExceeded, reason, message, ErrorDetails::new())
            }
            EngineError::ShuttingDown => unavailable(ErrorReason::ShuttingDown, message),
            EngineError::Store(error) => store(error, message),
        }
    }
}

/// A watcher asks for events that are no longer kept.
pub(super) fn compacted(id: &TransactionId, after: u64, dropped: u64) -> Status {
    let message = format!(
        "events of transaction {id} up to revision {dropped} are no longer kept, so those after {after} can't be told; watch from the snapshot again, with after_revision 0"
    );
    let reason = ErrorReason::RevisionCompacted;
    answer(Code::OutOfRange, reason, message, ErrorDetails::new())
}

/// A reason's name as it stands in `ErrorInfo`.
pub(super) fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

fn refused(id: &TransactionId, refusal: &Refusal, message: String) -> Status {
    match refusal {
        Refusal::BranchSetMismatch { .. } => {
            precondition(ErrorReason::BranchSetMismatch, id, message)
        }
        Refusal::BranchIdReused(branch) => {
            let reason = ErrorReason::BranchIdReused;
            resource(Code::AlreadyExists, reason, "branch", branch, message)
        }
        Refusal::BranchNotFound(branch) => {
            let reason = ErrorReason::BranchNotFound;
            resource(Code::NotFound, reason, "branch", branch, message)
        }
        Refusal::DecisionConflict => precondition(ErrorReason::DecisionConflict, id, message),
        Refusal::StateInvalid(_) => precondition(ErrorReason::StateInvalid, id, message),
    }
}

fn target(error: &TargetError, message: String) -> Status {
    match error {
        TargetError::NotFound { name, .. } => {
            let reason = ErrorReason::ParticipantNotFound;
            resource(Code::NotFound, reason, "participant", name, message)
        }
        TargetError::NotAllowed { .. } => {
            let reason = ErrorReason::TargetNotAllowed;
            answer(Code::PermissionDenied, reason, message, ErrorDetails::new())
        }
    }
}

fn store(error: &StoreError, message: String) -> Status {
    match error {
        StoreError::Corrupt { .. } => {
            let reason = ErrorReason::StoreCorrupt;
            answer(Code::DataLoss, reason, message, ErrorDetails::new())
        }
        // Whether it happened is unknown to nobody but the store: never FAILED, always try again.
        StoreError::Conflict { .. } | StoreError::Broken(_) => {
            unavailable(ErrorReason::StoreUnavailable, message)
        }
    }
}

fn unavailable(reason: ErrorReason, message: String) -> Status {
    let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
    answer(Code::Unavailable, reason, message, details)
}

fn precondition(reason: ErrorReason, id: &TransactionId, message: String) -> Status {
    let violation = PreconditionViolation::new(
        name(reason),
        format!("transaction {id}"),
        cut(&message, TEXT_CHARS_MAX),
    );
    let details = ErrorDetails::with_precondition_failure(vec![violation]);
    answer(Code::FailedPrecondition, reason, message, details)
}

fn resource(
    code: Code,
    reason: ErrorReason,
    kind: &str,
    resource: impl Display,
    message: String,
) -> Status {
    let resource = cut(&resource.to_string(), TEXT_CHARS_MAX);
    let mut details = ErrorDetails::new();
    details.set_resource_info(kind, resource, "", cut(&message, TEXT_CHARS_MAX));
    answer(code, reason, message, details)
}

fn answer(code: Code, reason: ErrorReason, message: String, mut details: ErrorDetails) -> Status {
    details.set_error_info(name(reason), DOMAIN, HashMap::new());
    Status::with_error_details(code, cut(&message, TEXT_CHARS_MAX), details)
}
