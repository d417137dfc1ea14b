//! Same seed, same history: whatever day it is, and however long the machine takes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use tokio::time::{sleep, timeout};
use tonic::transport::{Endpoint, Server};
use tonic_health::{
    pb::{HealthCheckRequest, health_client::HealthClient},
    server::health_reporter,
};

use crate::{
    clock::EPOCH_MS,
    parts::Parts,
    plan::Setup,
    wires::Wires,
    world::{Verdict, run_seed},
};

/// Whether two runs of one seed gave the same history; prints where they part.
pub fn same(seed: u64, one: &Verdict, other: &Verdict) -> bool {
    if one.hash == other.hash {
        return true;
    }
    let events = |verdict: &Verdict| -> Vec<String> {
        let events = verdict.inside.events.iter();
        events.map(|event| format!("{event:?}")).collect()
    };
    let (one, other) = (events(one), events(other));
    let at = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    println!("seed {seed} gave two histories; they part after {at} events:");
    println!("  {:?}\n  {:?}", one.get(at), other.get(at));
    false
}

/// Who asks the machine what time it is finds itself between the two.
#[test]
fn a_history_is_the_same_on_every_day() {
    const LATER_MS: i64 = 100 * 365 * 24 * 60 * 60 * 1000;
    for seed in 0..3 {
        let [one, other] = [EPOCH_MS, EPOCH_MS + LATER_MS].map(|epoch_ms| {
            let parts = Parts {
                epoch_ms,
                ..Parts::honest()
            };
            run_seed(seed, &Arc::new(parts))
        });
        assert!(same(seed, &one, &other), "the time of day is in a history");
    }
}

/// In this seed a shutdown meets several transactions at once, and the order in which their drivers are told
/// of it shows.
#[test]
fn a_history_is_the_same_however_many_are_told_to_leave() {
    const SEED: u64 = 750;
    let first = run_seed(SEED, &Arc::new(Parts::honest()));
    for _ in 0..4 {
        let again = run_seed(SEED, &Arc::new(Parts::honest()));
        assert!(same(SEED, &first, &again), "an order is left to chance");
    }
}

/// More than HTTP/2 remembers a stream for after it was reset.
const STALL: Duration = Duration::from_millis(1_100);

#[test]
fn a_caller_writes_the_same_when_the_machine_stalls() {
    assert_eq!(bytes_written(Duration::ZERO), bytes_written(STALL));
}

/// What a caller writes in all that gives a call up while its answer is under way, after which the
/// machine stalls.
fn bytes_written(stall: Duration) -> u64 {
    let setup = Setup::draw(&mut Rng::with_seed(0));
    let far = Setup {
        delay_ms_max: 10_000,
        ..setup.clone()
    };
    let near = Setup {
        delay_ms_max: 1,
        ..setup.clone()
    };
    let mut sim = turmoil::Builder::new()
        .tick_duration(setup.tick)
        .min_message_latency(Duration::ZERO)
        .max_message_latency(Duration::ZERO)
        .simulation_duration(Duration::MAX)
        .build();
    sim.host("server", move || {
        let far = far.clone();
        async move {
            let incoming = Wires::new("server", &far).incoming(80).await;
            let (_, health) = health_reporter();
            let server = Server::builder().add_service(health);
            Ok(server.serve_with_incoming(incoming).await?)
        }
    });
    let written = Arc::new(AtomicU64::new(0));
    let sum = Arc::clone(&written);
    sim.client("client", async move {
        let wires = Wires::new("client", &near);
        let endpoint = Endpoint::from_static("http://server:80");
        let mut client = HealthClient::new(wires.channel(&endpoint));
        client.check(HealthCheckRequest::default()).await?;
        let call = client.check(HealthCheckRequest::default());
        // Long enough to reach the server.
        let answer = timeout(Duration::from_millis(100), call).await;
        assert!(answer.is_err(), "too early to be late");
        // It is the connection's own task that resets the stream.
        sleep(Duration::from_millis(10)).await;
        thread::sleep(stall);
        sleep(Duration::from_secs(60)).await;
        sum.store(wires.bytes_written(), Ordering::Relaxed);
        Ok(())
    });
    sim.run().expect("the first call is answered");
    written.load(Ordering::Relaxed)
}
