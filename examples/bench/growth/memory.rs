//! What a transaction occupies that waits for a participant, with no call under way.

use std::{path::Path, time::Duration};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{CONCURRENCY, CONNECTIONS, Found, Ground, READY_TIMEOUT};
use crate::{
    aged::{AHEAD, Stand},
    calls::{Calls, Order, PAYLOAD_BYTES, is_refused},
    load::{Ids, scattered_id},
    mode::Mode,
    processes::{Coordinator, Launch, NAMES},
    stage::{Stage, with_last_words},
    summary::Target,
    usage,
};

/// One way in which transactions come to wait.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub way: Way,
    transactions: u64,
    resident_empty_kib: u64,
    /// With so many, and with twice as many.
    resident_once_kib: u64,
    resident_twice_kib: u64,
    /// What the second half of them brought for each, its payloads counted out: caches were full before.
    pub bytes_each: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Way {
    /// They finish: what only the traffic leaves behind, the store's cache above all.
    Finished,
    /// They were submitted, but a participant is away.
    Submitted,
    /// A start has found them.
    Found,
}

const TRANSACTIONS: u64 = 100_000;
const TARGET_BYTES: f64 = 2048.0;
const PAYLOADS_BYTES: f64 = (PAYLOAD_BYTES * NAMES.len()) as f64;
const COME_AGAIN: Duration = Duration::from_millis(100);
/// A driver that has nothing to do ends within two seconds.
const SETTLED: Duration = Duration::from_secs(4);
const INFLIGHT: &str = "tercet_transactions_inflight";
const WAITING: &str = "tercet_transactions_waiting";

pub async fn measure(ground: &Ground<'_>) -> anyhow::Result<Found<Point>> {
    let mut points = Vec::new();
    for way in [Way::Finished, Way::Submitted, Way::Found] {
        let folder = TempDir::with_prefix_in("memory-", &ground.options.dir)?;
        let point = of(ground, way, folder.path()).await;
        let point = with_last_words(point, folder.path())?;
        println!("{point:?}");
        points.push(point);
    }
    let waiting = points.iter().filter(|point| point.way != Way::Finished);
    let targets = waiting.map(|point| {
        let what = format!("bytes for each that waits, {:?}", point.way);
        Target::at_most(TARGET_BYTES, &what, point.bytes_each)
    });
    let targets = targets.collect();
    Ok(Found { points, targets })
}

async fn of(ground: &Ground<'_>, way: Way, folder: &Path) -> anyhow::Result<Point> {
    let transactions = ground.scaled(TRANSACTIONS);
    let launch = Launch {
        ready_timeout: READY_TIMEOUT,
        ..Launch::of(&ground.program)
    };
    let mut stage = Stage::set(Mode::Unary, launch, folder).await?;
    let mut coordinator = stage.coordinator().await?;
    if way == Way::Submitted {
        // Nobody is where they were; connections are refused at once.
        for participant in stage.participants.drain(..) {
            participant.end().await?;
        }
    }
    let resident_empty_kib = resident_kib(&coordinator, 0).await?;
    let mut resident = [0; 2];
    for (name, (times, resident_kib_then)) in
        ["once", "twice"].into_iter().zip((1..).zip(&mut resident))
    {
        match way {
            Way::Finished => submit(Order::with(NAMES), name, transactions, &coordinator).await?,
            Way::Submitted => {
                let order = Order::with(NAMES).accepted(AHEAD);
                submit(order, name, transactions, &coordinator).await?;
            }
            Way::Found => {
                coordinator.end().await?;
                let filled = ground.templates.fill(
                    folder,
                    Stand::Parked,
                    name,
                    Ids::default(),
                    transactions,
                );
                filled.await?;
                coordinator = stage.coordinator().await?;
            }
        }
        let waiting = if way == Way::Finished {
            0
        } else {
            times * transactions
        };
        *resident_kib_then = resident_kib(&coordinator, waiting).await?;
    }
    coordinator.kill().await?;
    let [resident_once_kib, resident_twice_kib] = resident;
    let more_bytes = (resident_twice_kib as f64 - resident_once_kib as f64) * 1024.0;
    let payloads = if way == Way::Finished {
        0.0
    } else {
        PAYLOADS_BYTES
    };
    Ok(Point {
        way,
        transactions,
        resident_empty_kib,
        resident_once_kib,
        resident_twice_kib,
        bytes_each: more_bytes / transactions as f64 - payloads,
    })
}

/// What it occupies when nothing is under way and so many wait.
async fn resident_kib(coordinator: &Coordinator, waiting: u64) -> anyhow::Result<u64> {
    coordinator
        .metric(INFLIGHT, |inflight| inflight == 0)
        .await?;
    coordinator
        .metric(WAITING, |found| found == waiting)
        .await?;
    tokio::time::sleep(SETTLED).await;
    usage::resident_kib(coordinator.id())
}

async fn submit(
    order: Order,
    name: &str,
    transactions: u64,
    coordinator: &Coordinator,
) -> anyhow::Result<()> {
    let calls = Calls::ordering(order, coordinator, CONNECTIONS).await?;
    let submitted = stream::iter((0..transactions).zip(calls.iter().cycle()))
        .map(|(number, calls)| patiently(calls.clone(), scattered_id(name, number)))
        .buffer_unordered(CONCURRENCY as usize)
        .try_collect();
    submitted.await
}

/// Comes again when too much is in flight.
async fn patiently(mut calls: Calls, id: String) -> anyhow::Result<()> {
    loop {
        match calls.transact(&id).await {
            Err(error) if is_refused(&error) => tokio::time::sleep(COME_AGAIN).await,
            ended => return ended,
        }
    }
}
