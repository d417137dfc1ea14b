//! What makes commits durable: one writer, which everybody takes in turn (see [`inlet`](super::inlet)).
//!
//! Group commit: while one batch is being synced, the next fills itself in the queue.
//!
//! ```text
//! compare-and-set ─▶ queue ─▶ journal, fdatasync ─▶ visible (recent) ─▶ acknowledge
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

use super::{
    Shared,
    journal::{Batch, Change, Journal, To},
    queue::{Compared, Queue},
    recent::Word,
    sidecar::{MARK_EVERY_BATCHES, Phase, Sidecar},
    trace::Trace,
};
use crate::store::Cursor;

/// Segments of the journal that the database may lag behind, and so what is kept in memory and read at a
/// start. The writer waits when there are more.
const SEGMENTS_MAX: usize = 4;
/// At rest is a writer who has had so many batches of one write each in a row, during which no other came.
pub(super) const CALM_BATCHES: u32 = 16;
/// A disk that takes longer than this to sync is not waited for by a thread that others need: what can be
/// saved by that is little then.
pub(super) const QUICK: Duration = Duration::from_millis(1);

/// Whoever has it may write.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) queue: Arc<Queue>,
    pub(super) dir: PathBuf,
    pub(super) journal: Journal,
    pub(super) trace: Trace,
    pub(super) sidecar: Sidecar,
    /// The last batch written.
    pub(super) batch: u64,
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

impl Writer {
    /// Whether a write may be made where it comes from: nobody waits, lately nobody came to wait, the disk is
    /// quick and there is nothing to be tidied.
    pub(super) fn is_at_rest(&self) -> bool {
        let calm = self.pace.calm >= CALM_BATCHES && self.pace.took <= QUICK;
        calm && self.queue.is_empty() && !self.is_mark_low() && !self.journal.is_full()
    }

    /// Makes durable what waits, as much as fits into a batch, and says so.
    pub(super) fn batch(&mut self) -> Result<(), String> {
        let mut words = Vec::new();
        let mut answers = Vec::new();
        for Compared { word, reply } in self.queue.batch() {
            let answer = word.map(|word| words.push(word));
            answers.push((reply, answer));
        }
        let written = self.write(&words).and_then(|()| self.check_breaker());
        if let Err(reason) = written {
            let broken = self.shared.breaker.trip(reason.clone());
            for (reply, _) in answers {
                reply.send(Err(broken.clone()));
            }
            return Err(reason);
        }
        let calm = answers.len() <= 1 && self.queue.is_empty();
        self.pace.calm = if calm {
            self.pace.calm.saturating_add(1)
        } else {
            0
        };
        let done = words.len() as u64;
        self.shared.commits.fetch_add(done, Ordering::Relaxed);
        for (reply, answer) in answers {
            reply.send(answer);
        }
        Ok(())
    }

    fn write(&mut self, words: &[(Cursor, Word)]) -> Result<(), String> {
        if words.is_empty() {
            return Ok(());
        }
        self.check_breaker()?;
        let number = self.batch + 1;
        let batch = Batch {
            store: self.sidecar.store.clone(),
            number,
            changes: words.iter().map(Change::of).collect(),
        };
        let begun = Instant::now();
        let appended = self.journal.append(&batch);
        appended.map_err(|error| format!("writing to the journal: {error}"))?;
        self.pace.took = begun.elapsed();
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        let traced = self.trace.reached(&batch.store, number);
        traced.map_err(|error| format!("writing a trace of a batch: {error}"))?;
        self.batch = number;
        self.shared.view.recent_mut().absorb(number, words);
        self.queue.visible(words);
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

impl Change {
    /// What is said of a record, for the journal.
    pub(super) fn of((cursor, word): &(Cursor, Word)) -> Self {
        let to = match &word.entry {
            Some(entry) => To::Record(entry.bytes.clone()),
            None => To::Purged(word.id.to_string()),
        };
        Self {
            cursor: *cursor,
            to: Some(to),
        }
    }
}
