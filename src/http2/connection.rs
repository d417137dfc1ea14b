//! One connection: a task that moves its bytes and answers its hot calls.

use std::{future::poll_fn, sync::Arc, task::Poll, time::Duration};

use futures::{FutureExt as _, StreamExt as _, future::Either, stream::FuturesUnordered};
use h2::server::{self, Connection};
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Calls, HotCall,
    body::RequestBody,
    gather::Gather,
    hot::{self, Ended},
    others,
    silence::silence,
};

/// From the connection to HTTP/2's first frames. Clients send them at once.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Windows that no usual request fills. A client that fills the connection's with requests that are not read
/// yet holds up its own others only.
const WINDOW_BYTES: u32 = 1024 * 1024;
/// Metadata of one call; ours needs a few hundred bytes.
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Past it a connection that only ever provokes errors is closed.
const LOCAL_ERROR_RESET_STREAMS_MAX: usize = 1024;

/// Hot calls that are let in before other tasks get their turn: they take microseconds each, and a client may
/// send hundreds in one go.
const HOT_AT_ONCE: usize = 16;
/// With those that are refused: they take less, and who is overloaded has to say so faster than calls come.
const CALLS_AT_ONCE: usize = 256;

/// What may happen beside frames that come.
enum Event {
    /// A hot call has ended.
    Hot(Ended),
    /// It is time to close.
    Close,
    /// The client has fallen silent.
    Silent,
}

/// Serves one connection until it ends.
pub(super) async fn run<H: HotCall, IO>(
    io: IO,
    calls: Arc<Calls<H>>,
    streams_max: u32,
    close: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let handshake = timeout(
        HANDSHAKE_TIMEOUT,
        settings(streams_max).handshake(Gather::new(io)),
    );
    let handshake = tokio::select! {
        biased;
        () = close.cancelled() => return,
        handshake = handshake => handshake,
    };
    match handshake {
        Ok(Ok(connection)) => drive(connection, calls, close).await,
        Ok(Err(error)) => tracing::debug!(%error, "a client does not speak HTTP/2"),
        Err(_) => tracing::debug!("a client said nothing within {HANDSHAKE_TIMEOUT:?}"),
    }
}

fn settings(streams_max: u32) -> server::Builder {
    let mut settings = server::Builder::new();
    settings
        .initial_window_size(WINDOW_BYTES)
        .initial_connection_window_size(WINDOW_BYTES)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_concurrent_streams(streams_max)
        .max_local_error_reset_streams(Some(LOCAL_ERROR_RESET_STREAMS_MAX))
        // A client that gives up on all its calls at once is no attacker.
        .max_pending_accept_reset_streams(streams_max as usize);
    settings
}

/// First sends what is ready, then reads: so the bytes move once for all that became ready together.
async fn drive<H: HotCall, IO>(
    mut connection: Connection<IO, Bytes>,
    calls: Arc<Calls<H>>,
    close: CancellationToken,
) where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let pings = connection.ping_pong().expect("it is asked for once");
    let mut events = FuturesUnordered::new();
    let closing = close.cancelled_owned().map(|()| Event::Close);
    events.push(Either::Left(closing.boxed()));
    events.push(Either::Left(silence(pings).map(|()| Event::Silent).boxed()));
    poll_fn(|cx| {
        let (mut calls_begun, mut hot) = (0_usize, 0_usize);
        loop {
            while let Poll::Ready(Some(event)) = events.poll_next_unpin(cx) {
                match event {
                    Event::Hot(Ended::Refused) => hot = hot.saturating_sub(1),
                    Event::Hot(Ended::Otherwise) => {}
                    Event::Close => connection.graceful_shutdown(),
                    Event::Silent => {
                        tracing::debug!("a client fell silent");
                        return Poll::Ready(());
                    }
                }
            }
            let before = calls_begun;
            while hot < HOT_AT_ONCE
                && calls_begun < CALLS_AT_ONCE
                && let Poll::Ready(next) = connection.poll_accept(cx)
            {
                let (request, respond) = match next {
                    Some(Ok(call)) => call,
                    Some(Err(error)) => {
                        tracing::debug!(%error, "a client's connection broke");
                        return Poll::Ready(());
                    }
                    None => return Poll::Ready(()),
                };
                calls_begun += 1;
                if hot::is_meant::<H>(&request) {
                    let answer = hot::answer(Arc::clone(&calls), request, respond);
                    events.push(Either::Right(answer.map(Event::Hot)));
                    hot += 1;
                } else {
                    let request = request.map(RequestBody::new);
                    tokio::spawn(others::answer(calls.others.clone(), request, respond));
                }
            }
            if calls_begun == before {
                if hot == HOT_AT_ONCE || calls_begun == CALLS_AT_ONCE {
                    cx.waker().wake_by_ref();
                }
                return Poll::Pending;
            }
        }
    })
    .await;
}
