//! The one thread that writes.
//!
//! Group commit: while one batch is being synced, the next fills itself in the queue.
//!
//! ```text
//! queue ─▶ stage (compare-and-set) ─▶ cover ─▶ apply_batch ─▶ flush ─▶ fdatasync ─▶ uncover ─▶ acknowledge
//! ```
//!
//! After the `fdatasync` a trace of the batch is left, which costs no sync.
//!
//! sled's `flush` hands its buffers to the kernel and starts writing them out, but never waits for
//! the device; the `fdatasync` on a descriptor of our own does. More than one thread in `flush`
//! can hang, so only this one calls it.

use std::{
    any::Any,
    fs::File,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::Duration,
};

use sled::{Batch, Db};
use tercet_core::ids::TransactionId;

use super::{
    Shared,
    meta::Meta,
    sidecar::{MARK_EVERY_BATCHES, Phase, Sidecar},
    stage::{Entry, Refused, Stage, Staged},
    trace::Trace,
};
use crate::store::{StoreError, fault::Reply};

/// When a batch has this many bytes it takes no more: what waits longer is latency, and the batch,
/// like the overlay that hides it, should stay small beside a segment.
const BATCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// How long the queue has to be empty before the mark is made exact.
const IDLE: Duration = Duration::from_secs(1);

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

/// What the writing thread owns.
pub(super) struct Writer {
    shared: Arc<Shared>,
    medium: Medium,
    meta: Meta,
    sidecar: Sidecar,
}

/// The database's files, as far as sled leaves them to us.
#[derive(Debug)]
pub(super) struct Medium {
    dir: PathBuf,
    db_file: File,
    trace: Trace,
}

/// Who waits, and what to tell them once the batch is durable.
type Answers = Vec<(Reply, Result<(), StoreError>)>;

impl Medium {
    /// Opens the second descriptor.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            db_file: File::open(dir.join("db"))?,
            trace: Trace::open(dir)?,
            dir: dir.to_owned(),
        })
    }

    /// Makes a batch durable, of which `meta` is the account that stands in it.
    ///
    /// # Errors
    /// What failed, for a person. After an error nothing is known of what is on the medium.
    pub(super) fn write(&self, db: &Db, batch: Batch, meta: &Meta) -> Result<(), String> {
        let failed = |what: &'static str| move |error: sled::Error| format!("{what}: {error}");
        db.apply_batch(batch).map_err(failed("writing a batch"))?;
        db.flush().map_err(failed("flushing a batch"))?;
        self.check_blobs()?;
        self.sync()?;
        let traced = self.trace.reached(meta);
        traced.map_err(|error| format!("writing a trace of a batch: {error}"))
    }

    /// Makes all that is in the database's file durable.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn sync(&self) -> Result<(), String> {
        let synced = self.db_file.sync_data();
        synced.map_err(|error| format!("syncing {}: {error}", self.dir.join("db").display()))
    }

    /// sled puts what it finds too large into files it never syncs. The sizes in
    /// [`keys`](super::keys) are chosen so that there are none.
    pub(super) fn check_blobs(&self) -> Result<(), String> {
        let blobs = self.dir.join("blobs");
        let unreadable = |error: io::Error| format!("reading {}: {error}", blobs.display());
        match blobs.read_dir().map_err(unreadable)?.next() {
            None => Ok(()),
            Some(file) => Err(format!(
                "there is a file {}, which is never synced, so what it holds may be lost",
                file.map_err(unreadable)?.path().display()
            )),
        }
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, medium: Medium, meta: Meta, sidecar: Sidecar) -> Self {
        Self {
            shared,
            medium,
            meta,
            sidecar,
        }
    }

    /// Works until the queue is closed or the medium fails.
    pub(super) fn run(mut self, queue: &Receiver<Write>) {
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(queue)));
        let reason = match worked {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(panic) => format!("the store's writer panicked: {}", panic_text(&*panic)),
        };
        let broken = self.shared.breaker.trip(reason);
        for write in queue.try_iter() {
            write.reply.send(Err(broken.clone()));
        }
    }

    fn work(&mut self, queue: &Receiver<Write>) -> Result<(), String> {
        loop {
            match queue.recv_timeout(IDLE) {
                Ok(first) => {
                    self.batch(first, queue)?;
                    if self.meta.batch >= self.sidecar.mark + MARK_EVERY_BATCHES {
                        self.raise_mark(Phase::Open)?;
                    }
                }
                Err(RecvTimeoutError::Timeout) if self.meta.batch > self.sidecar.mark => {
                    self.raise_mark(Phase::Open)?;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    self.check_breaker()?;
                    return self.raise_mark(Phase::Closed);
                }
            }
        }
    }

    fn batch(&mut self, first: Write, queue: &Receiver<Write>) -> Result<(), String> {
        let shared = self.shared.clone();
        let mut answers = Vec::new();
        let written = self
            .stage(first, queue, &mut answers)
            .and_then(|staged| staged.map_or(Ok(()), |it| self.write(it)))
            .and_then(|()| self.check_breaker());
        if let Err(reason) = written {
            let broken = shared.breaker.trip(reason.clone());
            for (reply, _) in answers {
                reply.send(Err(broken.clone()));
            }
            return Err(reason);
        }
        let done = answers.iter().filter(|(_, result)| result.is_ok()).count();
        shared.commits.fetch_add(done as u64, Ordering::Relaxed);
        for (reply, result) in answers {
            reply.send(result);
        }
        Ok(())
    }

    /// Takes what has queued up and compares it with what is stored, in order.
    fn stage(
        &self,
        first: Write,
        queue: &Receiver<Write>,
        answers: &mut Answers,
    ) -> Result<Option<Staged>, String> {
        let mut stage = Stage::new(self.shared.view.db(), self.meta.clone());
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(Write { what, reply }) = next {
            let staged = match what {
                What::Commit(entry) => {
                    bytes += entry.bytes.len();
                    stage.commit(entry)
                }
                What::Purge { id, revision } => stage.purge(&id, revision),
            };
            let result = match staged {
                Ok(()) => Ok(()),
                Err(Refused::Write(error)) => Err(error),
                Err(Refused::Corrupt(cursor, error)) => {
                    self.shared.quarantine(cursor);
                    Err(error)
                }
                Err(Refused::Medium(error)) => {
                    answers.push((reply, Ok(())));
                    return Err(format!("reading before a write: {error}"));
                }
            };
            answers.push((reply, result));
            let full = bytes >= BATCH_BYTES_MAX;
            next = if full { None } else { queue.try_recv().ok() };
        }
        Ok(stage.finish())
    }

    fn write(&mut self, staged: Staged) -> Result<(), String> {
        self.check_breaker()?;
        let view = &self.shared.view;
        view.cover(staged.before);
        // On an error the cover stays: nobody ever reads what may not be durable.
        self.medium.write(view.db(), staged.batch, &staged.meta)?;
        view.uncover();
        self.meta = staged.meta;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// A reader, too, may find that the medium has failed; nothing is acknowledged after that.
    fn check_breaker(&self) -> Result<(), String> {
        let checked = self.shared.breaker.check();
        checked.map_err(|broken| broken.to_string())
    }

    fn raise_mark(&mut self, phase: Phase) -> Result<(), String> {
        self.sidecar.mark = self.meta.batch;
        self.sidecar.set_phase(phase);
        let saved = self.sidecar.save(&self.medium.dir);
        saved.map_err(|error| {
            let path = Sidecar::path(&self.medium.dir);
            format!("writing {}: {error}", path.display())
        })
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}
