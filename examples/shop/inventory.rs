//! Inventory: stock is free, held by a transaction, or sold.

use sqlx::SqliteConnection;
use tercet_sdk::participant::{
    Branch, FenceError, Later, Participant, Resource, SqliteFence, TryError, refuse,
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Reserve {
    #[prost(string, tag = "1")]
    pub sku: String,
    #[prost(int64, tag = "2")]
    pub count: i64,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS stock (
        sku TEXT PRIMARY KEY,
        free INTEGER NOT NULL CHECK (free >= 0),
        held INTEGER NOT NULL CHECK (held >= 0),
        sold INTEGER NOT NULL CHECK (sold >= 0)
    );
    INSERT INTO stock VALUES ('chair', 10, 0, 0), ('table', 2, 0, 0) ON CONFLICT DO NOTHING;
";

pub async fn open(file: &str) -> Result<SqliteFence, FenceError> {
    let fence = SqliteFence::open(file).await?;
    sqlx::raw_sql(SCHEMA)
        .execute(fence.pool())
        .await
        .map_err(FenceError::database)?;
    Ok(fence)
}

pub fn participant(fence: SqliteFence) -> Participant<SqliteFence> {
    Participant::new("inventory", fence).resource(Stock)
}

struct Stock;

impl Resource<SqliteConnection> for Stock {
    const NAME: &'static str = "reserve";
    type Request = Reserve;
    type Held = Reserve;

    async fn on_try(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        wanted: Reserve,
    ) -> Result<Reserve, TryError> {
        if wanted.count <= 0 {
            return Err(refuse("COUNT_INVALID").with("count", wanted.count));
        }
        let held =
            "UPDATE stock SET free = free - ?1, held = held + ?1 WHERE sku = ?2 AND free >= ?1";
        let held = sqlx::query(held)
            .bind(wanted.count)
            .bind(&wanted.sku)
            .execute(db)
            .await?;
        if held.rows_affected() == 0 {
            return Err(refuse("OUT_OF_STOCK")
                .with("sku", &wanted.sku)
                .with("count", wanted.count));
        }
        Ok(wanted)
    }

    async fn on_confirm(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        held: Reserve,
    ) -> Result<(), Later> {
        let sell = "UPDATE stock SET held = held - ?1, sold = sold + ?1 WHERE sku = ?2";
        sqlx::query(sell)
            .bind(held.count)
            .bind(&held.sku)
            .execute(db)
            .await?;
        Ok(())
    }

    async fn on_cancel(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        held: Reserve,
    ) -> Result<(), Later> {
        let release = "UPDATE stock SET held = held - ?1, free = free + ?1 WHERE sku = ?2";
        sqlx::query(release)
            .bind(held.count)
            .bind(&held.sku)
            .execute(db)
            .await?;
        Ok(())
    }
}
