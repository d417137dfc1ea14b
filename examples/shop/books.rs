//! What the databases say: every chair and every cent, before and after.

use std::{fmt, path::Path};

use anyhow::ensure;
use sqlx::{Connection as _, SqliteConnection};

use super::scenes::CHAIR_CENTS;

/// Something that is free, held by a transaction, or gone for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stock {
    free: i64,
    held: i64,
    gone: i64,
}

impl Stock {
    fn total(self) -> i64 {
        self.free + self.held + self.gone
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Books {
    chairs: Stock,
    cents: Stock,
    placed: i64,
    canceled: i64,
    pending: i64,
}

/// What must have changed.
#[derive(Default)]
pub struct Expected {
    chairs_sold: i64,
    orders_placed: i64,
    orders_refused: i64,
}

impl Expected {
    pub fn sold(&mut self, chairs: i64) {
        self.chairs_sold += chairs;
        self.orders_placed += 1;
    }

    pub fn refused(&mut self) {
        self.orders_refused += 1;
    }
}

pub async fn read(folder: &Path) -> anyhow::Result<Books> {
    let chairs = "SELECT free, held, sold FROM stock WHERE sku = 'chair'";
    let cents = "SELECT free, held, spent FROM wallet WHERE customer = 'ann'";
    let orders = "SELECT COALESCE(SUM(status = 'placed'), 0), \
                  COALESCE(SUM(status = 'canceled'), 0), \
                  COALESCE(SUM(status = 'pending'), 0) FROM orders";
    let (free, held, gone) = row(folder, "inventory", chairs).await?;
    let chairs = Stock { free, held, gone };
    let (free, held, gone) = row(folder, "payment", cents).await?;
    let cents = Stock { free, held, gone };
    let (placed, canceled, pending) = row(folder, "order", orders).await?;
    Ok(Books {
        chairs,
        cents,
        placed,
        canceled,
        pending,
    })
}

async fn row(folder: &Path, name: &str, query: &'static str) -> anyhow::Result<(i64, i64, i64)> {
    let file = folder.join(format!("{name}.db"));
    let mut db = SqliteConnection::connect(&format!("sqlite:{}", file.display())).await?;
    Ok(sqlx::query_as(query).fetch_one(&mut db).await?)
}

impl fmt::Display for Books {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "              free     held     gone    total")?;
        for (name, it) in [("chairs", self.chairs), ("cents", self.cents)] {
            let (free, held, gone, total) = (it.free, it.held, it.gone, it.total());
            writeln!(f, "   {name:<8}{free:>7}{held:>9}{gone:>9}{total:>9}")?;
        }
        let Self {
            placed,
            canceled,
            pending,
            ..
        } = self;
        writeln!(
            f,
            "   orders: {placed} placed, {canceled} canceled, {pending} pending"
        )
    }
}

pub fn compare(before: &Books, after: &Books, kept: &Expected) -> anyhow::Result<()> {
    for (name, was, is, gone) in [
        ("chairs", before.chairs, after.chairs, kept.chairs_sold),
        (
            "cents",
            before.cents,
            after.cents,
            kept.chairs_sold * CHAIR_CENTS,
        ),
    ] {
        ensure!(
            was.total() == is.total(),
            "{name} are not conserved: {was:?} became {is:?}"
        );
        ensure!(is.held == 0, "{name} are still held: {is:?}");
        ensure!(
            is.gone == was.gone + gone,
            "{name}: {gone} should be gone, but {is:?}"
        );
    }
    ensure!(
        after.placed == kept.orders_placed,
        "orders placed: {after:?}"
    );
    ensure!(after.pending == 0, "orders are still pending: {after:?}");
    ensure!(
        after.canceled <= kept.orders_refused,
        "orders canceled: {after:?}"
    );
    Ok(())
}
