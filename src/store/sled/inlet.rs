//! How a write comes to the writer: through a queue to its thread, or at once.
//!
//! Two threads have to wake each other for a commit that goes through the queue: with nothing else to do
//! that takes about as long as half of an `fdatasync`. So when lately nobody came while another write was under
//! way, and the disk is quick, a write is made where it comes from. Nobody passes those who wait.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    Shared,
    queue::{Call, Queue, Write},
    settle::panic_text,
    writer::Writer,
};

/// How long the queue has to be empty before the mark is made exact.
const IDLE: Duration = Duration::from_secs(1);

/// Where writes go in. Dropped, it closes the queue.
#[derive(Debug)]
pub(super) struct Inlet {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    writer: Arc<Mutex<Writer>>,
}

/// The end of the writer's thread.
pub(super) struct Outlet {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    writer: Arc<Mutex<Writer>>,
}

/// Both ends of a writer's queue.
pub(super) fn inlet(writer: Writer) -> (Inlet, Outlet) {
    let (shared, queue) = (Arc::clone(&writer.shared), Arc::clone(&writer.queue));
    let writer = Arc::new(Mutex::new(writer));
    let outlet = Outlet {
        shared: Arc::clone(&shared),
        queue: Arc::clone(&queue),
        writer: Arc::clone(&writer),
    };
    let inlet = Inlet {
        shared,
        queue,
        writer,
    };
    (inlet, outlet)
}

impl Inlet {
    /// Takes a write in. It takes effect after all that was taken in before.
    pub(super) fn enter(&self, write: Write) {
        let Some(mut writer) = self.at_rest() else {
            self.queue.put(write);
            self.queue.call();
            return;
        };
        let worked = attempt(|| {
            self.queue.put(write);
            writer.batch()
        });
        if let Err(reason) = worked {
            self.shared.breaker.trip(reason);
        }
    }

    fn at_rest(&self) -> Option<MutexGuard<'_, Writer>> {
        let writer = self.writer.try_lock();
        writer.filter(|writer| writer.is_at_rest())
    }
}

impl Drop for Inlet {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl Outlet {
    /// Works until the queue is closed or the medium fails.
    pub(super) fn run(self) {
        let Err(reason) = attempt(|| self.work()) else {
            return;
        };
        let broken = self.shared.breaker.trip(reason);
        self.queue.stop(&broken);
    }

    fn work(&self) -> Result<(), String> {
        loop {
            let call = self.queue.wait(IDLE);
            let mut writer = self.writer.lock();
            match call {
                Call::Write => {
                    writer.batch()?;
                    writer.tidy()?;
                }
                Call::Idle => writer.idle()?,
                Call::Close => return writer.close(),
            }
        }
    }
}

/// A panic of the writer is the end of the store, like any other fault.
fn attempt(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic_text(&*panic);
        Err(format!("the store's writer panicked: {text}"))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use futures::FutureExt as _;

    use super::*;
    use crate::store::{
        Record, Store as _, StoreError,
        codec::tests::smallest,
        fault::Promise,
        sled::{
            SledStore, Workers,
            tests::{self, opened},
            writer::{CALM_BATCHES, Pace, QUICK},
        },
    };

    const CALM: Pace = Pace {
        calm: CALM_BATCHES,
        took: QUICK,
    };

    fn record(revision: u64) -> Arc<Record> {
        Arc::new(Record {
            revision,
            ..smallest()
        })
    }

    fn write(revision: u64) -> (Write, Promise) {
        tests::write(&record(revision))
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    fn at_rest(opened: crate::store::sled::open::Opened) -> SledStore {
        let store = SledStore::start(opened).expect("it is started");
        writer(&store).lock().pace = CALM;
        store
    }

    fn writer(store: &SledStore) -> &Mutex<Writer> {
        &store.inlet.as_ref().expect("it is open").writer
    }

    fn reopened(dir: &Path) -> SledStore {
        SledStore::open(dir).expect("it is opened again")
    }

    #[test]
    fn at_rest_a_commit_is_durable_when_the_call_returns() {
        let dir = directory();
        let store = at_rest(opened(dir.path()));
        let answer = store.commit(record(1)).now_or_never();
        drop(answer.expect("nobody else did it").expect("it is durable"));
        assert_eq!(store.read(&record(1).id), Ok(Some(record(1))));
        drop(store);
        let store = reopened(dir.path());
        assert_eq!(store.read(&record(1).id), Ok(Some(record(1))));
    }

    #[tokio::test]
    async fn nobody_passes_those_who_wait() {
        let dir = directory();
        let store = at_rest(opened(dir.path()));
        let first = {
            let held = writer(&store).lock();
            assert!(held.is_at_rest());
            let first = store.commit(record(1));
            assert!(!held.is_at_rest(), "somebody waits");
            first
        };
        let second = store.commit(record(2));
        drop(first.await.expect("it is the first"));
        drop(second.await.expect("it follows the first"));
        assert!(writer(&store).lock().queue.is_empty());
    }

    #[test]
    fn at_rest_is_who_was_alone_for_a_while_on_a_quick_disk() {
        let dir = directory();
        let mut workers = Workers::of(opened(dir.path()));
        let writer = &mut workers.writer;
        let alone = |writer: &mut Writer, revisions: std::ops::RangeInclusive<u64>| {
            for revision in revisions {
                assert!(!writer.is_at_rest(), "before revision {revision}");
                let (write, promise) = write(revision);
                writer.queue.put(write);
                writer.batch().expect("it is written");
                let answer = promise.wait().now_or_never();
                answer.expect("it is answered").expect("it follows");
                writer.pace.took = QUICK;
            }
        };
        let calm = u64::from(CALM_BATCHES);
        alone(writer, 1..=calm);
        assert!(writer.is_at_rest());

        let (first, second) = (write(calm + 1), write(calm + 2));
        writer.queue.put(first.0);
        writer.queue.put(second.0);
        writer.batch().expect("they are written");
        alone(writer, calm + 3..=2 * calm + 2);
        assert!(writer.is_at_rest());

        writer.pace.took = QUICK * 2;
        assert!(!writer.is_at_rest(), "the disk is slow");
    }

    #[test]
    fn a_medium_that_fails_at_rest_breaks_the_store() {
        let dir = directory();
        let mut opened = opened(dir.path());
        opened.journal = opened.journal.that_fails();
        let store = at_rest(opened);
        let answer = store.commit(record(1)).now_or_never();
        let error = answer.expect("it is answered").expect_err("it failed");
        assert!(matches!(error, StoreError::Broken(_)), "{error}");
        assert!(store.broken().now_or_never().is_some());
        let later = futures::executor::block_on(store.commit(record(1)));
        assert_eq!(later.err(), Some(error.clone()));
        assert_eq!(store.read(&record(1).id), Err(error));
    }
}
