//! How long an id protects: a finished record is cut down after `retention`, and what is left of it is
//! purged `id_retention` later. Unfinished ones stay, however old.

use std::{sync::Arc, time::Duration};

use tercet_core::ids::TransactionId;

use super::Inner;
use crate::store::{Record, StoreError, UnixMs};

/// How often the store is asked what has outlived its time.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Records handled at once, so that a sweep never crowds out live work.
const BATCH_RECORDS: usize = 256;

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
        let outlived = engine
            .store
            .outlived(engine.clock.unix_ms(), BATCH_RECORDS)?;
        let full = outlived.len() == BATCH_RECORDS;
        let mut moved = false;
        for id in outlived {
            moved |= retire(engine, &id).await?;
            // A store at rest may do all of that without a pause.
            tokio::task::yield_now().await;
        }
        if !full || !moved || engine.draining.is_cancelled() {
            return Ok(());
        }
    }
}

/// True when the record was cut down or purged. A record that is corrupt, or that somebody changed
/// meanwhile, stays for now.
async fn retire(engine: &Inner, id: &TransactionId) -> Result<bool, StoreError> {
    let done = match engine.store.read(id) {
        Ok(None) => return Ok(false),
        Ok(Some(record)) if record.cut_down => engine.store.purge(id, record.revision).await,
        Ok(Some(record)) => {
            let record = cut_down(&record, engine);
            engine.store.commit(Arc::new(record)).await.map(drop)
        }
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Ok(true),
        Err(StoreError::Conflict { .. } | StoreError::Corrupt { .. }) => Ok(false),
        Err(broken @ StoreError::Broken(_)) => Err(broken),
    }
}

/// Id, digest, mode, state, decision, failure, revision and times: what answers a repeated Submit.
fn cut_down(record: &Record, engine: &Inner) -> Record {
    let identity = engine.store.identity();
    let keep_ms = UnixMs::try_from(engine.config.id_retention_ms).unwrap_or(UnixMs::MAX);
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
