//! Orders: pending while a transaction is undecided, then placed or canceled.

use sqlx::SqliteConnection;
use tercet_sdk::participant::{
    Branch, FenceError, Later, Participant, Resource, SqliteFence, TryError, refuse,
};

#[derive(Clone, PartialEq, prost::Message)]
pub struct Place {
    #[prost(string, tag = "1")]
    pub order: String,
    #[prost(string, tag = "2")]
    pub customer: String,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS orders (
        id TEXT PRIMARY KEY,
        customer TEXT NOT NULL,
        status TEXT NOT NULL CHECK (status IN ('pending', 'placed', 'canceled'))
    );
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
    Participant::new("order", fence).resource(Orders)
}

struct Orders;

impl Orders {
    async fn move_to(db: &mut SqliteConnection, order: &Place, status: &str) -> Result<(), Later> {
        let update = "UPDATE orders SET status = ?1 WHERE id = ?2";
        sqlx::query(update)
            .bind(status)
            .bind(&order.order)
            .execute(db)
            .await?;
        Ok(())
    }
}

impl Resource<SqliteConnection> for Orders {
    const NAME: &'static str = "place";
    type Request = Place;
    type Held = Place;

    async fn on_try(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        place: Place,
    ) -> Result<Place, TryError> {
        let insert = "INSERT INTO orders VALUES (?1, ?2, 'pending') ON CONFLICT DO NOTHING";
        let insert = sqlx::query(insert).bind(&place.order).bind(&place.customer);
        if insert.execute(db).await?.rows_affected() == 0 {
            return Err(refuse("ORDER_EXISTS").with("order", &place.order));
        }
        Ok(place)
    }

    async fn on_confirm(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        held: Place,
    ) -> Result<(), Later> {
        Self::move_to(db, &held, "placed").await
    }

    async fn on_cancel(
        &self,
        db: &mut SqliteConnection,
        _: &Branch,
        held: Place,
    ) -> Result<(), Later> {
        Self::move_to(db, &held, "canceled").await
    }
}
