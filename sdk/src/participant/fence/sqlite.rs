//! A fence in SQLite, through sqlx.

use std::{path::Path, time::Duration};

use sqlx::{
    Sqlite, SqliteConnection, SqlitePool, Transaction, query, query_as, query_scalar, raw_sql,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tercet_core::fence::{HORIZON_NONE_MS, Row};

use super::{Fence, FenceError, FenceTransaction, Record, sql};
use crate::participant::branch::BranchKey;

/// How long a transaction waits for another one's write lock before it is an error.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// SQLite has one writer; more connections only help readers.
const CONNECTIONS_MAX: u32 = 8;

/// A fence in an SQLite database, beside the participant's own tables.
///
/// Each call is one `BEGIN IMMEDIATE` transaction, so calls come one after the other. What is
/// acknowledged survives a power loss only with `synchronous = FULL`; [`SqliteFence::open`] sets it,
/// together with WAL, so that readers don't wait, and a busy timeout of 5 s. A pool of your own
/// should do the same.
#[derive(Clone, Debug)]
pub struct SqliteFence {
    pool: SqlitePool,
}

impl SqliteFence {
    /// Uses a pool of yours. Call [`migrate`](Self::migrate) before serving.
    #[must_use]
    pub fn new(pool: SqlitePool) -> Self {
        Self { pool }
    }

    /// Opens the file, making it if need be, with options that lose nothing (WAL,
    /// `synchronous = FULL`, foreign keys, busy timeout), and migrates it.
    ///
    /// # Errors
    /// [`FenceError`] when the file can't be opened or its schema is newer than this release.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, FenceError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT);
        let pool = SqlitePoolOptions::new().max_connections(CONNECTIONS_MAX);
        let pool = pool.connect_with(options).await.map_err(sql::error)?;
        let fence = Self::new(pool);
        fence.migrate().await?;
        Ok(fence)
    }

    /// The pool, for the participant's own queries.
    #[must_use]
    pub fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    /// Makes the tables `tercet_fence` and `tercet_fence_meta`, or brings them up to date. Does
    /// nothing when they are.
    ///
    /// # Errors
    /// [`FenceError::SchemaNewer`] when a later release made them.
    pub async fn migrate(&self) -> Result<(), FenceError> {
        let mut tx = self.begin().await?.0;
        raw_sql(SCHEMA)
            .execute(&mut *tx)
            .await
            .map_err(sql::error)?;
        let version = query_scalar("SELECT value FROM tercet_fence_meta WHERE name = 'schema'");
        sql::check_version(version.fetch_one(&mut *tx).await.map_err(sql::error)?)?;
        tx.commit().await.map_err(sql::error)
    }
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS tercet_fence (
        realm TEXT NOT NULL, transaction_id TEXT NOT NULL, branch_id TEXT NOT NULL,
        state TEXT NOT NULL, epoch INTEGER NOT NULL, expire_time_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (realm, transaction_id, branch_id)
    ) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS tercet_fence_terminal ON tercet_fence (expire_time_ms)
        WHERE state IN ('CONFIRMED', 'CANCELED');
    CREATE TABLE IF NOT EXISTS tercet_fence_meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
    INSERT INTO tercet_fence_meta VALUES ('schema', 1) ON CONFLICT DO NOTHING;
";

impl Fence for SqliteFence {
    type Connection = SqliteConnection;
    type Transaction = SqliteFenceTransaction;

    async fn begin(&self) -> Result<SqliteFenceTransaction, FenceError> {
        // IMMEDIATE takes the write lock now: a lock taken later can't be waited for.
        let tx = self.pool.begin_with("BEGIN IMMEDIATE").await;
        tx.map(SqliteFenceTransaction).map_err(sql::error)
    }
}

/// A transaction of [`SqliteFence`].
pub struct SqliteFenceTransaction(Transaction<'static, Sqlite>);

impl FenceTransaction for SqliteFenceTransaction {
    type Connection = SqliteConnection;

    fn connection(&mut self) -> &mut SqliteConnection {
        &mut self.0
    }

    async fn insert_if_absent(
        &mut self,
        key: &BranchKey,
        record: &Record,
    ) -> Result<bool, FenceError> {
        let inserted = query(
            "INSERT INTO tercet_fence
             (realm, transaction_id, branch_id, state, epoch, expire_time_ms, body)
             VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(key.realm.as_str())
        .bind(key.transaction_id.as_str())
        .bind(key.branch_id.as_str())
        .bind(record.row.state.as_str())
        .bind(record.row.epoch)
        .bind(record.row.expire_time_ms)
        .bind(&record.body)
        .execute(&mut *self.0)
        .await
        .map_err(sql::error)?;
        Ok(inserted.rows_affected() == 1)
    }

    async fn load_for_update(&mut self, key: &BranchKey) -> Result<Option<Record>, FenceError> {
        query_as(
            "SELECT state, epoch, expire_time_ms, body FROM tercet_fence
             WHERE realm = ? AND transaction_id = ? AND branch_id = ?",
        )
        .bind(key.realm.as_str())
        .bind(key.transaction_id.as_str())
        .bind(key.branch_id.as_str())
        .fetch_optional(&mut *self.0)
        .await
        .map_err(sql::error)?
        .map(|columns| sql::record(key, columns))
        .transpose()
    }

    async fn update(&mut self, key: &BranchKey, record: &Record) -> Result<(), FenceError> {
        query(
            "UPDATE tercet_fence SET state = ?, epoch = ?, body = ?
             WHERE realm = ? AND transaction_id = ? AND branch_id = ?",
        )
        .bind(record.row.state.as_str())
        .bind(record.row.epoch)
        .bind(&record.body)
        .bind(key.realm.as_str())
        .bind(key.transaction_id.as_str())
        .bind(key.branch_id.as_str())
        .execute(&mut *self.0)
        .await
        .map(drop)
        .map_err(sql::error)
    }

    async fn delete(&mut self, key: &BranchKey) -> Result<(), FenceError> {
        query(
            "DELETE FROM tercet_fence
             WHERE realm = ? AND transaction_id = ? AND branch_id = ?",
        )
        .bind(key.realm.as_str())
        .bind(key.transaction_id.as_str())
        .bind(key.branch_id.as_str())
        .execute(&mut *self.0)
        .await
        .map(drop)
        .map_err(sql::error)
    }

    async fn terminal_before(
        &mut self,
        expire_time_ms: i64,
        limit: u32,
    ) -> Result<Vec<(BranchKey, Row)>, FenceError> {
        let rows: Vec<sql::KeyedColumns> = query_as(
            "SELECT realm, transaction_id, branch_id, state, epoch, expire_time_ms
             FROM tercet_fence
             WHERE state IN ('CONFIRMED', 'CANCELED') AND expire_time_ms < ?
             ORDER BY expire_time_ms LIMIT ?",
        )
        .bind(expire_time_ms)
        .bind(limit)
        .fetch_all(&mut *self.0)
        .await
        .map_err(sql::error)?;
        rows.into_iter().map(sql::keyed_row).collect()
    }

    async fn horizon_ms(&mut self) -> Result<i64, FenceError> {
        let horizon = query_scalar("SELECT value FROM tercet_fence_meta WHERE name = 'horizon_ms'")
            .fetch_optional(&mut *self.0)
            .await
            .map_err(sql::error)?;
        Ok(horizon.unwrap_or(HORIZON_NONE_MS))
    }

    async fn raise_horizon(&mut self, horizon_ms: i64) -> Result<(), FenceError> {
        query(
            "INSERT INTO tercet_fence_meta (name, value) VALUES ('horizon_ms', ?)
             ON CONFLICT (name) DO UPDATE SET value = max(value, excluded.value)",
        )
        .bind(horizon_ms)
        .execute(&mut *self.0)
        .await
        .map(drop)
        .map_err(sql::error)
    }

    async fn commit(self) -> Result<(), FenceError> {
        self.0.commit().await.map_err(sql::error)
    }
}
