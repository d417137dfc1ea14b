//! Reads what comes back on a stream: headers, one message, and the status at the end.

use h2::{RecvStream, client::ResponseFuture};
use prost::bytes::Bytes;
use tonic::{
    Code, Status,
    codegen::http::{HeaderMap, HeaderValue, StatusCode},
    metadata::MetadataMap,
};

use super::connection::Connection;
use crate::{
    http2::frame::{Incoming, Unreadable},
    participants::fault::Fault,
};

const STATUS: &str = "grpc-status";
const STATUS_DETAILS: &str = "grpc-status-details-bin";

/// What a participant answered with OK.
pub(in crate::participants) struct Reply {
    pub(in crate::participants) message: Bytes,
    headers: HeaderMap,
    trailers: HeaderMap,
}

/// Why there is no [`Reply`].
pub(in crate::participants) enum Failed {
    /// The participant said so.
    Status(Status),
    /// It came about on the way.
    Fault(Fault),
}

impl Reply {
    /// A trailer or header.
    pub(in crate::participants) fn header(&self, name: &str) -> Option<&HeaderValue> {
        self.trailers.get(name).or_else(|| self.headers.get(name))
    }
}

impl From<Fault> for Failed {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Failed> for Fault {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Status(status) => Self::Status(status),
            Failed::Fault(fault) => fault,
        }
    }
}

/// Waits for the reply and reads all of it.
pub(super) async fn read(
    connection: &Connection,
    response: ResponseFuture,
    bytes_max: usize,
) -> Result<Reply, Failed> {
    let response = response
        .await
        .map_err(|error| connection.unanswered(error))?;
    let (head, mut body) = response.into_parts();
    let broken = |error| connection.broken(error);
    // Where there is nothing else, the status stands in the headers.
    let early = told(&head.headers).transpose()?;
    let mut incoming = Incoming::default();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(broken)?;
        read_further(&mut body, piece.len());
        let pushed = incoming.push(piece, bytes_max);
        pushed.map_err(|why| unreadable(why, bytes_max))?;
    }
    let trailers = body.trailers().await.map_err(broken)?.unwrap_or_default();
    match told(&trailers).transpose()?.or(early) {
        Some(()) => {
            let message = incoming.message();
            Ok(Reply {
                message: message.map_err(|why| unreadable(why, bytes_max))?,
                headers: head.headers,
                trailers,
            })
        }
        None => Err(Failed::Status(untold(head.status))),
    }
}

fn unreadable(why: Unreadable, bytes_max: usize) -> Fault {
    match why {
        Unreadable::TooLarge => Fault::TooLarge { bytes_max },
        _ => Fault::Status(Status::internal(format!("the reply {why}"))),
    }
}

/// Lets the participant send as much again.
fn read_further(body: &mut RecvStream, bytes: usize) {
    // It fails only for more than has come.
    let _ = body.flow_control().release_capacity(bytes);
}

/// The status in headers or trailers, if there is one.
fn told(headers: &HeaderMap) -> Option<Result<(), Failed>> {
    let code = headers.get(STATUS)?;
    if code.as_bytes() == b"0" {
        return Some(Ok(()));
    }
    let status = if has_readable_details(headers) {
        Status::from_header_map(headers)
    } else {
        let mut headers = headers.clone();
        headers.remove(STATUS_DETAILS);
        Status::from_header_map(&headers)
    };
    Some(Err(Failed::Status(status.expect("there is a code"))))
}

/// tonic panics at details that are no base64.
fn has_readable_details(headers: &HeaderMap) -> bool {
    let Some(details) = headers.get(STATUS_DETAILS) else {
        return true;
    };
    let mut alone = HeaderMap::with_capacity(1);
    alone.insert(STATUS_DETAILS, details.clone());
    let alone = MetadataMap::from_headers(alone);
    let details = alone.get_bin(STATUS_DETAILS);
    details.is_some_and(|details| details.to_bytes().is_ok())
}

/// No status at all: somebody answered who doesn't speak gRPC, so HTTP's has to do, mapped as gRPC's
/// `http-grpc-status-mapping.md` says. An OK of HTTP is none.
fn untold(status: StatusCode) -> Status {
    let code = match status {
        StatusCode::BAD_REQUEST => Code::Internal,
        StatusCode::UNAUTHORIZED => Code::Unauthenticated,
        StatusCode::FORBIDDEN => Code::PermissionDenied,
        StatusCode::NOT_FOUND => Code::Unimplemented,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Code::Unavailable,
        _ => Code::Unknown,
    };
    Status::new(
        code,
        format!("the reply has no {STATUS}, and HTTP status {status}"),
    )
}
