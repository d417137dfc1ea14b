//! How long an id protects: a finished record is cut down after `retention`, and what is left of it is
//! purged `id_retention` later. Unfinished ones stay, however old.

use std::{sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt as _, TryFutureExt as _, join_all};
use tercet_core::ids::TransactionId;
use tokio::time::Instant;

use super::Inner;
use crate::store::{Identity, Record, Store, StoreError, UnixMs};

/// How often the store is asked what has outlived its time.
const SWEEP_EVERY: Duration = Duration::from_secs(10);
/// Looked up in one go: what was retired stands in the index for a while, and is passed over each time.
const LOOKED_UP: usize = 16 * 1024;
/// Retired together, so that they share one sync and nobody waits for each.
const BATCH_RECORDS: usize = 256;
/// A sweep rests so many times as long as a batch of it took, so that it never crowds out live work.
const REST: u32 = 1;

pub(super) async fn sweep_for_ever(engine: Arc<Inner>) {
    loop {
        tokio::select! {
            biased;
            () = engine.draining.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY) => {}
        }
        if let Err(error) = sweep(&engine).await {
            return engine.fail(&error);
        }
    }
}

async fn sweep(engine: &Inner) -> Result<(), StoreError> {
    loop {
        let now_ms = engine.clock.unix_ms();
        let look_up = move |store: &dyn Store| store.outlived(now_ms, LOOKED_UP);
        let outlived = engine.with_store(look_up).await?;
        let mut retired = 0;
        for batch in outlived.chunks(BATCH_RECORDS) {
            let since = Instant::now();
            retired += retire(engine, batch.to_vec(), now_ms).await?;
            tokio::select! {
                biased;
                () = engine.draining.cancelled() => return Ok(()),
                () = tokio::time::sleep(REST * since.elapsed()) => {}
            }
        }
        if outlived.len() < LOOKED_UP || retired == 0 {
            return Ok(());
        }
    }
}

/// Cuts down or purges these; how many. One that is corrupt, or that somebody changed meanwhile, stays for now.
async fn retire(
    engine: &Inner,
    ids: Vec<TransactionId>,
    now_ms: UnixMs,
) -> Result<usize, StoreError> {
    let keep_ms = UnixMs::try_from(engine.config.id_retention_ms).unwrap_or(UnixMs::MAX);
    let begin = move |store: &dyn Store| {
        let writes = ids.iter().map(|id| retire_one(store, id, now_ms, keep_ms));
        Ok(writes.flatten().collect::<Vec<_>>())
    };
    let writes = engine.with_store(begin).await?;
    let mut retired = 0;
    for done in join_all(writes).await {
        match done {
            Ok(()) => retired += 1,
            Err(StoreError::Conflict { .. } | StoreError::Corrupt { .. }) => {}
            Err(broken @ StoreError::Broken(_)) => return Err(broken),
        }
    }
    Ok(retired)
}

type Written = BoxFuture<'static, Result<(), StoreError>>;

/// What is to be written for one that has outlived its time, as its record has it now.
fn retire_one(
    store: &dyn Store,
    id: &TransactionId,
    now_ms: UnixMs,
    keep_ms: UnixMs,
) -> Option<Written> {
    let record = match store.read(id) {
        Ok(record) => record?,
        Err(error) => return Some(std::future::ready(Err(error)).boxed()),
    };
    let has_outlived = record.keep_until_ms.is_some_and(|until| until <= now_ms);
    if !has_outlived {
        return None;
    }
    if record.cut_down {
        return Some(store.purge(id, record.revision));
    }
    let record = cut_down(&record, store.identity(), keep_ms);
    Some(store.commit(Arc::new(record)).map_ok(drop).boxed())
}

/// Id, digest, mode, state, decision, failure, revision and times: what answers a repeated Submit.
fn cut_down(record: &Record, identity: &Identity, keep_ms: UnixMs) -> Record {
    let mut transaction = record.transaction.clone();
    transaction.branches.clear();
    transaction.attentions.clear();
    let mut origin = (*record.origin).clone();
    origin.labels.clear();
    origin.switches.clear();
    Record {
        revision: record.revision + 1,
        epoch: identity.epoch,
        boot: identity.boot,
        origin: Arc::new(origin),
        transaction,
        keep_until_ms: record
            .keep_until_ms
            .map(|until| until.saturating_add(keep_ms)),
        cut_down: true,
        branch_times: Vec::new(),
        attention_ms: Vec::new(),
        history: Vec::new(),
        history_dropped_revision: record.revision,
        ..record.clone()
    }
}

#[cfg(test)]
mod tests {
    use tercet_core::transaction::State;

    use super::*;
    use crate::store::{MemoryStore, smallest};

    #[tokio::test]
    async fn what_was_cut_down_since_it_was_looked_up_is_not_purged() {
        let store = MemoryStore::default();
        let mut record = smallest();
        record.transaction.state = State::Canceled;
        (record.cut_down, record.keep_until_ms) = (false, Some(10));
        let id = record.id.clone();
        drop(store.commit(Arc::new(record)).await.expect("it is new"));
        let retire = |now_ms| retire_one(&store, &id, now_ms, 100);
        assert!(retire(9).is_none(), "it is kept until 10");
        let cut_down = retire(10).expect("it is cut down");
        cut_down.await.expect("nobody else has written");
        assert!(retire(109).is_none(), "what is left is kept until 110");
        let purged = retire(110).expect("it is purged");
        purged.await.expect("nobody else has written");
        assert_eq!(store.read(&id), Ok(None));
    }
}
