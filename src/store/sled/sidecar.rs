//! A small file beside the database that says what the database has to be.
//!
//! sled opens a truncated or emptied file as a new, empty database without a word. So the sidecar keeps
//! what the database had reached, and opening compares the two. It is replaced as a whole (written,
//! synced, renamed, directory synced).
//!
//! # The mark
//!
//! `mark` is a number of batches that are certainly durable. Raising it costs two syncs, so it is
//! raised every [`MARK_EVERY_BATCHES`] batches, after one idle second, and at a clean shutdown, when it
//! is exact. It is never ahead of the database.
//!
//! What is detected: an emptied or missing database; one of another store; one from before the last
//! start; one older than the mark; after a clean shutdown any other than the one that was closed; a
//! sidecar older than the database's last start; with the [trace](super::trace), after a crash of the
//! process alone, any that lacks a batch. What is not: after a power loss, the loss of batches above
//! the mark (at most [`MARK_EVERY_BATCHES`] less one, all within the last second of work or under
//! continuous load) whose trace was lost too; the whole directory replaced by an older copy of itself.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use prost::{Message, bytes::Bytes};

use super::meta::Meta;
use crate::store::codec::{DecodeError, counted, frame};

/// How many batches the mark may stay behind.
pub(super) const MARK_EVERY_BATCHES: u64 = 256;
/// Of the directory's layout and everything in it; a program refuses a higher one.
pub const FORMAT: u32 = 3;

const FILE: &str = "tercet.store";
const FILE_NEW: &str = "tercet.store.new";

/// The sidecar's content.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Sidecar {
    #[prost(uint32, tag = "1")]
    pub(super) format: u32,
    /// A random UUID, given when the store was created; the database has it too.
    #[prost(string, tag = "2")]
    pub(super) store: String,
    /// The store's own UUID, or what an import has adopted.
    #[prost(string, tag = "3")]
    pub(super) realm: String,
    #[prost(uint64, tag = "4")]
    pub(super) epoch: u64,
    /// How often it has been opened.
    #[prost(uint64, tag = "5")]
    pub(super) boot: u64,
    /// Batches that are certainly durable.
    #[prost(uint64, tag = "6")]
    pub(super) mark: u64,
    #[prost(enumeration = "Phase", tag = "7")]
    pub(super) phase: i32,
}

/// What was going on when the sidecar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
pub(super) enum Phase {
    Unspecified = 0,
    /// The store is being created: nothing was ever acknowledged.
    Creating = 1,
    /// The mark is a lower bound.
    Open = 2,
    /// The mark is exact.
    Closed = 3,
    /// Records are being imported: what is there is not all.
    Importing = 4,
}

/// Why there is no sidecar to go by.
#[derive(Debug, thiserror::Error)]
pub(super) enum SidecarError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Damaged(#[from] DecodeError),
}

impl Sidecar {
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join(FILE)
    }

    /// None when there is no such file.
    pub(super) fn load(dir: &Path) -> Result<Option<Self>, SidecarError> {
        match fs::read(Self::path(dir)) {
            Ok(bytes) => Ok(Some(Self::from_bytes(bytes.into())?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn from_bytes(bytes: Bytes) -> Result<Self, DecodeError> {
        let body = frame::open(bytes)?;
        let sidecar = <Self as Message>::decode(body)?;
        counted("epoch", sidecar.epoch)?;
        Ok(sidecar)
    }

    /// Replaces the file; durable when it returns.
    pub(super) fn save(&self, dir: &Path) -> io::Result<()> {
        let new = dir.join(FILE_NEW);
        let mut file = File::create(&new)?;
        file.write_all(&frame::seal(self))?;
        file.sync_all()?;
        fs::rename(&new, Self::path(dir))?;
        sync_dir(dir)
    }

    /// Whether a database, with a journal that ends with batch `reached`, can be the one this sidecar was
    /// written for.
    ///
    /// # Errors
    /// What does not fit, for a person.
    pub(super) fn agrees(&self, meta: &Meta, reached: u64) -> Result<(), String> {
        if meta.store != self.store {
            let (theirs, ours) = (&meta.store, &self.store);
            return Err(format!(
                "the database belongs to store {theirs}, not {ours}"
            ));
        }
        // Opening writes the new boot into the database first and then here, so a crash between the
        // two leaves the database one boot ahead.
        let ahead = meta.boot.checked_sub(self.boot);
        let exact = self.phase() == Phase::Closed && ahead == Some(0);
        match ahead {
            None => Err(format!(
                "the database is an older copy: it was opened {} times, the store {} times",
                meta.boot, self.boot
            )),
            Some(2..) => Err(format!(
                "the sidecar is an older copy: it knows {} starts, the database {}",
                self.boot, meta.boot
            )),
            Some(_) if reached < self.mark || (exact && reached != self.mark) => Err(format!(
                "journal and database end with batch {reached}, but the store had reached batch {}",
                self.mark
            )),
            Some(_) => Ok(()),
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mangle::{cases, mangled, manglings};

    fn sidecar() -> Sidecar {
        let mut sidecar = Sidecar {
            format: FORMAT,
            store: "5b5b7b1e".into(),
            realm: "here".into(),
            epoch: 3,
            boot: 7,
            mark: 99,
            ..Sidecar::default()
        };
        sidecar.set_phase(Phase::Closed);
        sidecar
    }

    fn meta() -> Meta {
        Meta {
            store: "5b5b7b1e".into(),
            boot: 7,
            settled: 99,
            arrived: 5,
            records: 4,
            digest: 77,
            packed: 3,
            generations: vec![0, 1],
            young: 2,
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        /// What is read is the same once it is written anew, and a start may be counted from it.
        #[test]
        fn a_mangled_sidecar_or_account_is_an_error_or_can_be_gone_on_from(manglings in manglings()) {
            let sidecar_bytes = mangled(&sidecar().encode_to_vec(), &manglings);
            let meta_bytes = mangled(&meta().encode_to_vec(), &manglings);
            let sidecar_read = Sidecar::from_bytes(frame::seal_bytes(&sidecar_bytes).into());
            let meta_read = Meta::from_bytes(&frame::seal_bytes(&meta_bytes));
            if let Ok(meta) = &meta_read {
                let again = Meta::from_bytes(&meta.to_bytes()).expect("it is read");
                prop_assert_eq!(&again, meta);
                prop_assert!(meta.boot.max(meta.settled).max(meta.arrived) < u64::MAX);
            }
            if let Ok(sidecar) = &sidecar_read {
                let again = Sidecar::from_bytes(frame::seal(sidecar).into()).expect("it is read");
                prop_assert_eq!(&again, sidecar);
                let meta = meta_read.unwrap_or_else(|_| meta());
                if sidecar.agrees(&meta, meta.settled).is_ok() {
                    prop_assert!(sidecar.mark.checked_add(MARK_EVERY_BATCHES).is_some());
                }
            }
        }

        #[test]
        fn a_file_of_any_bytes_is_no_sidecar(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(Sidecar::from_bytes(bytes.into()).is_err());
        }
    }
}
