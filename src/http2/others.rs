//! All other calls: tonic's services answer them.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
};

use h2::{Reason, SendStream, server::SendResponse};
use http_body::Body as _;
use prost::bytes::Bytes;
use tonic::{
    body::Body,
    codegen::{
        Service as _,
        http::{Request, Response},
    },
    service::Routes,
};

use super::{body::RequestBody, panic::caught};

/// Answers one call, unless its caller goes away.
pub(super) async fn answer(
    mut routes: Routes,
    request: Request<RequestBody>,
    mut respond: SendResponse<Bytes>,
) {
    let request = request.map(Body::new);
    let handler = caught(async move { routes.call(request).await });
    let answer = tokio::select! {
        biased;
        answer = handler => answer,
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return,
    };
    let answer = match answer {
        Ok(Ok(answer)) => answer,
        Ok(Err(never)) => match never {},
        Err(status) => status.into_http(),
    };
    if let Err(error) = send(&mut respond, answer).await {
        tracing::debug!(%error, "an answer could not be sent");
    }
}

async fn send(respond: &mut SendResponse<Bytes>, answer: Response<Body>) -> Result<(), h2::Error> {
    let (head, mut body) = answer.into_parts();
    let is_all = body.is_end_stream();
    let mut stream = respond.send_response(Response::from_parts(head, ()), is_all)?;
    if is_all {
        return Ok(());
    }
    loop {
        let next = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        let frame = match unless_reset(&mut stream, next).await? {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                tracing::debug!(%error, "an answer broke off");
                stream.send_reset(Reason::INTERNAL_ERROR);
                return Ok(());
            }
            None => return stream.send_data(Bytes::new(), true),
        };
        match frame.into_data() {
            Ok(piece) if piece.is_empty() => {}
            Ok(piece) => {
                room(&mut stream).await?;
                stream.send_data(piece, false)?;
            }
            Err(frame) => match frame.into_trailers() {
                Ok(trailers) => return stream.send_trailers(trailers),
                Err(_unknown) => {}
            },
        }
    }
}

/// An error when the caller resets the stream, or the connection ends, first.
async fn unless_reset<T>(
    stream: &mut SendStream<Bytes>,
    next: impl Future<Output = T>,
) -> Result<T, h2::Error> {
    tokio::select! {
        biased;
        reset = poll_fn(|cx| stream.poll_reset(cx)) => Err(reset?.into()),
        next = next => Ok(next),
    }
}

/// Waits until the client takes more. Only one byte is asked for: what a stream asks for, others don't
/// get, and the rest of a piece waits within the stream.
async fn room(stream: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match poll_fn(|cx| stream.poll_capacity(cx)).await {
            Some(capacity) => drop(capacity?),
            None => return Err(Reason::CANCEL.into()),
        }
    }
    Ok(())
}
