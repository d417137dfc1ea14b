//! Waiting until everybody else who is ready to run has had a turn.
//!
//! What many tasks make ready together, by one sync of the store or one read from a socket, shall go out
//! together, and whoever sends it is woken by the first of them.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use futures::task::AtomicWaker;

/// One turn after the other.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    is_under_way: bool,
    end: Arc<End>,
}

#[derive(Debug, Default)]
struct End {
    has_come: AtomicBool,
    waits: AtomicWaker,
}

impl Turn {
    /// Ready when everybody had a turn since it was asked for the first time; then the next one begins. With
    /// nobody ready to run that is at once. Whoever asks may be woken by something else meanwhile.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.end.waits.register(cx.waker());
        if !self.is_under_way {
            self.is_under_way = true;
            self.end.has_come.store(false, Ordering::Release);
            let waker = Waker::from(Arc::clone(&self.end));
            let yielding = pin!(tokio::task::yield_now());
            // All it does is to hand the waker over to the runtime.
            ready!(yielding.poll(&mut Context::from_waker(&waker)));
        }
        if !self.end.has_come.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        self.is_under_way = false;
        Poll::Ready(())
    }
}

impl Wake for End {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_come.store(true, Ordering::Release);
        self.waits.wake();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicU32, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn with_nobody_else_it_is_at_once_and_again() {
        let mut turn = Turn::default();
        poll_fn(|cx| turn.poll(cx)).await;
        poll_fn(|cx| turn.poll(cx)).await;
    }

    #[tokio::test]
    async fn everybody_who_is_ready_comes_first_however_often_it_is_asked() {
        let had = Arc::new(AtomicU32::new(0));
        for _ in 0..20 {
            let had = Arc::clone(&had);
            tokio::spawn(async move {
                had.fetch_add(1, Ordering::Relaxed);
            });
        }
        let mut turn = Turn::default();
        let mut asked = false;
        poll_fn(|cx| {
            if !std::mem::replace(&mut asked, true) {
                assert!(turn.poll(cx).is_pending());
                assert!(turn.poll(cx).is_pending(), "the same turn");
            }
            turn.poll(cx)
        })
        .await;
        assert_eq!(had.load(Ordering::Relaxed), 20);
    }
}
