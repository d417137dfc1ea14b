//! A fence in PostgreSQL, through sqlx.

use sqlx::{PgConnection, PgPool, Postgres, Transaction, query, query_as, query_scalar, raw_sql};
use tercet_core::fence::{HORIZON_NONE_MS, Row};

use super::{Fence, FenceError, FenceTransaction, Record, sql};
use crate::participant::branch::BranchKey;

/// A fence in a PostgreSQL database, beside the participant's own tables, in the first schema of
/// the connection's `search_path`.
///
/// Each call is one READ COMMITTED transaction that inserts its row first and only then reads it:
/// calls of one branch come one after the other, calls of different branches don't meet, and no
/// gap is locked. Leave `synchronous_commit` on: what is acknowledged must survive a crash. A
/// `lock_timeout` of some seconds on the pool's connections keeps a stuck call from piling up
/// others behind it.
#[derive(Clone, Debug)]
pub struct PostgresFence {
    pool: PgPool,
}

impl PostgresFence {
    /// Uses a pool of yours. Call [`migrate`](Self::migrate) before serving.
    #[must_use]
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// The pool, for the participant's own queries.
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Makes the tables `tercet_fence` and `tercet_fence_meta`, or brings them up to date. Does
    /// nothing when they are. Processes that start together may all call it.
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

/// The lock makes processes that start together migrate one after the other: `IF NOT EXISTS` alone
/// can fail when two of them create at once. Its number is arbitrary, and only ours.
const SCHEMA: &str = "
    SELECT pg_advisory_xact_lock(7235411908846293);
    CREATE TABLE IF NOT EXISTS tercet_fence (
        realm TEXT NOT NULL, transaction_id TEXT NOT NULL, branch_id TEXT NOT NULL,
        state TEXT NOT NULL, epoch BIGINT NOT NULL, expire_time_ms BIGINT NOT NULL,
        body BYTEA NOT NULL,
        PRIMARY KEY (realm, transaction_id, branch_id)
    );
    CREATE INDEX IF NOT EXISTS tercet_fence_terminal ON tercet_fence (expire_time_ms)
        WHERE state IN ('CONFIRMED', 'CANCELED');
    CREATE TABLE IF NOT EXISTS tercet_fence_meta (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
    INSERT INTO tercet_fence_meta VALUES ('schema', 1) ON CONFLICT DO NOTHING;
";

impl Fence for PostgresFence {
    type Connection = PgConnection;
    type Transaction = PostgresFenceTransaction;

    async fn begin(&self) -> Result<PostgresFenceTransaction, FenceError> {
        // READ COMMITTED, whatever the database's default: the row is read after the wait for its
        // last writer, not as it was when the transaction began.
        let begin = "BEGIN ISOLATION LEVEL READ COMMITTED";
        let tx = self.pool.begin_with(begin).await;
        tx.map(PostgresFenceTransaction).map_err(sql::error)
    }
}

/// A transaction of [`PostgresFence`].
pub struct PostgresFenceTransaction(Transaction<'static, Postgres>);

impl FenceTransaction for PostgresFenceTransaction {
    type Connection = PgConnection;

    fn connection(&mut self) -> &mut PgConnection {
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
             VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
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
             WHERE realm = $1 AND transaction_id = $2 AND branch_id = $3 FOR UPDATE",
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
            "UPDATE tercet_fence SET state = $1, epoch = $2, body = $3
             WHERE realm = $4 AND transaction_id = $5 AND branch_id = $6",
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
             WHERE realm = $1 AND transaction_id = $2 AND branch_id = $3",
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
             WHERE state IN ('CONFIRMED', 'CANCELED') AND expire_time_ms < $1
             ORDER BY expire_time_ms LIMIT $2 FOR UPDATE SKIP LOCKED",
        )
        .bind(expire_time_ms)
        .bind(i64::from(limit))
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
            "INSERT INTO tercet_fence_meta (name, value) VALUES ('horizon_ms', $1)
             ON CONFLICT (name) DO UPDATE SET value = GREATEST(tercet_fence_meta.value, excluded.value)",
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
