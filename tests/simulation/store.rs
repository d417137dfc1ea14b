//! The coordinator's store: a disk that outlives its process, and a process that writes to it with
//! some delay.
//!
//! A write waits in a queue until the next sync, which takes simulated time. A crash keeps a part of
//! the queue, from its beginning: none, some, or all of what was never acknowledged.

use std::{collections::VecDeque, ops::Range, sync::Arc, time::Duration};

use fastrand::Rng;
use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tercet::store::{
    Counters, Cursor, Identity, Listing, MemoryStore, Record, Store, StoreError, Unfinished, UnixMs,
};
use tercet_core::{
    ids::{Realm, TransactionId},
    receipt::Receipt,
};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::{plan::Setup, trace::Trace};

/// A sync usually takes this long, and now and then much longer.
const SYNC_MS: Range<u64> = 1..12;
const SYNC_SLOW_MS: Range<u64> = 100..2_000;
/// Now and then everybody can read for so long what was synced, and who has written it doesn't know yet.
const ACKNOWLEDGED_AFTER_MS: Range<u64> = 50..500;

/// What is left of a store when its process is gone.
#[derive(Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

struct Inner {
    /// What is durable.
    platter: Arc<MemoryStore>,
    /// What the running process has not synced yet.
    queue: Arc<Mutex<VecDeque<Write>>>,
    epoch: u64,
    setup: Setup,
    rng: Rng,
}

impl Disk {
    pub fn new(realm: &str, setup: &Setup, rng: Rng, trace: Trace) -> Self {
        let realm = Realm::parse(realm).expect("it obeys the alphabet of ids");
        let inner = Inner {
            platter: Arc::new(MemoryStore::new(realm)),
            queue: Arc::default(),
            epoch: 1,
            setup: setup.clone(),
            rng,
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            trace,
        }
    }

    /// What a new process finds. Whatever the old one still does comes to nothing. Must be called on
    /// the host it runs on.
    pub fn open(&self) -> Arc<SimStore> {
        let mut inner = self.inner.lock();
        inner.lose_power();
        if inner.rng.bool() {
            inner.epoch += 1; // as after a takeover
        }
        let identity = Identity {
            epoch: inner.epoch,
            ..inner.platter.identity().clone()
        };
        for record in records(&inner.platter) {
            self.trace.found(&record);
        }
        let store = Arc::new(SimStore {
            identity,
            platter: Arc::clone(&inner.platter),
            queue: Arc::default(),
            wake: Arc::default(),
            broken: CancellationToken::new(),
        });
        inner.queue = Arc::clone(&store.queue);
        let syncing = Syncing {
            platter: Arc::clone(&store.platter),
            queue: Arc::clone(&store.queue),
            wake: Arc::clone(&store.wake),
            broken: store.broken.clone(),
            setup: inner.setup.clone(),
            rng: inner.rng.fork(),
            trace: self.trace.clone(),
        };
        tokio::spawn(syncing.run());
        store
    }

    /// Everything that is durable, oldest first.
    pub fn records(&self) -> Vec<Arc<Record>> {
        records(&self.inner.lock().platter)
    }

    /// Unfinished transactions that are durable.
    pub fn unfinished(&self) -> Vec<Arc<Record>> {
        let platter = &self.inner.lock().platter;
        let page = platter.list(&Listing::Unfinished, None, usize::MAX);
        let page = page.unwrap_or_default(); // it is broken, and about to be opened anew
        page.into_iter().map(|(_, record)| record).collect()
    }

    /// One of the next commits fails, durable or not, and the store with it.
    pub fn break_soon(&self, nth: u64, durable: bool) {
        let platter = &self.inner.lock().platter;
        if durable {
            platter.lose_acknowledgement(nth);
        } else {
            platter.fail_commit(nth);
        }
    }
}

impl Inner {
    fn lose_power(&mut self) {
        let mut left = std::mem::take(&mut *self.queue.lock());
        let kept = self.rng.usize(..=left.len());
        for write in left.drain(..kept) {
            let _nobody_is_told = write.what.perform(&self.platter);
        }
        self.platter = Arc::new(self.platter.crash());
    }
}

fn records(platter: &MemoryStore) -> Vec<Arc<Record>> {
    let page = platter.list(&Listing::All, None, usize::MAX);
    let mut records: Vec<_> = page.unwrap_or_default();
    records.reverse();
    records.into_iter().map(|(_, record)| record).collect()
}

/// The store of one process.
pub struct SimStore {
    identity: Identity,
    platter: Arc<MemoryStore>,
    queue: Arc<Mutex<VecDeque<Write>>>,
    wake: Arc<Notify>,
    broken: CancellationToken,
}

struct Write {
    what: What,
    done: oneshot::Sender<Result<Receipt, StoreError>>,
}

enum What {
    Commit(Arc<Record>),
    Purge(TransactionId, u64),
}

impl What {
    fn perform(&self, platter: &MemoryStore) -> Result<Receipt, StoreError> {
        let at_once = "a store in memory has no gate unless it is told";
        match self {
            What::Commit(record) => platter
                .commit(Arc::clone(record))
                .now_or_never()
                .expect(at_once),
            What::Purge(id, revision) => {
                let purged = platter.purge(id, *revision).now_or_never().expect(at_once);
                purged.map(|()| Receipt::acknowledge())
            }
        }
    }
}

impl SimStore {
    fn enter(&self, what: What) -> oneshot::Receiver<Result<Receipt, StoreError>> {
        let (done, promise) = oneshot::channel();
        self.queue.lock().push_back(Write { what, done });
        self.wake.notify_one();
        promise
    }
}

fn gone<T>() -> Result<T, StoreError> {
    Err(StoreError::Broken("its process is gone".into()))
}

impl Store for SimStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn commit(&self, record: Arc<Record>) -> BoxFuture<'static, Result<Receipt, StoreError>> {
        let promise = self.enter(What::Commit(record));
        async { promise.await.unwrap_or_else(|_| gone()) }.boxed()
    }

    fn purge(
        &self,
        id: &TransactionId,
        revision: u64,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let promise = self.enter(What::Purge(id.clone(), revision));
        async { promise.await.unwrap_or_else(|_| gone()).map(drop) }.boxed()
    }

    fn read(&self, id: &TransactionId) -> Result<Option<Arc<Record>>, StoreError> {
        self.platter.read(id)
    }

    fn unfinished(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError> {
        self.platter.unfinished(after, limit)
    }

    fn list(
        &self,
        listing: &Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Arc<Record>)>, StoreError> {
        self.platter.list(listing, before, limit)
    }

    fn outlived(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<TransactionId>, StoreError> {
        self.platter.outlived(now_ms, limit)
    }

    fn broken(&self) -> BoxFuture<'static, Arc<str>> {
        let broken = self.broken.clone().cancelled_owned();
        async { broken.map(|()| "a simulated disk has failed".into()).await }.boxed()
    }

    fn counters(&self) -> Counters {
        self.platter.counters()
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

/// The one writer.
struct Syncing {
    platter: Arc<MemoryStore>,
    queue: Arc<Mutex<VecDeque<Write>>>,
    wake: Arc<Notify>,
    broken: CancellationToken,
    setup: Setup,
    rng: Rng,
    trace: Trace,
}

impl Syncing {
    async fn run(mut self) {
        loop {
            let batch = self.queue.lock().len();
            if batch == 0 {
                self.wake.notified().await;
                continue;
            }
            let slow = self.rng.u8(..40) == 0 && self.setup.has_bad_luck();
            let sync_ms = self.rng.u64(if slow { SYNC_SLOW_MS } else { SYNC_MS });
            tokio::time::sleep(Duration::from_millis(sync_ms)).await;
            let synced: Vec<Write> = self.queue.lock().drain(..batch).collect();
            let results: Vec<_> = synced.iter().map(|it| self.perform(&it.what)).collect();
            if self.rng.u8(..6) == 0 && self.setup.has_bad_luck() {
                let after_ms = self.rng.u64(ACKNOWLEDGED_AFTER_MS);
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
            }
            for (Write { done, .. }, result) in synced.into_iter().zip(results) {
                let _ = done.send(result); // a commit that nobody waits for still happens
            }
        }
    }

    fn perform(&self, what: &What) -> Result<Receipt, StoreError> {
        let result = what.perform(&self.platter);
        match (what, &result) {
            (What::Commit(record), Ok(_)) => self.trace.stored(record),
            (_, Err(StoreError::Broken(_))) => self.broken.cancel(),
            (_, Ok(_) | Err(_)) => {}
        }
        result
    }
}
