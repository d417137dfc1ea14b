//! Frames that nobody should have sent: whatever they are, the session goes on or ends, calls come to
//! an answer, and other sessions don't notice.

use proptest::{collection::vec, prelude::*};
use prost::{Message as _, bytes::Bytes};
use tercet::proto::tercet::participant::v1::{
    Failure, OpenSessionRequest, Outcome, Payload, SessionDrain, SessionHeartbeat, SessionReplies,
    SessionReply, TryResponse, open_session_request::Frame as Said, session_reply::Response,
};
use tercet_core::answer::Answer;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{
    Request, Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel,
};

use super::{Coordinator, config, hello, within};
use crate::{
    mangle::{Mangling, cases, mangled, manglings},
    support::Raw,
};

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn whatever_comes_over_a_session_concerns_nobody_else(
        hello_manglings in prop::option::of(manglings()),
        frames in vec((0..4_usize, manglings()), 1..4),
        garbage in vec(any::<u8>(), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(concerns_nobody_else(hello_manglings, frames, garbage));
    }
}

async fn concerns_nobody_else(
    hello_manglings: Option<Vec<Mangling>>,
    frames: Vec<(usize, Vec<Mangling>)>,
    garbage: Vec<u8>,
) {
    let coordinator = Coordinator::start(&config(&[])).await;
    let (says, said) = mpsc::unbounded_channel();
    let first = encoded(Said::Hello(hello("hostile")));
    let first = hello_manglings.map_or(first.clone(), |it| mangled(&first, &it));
    says.send(Bytes::from(first)).unwrap();
    if let Ok(mut heard) = within(open(&coordinator.url, said)).await {
        let answers = [coordinator.begin_try(), coordinator.begin_try()];
        for (kind, manglings) in frames {
            let frame = mangled(&encoded(frame(kind)), &manglings);
            let _ = says.send(frame.into()); // it may have been thrown out
        }
        let _ = says.send(garbage.into()); // the same
        drop(says);
        while let Ok(Some(_)) = within(heard.message()).await {}
        for answer in answers {
            within(answer).await.expect("no call panics");
        }
    }

    let mut good = coordinator.instance("good").await;
    let answer = coordinator.begin_try();
    let call = good.call().await;
    good.succeeds(&call);
    assert_eq!(within(answer).await.unwrap(), Answer::Success(None));
}

async fn open(url: &str, said: mpsc::UnboundedReceiver<Bytes>) -> Result<Streaming<Bytes>, Status> {
    let channel = Channel::from_shared(url.to_owned()).unwrap();
    let mut grpc = Grpc::new(channel.connect().await.unwrap());
    grpc.ready().await.unwrap();
    let path = "/tercet.participant.v1.SessionService/OpenSession";
    let frames = Request::new(UnboundedReceiverStream::new(said));
    let opened = grpc
        .streaming(frames, PathAndQuery::from_static(path), Raw)
        .await;
    opened.map(tonic::Response::into_inner)
}

fn encoded(frame: Said) -> Vec<u8> {
    let frame = Some(frame);
    OpenSessionRequest { frame }.encode_to_vec()
}

/// A valid one, about calls that are out, perhaps.
fn frame(kind: usize) -> Said {
    let reply = |call_id, response| SessionReply {
        call_id,
        response: Some(response),
    };
    match kind {
        0 => Said::Heartbeat(SessionHeartbeat {}),
        1 => Said::Drain(SessionDrain {}),
        _ => {
            let success = Response::TryReply(TryResponse {
                outcome: Outcome::Success.into(),
                result: Some(Payload {
                    type_url: "json".into(),
                    value: b"{}".as_slice().into(),
                }),
                ..TryResponse::default()
            });
            let failure = Response::Indeterminate(Failure {
                reason: "AWAY".into(),
                message: "not now".into(),
                metadata: [("a".into(), "b".into())].into(),
                code: 14,
            });
            let replies = vec![reply(1, success), reply(2, failure)];
            Said::Replies(SessionReplies { replies })
        }
    }
}
