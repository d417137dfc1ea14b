//! The database's files, as far as sled leaves them to us.
//!
//! sled's `flush` hands its buffers to the kernel and starts writing them out, but never waits for
//! the device; the `fdatasync` on a descriptor of our own does. More than one thread in `flush`
//! can hang, so one alone calls it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use sled::{Batch, Db};

#[derive(Debug)]
pub(super) struct Medium {
    dir: PathBuf,
    db_file: File,
}

impl Medium {
    /// Opens the second descriptor.
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        Ok(Self {
            db_file: File::open(dir.join("db"))?,
            dir: dir.to_owned(),
        })
    }

    /// Applies a batch, all of it or nothing, and makes it durable.
    ///
    /// # Errors
    /// What failed, for a person. After an error nothing is known of what is on the medium.
    pub(super) fn write(&self, db: &Db, batch: Batch) -> Result<(), String> {
        self.apply(db, batch)?;
        self.sync(db)
    }

    /// Applies a batch, all of it or nothing; nobody can read meanwhile.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn apply(&self, db: &Db, batch: Batch) -> Result<(), String> {
        let applied = db.apply_batch(batch);
        applied.map_err(|error| format!("writing to the database: {error}"))
    }

    /// Makes all that was applied durable.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub(super) fn sync(&self, db: &Db) -> Result<(), String> {
        let flushed = db.flush();
        flushed.map_err(|error| format!("flushing the database: {error}"))?;
        self.check_blobs()?;
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
