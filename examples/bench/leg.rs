//! One mode's turn in one round: everything is started for it, and nothing is left of it.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use tempfile::TempDir;
use tercet::server::GAUGE_INTERVAL;

use crate::{
    calls::Calls,
    check, disk,
    load::{Done, Ids, Load, Window},
    measured::{Ended, Measured, measure},
    mode::Mode,
    participant::Sums,
    processes::{Coordinator, Launch},
    stage::{Stage, with_last_words},
};

/// What a coordinator counts is to be read in its metrics only after its next look at it.
const UNTIL_COUNTED: Duration = GAUGE_INTERVAL.saturating_add(Duration::from_millis(200));
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
    pub ids: Ids,
    /// Whether the coordinator is killed at the end, and its acknowledgements are checked.
    pub kill: bool,
}

impl Leg {
    /// The clients begin all at once; this is long enough for them to fall out of step.
    pub fn warm_up(&self) -> Duration {
        Duration::from_millis(300) + Duration::from_micros(500) * self.concurrency
    }
}

/// Where a leg takes place.
pub struct Place<'a> {
    /// The coordinator's.
    pub program: PathBuf,
    /// In which each leg has a folder of its own.
    pub dir: &'a Path,
}

/// Does it.
pub async fn run(leg: &Leg, place: &Place<'_>) -> anyhow::Result<Measured> {
    let folder = TempDir::with_prefix_in("store-", place.dir)?;
    let measured = play(leg, Launch::of(&place.program), folder.path()).await;
    with_last_words(measured, folder.path())
}

async fn play(leg: &Leg, launch: Launch, folder: &Path) -> anyhow::Result<Measured> {
    let stage = Stage::set(leg.mode, launch, folder).await?;
    let (measured, expected) = if leg.mode.has_coordinator() {
        stage.through_coordinator(leg).await?
    } else {
        stage.without_coordinator(leg).await?
    };
    for (participant, expected) in stage.participants.into_iter().zip(expected) {
        let sums = participant.end().await?;
        // What the kill made to be canceled is neither held nor confirmed.
        let fits = sums.held == expected.held && sums.confirmed == expected.confirmed;
        ensure!(
            fits,
            "a participant's sums don't fit: {sums}; expected {expected}"
        );
    }
    Ok(measured)
}

/// What was measured, and what the participants must have counted.
type Outcome = (Measured, [Sums; 2]);

impl Stage {
    async fn without_coordinator(&self, leg: &Leg) -> anyhow::Result<Outcome> {
        let (first, second) = (&self.participants[0], &self.participants[1]);
        let mut calls = Vec::new();
        for _ in 0..leg.connections {
            calls.push(match leg.mode {
                Mode::Raw => Calls::raw(&first.place).await?,
                _ => Calls::direct(&first.place, &second.place).await?,
            });
        }
        let (measured, done) = measure(leg, "done", &calls, &self.processes(), None).await?;
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

    async fn through_coordinator(&self, leg: &Leg) -> anyhow::Result<Outcome> {
        let coordinator = self.coordinator().await?;
        let calls = Calls::to(&coordinator, leg.connections).await?;
        let others = self.processes();
        let before = coordinator.metric(SYNCS, |_| true).await?;
        let (mut measured, done) =
            measure(leg, "done", &calls, &others, Some(coordinator.id())).await?;
        let mut confirmed = done.acknowledged();
        if leg.kill {
            tokio::time::sleep(UNTIL_COUNTED).await;
            let syncs = coordinator.metric(SYNCS, |_| true).await? - before;
            let fdatasync_us = disk::fdatasync_us(&self.folder).await?;
            let cut_off = kill_at_work(leg, &calls, coordinator).await?;
            measured.ended(Ended {
                syncs: syncs as f64 / confirmed as f64,
                fdatasync_us,
                acknowledged: confirmed + cut_off.acknowledged(),
            });
            let again = self.coordinator().await?;
            confirmed = check::kept(&again, &[&done, &cut_off]).await?;
            again.kill().await?;
        }
        let none = Sums::default();
        Ok((measured, [Sums { confirmed, ..none }; 2]))
    }
}

/// Lets clients work until the coordinator is killed under their hands.
async fn kill_at_work(
    leg: &Leg,
    calls: &[Calls],
    coordinator: Coordinator,
) -> anyhow::Result<Done> {
    let start = Instant::now();
    let end = start + KILL_TIMEOUT;
    let window = Window::within(start, end);
    let load = Load::start(leg.ids, calls, leg.concurrency, "killed", window);
    tokio::time::sleep(UNTIL_KILL).await;
    coordinator.kill().await?;
    let done = load.done().await?;
    if done.unanswered_ids().count() < leg.concurrency as usize {
        bail!("a client went on after the coordinator was killed");
    }
    Ok(done)
}
