//! Stores that have been in use for long, made fast: through the library, by the path that a coordinator
//! writes on, with records that a coordinator has made.

use std::{
    collections::VecDeque,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, bail};
use futures::executor::block_on;
use tempfile::TempDir;
use tercet::store::{Identity, Record, SledStore, Store as _, UnixMs};
use tercet_core::{ids::TransactionId, transaction::State};

use crate::{
    calls::{Calls, Order},
    load::Ids,
    mode::Mode,
    processes::{Launch, NAMES, store_in},
    stage::Stage,
};

/// Commits under way at the same time; enough for large batches.
const COMMITS_AT_ONCE: usize = 8192;
/// How often progress is told.
const PROGRESS_EVERY: u64 = 250_000;
/// How long a record stands for, at least.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// No attempt is further ahead than this after a start.
pub const AHEAD: Duration = Duration::from_secs(480);

/// What the transactions of a store have come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Confirmed, and kept for long.
    Finished,
    /// Both tries may have left; to be looked at as soon as the coordinator has started.
    Due,
    /// The same, but nothing is to be done for minutes.
    Parked,
}

/// Records that a coordinator has left behind, of which any number can be made.
pub struct Templates {
    finished: Arc<Record>,
    trying: Arc<Record>,
}

impl Templates {
    /// Has this coordinator make them.
    pub async fn made_by(program: &Path, dir: &Path) -> anyhow::Result<Self> {
        let folder = TempDir::with_prefix_in("templates-", dir)?;
        let stage = Stage::set(Mode::Unary, Launch::of(program), folder.path()).await?;
        let coordinator = stage.coordinator().await?;
        let mut calls = Calls::to(&coordinator, 1).await?;
        calls[0].transact("finished").await?;
        for participant in &stage.participants {
            participant.stop()?;
        }
        let order = Order::with(NAMES).accepted(AHEAD);
        let mut calls = Calls::ordering(order, &coordinator, 1).await?;
        calls[0].transact("trying").await?;
        coordinator.kill().await?;
        let store = store_in(folder.path());
        tokio::task::spawn_blocking(move || Self::read(&store)).await?
    }

    fn read(store: &Path) -> anyhow::Result<Self> {
        let store = SledStore::open(store)?;
        let read = |id: &str, state: State| -> anyhow::Result<Arc<Record>> {
            let record = store.read(&TransactionId::parse(id)?)?;
            let record =
                record.with_context(|| format!("{id} was acknowledged and is not there"))?;
            let found = record.transaction.state;
            if found != state {
                bail!("{id} is {found:?}; it should be {state:?}");
            }
            Ok(record)
        };
        Ok(Self {
            finished: read("finished", State::Confirmed)?,
            trying: read("trying", State::Trying)?,
        })
    }

    /// The first revision of a transaction that stands there.
    pub fn record(&self, stand: Stand, identity: &Identity, now_ms: UnixMs) -> Record {
        let later = |by: Duration| now_ms + UnixMs::try_from(by.as_millis()).unwrap_or(UnixMs::MAX);
        let template = match stand {
            Stand::Finished => &self.finished,
            Stand::Due | Stand::Parked => &self.trying,
        };
        let mut record = Record::clone(template);
        record.revision = 1;
        record.epoch = identity.epoch;
        record.boot = identity.boot;
        for event in &mut record.history {
            event.revision = 1;
        }
        match stand {
            Stand::Finished => record.keep_until_ms = Some(later(7 * DAY)),
            Stand::Due | Stand::Parked => {
                Arc::make_mut(&mut record.origin).expire_ms = later(DAY);
                let wait = if stand == Stand::Due {
                    Duration::ZERO
                } else {
                    AHEAD
                };
                for times in &mut record.branch_times {
                    times.next_attempt_ms = Some(later(wait));
                    times.interval_ms = Some(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
                }
            }
        }
        record
    }

    /// Puts so many into the store in this folder, which is made if there is none, and closes it. Ids have
    /// `name` in them. Says how long it took.
    pub async fn fill(
        &self,
        folder: &Path,
        stand: Stand,
        name: &str,
        ids: Ids,
        count: u64,
    ) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let path = store_in(folder);
        let store = tokio::task::spawn_blocking(move || SledStore::open(&path)).await??;
        let record = self.record(stand, store.identity(), unix_ms());
        let name = name.to_owned();
        tokio::task::spawn_blocking(move || commit_all(&store, &record, &name, ids, count))
            .await??;
        Ok(begun.elapsed())
    }
}

/// Now, as records have it.
pub fn unix_ms() -> UnixMs {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| {
        UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
    })
}

fn commit_all(
    store: &SledStore,
    record: &Record,
    name: &str,
    ids: Ids,
    count: u64,
) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut commits = VecDeque::new();
    for number in 0..count {
        let id = TransactionId::parse(&ids.of(name, number))?;
        let record = Record {
            id,
            ..record.clone()
        };
        commits.push_back(store.commit(Arc::new(record)));
        if commits.len() == COMMITS_AT_ONCE
            && let Some(oldest) = commits.pop_front()
        {
            drop(block_on(oldest)?);
        }
        if (number + 1).is_multiple_of(PROGRESS_EVERY) {
            let per_s = number as f64 / begun.elapsed().as_secs_f64();
            eprintln!("  {} of {count} records, {per_s:.0}/s", number + 1);
        }
    }
    for commit in commits {
        drop(block_on(commit)?);
    }
    Ok(())
}
