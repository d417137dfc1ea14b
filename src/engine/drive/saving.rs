//! How what is known becomes durable, and only then visible.

use std::sync::Arc;

use tercet_core::receipt::Receipt;

use super::Drive;
use crate::{
    engine::callers::is_settled,
    store::{Record, StoreError},
};

impl Drive {
    /// Commits what is known, and shows it, before anything that follows from it.
    pub(super) async fn save(&mut self) -> Result<Receipt, StoreError> {
        self.end_saving().await?;
        let record = self.seal();
        let receipt = self.engine.store.commit(Arc::clone(&record)).await?;
        self.show(record, &receipt);
        Ok(receipt)
    }

    /// Commits what is known; nobody waits for it.
    pub(super) fn save_soon(&mut self) {
        if self.saving.is_some() {
            self.save_again = true;
            return;
        }
        let record = self.seal();
        let commit = self.engine.store.commit(Arc::clone(&record));
        self.saving = Some(Box::pin(async move { (record, commit.await) }));
    }

    pub(super) fn saved(
        &mut self,
        record: Arc<Record>,
        result: Result<Receipt, StoreError>,
    ) -> Result<(), StoreError> {
        self.saving = None;
        self.show(record, &result?);
        if std::mem::take(&mut self.save_again) {
            self.save_soon();
        }
        Ok(())
    }

    pub(super) async fn end_saving(&mut self) -> Result<(), StoreError> {
        self.save_again = false;
        self.catch_up().await
    }

    /// Waits for the commit under way: readers of the store may see it before its driver hears of it.
    pub(super) async fn catch_up(&mut self) -> Result<(), StoreError> {
        match self.saving.take() {
            Some(saving) => {
                let (record, result) = saving.await;
                self.saved(record, result)
            }
            None => Ok(()),
        }
    }

    fn seal(&mut self) -> Arc<Record> {
        let engine = &self.engine;
        let draft = self.draft.as_mut().expect("there is something to save");
        draft.seal(
            engine.store.identity(),
            engine.clock.unix_ms(),
            engine.config.retention_ms,
        )
    }

    /// Nothing is shown that the store has not acknowledged.
    fn show(&mut self, record: Arc<Record>, _receipt: &Receipt) {
        let settled = is_settled(&record);
        self.seen.send_replace(Some(record));
        if settled {
            self.held.let_go();
        }
    }
}
