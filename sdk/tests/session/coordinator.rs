//! The scripted coordinator, and the participant under test.

use std::{convert::Infallible, future::pending, io, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use hyper_util::rt::TokioIo;
use tercet_sdk::{
    participant::{
        Branch, Later, MemoryFence, Participant, Resource, ServeError, TryError, refuse,
    },
    proto::participant::v1::{
        BranchContext, OpenSessionRequest, OpenSessionResponse, Payload, SessionCall, SessionCalls,
        SessionHeartbeat, SessionHello, SessionReply, SessionWelcome, TryRequest,
        open_session_request::Frame as Heard,
        open_session_response::Frame as Said,
        session_call::Request as Call,
        session_reply::Response as Reply,
        session_service_server::{SessionService, SessionServiceServer},
    },
};
use tokio::{
    io::DuplexStream,
    sync::{Notify, mpsc, oneshot},
    task::JoinHandle,
};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};

pub const HEARTBEAT: Duration = Duration::from_secs(1);

/// Seats: how many are free, held and sold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plane {
    pub free: i64,
    pub held: i64,
    pub sold: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Seats {
    #[prost(int64, tag = "1")]
    pub count: i64,
}

/// Books one seat; 13 make it panic, more than are free are refused.
#[derive(Clone, Default)]
pub struct Booking {
    /// Set: every Try waits for it.
    pub gate: Option<Arc<Notify>>,
    pub begun: Arc<Notify>,
}

impl Resource<Plane> for Booking {
    const NAME: &'static str = "seat";
    type Request = Seats;
    type Held = Seats;

    async fn on_try(&self, it: &mut Plane, _: &Branch, ask: Seats) -> Result<Seats, TryError> {
        assert_ne!(ask.count, 13, "nobody sits there");
        self.begun.notify_one();
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        if it.free < ask.count {
            return Err(refuse("SOLD_OUT"));
        }
        it.free -= ask.count;
        it.held += ask.count;
        Ok(ask)
    }

    async fn on_confirm(&self, it: &mut Plane, _: &Branch, held: Seats) -> Result<(), Later> {
        it.held -= held.count;
        it.sold += held.count;
        Ok(())
    }

    async fn on_cancel(&self, it: &mut Plane, _: &Branch, held: Seats) -> Result<(), Later> {
        it.held -= held.count;
        it.free += held.count;
        Ok(())
    }
}

/// One session, as the coordinator has it.
pub struct Session {
    pub hello: SessionHello,
    says: mpsc::UnboundedSender<Result<OpenSessionResponse, Status>>,
    pub hears: Streaming<OpenSessionRequest>,
}

/// A session that is asked for: the answer to it opens or refuses it.
pub struct Asked {
    hello: SessionHello,
    hears: Streaming<OpenSessionRequest>,
    answer: oneshot::Sender<Result<Says, Status>>,
}

type Says = UnboundedReceiverStream<Result<OpenSessionResponse, Status>>;

pub struct Coordinator {
    asked: mpsc::UnboundedReceiver<Asked>,
    pub fence: MemoryFence<Plane>,
    stop: Option<oneshot::Sender<()>>,
    pub participant: JoinHandle<Result<(), ServeError>>,
}

struct Door(mpsc::UnboundedSender<Asked>);

#[tonic::async_trait]
impl SessionService for Door {
    type OpenSessionStream =
        Pin<Box<dyn Stream<Item = Result<OpenSessionResponse, Status>> + Send>>;

    async fn open_session(
        &self,
        request: Request<Streaming<OpenSessionRequest>>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let mut hears = request.into_inner();
        let Some(Heard::Hello(hello)) = hears.message().await?.and_then(|it| it.frame) else {
            panic!("the first frame is a hello");
        };
        let (answer, answered) = oneshot::channel();
        let asked = Asked {
            hello,
            hears,
            answer,
        };
        let away = || Status::unavailable("nobody is there");
        self.0.send(asked).map_err(|_| away())?;
        match answered.await {
            Ok(says) => Ok(Response::new(Box::pin(says?))),
            Err(_) => pending().await,
        }
    }
}

impl Coordinator {
    pub fn start(booking: Booking) -> Self {
        let (asks, asked) = mpsc::unbounded_channel();
        let plane = Plane {
            free: 100,
            held: 0,
            sold: 0,
        };
        let fence = MemoryFence::new(plane);
        let participant = Participant::new("airline", fence.clone())
            .resource(booking)
            .max_in_flight(7);
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move {
            let _ = stopped.await; // a dropped test stops it too
        };
        let participant = tokio::spawn(participant.connect_with_channel(to(asks), shutdown));
        Self {
            asked,
            fence,
            stop: Some(stop),
            participant,
        }
    }

    pub async fn asked(&mut self) -> Asked {
        self.asked.recv().await.expect("it goes on asking")
    }

    pub async fn session(&mut self) -> Session {
        self.asked().await.welcome()
    }

    pub fn stop(&mut self) {
        self.stop = None;
    }

    pub async fn plane(&self) -> Plane {
        self.fence.read(|it| *it).await
    }
}

/// A channel whose every connection goes to a new door.
pub fn to(asks: mpsc::UnboundedSender<Asked>) -> Channel {
    let connector = tower::service_fn(move |_| {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let incoming = futures::stream::iter([Ok::<DuplexStream, io::Error>(theirs)]);
        let door = SessionServiceServer::new(Door(asks.clone()));
        tokio::spawn(
            Server::builder()
                .add_service(door)
                .serve_with_incoming(incoming),
        );
        async move { Ok::<_, Infallible>(TokioIo::new(ours)) }
    });
    Endpoint::from_static("http://coordinator").connect_with_connector_lazy(connector)
}

impl Asked {
    pub fn welcome(self) -> Session {
        let (says, said) = mpsc::unbounded_channel();
        let _ = self.answer.send(Ok(UnboundedReceiverStream::new(said))); // it may have left
        let session = Session {
            hello: self.hello,
            says,
            hears: self.hears,
        };
        session.says(Said::Welcome(SessionWelcome {
            session_id: "airline-1".into(),
            heartbeat_interval: Some(HEARTBEAT.try_into().unwrap()),
        }));
        session
    }

    pub fn refuse(self, status: Status) {
        let _ = self.answer.send(Err(status)); // it may have left
    }
}

impl Session {
    pub fn says(&self, frame: Said) {
        let frame = Some(frame);
        let _ = self.says.send(Ok(OpenSessionResponse { frame })); // it may have left
    }

    pub fn ends(&self, status: Status) {
        let _ = self.says.send(Err(status)); // the same
    }

    pub fn beats(&self) {
        self.says(Said::Heartbeat(SessionHeartbeat {}));
    }

    pub fn calls(&self, calls: impl IntoIterator<Item = (u64, Call)>) {
        let calls = calls.into_iter().map(|(call_id, request)| SessionCall {
            call_id,
            request: Some(request),
            ..SessionCall::default()
        });
        let calls = calls.collect();
        self.says(Said::Calls(SessionCalls { calls }));
    }

    /// The next frame that is no heartbeat.
    pub async fn hears(&mut self) -> Option<Heard> {
        loop {
            match self.hears.message().await.ok()??.frame {
                Some(Heard::Heartbeat(_)) => {}
                frame => return frame,
            }
        }
    }

    pub async fn replies(&mut self, count: usize) -> Vec<SessionReply> {
        let mut replies = Vec::new();
        while replies.len() < count {
            match self.hears().await {
                Some(Heard::Replies(more)) => replies.extend(more.replies),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(replies.len(), count);
        replies
    }

    pub async fn answer(&mut self, call: Call) -> Reply {
        self.calls([(1, call)]);
        let reply = self.replies(1).await.remove(0);
        assert_eq!(reply.call_id, 1);
        reply.response.expect("something")
    }
}

/// What a call is about.
pub fn context(id: &str) -> Option<BranchContext> {
    Some(BranchContext {
        transaction_id: id.into(),
        branch_id: "b1".into(),
        resource: "seat".into(),
        attempt: 1,
        expire_time: Some(prost_types::Timestamp {
            seconds: 4_000_000_000,
            nanos: 0,
        }),
        epoch: 1,
        realm: "here".into(),
        ..BranchContext::default()
    })
}

pub fn a_try(id: &str, count: i64) -> Call {
    Call::TryCall(TryRequest {
        context: context(id),
        payload: Some(Payload::message(&Seats { count })),
    })
}
