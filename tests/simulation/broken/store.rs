//! Stores that break their contract: each is the honest one but for what it does wrong.

use std::{collections::BTreeMap, sync::Arc};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tercet::store::{
    Counters, Cursor, Identity, Listing, Record, Store, StoreError, Unfinished, UnixMs,
};
use tercet_core::{
    ids::TransactionId,
    payload::Failure,
    receipt::Receipt,
    transaction::{BranchState, State},
};

use super::Control;
use crate::parts::Parts;

pub const CONTROLS: &[Control] = &[
    // Whatever rests on a record that was lost goes with it.
    Control {
        what: "acknowledges before durable",
        invariant: "S7",
        besides: &["S1", "S2", "S3", "S4", "S8", "L1", "L2"],
        parts: || with(AcknowledgesBeforeDurable::default()),
    },
    Control {
        what: "shows what is not synced",
        invariant: "S8",
        besides: &[],
        parts: || with(ShowsWhatIsNotSynced::default()),
    },
    // What is lost justifies no call any more, and its id begins anew, with any content.
    Control {
        what: "loses a record at a restart",
        invariant: "S1",
        besides: &["S3", "S7", "S8", "S11"],
        parts: || with(LosesARecordAtARestart),
    },
    // The same here; and until it runs again, it is lost.
    Control {
        what: "runs a purged id again",
        invariant: "S8",
        besides: &["S1", "S3", "S7", "S11"],
        parts: || with(RunsAPurgedIdAgain),
    },
    // Some branches were confirmed before, and can't be canceled; some clients know.
    Control {
        what: "lets a second decision through",
        invariant: "S3",
        besides: &["S2", "S4", "S7", "S8", "L1", "L3", "L4"],
        parts: || with(LetsASecondDecisionThrough),
    },
    Control {
        what: "merges other content",
        invariant: "S11",
        besides: &[],
        parts: || with(MergesOtherContent),
    },
    Control {
        what: "lists what is outdated",
        invariant: "S8",
        besides: &[],
        parts: || with(ListsWhatIsOutdated::default()),
    },
    Control {
        what: "loses a due entry",
        invariant: "L1",
        besides: &[],
        parts: || with(LosesADueEntry),
    },
];

type Committing = BoxFuture<'static, Result<Receipt, StoreError>>;
type Page = Vec<(Cursor, Arc<Record>)>;

/// What a store does wrong. Whatever it says nothing about goes to the honest store.
trait Fault: Send + Sync + 'static {
    /// A process begins.
    fn opened(&self, _honest: &dyn Store) {}

    fn commit(&self, honest: &dyn Store, record: Arc<Record>) -> Committing {
        honest.commit(record)
    }

    /// What was found is about to be given to the engine.
    fn read(&self, _honest: &dyn Store, found: Option<Arc<Record>>) -> Option<Arc<Record>> {
        found
    }

    fn unfinished(&self, page: Vec<Unfinished>) -> Vec<Unfinished> {
        page
    }

    fn list(&self, page: Page) -> Page {
        page
    }
}

fn with(fault: impl Fault) -> Parts {
    let fault: Arc<dyn Fault> = Arc::new(fault);
    Parts {
        store: Box::new(move |honest| {
            fault.opened(&*honest);
            let fault = Arc::clone(&fault);
            Arc::new(Faulty { honest, fault })
        }),
        ..Parts::honest()
    }
}

/// Says that a record is durable when it is only on its way.
#[derive(Default)]
struct AcknowledgesBeforeDurable(Written);

impl Fault for AcknowledgesBeforeDurable {
    fn opened(&self, _honest: &dyn Store) {
        self.0.forget();
    }

    fn commit(&self, honest: &dyn Store, record: Arc<Record>) -> Committing {
        self.0.note(&record);
        drop(honest.commit(record)); // it is in the queue, and will happen
        Box::pin(async { Ok(Receipt::acknowledge()) })
    }

    fn read(&self, _honest: &dyn Store, found: Option<Arc<Record>>) -> Option<Arc<Record>> {
        found.map(|found| self.0.newest(found))
    }
}

/// Shows a change from the moment it is written.
#[derive(Default)]
struct ShowsWhatIsNotSynced(Written);

impl Fault for ShowsWhatIsNotSynced {
    fn opened(&self, _honest: &dyn Store) {
        self.0.forget();
    }

    fn commit(&self, honest: &dyn Store, record: Arc<Record>) -> Committing {
        self.0.note(&record);
        honest.commit(record)
    }

    fn read(&self, _honest: &dyn Store, found: Option<Arc<Record>>) -> Option<Arc<Record>> {
        found.map(|found| self.0.newest(found))
    }
}

/// What has been written, synced or not.
#[derive(Default)]
struct Written(Mutex<BTreeMap<TransactionId, Arc<Record>>>);

impl Written {
    fn note(&self, record: &Arc<Record>) {
        let mut records = self.0.lock();
        records.insert(record.id.clone(), Arc::clone(record));
    }

    fn newest(&self, found: Arc<Record>) -> Arc<Record> {
        match self.0.lock().get(&found.id) {
            Some(written) if written.revision > found.revision => Arc::clone(written),
            _ => found,
        }
    }

    fn forget(&self) {
        self.0.lock().clear();
    }
}

/// Comes up without the transaction that ended last.
struct LosesARecordAtARestart;

impl Fault for LosesARecordAtARestart {
    fn opened(&self, honest: &dyn Store) {
        let all = honest.list(&Listing::All, None, usize::MAX);
        let mut records = all.unwrap_or_default().into_iter().map(|(_, it)| it);
        if let Some(ended) = records.find(|it| it.transaction.state.is_terminal()) {
            drop(honest.purge(&ended.id, ended.revision));
        }
    }
}

/// Gives an id free as soon as its transaction has ended.
struct RunsAPurgedIdAgain;

impl Fault for RunsAPurgedIdAgain {
    fn read(&self, honest: &dyn Store, found: Option<Arc<Record>>) -> Option<Arc<Record>> {
        let found = found?;
        if !found.transaction.state.is_terminal() {
            return Some(found);
        }
        drop(honest.purge(&found.id, found.revision));
        None
    }
}

/// Loses that a commit was decided: whoever loads the record finds it rolled back.
struct LetsASecondDecisionThrough;

impl Fault for LetsASecondDecisionThrough {
    fn read(&self, _honest: &dyn Store, found: Option<Arc<Record>>) -> Option<Arc<Record>> {
        let found = found?;
        if found.transaction.state != State::Confirming {
            return Some(found);
        }
        let mut record = (*found).clone();
        record.transaction.state = State::Canceling;
        record.transaction.failure = Some(Failure::new("EXPIRED", "its deadline has passed"));
        for branch in &mut record.transaction.branches {
            branch.state = BranchState::Canceling;
        }
        Some(Arc::new(record))
    }
}

/// Leaves every second entry out of the index of what is unfinished.
struct LosesADueEntry;

impl Fault for LosesADueEntry {
    fn unfinished(&self, mut page: Vec<Unfinished>) -> Vec<Unfinished> {
        page.retain(|entry| entry.cursor % 2 == 0);
        page
    }
}

/// Forgets what a transaction was made from, so that anything seems to be the same.
struct MergesOtherContent;

impl Fault for MergesOtherContent {
    fn read(&self, _honest: &dyn Store, found: Option<Arc<Record>>) -> Option<Arc<Record>> {
        let mut record = (*found?).clone();
        Arc::make_mut(&mut record.origin).digest = None;
        Some(Arc::new(record))
    }
}

/// Lists each record as it was one commit ago.
#[derive(Default)]
struct ListsWhatIsOutdated(Mutex<BTreeMap<TransactionId, Vec<Arc<Record>>>>);

impl Fault for ListsWhatIsOutdated {
    fn commit(&self, honest: &dyn Store, record: Arc<Record>) -> Committing {
        let mut commits = self.0.lock();
        let commits = commits.entry(record.id.clone()).or_default();
        commits.push(Arc::clone(&record));
        honest.commit(record)
    }

    fn list(&self, mut page: Page) -> Page {
        let commits = self.0.lock();
        for (_, record) in &mut page {
            let earlier = commits.get(&record.id).into_iter().flatten();
            let mut before = earlier.filter(|it| it.revision + 1 == record.revision);
            if let Some(before) = before.next() {
                *record = Arc::clone(before);
            }
        }
        page
    }
}

struct Faulty {
    honest: Arc<dyn Store>,
    fault: Arc<dyn Fault>,
}

impl Store for Faulty {
    fn identity(&self) -> &Identity {
        self.honest.identity()
    }

    fn commit(&self, record: Arc<Record>) -> Committing {
        self.fault.commit(&*self.honest, record)
    }

    fn purge(
        &self,
        id: &TransactionId,
        revision: u64,
    ) -> BoxFuture<'static, Result<(), StoreError>> {
        self.honest.purge(id, revision)
    }

    fn read(&self, id: &TransactionId) -> Result<Option<Arc<Record>>, StoreError> {
        let found = self.honest.read(id)?;
        Ok(self.fault.read(&*self.honest, found))
    }

    fn unfinished(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError> {
        let page = self.honest.unfinished(after, limit)?;
        Ok(self.fault.unfinished(page))
    }

    fn list(
        &self,
        listing: &Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Page, StoreError> {
        let page = self.honest.list(listing, before, limit)?;
        Ok(self.fault.list(page))
    }

    fn outlived(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<TransactionId>, StoreError> {
        self.honest.outlived(now_ms, limit)
    }

    fn broken(&self) -> BoxFuture<'static, Arc<str>> {
        self.honest.broken()
    }

    fn counters(&self) -> Counters {
        self.honest.counters()
    }

    fn is_in_memory(&self) -> bool {
        self.honest.is_in_memory()
    }
}
