//! The embedded default: sled 0.34.7 in a directory, made durable.
//!
//! sled by itself acknowledges what a power loss takes back, opens damaged files as empty ones and
//! spills large pages into files it never syncs. What is done about each stands where it is done:
//!
//! | file | what for |
//! |---|---|
//! | `open`, `create` | every way in which a directory may not be what it should be, or not yet |
//! | `sidecar`, `trace` | what the store has to be: which, how new |
//! | `inlet` | who writes: a thread with a queue, or at rest whoever commits |
//! | `queue` | compare-and-set, and what waits to be written |
//! | `writer` | group commit, acknowledgement |
//! | `journal` | a batch made durable with one write and one `fdatasync` |
//! | `replay` | what a start finds in the journal |
//! | `recent` | what the journal has and the database not yet |
//! | `settle`, `stage` | from there into the database, many at once |
//! | `view`, `outlived` | reads over both, that never show what is not durable |
//! | `medium`, `waker` | what sled leaves undone when it syncs, and when the disk fails |
//! | `entry`, `pack`, `keys`, `meta` | what stands where in the database |
//! | `ids`, `filter` | finding a record by its id, at the same cost however many there are |
//! | `verify`, `transfer` | `tercet store verify`, `export` and `import` |
//!
//! A directory holds `db`, `conf`, `blobs/` and `snap.*`, which are sled's, and `tercet.store` (the
//! sidecar), `tercet.journal.*`, `tercet.trace` and `tercet.lock`.

mod create;
mod entry;
mod filter;
mod ids;
mod inlet;
mod journal;
mod keys;
mod medium;
mod meta;
mod open;
mod outlived;
mod pack;
mod queue;
mod recent;
mod replay;
mod settle;
mod sidecar;
mod stage;
mod trace;
mod transfer;
mod verify;
mod view;
mod waker;
mod writer;

use std::{
    collections::HashSet,
    fs::File,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread::{self, JoinHandle},
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use prost::bytes::Bytes;
use tercet_core::{ids::TransactionId, receipt::Receipt};

use super::{
    Counters, Cursor, Identity, Listing, Record, Store, StoreError, Unfinished, UnixMs, codec,
    fault::{Breaker, promise},
};
use entry::Entry;
use inlet::{Inlet, inlet};
use open::{Missing, Opened};
use outlived::Outlived;
use queue::{Queue, What, Write};
use settle::{Settler, panic_text};
use view::{Found, MISSING, View};
use waker::Waker;
use writer::{Pace, Writer};

pub use open::{OpenError, SledOptions};
pub use sidecar::FORMAT;
pub use transfer::{ExportError, Exported, ImportError, Imported, LeftOut, export, import};
pub use verify::{PROBLEMS_MAX, Verified, verify};

/// sled's unit of allocation. Large, so that no page is ever put into a file of its own: see
/// [`keys::CHUNK_BYTES`].
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;
/// Records of one listing that are read in one go, with the writer waiting.
const PIECE_RECORDS: usize = 64;
/// Index entries that are read in one go, with the writer waiting.
const PIECE_ENTRIES: usize = 1024;

/// A store in a directory. Dropping it closes it: what was committed is written first.
#[derive(Debug)]
pub struct SledStore {
    /// Before the waker: it has the database.
    shared: Arc<Shared>,
    /// None only while it is dropped.
    inlet: Option<Inlet>,
    threads: Vec<JoinHandle<()>>,
    dir: PathBuf,
    /// Closes the files.
    _waker: Waker,
    /// Given up last, when the files are closed.
    _lock: File,
}

/// What readers and the writer share.
#[derive(Debug)]
struct Shared {
    identity: Identity,
    view: View,
    breaker: Breaker,
    commits: AtomicU64,
    syncs: AtomicU64,
    /// Places of records found unreadable; as many as there are such.
    quarantined: Mutex<HashSet<Cursor>>,
}

impl SledStore {
    /// Opens the store in this directory, or makes one if there is none.
    ///
    /// # Errors
    /// [`OpenError`] names the path and what to do; nothing has been changed then.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, &SledOptions::default())
    }

    /// The same, with options.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_with(dir: &Path, options: &SledOptions) -> Result<Self, OpenError> {
        let mut opened = open::open(dir, options, Missing::Create)?;
        opened.boot()?;
        Self::start(opened)
    }

    fn start(opened: Opened) -> Result<Self, OpenError> {
        let dir = opened.dir.clone();
        let Workers {
            shared,
            writer,
            settler,
            named,
            done,
            waker,
            lock,
        } = Workers::of(opened);
        let (inlet, outlet) = inlet(writer);
        let threads = [
            start(&dir, "tercet-store", move || outlet.run())?,
            start(&dir, "tercet-settle", move || settler.run(&named, &done))?,
        ];
        Ok(Self {
            shared,
            inlet: Some(inlet),
            threads: threads.into(),
            dir,
            _waker: waker,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many bytes its files take on the disk. It grows with what is rewritten; export and import
    /// compact it.
    ///
    /// # Errors
    /// `Broken` when sled can't tell.
    pub fn size_on_disk(&self) -> Result<u64, StoreError> {
        self.shared.with(|view| view.db().size_on_disk())
    }

    fn enter(&self, write: Write) {
        if let Some(inlet) = &self.inlet {
            inlet.enter(write);
        }
    }
}

/// What the two threads begin with.
struct Workers {
    shared: Arc<Shared>,
    writer: Writer,
    settler: Settler,
    /// Batches up to which the writer wants to have everything settled.
    named: Receiver<u64>,
    /// Says that it is.
    done: Sender<u64>,
    waker: Waker,
    lock: File,
}

impl Workers {
    fn of(opened: Opened) -> Self {
        let shared = Arc::new(Shared {
            identity: Identity {
                realm: opened.realm,
                epoch: opened.sidecar.epoch,
                boot: opened.meta.boot,
            },
            view: View::new(opened.ids),
            breaker: Breaker::default(),
            commits: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            quarantined: Mutex::default(),
        });
        let (settle, named) = channel();
        let (done, settled) = channel();
        let writer = Writer {
            queue: Arc::new(Queue::new(shared.clone(), opened.meta.arrived)),
            shared: shared.clone(),
            dir: opened.dir,
            journal: opened.journal,
            trace: opened.trace,
            batch: opened.meta.settled,
            sidecar: opened.sidecar,
            settle,
            settled,
            pace: Pace::default(),
        };
        Self {
            settler: Settler::new(shared.clone(), opened.medium, opened.meta),
            shared,
            writer,
            named,
            done,
            waker: opened.waker,
            lock: opened.lock,
        }
    }
}

impl Drop for SledStore {
    fn drop(&mut self) {
        let sound = self.shared.breaker.check().is_ok();
        self.inlet = None;
        for thread in self.threads.drain(..) {
            // It catches its own panics and has told everybody.
            let _ = thread.join();
        }
        // Nobody else is left to hear of it.
        if sound && let Err(error) = self.shared.breaker.check() {
            tracing::error!(%error, "the store could not be closed in good order; what was acknowledged is kept");
        }
    }
}

impl Store for SledStore {
    fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    fn commit(&self, record: Arc<Record>) -> BoxFuture<'static, Result<Receipt, StoreError>> {
        let (reply, promise) = promise();
        let what = What::Commit(Entry::of(&record));
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
        let (cursor, bytes) = match self.shared.with(|view| view.find(id))? {
            Found::Nothing => return Ok(None),
            Found::Recent(cursor, entry) => (cursor, Some(entry.bytes.clone())),
            Found::InTree(cursor, bytes) => (cursor, bytes),
        };
        let record = readable(id, bytes);
        let record = record.map_err(|reason| self.shared.corrupt(cursor, id, reason))?;
        Ok(Some(Arc::new(record)))
    }

    fn unfinished(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError> {
        let mut found = Vec::new();
        let mut from = after.map_or(0, |cursor| cursor.saturating_add(1));
        while found.len() < limit {
            let piece = (limit - found.len()).min(PIECE_ENTRIES);
            let entries = self
                .shared
                .with(|it| it.durable().unfinished(from, piece))?;
            let Some(last) = entries.last() else { break };
            from = last.cursor.saturating_add(1);
            let sound = |it: &Unfinished| self.shared.sound(it.cursor);
            found.extend(entries.into_iter().filter(sound));
        }
        Ok(found)
    }

    fn list(
        &self,
        listing: &Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Arc<Record>)>, StoreError> {
        let mut found = Vec::new();
        let mut below = before.unwrap_or(Cursor::MAX);
        while found.len() < limit {
            let piece = (limit - found.len()).min(PIECE_RECORDS);
            let records = self
                .shared
                .with(|it| it.durable().records(listing, below, piece))?;
            let Some((last, _)) = records.last() else {
                break;
            };
            below = *last;
            for (cursor, bytes) in records {
                match bytes.map(codec::decode) {
                    Some(Ok(record)) => found.push((cursor, Arc::new(record))),
                    Some(Err(_)) | None => self.shared.quarantine(cursor),
                }
            }
        }
        Ok(found)
    }

    fn outlived(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<TransactionId>, StoreError> {
        let shared = &self.shared;
        let limit_with_unsound = limit + shared.quarantined.lock().len();
        let recent = |it: &View| Ok(Outlived::recent(&it.durable(), now_ms, limit_with_unsound));
        let mut outlived = shared.with(recent)?;
        while shared.with(|it| outlived.look(&it.durable()))? {}
        let found = outlived.found();
        let sound = found.filter(|(cursor, _)| shared.sound(*cursor));
        Ok(sound.map(|(_, id)| id).take(limit).collect())
    }

    fn broken(&self) -> BoxFuture<'static, Arc<str>> {
        self.shared.breaker.tripped()
    }

    fn counters(&self) -> Counters {
        Counters {
            commits: self.shared.commits.load(Ordering::Relaxed),
            syncs: self.shared.syncs.load(Ordering::Relaxed),
            quarantined: self.shared.quarantined.lock().len() as u64,
        }
    }
}

impl Shared {
    /// Reads the durable state; an error or a panic of sled is the end of the store.
    fn with<T>(&self, read: impl FnOnce(&View) -> sled::Result<T>) -> Result<T, StoreError> {
        self.breaker.check()?;
        let result = catch_unwind(AssertUnwindSafe(|| read(&self.view)));
        match result {
            Ok(Ok(found)) => Ok(found),
            Ok(Err(error)) => Err(self.breaker.trip(format!("reading: {error}"))),
            Err(panic) => {
                let text = panic_text(&*panic);
                Err(self.breaker.trip(format!("reading panicked: {text}")))
            }
        }
    }

    /// Quarantines a record that can't be read; what to say of it.
    fn corrupt(&self, cursor: Cursor, id: &TransactionId, reason: String) -> StoreError {
        self.quarantine(cursor);
        let (id, reason) = (id.clone(), reason.into());
        StoreError::Corrupt { id, reason }
    }

    fn quarantine(&self, cursor: Cursor) {
        self.quarantined.lock().insert(cursor);
    }

    /// Whether this record was not found unreadable.
    fn sound(&self, cursor: Cursor) -> bool {
        !self.quarantined.lock().contains(&cursor)
    }
}

impl Listing {
    fn keys(&self, cursors: Range<Cursor>) -> Range<Vec<u8>> {
        match self {
            Listing::All => keys::records(cursors),
            Listing::Unfinished => keys::unfinished_in(cursors),
            Listing::BusinessKey(key) => keys::with_business_key(key, cursors),
        }
    }
}

fn start(
    dir: &Path,
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, OpenError> {
    let thread = thread::Builder::new().name(name.into());
    thread.spawn(work).map_err(|source| OpenError::Io {
        what: "starting a thread to write",
        path: dir.to_owned(),
        source,
    })
}

fn readable(id: &TransactionId, bytes: Option<Bytes>) -> Result<Record, String> {
    let bytes = bytes.ok_or(MISSING)?;
    let record = codec::decode(bytes).map_err(|error| error.to_string())?;
    if record.id == *id {
        Ok(record)
    } else {
        Err(format!("in its place is that of {}", record.id))
    }
}

#[cfg(test)]
mod tests;
