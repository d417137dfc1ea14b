//! The client's side: hand a transaction to the coordinator, and learn what came of it.
//!
//! ```no_run
//! use tercet_sdk::client::{Client, Outcome, Submit};
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Reserve {
//!     #[prost(string, tag = "1")]
//!     sku: String,
//!     #[prost(int64, tag = "2")]
//!     count: i64,
//! }
//!
//! # async fn order() -> Result<(), Box<dyn std::error::Error>> {
//! let tercet = Client::new("http://127.0.0.1:7070")?;
//! let reserve = Reserve { sku: "tea".into(), count: 2 };
//! // The id comes from the work: who comes back after a crash submits the same one again.
//! let order = Submit::new("order-1042")
//!     .transaction_type("place-order")
//!     .branch("inventory", "reserve", &reserve)
//!     .branch_json("payment", "charge", r#"{"cents": 1999}"#);
//!
//! match tercet.submit(&order).await? {
//!     Outcome::Success(order) => println!("{} is placed", order.id()),
//!     Outcome::Failed(failed) => println!("not placed: {}", failed.reason),
//!     // Never "failed": it may yet succeed. Keep the id, and ask again.
//!     Outcome::Processing(order) => println!("{} is on its way", order.transaction_id()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! An interactive transaction asks its participants one by one:
//!
//! ```no_run
//! # use tercet_sdk::client::{Client, Outcome};
//! # async fn trip(tercet: Client) -> Result<(), Box<dyn std::error::Error>> {
//! # let (to_rome, to_hotel) = (String::new(), String::new());
//! let mut trip = tercet.begin("trip-7").await?;
//! let seat: String = trip.try_branch("seat", "air", "seat", &to_rome).await?.success()?;
//! let _room: String = trip.try_branch("room", "inn", "room", &to_hotel).await?.success()?;
//! println!("seat {seat}: {:?}", trip.commit().await?); // `?` before this line: nothing is committed
//! # Ok(())
//! # }
//! ```
//!
//! # What is certain
//!
//! [`Client::submit`] answers `Err` only when the coordinator itself said that it took nothing.
//! A timeout, a lost connection, an error made by anyone else, and every error after an attempt
//! without an answer are [`Outcome::Processing`]: the transaction may be running. While its caller
//! waits, the client sends the same again by itself; the id makes that harmless.

mod branch;
mod clock;
mod error;
mod interactive;
mod options;
mod outcome;
mod read;
mod resend;
mod submit;
mod watch;

use std::time::{Duration, SystemTime};

use tonic::{
    Request, Status,
    transport::{Channel, Endpoint},
};

pub use self::{
    branch::{Branch, Methods},
    error::{Error, Refused, Violation},
    interactive::{Interactive, NotTried, Tried},
    options::{Options, PROTECTION_DEFAULT},
    outcome::{BranchView, Failed, Outcome, Processing, Transaction},
    read::{Count, Page},
    submit::{Submit, WAIT_DEFAULT},
    watch::{Change, Watch},
};
pub use crate::proto::{
    participant::v1::{Failure, Operation, Payload},
    v1::{BranchState, Decision, TransactionEvent, TransactionState},
};

use self::{
    clock::Clock,
    resend::{Answer, MARGIN, Until, resend},
};
use crate::proto::v1::{
    self, BeginTransactionRequest, CommitTransactionRequest, ReportBranchRequest,
    RollbackTransactionRequest, SubmitTransactionRequest, TryBranchRequest, TryBranchResponse,
    coordinator_service_client::CoordinatorServiceClient,
};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A dead connection is noticed after these two: the ping's interval, and the wait for its answer.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A transaction of 64 branches with two results of 64 KiB each is 8 MiB, and a list has many; the
/// bound only keeps a mad server from filling the memory.
const REPLY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A connection to a coordinator. Cheap to clone; share one for the whole process.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: CoordinatorServiceClient<Channel>,
    clock: Clock,
}

impl Client {
    /// A client of the coordinator at this address, for example `http://127.0.0.1:7070`. It
    /// connects when it is first used, and again whenever the connection is lost.
    ///
    /// # Errors
    /// [`Error::Address`], when the text is no such address.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn new(url: impl Into<String>) -> Result<Self, Error> {
        let url = url.into();
        let endpoint = endpoint(&url).map_err(|problem| Error::Address { url, problem })?;
        Ok(Self::from_channel(endpoint.connect_lazy()))
    }

    /// A client over a channel of your own making: another transport, more than one endpoint.
    #[must_use]
    pub fn from_channel(channel: Channel) -> Self {
        let rpc = CoordinatorServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES_MAX);
        let clock = Clock::default();
        Self { rpc, clock }
    }

    /// Reads the wall clock from here; for simulations and tests. [`Submit::new`] knows nothing of
    /// it: say [`Submit::expires_at`].
    #[must_use]
    pub fn clock(mut self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        self.clock = Clock::new(now);
        self
    }

    /// Submits a transaction and waits for its outcome, at most as long as the submission says.
    ///
    /// While it waits it sends the same again when an attempt got no answer or the coordinator was
    /// too busy, at most ten times, and never after [`Submit::expires_at`].
    ///
    /// # Errors
    /// [`Refused`]: the coordinator said that it didn't take this, so nothing is running. Anything
    /// less certain is [`Outcome::Processing`].
    pub async fn submit(&self, submit: &Submit) -> Result<Outcome, Refused> {
        let answer = resend(submit.until(self.clock.now()), |wait| {
            self.submit_transaction(submit.to_message(wait), wait)
        });
        match answer.await {
            Answer::Reply(transaction) => Ok(Outcome::new(self, transaction)),
            Answer::Refused(refused) => Err(refused),
            Answer::Unknown(cause) => Ok(Outcome::unknown(self, submit.id(), cause)),
        }
    }

    /// Asks whether the coordinator would take this submission. Nothing is started.
    ///
    /// # Errors
    /// [`Error::Refused`]: it would not.
    pub async fn validate(&self, submit: &Submit) -> Result<(), Error> {
        let wait = read::READ_TIMEOUT;
        let request = SubmitTransactionRequest {
            validate_only: true,
            ..submit.to_message(wait)
        };
        let mut rpc = self.rpc.clone();
        rpc.submit_transaction(with_deadline(request, wait)).await?;
        Ok(())
    }

    /// Opens an interactive transaction by this id, with the coordinator's default options.
    ///
    /// # Errors
    /// [`Error::Refused`]: it was not opened. [`Error::Indeterminate`]: it may have been; begin
    /// again with the same id.
    pub async fn begin(&self, id: &str) -> Result<Interactive, Error> {
        self.begin_with(id, &Options::new()).await
    }

    /// As [`Client::begin`], with options.
    ///
    /// # Errors
    /// As [`Client::begin`].
    pub async fn begin_with(&self, id: &str, options: &Options) -> Result<Interactive, Error> {
        Interactive::begin(self, id, options).await
    }

    /// Rolls a transaction back, and waits up to `wait` for the outcome. An id that the coordinator
    /// doesn't know is recorded as canceled, so that a submission still on its way fails.
    ///
    /// # Errors
    /// [`Error::Refused`] only: it was not rolled back, with the reason `DECISION_CONFLICT` because
    /// its commit was decided. Anything less certain is [`Outcome::Processing`].
    pub async fn rollback(&self, id: &str, reason: &str, wait: Duration) -> Result<Outcome, Error> {
        let answer = resend(Until::wait(wait), |wait| {
            let request = RollbackTransactionRequest {
                transaction_id: id.to_owned(),
                reason: reason.to_owned(),
                wait_timeout: Some(options::duration(wait)),
            };
            self.rollback_transaction(request, wait)
        });
        match answer.await {
            Answer::Reply(transaction) => Ok(Outcome::new(self, transaction)),
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Unknown(cause) => Ok(Outcome::unknown(self, id, cause)),
        }
    }

    /// Tells the coordinator how an operation ended that a participant had answered PROCESSING.
    /// Repeating it is safe.
    ///
    /// # Errors
    /// [`Error::Refused`]: it was not taken. [`Error::Indeterminate`]: report again, or leave it to
    /// the coordinator's next Query.
    pub async fn report_branch(&self, report: Report) -> Result<(), Error> {
        let request = report.into_message();
        let answer = resend(Until::wait(WAIT_DEFAULT), |wait| {
            let mut rpc = self.rpc.clone();
            let request = with_deadline(request.clone(), wait);
            async move { rpc.report_branch(request).await }
        });
        match answer.await {
            Answer::Reply(_) => Ok(()),
            Answer::Refused(refused) => Err(refused.into()),
            Answer::Unknown(cause) => Err(cause),
        }
    }
}

fn endpoint(url: &str) -> Result<Endpoint, &'static str> {
    if url.starts_with("https://") {
        return Err("TLS isn't built in yet; use http:// to a proxy on this host that adds it");
    }
    if !url.starts_with("http://") {
        return Err("write it as http://host:port");
    }
    let endpoint = Endpoint::from_shared(url.to_owned())
        .map_err(|_| "it is no valid URL; write it as http://host:port")?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// How an operation ended, as [`Client::report_branch`] tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// As in the branch's context.
    pub transaction_id: String,
    /// As in the branch's context.
    pub branch_id: String,
    /// From the branch's context: it proves that the reporter was asked.
    pub report_token: String,
    /// Which of the calls has ended.
    pub operation: Operation,
    /// What it came to.
    pub result: Result<Payload, Failure>,
}

impl Report {
    fn into_message(self) -> ReportBranchRequest {
        use crate::proto::participant::v1::Outcome;
        let (outcome, result, failure) = match self.result {
            Ok(result) => (Outcome::Success, Some(result), None),
            Err(failure) => (Outcome::Failed, None, Some(failure)),
        };
        ReportBranchRequest {
            transaction_id: self.transaction_id,
            branch_id: self.branch_id,
            operation: self.operation.into(),
            outcome: outcome.into(),
            result,
            failure,
            report_token: self.report_token,
        }
    }
}

/// One attempt at each call that changes something.
impl Client {
    async fn submit_transaction(
        &self,
        request: SubmitTransactionRequest,
        wait: Duration,
    ) -> Result<v1::Transaction, Status> {
        let mut rpc = self.rpc.clone();
        let reply = rpc.submit_transaction(with_deadline(request, wait)).await?;
        present(reply.into_inner().transaction)
    }

    async fn begin_transaction(
        &self,
        request: BeginTransactionRequest,
        wait: Duration,
    ) -> Result<v1::Transaction, Status> {
        let mut rpc = self.rpc.clone();
        let reply = rpc.begin_transaction(with_deadline(request, wait)).await?;
        present(reply.into_inner().transaction)
    }

    async fn try_branch(
        &self,
        request: TryBranchRequest,
        wait: Duration,
    ) -> Result<TryBranchResponse, Status> {
        let mut rpc = self.rpc.clone();
        let reply = rpc.try_branch(with_deadline(request, wait)).await?;
        Ok(reply.into_inner())
    }

    async fn commit_transaction(
        &self,
        request: CommitTransactionRequest,
        wait: Duration,
    ) -> Result<v1::Transaction, Status> {
        let mut rpc = self.rpc.clone();
        let reply = rpc.commit_transaction(with_deadline(request, wait)).await?;
        present(reply.into_inner().transaction)
    }

    async fn rollback_transaction(
        &self,
        request: RollbackTransactionRequest,
        wait: Duration,
    ) -> Result<v1::Transaction, Status> {
        let mut rpc = self.rpc.clone();
        let reply = rpc
            .rollback_transaction(with_deadline(request, wait))
            .await?;
        present(reply.into_inner().transaction)
    }
}

fn with_deadline<T>(message: T, wait: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(wait + MARGIN);
    request
}

/// A reply without its transaction says nothing about it.
fn present(transaction: Option<v1::Transaction>) -> Result<v1::Transaction, Status> {
    transaction.ok_or_else(|| Status::unknown("the reply has no transaction in it"))
}
