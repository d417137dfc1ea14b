//! One mode's turn in one round: everything is started for it, and nothing is left of it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use hdrhistogram::Histogram;
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    calls::Calls,
    check, disk,
    load::{Done, Load, Window},
    mode::Mode,
    participant::Sums,
    processes::{Coordinator, NAMES, Participant, last_words},
    usage,
};

const WARM_UP: Duration = Duration::from_millis(500);
/// A coordinator's count of its syncs is brought up to date every second.
const COUNTED: Duration = Duration::from_millis(1_200);
const SYNCS: &str = "tercet_store_syncs_total";
/// How long clients work before the coordinator is killed in the middle of it.
const UNTIL_KILL: Duration = Duration::from_millis(300);
/// Clients stop by themselves if the kill doesn't stop them.
const KILL_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be measured.
#[derive(Clone, Copy, Debug)]
pub struct Leg {
    pub mode: Mode,
    pub concurrency: u32,
    pub connections: usize,
    pub measured: Duration,
    /// Whether the coordinator is killed at the end, and its acknowledgements are checked.
    pub kill: bool,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    pub transactions: u64,
    pub seconds: f64,
    pub transactions_per_s: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub p999_us: u64,
    /// Processor time for each transaction, of all processes, the clients' too.
    pub cpu_us: f64,
    pub coordinator: Option<OfCoordinator>,
}

/// The coordinator's part. What is counted is for each transaction.
#[derive(Clone, Debug, Serialize)]
pub struct OfCoordinator {
    pub cpu_us: f64,
    pub written_bytes: f64,
    pub resident_kib: u64,
    pub resident_peak_kib: u64,
    /// None when it was not killed.
    pub ended: Option<Ended>,
}

/// What was found out at the end.
#[derive(Clone, Debug, Serialize)]
pub struct Ended {
    /// For each transaction, those of the warm-up counted in.
    pub syncs: f64,
    /// What the disk takes for a sync, on its own.
    pub fdatasync_us: u64,
    /// How many acknowledgements were looked up after the kill. None was missing.
    pub acknowledged: u64,
}

/// Does it, with the store in a folder of its own in `dir`.
pub async fn run(leg: &Leg, program: &Path, dir: &Path) -> anyhow::Result<Measured> {
    let folder = TempDir::with_prefix_in("store-", dir)?;
    let measured = measure(leg, program, folder.path()).await;
    measured.map_err(|error| match last_words(folder.path()) {
        log if log.is_empty() => error,
        log => error.context(format!("the coordinator's last words:\n{log}\n")),
    })
}

async fn measure(leg: &Leg, program: &Path, folder: &Path) -> anyhow::Result<Measured> {
    let mut participants = Vec::new();
    for name in NAMES {
        participants.push(Participant::start(name).await?);
    }
    let (measured, expected) = if leg.mode.has_coordinator() {
        let coordinator = Coordinator::start(program, folder, &participants).await?;
        through_coordinator(leg, program, folder, &participants, coordinator).await?
    } else {
        without_coordinator(leg, &participants).await?
    };
    for (name, (participant, expected)) in NAMES.iter().zip(participants.into_iter().zip(expected))
    {
        let sums = participant.end().await?;
        // A transaction that was canceled after the kill is as good as none.
        let canceled = sums.canceled;
        ensure!(
            sums == Sums {
                canceled,
                ..expected
            },
            "the sums of {name} don't fit: {sums}; expected {expected}"
        );
    }
    Ok(measured)
}

/// What was measured, and what the participants must have counted.
type Outcome = (Measured, [Sums; 2]);

async fn without_coordinator(leg: &Leg, participants: &[Participant]) -> anyhow::Result<Outcome> {
    let mut calls = Vec::new();
    for _ in 0..leg.connections {
        calls.push(match (leg.mode, participants) {
            (Mode::Raw, [first, ..]) => Calls::raw(&first.url).await?,
            (_, [first, second, ..]) => Calls::direct(&first.url, &second.url).await?,
            _ => bail!("a transaction has two participants"),
        });
    }
    let (measured, done) = load(leg, &calls, participants, None).await?;
    let acknowledged = done.acknowledged();
    let none = Sums::default();
    let expected = if leg.mode == Mode::Raw {
        let held = acknowledged;
        [Sums { held, ..none }, none]
    } else {
        let confirmed = acknowledged;
        [Sums { confirmed, ..none }; 2]
    };
    Ok((measured, expected))
}

async fn through_coordinator(
    leg: &Leg,
    program: &Path,
    folder: &Path,
    participants: &[Participant],
    coordinator: Coordinator,
) -> anyhow::Result<Outcome> {
    let mut calls = Vec::new();
    for _ in 0..leg.connections {
        calls.push(Calls::submit(&coordinator.url).await?);
    }
    let before = coordinator.counter(SYNCS).await.unwrap_or(0);
    let (mut measured, done) = load(leg, &calls, participants, Some(&coordinator)).await?;
    let mut confirmed = done.acknowledged();
    if leg.kill {
        tokio::time::sleep(COUNTED).await;
        let syncs = coordinator.counter(SYNCS).await? - before;
        let fdatasync_us = disk::fdatasync_us(folder).await?;
        let cut_off = kill_at_work(leg, &calls, coordinator).await?;
        let ended = Ended {
            syncs: syncs as f64 / confirmed as f64,
            fdatasync_us,
            acknowledged: confirmed + cut_off.acknowledged(),
        };
        confirmed = check::kept(program, folder, participants, &[&done, &cut_off]).await?;
        if let Some(figures) = &mut measured.coordinator {
            figures.ended = Some(ended);
        }
    }
    let none = Sums::default();
    Ok((measured, [Sums { confirmed, ..none }; 2]))
}

/// Lets clients work until the coordinator is killed under their hands.
async fn kill_at_work(
    leg: &Leg,
    calls: &[Calls],
    coordinator: Coordinator,
) -> anyhow::Result<Done> {
    let start = Instant::now();
    let end = start + KILL_TIMEOUT;
    let load = Load::start(calls, leg.concurrency, "killed", Window { start, end });
    tokio::time::sleep(UNTIL_KILL).await;
    coordinator.kill().await?;
    load.done().await
}

/// Warms up and measures.
async fn load(
    leg: &Leg,
    calls: &[Calls],
    participants: &[Participant],
    coordinator: Option<&Coordinator>,
) -> anyhow::Result<(Measured, Done)> {
    let mut processes: Vec<u32> = participants.iter().map(Participant::id).collect();
    processes.push(std::process::id());
    processes.extend(coordinator.map(Coordinator::id));

    let start = Instant::now() + WARM_UP;
    let end = start + leg.measured;
    let load = Load::start(calls, leg.concurrency, "done", Window { start, end });
    tokio::time::sleep_until(start.into()).await;
    let before = Used::now(&processes, coordinator)?;
    tokio::time::sleep_until(end.into()).await;
    let after = Used::now(&processes, coordinator)?;
    let resident = coordinator.map(|it| {
        let id = it.id();
        anyhow::Ok((usage::resident_kib(id)?, usage::resident_peak_kib(id)?))
    });
    let done = load.done().await?;
    if !done.is_faultless() {
        return Err(done.into_fault().context("a client met an error")?);
    }

    let mut latencies = Histogram::<u64>::new(3)?;
    for latency_us in done.latencies_us() {
        latencies.record(latency_us)?;
    }
    let transactions = latencies.len();
    ensure!(transactions > 0, "not one transaction ended in time");
    let each = transactions as f64;
    let quantile = |quantile| latencies.value_at_quantile(quantile);
    let resident = resident.transpose()?;
    let coordinator = resident.map(|(resident_kib, resident_peak_kib)| OfCoordinator {
        cpu_us: (after.coordinator_cpu_s - before.coordinator_cpu_s) * 1e6 / each,
        written_bytes: (after.written_bytes - before.written_bytes) as f64 / each,
        resident_kib,
        resident_peak_kib,
        ended: None,
    });
    let measured = Measured {
        transactions,
        seconds: leg.measured.as_secs_f64(),
        transactions_per_s: each / leg.measured.as_secs_f64(),
        p50_us: quantile(0.5),
        p99_us: quantile(0.99),
        p999_us: quantile(0.999),
        cpu_us: (after.cpu_s - before.cpu_s) * 1e6 / each,
        coordinator,
    };
    Ok((measured, done))
}

/// What was used up to a moment.
struct Used {
    cpu_s: f64,
    coordinator_cpu_s: f64,
    written_bytes: u64,
}

impl Used {
    fn now(processes: &[u32], coordinator: Option<&Coordinator>) -> anyhow::Result<Self> {
        let mut used = Self {
            cpu_s: 0.0,
            coordinator_cpu_s: 0.0,
            written_bytes: 0,
        };
        for process in processes {
            used.cpu_s += usage::cpu_s(*process)?;
        }
        if let Some(coordinator) = coordinator {
            used.coordinator_cpu_s = usage::cpu_s(coordinator.id())?;
            used.written_bytes = usage::written_bytes(coordinator.id())?;
        }
        Ok(used)
    }
}
