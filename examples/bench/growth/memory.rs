//! What a transaction occupies that waits for a participant, with no call under way.

use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use super::{CONCURRENCY, CONNECTIONS, Found, Ground, READY_TIMEOUT};
use crate::{
    aged::{AHEAD, Stand},
    calls::{Calls, Order, PAYLOAD_BYTES, is_refused},
    load::scattered_id,
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
    resident_before_kib: u64,
    resident_after_kib: u64,
    /// What came on for each, its payloads counted out.
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

async fn of(ground: &Ground<'_>, way: Way, folder: &std::path::Path) -> anyhow::Result<Point> {
    let transactions = ground.scaled(TRANSACTIONS);
    let launch = Launch {
        ready_timeout: READY_TIMEOUT,
        ..Launch::of(&ground.program)
    };
    let mut stage = Stage::set(Mode::Unary, launch, folder).await?;
    let before = stage.coordinator().await?;
    tokio::time::sleep(SETTLED).await;
    let resident_before_kib = usage::resident_kib(before.id())?;
    let after = if way == Way::Found {
        before.end().await?;
        let filled = ground
            .templates
            .fill(folder, Stand::Parked, "parked", transactions);
        filled.await?;
        stage.coordinator().await?
    } else {
        let order = Order::with(NAMES);
        let order = if way == Way::Submitted {
            // Nobody is where they were; connections are refused at once.
            stage.participants.clear();
            order.accepted(AHEAD)
        } else {
            order
        };
        submit(order, transactions, &before).await?;
        before
    };
    let waiting = if way == Way::Finished {
        0
    } else {
        transactions
    };
    after.metric(INFLIGHT, |inflight| inflight == 0).await?;
    after.metric(WAITING, |found| found == waiting).await?;
    tokio::time::sleep(SETTLED).await;
    let resident_after_kib = usage::resident_kib(after.id())?;
    after.kill().await?;
    let more_bytes = (resident_after_kib as f64 - resident_before_kib as f64) * 1024.0;
    let payloads = if way == Way::Finished {
        0.0
    } else {
        PAYLOADS_BYTES
    };
    Ok(Point {
        way,
        transactions,
        resident_before_kib,
        resident_after_kib,
        bytes_each: more_bytes / transactions as f64 - payloads,
    })
}

async fn submit(order: Order, transactions: u64, coordinator: &Coordinator) -> anyhow::Result<()> {
    let calls = Calls::ordering(order, coordinator, CONNECTIONS).await?;
    let submitted = stream::iter((0..transactions).zip(calls.iter().cycle()))
        .map(|(number, calls)| patiently(calls.clone(), scattered_id("waits", number)))
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
