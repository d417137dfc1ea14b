//! Fail-stop, the same for every store: the first error of the medium is the last thing a store
//! says, and everybody hears it.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};
use tercet_core::receipt::Receipt;
use tokio::sync::{oneshot, watch};

use super::StoreError;

/// Whether the store has failed, and why. Once tripped it stays so.
#[derive(Debug)]
pub(super) struct Breaker(watch::Sender<Option<Arc<str>>>);

impl Default for Breaker {
    fn default() -> Self {
        Self(watch::Sender::new(None))
    }
}

impl Breaker {
    /// Trips it; the first reason stays. Returns the error that every call gives from now on.
    pub(super) fn trip(&self, reason: impl Into<Arc<str>>) -> StoreError {
        let reason = reason.into();
        self.0.send_if_modified(|tripped| {
            let first = tripped.is_none();
            if first {
                *tripped = Some(reason.clone());
            }
            first
        });
        self.error().unwrap_or(StoreError::Broken(reason))
    }

    /// The error to answer, once it has tripped.
    pub(super) fn error(&self) -> Option<StoreError> {
        self.0.borrow().clone().map(StoreError::Broken)
    }

    /// `Ok` as long as it has not tripped.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.error().map_or(Ok(()), Err)
    }

    /// Resolves when it trips, or when the store is closed.
    pub(super) fn tripped(&self) -> BoxFuture<'static, Arc<str>> {
        let mut tripped = self.0.subscribe();
        async move {
            match tripped.wait_for(Option::is_some).await {
                Ok(reason) => reason.clone().unwrap_or_else(closed),
                Err(_) => closed(),
            }
        }
        .boxed()
    }
}

/// Where a store says how one write went.
#[derive(Debug)]
pub(super) struct Reply(oneshot::Sender<Result<(), StoreError>>);

/// How one write went, some time later.
#[derive(Debug)]
pub(super) struct Promise(oneshot::Receiver<Result<(), StoreError>>);

/// A write's two ends.
pub(super) fn promise() -> (Reply, Promise) {
    let (reply, promise) = oneshot::channel();
    (Reply(reply), Promise(promise))
}

impl Reply {
    /// Says it. Whether anybody still listens changes nothing.
    pub(super) fn send(self, result: Result<(), StoreError>) {
        let _ = self.0.send(result);
    }
}

impl Promise {
    /// How it went; a reply that was dropped means that the store stopped.
    pub(super) fn wait(self) -> BoxFuture<'static, Result<(), StoreError>> {
        self.kept().boxed()
    }

    /// The same for a commit: the receipt exists only after the store has said that it is durable.
    pub(super) fn receipt(self) -> BoxFuture<'static, Result<Receipt, StoreError>> {
        async move { self.kept().await.map(|()| Receipt::acknowledge()) }.boxed()
    }

    async fn kept(self) -> Result<(), StoreError> {
        let stopped = |_| Err(StoreError::Broken(closed()));
        self.0.await.unwrap_or_else(stopped)
    }
}

fn closed() -> Arc<str> {
    "it was closed".into()
}
