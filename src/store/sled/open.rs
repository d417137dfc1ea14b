//! Opening a directory: every way in which it may not be what it should be has an error that names the
//! path and what to do. Nothing is ever silently started anew.

use std::{
    fs::{self, File, TryLockError},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use sled::Db;
use tercet_core::ids::Realm;

use super::{
    create::{announce, create, remove_database, sync_all},
    ids::Ids,
    journal::{self, Journal},
    keys,
    medium::Medium,
    meta::Meta,
    replay::Replayed,
    settle::{self, panic_text},
    sidecar::{FORMAT, Phase, Sidecar, SidecarError},
    trace::Trace,
    waker::{LOOK_EVERY, Waker},
};

/// How a store is opened.
#[derive(Clone, Debug)]
pub struct SledOptions {
    /// Memory for pages that were read or written lately, in bytes, roughly.
    pub cache_bytes: u64,
    /// How long opening may take, besides one second for each 16 MiB of the database: some damaged
    /// files are never done.
    pub open_timeout: Duration,
    /// How many ids stand together before the next generation of them begins. A store may have been
    /// written with any.
    pub generation_ids: u64,
}

impl Default for SledOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 128 * 1024 * 1024,
            open_timeout: Duration::from_secs(60),
            // What a settling or an import puts beyond it still fits a filter of 512 KiB.
            generation_ids: 250_000,
        }
    }
}

/// Why a directory could not be opened as a store. Nothing in it has been changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The lock is taken.
    #[error(
        "another coordinator is using {}; stop it, or give this one a directory of its own",
        .0.display()
    )]
    InUse(PathBuf),
    /// The operating system refuses.
    #[error("{what} {}: {source}; the directory has to be readable and writable", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// There are files, but none of a store.
    #[error(
        "{} is not empty and holds no tercet store; name another directory",
        .0.display()
    )]
    Foreign(PathBuf),
    /// There is no store where one has to be.
    #[error("{} holds no tercet store", .0.display())]
    Absent(PathBuf),
    /// Written by a newer program.
    #[error(
        "{} has store format {found}, but this program knows formats up to {FORMAT}; use the newer \
         program, or let it `tercet store export` and import that here",
        path.display()
    )]
    Format {
        /// The sidecar.
        path: PathBuf,
        /// What it says.
        found: u32,
    },
    /// An import was interrupted.
    #[error(
        "an import into {} was not finished, so records are missing; remove the directory and import \
         again",
        .0.display()
    )]
    HalfImported(PathBuf),
    /// A file is missing, damaged, older than it has to be, or of another store.
    #[error(
        "{}: {reason}; nothing was changed: bring back the whole directory from a copy, or import an \
         export into an empty one",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk fails, or is full.
    #[error(
        "{}: {reason}; what was acknowledged is kept: start again once the disk works and has room",
        path.display()
    )]
    Disk {
        /// The database.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// Opening has not ended in time.
    #[error(
        "{} could not be opened within {} s: it is damaged, or the disk is very slow; try again with \
         a longer open timeout, or bring back the whole directory from a copy",
        path.display(), timeout.as_secs()
    )]
    Timeout {
        /// The database.
        path: PathBuf,
        /// How long it took.
        timeout: Duration,
    },
}

/// A directory whose files are open and agree with each other, and whose database has all that is in the
/// journal. No boot has been counted yet.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: Db,
    pub(super) ids: Ids,
    pub(super) medium: Medium,
    pub(super) journal: Journal,
    pub(super) trace: Trace,
    pub(super) meta: Meta,
    pub(super) sidecar: Sidecar,
    pub(super) realm: Realm,
    pub(super) dir: PathBuf,
    /// Goes after the database's other handles.
    pub(super) waker: Waker,
    /// Held as long as this lives.
    pub(super) lock: File,
}

/// Whether a store may be made where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Refuse,
}

const LOCK_FILE: &str = "tercet.lock";

/// Opens a store, or makes one.
pub(super) fn open(
    dir: &Path,
    options: &SledOptions,
    missing: Missing,
) -> Result<Opened, OpenError> {
    if missing == Missing::Refuse && !Sidecar::path(dir).exists() && !dir.join("db").exists() {
        return Err(OpenError::Absent(dir.to_owned()));
    }
    let lock = lock(dir)?;
    let mut sidecar = match load_sidecar(dir)? {
        Some(sidecar) => sidecar,
        None => announce(dir)?,
    };
    let realm = check(dir, &sidecar)?;
    let creating = sidecar.phase() == Phase::Creating;
    remove_leftovers(dir)?;
    let (db, waker) = match open_database(dir, options) {
        // What an interrupted creation has left.
        Err(OpenError::Damaged { .. }) if creating => {
            remove_database(dir)?;
            open_database(dir, options)?
        }
        opened => opened?,
    };
    let medium = Medium::new(dir).map_err(io_error("opening", &dir.join("db")))?;
    medium.check_blobs().map_err(damaged(&dir.join("blobs")))?;
    let meta = match read_meta(dir, &db)? {
        Some(meta) => meta,
        None if creating => create(dir, &db, &medium, &sidecar)?,
        None => {
            let reason = format!(
                "it is empty, but the store had reached batch {}",
                sidecar.mark
            );
            return Err(damaged(&dir.join("db"))(reason));
        }
    };
    let replayed = Replayed::read(dir, &meta)?;
    let agreed = sidecar.agrees(&meta, replayed.reached);
    agreed.map_err(damaged(&dir.join("db")))?;
    if let Some(batch) = Trace::last(dir, &sidecar.store)
        && replayed.reached < batch
    {
        let found = replayed.reached;
        let reason = format!("the store ends with batch {found}, but had come to {batch}");
        return Err(damaged(&journal::newest(dir))(reason));
    }
    if creating {
        sync_all(dir, &db, &medium)?;
        sidecar.mark = replayed.reached;
        sidecar.set_phase(Phase::Open);
        save(&sidecar, dir)?;
    }
    let ids = Ids::load(db.clone(), options.generation_ids, &meta);
    let ids =
        ids.map_err(|error| damaged(&dir.join("db"))(format!("it can't be read: {error}")))?;
    let meta = if replayed.reached == meta.settled {
        // A process that was killed may have written this and not synced it; the journal goes now.
        medium.sync(&db).map_err(disk(dir))?;
        meta
    } else {
        let (items, reached) = (&replayed.items, replayed.reached);
        let settled = settle::put(&ids, &medium, meta, items, reached, |_| ());
        settled.map_err(disk(dir))?
    };
    let begun = Journal::begin(dir);
    let journal = begun.map_err(io_error("beginning a journal in", dir))?;
    let trace = Trace::open(dir).map_err(io_error("opening", dir))?;
    let dir = dir.to_owned();
    Ok(Opened {
        db,
        ids,
        medium,
        journal,
        trace,
        meta,
        sidecar,
        realm,
        dir,
        waker,
        lock,
    })
}

impl Opened {
    /// Writes a batch, of which `meta` is the account that stands in it, while no store's threads run.
    ///
    /// # Errors
    /// As [`Medium::write`].
    pub(super) fn write(&mut self, batch: sled::Batch, meta: Meta) -> Result<(), OpenError> {
        let written = self.medium.write(&self.db, batch);
        let turned = written.and_then(|()| self.ids.turn(&self.medium, meta));
        self.meta = turned.map_err(disk(&self.dir))?;
        Ok(())
    }

    /// Counts one boot, in the database first and then in the sidecar, and opens the store for work.
    ///
    /// # Errors
    /// When one of them can't be written.
    pub(super) fn boot(&mut self) -> Result<(), OpenError> {
        // A start that was cut off between the two; opening has synced what it left. Were they to come two
        // apart, the sidecar would be taken for an older copy.
        if self.sidecar.boot < self.meta.boot {
            self.sidecar.boot = self.meta.boot;
            self.save(Phase::Open)?;
        }
        let mut meta = self.meta.clone();
        meta.boot += 1;
        let mut batch = sled::Batch::default();
        batch.insert(keys::META, meta.to_bytes());
        self.write(batch, meta)?;
        self.sidecar.boot = self.meta.boot;
        self.save(Phase::Open)
    }

    /// Writes the sidecar, with the mark at what is durable.
    ///
    /// # Errors
    /// When it can't be written.
    pub(super) fn save(&mut self, phase: Phase) -> Result<(), OpenError> {
        self.sidecar.format = FORMAT;
        self.sidecar.mark = self.meta.settled;
        self.sidecar.set_phase(phase);
        save(&self.sidecar, &self.dir)
    }
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join(LOCK_FILE);
    fs::create_dir_all(dir).map_err(io_error("creating", dir))?;
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let lock = options.open(&path).map_err(io_error("opening", &path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse(dir.to_owned())),
        Err(TryLockError::Error(error)) => Err(io_error("locking", &path)(error)),
    }
}

fn load_sidecar(dir: &Path) -> Result<Option<Sidecar>, OpenError> {
    let path = Sidecar::path(dir);
    Sidecar::load(dir).map_err(|error| match error {
        SidecarError::Io(error) => io_error("reading", &path)(error),
        SidecarError::Damaged(error) => damaged(&path)(error.to_string()),
    })
}

fn check(dir: &Path, sidecar: &Sidecar) -> Result<Realm, OpenError> {
    let path = Sidecar::path(dir);
    if sidecar.format > FORMAT {
        let found = sidecar.format;
        return Err(OpenError::Format { path, found });
    }
    match sidecar.phase() {
        Phase::Creating => {}
        Phase::Open | Phase::Closed => {
            if !dir.join("db").exists() {
                return Err(damaged(&dir.join("db"))("it is missing".into()));
            }
        }
        Phase::Importing => return Err(OpenError::HalfImported(dir.to_owned())),
        Phase::Unspecified => {
            let reason = format!("it has an unknown phase {}", sidecar.phase);
            return Err(damaged(&path)(reason));
        }
    }
    let realm = Realm::parse(&sidecar.realm);
    realm.map_err(|error| damaged(&path)(format!("its realm is not valid: {error}")))
}

/// A snapshot that a crash has left half-written makes sled refuse the whole database. It is never
/// needed: the log has everything.
fn remove_leftovers(dir: &Path) -> Result<(), OpenError> {
    let entries = dir.read_dir().map_err(io_error("reading", dir))?;
    for entry in entries {
        let entry = entry.map_err(io_error("reading", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path()).map_err(io_error("removing", &entry.path()))?;
        }
    }
    Ok(())
}

/// Opens the database in a thread of its own, which is left behind when it doesn't come back.
fn open_database(dir: &Path, options: &SledOptions) -> Result<(Db, Waker), OpenError> {
    let path = dir.join("db");
    let bytes = fs::metadata(&path).map_or(0, |it| it.len());
    let timeout = options.open_timeout + Duration::from_secs(bytes / (16 * 1024 * 1024));
    let config = sled::Config::new()
        .path(dir)
        .segment_size(super::SEGMENT_BYTES)
        .flush_every_ms(None)
        .cache_capacity(options.cache_bytes);
    let (sender, opened) = sync_channel(1);
    let theirs = config.clone();
    let open = move || {
        let result = catch_unwind(AssertUnwindSafe(|| open_patiently(&theirs)));
        let _ = sender.send(result.map_err(|panic| panic_text(&*panic).to_owned()));
    };
    let thread = thread::Builder::new().name("tercet-store-open".into());
    let unstarted = "starting a thread to open";
    thread.spawn(open).map_err(io_error(unstarted, &path))?;
    match wait(&opened, &config, timeout) {
        Ok(Ok(Ok(db))) => {
            let waker = Waker::start(config, db.clone());
            Ok((db, waker.map_err(io_error(unstarted, &path))?))
        }
        Ok(Ok(Err(sled::Error::Io(error)))) if error.raw_os_error().is_some() => {
            Err(disk(dir)(format!("opening it: {error}")))
        }
        Ok(Ok(Err(error))) => Err(damaged(&path)(format!("it can't be opened: {error}"))),
        Ok(Err(panic)) => Err(damaged(&path)(format!("opening it panicked: {panic}"))),
        Err(RecvTimeoutError::Disconnected) => {
            Err(damaged(&path)("opening it ended without a word".into()))
        }
        Err(RecvTimeoutError::Timeout) => match config.global_error() {
            Err(error) => Err(disk(dir)(format!("opening it: {error}"))),
            Ok(()) => Err(OpenError::Timeout { path, timeout }),
        },
    }
}

/// Waits in vain no longer than the timeout, and only a moment once the disk has failed: see [`Waker`].
fn wait<T>(
    opened: &Receiver<T>,
    config: &sled::Config,
    timeout: Duration,
) -> Result<T, RecvTimeoutError> {
    let started = Instant::now();
    loop {
        let failed = config.global_error().is_err();
        let left = timeout.saturating_sub(started.elapsed());
        match opened.recv_timeout(left.min(LOOK_EVERY)) {
            Err(RecvTimeoutError::Timeout) if left > LOOK_EVERY && !failed => {}
            ended => return ended,
        }
    }
}

/// Our own lock is held, so sled's can only be that of a store which this process has just closed and
/// whose last thread is about to end.
fn open_patiently(config: &sled::Config) -> sled::Result<Db> {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        match config.open() {
            Err(sled::Error::Io(error))
                if error.to_string().contains("could not acquire lock")
                    && Instant::now() < deadline =>
            {
                thread::sleep(Duration::from_millis(5));
            }
            result => return result,
        }
    }
}

fn read_meta(dir: &Path, db: &Db) -> Result<Option<Meta>, OpenError> {
    let path = dir.join("db");
    let value = db.get(keys::META);
    let value = value.map_err(|error| damaged(&path)(format!("it can't be read: {error}")))?;
    let meta = value.map(|bytes| Meta::from_bytes(&bytes)).transpose();
    meta.map_err(|error| damaged(&path)(format!("its account of itself: {error}")))
}

pub(super) fn save(sidecar: &Sidecar, dir: &Path) -> Result<(), OpenError> {
    let saved = sidecar.save(dir);
    saved.map_err(io_error("writing", &Sidecar::path(dir)))
}

pub(super) fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { what, path, source }
}

pub(super) fn disk(dir: &Path) -> impl FnOnce(String) -> OpenError {
    let path = dir.join("db");
    move |reason| OpenError::Disk { path, reason }
}

pub(super) fn damaged(path: &Path) -> impl FnOnce(String) -> OpenError {
    let path = path.to_owned();
    move |reason| OpenError::Damaged { path, reason }
}
