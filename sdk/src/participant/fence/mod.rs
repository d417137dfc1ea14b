//! Where a participant remembers what it was asked: a table beside its business tables, written in
//! the same transaction.
//!
//! [`MemoryFence`], `SqliteFence` (feature `sqlite`) and `PostgresFence` (feature `postgres`) are
//! in the box. Another database or driver implements [`Fence`] and [`FenceTransaction`], a few
//! statements in all; what they must keep is said there, and the suite in `tests/fence` of this
//! crate checks it.

use std::{error::Error, future::Future};

use tercet_core::fence::{self as core, Retention, Row};

use super::branch::BranchKey;

mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;

pub use self::memory::MemoryFence;
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresFence;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteFence;

/// The most rows that one [`collect`] removes, so that it holds no lock for long.
pub const COLLECT_ROWS_MAX: u32 = 500;

/// A fence in some database. All processes of one participant share it.
pub trait Fence: Send + Sync + 'static {
    /// What a [`Resource`](super::Resource) of this fence works on.
    type Connection: Send + 'static;
    /// A transaction under way.
    type Transaction: FenceTransaction<Connection = Self::Connection> + 'static;

    /// Begins a transaction that writes. Wait for a lock here for some seconds at most.
    ///
    /// # Errors
    /// [`FenceError`] when the database can't.
    fn begin(&self) -> impl Future<Output = Result<Self::Transaction, FenceError>> + Send;
}

/// One database transaction: the fence's rows, and whatever a resource does on its
/// [`connection`](Self::connection). **Dropped without [`commit`](Self::commit), it rolls back.**
///
/// Two transactions that touch the same key must come one after the other: from
/// [`insert_if_absent`](Self::insert_if_absent) or [`load_for_update`](Self::load_for_update) until
/// its end, a transaction owns the key.
pub trait FenceTransaction: Send {
    /// See [`Fence::Connection`].
    type Connection;

    /// For the business change.
    fn connection(&mut self) -> &mut Self::Connection;

    /// Writes a row unless there is one; says whether it did. Waits for another transaction that
    /// writes the same key. `INSERT … ON CONFLICT DO NOTHING`; never lock a gap.
    fn insert_if_absent(
        &mut self,
        key: &BranchKey,
        record: &Record,
    ) -> impl Future<Output = Result<bool, FenceError>> + Send;

    /// Reads a row and locks it, as last committed. `SELECT … FOR UPDATE`.
    fn load_for_update(
        &mut self,
        key: &BranchKey,
    ) -> impl Future<Output = Result<Option<Record>, FenceError>> + Send;

    /// Replaces a row that this transaction has inserted or loaded.
    fn update(
        &mut self,
        key: &BranchKey,
        record: &Record,
    ) -> impl Future<Output = Result<(), FenceError>> + Send;

    /// Removes a row.
    fn delete(&mut self, key: &BranchKey) -> impl Future<Output = Result<(), FenceError>> + Send;

    /// At most `limit` CONFIRMED or CANCELED rows with an `expire_time` before the given one,
    /// oldest first. Rows that another transaction holds may be left out.
    fn terminal_before(
        &mut self,
        expire_time_ms: i64,
        limit: u32,
    ) -> impl Future<Output = Result<Vec<(BranchKey, Row)>, FenceError>> + Send;

    /// The newest `expire_time` removed, as last committed; `i64::MIN` when none was.
    fn horizon_ms(&mut self) -> impl Future<Output = Result<i64, FenceError>> + Send;

    /// Sets the horizon, unless it is newer already.
    fn raise_horizon(
        &mut self,
        horizon_ms: i64,
    ) -> impl Future<Output = Result<(), FenceError>> + Send;

    /// Makes all of it durable. On an error, nobody knows whether it is.
    fn commit(self) -> impl Future<Output = Result<(), FenceError>> + Send;
}

/// A row as an adapter stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What the rule looks at. The state is stored as [`State::as_str`](core::State::as_str).
    pub row: Row,
    /// The rest, encoded by the SDK: what Try holds (at most 64 KiB) and, for remote work, the
    /// request.
    pub body: Vec<u8>,
}

/// The fence's database could not do something. Always indeterminate, never a refusal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FenceError {
    /// It said so itself.
    #[error("the fence's database: {0}")]
    Database(#[source] Box<dyn Error + Send + Sync>),
    /// The tables are not there.
    #[error("the fence's tables are missing; call migrate() once before serving ({0})")]
    NotMigrated(#[source] Box<dyn Error + Send + Sync>),
    /// The tables were made by a later release.
    #[error(
        "the fence's tables have schema version {found}, and this release knows {known}; upgrade \
         tercet-sdk"
    )]
    SchemaNewer {
        /// In the database.
        found: i64,
        /// The newest one known here.
        known: i64,
    },
    /// A row can't be read.
    #[error("the fence row of {key} can't be read: {what}; restore it from a backup")]
    RowInvalid {
        /// Which.
        key: Box<BranchKey>,
        /// What is wrong with it.
        what: String,
    },
}

impl FenceError {
    /// Wraps a driver's error.
    pub fn database(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Database(error.into())
    }
}

/// Removes rows whose transactions are long over, at most [`COLLECT_ROWS_MAX`] of them, and says
/// how many. A `Participant` does this every hour.
///
/// `now_ms` is the wall clock in Unix milliseconds. The newest `expire_time` removed is kept in
/// the database as the horizon, in the same transaction: no Try that old is taken any more, even
/// when the clock is set back.
///
/// # Errors
/// [`FenceError`]; nothing was removed then, as far as is known.
pub async fn collect<F: Fence>(
    fence: &F,
    now_ms: i64,
    retention: Retention,
) -> Result<u32, FenceError> {
    let mut tx = fence.begin().await?;
    let before_ms = now_ms.saturating_sub(retention.as_ms());
    let mut horizon_ms = tx.horizon_ms().await?;
    let mut removed = 0;
    for (key, row) in tx.terminal_before(before_ms, COLLECT_ROWS_MAX).await? {
        if core::may_collect(&row, now_ms, retention) {
            tx.delete(&key).await?;
            horizon_ms = core::horizon_after(&row, horizon_ms);
            removed += 1;
        }
    }
    if removed > 0 {
        tx.raise_horizon(horizon_ms).await?;
        tx.commit().await?;
    }
    Ok(removed)
}
