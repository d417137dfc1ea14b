//! Connecting out instead of serving: sessions, one after the other, until the shutdown.

mod outbox;
mod running;
mod stream;

use std::{future::Future, panic::resume_unwind, pin::pin, time::Duration};

use futures::FutureExt as _;
use tokio::{
    sync::oneshot,
    task::JoinError,
    time::{Instant, sleep, timeout},
};
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use self::{
    running::Running,
    stream::{Ended, Host},
};
use super::{
    DRAIN_MAX,
    fence::Fence,
    serve::{Participant, ServeError},
    service::AbortOnDrop,
};
use crate::proto::participant::v1::SessionHello;

/// Between two attempts to connect: doubled each time from the first to the last, then shortened by
/// chance to no less than half, so that not all come back at once.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// After a refusal, which passes only when somebody changes a configuration.
const PAUSE_REFUSED: Duration = Duration::from_secs(10);
/// Finds a dead connection before the next session is tried over it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(5);
const SDK_VERSION: &str = concat!("tercet-sdk-rust/", env!("CARGO_PKG_VERSION"));

impl<F: Fence> Participant<F> {
    /// Connects to a coordinator (`http://host:port`) and takes its calls over that connection until
    /// `shutdown` completes: one line's difference from [`serve`](Self::serve), and the same answers.
    /// The participant needs no address; in the coordinator's configuration it has `sessions = true`.
    ///
    /// It connects again by itself, for ever: after 0.1 to 5 s when the connection is lost or the
    /// coordinator is away, after 10 s when the coordinator refuses, which is logged as an error with
    /// what it says (a name that its configuration doesn't know, for example). So it may be started
    /// before its coordinator, and before it is configured there.
    ///
    /// At the shutdown the coordinator is asked for no new Try, and calls under way are waited for as
    /// by `serve`, 10 s at most.
    ///
    /// # Errors
    /// [`ServeError`] when it is set up wrongly or the URL is none; never because a coordinator can't
    /// be reached.
    pub async fn connect(
        self,
        coordinator: impl Into<String>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let url = coordinator.into();
        let endpoint = Endpoint::from_shared(url.clone());
        let endpoint = endpoint.map_err(|error| ServeError::Url { url, error })?;
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT);
        self.connect_with_channel(endpoint.connect_lazy(), shutdown)
            .await
    }

    /// Connects through a channel made elsewhere: with TLS, or over a simulated network. It must
    /// connect lazily, and again after a failure, as [`Endpoint::connect_lazy`] and
    /// [`Endpoint::connect_with_connector_lazy`] do. Otherwise as [`connect`](Self::connect).
    ///
    /// # Errors
    /// [`ServeError`] when it is set up wrongly.
    pub async fn connect_with_channel(
        self,
        channel: Channel,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let max_in_flight = self.checked_max_in_flight()?;
        let (calls, _collector) = self.into_calls()?;
        let hello = SessionHello {
            participant: calls.participant.clone(),
            instance_id: format!("{:032x}", fastrand::u128(..)),
            resources: calls.handlers.keys().map(ToString::to_string).collect(),
            max_in_flight,
            sdk_version: SDK_VERSION.to_owned(),
        };
        let host = Host {
            calls,
            hello,
            running: Running::default(),
        };
        let (shut_down, told) = oneshot::channel();
        // Where the connection and the calls run. Whoever waits here may be on another thread (that of
        // `block_on`), which every frame would have to wake.
        let mut work = tokio::spawn(host.work(channel, told));
        let _work = AbortOnDrop(work.abort_handle());
        let ended = tokio::select! {
            biased;
            () = shutdown => {
                let _ = shut_down.send(()); // it is told, unless it has ended
                work.await
            }
            ended = &mut work => ended,
        };
        if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
            resume_unwind(panic);
        }
        Ok(())
    }
}

impl<F: Fence> Host<F> {
    /// Has one session after the other until it is told to shut down.
    async fn work(self, channel: Channel, told: oneshot::Receiver<()>) {
        let participant = &self.calls.participant;
        let mut shutdown = pin!(told.map(drop));
        let mut pauses = Pauses::default();
        loop {
            let began = Instant::now();
            let ended = self.session(channel.clone(), shutdown.as_mut()).await;
            let pause = match ended {
                Ended::Shutdown => break,
                Ended::Broken(status) => pauses.next(participant, &status, began.elapsed()),
            };
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = sleep(pause) => {}
            }
        }
        if timeout(DRAIN_MAX, self.running.idle()).await.is_err() {
            tracing::warn!(participant, "calls were cut off at shutdown");
        }
    }
}

/// How long to wait before connecting again.
struct Pauses {
    next: Duration,
}

impl Default for Pauses {
    fn default() -> Self {
        Self { next: PAUSE_MIN }
    }
}

impl Pauses {
    fn next(&mut self, participant: &str, ended: &Status, lived: Duration) -> Duration {
        let (code, why) = (ended.code(), ended.message());
        if is_refusal(code) {
            tracing::error!(
                participant,
                ?code,
                why,
                "the coordinator refuses the session"
            );
            return jittered(PAUSE_REFUSED);
        }
        // Who has worked for longer than it would pause does not come back too often.
        if lived > self.next {
            self.next = PAUSE_MIN;
        }
        let pause = jittered(self.next);
        self.next = (self.next * 2).min(PAUSE_MAX);
        tracing::warn!(
            participant,
            ?code,
            why,
            ?pause,
            "no session; connecting again"
        );
        pause
    }
}

/// What passes only when somebody changes something.
fn is_refusal(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::NotFound
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::FailedPrecondition
            | Code::Unimplemented
            | Code::Unauthenticated
    )
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64() / 2.0)
}
