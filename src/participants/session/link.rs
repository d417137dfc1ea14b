//! What the parts of one session share outside of their participant's lock: its name, who is to be
//! woken, and how it ended.

use std::sync::{Arc, OnceLock};

use futures::task::AtomicWaker;
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// One session.
pub(crate) struct Link {
    /// Unique within the coordinator's life, for example `inventory-7`.
    pub(super) id: Arc<str>,
    /// As it stands in messages about its calls.
    pub(super) name: Arc<str>,
    /// The stream that carries its calls.
    pub(super) outbox: AtomicWaker,
    how: OnceLock<Result<(), Status>>,
    ended: CancellationToken,
}

impl Link {
    pub(super) fn new(participant: &str, number: u64, instance: &str) -> Self {
        let id = format!("{participant}-{number}");
        Self {
            name: format!("session {id} of instance {instance}").into(),
            id: id.into(),
            outbox: AtomicWaker::new(),
            how: OnceLock::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Ends it, once: what comes later changes nothing.
    pub(super) fn end(&self, how: Result<(), Status>) {
        let _ = self.how.set(how); // the first reason is the one that counts
        self.ended.cancel();
        self.outbox.wake();
    }

    pub(super) fn how_it_ended(&self) -> Option<&Result<(), Status>> {
        self.how.get()
    }

    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }
}
