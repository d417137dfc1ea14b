//! The coordinator as a whole: the only place that puts its parts together.
//!
//! Where connections come from, how participants are reached and what time it is are arguments, so
//! that the same server runs on TCP and the machine's clock, and in a simulated world.
//!
//! How it ends:
//!
//! 1. Health says NOT_SERVING; new transactions and sessions are refused; waits and streams end; open
//!    sessions are told.
//! 2. Calls in flight get `drain` to end; the rest is handed back to the store for the next start.
//! 3. Sessions end. Connections are closed, and dropped if somebody holds on to one.
//!
//! When the store breaks it is the same without the patience: whatever is in flight can't be
//! recorded any more.

use std::{error::Error as StdError, future::Future, sync::Arc, time::Duration};

use futures::{FutureExt as _, Stream};
use tercet_core::ids::ParticipantName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tonic::{
    body::Body,
    codegen::http::{Request, Response},
    server::NamedService,
    service::Routes,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    config::Config,
    engine::{Engine, EngineConfig},
    http2,
    participants::{
        GrpcParticipants, ParticipantConfig, Participants, ParticipantsConfig, measure,
    },
    proto::DESCRIPTORS,
    rpc,
    store::Store,
};
pub use crate::{
    engine::{Clock, SystemClock},
    participants::{ConfigError, Connector},
};

/// How long connections may take to close once nothing is in flight any more.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// How long callers may take to be told that the store is broken.
const BROKEN_TIMEOUT: Duration = Duration::from_millis(500);
/// How often the numbers that nobody counts up are looked at, for metrics.
pub const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// Why the server ended before it was told to, or didn't start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The participants' configuration can't be used.
    #[error(transparent)]
    Participants(#[from] ConfigError),
    /// The store takes no more work.
    #[error(
        "the store has failed: {0}; what was acknowledged is safe, what was in flight goes on with the next start"
    )]
    StoreBroken(Arc<str>),
}

/// Runs a coordinator by the machine's clock until `shutdown` resolves or the store breaks.
///
/// # Errors
/// [`ServeError`]; after a shutdown that was asked for there is none.
pub async fn run<I, IO, IE>(
    config: &Config,
    store: Arc<dyn Store>,
    incoming: I,
    connector: Connector,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError>
where
    I: Stream<Item = Result<IO, IE>> + Send + 'static,
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    IE: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
{
    let server = Server::new(config, store, connector, Arc::new(SystemClock))?;
    server.run(incoming, shutdown).await
}

/// Whether the parts would take this configuration.
///
/// # Errors
/// What the first of them says against it.
pub fn check(config: &Config) -> Result<(), ConfigError> {
    participants(config).validate()
}

/// A coordinator, put together but not serving yet.
pub struct Server {
    engine: Engine,
    store: Arc<dyn Store>,
    participants: Arc<GrpcParticipants>,
    limits: rpc::Limits,
    connection_calls: u32,
}

impl Server {
    /// Puts it together. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`ConfigError`] names the participant that can't be used.
    pub fn new(
        config: &Config,
        store: Arc<dyn Store>,
        connector: Connector,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ConfigError> {
        Self::through(config, store, connector, clock, |participants| participants)
    }

    /// The same, with something between the engine and its participants that sees every call: what
    /// tests watch, or spoil.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn through(
        config: &Config,
        store: Arc<dyn Store>,
        connector: Connector,
        clock: Arc<dyn Clock>,
        between: impl FnOnce(Arc<dyn Participants>) -> Arc<dyn Participants>,
    ) -> Result<Self, ConfigError> {
        let participants = Arc::new(GrpcParticipants::new(&participants(config), connector)?);
        let called = between(Arc::clone(&participants) as _);
        let engine = Engine::new(Arc::clone(&store), called, clock, engine(config));
        Ok(Self {
            engine,
            store,
            participants,
            limits: limits(config),
            connection_calls: *config.limits.connection_calls,
        })
    }

    /// Goes on with the participants of this configuration; everything else stays as it is. Calls
    /// under way end as they began.
    ///
    /// # Errors
    /// [`ConfigError`] names the participant that can't be used; nothing has changed then.
    pub fn reload_participants(&self, config: &Config) -> Result<(), ConfigError> {
        self.participants.replace(&participants(config))
    }

    /// Serves until `shutdown` resolves, `incoming` ends or the store breaks.
    ///
    /// # Errors
    /// [`ServeError`]; after a shutdown that was asked for there is none.
    pub async fn run<I, IO, IE>(
        &self,
        incoming: I,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError>
    where
        I: Stream<Item = Result<IO, IE>> + Send + 'static,
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        IE: Into<Box<dyn StdError + Send + Sync>> + Send + 'static,
    {
        let close = CancellationToken::new();
        let coordinator = rpc::service(self.engine.clone(), self.limits.clone());
        let payload_bytes_max = self.limits.payload_bytes_max;
        let sessions = rpc::sessions(Arc::clone(&self.participants), payload_bytes_max);
        let (health, health_service) = tonic_health::server::health_reporter();
        let services = ["", service_name(&coordinator), service_name(&sessions)];
        let mut health = Health {
            reporter: health,
            services,
        };
        health.set(ServingStatus::Serving).await;
        let others = Routes::new(coordinator)
            .add_service(sessions)
            .add_service(health_service)
            .add_service(reflection())
            .prepare();
        let hot = rpc::submits(self.engine.clone(), self.limits.clone());
        let calls = http2::Calls { hot, others };
        let serve = http2::serve(calls, self.connection_calls, incoming, close.clone());
        // A task of its own, so that nothing that happens here holds up connections.
        let mut serve = tokio::spawn(serve);
        let gauges = tokio::spawn(watch_gauges(self.engine.clone()));
        self.engine.recover();

        let ended = tokio::select! {
            biased;
            () = shutdown => Ended::Asked,
            reason = self.store.broken() => Ended::StoreBroken(reason),
            served = &mut serve => Ended::Closed(served),
        };
        gauges.abort();
        health.set(ServingStatus::NotServing).await;
        self.participants.say_farewell();
        let result = self.finish(ended).await;
        self.participants.close_sessions();
        health.forget().await;
        close.cancel();
        if !serve.is_finished()
            && tokio::time::timeout(CLOSE_TIMEOUT, &mut serve)
                .await
                .is_err()
        {
            tracing::warn!("some clients did not close their connections in time; dropping them");
            serve.abort();
        }
        result
    }

    async fn finish(&self, ended: Ended) -> Result<(), ServeError> {
        match ended {
            Ended::Asked => {
                tracing::info!("shutting down: calls in flight may end, no new work is taken");
                self.shut_down().await
            }
            Ended::StoreBroken(reason) => self.broken(reason).await,
            Ended::Closed(served) => {
                self.shut_down().await?;
                match served {
                    Ok(()) => Ok(()),
                    Err(panic) => std::panic::resume_unwind(panic.into_panic()),
                }
            }
        }
    }

    /// The store may fail while the last work ends.
    async fn shut_down(&self) -> Result<(), ServeError> {
        tokio::select! {
            biased;
            reason = self.store.broken() => self.broken(reason).await,
            () = self.engine.shutdown() => match self.store.broken().now_or_never() {
                Some(reason) => self.broken(reason).await,
                None => Ok(()),
            },
        }
    }

    async fn broken(&self, reason: Arc<str>) -> Result<(), ServeError> {
        tracing::error!(%reason, "the store has failed; no more work is taken");
        self.engine.drain();
        // Callers learn of it from their own commits; nothing else is worth waiting for.
        drop(tokio::time::timeout(BROKEN_TIMEOUT, self.engine.shutdown()).await);
        Err(ServeError::StoreBroken(reason))
    }
}

/// What made the server end.
enum Ended {
    Asked,
    StoreBroken(Arc<str>),
    Closed(Result<(), tokio::task::JoinError>),
}

/// What health checks are told, of the whole and of each service in it.
struct Health {
    reporter: HealthReporter,
    services: [&'static str; 3],
}

impl Health {
    async fn set(&self, status: ServingStatus) {
        for service in self.services {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Ends the streams of those who watch; they would hold their connections open for ever.
    async fn forget(&mut self) {
        for service in self.services {
            self.reporter.clear_service_status(service).await;
        }
    }
}

fn service_name<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

fn reflection() -> impl tonic::codegen::Service<
    Request<Body>,
    Response = Response<Body>,
    Error = std::convert::Infallible,
    Future: Send + 'static,
> + NamedService
+ Clone
+ Send
+ Sync
+ 'static {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .expect("both descriptor sets come from a compiler")
}

/// What is measured by looking, not by counting.
async fn watch_gauges(engine: Engine) {
    measure::describe();
    let mut ticks = tokio::time::interval(GAUGE_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (inflight, waiting) = engine.load();
        metrics::gauge!("tercet_transactions_inflight").set(inflight as f64);
        metrics::gauge!("tercet_transactions_inflight_limit").set(engine.inflight_limit() as f64);
        metrics::gauge!("tercet_transactions_waiting").set(waiting as f64);
        let counters = engine.store().counters();
        metrics::counter!("tercet_store_commits_total").absolute(counters.commits);
        metrics::counter!("tercet_store_syncs_total").absolute(counters.syncs);
        metrics::counter!("tercet_store_quarantined_total").absolute(counters.quarantined);
    }
}

fn engine(config: &Config) -> EngineConfig {
    EngineConfig {
        inflight_max: *config.inflight_max,
        recovery_inflight_max: *config.recovery_inflight_max,
        retention_ms: millis(*config.retention),
        id_retention_ms: millis(*config.id_retention),
        drain_ms: millis(*config.drain),
    }
}

fn limits(config: &Config) -> rpc::Limits {
    let limits = &config.limits;
    rpc::Limits {
        branches_max: *limits.branches,
        payload_bytes_max: *limits.payload_bytes,
        request_bytes_max: *limits.request_bytes,
        labels_max: *limits.labels,
        label_key_bytes_max: *limits.label_key_bytes,
        label_value_bytes_max: *limits.label_value_bytes,
        timeout_ms: millis(*limits.timeout_min)..=millis(*limits.timeout_max),
        timeout_default_ms: millis(*limits.timeout_default),
        try_timeout_default_ms: millis(*limits.try_timeout_default),
        submit_expire_ahead_max_ms: millis(*config.retention),
        wait_max: *limits.wait_max,
        page_size_default: *limits.page_default,
        page_size_max: *limits.page_max,
        ..rpc::Limits::default()
    }
}

fn participants(config: &Config) -> ParticipantsConfig {
    let participant = |(name, it): (&ParticipantName, &crate::config::Participant)| {
        let participant = ParticipantConfig {
            endpoints: it.endpoints.value.clone(),
            sessions: *it.sessions,
            call_timeout_ms: millis(*it.call_timeout),
        };
        (name.clone(), participant)
    };
    ParticipantsConfig {
        participants: config.participants.iter().map(participant).collect(),
        allowed_endpoints: config.allowed_endpoints.value.clone(),
        payload_bytes_max: *config.limits.payload_bytes,
        session_heartbeat: *config.session_heartbeat,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
