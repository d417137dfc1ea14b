//! The disk's use while transactions come, are kept for a while, and go: does it find an end?

use std::{collections::VecDeque, path::Path, sync::Arc};

use futures::{FutureExt as _, TryFutureExt as _, executor::block_on, future::BoxFuture};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;
use tercet::store::{Record, SledStore, Store as _, StoreError};
use tercet_core::ids::TransactionId;

use super::{Found, Ground};
use crate::{
    aged::{Stand, unix_ms},
    disk,
    load::scattered_id,
    processes::store_in,
};

/// After so many transactions.
#[derive(Debug, Serialize, Deserialize)]
pub struct Point {
    pub written: u64,
    pub kept: u64,
    pub disk_bytes: u64,
}

/// Comes in one cycle; what came so many cycles ago goes.
const BATCH: u64 = 20_000;
const KEPT_BATCHES: u64 = 5;
const CYCLES: u64 = 110;
/// Commits under way at the same time.
const AT_ONCE: usize = 4096;

pub async fn measure(ground: &Ground<'_>) -> anyhow::Result<Found<Point>> {
    let folder = TempDir::with_prefix_in("churn-", &ground.options.dir)?;
    let store = store_in(folder.path());
    let store = tokio::task::spawn_blocking(move || SledStore::open(&store)).await??;
    let (identity, now_ms) = (store.identity(), unix_ms());
    let churn = Churn {
        trying: ground.templates.record(Stand::Due, identity, now_ms),
        finished: ground.templates.record(Stand::Finished, identity, now_ms),
        store,
        batch: ground.scaled(BATCH),
    };
    let path = folder.path().to_owned();
    let points = tokio::task::spawn_blocking(move || churn.run(&path)).await??;
    let targets = Vec::new();
    Ok(Found { points, targets })
}

type Done = BoxFuture<'static, Result<(), StoreError>>;

struct Churn {
    store: SledStore,
    trying: Record,
    finished: Record,
    batch: u64,
}

impl Churn {
    fn run(self, folder: &Path) -> anyhow::Result<Vec<Point>> {
        let mut points = Vec::new();
        for cycle in 1..=CYCLES {
            self.each_of(cycle, |id| self.come(id))?;
            if let Some(old) = cycle.checked_sub(KEPT_BATCHES).filter(|old| *old > 0) {
                self.each_of(old, |id| self.go(id))?;
            }
            let point = Point {
                written: cycle * self.batch,
                kept: cycle.min(KEPT_BATCHES) * self.batch,
                disk_bytes: disk::used_bytes(folder)?,
            };
            println!("{point:?}");
            points.push(point);
        }
        Ok(points)
    }

    /// Has these writes of every transaction that came in this cycle done.
    fn each_of(
        &self,
        cycle: u64,
        writes: impl Fn(TransactionId) -> Vec<Done>,
    ) -> anyhow::Result<()> {
        let mut under_way = VecDeque::new();
        for number in 0..self.batch {
            let id = scattered_id("churn", cycle * self.batch + number);
            under_way.extend(writes(TransactionId::parse(&id)?));
            while under_way.len() > AT_ONCE
                && let Some(oldest) = under_way.pop_front()
            {
                block_on(oldest)?;
            }
        }
        for done in under_way {
            block_on(done)?;
        }
        Ok(())
    }

    /// As it is recorded, decided and finished.
    fn come(&self, id: TransactionId) -> Vec<Done> {
        let states = [(1, &self.trying), (2, &self.trying), (3, &self.finished)];
        let commits = states.map(|(revision, record)| {
            let id = id.clone();
            let record = Record {
                id,
                revision,
                ..record.clone()
            };
            self.store.commit(Arc::new(record)).map_ok(drop).boxed()
        });
        commits.into()
    }

    /// As it is when its time is over.
    fn go(&self, id: TransactionId) -> Vec<Done> {
        vec![self.store.purge(&id, 3)]
    }
}
