//! A session of a participant that is a unary service in truth: calls are handed to it, its answers and
//! errors go back.

use std::sync::Arc;

use prost::Message as _;
use tercet::proto::tercet::participant::v1::{
    Failure, OpenSessionRequest, SessionCall, SessionHello, SessionReplies, SessionReply,
    open_session_request::Frame as Says, open_session_response::Frame as Hears,
    participant_service_server::ParticipantService, session_call::Request as Asked,
    session_reply::Response as Answered, session_service_client::SessionServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Status};

/// Opens one, which lasts as long as the coordinator or the test.
pub async fn open(participant: &str, coordinator: &str, service: Arc<impl ParticipantService>) {
    let (says, said) = mpsc::unbounded_channel();
    let hello = SessionHello {
        participant: participant.to_owned(),
        instance_id: "by-hand".to_owned(),
        max_in_flight: 1000,
        ..SessionHello::default()
    };
    say(&says, Says::Hello(hello));
    let mut client = SessionServiceClient::connect(coordinator.to_owned())
        .await
        .unwrap();
    let opened = client
        .open_session(UnboundedReceiverStream::new(said))
        .await;
    let mut frames = opened.unwrap().into_inner();
    tokio::spawn(async move {
        while let Ok(Some(frame)) = frames.message().await {
            match frame.frame {
                Some(Hears::Calls(calls)) => {
                    for call in calls.calls {
                        let call = SessionCall::decode(call).unwrap();
                        let (service, says) = (Arc::clone(&service), says.clone());
                        tokio::spawn(async move {
                            let replies = vec![answer(&*service, call).await];
                            say(&says, Says::Replies(SessionReplies { replies }));
                        });
                    }
                }
                // As good as one of our own: heartbeats come as often as they are due.
                Some(Hears::Heartbeat(beat)) => say(&says, Says::Heartbeat(beat)),
                Some(Hears::Welcome(_) | Hears::Drain(_)) | None => {}
            }
        }
    });
}

fn say(says: &mpsc::UnboundedSender<OpenSessionRequest>, frame: Says) {
    let frame = Some(frame);
    let _ = says.send(OpenSessionRequest { frame }); // the coordinator may have left
}

async fn answer(service: &impl ParticipantService, call: SessionCall) -> SessionReply {
    let answer = match call.request.expect("this version knows it") {
        Asked::TryCall(it) => {
            let reply = service.r#try(Request::new(it)).await;
            reply.map(|it| Answered::TryReply(it.into_inner()))
        }
        Asked::ConfirmCall(it) => {
            let reply = service.confirm(Request::new(it)).await;
            reply.map(|it| Answered::ConfirmReply(it.into_inner()))
        }
        Asked::CancelCall(it) => {
            let reply = service.cancel(Request::new(it)).await;
            reply.map(|it| Answered::CancelReply(it.into_inner()))
        }
        Asked::QueryCall(it) => {
            let reply = service.query(Request::new(it)).await;
            reply.map(|it| Answered::QueryReply(it.into_inner()))
        }
    };
    SessionReply {
        call_id: call.call_id,
        response: Some(answer.unwrap_or_else(|status| Answered::Indeterminate(failure(&status)))),
    }
}

fn failure(status: &Status) -> Failure {
    Failure {
        message: status.message().to_owned(),
        code: status.code().into(),
        ..Failure::default()
    }
}
