//! The reference implementation: everything in memory, with the faults that tests need.
//!
//! A commit is acknowledged at once, without a thread or a timer, so it works in a paused runtime and
//! in simulated time. [`hold`](MemoryStore::hold) opens the gap between a write and its sync,
//! [`hold_acknowledgements`](MemoryStore::hold_acknowledgements) that between a sync and hearing of it;
//! [`crash`](MemoryStore::crash) is what the next process finds.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::Arc,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tercet_core::{
    ids::{Realm, TransactionId},
    receipt::Receipt,
};
use tokio::sync::watch;

use super::{
    Counters, Cursor, Identity, Listing, Record, Store, StoreError, Unfinished, UnixMs,
    fault::{Breaker, Reply, promise},
    table::Table,
};

/// A store that lives as long as its process.
#[derive(Debug)]
pub struct MemoryStore {
    identity: Identity,
    breaker: Breaker,
    inner: Mutex<Inner>,
    /// How many writes wait behind the gate.
    held: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Inner {
    table: Table,
    /// Writes between their commit and their sync, in order; none: the gate is open.
    gate: Option<VecDeque<Write>>,
    /// What has become durable and is acknowledged later; none: at once.
    unsaid: Option<Vec<(Reply, Result<(), StoreError>)>>,
    faults: BTreeMap<u64, Fault>,
    commits_seen: u64,
    counters: Counters,
    quarantined: HashSet<TransactionId>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    BeforeEffect,
    LostAcknowledgement,
}

#[derive(Debug)]
struct Write {
    what: What,
    reply: Reply,
}

#[derive(Debug)]
enum What {
    Commit(Arc<Record>),
    Purge { id: TransactionId, revision: u64 },
}

impl Default for MemoryStore {
    fn default() -> Self {
        let realm = Realm::parse("memory").expect("the name obeys the alphabet of ids");
        Self::new(realm)
    }
}

impl MemoryStore {
    /// An empty store, opened for the first time, epoch 1.
    #[must_use]
    pub fn new(realm: Realm) -> Self {
        let (epoch, boot) = (1, 1);
        let identity = Identity { realm, epoch, boot };
        Self::with(identity, Table::default())
    }

    fn with(identity: Identity, table: Table) -> Self {
        let inner = Inner {
            table,
            ..Inner::default()
        };
        Self {
            identity,
            breaker: Breaker::default(),
            inner: Mutex::new(inner),
            held: watch::Sender::new(0),
        }
    }
}

/// Faults, for tests.
impl MemoryStore {
    /// The `nth` commit from now, counted from 1, fails before it takes effect, and the store with it.
    pub fn fail_commit(&self, nth: u64) {
        self.plan(nth, Fault::BeforeEffect);
    }

    /// The `nth` commit from now, counted from 1, becomes durable, but its acknowledgement is lost,
    /// and the store fails.
    pub fn lose_acknowledgement(&self, nth: u64) {
        self.plan(nth, Fault::LostAcknowledgement);
    }

    fn plan(&self, nth: u64, fault: Fault) {
        let mut inner = self.inner.lock();
        let at = inner.commits_seen + nth.max(1);
        inner.faults.insert(at, fault);
    }

    /// From now on writes are neither durable nor acknowledged, until [`release`](Self::release).
    pub fn hold(&self) {
        self.inner.lock().gate.get_or_insert_default();
    }

    /// Waits until at least `count` writes are held, and gives the records among them, in order.
    pub async fn held(&self, count: usize) -> Vec<Arc<Record>> {
        let mut held = self.held.subscribe();
        // The sender lives in self: it can't be dropped while this waits.
        let _ = held.wait_for(|held| *held >= count).await;
        let inner = self.inner.lock();
        let writes = inner.gate.iter().flatten();
        let records = writes.filter_map(|write| match &write.what {
            What::Commit(record) => Some(record.clone()),
            What::Purge { .. } => None,
        });
        records.collect()
    }

    /// From now on writes are durable and can be read, but not acknowledged until
    /// [`release`](Self::release): who has written hears of it later than others read it.
    pub fn hold_acknowledgements(&self) {
        self.inner.lock().unsaid.get_or_insert_default();
    }

    /// Lets all held writes become durable, in order, and opens the gate; acknowledges all that are.
    pub fn release(&self) {
        let mut inner = self.inner.lock();
        for (reply, result) in inner.unsaid.take().into_iter().flatten() {
            reply.send(result);
        }
        for write in inner.gate.take().into_iter().flatten() {
            self.perform(&mut inner, write);
        }
        self.held.send_replace(0);
    }

    /// Makes one record unreadable. Says whether there was one.
    pub fn corrupt(&self, id: &TransactionId) -> bool {
        self.inner.lock().table.corrupt(id)
    }

    /// What the next process finds after a crash: all that was durable, and one boot more. Held
    /// writes are lost. This store is broken afterwards, so that nothing of the old process reaches
    /// the new one.
    #[must_use]
    pub fn crash(&self) -> MemoryStore {
        self.crash_with(|_, _| {})
    }

    /// Like [`crash`](Self::crash), but the held writes had just become durable.
    #[must_use]
    pub fn crash_after_sync(&self) -> MemoryStore {
        self.crash_with(|table, write| {
            // A conflicting write changes nothing; nobody is left to be told.
            let _ = apply(table, &write.what);
        })
    }

    fn crash_with(&self, held: impl Fn(&mut Table, &Write)) -> MemoryStore {
        let crashed = self.breaker.trip("the process has crashed");
        let mut inner = self.inner.lock();
        let mut table = std::mem::take(&mut inner.table);
        for write in inner.gate.take().into_iter().flatten() {
            held(&mut table, &write);
            write.reply.send(Err(crashed.clone()));
        }
        let boot = self.identity.boot + 1;
        let identity = self.identity.clone();
        Self::with(Identity { boot, ..identity }, table)
    }
}

impl Store for MemoryStore {
    fn identity(&self) -> &Identity {
        &self.identity
    }

    fn commit(&self, record: Arc<Record>) -> BoxFuture<'static, Result<Receipt, StoreError>> {
        let (reply, promise) = promise();
        let what = What::Commit(record);
        self.enter(Write { what, reply });
        promise.receipt()
    }

    fn purge(
        &self,
        id: &TransactionId,
        revision: u64,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        let (reply, promise) = promise();
        let id = id.clone();
        let what = What::Purge { id, revision };
        self.enter(Write { what, reply });
        promise.wait()
    }

    fn read(&self, id: &TransactionId) -> Result<Option<Arc<Record>>, StoreError> {
        self.breaker.check()?;
        let mut inner = self.inner.lock();
        let result = inner.table.read(id);
        inner.note(&result);
        result
    }

    fn unfinished(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError> {
        self.breaker.check()?;
        Ok(self.inner.lock().table.unfinished(after, limit))
    }

    fn list(
        &self,
        listing: &Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Arc<Record>)>, StoreError> {
        self.breaker.check()?;
        Ok(self.inner.lock().table.list(listing, before, limit))
    }

    fn outlived(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<TransactionId>, StoreError> {
        self.breaker.check()?;
        Ok(self.inner.lock().table.outlived(now_ms, limit))
    }

    fn broken(&self) -> BoxFuture<'static, Arc<str>> {
        self.breaker.tripped()
    }

    fn counters(&self) -> Counters {
        self.inner.lock().counters
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

impl MemoryStore {
    fn enter(&self, write: Write) {
        let mut inner = self.inner.lock();
        if let Some(gate) = &mut inner.gate {
            gate.push_back(write);
            self.held.send_replace(gate.len());
        } else {
            self.perform(&mut inner, write);
        }
    }

    fn perform(&self, inner: &mut Inner, write: Write) {
        if let Err(broken) = self.breaker.check() {
            return write.reply.send(Err(broken));
        }
        let fault = inner.fault(&write.what);
        if let Some(Fault::BeforeEffect) = fault {
            let broken = self.breaker.trip("a test let a commit fail");
            return write.reply.send(Err(broken));
        }
        let mut result = apply(&mut inner.table, &write.what);
        if let Some(Fault::LostAcknowledgement) = fault {
            result = Err(self.breaker.trip("a test lost an acknowledgement"));
        }
        inner.note(&result);
        if result.is_ok() {
            inner.counters.commits += 1;
            inner.counters.syncs += 1;
        }
        match &mut inner.unsaid {
            Some(unsaid) => unsaid.push((write.reply, result)),
            None => write.reply.send(result),
        }
    }
}

impl Inner {
    fn fault(&mut self, what: &What) -> Option<Fault> {
        match what {
            What::Commit(_) => {
                self.commits_seen += 1;
                self.faults.remove(&self.commits_seen)
            }
            What::Purge { .. } => None,
        }
    }

    fn note<T>(&mut self, result: &Result<T, StoreError>) {
        if let Err(StoreError::Corrupt { id, .. }) = result
            && self.quarantined.insert(id.clone())
        {
            self.counters.quarantined += 1;
        }
    }
}

fn apply(table: &mut Table, what: &What) -> Result<(), StoreError> {
    match what {
        What::Commit(record) => table.commit(record.clone()),
        What::Purge { id, revision } => table.purge(id, *revision),
    }
}
