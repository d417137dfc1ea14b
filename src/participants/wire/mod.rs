//! Unary calls to one endpoint, over HTTP/2 and as few steps as it takes.
//!
//! 1. A call opens a stream of its own and hands over headers and message together, so that both
//!    leave in one write. Its own future reads the reply: no task, queue or channel lies between.
//!    Dropping it resets the stream.
//! 2. The first call that needs a connection makes it, and all calls share it. One that is lost,
//!    or that the participant wants to end, is made again by the next call; calls under way on it
//!    end as they do.
//! 3. A request that certainly never left is told apart ([`Fault::NeverLeft`]): nothing was
//!    connected, or the connection was over before the stream was opened, or the participant says
//!    that it has not looked at the stream: see [`Connection::unanswered`].
//! 4. A participant that allows no more streams makes calls wait, in their order, until one is
//!    free or their deadline has come.

mod connection;
mod connector;
mod reply;

use std::{sync::Arc, time::Duration};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use h2::client::ResponseFuture;
use parking_lot::Mutex;
use prost::bytes::Bytes;
use tokio::time::timeout;
use tonic::{
    Status,
    codegen::http::{
        self, HeaderMap, Method, Uri, Version,
        uri::{Authority, PathAndQuery, Scheme},
    },
};

use self::connection::Connection;
use super::fault::Fault;
use crate::gate::Permit;

pub(super) use crate::http2::frame::framed_bytes;
pub use connector::Connector;
pub(super) use reply::{Failed, Reply};

/// Half the usual deadline of a call, so that another endpoint still has a chance; more than the
/// second after which a lost SYN is sent again.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(1_500);

/// One endpoint and the connection to it.
pub(super) struct Wire {
    authority: Authority,
    connector: Connector,
    /// The latest; none before the first call.
    attempt: Mutex<Option<Attempt>>,
}

/// A connection that is being made by all who wait for it, or what came of it.
type Attempt = Shared<BoxFuture<'static, Result<Arc<Connection>, Status>>>;

/// What is sent.
pub(super) struct Request {
    pub(super) path: PathAndQuery,
    pub(super) headers: HeaderMap,
    /// The message, [`framed`].
    pub(super) frame: Bytes,
}

impl Wire {
    pub(super) fn new(authority: Authority, connector: Connector) -> Self {
        Self {
            authority,
            connector,
            attempt: Mutex::default(),
        }
    }

    /// Sends one message and reads one, which may have this many bytes. Has no deadline of its own.
    pub(super) async fn call(&self, request: Request, bytes_max: usize) -> Result<Reply, Failed> {
        let (connection, response, _stream) = self.send(request).await?;
        reply::read(&connection, response, bytes_max).await
    }

    /// A connection may have ended while nobody called: then another one is made, once.
    async fn send(
        &self,
        request: Request,
    ) -> Result<(Arc<Connection>, ResponseFuture, Permit), Fault> {
        let mut ended = None;
        for _ in 0..2 {
            let connection = self.connection().await?;
            let sent = match connection.slot().await {
                Ok(slot) => {
                    let head = head(&self.authority, request.path, request.headers);
                    slot.send(head, request.frame)
                }
                Err(error) => {
                    self.forget(&connection);
                    ended = Some(error);
                    continue;
                }
            };
            return match sent {
                Ok((response, stream)) => Ok((connection, response, stream)),
                Err(error) => Err(never_left(error)),
            };
        }
        Err(never_left(ended.expect("it was tried twice")))
    }

    async fn connection(&self) -> Result<Arc<Connection>, Fault> {
        let attempt = {
            let mut attempt = self.attempt.lock();
            match attempt.as_ref().and_then(Shared::peek) {
                Some(Ok(connection)) => return Ok(Arc::clone(connection)),
                Some(Err(_)) => *attempt = None,
                None => {}
            }
            attempt.get_or_insert_with(|| self.connect()).clone()
        };
        attempt.await.map_err(Fault::NeverLeft)
    }

    fn connect(&self) -> Attempt {
        let connecting = self.connector.connect(uri(&self.authority, None));
        let reset_stream_duration = self.connector.reset_stream_duration;
        let attempt = async move {
            let connection = timeout(CONNECT_TIMEOUT, async {
                Connection::over(connecting.await?, reset_stream_duration).await
            });
            match connection.await {
                Ok(Ok(connection)) => Ok(Arc::new(connection)),
                Ok(Err(error)) => Err(unconnected(error)),
                Err(_) => {
                    let why = format!("no connection came about within {CONNECT_TIMEOUT:?}");
                    Err(Status::unavailable(why))
                }
            }
        };
        attempt.boxed().shared()
    }

    /// Calls that come now make another connection, unless somebody has done so already.
    fn forget(&self, connection: &Arc<Connection>) {
        let mut attempt = self.attempt.lock();
        let latest = attempt.as_ref().and_then(Shared::peek);
        if latest.is_some_and(|it| it.as_ref().is_ok_and(|it| Arc::ptr_eq(it, connection))) {
            *attempt = None;
        }
    }
}

fn never_left(error: h2::Error) -> Fault {
    Fault::NeverLeft(Status::from_error(Box::new(error)))
}

fn unconnected(error: std::io::Error) -> Status {
    let mut status = Status::unavailable(error.to_string());
    status.set_source(Arc::new(error));
    status
}

fn head(authority: &Authority, path: PathAndQuery, headers: HeaderMap) -> http::Request<()> {
    let mut head = http::Request::new(());
    *head.method_mut() = Method::POST;
    *head.version_mut() = Version::HTTP_2;
    *head.uri_mut() = uri(authority, Some(path));
    *head.headers_mut() = headers;
    head
}

fn uri(authority: &Authority, path: Option<PathAndQuery>) -> Uri {
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(authority.clone());
    parts.path_and_query = Some(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    Uri::from_parts(parts).expect("all three parts are there")
}

#[cfg(test)]
mod tests;
