//! What is to be written: compared with what is stored by whoever commits it, taken by whoever writes.
//!
//! So the next batch is compared while one is being synced, and all that is left to do between two syncs is
//! to write it.

use std::{
    collections::{HashMap, VecDeque},
    mem,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use tercet_core::ids::TransactionId;

use super::{
    Shared,
    entry::Entry,
    recent::Word,
    view::{Found, MISSING},
};
use crate::store::{Cursor, StoreError, codec, fault::Reply};

/// A batch that has this many bytes takes no more: what waits longer is latency.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;

/// One write that somebody wants.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) what: What,
    pub(super) reply: Reply,
}

#[derive(Debug)]
pub(super) enum What {
    Commit(Entry),
    Purge { id: TransactionId, revision: u64 },
}

/// Writes in the order in which they take effect.
#[derive(Debug)]
pub(super) struct Queue {
    shared: Arc<Shared>,
    waiting: Mutex<Waiting>,
    /// Something waits, or nothing will come any more.
    came: Condvar,
    /// Batches that have become visible. Changes only while `waiting` is locked.
    visible: AtomicU64,
}

#[derive(Debug)]
struct Waiting {
    /// Unbounded by itself: what the engine admits into flight, each with a few commits, bounds it.
    writes: VecDeque<Compared>,
    /// The last word on each transaction that is not visible yet.
    said: HashMap<TransactionId, Said>,
    /// The last cursor given.
    arrived: Cursor,
    closed: bool,
    /// Nothing is written any more.
    stopped: Option<StoreError>,
}

/// One write: what it comes to once it is durable, and who waits for that. A refusal waits as well: it
/// may be for something that is not durable yet.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) word: Result<(Cursor, Word), StoreError>,
    pub(super) reply: Reply,
}

/// What was said of one transaction.
#[derive(Debug)]
struct Said {
    last: Option<Stored>,
    /// How many times, in writes that are not visible yet.
    times: usize,
}

/// What was visible of one transaction.
struct Seen {
    /// When so many batches had become visible.
    visible: u64,
    /// When so often something had been uncovered.
    uncovered: u64,
    stored: Result<Option<Stored>, StoreError>,
}

/// What a write is compared with.
#[derive(Clone, Copy, Debug)]
struct Stored {
    cursor: Cursor,
    revision: u64,
    epoch: u64,
    finished: bool,
}

/// What is to be done next.
pub(super) enum Call {
    Write,
    /// Nothing came.
    Idle,
    /// Nothing will come any more.
    Close,
}

impl Queue {
    pub(super) fn new(shared: Arc<Shared>, arrived: Cursor) -> Self {
        let waiting = Waiting {
            writes: VecDeque::new(),
            said: HashMap::new(),
            arrived,
            closed: false,
            stopped: None,
        };
        Self {
            shared,
            waiting: Mutex::new(waiting),
            came: Condvar::new(),
            visible: AtomicU64::new(0),
        }
    }

    /// Compares a write with what is stored, or was said since, and takes it in behind all others.
    pub(super) fn put(&self, write: Write) {
        let mut write = Some(write);
        while let Some(again) = write {
            // With nobody waiting for it: reading may take its time.
            let seen = self.look(again.what.id());
            write = self.put_after(seen, again);
        }
    }

    fn look(&self, id: &TransactionId) -> Seen {
        Seen {
            visible: self.visible.load(Ordering::SeqCst),
            uncovered: self.shared.view.uncovered(),
            stored: self.shared.stored(id),
        }
    }

    /// Gives the write back if what was seen may not be what is stored.
    fn put_after(&self, seen: Seen, write: Write) -> Option<Write> {
        let mut waiting = self.waiting.lock();
        if let Some(stopped) = waiting.stopped.clone() {
            drop(waiting);
            write.reply.send(Err(stopped));
            return None;
        }
        let id = write.what.id();
        let stored = match waiting.said.get(id) {
            Some(said) => Ok(said.last),
            None if self.visible.load(Ordering::SeqCst) == seen.visible => seen.stored,
            // What has become visible since may be about this transaction; nothing more does while we look.
            None => match self.shared.view.find_recent(id) {
                Some(found) => self.shared.stored_as(id, found),
                None if self.shared.view.uncovered() == seen.uncovered => seen.stored,
                None => return Some(write),
            },
        };
        let Write { what, reply } = write;
        let word = stored.and_then(|stored| waiting.take(what, stored));
        waiting.writes.push_back(Compared { word, reply });
        None
    }

    /// Calls whoever waits for something to write.
    pub(super) fn call(&self) {
        self.came.notify_one();
    }

    /// Waits until there is something to write, at most so long.
    pub(super) fn wait(&self, idle: Duration) -> Call {
        let mut waiting = self.waiting.lock();
        let nothing = |waiting: &mut Waiting| waiting.writes.is_empty() && !waiting.closed;
        self.came.wait_while_for(&mut waiting, nothing, idle);
        match (waiting.writes.is_empty(), waiting.closed) {
            (false, _) => Call::Write,
            (true, false) => Call::Idle,
            (true, true) => Call::Close,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.lock().writes.is_empty()
    }

    /// What makes the next batch.
    pub(super) fn batch(&self) -> Vec<Compared> {
        let mut waiting = self.waiting.lock();
        let mut bytes = 0;
        let sizes = waiting.writes.iter().map(Compared::bytes);
        let fit = sizes.take_while(|more| {
            let fits = bytes < BATCH_BYTES_MAX;
            bytes += more;
            fits
        });
        let fit = fit.count();
        waiting.writes.drain(..fit).collect()
    }

    /// These are visible now.
    pub(super) fn visible(&self, words: &[(Cursor, Word)]) {
        let mut waiting = self.waiting.lock();
        self.visible.fetch_add(1, Ordering::SeqCst);
        for (_, word) in words {
            waiting.forget(&word.id);
        }
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.waiting.lock().closed = true;
        self.came.notify_one();
    }

    /// Nothing is written any more: tells everybody why, those who come later too.
    pub(super) fn stop(&self, why: &StoreError) {
        let writes = {
            let mut waiting = self.waiting.lock();
            waiting.stopped = Some(why.clone());
            mem::take(&mut waiting.writes)
        };
        for write in writes {
            write.reply.send(Err(why.clone()));
        }
    }
}

impl Waiting {
    /// Takes a write, if it follows what was said before.
    fn take(&mut self, what: What, stored: Option<Stored>) -> Result<(Cursor, Word), StoreError> {
        let (last, word) = match what {
            What::Commit(entry) => self.commit(entry, stored)?,
            What::Purge { id, revision } => purge(id, revision, stored)?,
        };
        let said = self.said.entry(word.1.id.clone());
        let said = said.or_insert(Said { last, times: 0 });
        said.last = last;
        said.times += 1;
        Ok(word)
    }

    /// A record follows the one that is stored.
    fn commit(
        &mut self,
        entry: Entry,
        stored: Option<Stored>,
    ) -> Result<(Option<Stored>, (Cursor, Word)), StoreError> {
        let (found, epoch) = stored.map_or((0, 0), |it| (it.revision, it.epoch));
        if found.checked_add(1) != Some(entry.revision) || epoch > entry.epoch {
            return Err(conflict(entry.id, found));
        }
        let cursor = stored.map_or_else(|| self.arrive(), |it| it.cursor);
        let last = Stored::of(cursor, &entry);
        let word = Word {
            id: entry.id.clone(),
            entry: Some(Arc::new(entry)),
            in_tree: stored.is_some(),
        };
        Ok((Some(last), (cursor, word)))
    }

    fn arrive(&mut self) -> Cursor {
        self.arrived += 1;
        self.arrived
    }

    /// One word less is to become visible.
    fn forget(&mut self, id: &TransactionId) {
        if let Some(said) = self.said.get_mut(id) {
            said.times -= 1;
            if said.times == 0 {
                self.said.remove(id);
            }
        }
    }
}

/// A finished record that has this revision is taken away.
fn purge(
    id: TransactionId,
    revision: u64,
    stored: Option<Stored>,
) -> Result<(Option<Stored>, (Cursor, Word)), StoreError> {
    let Some(stored) = stored else {
        return Err(conflict(id, 0));
    };
    if stored.revision != revision || !stored.finished {
        return Err(conflict(id, stored.revision));
    }
    let word = Word {
        id,
        entry: None,
        in_tree: true,
    };
    Ok((None, (stored.cursor, word)))
}

impl What {
    fn id(&self) -> &TransactionId {
        match self {
            Self::Commit(entry) => &entry.id,
            Self::Purge { id, .. } => id,
        }
    }
}

impl Compared {
    fn bytes(&self) -> usize {
        let word = self.word.as_ref().ok();
        let entry = word.and_then(|(_, word)| word.entry.as_ref());
        entry.map_or(0, |entry| entry.bytes.len())
    }
}

impl Stored {
    fn of(cursor: Cursor, entry: &Entry) -> Self {
        Self {
            cursor,
            revision: entry.revision,
            epoch: entry.epoch,
            finished: entry.due_ms.is_none(),
        }
    }
}

impl Shared {
    /// What is visible of a transaction.
    fn stored(&self, id: &TransactionId) -> Result<Option<Stored>, StoreError> {
        let found = self.with(|view| view.find(id))?;
        self.stored_as(id, found)
    }

    fn stored_as(&self, id: &TransactionId, found: Found) -> Result<Option<Stored>, StoreError> {
        match found {
            Found::Nothing => Ok(None),
            Found::Recent(cursor, entry) => Ok(Some(Stored::of(cursor, &entry))),
            Found::InTree(cursor, bytes) => {
                let bytes = bytes.ok_or_else(|| MISSING.to_owned());
                let head = bytes.and_then(|it| codec::decode_head(it).map_err(|e| e.to_string()));
                let head = head.map_err(|reason| self.corrupt(cursor, id, reason))?;
                Ok(Some(Stored {
                    cursor,
                    revision: head.revision,
                    epoch: head.epoch,
                    finished: head.finished,
                }))
            }
        }
    }
}

fn conflict(id: TransactionId, found: u64) -> StoreError {
    StoreError::Conflict { id, found }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::FutureExt as _;
    use tercet_core::transaction::State;

    use super::*;
    use crate::store::{
        Record,
        codec::tests::smallest,
        fault::{Promise, promise},
        sled::{
            Workers,
            tests::{opened, say, settle, write},
        },
    };

    fn workers() -> (tempfile::TempDir, Workers) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let opened = opened(dir.path());
        (dir, Workers::of(opened))
    }

    fn revision(revision: u64) -> (Write, Promise) {
        write(&Record {
            revision,
            ..smallest()
        })
    }

    fn answered(promise: Promise) -> Result<(), StoreError> {
        promise.wait().now_or_never().expect("it is answered")
    }

    fn found(result: Result<(), StoreError>) -> u64 {
        match result {
            Err(StoreError::Conflict { found, .. }) => found,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_write_follows_what_is_not_durable_yet_and_no_refusal_tells_of_it_before() {
        let (_dir, mut workers) = workers();
        let queue = Arc::clone(&workers.writer.queue);
        let (first, first_done) = revision(1);
        let (again, refused) = revision(1);
        let (second, second_done) = revision(2);
        for write in [first, again, second] {
            queue.put(write);
        }
        let mut refused = pin!(refused.wait());
        assert!(refused.as_mut().now_or_never().is_none());
        workers.writer.batch().expect("it is written");
        assert_eq!(answered(first_done), Ok(()));
        assert_eq!(found(refused.now_or_never().expect("it is answered")), 1);
        assert_eq!(answered(second_done), Ok(()));
        assert!(
            queue.waiting.lock().said.is_empty(),
            "it is visible instead"
        );
    }

    #[test]
    fn what_becomes_visible_between_the_look_and_the_comparison_counts() {
        let (_dir, mut workers) = workers();
        let queue = Arc::clone(&workers.writer.queue);
        let seen = queue.look(&smallest().id);
        let (first, first_done) = revision(1);
        queue.put(first);
        workers.writer.batch().expect("it is written");
        assert_eq!(answered(first_done), Ok(()));

        let (again, refused) = revision(1);
        assert!(queue.put_after(seen, again).is_none());
        workers.writer.batch().expect("it is written");
        assert_eq!(found(answered(refused)), 1);
    }

    #[test]
    fn what_is_settled_between_the_look_and_the_comparison_is_looked_at_again() {
        let (_dir, mut workers) = workers();
        let queue = Arc::clone(&workers.writer.queue);
        let seen = queue.look(&smallest().id);
        say(&mut workers, 1);
        settle(&mut workers);

        let (again, refused) = revision(1);
        let again = queue.put_after(seen, again).expect("it doesn't know");
        queue.put(again);
        workers.writer.batch().expect("it is written");
        assert_eq!(found(answered(refused)), 1);
    }

    #[test]
    fn a_purged_id_may_come_again_before_any_of_it_is_durable() {
        let (_dir, mut workers) = workers();
        let queue = Arc::clone(&workers.writer.queue);
        let mut finished = smallest();
        finished.transaction.state = State::Canceled;
        let (first, first_done) = write(&finished);
        let (again, again_done) = write(&finished);
        let (reply, purged) = promise();
        let what = What::Purge {
            id: finished.id.clone(),
            revision: 1,
        };
        for write in [first, Write { what, reply }, again] {
            queue.put(write);
        }
        workers.writer.batch().expect("it is written");
        for promise in [first_done, purged, again_done] {
            assert_eq!(answered(promise), Ok(()));
        }
        let stored = queue.shared.stored(&finished.id).expect("it is read");
        assert_eq!(stored.map(|it| (it.cursor, it.revision)), Some((2, 1)));
    }

    #[test]
    fn a_batch_takes_no_more_when_it_is_large() {
        let (_dir, workers) = workers();
        let queue = &workers.writer.queue;
        for id in ["t1", "t2", "t3"] {
            let (reply, _) = promise();
            let what = What::Commit(Entry {
                id: TransactionId::parse(id).expect("a valid id"),
                bytes: vec![0; BATCH_BYTES_MAX / 2].into(),
                ..Entry::of(&smallest())
            });
            queue.put(Write { what, reply });
        }
        assert_eq!([queue.batch().len(), queue.batch().len()], [2, 1]);
        assert!(queue.is_empty());
    }

    #[test]
    fn whoever_comes_after_the_end_hears_why() {
        let (_dir, workers) = workers();
        let queue = &workers.writer.queue;
        let (before, waits) = revision(1);
        queue.put(before);
        let why = StoreError::Broken("the end".into());
        queue.stop(&why);
        let (after, comes) = revision(1);
        queue.put(after);
        for promise in [waits, comes] {
            assert_eq!(answered(promise), Err(why.clone()));
        }
        assert!(queue.batch().is_empty());
    }
}
