//! Takes connections, and sees them off.

use std::{
    error::Error,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinSet,
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Calls, HotCall, connection};

/// For a machine that is out of files: trying again at once would only keep it busy.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Serves until told to close, or no more connections can come; then takes no more, and returns when
/// those that are open have ended. Dropping it ends them at once.
///
/// `streams_max`: calls under way on one connection.
pub async fn serve<H, I, IO, IE>(
    calls: Calls<H>,
    streams_max: u32,
    incoming: I,
    close: CancellationToken,
) where
    H: HotCall,
    I: Stream<Item = Result<IO, IE>>,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    IE: Into<Box<dyn Error + Send + Sync>>,
{
    let calls = Arc::new(calls);
    let mut connections = JoinSet::new();
    {
        // A listener is closed at the end of this block, so that nobody waits behind it in vain.
        let mut incoming = pin!(incoming);
        loop {
            tokio::select! {
                biased;
                () = close.cancelled() => break,
                Some(_ended) = connections.join_next() => {}
                next = accepted(incoming.as_mut()) => match next {
                    Some(io) => {
                        let calls = Arc::clone(&calls);
                        connections.spawn(connection::run(io, calls, streams_max, close.clone()));
                    }
                    None => break,
                },
            }
        }
    }
    close.cancel();
    while connections.join_next().await.is_some() {}
}

/// The next connection; none when no more can come.
async fn accepted<I, IO, IE>(mut incoming: Pin<&mut I>) -> Option<IO>
where
    I: Stream<Item = Result<IO, IE>>,
    IE: Into<Box<dyn Error + Send + Sync>>,
{
    loop {
        let error = match incoming.next().await? {
            Ok(io) => return Some(io),
            Err(error) => error.into(),
        };
        if is_about_one(&*error) {
            tracing::debug!(error, "a connection ended before it was accepted");
        } else {
            tracing::warn!(error, "no connection can be accepted right now");
            sleep(ACCEPT_PAUSE).await;
        }
    }
}

/// An error of the connection that would have been next, which says nothing of those behind it.
fn is_about_one(error: &(dyn Error + Send + Sync + 'static)) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    let error = error.downcast_ref::<io::Error>();
    error.is_some_and(|it| {
        matches!(
            it.kind(),
            ConnectionAborted | ConnectionRefused | ConnectionReset
        )
    })
}
