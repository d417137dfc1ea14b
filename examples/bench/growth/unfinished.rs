//! A start with unfinished transactions: how soon it answers, what it occupies, how fast it catches up, and how
//! many calls that takes at once.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{Found, Ground, READY_TIMEOUT};
use crate::{
    aged::Stand,
    calls::Calls,
    load::Ids,
    mode::Mode,
    processes::{Coordinator, Launch, logged},
    stage::{Stage, with_last_words},
    summary::Target,
    usage,
};

/// One number of unfinished transactions, all of them due at once.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub unfinished: u64,
    /// From the start of the process until it listens.
    pub listening_s: f64,
    /// Until a new transaction was answered SUCCESS, the work of its participants counted in.
    pub first_answer_s: f64,
    /// Until all of them had been found in the store and scheduled.
    scheduled_s: f64,
    /// At the most, until then.
    pub resident_scheduled_kib: u64,
    /// At the most, as long as it was watched.
    pub resident_peak_kib: u64,
    /// For how long, and how many were finished then.
    watched_s: f64,
    recovered: u64,
    /// The most calls under way at one participant that never answers.
    calls_at_once: u64,
}

pub const FIRST_ANSWER_S: f64 = 5.0;
pub const RESIDENT_KIB: f64 = 1024.0 * 1024.0;
/// Recovery has 1024 transactions under way by default.
const CALLS_AT_ONCE: f64 = 1024.0;
const FOUND: &str = "unfinished transactions found";
const WAITING: &str = "tercet_transactions_waiting";
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How long participants that never answer are called: three times as long as one call may take.
const UNANSWERED: Duration = Duration::from_secs(9);
/// More unfinished ones would not make more calls.
const SILENT_MAX: u64 = 100_000;
/// How long the last ones may take when nothing waits any more.
const LAST: Duration = Duration::from_secs(2);

pub async fn measure(ground: &Ground<'_>) -> anyhow::Result<Found<Point>> {
    let (mut points, mut targets) = (Vec::new(), Vec::new());
    for unfinished in ground.options.unfinished.iter().copied() {
        let point = of(ground, ground.scaled(unfinished)).await?;
        println!("{point:#?}");
        let what = |what: &str| format!("{what} with {} unfinished", point.unfinished);
        let (kib, calls) = (point.resident_scheduled_kib, point.calls_at_once);
        targets.extend([
            Target::at_most(
                FIRST_ANSWER_S,
                &what("seconds to the first answer"),
                point.first_answer_s,
            ),
            Target::at_most(RESIDENT_KIB, &what("resident KiB"), kib as f64),
            Target::at_most(
                CALLS_AT_ONCE,
                &what("calls at once of each participant"),
                calls as f64,
            ),
        ]);
        points.push(point);
    }
    Ok(Found { points, targets })
}

async fn of(ground: &Ground<'_>, unfinished: u64) -> anyhow::Result<Point> {
    let mut point = watched(ground, unfinished).await?;
    point.calls_at_once = calls_at_once(ground, unfinished.min(SILENT_MAX)).await?;
    Ok(point)
}

async fn watched(ground: &Ground<'_>, unfinished: u64) -> anyhow::Result<Point> {
    let folder = store(ground, unfinished).await?;
    let stage = Stage::set(Mode::Unary, launch(ground), folder.path()).await?;
    let watched = watch(ground, unfinished, stage).await;
    with_last_words(watched, folder.path())
}

async fn store(ground: &Ground<'_>, unfinished: u64) -> anyhow::Result<TempDir> {
    println!("making a store with {unfinished} unfinished transactions");
    let folder = TempDir::with_prefix_in("unfinished-", &ground.options.dir)?;
    let filled =
        ground
            .templates
            .fill(folder.path(), Stand::Due, "due", Ids::default(), unfinished);
    filled.await?;
    Ok(folder)
}

fn launch(ground: &Ground<'_>) -> Launch {
    Launch {
        ready_timeout: READY_TIMEOUT,
        ..Launch::of(&ground.program)
    }
}

async fn watch(ground: &Ground<'_>, unfinished: u64, stage: Stage) -> anyhow::Result<Point> {
    let begun = Instant::now();
    let coordinator = stage.coordinator().await?;
    let listening_s = begun.elapsed().as_secs_f64();
    let first = async {
        let mut calls = Calls::to(&coordinator, 1).await?;
        calls[0].transact("first").await?;
        anyhow::Ok(begun.elapsed().as_secs_f64())
    };
    let scheduled = async {
        while unfinished > 0 && !logged(&stage.folder, FOUND)? {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let resident_kib = usage::resident_peak_kib(coordinator.id())?;
        anyhow::Ok((begun.elapsed().as_secs_f64(), resident_kib))
    };
    let both = async { tokio::try_join!(first, scheduled) };
    let both = tokio::time::timeout(READY_TIMEOUT, both).await;
    let (first_answer_s, (scheduled_s, resident_scheduled_kib)) =
        both.context("the coordinator does not answer, or does not find what is unfinished")??;
    recover(&coordinator, ground.options.recovery).await?;
    let watched_s = begun.elapsed().as_secs_f64();
    let resident_peak_kib = usage::resident_peak_kib(coordinator.id())?;
    coordinator.kill().await?;
    // A transaction is finished when the last of its participants has confirmed.
    let mut confirmed = u64::MAX;
    for participant in stage.participants {
        confirmed = confirmed.min(participant.end().await?.confirmed);
    }
    Ok(Point {
        unfinished,
        listening_s,
        first_answer_s,
        scheduled_s,
        resident_scheduled_kib,
        resident_peak_kib,
        watched_s,
        recovered: confirmed.saturating_sub(1),
        calls_at_once: 0,
    })
}

/// Waits until nothing is left to be recovered, or for so long.
async fn recover(coordinator: &Coordinator, at_most: Duration) -> anyhow::Result<()> {
    let nothing_waits = async {
        loop {
            let waiting = coordinator.metric(WAITING, |_| true).await?;
            if waiting == 0 {
                return anyhow::Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    };
    match tokio::time::timeout(at_most, nothing_waits).await {
        Ok(ended) => ended?,
        Err(_) => return Ok(()),
    }
    tokio::time::sleep(LAST).await;
    Ok(())
}

/// With participants that answer nothing, everything that may be under way is.
async fn calls_at_once(ground: &Ground<'_>, unfinished: u64) -> anyhow::Result<u64> {
    let folder = store(ground, unfinished).await?;
    let stage = Stage::silent(launch(ground), folder.path()).await?;
    let coordinator = stage.coordinator().await?;
    tokio::time::sleep(UNANSWERED).await;
    coordinator.kill().await?;
    let mut most = 0;
    for participant in stage.participants {
        most = most.max(participant.end().await?.held);
    }
    Ok(most)
}
