//! Throughput by the branches of a transaction, over both ways of calling participants.

use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{CONNECTIONS, Found, Ground};
use crate::{
    calls::{Calls, Order},
    leg::Leg,
    load::Ids,
    measured,
    mode::Mode,
    processes::{Launch, NAMES},
    stage::{Stage, with_last_words},
};

/// One number of branches, one way.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub mode: Mode,
    pub branches: usize,
    pub transactions_per_s: f64,
    pub p50_us: u64,
    pub p99_us: u64,
    /// Of the coordinator, for each branch.
    pub cpu_us_per_branch: f64,
    pub written_bytes_per_branch: f64,
}

const BRANCHES: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];
const CONCURRENCY: u32 = 32;

pub async fn measure(ground: &Ground<'_>) -> anyhow::Result<Found<Point>> {
    let mut points = Vec::new();
    for mode in [Mode::Unary, Mode::Sessions] {
        for branches in BRANCHES {
            let folder = TempDir::with_prefix_in("branches-", &ground.options.dir)?;
            let point = of(ground, mode, branches, folder.path()).await;
            let point = with_last_words(point, folder.path())?;
            println!(
                "{mode:<8} {branches:>2} branches: {:.0} transactions/s, p99 {} us, {:.0} us of the coordinator's \
                 CPU a branch",
                point.transactions_per_s, point.p99_us, point.cpu_us_per_branch
            );
            points.push(point);
        }
    }
    let targets = Vec::new();
    Ok(Found { points, targets })
}

async fn of(
    ground: &Ground<'_>,
    mode: Mode,
    branches: usize,
    folder: &std::path::Path,
) -> anyhow::Result<Point> {
    let stage = Stage::set(mode, Launch::of(&ground.program), folder).await?;
    let coordinator = stage.coordinator().await?;
    let order = Order::with(NAMES.into_iter().cycle().take(branches));
    let calls = Calls::ordering(order, &coordinator, CONNECTIONS).await?;
    let leg = Leg {
        mode,
        concurrency: CONCURRENCY,
        connections: CONNECTIONS,
        measured: ground.seconds(),
        ids: Ids::default(),
        kill: false,
    };
    let (others, id) = (stage.processes(), Some(coordinator.id()));
    let (measured, _) = measured::measure(&leg, "done", &calls, &others, id).await?;
    coordinator.kill().await?;
    let its = measured.coordinator;
    let per_branch = |figure: Option<f64>| figure.unwrap_or(f64::NAN) / branches as f64;
    Ok(Point {
        mode,
        branches,
        transactions_per_s: measured.transactions_per_s,
        p50_us: measured.p50_us,
        p99_us: measured.p99_us,
        cpu_us_per_branch: per_branch(its.as_ref().map(|it| it.cpu_us)),
        written_bytes_per_branch: per_branch(its.as_ref().map(|it| it.written_bytes)),
    })
}
