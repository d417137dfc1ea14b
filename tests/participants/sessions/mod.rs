//! Participants that connect out: the real door and the real calls over TCP on 127.0.0.1, and a
//! participant that does what each test says, frame by frame.

mod calls;
mod ending;
mod hostile;
mod mangled;
mod sharing;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use prost::Message as _;
use tercet::{
    participants::{
        Connector, GrpcParticipants, Outgoing, ParticipantConfig, Participants as _,
        ParticipantsConfig,
    },
    proto::tercet::participant::v1::{
        OpenSessionRequest, OpenSessionResponse, Outcome, SessionCall, SessionDrain,
        SessionHeartbeat, SessionHello, SessionReplies, SessionReply, TryResponse,
        open_session_request::Frame as Said, open_session_response::Frame as Heard,
        session_reply::Response, session_service_client::SessionServiceClient,
    },
    rpc,
};
use tercet_core::{answer::Answer, ids::ParticipantName, operation::Operation, payload::Failure};
use tokio::{sync::mpsc, task::JoinHandle};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tonic::{Status, Streaming, transport::Server};

use crate::support::{listener, outgoing, stock, url};

/// Longer than anything here takes on a busy machine; what is awaited comes at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The coordinator's half, without the coordinator: the door and the calls.
pub(crate) struct Coordinator {
    pub(crate) calls: Arc<GrpcParticipants>,
    pub(crate) url: String,
}

/// One instance of `stock`, which does what it is told.
pub(crate) struct Instance {
    says: mpsc::UnboundedSender<OpenSessionRequest>,
    hears: Streaming<OpenSessionResponse>,
}

/// `stock` over sessions, and at these endpoints.
pub(crate) fn config(endpoints: &[SocketAddr]) -> ParticipantsConfig {
    let participant = ParticipantConfig {
        endpoints: endpoints.iter().copied().map(url).collect(),
        call_timeout_ms: 10_000,
        ..ParticipantConfig::over_sessions()
    };
    ParticipantsConfig {
        participants: [(ParticipantName::parse("stock").unwrap(), participant)].into(),
        ..ParticipantsConfig::default()
    }
}

pub(crate) fn hello(instance: &str) -> SessionHello {
    SessionHello {
        participant: "stock".into(),
        instance_id: instance.into(),
        resources: vec!["reserve".into()],
        max_in_flight: 100,
        sdk_version: "by-hand/1".into(),
    }
}

impl Coordinator {
    pub(crate) async fn start(config: &ParticipantsConfig) -> Self {
        let calls = Arc::new(GrpcParticipants::new(config, Connector::tcp()).unwrap());
        let (listener, address) = listener().await;
        let service = rpc::sessions(Arc::clone(&calls), config.payload_bytes_max);
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        Self {
            calls,
            url: url(address),
        }
    }

    pub(crate) async fn instance(&self, name: &str) -> Instance {
        self.open(hello(name)).await.unwrap()
    }

    pub(crate) async fn open(&self, hello: SessionHello) -> Result<Instance, Status> {
        let mut instance = self.say(Said::Hello(hello)).await?;
        match instance.hears().await? {
            Some(Heard::Welcome(welcome)) => assert!(welcome.session_id.starts_with("stock-")),
            other => panic!("{other:?}"),
        }
        Ok(instance)
    }

    /// A stream whose first frame is this.
    pub(crate) async fn say(&self, first: Said) -> Result<Instance, Status> {
        let mut client = SessionServiceClient::connect(self.url.clone())
            .await
            .unwrap();
        let (says, requests) = mpsc::unbounded_channel();
        let frame = Some(first);
        says.send(OpenSessionRequest { frame }).unwrap();
        let opened = client.open_session(UnboundedReceiverStream::new(requests));
        let hears = within(opened).await?.into_inner();
        Ok(Instance { says, hears })
    }

    pub(crate) fn begin(&self, outgoing: Outgoing) -> JoinHandle<Answer> {
        tokio::spawn(self.calls.perform(outgoing))
    }

    pub(crate) fn begin_try(&self) -> JoinHandle<Answer> {
        self.begin(outgoing(Operation::Try, stock()))
    }

    pub(crate) async fn perform(&self, operation: Operation) -> Answer {
        within(self.calls.perform(outgoing(operation, stock()))).await
    }
}

impl Instance {
    pub(crate) fn says(&self, frame: Said) {
        let frame = Some(frame);
        let _ = self.says.send(OpenSessionRequest { frame }); // the stream may have ended
    }

    pub(crate) async fn hears(&mut self) -> Result<Option<Heard>, Status> {
        let frame = within(self.hears.message()).await?;
        Ok(frame.and_then(|it| it.frame))
    }

    /// So many calls, over as many frames as they take.
    pub(crate) async fn calls(&mut self, count: usize) -> Vec<SessionCall> {
        let mut calls = Vec::new();
        while calls.len() < count {
            match self.hears().await {
                Ok(Some(Heard::Calls(more))) => {
                    let more = more.calls.into_iter().map(SessionCall::decode);
                    calls.extend(more.map(|it| it.expect("it is read")));
                }
                Ok(Some(Heard::Heartbeat(_) | Heard::Drain(_))) => {}
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(calls.len(), count);
        calls
    }

    pub(crate) async fn call(&mut self) -> SessionCall {
        self.calls(1).await.remove(0)
    }

    pub(crate) fn replies(&self, replies: impl IntoIterator<Item = (u64, Response)>) {
        let replies = replies.into_iter().map(|(call_id, response)| SessionReply {
            call_id,
            response: Some(response),
        });
        let replies = replies.collect();
        self.says(Said::Replies(SessionReplies { replies }));
    }

    /// SUCCESS to a Try.
    pub(crate) fn succeeds(&self, call: &SessionCall) {
        self.replies([(call.call_id, success())]);
    }

    pub(crate) fn drains(&self) {
        self.says(Said::Drain(SessionDrain {}));
    }

    pub(crate) fn beats(&self) {
        self.says(Said::Heartbeat(SessionHeartbeat {}));
    }

    /// Ends its half, and waits until the coordinator has ended the other.
    pub(crate) async fn leave(self) {
        let Self { says, mut hears } = self;
        drop(says);
        while within(hears.message())
            .await
            .expect("it leaves in peace")
            .is_some()
        {}
    }

    /// How the coordinator ends it.
    pub(crate) async fn end(mut self) -> Result<(), Status> {
        while self.hears().await?.is_some() {}
        Ok(())
    }
}

pub(crate) fn success() -> Response {
    Response::TryReply(TryResponse {
        outcome: Outcome::Success.into(),
        ..TryResponse::default()
    })
}

#[track_caller]
pub(crate) fn indeterminate(answer: Answer) -> Failure {
    match answer {
        Answer::Indeterminate(failure) => failure,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    let what = tokio::time::timeout(PATIENCE, what).await;
    what.expect("it comes in time")
}
