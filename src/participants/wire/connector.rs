//! How connections to participants are made.

use std::{io, sync::Arc, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::codegen::http::Uri;
use tower::ServiceExt as _;

use super::CONNECT_TIMEOUT;

/// Longer than a reply is on its way that crosses the reset.
const RESET_STREAM_DURATION: Duration = Duration::from_secs(1);

/// How connections to participants are made.
#[derive(Clone)]
pub struct Connector {
    connect: Arc<dyn Fn(Uri) -> Connecting + Send + Sync>,
    pub(super) reset_stream_duration: Duration,
}

type Connecting = BoxFuture<'static, io::Result<Box<dyn Bidirectional>>>;

/// What bytes go over.
pub(super) trait Bidirectional: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bidirectional for T {}

impl Connector {
    /// Plain TCP.
    #[must_use]
    pub fn tcp() -> Self {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self::new(move |uri| {
            let connecting = tcp.clone().oneshot(uri);
            async move {
                let stream = connecting.await.map_err(io::Error::other)?;
                Ok(TokioIo::into_inner(stream))
            }
        })
    }

    /// Another transport. `connect` is called with `http://HOST:PORT/` whenever a connection is
    /// needed; all it does within its future counts into the time that connecting may take.
    pub fn new<C, F, S>(connect: C) -> Self
    where
        C: Fn(Uri) -> F + Send + Sync + 'static,
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        Self {
            connect: Arc::new(move |uri| {
                let connecting = connect(uri);
                async move { Ok(Box::new(connecting.await?) as Box<dyn Bidirectional>) }.boxed()
            }),
            reset_stream_duration: RESET_STREAM_DURATION,
        }
    }

    /// For how long frames are expected on a stream that was reset; a second, unless told otherwise.
    /// It is measured by the machine's clock, whatever Tokio's says: simulations make it
    /// [`Duration::MAX`].
    #[must_use]
    pub fn reset_stream_duration(self, reset_stream_duration: Duration) -> Self {
        Self {
            reset_stream_duration,
            ..self
        }
    }

    pub(super) fn connect(&self, uri: Uri) -> Connecting {
        (self.connect)(uri)
    }
}
