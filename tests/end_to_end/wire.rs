//! The wire to a participant, on which calls are lost, repeated, held up and answered wrongly.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tercet::proto::tercet::participant::v1::{
    self as pb, BranchContext, CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse,
    Failure, Operation, Outcome, Payload, QueryRequest, QueryResponse, TryRequest, TryResponse,
    participant_service_client::ParticipantServiceClient,
    participant_service_server::{ParticipantService, ParticipantServiceServer},
};
use tokio::sync::{Notify, watch};
use tonic::{
    Request, Response, Status,
    transport::{Channel, Server, server::TcpIncoming},
};

use crate::{services, session};

/// What goes wrong with a call.
#[derive(Clone, Debug)]
pub enum Fault {
    /// It never arrives.
    Lost,
    /// It has its effect; its reply is lost.
    ReplyLost,
    /// It arrives twice.
    Twice,
    /// Nobody answers; it arrives when this is notified.
    HeldUp(Arc<Notify>),
    /// Nobody answers, ever.
    Silent,
    /// It does not arrive; the answer is FAILED.
    Refused,
    /// It does not arrive; the answer is PROCESSING.
    Processing,
    /// It does not arrive; the answer is larger than the coordinator reads.
    TooLarge,
}

/// Forwards to a participant.
pub struct Wire {
    participant: String,
    inner: Mutex<Inner>,
    calls: watch::Sender<Vec<Operation>>,
}

struct Inner {
    target: SocketAddr,
    to: ParticipantServiceClient<Channel>,
    faults: VecDeque<(Operation, Fault)>,
    every: Option<(Operation, Fault)>,
    contexts: Vec<BranchContext>,
}

impl Wire {
    pub async fn to(participant: &str, real: SocketAddr) -> (Arc<Self>, SocketAddr) {
        let inner = Inner {
            target: real,
            to: client(real),
            faults: VecDeque::new(),
            every: None,
            contexts: Vec::new(),
        };
        let wire = Arc::new(Self {
            participant: participant.to_owned(),
            inner: Mutex::new(inner),
            calls: watch::Sender::new(Vec::new()),
        });
        let (listener, address) = services::listener().await;
        let service = ParticipantServiceServer::from_arc(Arc::clone(&wire));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (wire, address)
    }

    /// Connects out to this coordinator, and forwards what comes over that session too.
    pub async fn connect(self: &Arc<Self>, coordinator: &str) {
        session::open(&self.participant, coordinator, Arc::clone(self)).await;
    }

    /// The next call of this kind goes wrong.
    pub fn fault(&self, operation: Operation, fault: Fault) {
        self.lock().faults.push_back((operation, fault));
    }

    /// Every call of this kind goes wrong until [`heal`](Self::heal).
    pub fn every(&self, operation: Operation, fault: Fault) {
        self.lock().every = Some((operation, fault));
    }

    pub fn heal(&self) {
        let mut inner = self.lock();
        inner.every = None;
        inner.faults.clear();
    }

    /// From now on another participant is at the end of it.
    pub fn redirect(&self, real: SocketAddr) {
        let mut inner = self.lock();
        inner.target = real;
        inner.to = client(real);
    }

    /// Which participant is at the end of it.
    pub fn target(&self) -> SocketAddr {
        self.lock().target
    }

    /// How often it was called for this so far.
    pub fn count(&self, operation: Operation) -> usize {
        count(&self.calls.borrow(), operation)
    }

    /// Waits until it has been called for this so often.
    pub async fn called(&self, operation: Operation, times: usize) {
        let mut calls = self.calls.subscribe();
        let enough = calls.wait_for(|calls| count(calls, operation) >= times);
        enough.await.expect("the sender is in self");
    }

    /// What the last call said of its branch.
    pub fn last_context(&self) -> BranchContext {
        self.lock().contexts.last().expect("it was called").clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn arrived(
        &self,
        operation: Operation,
        context: Option<&BranchContext>,
    ) -> (ParticipantServiceClient<Channel>, Option<Fault>) {
        let mut inner = self.lock();
        inner.contexts.extend(context.cloned());
        let next = inner.faults.iter().position(|it| it.0 == operation);
        let every = inner.every.as_ref().filter(|it| it.0 == operation);
        let every = every.map(|it| it.1.clone());
        let once = next.and_then(|at| inner.faults.remove(at)).map(|it| it.1);
        let to = inner.to.clone();
        drop(inner);
        self.calls.send_modify(|calls| calls.push(operation));
        (to, once.or(every))
    }
}

fn count(calls: &[Operation], operation: Operation) -> usize {
    calls.iter().filter(|it| **it == operation).count()
}

fn client(real: SocketAddr) -> ParticipantServiceClient<Channel> {
    let channel = Channel::from_shared(services::url(real)).unwrap();
    ParticipantServiceClient::new(channel.connect_lazy())
}

/// Forwards a call unless it goes wrong. Some: the answer to give instead of the participant's.
async fn carry<R, F>(
    fault: Option<Fault>,
    forward: impl Fn() -> F,
    instead: impl Fn(&Fault) -> R,
) -> Result<Response<R>, Status>
where
    F: Future<Output = Result<Response<R>, Status>> + Send + 'static,
    R: Send + 'static,
{
    let lost = || Err(Status::unavailable("the connection was lost"));
    match fault {
        None => forward().await,
        Some(Fault::Lost) => lost(),
        Some(Fault::ReplyLost) => {
            forward().await?;
            lost()
        }
        Some(Fault::Twice) => {
            forward().await?;
            forward().await
        }
        Some(Fault::HeldUp(until)) => {
            let late = forward();
            // By itself: it is on its way whether or not its caller still waits.
            tokio::spawn(async move {
                until.notified().await;
                let _ = late.await; // nobody hears the answer
                until.notify_one();
            });
            std::future::pending().await
        }
        Some(Fault::Silent) => std::future::pending().await,
        Some(fault @ (Fault::Refused | Fault::Processing | Fault::TooLarge)) => {
            Ok(Response::new(instead(&fault)))
        }
    }
}

fn outcome(fault: &Fault) -> i32 {
    let outcome = match fault {
        Fault::Refused => Outcome::Failed,
        Fault::Processing => Outcome::Processing,
        _ => Outcome::Success,
    };
    outcome.into()
}

fn refusal(fault: &Fault) -> Option<Failure> {
    matches!(fault, Fault::Refused).then(|| Failure {
        reason: "NOT_NOW".into(),
        message: "the wire says no".into(),
        ..Failure::default()
    })
}

fn payload(fault: &Fault) -> Option<Payload> {
    matches!(fault, Fault::TooLarge).then(|| Payload {
        type_url: String::new(),
        value: vec![0; 200 * 1024].into(),
    })
}

#[tonic::async_trait]
impl ParticipantService for Wire {
    async fn r#try(&self, request: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        let request = request.into_inner();
        let (to, fault) = self.arrived(Operation::Try, request.context.as_ref());
        let forward = || {
            let (mut to, request) = (to.clone(), request.clone());
            async move { to.r#try(request).await }
        };
        carry(fault, forward, |fault| TryResponse {
            outcome: outcome(fault),
            failure: refusal(fault),
            result: payload(fault),
            retry_after: None,
        })
        .await
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        let request = request.into_inner();
        let (to, fault) = self.arrived(Operation::Confirm, request.context.as_ref());
        let forward = || {
            let (mut to, request) = (to.clone(), request.clone());
            async move { to.confirm(request).await }
        };
        carry(fault, forward, |fault| ConfirmResponse {
            outcome: outcome(fault),
            failure: refusal(fault),
            result: payload(fault),
            retry_after: None,
        })
        .await
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let request = request.into_inner();
        let (to, fault) = self.arrived(Operation::Cancel, request.context.as_ref());
        let forward = || {
            let (mut to, request) = (to.clone(), request.clone());
            async move { to.cancel(request).await }
        };
        carry(fault, forward, |fault| CancelResponse {
            outcome: outcome(fault),
            failure: refusal(fault),
            retry_after: None,
        })
        .await
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        let request = request.into_inner();
        let (to, fault) = self.arrived(Operation::Query, request.context.as_ref());
        let forward = || {
            let (mut to, request) = (to.clone(), request.clone());
            async move { to.query(request).await }
        };
        let unspecified = |_: &Fault| QueryResponse {
            state: pb::RecordState::Unspecified.into(),
            ..QueryResponse::default()
        };
        carry(fault, forward, unspecified).await
    }
}
