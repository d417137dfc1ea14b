//! One HTTP/2 connection: a task that moves its bytes, and the streams that calls open on it.

use std::{
    future::poll_fn,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use h2::{
    Reason,
    client::{self, ResponseFuture, SendRequest},
};
use prost::bytes::Bytes;
use tonic::{Status, codegen::http};

use super::connector::Bidirectional;
use crate::{
    gate::{Gate, Permit},
    http2::{
        gather::Gather,
        silence::{TIMEOUT, silence},
    },
    participants::fault::Fault,
};

/// Windows that no usual reply fills: one slow reader must not hold up other calls.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Response headers and trailers; a longer error message than this is an unreadable reply.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// How many streams a participant may make us reset by breaking the protocol.
const LOCAL_ERROR_RESET_STREAMS_MAX: usize = 1024;
/// Until the participant has said how many streams it takes.
const STREAMS_UNTIL_TOLD: usize = 100;

/// A connection that calls share. It ends when the last of them lets go of it.
pub(super) struct Connection {
    requests: SendRequest<Bytes>,
    /// As many as the participant allows.
    streams: Arc<Gate>,
    /// It ended because a ping was not answered.
    is_silent: Arc<AtomicBool>,
}

/// Leave to open one stream.
pub(super) struct Slot {
    requests: SendRequest<Bytes>,
    stream: Permit,
}

impl Connection {
    /// Starts HTTP/2. Nothing but its preface is sent here.
    pub(super) async fn over(
        bytes: Box<dyn Bidirectional>,
        reset_stream_duration: Duration,
    ) -> io::Result<Self> {
        let mut settings = settings();
        settings.reset_stream_duration(reset_stream_duration);
        let handshake = settings.handshake(Gather::new(bytes)).await;
        let (requests, connection) = handshake.map_err(io::Error::other)?;
        let streams = Gate::new(usize::MAX, (STREAMS_UNTIL_TOLD, 0));
        let is_silent = Arc::default();
        tokio::spawn(run(
            connection,
            Arc::clone(&streams),
            Arc::clone(&is_silent),
        ));
        Ok(Self {
            requests,
            streams,
            is_silent,
        })
    }

    /// Waits for a free stream. An error says that this connection takes no more calls.
    ///
    /// h2 has streams wait as well, but those who open them by the same handle do so one after the other, each
    /// in a turn of its own: of those that get free together one was taken, and sent alone.
    pub(super) async fn slot(&self) -> Result<Slot, h2::Error> {
        let stream = Gate::enter(&self.streams).await;
        let mut requests = self.requests.clone();
        poll_fn(|cx| requests.poll_ready(cx)).await?;
        Ok(Slot { requests, stream })
    }

    /// What it means that a stream ended like this before anything of a reply had come.
    ///
    /// A participant that refuses a stream, or goes away with a last stream before ours, has not
    /// looked at the request (RFC 9113, 8.7 and 6.8). h2 gives the error of a GOAWAY that has come
    /// to no other streams than those.
    pub(super) fn unanswered(&self, error: h2::Error) -> Fault {
        let unseen = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
        if error.is_remote() && unseen {
            Fault::NeverLeft(Status::from_error(Box::new(error)))
        } else {
            self.broken(error)
        }
    }

    /// What it means that a stream ended like this: it may have come after the request was read.
    pub(super) fn broken(&self, error: h2::Error) -> Fault {
        if self.is_silent.load(Ordering::Relaxed) {
            let why = format!("a ping had no answer within {TIMEOUT:?}");
            return Fault::Status(Status::unavailable(why));
        }
        Fault::Status(Status::from_error(Box::new(error)))
    }
}

impl Slot {
    /// Hands over headers and the whole message in one go. What the participant's window has no
    /// room for yet waits within the stream, and goes when the stream is dropped. The permit is to be kept
    /// for as long as the stream is.
    ///
    /// An error says that nothing was sent.
    pub(super) fn send(
        mut self,
        head: http::Request<()>,
        frame: Bytes,
    ) -> Result<(ResponseFuture, Permit), h2::Error> {
        let (response, mut body) = self.requests.send_request(head, false)?;
        // Where it fails, the stream has ended in the meantime, and the response says how.
        let _ = body.send_data(frame, true);
        Ok((response, self.stream))
    }
}

fn settings() -> client::Builder {
    let mut settings = client::Builder::new();
    settings
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .initial_max_send_streams(STREAMS_UNTIL_TOLD)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESET_STREAMS_MAX));
    settings
}

/// Moves bytes until the connection ends, or its participant has fallen silent.
async fn run(
    mut connection: client::Connection<Gather<Box<dyn Bidirectional>>, Bytes>,
    streams: Arc<Gate>,
    is_silent: Arc<AtomicBool>,
) {
    let pings = connection.ping_pong().expect("it is asked for once");
    let moved = poll_fn(|cx| {
        let ended = connection.poll_unpin(cx);
        streams.set(connection.max_concurrent_send_streams());
        ended
    });
    tokio::select! {
        biased;
        ended = moved => match ended {
            Ok(()) => tracing::debug!("a connection to a participant ended"),
            Err(error) => tracing::debug!(%error, "a connection to a participant broke"),
        },
        () = silence(pings) => {
            is_silent.store(true, Ordering::Relaxed);
            tracing::debug!("a connection to a participant fell silent");
        }
    }
    // Who still waits is to learn that it has ended.
    drop(connection);
    streams.set(usize::MAX);
}
