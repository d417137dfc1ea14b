//! How many calls are being worked on, over all sessions.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::sync::Notify;

/// Counts calls under way.
#[derive(Clone, Default)]
pub(super) struct Running(Arc<Inner>);

#[derive(Default)]
struct Inner {
    calls: AtomicUsize,
    idle: Notify,
}

/// One call; it has ended when this is dropped.
pub(super) struct RunningCall(Arc<Inner>);

impl Running {
    pub(super) fn begin(&self) -> RunningCall {
        self.0.calls.fetch_add(1, Ordering::SeqCst);
        RunningCall(Arc::clone(&self.0))
    }

    /// Resolves when none is under way.
    pub(super) async fn idle(&self) {
        loop {
            let mut ended = pin!(self.0.idle.notified());
            ended.as_mut().enable();
            if self.0.calls.load(Ordering::SeqCst) == 0 {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for RunningCall {
    fn drop(&mut self) {
        if self.0.calls.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_waiters();
        }
    }
}
