//! Puts a participant's contract to the test, whatever it is written in.
//!
//! It calls the participant as a coordinator on a bad day would: twice, late, out of order, at the
//! same time, losing replies. What it sees is what Try, Confirm, Cancel and Query answer; effects
//! that a participant hides from its own Query it can't see, so a unit test should compare stock
//! and money before and after, too.
//!
//! ```no_run
//! use tercet_sdk::testing::{CheckOptions, Payload, check};
//!
//! # async fn run(channel: tonic::transport::Channel) {
//! let options = CheckOptions::new("reserve", Payload::json(r#"{"sku": "tea", "count": 1}"#));
//! check(channel, options).await.assert_holds(); // prints a table of what doesn't hold
//! # }
//! ```
//!
//! The payload must be one whose Try can succeed some forty times at once. Every run uses
//! transactions of its own in a realm of its own (`check-…`), and cancels what it has reserved, but
//! some checks must confirm: run it against a participant whose data doesn't matter.

mod branch;
mod fence;
mod repeat;
mod report;
mod verdict;

use std::{error::Error, future::Future, pin::Pin, sync::Arc, sync::Mutex, time::Duration};

use prost::bytes::Bytes;
use tonic::{
    Request, Response, Status,
    body::Body,
    client::GrpcService,
    transport::{self, Endpoint},
};

use self::branch::Branch;
pub use self::report::{CheckReport, Checked, Finding};
pub use crate::proto::participant::v1::Payload;
use crate::proto::participant::v1::{
    BranchContext, CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, Operation,
    QueryRequest, QueryResponse, RecordState, TryRequest, TryResponse,
    participant_service_client::ParticipantServiceClient,
    participant_service_server::ParticipantService,
};

/// What to check with.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOptions {
    /// Which of the participant's resources.
    pub resource: String,
    /// The request of each Try; one that can succeed.
    pub payload: Payload,
    /// How long a call may take; by default 5 s.
    pub call_timeout: Duration,
    /// How long an operation that is answered PROCESSING may take to end; by default 10 s.
    pub settle_timeout: Duration,
}

impl CheckOptions {
    /// Checks this resource with this payload.
    #[must_use]
    pub fn new(resource: impl Into<String>, payload: Payload) -> Self {
        Self {
            resource: resource.into(),
            payload,
            call_timeout: Duration::from_secs(5),
            settle_timeout: Duration::from_secs(10),
        }
    }
}

/// Checks a participant, reached over a channel, or as the tonic service itself
/// (`ParticipantServiceServer`) in the same process.
pub async fn check<T>(participant: T, options: CheckOptions) -> CheckReport
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
    T::ResponseBody: tonic::transport::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as tonic::transport::Body>::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    let bench = Bench {
        participant: Arc::new(Remote(ParticipantServiceClient::new(participant))),
        options: Arc::new(options),
        realm: format!("check-{}", uuid::Uuid::now_v7()),
        used: Mutex::default(),
    };
    let mut checks = Vec::new();
    for check in repeat::CHECKS.iter().chain(fence::CHECKS) {
        let finding = (check.run)(&bench).await.err().unwrap_or(Finding::Holds);
        bench.release().await;
        checks.push(Checked {
            name: check.name,
            meaning: check.meaning,
            finding,
        });
    }
    CheckReport { checks }
}

/// Checks the participant at an address, for example `http://127.0.0.1:7071`.
///
/// # Errors
/// When the address is none, or nobody can be reached there.
pub async fn check_at(url: &str, options: CheckOptions) -> Result<CheckReport, transport::Error> {
    let endpoint = Endpoint::from_shared(url.to_owned())?.connect_timeout(options.call_timeout);
    Ok(check(endpoint.connect().await?, options).await)
}

/// One rule, and how it is put to the test.
struct Check {
    name: &'static str,
    meaning: &'static str,
    run: for<'a> fn(&'a Bench) -> Running<'a>,
}

type Running<'a> = Pin<Box<dyn Future<Output = Result<(), Finding>> + Send + 'a>>;

/// What the checks work with.
struct Bench {
    participant: Arc<dyn ParticipantService>,
    options: Arc<CheckOptions>,
    realm: String,
    used: Mutex<Vec<Branch>>,
}

impl Bench {
    /// A branch that nobody has used.
    fn branch(&self) -> Branch {
        self.branch_with(|_| {})
    }

    fn branch_with(&self, change: impl FnOnce(&mut BranchContext)) -> Branch {
        let (participant, options) = (self.participant.clone(), self.options.clone());
        let branch = Branch::new(participant, options, &self.realm).with(change);
        self.keep(&branch);
        branch
    }

    /// Remembers a branch, to release what it holds after the check.
    fn keep(&self, branch: &Branch) {
        let mut used = self.used.lock().expect("nobody panics while holding it");
        used.push(branch.clone());
    }

    async fn release(&self) {
        let used = std::mem::take(&mut *self.used.lock().expect("nobody panics while holding it"));
        for branch in used {
            // Above every epoch that a check uses.
            let last = branch.with(|context| context.epoch = 1_000);
            let state = last.query().await.map(|record| record.state());
            if matches!(state, Ok(RecordState::Trying | RecordState::Tried)) {
                let _ = last.settle(Operation::Cancel).await;
            }
        }
    }
}

/// Makes any tonic service one type.
struct Remote<T>(ParticipantServiceClient<T>);

#[tonic::async_trait]
impl<T> ParticipantService for Remote<T>
where
    T: GrpcService<Body> + Clone + Send + Sync + 'static,
    T::Future: Send,
    T::Error: Into<Box<dyn Error + Send + Sync>>,
    T::ResponseBody: tonic::transport::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as tonic::transport::Body>::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    async fn r#try(&self, request: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        self.0.clone().r#try(request).await
    }
    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        self.0.clone().confirm(request).await
    }
    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        self.0.clone().cancel(request).await
    }
    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        self.0.clone().query(request).await
    }
}
