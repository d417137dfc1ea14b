//! Why a call brought no answer, and how that is told.
//!
//! What matters most here is [`Fault::NeverLeft`]: only then may the same call go to another
//! endpoint or session at once. Every other error may have come after the request was read.

use std::{collections::BTreeMap, error::Error, sync::Arc};

use tercet_core::{
    answer::{Answer, QueryAnswer},
    payload::Failure,
};
use tonic::{Code, Status};

use super::convert::{FAILURE_MESSAGE_BYTES_MAX, cut};

/// Why one request to one endpoint brought no answer.
#[derive(Debug)]
pub(super) enum Fault {
    /// No connection or session took it, or the participant says that it has not looked at it; the
    /// request can't have had an effect.
    NeverLeft(Status),
    /// The deadline passed.
    Deadline,
    /// A reply came and was larger than this many bytes.
    TooLarge {
        /// What is allowed.
        bytes_max: usize,
    },
    /// A reply came and did not say what happened.
    Unspecified {
        /// The number in the field `outcome`.
        outcome: i32,
    },
    /// Any other gRPC error.
    Status(Status),
}

impl Fault {
    fn code(&self) -> Code {
        match self {
            Self::NeverLeft(status) | Self::Status(status) => status.code(),
            Self::Deadline => Code::DeadlineExceeded,
            Self::TooLarge { .. } | Self::Unspecified { .. } => Code::Ok,
        }
    }

    fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "REPLY_TOO_LARGE",
            Self::Unspecified { .. } => "OUTCOME_UNSPECIFIED",
            Self::NeverLeft(_) | Self::Deadline | Self::Status(_) => code_name(self.code()),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::NeverLeft(status) => format!("it was not sent: {}", told(status)),
            Self::Status(status) => told(status),
            Self::Deadline => "no answer within the deadline".into(),
            Self::TooLarge { bytes_max } => {
                format!("the reply or a result in it is larger than {bytes_max} bytes")
            }
            Self::Unspecified { outcome } => {
                format!("the reply's outcome {outcome} is none that this version knows")
            }
        }
    }
}

/// A call without a definite answer: what is told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// It may or may not have happened.
    Indeterminate(Failure),
    /// The same, because the reply was too large to be read.
    TooLarge(Failure),
}

impl Unanswered {
    /// Names the participant (or, for an endpoint called directly, none), the endpoint and what
    /// happened.
    pub(super) fn new(participant: Option<&Arc<str>>, endpoint: &str, fault: &Fault) -> Self {
        let (reason, detail) = (fault.reason(), fault.detail());
        let mut metadata = BTreeMap::from([("endpoint".into(), endpoint.into())]);
        let message = match participant {
            Some(name) => {
                metadata.insert("participant".into(), Arc::clone(name));
                format!("participant {name} at {endpoint}: {reason}: {detail}")
            }
            None => format!("{endpoint}: {reason}: {detail}"),
        };
        let failure = Failure {
            reason: reason.into(),
            message: cut(&message, FAILURE_MESSAGE_BYTES_MAX).into(),
            metadata,
            code: fault.code().into(),
        };
        match fault {
            Fault::TooLarge { .. } => Self::TooLarge(failure),
            Fault::NeverLeft(_)
            | Fault::Deadline
            | Fault::Unspecified { .. }
            | Fault::Status(_) => Self::Indeterminate(failure),
        }
    }
}

impl From<Unanswered> for Answer {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Indeterminate(failure) => Self::Indeterminate(failure),
            Unanswered::TooLarge(failure) => Self::TooLarge(failure),
        }
    }
}

impl From<Unanswered> for QueryAnswer {
    fn from(unanswered: Unanswered) -> Self {
        match unanswered {
            Unanswered::Indeterminate(failure) => Self::Indeterminate(failure),
            Unanswered::TooLarge(failure) => Self::TooLarge(failure),
        }
    }
}

/// The name that `google.rpc.Code` gives it.
pub(super) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The status's message, and the cause at the bottom, which is what a person needs: `Connection
/// refused (os error 111)`.
fn told(status: &Status) -> String {
    let message = match status.message() {
        "" => "no message",
        message => message,
    };
    match causes(status).last().map(ToString::to_string) {
        Some(cause) if !message.contains(&cause) => format!("{message}: {cause}"),
        _ => message.into(),
    }
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    let mut next = status.source();
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}
