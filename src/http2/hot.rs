//! A hot call: read, answered and sent without leaving the connection's task.

use std::{future::poll_fn, sync::Arc};

use h2::{RecvStream, server::SendResponse};
use prost::bytes::Bytes;
use tonic::{
    Status,
    codegen::http::{HeaderMap, HeaderValue, Method, Request, Response, header::CONTENT_TYPE},
};

use super::{Calls, HotCall, Refusal, body::RequestBody, frame::Incoming, others, panic::caught};

const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// How a hot call has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// Or not even read, since its caller had given up by then.
    Refused,
    /// Answered, handed on, or given up later.
    Otherwise,
}

/// Whether it is the hot call, in the usual words.
pub(super) fn is_meant<H: HotCall>(request: &Request<RecvStream>) -> bool {
    let header = |name| request.headers().get(name).map(HeaderValue::as_bytes);
    request.uri().path() == H::PATH
        && request.method() == Method::POST
        && matches!(
            header("content-type"),
            Some(b"application/grpc" | b"application/grpc+proto")
        )
        && matches!(header("grpc-encoding"), None | Some(b"identity"))
}

/// Answers it, unless its caller goes away.
pub(super) async fn answer<H: HotCall>(
    calls: Arc<Calls<H>>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Ended {
    let (mut head, mut stream) = request.into_parts();
    let mut incoming = Incoming::default();
    let bytes_max = calls.hot.message_bytes_max();
    let (message, trailers) = match read(&mut stream, &mut incoming, bytes_max).await {
        Ok(Some(read)) => read,
        Ok(None) => {
            let body = RequestBody::begun(incoming.take(), stream);
            let request = Request::from_parts(head, body);
            tokio::spawn(others::answer(calls.others.clone(), request, respond));
            return Ended::Otherwise;
        }
        Err(error) => {
            tracing::debug!(%error, "a request broke off");
            return Ended::Refused;
        }
    };
    drop(stream);
    head.headers.extend(trailers);
    let handler = caught(calls.hot.clone().answer(head.headers, message));
    let answer = tokio::select! {
        biased;
        answer = handler => answer,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return Ended::Otherwise,
    };
    let (ended, sent) = match answer {
        Ok(Ok(frame)) => (Ended::Otherwise, reply(&mut respond, frame)),
        Ok(Err(refusal)) => (Ended::Refused, refuse(&mut respond, refusal)),
        Err(fault) => (Ended::Refused, refuse(&mut respond, fault.into())),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer could not be sent");
    }
    ended
}

/// The message and the trailers; none when it is not plainly one message. What has been read of it is
/// then left in `incoming`.
async fn read(
    stream: &mut RecvStream,
    incoming: &mut Incoming,
    bytes_max: usize,
) -> Result<Option<(Bytes, HeaderMap)>, h2::Error> {
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        // It fails only for more than has come.
        let _ = stream.flow_control().release_capacity(piece.len());
        if incoming.push(piece, bytes_max).is_err() {
            return Ok(None);
        }
    }
    let Ok(message) = incoming.message() else {
        return Ok(None);
    };
    let trailers = stream.trailers().await?;
    Ok(Some((message, trailers.unwrap_or_default())))
}

fn reply(respond: &mut SendResponse<Bytes>, frame: Bytes) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    head.headers_mut().insert(CONTENT_TYPE, GRPC);
    let mut stream = respond.send_response(head, false)?;
    // What the client's window has no room for yet waits within the stream, which is open as long, and
    // counts.
    stream.send_data(frame, false)?;
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(Status::GRPC_STATUS, HeaderValue::from_static("0"));
    stream.send_trailers(trailers)
}

fn refuse(respond: &mut SendResponse<Bytes>, refusal: Refusal) -> Result<(), h2::Error> {
    let mut head = Response::new(());
    *head.headers_mut() = refusal.0;
    respond.send_response(head, true).map(drop)
}
