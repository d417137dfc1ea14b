//! A participant that connects out: its session goes through a door in its own process, which treats
//! calls and replies as its mood has them.
//!
//! ```text
//! the SDK ──in memory──▶ the door ──simulated network──▶ the coordinator
//! ```

use std::{collections::BTreeMap, convert::Infallible, io, sync::Arc, time::Duration};

use futures::stream;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use prost::Message as _;
use tercet::proto::{
    SessionCalls,
    tercet::participant::v1::{
        Failure, OpenSessionRequest, OpenSessionResponse, SessionCall, SessionReplies,
        SessionReply,
        open_session_request::Frame as Up,
        open_session_response::Frame as Down,
        session_call::Request as Asked,
        session_reply::Response as Answered,
        session_service_client::SessionServiceClient,
        session_service_server::{SessionService, SessionServiceServer},
    },
};
use tokio::{io::DuplexStream, sync::mpsc};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Channel, Endpoint, Server},
};
use tower::service_fn;

use super::{
    coordinator,
    mood::{Fate, Moods},
    wires::Wires,
};

/// As the SDK has them when it connects by itself.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is in the buffer between the SDK and the door.
const DUPLEX_BYTES: usize = 64 * 1024;

/// What the SDK connects through.
pub fn channel(wires: &Wires, moods: Moods) -> Channel {
    let url = format!("http://{}:{}", coordinator::HOST, coordinator::PORT);
    let endpoint = Endpoint::from_shared(url).expect("it is a URL");
    let endpoint = endpoint
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    let door = Door {
        coordinator: wires.channel(&endpoint),
        moods,
    };
    let connector = service_fn(move |_| {
        let (ours, theirs) = tokio::io::duplex(DUPLEX_BYTES);
        let incoming = stream::iter([Ok::<DuplexStream, io::Error>(theirs)]);
        let door = SessionServiceServer::new(door.clone());
        tokio::spawn(
            Server::builder()
                .add_service(door)
                .serve_with_incoming(incoming),
        );
        async move { Ok::<_, Infallible>(TokioIo::new(ours)) }
    });
    Endpoint::from_static("http://door").connect_with_connector_lazy(connector)
}

#[derive(Clone)]
struct Door {
    coordinator: Channel,
    moods: Moods,
}

type ToSdk = mpsc::UnboundedSender<Result<OpenSessionResponse, Status>>;
type ToCoordinator = mpsc::UnboundedSender<OpenSessionRequest>;
/// What is done to replies that are to come.
type Fates = Arc<Mutex<BTreeMap<u64, Fate>>>;

#[tonic::async_trait]
impl SessionService for Door {
    type OpenSessionStream = UnboundedReceiverStream<Result<OpenSessionResponse, Status>>;

    async fn open_session(
        &self,
        request: Request<Streaming<OpenSessionRequest>>,
    ) -> Result<Response<Self::OpenSessionStream>, Status> {
        let (up, sent_up) = mpsc::unbounded_channel();
        let (down, sent_down) = mpsc::unbounded_channel();
        let fates = Fates::default();
        let replies = pass_replies(request.into_inner(), up.clone(), Arc::clone(&fates));
        tokio::spawn(replies);
        let mut coordinator = SessionServiceClient::new(self.coordinator.clone());
        let opened = coordinator.open_session(UnboundedReceiverStream::new(sent_up));
        let frames = opened.await?.into_inner();
        let pass = Pass {
            moods: self.moods.clone(),
            fates,
            up,
            down,
        };
        tokio::spawn(pass.calls(frames));
        Ok(Response::new(UnboundedReceiverStream::new(sent_down)))
    }
}

/// Until one of the two has no more to say, or to hear.
async fn pass_replies(mut frames: Streaming<OpenSessionRequest>, up: ToCoordinator, fates: Fates) {
    loop {
        let frame = tokio::select! {
            biased;
            () = up.closed() => return,
            frame = frames.message() => frame,
        };
        let Ok(Some(mut request)) = frame else { return };
        if let Some(Up::Replies(replies)) = &mut request.frame {
            let given = std::mem::take(&mut replies.replies);
            let mut fates = fates.lock();
            replies.replies = given
                .into_iter()
                .filter_map(|reply| match fates.remove(&reply.call_id) {
                    Some(Fate::DoneButError(code)) => Some(error(reply.call_id, code)),
                    Some(_) => None, // lost
                    None => Some(reply),
                })
                .collect();
        }
        let _ = up.send(request); // the coordinator may have left
    }
}

/// Calls on their way to the SDK.
struct Pass {
    moods: Moods,
    fates: Fates,
    up: ToCoordinator,
    down: ToSdk,
}

impl Pass {
    async fn calls(self, mut frames: Streaming<OpenSessionResponse>) {
        loop {
            let frame = tokio::select! {
                biased;
                () = self.down.closed() => return,
                frame = frames.message() => frame,
            };
            let response = match frame {
                Ok(Some(response)) => response,
                Ok(None) => return,
                Err(status) => {
                    let _ = self.down.send(Err(status)); // the SDK may have left
                    return;
                }
            };
            match response.frame {
                Some(Down::Calls(calls)) => calls
                    .calls
                    .into_iter()
                    .for_each(|it| self.call(SessionCall::decode(it).unwrap())),
                frame => drop(self.down.send(Ok(OpenSessionResponse { frame }))), // the same
            }
        }
    }

    fn call(&self, call: SessionCall) {
        let fate = self
            .moods
            .fate(matches!(call.request, Some(Asked::QueryCall(_))));
        match fate {
            Fate::Done => deliver(&self.down, call),
            Fate::Stuck => {}
            Fate::Error(code) => {
                let replies = vec![error(call.call_id, code)];
                let frame = Some(Up::Replies(SessionReplies { replies }));
                let _ = self.up.send(OpenSessionRequest { frame }); // it may have left
            }
            Fate::DoneButError(_) | Fate::ReplyLost => {
                self.fates.lock().insert(call.call_id, fate);
                deliver(&self.down, call);
            }
            Fate::Slow(wait) => deliver_later(&self.down, call, wait),
            Fate::Late(wait) => {
                self.fates.lock().insert(call.call_id, fate);
                deliver_later(&self.down, call, wait);
            }
        }
    }
}

fn deliver(to: &ToSdk, call: SessionCall) {
    let frame = Some(Down::Calls(SessionCalls {
        calls: vec![call.encode_to_vec().into()],
    }));
    let _ = to.send(Ok(OpenSessionResponse { frame })); // the SDK may have left
}

fn deliver_later(to: &ToSdk, call: SessionCall, wait: Duration) {
    let to = to.clone();
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        deliver(&to, call);
    });
}

fn error(call_id: u64, code: Code) -> SessionReply {
    let failure = Failure {
        message: "something went wrong".into(),
        code: code.into(),
        ..Failure::default()
    };
    SessionReply {
        call_id,
        response: Some(Answered::Indeterminate(failure)),
    }
}
