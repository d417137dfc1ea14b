//! The memory of record: one small record per transaction, written whole with a compare-and-set on
//! its revision. There is no log to replay; the state is the log.
//!
//! # The contract
//!
//! Every implementation passes `tests/store_contract.rs`.
//!
//! 1. `commit` is durable when its future yields `Ok`: no crash and no power loss takes it back.
//! 2. A commit is atomic over the record and its index entries.
//! 3. The stored revision must be the committed one less one (no record: 0), and the stored epoch not
//!    higher; else `Conflict`, and nothing has changed.
//! 4. Commits take effect in the order in which `commit` was called, whether or not the futures
//!    are polled; one whose future is dropped still happens.
//! 5. Reads give what was acknowledged, never what a crash could take back; what has been
//!    acknowledged is seen by every later read.
//! 6. A record that can't be decoded is quarantined: reading it is `Corrupt`, everything else goes
//!    on.
//! 7. After the first error of the medium nothing is acknowledged any more: every call is `Broken`,
//!    and `broken` resolves. A failed sync is never retried.

mod codec;
mod fault;
mod memory;
mod record;
mod sled;
mod table;

use std::sync::Arc;

use futures::future::BoxFuture;
use tercet_core::{
    ids::{Realm, TransactionId},
    receipt::Receipt,
};

pub use codec::BARE_BYTES_MAX;
#[cfg(test)]
pub(crate) use codec::tests::smallest;
pub use memory::MemoryStore;
pub use record::{BranchTimes, HISTORY_EVENTS_MAX, HistoryEvent, Origin, Record, UnixMs};
pub use sled::{
    ExportError, Exported, FORMAT, ImportError, Imported, LeftOut, OpenError, PROBLEMS_MAX,
    SledOptions, SledStore, Verified, export, import, verify,
};

/// Where transactions are kept. See the module for the contract.
pub trait Store: Send + Sync + 'static {
    /// Which store this is, and for which time it has been opened.
    fn identity(&self) -> &Identity;

    /// Makes a record durable. The write is in the queue when this returns; the future says how it
    /// went: `Conflict`, `Corrupt` when what is stored can't be read, or `Broken`.
    fn commit(&self, record: Arc<Record>) -> BoxFuture<'static, Result<Receipt, StoreError>>;

    /// Removes a finished record for good, if it still has this revision; else `Conflict`, and nothing
    /// has changed. Its id is new again afterwards.
    fn purge(
        &self,
        id: &TransactionId,
        revision: u64,
    ) -> BoxFuture<'static, Result<(), StoreError>>;

    /// The record of one transaction.
    ///
    /// # Errors
    /// `Corrupt` when it can't be decoded, `Broken` when the medium fails.
    fn read(&self, id: &TransactionId) -> Result<Option<Arc<Record>>, StoreError>;

    /// Unfinished transactions, oldest first, at most `limit`, after a cursor. Quarantined records
    /// are left out.
    ///
    /// # Errors
    /// `Broken` when the medium fails.
    fn unfinished(
        &self,
        after: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<Unfinished>, StoreError>;

    /// Records in the order of their creation, newest first, at most `limit`, before a cursor.
    /// Quarantined records are left out.
    ///
    /// # Errors
    /// `Broken` when the medium fails.
    fn list(
        &self,
        listing: &Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Arc<Record>)>, StoreError>;

    /// Finished transactions whose `keep_until_ms` is at most `now_ms`, earliest first.
    ///
    /// # Errors
    /// `Broken` when the medium fails.
    fn outlived(&self, now_ms: UnixMs, limit: usize) -> Result<Vec<TransactionId>, StoreError>;

    /// Resolves, with the reason, when the store has stopped taking work.
    fn broken(&self) -> BoxFuture<'static, Arc<str>>;

    /// What it has done so far.
    fn counters(&self) -> Counters;

    /// Whether no read ever waits for a medium, so that long ones need no thread of their own.
    fn is_in_memory(&self) -> bool {
        false
    }
}

/// Which store this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Sent with every call, so that ids of two stores never meet at a participant.
    pub realm: Realm,
    /// Of all that is written from now on.
    pub epoch: u64,
    /// Grows by one each time the store is opened.
    pub boot: u64,
}

/// A place in a listing. Opaque; valid for as long as the store exists.
pub type Cursor = u64;

/// Which records to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Listing {
    /// All of them.
    #[default]
    All,
    /// Those not finished yet.
    Unfinished,
    /// Those with this business key.
    BusinessKey(Arc<str>),
}

/// An unfinished transaction, as its index entry has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// Its place, to go on after.
    pub cursor: Cursor,
    /// Which transaction.
    pub id: TransactionId,
    /// [`Record::due_ms`] of its last commit.
    pub due_ms: UnixMs,
}

/// What a store has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Commits and purges acknowledged.
    pub commits: u64,
    /// Syncs to the medium.
    pub syncs: u64,
    /// Records found unreadable.
    pub quarantined: u64,
}

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Somebody else has written the record in between: read it again.
    #[error("transaction {id} was changed by somebody else (revision {found} is stored)")]
    Conflict {
        /// Which transaction.
        id: TransactionId,
        /// The stored revision; 0 when there is no record.
        found: u64,
    },
    /// This record can't be read; all others can.
    #[error(
        "the record of transaction {id} is corrupt: {reason}; it is left as it is, run `tercet store verify`"
    )]
    Corrupt {
        /// Which transaction.
        id: TransactionId,
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The medium has failed: the process has to stop and take no more work.
    #[error("the store has failed and takes no more work: {0}")]
    Broken(Arc<str>),
}
