//! How callers reach a transaction's driver, and how long they wait.

use std::sync::Arc;

use tercet_core::{
    ids::TransactionId,
    outcome::{Outcome, ReplyMode},
    request::Request,
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Engine, EngineError, Inner,
    live::{Command, Done, Follow, Reply},
};
use crate::store::Record;

impl Engine {
    pub(super) async fn ask(
        &self,
        id: &TransactionId,
        request: Request,
    ) -> Result<Follow, EngineError> {
        self.send(id, |reply| Command::Ask(Box::new(request), None, reply))
            .await
    }

    /// Sends a command to the transaction's driver, and follows the transaction once it has been
    /// carried out.
    pub(super) async fn send(
        &self,
        id: &TransactionId,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<Follow, EngineError> {
        let (reply, done) = oneshot::channel();
        let seen = self.inner.send(id, command(Reply::of(reply)))?;
        let Done { record, .. } = self.inner.done(done).await?;
        Ok(Follow::live(record, seen))
    }

    /// Sends a command whose caller does not wait for what follows from it: nobody attends to the
    /// transaction because of it.
    pub(super) async fn tell(
        &self,
        id: &TransactionId,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<Arc<Record>, EngineError> {
        let (reply, done) = oneshot::channel();
        drop(self.inner.send(id, command(Reply::of(reply)))?);
        let Done { record, .. } = self.inner.done(done).await?;
        Ok(record)
    }

    /// Sends a command, and waits for SUCCESS or FAILED. TWO_STATE never answers PROCESSING: its first
    /// caller gets the decision that the end of its wait forces, any other caller no outcome at all.
    ///
    /// The driver wakes its caller once, at the end: what is shown before is not looked at.
    pub(super) async fn settle(
        &self,
        id: &TransactionId,
        deadline: Instant,
        command: impl FnOnce(Reply) -> Command,
    ) -> Result<Arc<Record>, EngineError> {
        let (reply, done) = oneshot::channel();
        let (hold, mut held) = oneshot::channel();
        let seen = self
            .inner
            .send(id, command(Reply::at_the_end(reply, hold)))?;
        let is_over = tokio::select! {
            biased;
            _ = &mut held => true,
            () = tokio::time::sleep_until(deadline) => false,
            () = self.inner.draining.cancelled() => false,
        };
        let Done { first, record } = self.inner.done(done).await?;
        let two_state = record.transaction.mode == ReplyMode::TwoState;
        if two_state && first && !is_over {
            let _ = held.await; // it never says more than that it is over
        }
        let record = seen.borrow().clone().unwrap_or(record);
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
    /// What a driver answers to a command.
    async fn done(
        &self,
        done: oneshot::Receiver<Result<Done, EngineError>>,
    ) -> Result<Done, EngineError> {
        done.await.map_err(|_| self.gone())?
    }

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

/// Whether a caller who wants to know the outcome is answered: definitively, or, if ACCEPTED, with the
/// record.
pub(super) fn is_settled(record: &Record) -> bool {
    record.transaction.mode == ReplyMode::Accepted || is_definitive(record)
}
