//! The databases under test, each with a table of stock beside its fence.

use std::error::Error;

use tercet_sdk::participant::{Fence, MemoryFence};

/// So much there was at first, of what every test reserves.
pub const STOCK: i64 = 1000;

/// What is on the shelf. `free + held + used` is [`STOCK`] for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shelf {
    pub free: i64,
    pub held: i64,
    pub used: i64,
}

/// Nothing held, nothing used.
pub const UNTOUCHED: Shelf = Shelf::of(0, 0);

impl Shelf {
    /// With so much held and so much used, and all the rest free.
    pub const fn of(held: i64, used: i64) -> Self {
        Self {
            free: STOCK - held - used,
            held,
            used,
        }
    }
}

/// A fence with a shelf beside it.
pub trait Database: Send + Sync + Sized + 'static {
    type Connection: Shelved + Send + 'static;
    type Fence: Fence<Connection = Self::Connection> + Clone;

    fn fresh() -> impl Future<Output = Self> + Send;
    fn fence(&self) -> Self::Fence;
    /// As last committed.
    fn shelf(&self) -> impl Future<Output = Shelf> + Send;
}

/// A connection to a shelf.
pub trait Shelved {
    /// Adds to each of the three; false when there is not enough free, or not enough held.
    fn shift(
        &mut self,
        free: i64,
        held: i64,
        used: i64,
    ) -> impl Future<Output = Result<bool, Broken>> + Send;

    /// An error as the database itself makes it, with whatever it does to the transaction.
    fn break_it(&mut self) -> impl Future<Output = Result<(), Broken>> + Send;
}

#[derive(Debug, thiserror::Error)]
#[error("the shelf broke: {0}")]
pub struct Broken(Box<dyn Error + Send + Sync>);

pub struct Memory(MemoryFence<Shelf>);

impl Database for Memory {
    type Connection = Shelf;
    type Fence = MemoryFence<Shelf>;

    async fn fresh() -> Self {
        Self(MemoryFence::new(UNTOUCHED))
    }

    fn fence(&self) -> MemoryFence<Shelf> {
        self.0.clone()
    }

    async fn shelf(&self) -> Shelf {
        self.0.read(|shelf| *shelf).await
    }
}

impl Shelved for Shelf {
    async fn shift(&mut self, free: i64, held: i64, used: i64) -> Result<bool, Broken> {
        if self.free + free < 0 || self.held + held < 0 {
            return Ok(false);
        }
        // Another task has its chance between read and write.
        tokio::task::yield_now().await;
        self.free += free;
        self.held += held;
        self.used += used;
        Ok(true)
    }

    async fn break_it(&mut self) -> Result<(), Broken> {
        Err(Broken("on request".into()))
    }
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql {
    use super::Broken;

    pub(super) const CREATE: &str =
        "CREATE TABLE shelf (free BIGINT NOT NULL, held BIGINT NOT NULL, used BIGINT NOT NULL)";
    pub(super) const FILL: &str = "INSERT INTO shelf VALUES ($1, 0, 0)";
    pub(super) const LOOK: &str = "SELECT free, held, used FROM shelf";
    pub(super) const SHIFT: &str = "UPDATE shelf SET free = free + $1, held = held + $2, \
        used = used + $3 WHERE free + $1 >= 0 AND held + $2 >= 0";
    pub(super) const BREAK: &str = "INSERT INTO shelf VALUES (NULL, NULL, NULL)";

    impl From<sqlx::Error> for Broken {
        fn from(error: sqlx::Error) -> Self {
            Self(error.into())
        }
    }
}

#[cfg(feature = "sqlite")]
pub use self::with_sqlite::Sqlite;

#[cfg(feature = "sqlite")]
mod with_sqlite {
    use sqlx::SqliteConnection;
    use tempfile::TempDir;
    use tercet_sdk::participant::SqliteFence;

    use super::{Broken, Database, STOCK, Shelf, Shelved, sql};

    pub struct Sqlite {
        fence: SqliteFence,
        _directory: TempDir,
    }

    impl Database for Sqlite {
        type Connection = SqliteConnection;
        type Fence = SqliteFence;

        async fn fresh() -> Self {
            let directory = tempfile::tempdir().unwrap();
            let fence = SqliteFence::open(directory.path().join("shelf.db"))
                .await
                .unwrap();
            sqlx::query(sql::CREATE)
                .execute(fence.pool())
                .await
                .unwrap();
            sqlx::query(sql::FILL)
                .bind(STOCK)
                .execute(fence.pool())
                .await
                .unwrap();
            Self {
                fence,
                _directory: directory,
            }
        }

        fn fence(&self) -> SqliteFence {
            self.fence.clone()
        }

        async fn shelf(&self) -> Shelf {
            let (free, held, used) = sqlx::query_as(sql::LOOK)
                .fetch_one(self.fence.pool())
                .await
                .unwrap();
            Shelf { free, held, used }
        }
    }

    impl Shelved for SqliteConnection {
        async fn shift(&mut self, free: i64, held: i64, used: i64) -> Result<bool, Broken> {
            let shifted = sqlx::query(sql::SHIFT).bind(free).bind(held).bind(used);
            Ok(shifted.execute(self).await?.rows_affected() == 1)
        }

        async fn break_it(&mut self) -> Result<(), Broken> {
            sqlx::query(sql::BREAK).execute(self).await?;
            Ok(())
        }
    }
}

#[cfg(feature = "postgres")]
pub use self::with_postgres::Postgres;

#[cfg(feature = "postgres")]
mod with_postgres {
    use std::{
        env,
        sync::atomic::{AtomicU32, Ordering},
    };

    use sqlx::{
        AssertSqlSafe, PgConnection,
        postgres::{PgConnectOptions, PgPoolOptions},
    };
    use tercet_sdk::participant::PostgresFence;

    use super::{Broken, Database, STOCK, Shelf, Shelved, sql};

    const URL: &str = "TERCET_TEST_POSTGRES_URL";

    /// In a schema of its own, made anew.
    pub struct Postgres {
        fence: PostgresFence,
    }

    impl Database for Postgres {
        type Connection = PgConnection;
        type Fence = PostgresFence;

        async fn fresh() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let url = env::var(URL).unwrap_or_else(|_| {
                panic!("set {URL} to a PostgreSQL database, or test without the feature `postgres`")
            });
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let schema = format!("tercet_test_{}_{number}", std::process::id());
            let options: PgConnectOptions = url.parse().unwrap();
            let pool = PgPoolOptions::new()
                .max_connections(8)
                .connect_with(options.options([("search_path", &schema)]))
                .await
                .unwrap();
            let create = format!("DROP SCHEMA IF EXISTS {schema} CASCADE; CREATE SCHEMA {schema}");
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&pool)
                .await
                .unwrap();
            sqlx::query(sql::CREATE).execute(&pool).await.unwrap();
            sqlx::query(sql::FILL)
                .bind(STOCK)
                .execute(&pool)
                .await
                .unwrap();
            let fence = PostgresFence::new(pool);
            fence.migrate().await.unwrap();
            Self { fence }
        }

        fn fence(&self) -> PostgresFence {
            self.fence.clone()
        }

        async fn shelf(&self) -> Shelf {
            let (free, held, used) = sqlx::query_as(sql::LOOK)
                .fetch_one(self.fence.pool())
                .await
                .unwrap();
            Shelf { free, held, used }
        }
    }

    impl Shelved for PgConnection {
        async fn shift(&mut self, free: i64, held: i64, used: i64) -> Result<bool, Broken> {
            let shifted = sqlx::query(sql::SHIFT).bind(free).bind(held).bind(used);
            Ok(shifted.execute(self).await?.rows_affected() == 1)
        }

        async fn break_it(&mut self) -> Result<(), Broken> {
            sqlx::query(sql::BREAK).execute(self).await?;
            Ok(())
        }
    }
}
