//! The coordinator, as it ships, on a simulated host.

use std::{sync::Arc, time::Duration};

use tercet::{
    config::{Config, Origin, Participant, Setting},
    server::{Connector, Server},
};
use tercet_core::ids::ParticipantName;
use tokio_util::sync::CancellationToken;

use super::{
    clock::WallClock, participant, parts::Parts, plan::Setup, store::Disk, trace::Trace,
    wires::Wires,
};

pub const HOST: &str = "coordinator";
pub const PORT: u16 = 7070;

/// What a coordinator runs with, over its restarts.
pub struct Coordinator {
    pub disk: Disk,
    pub clock: WallClock,
    pub trace: Trace,
    pub setup: Setup,
    /// Asks the running process to end in good order.
    pub stop: parking_lot::Mutex<CancellationToken>,
}

impl Coordinator {
    /// One process, from its start to its end.
    pub async fn run(&self, parts: &Parts) -> turmoil::Result {
        let stop = CancellationToken::new();
        *self.stop.lock() = stop.clone();
        let wires = Wires::new(HOST, &self.setup);
        let store = self.disk.open();
        self.trace
            .booted(tercet::store::Store::identity(&*store).boot);
        let server = Server::through(
            &config(&self.setup),
            (parts.store)(store),
            connector(&wires),
            (parts.clock)(Arc::new(self.clock.clone())),
            |participants| (parts.transport)(self.trace.watch(participants)),
        );
        let server = server.expect("every participant can be reached");
        let incoming = wires.incoming(PORT).await;
        let ended = server.run(incoming, stop.cancelled_owned()).await;
        let how = if ended.is_ok() {
            "asked to"
        } else {
            "its store broke"
        };
        self.trace.count("coordinator ended", how);
        Ok(())
    }
}

fn config(setup: &Setup) -> Config {
    let mut config = Config::defaults();
    config.inflight_max.value = setup.inflight_max;
    config.recovery_inflight_max.value = setup.recovery_inflight_max;
    config.limits.timeout_min.value = Duration::from_secs(1);
    for name in participant::NAMES {
        let connects_out = setup.connects_out(name);
        let endpoint = format!("http://{name}:{}", participant::PORT);
        let endpoints = (!connects_out).then_some(endpoint);
        let participant = Participant {
            endpoints: setting(endpoints.into_iter().collect()),
            sessions: setting(connects_out),
            call_timeout: setting(Duration::from_millis(setup.call_timeout_ms)),
        };
        let name = ParticipantName::parse(name).expect("it obeys the alphabet of names");
        config.participants.insert(name, participant);
    }
    config
}

fn setting<T>(value: T) -> Setting<T> {
    Setting {
        value,
        origin: Origin::Default,
    }
}

fn connector(wires: &Wires) -> Connector {
    let wires = wires.clone();
    Connector::new(move |uri| {
        let wires = wires.clone();
        async move { wires.connect(&uri).await }
    })
    .reset_stream_duration(Duration::MAX)
}
