//! Payment: money is in a customer's wallet, held by a transaction, or spent.

use std::time::Duration;

use sqlx::SqliteConnection;
use tercet_sdk::participant::{
    Branch, FenceError, Later, Participant, Resource, SqliteFence, TryError, refuse,
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Charge {
    #[prost(string, tag = "1")]
    pub customer: String,
    #[prost(int64, tag = "2")]
    pub cents: i64,
    /// How long this customer's bank takes to move the money.
    #[prost(uint64, tag = "3")]
    pub capture_ms: u64,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS wallet (
        customer TEXT PRIMARY KEY,
        free INTEGER NOT NULL CHECK (free >= 0),
        held INTEGER NOT NULL CHECK (held >= 0),
        spent INTEGER NOT NULL CHECK (spent >= 0)
    );
    INSERT INTO wallet VALUES ('ann', 100000, 0, 0) ON CONFLICT DO NOTHING;
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
    Participant::new("payment", fence).resource(Wallet)
}

struct Wallet;

impl Resource<SqliteConnection> for Wallet {
    const NAME: &'static str = "charge";
    type Request = Charge;
    type Held = Charge;

    async fn on_try(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        charge: Charge,
    ) -> Result<Charge, TryError> {
        let hold = "UPDATE wallet SET free = free - ?1, held = held + ?1 \
                    WHERE customer = ?2 AND free >= ?1";
        let held = sqlx::query(hold)
            .bind(charge.cents)
            .bind(&charge.customer)
            .execute(db)
            .await?;
        if held.rows_affected() == 0 {
            return Err(refuse("INSUFFICIENT_FUNDS").with("customer", &charge.customer));
        }
        Ok(charge)
    }

    async fn on_confirm(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        held: Charge,
    ) -> Result<(), Later> {
        tokio::time::sleep(Duration::from_millis(held.capture_ms)).await;
        let spend = "UPDATE wallet SET held = held - ?1, spent = spent + ?1 WHERE customer = ?2";
        sqlx::query(spend)
            .bind(held.cents)
            .bind(&held.customer)
            .execute(db)
            .await?;
        Ok(())
    }

    async fn on_cancel(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        held: Charge,
    ) -> Result<(), Later> {
        let release = "UPDATE wallet SET held = held - ?1, free = free + ?1 WHERE customer = ?2";
        sqlx::query(release)
            .bind(held.cents)
            .bind(&held.customer)
            .execute(db)
            .await?;
        Ok(())
    }
}
