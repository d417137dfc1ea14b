//! How callers reach a transaction's driver, and how long they wait.

use std::{sync::Arc, time::Duration};

use tercet_core::{
    ids::TransactionId,
    outcome::{Outcome, ReplyMode},
    request::Request,
};
use tokio::time::Instant;

use super::{
    Engine, EngineError, Inner,
    live::{self, Command, Done, Follow},
};
use crate::store::Record;

impl Engine {
    pub(super) async fn ask(
        &self,
        id: &TransactionId,
        request: Request,
        wait: Option<Duration>,
    ) -> Result<(Follow, bool), EngineError> {
        self.send(id, |reply| Command::Ask(Box::new(request), wait, reply))
            .await
    }

    /// Sends a command to the transaction's driver, and follows the transaction once it has been
    /// carried out. True: this caller is the one whose wait counts.
    pub(super) async fn send(
        &self,
        id: &TransactionId,
        command: impl FnOnce(live::Reply) -> Command,
    ) -> Result<(Follow, bool), EngineError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        let seen = self.inner.send(id, command(reply))?;
        let Done { first, record } = answer.await.map_err(|_| self.inner.gone())??;
        Ok((Follow::live(record, seen), first))
    }

    /// Sends a command whose caller does not wait for what follows from it: nobody attends to the
    /// transaction because of it.
    pub(super) async fn tell(
        &self,
        id: &TransactionId,
        command: impl FnOnce(live::Reply) -> Command,
    ) -> Result<Arc<Record>, EngineError> {
        let (reply, answer) = tokio::sync::oneshot::channel();
        drop(self.inner.send(id, command(reply))?);
        let Done { record, .. } = answer.await.map_err(|_| self.inner.gone())??;
        Ok(record)
    }

    /// Waits for SUCCESS or FAILED. TWO_STATE never answers PROCESSING: its first caller gets the
    /// decision that the end of its wait forces, any other caller no outcome at all.
    pub(super) async fn settle(
        &self,
        follow: &mut Follow,
        deadline: Instant,
        first: bool,
    ) -> Result<Arc<Record>, EngineError> {
        let two_state = follow.record().transaction.mode == ReplyMode::TwoState;
        if two_state && first {
            follow.until(is_definitive).await;
        } else {
            self.reach(follow, deadline, is_definitive).await;
        }
        let record = follow.record();
        if two_state && !is_definitive(&record) {
            return Err(self.inner.ended_early(&record.id));
        }
        Ok(record)
    }

    /// Waits until the record is as wanted, the deadline has come, or the engine drains.
    pub(super) async fn reach(
        &self,
        follow: &mut Follow,
        deadline: Instant,
        wanted: impl Fn(&Record) -> bool,
    ) {
        tokio::select! {
            biased;
            () = follow.until(wanted) => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = self.inner.draining.cancelled() => {}
        }
    }
}

impl Inner {
    fn ended_early(&self, id: &TransactionId) -> EngineError {
        if self.draining.is_cancelled() {
            self.gone()
        } else {
            EngineError::WaitEnded(id.clone())
        }
    }
}

pub(super) fn is_definitive(record: &Record) -> bool {
    record.transaction.outcome() != Outcome::Processing
}
