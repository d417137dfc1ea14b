//! Putting a participant together, and serving it.

use std::{
    collections::BTreeMap,
    future::Future,
    io,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::Stream;
use tercet_core::{
    fence::{Retention, RetentionTooShort},
    ids::{IdError, ParticipantName},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, ToSocketAddrs},
    sync::oneshot,
    time::{MissedTickBehavior, interval, sleep},
};
use tonic::transport::{
    Server,
    server::{Connected, TcpIncoming},
};

use super::{
    DRAIN_MAX,
    calls::{Calls, Clock},
    fence::{COLLECT_ROWS_MAX, Fence, collect},
    handler::{Handler, Typed},
    jobs::Jobs,
    resource::{Remote, Resource},
    service::{AbortOnDrop, Service},
};
use crate::proto::participant::v1::participant_service_server::ParticipantServiceServer;

/// How long a call waits for remote work by default: within the coordinator's Try timeout of 3 s.
const ANSWER_WITHIN_DEFAULT: Duration = Duration::from_secs(2);
/// Between two collections of old fence rows.
const COLLECT_INTERVAL: Duration = Duration::from_secs(60 * 60);
/// Calls that a session may have under way, by default and at most, as the coordinator has it.
const IN_FLIGHT_DEFAULT: u32 = 1024;
const IN_FLIGHT_MAX: u32 = 65_536;
/// hyper's own safe limits, which tonic would switch off, and pings that find a dead peer.
const CONCURRENT_STREAMS_MAX: u32 = 200;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;

/// The resources of one participant over one fence. Build it, then [`serve`](Self::serve) it,
/// [`connect`](Self::connect) it to its coordinator, or mount [`into_service`](Self::into_service) on a server of your own.
///
/// What is wrong with its setup is said when it is served, not while it is built.
pub struct Participant<F: Fence> {
    name: String,
    fence: F,
    handlers: BTreeMap<&'static str, Handler<F::Connection>>,
    duplicate: Option<&'static str>,
    retention: Duration,
    answer_within: Duration,
    max_in_flight: u32,
    clock: Clock,
}

/// What is wrong with how a participant was put together.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// Its name is none.
    #[error("participant name {name:?}: {error}")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        error: IdError,
    },
    /// Nothing to serve.
    #[error("participant {0:?} has no resource; add one with .resource(..) or .remote(..)")]
    NoResource(String),
    /// Two resources of one name.
    #[error("two resources are called {0:?}; a resource's NAME is unique within its participant")]
    ResourceDuplicate(&'static str),
    /// Fence rows would be removed too early.
    #[error(transparent)]
    Retention(#[from] RetentionTooShort),
    /// A session must be able to carry a call, and not more than any process works on.
    #[error("max_in_flight is {0}; it must be 1 to {IN_FLIGHT_MAX}")]
    MaxInFlight(u32),
    /// There is no tokio runtime to run on.
    #[error("a participant runs on tokio; call this inside of a runtime")]
    NoRuntime,
}

/// Why a participant could not be served, or stopped being.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// It was put together wrongly.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// The address can't be listened on.
    #[error("can't listen on the participant's address: {0}")]
    Listen(#[from] io::Error),
    /// What should be the coordinator's URL.
    #[error("can't connect to {url:?}: {error}; write http://HOST:PORT")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        error: tonic::transport::Error,
    },
    /// The server broke.
    #[error("the participant's server ended: {0}")]
    Transport(#[from] tonic::transport::Error),
}

impl<F: Fence> Participant<F> {
    /// A participant of this name, which stands in the coordinator's configuration
    /// (`[a-z][a-z0-9-]{0,62}`), over a fence whose tables exist.
    #[must_use]
    pub fn new(name: impl Into<String>, fence: F) -> Self {
        Self {
            name: name.into(),
            fence,
            handlers: BTreeMap::new(),
            duplicate: None,
            retention: Duration::from_millis(Retention::DEFAULT.as_ms().unsigned_abs()),
            answer_within: ANSWER_WITHIN_DEFAULT,
            max_in_flight: IN_FLIGHT_DEFAULT,
            clock: Arc::new(wall_clock_ms),
        }
    }

    /// Adds a resource in the fence's database.
    #[must_use]
    pub fn resource<R: Resource<F::Connection>>(self, resource: R) -> Self {
        self.with(R::NAME, Handler::Local(Box::new(Typed(resource))))
    }

    /// Adds a resource outside of it.
    #[must_use]
    pub fn remote<R: Remote>(self, remote: R) -> Self {
        self.with(R::NAME, Handler::Remote(Arc::new(Typed(remote))))
    }

    /// How long a fence row outlives its transaction's deadline: 30 days unless said otherwise, at
    /// least 1 day. Older rows are removed every hour while serving.
    #[must_use]
    pub fn retention(mut self, retention: Duration) -> Self {
        self.retention = retention;
        self
    }

    /// How long a call waits for remote work before it answers PROCESSING: 2 s unless said
    /// otherwise. The work goes on.
    #[must_use]
    pub fn answer_within(mut self, wait: Duration) -> Self {
        self.answer_within = wait;
        self
    }

    /// How many calls the coordinator may have under way at this process when it
    /// [connects](Self::connect): 1024 unless said otherwise, 65,536 at most. More of them wait at the
    /// coordinator, or go to another instance.
    #[must_use]
    pub fn max_in_flight(mut self, calls: u32) -> Self {
        self.max_in_flight = calls;
        self
    }

    /// Reads the wall clock, in Unix milliseconds, from here; for simulations and tests.
    #[must_use]
    pub fn clock(mut self, now_ms: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        self.clock = Arc::new(now_ms);
        self
    }

    /// The gRPC service `tercet.participant.v1.ParticipantService`, for `add_service` of a tonic
    /// server or router of your own. Old fence rows are removed while it lives.
    ///
    /// # Errors
    /// [`SetupError`].
    pub fn into_service(self) -> Result<ParticipantServiceServer<Service<F>>, SetupError> {
        let (calls, collector) = self.into_calls()?;
        Ok(ParticipantServiceServer::new(Service::new(
            calls, collector,
        )))
    }

    /// What does the work, and what removes old rows until it is dropped.
    pub(super) fn into_calls(self) -> Result<(Arc<Calls<F>>, AbortOnDrop), SetupError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| SetupError::NoRuntime)?;
        if let Err(error) = ParticipantName::parse(&self.name) {
            let name = self.name;
            return Err(SetupError::Name { name, error });
        }
        if let Some(name) = self.duplicate {
            return Err(SetupError::ResourceDuplicate(name));
        }
        if self.handlers.is_empty() {
            return Err(SetupError::NoResource(self.name));
        }
        let retention_ms = i64::try_from(self.retention.as_millis()).unwrap_or(i64::MAX);
        let retention = Retention::new(retention_ms)?;

        let fence = Arc::new(self.fence);
        let collecting = keep_collecting(Arc::clone(&fence), retention, Arc::clone(&self.clock));
        let collector = AbortOnDrop(runtime.spawn(collecting).abort_handle());
        let calls = Calls {
            participant: self.name,
            fence,
            handlers: self.handlers,
            jobs: Jobs::default(),
            answer_within: self.answer_within,
            clock: self.clock,
        };
        Ok((Arc::new(calls), collector))
    }

    pub(super) fn checked_max_in_flight(&self) -> Result<i32, SetupError> {
        let calls = self.max_in_flight;
        let usable = i32::try_from(calls).ok();
        usable
            .filter(|_| (1..=IN_FLIGHT_MAX).contains(&calls))
            .ok_or(SetupError::MaxInFlight(calls))
    }

    /// Serves on this address until `shutdown` completes; then takes no more calls and waits up to
    /// 10 s for those under way. Remote work is left where it is: its row says what is owed.
    ///
    /// # Errors
    /// [`ServeError`] when it is set up wrongly, the address is taken, or the server breaks.
    pub async fn serve(
        self,
        addr: impl ToSocketAddrs,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let listener = TcpListener::bind(addr).await?;
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        self.serve_with_incoming(incoming, shutdown).await
    }

    /// Serves connections that come from anywhere: a listener bound elsewhere, a TLS acceptor, a
    /// simulated network. Otherwise as [`serve`](Self::serve).
    ///
    /// TCP connections should have `TCP_NODELAY`: without it a reply can wait 40 ms for the peer's
    /// acknowledgement.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn serve_with_incoming<I, IO, E>(
        self,
        incoming: I,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        I: Stream<Item = Result<IO, E>>,
        IO: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let name = self.name.clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let served = Server::builder()
            .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
            .http2_max_header_list_size(HEADER_LIST_BYTES_MAX)
            .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
            .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
            .serve_with_incoming_shutdown(self.into_service()?, incoming, async move {
                shutdown.await;
                drop(stop);
            });
        let drained = async {
            let _stopping = stopped.await;
            sleep(DRAIN_MAX).await;
        };
        tracing::info!(participant = name, "serving");
        tokio::select! {
            biased;
            ended = served => ended?,
            () = drained => tracing::warn!(participant = name, "calls were cut off at shutdown"),
        }
        Ok(())
    }

    fn with(mut self, name: &'static str, handler: Handler<F::Connection>) -> Self {
        if self.handlers.insert(name, handler).is_some() {
            self.duplicate = Some(name);
        }
        self
    }
}

/// Removes old fence rows, now and every hour, a batch at a time.
async fn keep_collecting<F: Fence>(fence: Arc<F>, retention: Retention, clock: Clock) {
    let mut due = interval(COLLECT_INTERVAL);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        due.tick().await;
        loop {
            match collect(&*fence, clock(), retention).await {
                Ok(COLLECT_ROWS_MAX) => tokio::task::yield_now().await,
                Ok(removed) => {
                    tracing::debug!(removed, "old fence rows collected");
                    break;
                }
                Err(error) => {
                    tracing::warn!(%error, "old fence rows stay until the next collection");
                    break;
                }
            }
        }
    }
}

fn wall_clock_ms() -> i64 {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            let ms = i64::try_from(before.duration().as_millis()).unwrap_or(i64::MAX);
            -ms
        }
    }
}
