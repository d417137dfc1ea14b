//! Replies, well and badly made.

use prost::bytes::Bytes;
use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, Response, StatusCode},
};

use super::{BYTES_MAX, answer_ok, answering, call, fault, held, indeterminate, status};
use crate::participants::{
    fault::Fault,
    wire::{Failed, Reply, framed_bytes},
};

/// A reply whose body comes in these pieces, with these trailers.
async fn reply(pieces: Vec<Bytes>, trailers: Option<HeaderMap>) -> Result<Reply, Failed> {
    http_reply(StatusCode::OK, pieces, trailers).await
}

async fn http_reply(
    code: StatusCode,
    pieces: Vec<Bytes>,
    trailers: Option<HeaderMap>,
) -> Result<Reply, Failed> {
    let wire = answering(move |mut to| {
        let mut head = Response::new(());
        *head.status_mut() = code;
        let mut body = to.send_response(head, false).unwrap();
        for piece in &pieces {
            body.send_data(piece.clone(), false).unwrap();
        }
        match &trailers {
            Some(trailers) => body.send_trailers(trailers.clone()).unwrap(),
            None => body.send_data(Bytes::new(), true).unwrap(),
        }
    });
    call(&wire).await
}

/// A reply that is nothing but these headers.
async fn headers_only(headers: HeaderMap) -> Result<Reply, Failed> {
    let wire = answering(move |mut to| {
        let mut head = Response::new(());
        *head.headers_mut() = headers.clone();
        to.send_response(head, true).unwrap();
    });
    call(&wire).await
}

fn said(reply: Result<Reply, Failed>) -> Status {
    match reply {
        Ok(reply) => panic!("a reply came: {:?}", reply.message),
        Err(Failed::Fault(fault)) => panic!("{fault:?}"),
        Err(Failed::Status(status)) => status,
    }
}

#[tokio::test]
async fn a_message_and_ok() {
    held(call(&answering(answer_ok)).await);
}

#[tokio::test]
async fn a_message_in_pieces_of_one_byte() {
    let message = framed_bytes(b"held");
    let pieces = message.chunks(1).map(Bytes::copy_from_slice).collect();
    held(reply(pieces, Some(status("0"))).await);
}

#[tokio::test]
async fn an_empty_message_is_one() {
    let reply = reply(vec![framed_bytes(b"")], Some(status("0"))).await;
    assert_eq!(reply.ok().map(|it| it.message), Some(Bytes::new()));
}

#[tokio::test]
async fn a_message_larger_than_the_windows() {
    let wire = answering(|mut to| {
        let mut body = to.send_response(Response::new(()), false).unwrap();
        let message = framed_bytes(&vec![7; 20_000_000]);
        body.send_data(message, false).unwrap();
        body.send_trailers(status("0")).unwrap();
    });
    let reply = wire.call(super::request(b"much"), 20_000_000).await;
    let message = reply.ok().expect("it is within the limit").message;
    assert_eq!(message.len(), 20_000_000);
    assert!(message.iter().all(|byte| *byte == 7));
}

#[tokio::test]
async fn headers_and_trailers_are_kept_and_trailers_win() {
    let wire = answering(|mut to| {
        let head = Response::builder()
            .header("a", "early")
            .header("b", "early");
        let mut body = to.send_response(head.body(()).unwrap(), false).unwrap();
        body.send_data(framed_bytes(b""), false).unwrap();
        let mut trailers = status("0");
        trailers.insert("b", "late".parse().unwrap());
        body.send_trailers(trailers).unwrap();
    });
    let reply = call(&wire).await.ok().expect("it says OK");
    let header = |name| reply.header(name).map(|value| value.to_str().unwrap());
    assert_eq!(
        (header("a"), header("b"), header("c")),
        (Some("early"), Some("late"), None)
    );
}

#[tokio::test]
async fn a_status_counts_for_more_than_a_message() {
    let reply = reply(vec![framed_bytes(b"held")], Some(status("9"))).await;
    assert_eq!(said(reply).code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_status_alone_with_its_message_decoded() {
    let mut headers = status("5");
    headers.insert("grpc-message", "%E2%82%AC 5, 100%25".parse().unwrap());
    headers.insert("grpc-status-details-bin", "aGVsZA".parse().unwrap());
    let status = said(headers_only(headers).await);
    assert_eq!(
        (status.code(), status.message()),
        (Code::NotFound, "€ 5, 100%")
    );
    assert_eq!(status.details(), b"held");
}

/// tonic panics there.
#[tokio::test]
async fn details_that_are_no_base64_are_left_out() {
    let mut headers = status("5");
    headers.insert("grpc-status-details-bin", "a?".parse().unwrap());
    for reply in [
        headers_only(headers.clone()).await,
        reply(vec![framed_bytes(b"held")], Some(headers)).await,
    ] {
        let status = said(reply);
        assert_eq!(
            (status.code(), status.details()),
            (Code::NotFound, &b""[..])
        );
    }
}

#[tokio::test]
async fn ok_without_a_message_is_unreadable() {
    assert_eq!(
        indeterminate(headers_only(status("0")).await),
        "the reply has no message"
    );
    assert_eq!(
        indeterminate(reply(vec![], Some(status("0"))).await),
        "the reply has no message"
    );
}

#[tokio::test]
async fn a_message_cut_short_is_unreadable() {
    for len in 1..9 {
        let piece = framed_bytes(b"held").slice(..len);
        let reply = reply(vec![piece], Some(status("0"))).await;
        assert_eq!(
            indeterminate(reply),
            "the reply is cut short",
            "after {len}"
        );
    }
}

#[tokio::test]
async fn a_compressed_message_is_unreadable() {
    let reply = reply(vec![b"\x01\0\0\0\x04held"[..].into()], Some(status("0"))).await;
    assert!(indeterminate(reply).contains("compressed"));
}

#[tokio::test]
async fn what_is_no_frame_is_unreadable() {
    let reply = reply(vec![b"<html>"[..].into()], Some(status("0"))).await;
    assert_eq!(indeterminate(reply), "the reply begins with 60, not with 0");
}

#[tokio::test]
async fn two_messages_are_unreadable_together_or_apart() {
    let message = framed_bytes(b"held");
    let joined = [&message[..], &message[..]].concat().into();
    for pieces in [vec![joined], vec![message.clone(), message]] {
        let reply = reply(pieces, Some(status("0"))).await;
        assert_eq!(indeterminate(reply), "the reply has more than one message");
    }
}

/// None of it has to come for that.
#[tokio::test]
async fn a_message_above_the_limit_is_refused_when_it_is_announced() {
    let wire = answering(|mut to| {
        let mut body = to.send_response(Response::new(()), false).unwrap();
        let [a, b, c, d] = (BYTES_MAX as u32 + 1).to_be_bytes();
        body.send_data(vec![0, a, b, c, d].into(), false).unwrap();
        std::mem::forget(body); // and nothing more comes
    });
    let fault = fault(call(&wire).await);
    assert!(
        matches!(
            fault,
            Fault::TooLarge {
                bytes_max: BYTES_MAX
            }
        ),
        "{fault:?}"
    );
}

#[tokio::test]
async fn without_a_status_http_has_to_say_what_happened() {
    for (http, code) in [
        (200, Code::Unknown),
        (401, Code::Unauthenticated),
        (404, Code::Unimplemented),
        (503, Code::Unavailable),
        (500, Code::Unknown),
    ] {
        let http = StatusCode::from_u16(http).unwrap();
        assert_eq!(said(http_reply(http, vec![], None).await).code(), code);
    }
    let message = vec![framed_bytes(b"held")];
    for trailers in [None, Some(HeaderMap::new())] {
        assert_eq!(
            said(reply(message.clone(), trailers).await).code(),
            Code::Unknown
        );
    }
}
