//! What is measured while clients work.

use std::time::Instant;

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    calls::Calls,
    leg::Leg,
    load::{Done, Load, Window},
    usage,
};

/// The figures of one leg.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    pub transactions: u64,
    pub transactions_per_s: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    /// Processor time for each transaction, of all processes, the clients' too.
    pub cpu_us: f64,
    pub coordinator: Option<OfCoordinator>,
}

/// The coordinator's part.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfCoordinator {
    /// For each transaction.
    pub cpu_us: f64,
    pub written_bytes: f64,
    pub resident_kib: u64,
    pub resident_peak_kib: u64,
    /// None when it was not killed.
    pub ended: Option<Ended>,
}

/// What was found out at its end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Ended {
    /// For each transaction, those of the warm-up counted in.
    pub syncs: f64,
    /// What the disk takes for a sync, on its own.
    pub fdatasync_us: u64,
    /// How many acknowledgements were looked up after the kill. None was missing.
    pub acknowledged: u64,
}

/// Lets clients work, and measures once they are warm. Ids are told from those of other loads by `prefix`.
/// `others` are the processes that work for them, beside the coordinator.
pub async fn measure(
    leg: &Leg,
    prefix: &str,
    calls: &[Calls],
    others: &[u32],
    coordinator: Option<u32>,
) -> anyhow::Result<(Measured, Done)> {
    let start = Instant::now() + leg.warm_up();
    let end = start + leg.measured;
    let window = Window::within(start, end);
    let load = Load::start(leg.ids, calls, leg.concurrency, prefix, window);
    tokio::time::sleep_until(start.into()).await;
    let before = Used::now(others, coordinator)?;
    tokio::time::sleep_until(end.into()).await;
    let after = Used::now(others, coordinator)?;
    let done = load.done().await?;
    if !done.is_faultless() {
        return Err(done.into_fault().context("a client met an error")?);
    }
    let mut latencies = Histogram::<u64>::new(3)?;
    for latency_us in done.latencies_us() {
        latencies.record(latency_us)?;
    }
    ensure!(!latencies.is_empty(), "not one transaction ended in time");
    let measured = Measured::new(leg, &latencies, &before, &after);
    Ok((measured, done))
}

impl Measured {
    fn new(leg: &Leg, latencies: &Histogram<u64>, before: &Used, after: &Used) -> Self {
        let transactions = latencies.len() as f64;
        let cpu_us = |before: f64, after: f64| (after - before) * 1e6 / transactions;
        let coordinator = after.coordinator.as_ref().zip(before.coordinator.as_ref());
        Self {
            transactions: latencies.len(),
            transactions_per_s: transactions / leg.measured.as_secs_f64(),
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            cpu_us: cpu_us(before.cpu_s, after.cpu_s),
            coordinator: coordinator.map(|(after, before)| OfCoordinator {
                cpu_us: cpu_us(before.cpu_s, after.cpu_s),
                written_bytes: (after.written_bytes - before.written_bytes) as f64 / transactions,
                resident_kib: after.resident_kib,
                resident_peak_kib: after.resident_peak_kib,
                ended: None,
            }),
        }
    }

    /// Adds what was found out after the load.
    pub fn ended(&mut self, ended: Ended) {
        if let Some(coordinator) = &mut self.coordinator {
            coordinator.ended = Some(ended);
        }
    }
}

/// What was used up to a moment, by all of them.
struct Used {
    cpu_s: f64,
    coordinator: Option<UsedByCoordinator>,
}

struct UsedByCoordinator {
    cpu_s: f64,
    written_bytes: u64,
    resident_kib: u64,
    resident_peak_kib: u64,
}

impl Used {
    fn now(others: &[u32], coordinator: Option<u32>) -> anyhow::Result<Self> {
        let mut used = Self {
            cpu_s: usage::cpu_s(std::process::id())?,
            coordinator: None,
        };
        for process in others {
            used.cpu_s += usage::cpu_s(*process)?;
        }
        if let Some(process) = coordinator {
            let cpu_s = usage::cpu_s(process)?;
            used.cpu_s += cpu_s;
            used.coordinator = Some(UsedByCoordinator {
                cpu_s,
                written_bytes: usage::written_bytes(process)?,
                resident_kib: usage::resident_kib(process)?,
                resident_peak_kib: usage::resident_peak_kib(process)?,
            });
        }
        Ok(used)
    }
}
