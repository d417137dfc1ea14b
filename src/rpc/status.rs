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
    engine::EngineError,
    participants::{
        TargetError,
        session::{SESSIONS_MAX, SessionRefused},
    },
    proto::tercet::v1::ErrorReason,
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
                precondition(ErrorReason::TransactionExpired, &transaction(id), message)
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
            EngineError::Busy { retry_after, .. } => {
                let mut details = ErrorDetails::new();
                details.set_retry_info(Some(*retry_after));
                let reason = ErrorReason::TransactionBusy;
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

impl From<SessionRefused> for Status {
    fn from(refused: SessionRefused) -> Self {
        let message = refused.to_string();
        match &refused {
            SessionRefused::Unknown { name, .. } => {
                let reason = ErrorReason::ParticipantNotFound;
                resource(Code::NotFound, reason, "participant", name, message)
            }
            SessionRefused::Disabled { name } => {
                let reason = ErrorReason::SessionsDisabled;
                precondition(reason, &format!("participant {name}"), message)
            }
            SessionRefused::TooMany { name } => {
                let subject = format!("sessions of participant {name}");
                let found = format!("at most {SESSIONS_MAX} are allowed");
                let mut details = ErrorDetails::new();
                details.set_quota_failure(vec![QuotaViolation::new(subject, found)]);
                details.set_retry_info(Some(RETRY_AFTER));
                let reason = ErrorReason::SessionLimit;
                answer(Code::ResourceExhausted, reason, message, details)
            }
            SessionRefused::ShuttingDown => unavailable(ErrorReason::ShuttingDown, message),
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
            precondition(ErrorReason::BranchSetMismatch, &transaction(id), message)
        }
        Refusal::BranchIdReused(branch) => {
            let reason = ErrorReason::BranchIdReused;
            resource(Code::AlreadyExists, reason, "branch", branch, message)
        }
        Refusal::BranchNotFound(branch) => {
            let reason = ErrorReason::BranchNotFound;
            resource(Code::NotFound, reason, "branch", branch, message)
        }
        Refusal::DecisionConflict => {
            precondition(ErrorReason::DecisionConflict, &transaction(id), message)
        }
        Refusal::StateInvalid(_) => {
            precondition(ErrorReason::StateInvalid, &transaction(id), message)
        }
    }
}

fn target(error: &TargetError, message: String) -> Status {
    match error {
        TargetError::NotFound { name, .. } => {
            let reason = ErrorReason::ParticipantNotFound;
            resource(Code::NotFound, reason, "participant", name, message)
        }
        TargetError::NoEndpoint { .. } | TargetError::NotAllowed { .. } => {
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

fn precondition(reason: ErrorReason, subject: &str, message: String) -> Status {
    let violation =
        PreconditionViolation::new(name(reason), subject, cut(&message, TEXT_CHARS_MAX));
    let details = ErrorDetails::with_precondition_failure(vec![violation]);
    answer(Code::FailedPrecondition, reason, message, details)
}

fn transaction(id: &TransactionId) -> String {
    format!("transaction {id}")
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

#[cfg(test)]
mod tests {
    use tercet_core::ids::BranchId;

    use super::*;

    fn id() -> TransactionId {
        TransactionId::parse("order-7").expect("a good id")
    }

    fn refused(refusal: Refusal) -> EngineError {
        EngineError::Refused { id: id(), refusal }
    }

    /// Code, reason, and which details there are.
    fn told(error: impl Into<Status>) -> (Code, String, &'static str) {
        let status = error.into();
        let details = status.get_error_details();
        let info = details.error_info().expect("every error has a reason");
        assert_eq!(info.domain, "tercet");
        let found = [
            (details.bad_request().is_some(), "BadRequest"),
            (details.resource_info().is_some(), "ResourceInfo"),
            (
                details.precondition_failure().is_some(),
                "PreconditionFailure",
            ),
            (details.quota_failure().is_some(), "QuotaFailure"),
            (details.retry_info().is_some(), "RetryInfo"),
        ];
        let found = found.iter().find(|(is_there, _)| *is_there);
        (
            status.code(),
            info.reason.clone(),
            found.map_or("", |(_, name)| name),
        )
    }

    #[test]
    fn each_error_has_its_code_its_reason_and_its_details() {
        let branch = || BranchId::parse("b1").expect("a good id");
        let target = |error| EngineError::Target {
            branch: branch(),
            error,
        };
        let corrupt = StoreError::Corrupt {
            id: id(),
            reason: "bad checksum".into(),
        };
        let conflict = StoreError::Conflict { id: id(), found: 3 };
        let mismatch = Refusal::BranchSetMismatch {
            named: "a".into(),
            recorded: "b".into(),
        };
        let table = [
            (
                EngineError::NotFound(id()),
                Code::NotFound,
                "TRANSACTION_NOT_FOUND",
                "ResourceInfo",
            ),
            (
                EngineError::IdReused(id()),
                Code::AlreadyExists,
                "TRANSACTION_ID_REUSED",
                "ResourceInfo",
            ),
            (
                EngineError::SubmitExpired {
                    id: id(),
                    late_ms: 7,
                },
                Code::FailedPrecondition,
                "TRANSACTION_EXPIRED",
                "PreconditionFailure",
            ),
            (
                refused(mismatch),
                Code::FailedPrecondition,
                "BRANCH_SET_MISMATCH",
                "PreconditionFailure",
            ),
            (
                refused(Refusal::BranchIdReused(branch())),
                Code::AlreadyExists,
                "BRANCH_ID_REUSED",
                "ResourceInfo",
            ),
            (
                refused(Refusal::BranchNotFound(branch())),
                Code::NotFound,
                "BRANCH_NOT_FOUND",
                "ResourceInfo",
            ),
            (
                refused(Refusal::DecisionConflict),
                Code::FailedPrecondition,
                "DECISION_CONFLICT",
                "PreconditionFailure",
            ),
            (
                refused(Refusal::StateInvalid("no")),
                Code::FailedPrecondition,
                "STATE_INVALID",
                "PreconditionFailure",
            ),
            (
                target(TargetError::NotFound {
                    name: "x".into(),
                    known: "y".into(),
                }),
                Code::NotFound,
                "PARTICIPANT_NOT_FOUND",
                "ResourceInfo",
            ),
            (
                target(TargetError::NotAllowed {
                    endpoint: "x".into(),
                }),
                Code::PermissionDenied,
                "TARGET_NOT_ALLOWED",
                "",
            ),
            (
                EngineError::ReportToken(id()),
                Code::PermissionDenied,
                "REPORT_TOKEN_INVALID",
                "",
            ),
            (
                EngineError::InflightLimit {
                    limit: 9,
                    retry_after: RETRY_AFTER,
                },
                Code::ResourceExhausted,
                "INFLIGHT_LIMIT",
                "QuotaFailure",
            ),
            (
                EngineError::Busy {
                    id: id(),
                    waiting: 9,
                    retry_after: RETRY_AFTER,
                },
                Code::ResourceExhausted,
                "TRANSACTION_BUSY",
                "RetryInfo",
            ),
            (
                EngineError::WaitEnded(id()),
                Code::DeadlineExceeded,
                "WAIT_ENDED",
                "",
            ),
            (
                EngineError::ShuttingDown,
                Code::Unavailable,
                "SHUTTING_DOWN",
                "RetryInfo",
            ),
            (
                StoreError::Broken("EIO".into()).into(),
                Code::Unavailable,
                "STORE_UNAVAILABLE",
                "RetryInfo",
            ),
            (
                conflict.into(),
                Code::Unavailable,
                "STORE_UNAVAILABLE",
                "RetryInfo",
            ),
            (corrupt.into(), Code::DataLoss, "STORE_CORRUPT", ""),
        ];
        for (error, code, reason, details) in table {
            assert_eq!(told(error), (code, reason.to_owned(), details));
        }
        let compacted = compacted(&id(), 3, 9);
        assert_eq!(
            told(compacted),
            (Code::OutOfRange, "REVISION_COMPACTED".into(), "")
        );
    }

    #[test]
    fn all_bad_fields_are_in_the_details_and_the_first_in_the_message() {
        let mut faults = Faults::one(ErrorReason::LimitExceeded, "branches", "65; at most 64");
        faults.invalid("options.timeout", "0 s");
        let status = Status::from(faults);
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status
                .message()
                .starts_with("branches: 65; at most 64 (and 1 more")
        );
        let violations = status
            .get_details_bad_request()
            .expect("details")
            .field_violations;
        let violations: Vec<_> = violations
            .iter()
            .map(|it| (&*it.field, &*it.reason))
            .collect();
        assert_eq!(
            violations,
            [
                ("branches", "LIMIT_EXCEEDED"),
                ("options.timeout", "FIELD_INVALID")
            ]
        );
    }

    /// hyper's clients, like most, take 16 KiB of headers in all.
    #[test]
    fn no_answer_is_longer_than_clients_take() {
        let long = || "é".repeat(20_000);
        let mismatch = Refusal::BranchSetMismatch {
            named: long(),
            recorded: long(),
        };
        let name = long().as_str().into();
        let error = TargetError::NotFound {
            name,
            known: long(),
        };
        let branch = BranchId::parse("b1").expect("a good id");
        let mut faults = Faults::default();
        for _ in 0..100 {
            faults.invalid(long(), long());
        }
        for status in [
            Status::from(refused(mismatch)),
            EngineError::Target { branch, error }.into(),
            faults.into(),
        ] {
            let answer = status.into_http::<()>();
            let bytes: usize = answer
                .headers()
                .iter()
                .map(|(k, v)| k.as_str().len() + v.len())
                .sum();
            assert!(bytes < 15_000, "{bytes}");
        }
    }
}
