//! Throughput and latency with finished transactions kept: does it matter how many?

use std::{path::PathBuf, time::Instant};

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{CONCURRENCY, CONNECTIONS, Found, Ground, READY_TIMEOUT};
use crate::{
    aged::Stand,
    calls::Calls,
    disk,
    leg::Leg,
    measured::{self, Measured},
    mode::Mode,
    processes::Launch,
    stage::{Stage, with_last_words},
    summary::{Target, median},
};

/// One size: medians of all rounds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub kept: u64,
    /// How long it took to make the store.
    filled_s: f64,
    /// From the start of the process until it listens.
    pub listening_s: f64,
    pub transactions_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// Of the coordinator, for each transaction.
    cpu_us: f64,
    written_bytes: f64,
    resident_kib: f64,
    /// The store's files, before the first round.
    disk_bytes: u64,
    /// Transactions/s to those with nothing kept, in each round.
    ratio: Option<f64>,
}

/// A store, and what was measured on it.
struct Aged {
    kept: u64,
    folder: TempDir,
    filled_s: f64,
    disk_bytes: u64,
    turns: Vec<Turn>,
}

struct Turn {
    listening_s: f64,
    measured: Measured,
}

const TARGET: f64 = 0.90;

pub async fn measure(ground: &Ground<'_>) -> anyhow::Result<Found<Point>> {
    let mut stores = Vec::new();
    for kept in ground.options.finished.iter().copied() {
        stores.push(Aged::make(ground, ground.scaled(kept)).await?);
    }
    for round in 1..=ground.rounds() {
        // Whoever comes first in a round comes last in another.
        let first = (round as usize - 1) % stores.len();
        for nth in 0..stores.len() {
            let store = (first + nth) % stores.len();
            stores[store].take_turn(ground, round).await?;
        }
    }
    let empty = stores.iter().position(|store| store.kept == 0);
    let points = stores
        .iter()
        .map(|it| it.point(empty.map(|at| &stores[at])));
    let points: Vec<Point> = points.collect();
    let targets = points.iter().filter(|it| it.kept > 0);
    let targets = targets.filter_map(|it| {
        let what = format!("throughput with {} kept to that with none", it.kept);
        Some(Target::at_least(TARGET, &what, it.ratio?))
    });
    let targets = targets.collect();
    Ok(Found { points, targets })
}

impl Aged {
    async fn make(ground: &Ground<'_>, kept: u64) -> anyhow::Result<Self> {
        println!("making a store with {kept} finished transactions");
        let folder = TempDir::with_prefix_in("finished-", &ground.options.dir)?;
        let filled = ground.templates.fill(
            folder.path(),
            Stand::Finished,
            "kept",
            ground.options.ids,
            kept,
        );
        let filled_s = filled.await?.as_secs_f64();
        let disk_bytes = disk::used_bytes(folder.path())?;
        println!("{kept:>9} kept: made in {filled_s:.1} s, {disk_bytes} bytes on the disk");
        Ok(Self {
            kept,
            folder,
            filled_s,
            disk_bytes,
            turns: Vec::new(),
        })
    }

    async fn take_turn(&mut self, ground: &Ground<'_>, round: u32) -> anyhow::Result<()> {
        let folder: PathBuf = self.folder.path().to_owned();
        let turn = with_last_words(turn(ground, &folder, round).await, &folder)?;
        let Measured {
            transactions_per_s,
            p99_us,
            ..
        } = turn.measured;
        let (kept, listening_s) = (self.kept, turn.listening_s);
        println!(
            "{kept:>9} kept, round {round}: listening after {listening_s:.2} s, {transactions_per_s:.0} \
             transactions/s, p99 {p99_us} us"
        );
        self.turns.push(turn);
        Ok(())
    }

    fn point(&self, empty: Option<&Aged>) -> Point {
        let of = |figure: &dyn Fn(&Turn) -> f64| {
            median(self.turns.iter().map(figure).collect()).unwrap_or(f64::NAN)
        };
        let rate = |turn: &Turn| turn.measured.transactions_per_s;
        let coordinator = |turn: &Turn| turn.measured.coordinator.clone();
        let ratios = empty.map(|empty| {
            let pairs = self.turns.iter().zip(&empty.turns);
            pairs.map(|(it, empty)| rate(it) / rate(empty)).collect()
        });
        Point {
            kept: self.kept,
            filled_s: self.filled_s,
            listening_s: of(&|it| it.listening_s),
            transactions_per_s: of(&rate),
            p50_us: of(&|it| it.measured.p50_us as f64),
            p99_us: of(&|it| it.measured.p99_us as f64),
            cpu_us: of(&|it| coordinator(it).map_or(f64::NAN, |it| it.cpu_us)),
            written_bytes: of(&|it| coordinator(it).map_or(f64::NAN, |it| it.written_bytes)),
            resident_kib: of(&|it| coordinator(it).map_or(f64::NAN, |it| it.resident_kib as f64)),
            disk_bytes: self.disk_bytes,
            ratio: ratios.and_then(median),
        }
    }
}

/// What a turn adds stays in the store, so no two may have the same ids.
async fn turn(ground: &Ground<'_>, folder: &std::path::Path, round: u32) -> anyhow::Result<Turn> {
    let launch = Launch {
        ready_timeout: READY_TIMEOUT,
        ..Launch::of(&ground.program)
    };
    let stage = Stage::set(Mode::Unary, launch, folder).await?;
    let begun = Instant::now();
    let coordinator = stage.coordinator().await?;
    let listening_s = begun.elapsed().as_secs_f64();
    let calls = Calls::to(&coordinator, CONNECTIONS).await?;
    let leg = Leg {
        mode: Mode::Unary,
        concurrency: CONCURRENCY,
        connections: CONNECTIONS,
        measured: ground.seconds(),
        ids: ground.options.ids,
        kill: false,
    };
    let (others, id) = (stage.processes(), Some(coordinator.id()));
    let prefix = format!("round-{round}");
    let (measured, _) = measured::measure(&leg, &prefix, &calls, &others, id).await?;
    drop(calls);
    coordinator.end().await?;
    Ok(Turn {
        listening_s,
        measured,
    })
}
