//! How a driver begins, rests and ends.

use std::{sync::Arc, time::Duration};

use tercet_core::step::Input;
use tokio::time::Instant;

use super::Drive;
use crate::{
    engine::{
        EngineError,
        draft::{Draft, span},
        loading::{self, Grace},
    },
    store::StoreError,
};

/// A timer this near keeps its transaction in memory: parking and loading it again costs more.
const STAYS_FOR: Duration = Duration::from_secs(2);

impl Drive {
    pub(super) async fn load(&mut self) -> Result<(), StoreError> {
        let parked = self.engine.schedule.take(&self.id);
        let Some(record) = self.engine.store.read(&self.id)? else {
            return Ok(());
        };
        self.seen.send_replace(Some(Arc::clone(&record)));
        self.draft = Some(Draft::loaded(Arc::clone(&record)));
        if record.transaction.state.is_terminal() {
            return Ok(());
        }
        if let Some(timers) = parked {
            self.timers = timers;
            return Ok(());
        }
        self.timers = loading::timers(&record, self.engine.clock.unix_ms());
        self.grace = Grace::hold(&record, &mut self.timers);
        let step = record.transaction.step(Input::Recovered, self.context());
        self.apply(step, "recovery", None).await
    }

    /// True when nothing moves and nothing will very soon, and the store has all of it.
    pub(super) fn is_idle(&mut self) -> bool {
        let Some(draft) = &self.draft else {
            return true;
        };
        if draft.transaction().state.is_terminal() {
            return self.saving.is_none();
        }
        let near = Instant::now() + STAYS_FOR;
        let soon = !self.leaving && self.timers.next().is_some_and(|at| at < near);
        if soon || !self.calls.is_empty() || self.saving.is_some() {
            return false;
        }
        if draft.is_dirty() {
            self.save_soon();
            return false;
        }
        true
    }

    /// Leaves the live ones; what is unfinished stays in the schedule until its next timer.
    pub(super) fn retire(&mut self) -> bool {
        let unfinished = self
            .draft
            .as_ref()
            .is_some_and(|draft| !draft.transaction().state.is_terminal());
        let Self {
            engine,
            id,
            inbox,
            timers,
            ..
        } = self;
        engine.live.retire(id, inbox, !unfinished, || {
            if unfinished {
                engine.schedule.park(id, std::mem::take(timers));
            }
        })
    }

    /// The process goes away: what is known is saved, the rest is found by the next one.
    pub(super) async fn hand_back(&mut self) -> Result<(), StoreError> {
        self.end_saving().await?;
        if self.draft.as_ref().is_some_and(Draft::is_dirty) {
            drop(self.save().await?);
        }
        self.leave(&self.engine.gone());
        Ok(())
    }

    pub(super) fn give_up(&mut self, error: &StoreError) {
        let about = span(&self.id);
        match error {
            StoreError::Broken(_) => self.engine.fail(error),
            StoreError::Corrupt { .. } => tracing::error!(%error, "the record is quarantined"),
            StoreError::Conflict { .. } => tracing::warn!(%error, "reading it again"),
        }
        drop(about);
        self.leave(&error.clone().into());
        if let StoreError::Conflict { .. } = error {
            self.engine.schedule.again(&self.id);
        }
    }

    fn leave(&mut self, error: &EngineError) {
        loop {
            while let Ok(command) = self.inbox.try_recv() {
                command.refuse(error.clone());
            }
            if self.engine.live.retire(&self.id, &self.inbox, true, || {}) {
                return;
            }
        }
    }
}
