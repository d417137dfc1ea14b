//! A coordinator that answers by a script and remembers what it was asked, reached without a
//! network, so that paused time works.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::stream::{self, BoxStream};
use hyper_util::rt::TokioIo;
use tercet_sdk::{
    client::Client,
    proto::v1::{coordinator_service_server as server, *},
};
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Channel, Endpoint, Server},
};
use tonic_types::{ErrorDetails, StatusExt as _};

/// What the coordinator does with the next call of a kind.
pub(crate) enum Step<T> {
    Reply(T),
    Refuse(Status),
    /// Never answers.
    Hang,
}

/// The script of one kind of call, and what came in.
pub(crate) struct Line<Q, A> {
    steps: Mutex<VecDeque<Step<A>>>,
    asked: Mutex<Vec<Q>>,
}

impl<Q, A> Default for Line<Q, A> {
    fn default() -> Self {
        Self {
            steps: Mutex::default(),
            asked: Mutex::default(),
        }
    }
}

impl<Q: Clone, A> Line<Q, A> {
    pub(crate) fn script(&self, steps: impl IntoIterator<Item = Step<A>>) {
        self.steps.lock().unwrap().extend(steps);
    }

    pub(crate) fn asked(&self) -> Vec<Q> {
        self.asked.lock().unwrap().clone()
    }

    async fn play(&self, request: Request<Q>) -> Result<Response<A>, Status> {
        self.asked.lock().unwrap().push(request.into_inner());
        let step = self.steps.lock().unwrap().pop_front();
        match step.expect("a call that the script doesn't know") {
            Step::Reply(reply) => Ok(Response::new(reply)),
            Step::Refuse(status) => Err(status),
            Step::Hang => std::future::pending().await,
        }
    }
}

/// What a scripted watch sends before it ends, well or with an error.
pub(crate) type Items = Vec<Result<WatchTransactionResponse, Status>>;

#[derive(Default)]
pub(crate) struct Script {
    pub(crate) submit: Line<SubmitTransactionRequest, SubmitTransactionResponse>,
    pub(crate) begin: Line<BeginTransactionRequest, BeginTransactionResponse>,
    pub(crate) try_branch: Line<TryBranchRequest, TryBranchResponse>,
    pub(crate) commit: Line<CommitTransactionRequest, CommitTransactionResponse>,
    pub(crate) rollback: Line<RollbackTransactionRequest, RollbackTransactionResponse>,
    pub(crate) get: Line<GetTransactionRequest, GetTransactionResponse>,
    pub(crate) wait: Line<WaitTransactionRequest, WaitTransactionResponse>,
    pub(crate) watch: Line<WatchTransactionRequest, Items>,
    pub(crate) list: Line<ListTransactionsRequest, ListTransactionsResponse>,
    pub(crate) count: Line<CountTransactionsRequest, CountTransactionsResponse>,
    pub(crate) events: Line<ListTransactionEventsRequest, ListTransactionEventsResponse>,
    pub(crate) report: Line<ReportBranchRequest, ReportBranchResponse>,
}

/// Starts the coordinator; it ends with the test's runtime.
pub(crate) fn coordinator() -> (Arc<Script>, Client) {
    let script = Arc::new(Script::default());
    let (connect, connections) = mpsc::unbounded_channel();
    let service = server::CoordinatorServiceServer::from_arc(Arc::new(Scripted(script.clone())));
    tokio::spawn(
        Server::builder()
            .add_service(service)
            .serve_with_incoming(UnboundedReceiverStream::new(connections)),
    );
    (script, Client::from_channel(channel(connect)))
}

fn channel(connect: mpsc::UnboundedSender<std::io::Result<DuplexStream>>) -> Channel {
    let connector = tower::service_fn(move |_| {
        let (ours, theirs) = duplex(64 * 1024);
        let sent = connect.send(Ok(theirs));
        async move {
            sent.map_err(|_| std::io::Error::from(std::io::ErrorKind::ConnectionRefused))?;
            Ok::<_, std::io::Error>(TokioIo::new(ours))
        }
    });
    Endpoint::from_static("http://coordinator").connect_with_connector_lazy(connector)
}

/// An error as the coordinator makes it.
pub(crate) fn refusal(code: Code, reason: &str) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "tercet", std::collections::HashMap::new());
    Status::with_error_details(code, "said by the test", details)
}

/// As [`refusal`], with the delay after which to come back.
pub(crate) fn refusal_for_now(code: Code, reason: &str, delay: Duration) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "tercet", std::collections::HashMap::new());
    details.set_retry_info(Some(delay));
    Status::with_error_details(code, "said by the test", details)
}

struct Scripted(Arc<Script>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl server::CoordinatorService for Scripted {
    type WatchTransactionStream = BoxStream<'static, Result<WatchTransactionResponse, Status>>;

    async fn submit_transaction(
        &self,
        request: Request<SubmitTransactionRequest>,
    ) -> Answer<SubmitTransactionResponse> {
        self.0.submit.play(request).await
    }
    async fn begin_transaction(
        &self,
        request: Request<BeginTransactionRequest>,
    ) -> Answer<BeginTransactionResponse> {
        self.0.begin.play(request).await
    }
    async fn try_branch(&self, request: Request<TryBranchRequest>) -> Answer<TryBranchResponse> {
        self.0.try_branch.play(request).await
    }
    async fn commit_transaction(
        &self,
        request: Request<CommitTransactionRequest>,
    ) -> Answer<CommitTransactionResponse> {
        self.0.commit.play(request).await
    }
    async fn rollback_transaction(
        &self,
        request: Request<RollbackTransactionRequest>,
    ) -> Answer<RollbackTransactionResponse> {
        self.0.rollback.play(request).await
    }
    async fn get_transaction(
        &self,
        request: Request<GetTransactionRequest>,
    ) -> Answer<GetTransactionResponse> {
        self.0.get.play(request).await
    }
    async fn wait_transaction(
        &self,
        request: Request<WaitTransactionRequest>,
    ) -> Answer<WaitTransactionResponse> {
        self.0.wait.play(request).await
    }
    async fn watch_transaction(
        &self,
        request: Request<WatchTransactionRequest>,
    ) -> Answer<Self::WatchTransactionStream> {
        let items = self.0.watch.play(request).await?.into_inner();
        Ok(Response::new(Box::pin(stream::iter(items))))
    }
    async fn list_transactions(
        &self,
        request: Request<ListTransactionsRequest>,
    ) -> Answer<ListTransactionsResponse> {
        self.0.list.play(request).await
    }
    async fn count_transactions(
        &self,
        request: Request<CountTransactionsRequest>,
    ) -> Answer<CountTransactionsResponse> {
        self.0.count.play(request).await
    }
    async fn list_transaction_events(
        &self,
        request: Request<ListTransactionEventsRequest>,
    ) -> Answer<ListTransactionEventsResponse> {
        self.0.events.play(request).await
    }
    async fn report_branch(
        &self,
        request: Request<ReportBranchRequest>,
    ) -> Answer<ReportBranchResponse> {
        self.0.report.play(request).await
    }
}
