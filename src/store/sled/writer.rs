//! What makes commits durable: one writer, which everybody takes in turn (see [`inlet`](super::inlet)).
//!
//! Group commit: while one batch is being synced, the next fills itself in the queue.
//!
//! ```text
//! queue ─▶ compare-and-set ─▶ journal, fdatasync ─▶ visible (recent) ─▶ acknowledge
//! ```
//!
//! After the `fdatasync` a trace of the batch is left, which costs no sync. When a segment of the journal is
//! full, another thread moves what is in it into the database: see [`settle`](super::settle).

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use tercet_core::ids::TransactionId;

use super::{
    Shared,
    entry::Entry,
    journal::{Batch, Change, Journal, To},
    recent::{Item, Recent},
    sidecar::{MARK_EVERY_BATCHES, Phase, Sidecar},
    trace::Trace,
    view::{Found, MISSING},
};
use crate::store::{Cursor, StoreError, codec, fault::Reply};

/// When a batch has this many bytes it takes no more: what waits longer is latency.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Segments of the journal that the database may lag behind, and so what is kept in memory and read at a
/// start. The writer waits when there are more.
const SEGMENTS_MAX: usize = 4;
/// At rest is a writer who has had so many batches of one write each in a row, during which no other came.
pub(super) const CALM_BATCHES: u32 = 16;
/// A disk that takes longer than this to sync is not waited for by a thread that others need: what can be
/// saved by that is little then.
pub(super) const QUICK: Duration = Duration::from_millis(1);

/// One write in the queue.
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

/// Whoever has it may write.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) dir: PathBuf,
    pub(super) journal: Journal,
    pub(super) trace: Trace,
    pub(super) sidecar: Sidecar,
    /// The last batch written.
    pub(super) batch: u64,
    /// The last cursor given.
    pub(super) arrived: Cursor,
    /// Names the batch up to which the database shall have everything.
    pub(super) settle: Sender<u64>,
    /// The batches up to which it has.
    pub(super) settled: Receiver<u64>,
    pub(super) pace: Pace,
}

/// How it went lately.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Batches in a row of one write, during which no other came.
    pub(super) calm: u32,
    /// How long the last batch took to become durable.
    pub(super) took: Duration,
}

/// Who waits, and what to tell them once the batch is durable.
type Answers = Vec<(Reply, Result<(), StoreError>)>;

/// What a write is compared with.
struct Stored {
    cursor: Cursor,
    revision: u64,
    epoch: u64,
    finished: bool,
}

impl Writer {
    /// Whether a write may be made where it comes from: nobody waits, lately nobody came to wait, the disk is
    /// quick and there is nothing to be tidied.
    pub(super) fn is_at_rest(&self) -> bool {
        let calm = self.pace.calm >= CALM_BATCHES && self.pace.took <= QUICK;
        calm && !self.somebody_waits() && !self.is_mark_low() && !self.journal.is_full()
    }

    pub(super) fn somebody_waits(&self) -> bool {
        self.shared.waiting.load(Ordering::SeqCst) > 0
    }

    /// Makes this write durable, and as many more as there are, and says so.
    pub(super) fn batch(
        &mut self,
        first: Write,
        more: impl FnMut() -> Option<Write>,
    ) -> Result<(), String> {
        let mut answers = Vec::new();
        let written = self
            .take(first, more, &mut answers)
            .and_then(|fresh| self.write(fresh))
            .and_then(|()| self.check_breaker());
        if let Err(reason) = written {
            let broken = self.shared.breaker.trip(reason.clone());
            for (reply, _) in answers {
                reply.send(Err(broken.clone()));
            }
            return Err(reason);
        }
        let calm = answers.len() == 1 && !self.somebody_waits();
        self.pace.calm = if calm {
            self.pace.calm.saturating_add(1)
        } else {
            0
        };
        let done = answers.iter().filter(|(_, result)| result.is_ok()).count();
        self.shared
            .commits
            .fetch_add(done as u64, Ordering::Relaxed);
        for (reply, result) in answers {
            reply.send(result);
        }
        Ok(())
    }

    /// Takes what has queued up and compares it with what is stored, in order.
    fn take(
        &mut self,
        first: Write,
        mut more: impl FnMut() -> Option<Write>,
        answers: &mut Answers,
    ) -> Result<Recent, String> {
        let mut fresh = Recent::default();
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(Write { what, reply }) = next {
            let taken = match what {
                What::Commit(entry) => {
                    bytes += entry.bytes.len();
                    self.commit(&mut fresh, entry)
                }
                What::Purge { id, revision } => self.purge(&mut fresh, id, revision),
            };
            // Any other error refuses this one write only: it changes nothing, the others go on.
            let broken = match &taken {
                Err(error @ StoreError::Broken(_)) => Some(error.to_string()),
                _ => None,
            };
            answers.push((reply, taken));
            if let Some(broken) = broken {
                return Err(broken);
            }
            let full = bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { more() };
        }
        Ok(fresh)
    }

    /// A batch of one commit.
    #[cfg(test)]
    pub(super) fn taken(&mut self, record: &crate::store::Record) -> Result<Recent, String> {
        let mut fresh = Recent::default();
        let taken = self.commit(&mut fresh, Entry::of(record));
        taken.map(|()| fresh).map_err(|error| error.to_string())
    }

    /// Takes a record, if it follows the one that is stored.
    fn commit(&mut self, fresh: &mut Recent, entry: Entry) -> Result<(), StoreError> {
        let stored = self.stored(fresh, &entry.id)?;
        let (found, epoch) = stored.as_ref().map_or((0, 0), |it| (it.revision, it.epoch));
        if found.checked_add(1) != Some(entry.revision) || epoch > entry.epoch {
            return Err(conflict(entry.id, found));
        }
        let in_tree = stored.is_some();
        let cursor = stored.map_or_else(|| self.arrive(), |it| it.cursor);
        let item = Item {
            id: entry.id.clone(),
            entry: Some(Arc::new(entry)),
            batch: self.batch + 1,
            in_tree,
        };
        fresh.put(cursor, item);
        Ok(())
    }

    /// Takes away a finished record, if it has this revision.
    fn purge(
        &mut self,
        fresh: &mut Recent,
        id: TransactionId,
        revision: u64,
    ) -> Result<(), StoreError> {
        let Some(stored) = self.stored(fresh, &id)? else {
            return Err(conflict(id, 0));
        };
        if stored.revision != revision || !stored.finished {
            return Err(conflict(id, stored.revision));
        }
        let item = Item {
            id,
            entry: None,
            batch: self.batch + 1,
            in_tree: true,
        };
        fresh.put(stored.cursor, item);
        Ok(())
    }

    fn arrive(&mut self) -> Cursor {
        self.arrived += 1;
        self.arrived
    }

    fn stored(&self, fresh: &Recent, id: &TransactionId) -> Result<Option<Stored>, StoreError> {
        if let Some((cursor, item)) = fresh.find(id) {
            let entry = item.entry.as_ref();
            return Ok(entry.map(|entry| Stored::of(cursor, entry)));
        }
        match self.shared.with(|durable| durable.find(id))? {
            Found::Nothing => Ok(None),
            Found::Recent(cursor, entry) => Ok(Some(Stored::of(cursor, &entry))),
            Found::InTree(cursor, bytes) => {
                let bytes = bytes.ok_or_else(|| MISSING.to_owned());
                let head = bytes.and_then(|it| codec::decode_head(it).map_err(|e| e.to_string()));
                let head = head.map_err(|reason| self.shared.corrupt(cursor, id, reason))?;
                Ok(Some(Stored {
                    cursor,
                    revision: head.revision,
                    epoch: head.epoch,
                    finished: head.finished,
                }))
            }
        }
    }

    pub(super) fn write(&mut self, fresh: Recent) -> Result<(), String> {
        if fresh.is_empty() {
            return Ok(());
        }
        self.check_breaker()?;
        let number = self.batch + 1;
        let batch = Batch {
            store: self.sidecar.store.clone(),
            number,
            changes: fresh.items().map(Change::of).collect(),
        };
        let begun = Instant::now();
        let appended = self.journal.append(&batch);
        appended.map_err(|error| format!("writing to the journal: {error}"))?;
        self.pace.took = begun.elapsed();
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let traced = self.trace.reached(&batch.store, number);
        traced.map_err(|error| format!("writing a trace of a batch: {error}"))?;
        self.batch = number;
        self.shared.view.recent_mut().absorb(fresh);
        Ok(())
    }

    /// What comes up between batches, and may take its time.
    pub(super) fn tidy(&mut self) -> Result<(), String> {
        if self.is_mark_low() {
            self.raise_mark(Phase::Open)?;
        }
        if self.journal.is_full() {
            self.turn()?;
        }
        Ok(())
    }

    fn is_mark_low(&self) -> bool {
        self.batch >= self.sidecar.mark + MARK_EVERY_BATCHES
    }

    /// Makes the mark exact.
    pub(super) fn idle(&mut self) -> Result<(), String> {
        if self.batch > self.sidecar.mark {
            self.raise_mark(Phase::Open)?;
        }
        Ok(())
    }

    /// Begins another segment, and has this one settled. Waits when too many are not.
    fn turn(&mut self) -> Result<(), String> {
        // When the thread that settles has ended, it has said why.
        let _ = self.settle.send(self.batch);
        loop {
            let settled = if self.journal.segments() < SEGMENTS_MAX {
                self.settled.try_recv().ok()
            } else {
                Some(self.next_settled()?)
            };
            let Some(settled) = settled else { break };
            let released = self.journal.release(settled);
            released.map_err(|error| format!("clearing the journal: {error}"))?;
        }
        let turned = self.journal.turn();
        turned.map_err(|error| format!("beginning a segment of the journal: {error}"))
    }

    /// Leaves nothing to the journal, so that the next start has nothing to read.
    pub(super) fn close(&mut self) -> Result<(), String> {
        self.check_breaker()?;
        let _ = self.settle.send(self.batch);
        while self.next_settled()? < self.batch {}
        self.raise_mark(Phase::Closed)
    }

    fn next_settled(&self) -> Result<u64, String> {
        self.settled.recv().map_err(|_| self.stopped())
    }

    fn stopped(&self) -> String {
        let error = self.shared.breaker.error();
        error.map_or_else(|| "nothing is settled any more".into(), |it| it.to_string())
    }

    /// A reader, or the thread that settles, may find that the medium has failed; nothing is acknowledged
    /// after that.
    fn check_breaker(&self) -> Result<(), String> {
        let checked = self.shared.breaker.check();
        checked.map_err(|broken| broken.to_string())
    }

    fn raise_mark(&mut self, phase: Phase) -> Result<(), String> {
        self.sidecar.mark = self.batch;
        self.sidecar.set_phase(phase);
        let saved = self.sidecar.save(&self.dir);
        saved.map_err(|error| {
            let path = Sidecar::path(&self.dir);
            format!("writing {}: {error}", path.display())
        })
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

impl Change {
    /// The last word on a record, for the journal.
    pub(super) fn of((cursor, item): (Cursor, &Item)) -> Self {
        let to = match &item.entry {
            Some(entry) => To::Record(entry.bytes.clone()),
            None => To::Purged(item.id.to_string()),
        };
        let to = Some(to);
        Self { cursor, to }
    }
}

fn conflict(id: TransactionId, found: u64) -> StoreError {
    StoreError::Conflict { id, found }
}
