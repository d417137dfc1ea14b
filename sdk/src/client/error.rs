//! What can go wrong in a call, and the one question that matters about it: is it certain that
//! nothing happened?
//!
//! Only the coordinator can say so. It marks its errors with `google.rpc.ErrorInfo`, domain
//! `tercet`, and a reason; a status without that mark was made by a proxy or by a gRPC library
//! and proves nothing, whatever its code. Of the coordinator's own reasons, those given at the
//! door, before anything is recorded, are refusals. TRANSACTION_BUSY, WAIT_ENDED, SHUTTING_DOWN,
//! STORE_UNAVAILABLE and STORE_CORRUPT are not: they may end a call whose work was recorded before.

use std::{fmt, time::Duration};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::proto::v1::ErrorReason;

const DOMAIN: &str = "tercet";

/// Why a call has no result.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The address can't be one of a coordinator.
    #[error("{url:?} can't be used as the coordinator's address: {problem}")]
    Address {
        /// As given.
        url: String,
        /// What is wrong with it, and what to write instead.
        problem: &'static str,
    },
    /// The coordinator refused the call for certain: it had no effect.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Nobody who knows has answered: what was asked may have happened, or may happen yet.
    /// Repeating the call with the same id is safe.
    #[error(
        "no definite answer from the coordinator ({code:?}: {message}); what was asked may have \
         happened or happen yet: repeat it with the same id, or look with get or wait"
    )]
    Indeterminate {
        /// The gRPC code, as far as it helps.
        code: Code,
        /// What is known of the cause.
        message: String,
        /// How long the coordinator asked to wait before the next call.
        retry_delay: Option<Duration>,
    },
    /// The submission was not sent again: the time in which its id protects from running twice
    /// ([`Submit::expires_at`](super::Submit::expires_at)) is over. An earlier copy may have run.
    #[error(
        "the id is protected from running twice only until submit_expire_time, which has passed, \
         so it was not sent; look with get whether an earlier attempt was accepted"
    )]
    ProtectionOver,
}

impl Error {
    pub(crate) fn indeterminate(code: Code, message: impl Into<String>) -> Self {
        Self::Indeterminate {
            code,
            message: message.into(),
            retry_delay: None,
        }
    }

    /// The refusal, when it is one.
    #[must_use]
    pub fn refused(&self) -> Option<&Refused> {
        match self {
            Self::Refused(refused) => Some(refused),
            Self::Address { .. } | Self::Indeterminate { .. } | Self::ProtectionOver => None,
        }
    }

    pub(crate) fn is(&self, reason: ErrorReason) -> bool {
        self.refused().is_some_and(|refused| refused.is(reason))
    }

    /// How long the coordinator asked to wait before the next call.
    #[must_use]
    pub fn retry_delay(&self) -> Option<Duration> {
        match self {
            Self::Refused(Refused { retry_delay, .. })
            | Self::Indeterminate { retry_delay, .. } => *retry_delay,
            Self::Address { .. } | Self::ProtectionOver => None,
        }
    }

    /// Whether the same call sent again may fare better soon.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            Self::Refused(refused) => {
                refused.is(ErrorReason::RateLimited) || refused.is(ErrorReason::InflightLimit)
            }
            Self::Indeterminate { code, .. } => match code {
                Code::Ok
                | Code::InvalidArgument
                | Code::NotFound
                | Code::AlreadyExists
                | Code::PermissionDenied
                | Code::FailedPrecondition
                | Code::OutOfRange
                | Code::Unimplemented
                | Code::Unauthenticated => false,
                Code::Cancelled
                | Code::Unknown
                | Code::DeadlineExceeded
                | Code::ResourceExhausted
                | Code::Aborted
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss => true,
            },
            Self::Address { .. } | Self::ProtectionOver => false,
        }
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let retry_delay = status
            .get_details_retry_info()
            .and_then(|info| info.retry_delay);
        let ours = status
            .get_details_error_info()
            .filter(|info| info.domain == DOMAIN);
        match ours {
            Some(info) if proves_refusal(&info.reason) => Self::Refused(Refused {
                reason: info.reason,
                code: status.code(),
                violations: violations(&status),
                message: status.message().to_owned(),
                retry_delay,
            }),
            ours => Self::Indeterminate {
                code: status.code(),
                message: ours.map_or_else(
                    || status.message().to_owned(),
                    |info| format!("{}: {}", info.reason, status.message()),
                ),
                retry_delay,
            },
        }
    }
}

fn violations(status: &Status) -> Vec<Violation> {
    let Some(request) = status.get_details_bad_request() else {
        return Vec::new();
    };
    request
        .field_violations
        .into_iter()
        .map(|violation| Violation {
            field: violation.field,
            description: violation.description,
        })
        .collect()
}

/// The coordinator gives these before it records anything.
fn proves_refusal(reason: &str) -> bool {
    let Some(reason) = known(reason) else {
        return false;
    };
    match reason {
        ErrorReason::FieldInvalid
        | ErrorReason::BranchIdDuplicate
        | ErrorReason::LimitExceeded
        | ErrorReason::FilterInvalid
        | ErrorReason::PageTokenInvalid
        | ErrorReason::TransactionNotFound
        | ErrorReason::BranchNotFound
        | ErrorReason::ParticipantNotFound
        | ErrorReason::MessageNotFound
        | ErrorReason::TransactionIdReused
        | ErrorReason::BranchIdReused
        | ErrorReason::StateInvalid
        | ErrorReason::DecisionConflict
        | ErrorReason::TransactionExpired
        | ErrorReason::ParticipantDraining
        | ErrorReason::EtagMismatch
        | ErrorReason::RevisionCompacted
        | ErrorReason::RateLimited
        | ErrorReason::InflightLimit
        | ErrorReason::Degraded
        | ErrorReason::TargetNotAllowed
        | ErrorReason::RoleRequired
        | ErrorReason::ReportTokenInvalid
        | ErrorReason::BranchSetMismatch
        | ErrorReason::SessionsDisabled
        | ErrorReason::SessionLimit => true,
        // These can end a call whose work was recorded, or whose write may have reached the disk.
        ErrorReason::Unspecified
        | ErrorReason::TransactionBusy
        | ErrorReason::WaitEnded
        | ErrorReason::ShuttingDown
        | ErrorReason::StoreUnavailable
        | ErrorReason::StoreCorrupt => false,
    }
}

fn known(reason: &str) -> Option<ErrorReason> {
    ErrorReason::from_str_name(&format!("ERROR_REASON_{reason}"))
}

/// The coordinator's own word that it refused a call, which therefore had no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Stable, for programs: a name of `tercet.v1.ErrorReason` without its prefix, for example
    /// `FIELD_INVALID`.
    pub reason: String,
    /// The gRPC code it came with.
    pub code: Code,
    /// For people.
    pub message: String,
    /// Every field that was wrong, when that was the reason.
    pub violations: Vec<Violation>,
    /// How long to wait before the next call, when the coordinator said so.
    pub retry_delay: Option<Duration>,
}

/// One field of a request, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path in the request, for example `branches[1].payload`.
    pub field: String,
    /// What is wrong with it.
    pub description: String,
}

impl Refused {
    pub(crate) fn is(&self, reason: ErrorReason) -> bool {
        known(&self.reason) == Some(reason)
    }

    /// What to do about it, in a few words.
    #[must_use]
    pub fn help(&self) -> &'static str {
        match known(&self.reason) {
            Some(
                ErrorReason::FieldInvalid
                | ErrorReason::BranchIdDuplicate
                | ErrorReason::FilterInvalid,
            ) => "correct the request",
            Some(ErrorReason::LimitExceeded) => {
                "make the request smaller, or raise the coordinator's limit"
            }
            Some(ErrorReason::PageTokenInvalid) => "start again from the first page",
            Some(ErrorReason::TransactionNotFound) => {
                "check the id; a submission still on its way isn't known yet: submit it again with \
                 the same id, or roll the id back"
            }
            Some(ErrorReason::ParticipantNotFound | ErrorReason::TargetNotAllowed) => {
                "check the participant's name, and the coordinator's configuration"
            }
            Some(ErrorReason::TransactionIdReused | ErrorReason::BranchIdReused) => {
                "the id belongs to other content: give this work an id of its own"
            }
            Some(ErrorReason::TransactionExpired) => {
                "it arrived after its submit_expire_time: look with get before it is sent under a new id"
            }
            Some(ErrorReason::BranchSetMismatch) => {
                "repeat the branches whose Try had no answer, or roll back"
            }
            Some(ErrorReason::DecisionConflict) => "the commit is decided and stands",
            Some(ErrorReason::RateLimited | ErrorReason::InflightLimit) => {
                "send it again later, with the same id"
            }
            Some(ErrorReason::Degraded | ErrorReason::ParticipantDraining) => {
                "it is switched off on purpose: send it again once it is back"
            }
            _ => "look at the message",
        }
    }
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.message)?;
        for Violation { field, description } in &self.violations {
            write!(f, "; {field}: {description}")?;
        }
        write!(f, " ({}", self.help())?;
        if let Some(delay) = self.retry_delay {
            write!(f, ", after {delay:?}")?;
        }
        write!(f, ")")
    }
}
