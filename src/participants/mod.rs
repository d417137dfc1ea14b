//! The door out: calls to participants, and what their answers mean.

mod config;
mod contract;
mod convert;
mod fault;
mod grpc;
mod headers;
pub mod measure;
pub mod methods;
pub mod report_token;
mod route;
pub mod session;
mod wire;
mod write;

use std::sync::Arc;

use futures::future::BoxFuture;
use tercet_core::{
    answer::{Answer, QueryAnswer},
    ids::{Realm, TransactionId},
    payload::{Failure, Payload},
    step::Call,
    transaction::{BranchSpec, Target},
};

use crate::store::Origin;

pub use config::{
    CALL_TIMEOUT_MS_DEFAULT, CALL_TIMEOUT_MS_MAX, ConfigError, ENDPOINTS_MAX, EndpointError,
    EndpointUri, PAYLOAD_BYTES_MAX_DEFAULT, PAYLOAD_BYTES_MAX_MAX, ParticipantConfig,
    ParticipantsConfig,
};
pub use grpc::GrpcParticipants;
pub use route::REFUSED_FOR;
pub use wire::Connector;

/// How participants are reached.
///
/// Every call ends within its deadline, whatever the other side does. A call whose future is dropped
/// is abandoned: it may or may not have had its effect.
pub trait Participants: Send + Sync + 'static {
    /// Whether this target can be called at all.
    ///
    /// # Errors
    /// [`TargetError`] names what is unknown or not allowed.
    fn check(&self, target: &Target) -> Result<(), TargetError>;

    /// Performs Try, Confirm or Cancel.
    fn perform(&self, outgoing: Outgoing) -> BoxFuture<'static, Answer>;

    /// Asks what is recorded.
    fn query(&self, outgoing: Outgoing) -> BoxFuture<'static, QueryAnswer>;
}

/// One call with all it needs. Cheap to build: what is large is shared.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// The store the transaction lives in.
    pub realm: Realm,
    /// Of the coordinator that calls.
    pub epoch: u64,
    /// Which transaction.
    pub id: TransactionId,
    /// What was said of it when it was created.
    pub origin: Arc<Origin>,
    /// The branch, as its client gave it.
    pub spec: Arc<BranchSpec>,
    /// Which call, and which attempt.
    pub call: Call,
    /// What Try returned, as far as known.
    pub try_result: Option<Payload>,
    /// Why the transaction is rolled back; for Cancel.
    pub cause: Option<Failure>,
}

/// Why a target can't be called.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// No participant of this name is configured.
    #[error("no participant is named {name:?}; configured are: {known}")]
    NotFound {
        /// The name asked for.
        name: Arc<str>,
        /// The names there are.
        known: String,
    },
    /// Existing methods of a participant that only opens sessions.
    #[error(
        "participant {name} has no endpoint, only sessions, which carry no methods of its own; \
         use a contract target, or give it endpoints"
    )]
    NoEndpoint {
        /// Its name.
        name: Arc<str>,
    },
    /// A URI that is not on the allow-list.
    #[error(
        "endpoint {endpoint:?} is not allowed; add it to `allowed_endpoints`, or configure it as a participant"
    )]
    NotAllowed {
        /// The endpoint asked for.
        endpoint: Arc<str>,
    },
}

#[cfg(test)]
mod hostile;
