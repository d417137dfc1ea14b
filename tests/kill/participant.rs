//! A participant in a process of its own: accounts in SQLite, changed by Try, Confirm and Cancel, and
//! a log of every change in the same database transaction.

use std::{path::Path, sync::Arc, time::Duration};

use fastrand::Rng;
use parking_lot::Mutex;
use sqlx::{
    SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tercet_sdk::participant::{
    Branch, FenceError, Later, Participant, Resource, SqliteFence, TryError, refuse,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tonic::transport::{Server, server::TcpIncoming};
use tower::util::MapFutureLayer;

/// The accounts of every participant, and what is on them at the start.
pub const ACCOUNTS: [(&str, i64); 2] = [(PLENTY, 1_000_000_000), (SCARCE, 40)];
pub const PLENTY: &str = "plenty";
/// Soon used up, so that a Try is refused.
pub const SCARCE: &str = "scarce";

/// Every other call is slow before its effect, every fourth after it, by up to so much.
const SLOW_BEFORE: u8 = 2;
const SLOW_AFTER: u8 = 4;
const DELAY_BEFORE_MS_MAX: u64 = 200;
const DELAY_AFTER_MS_MAX: u64 = 100;

/// In SQLite's own words: 64 MiB.
const CACHE: &str = "-65536";

#[derive(Clone, PartialEq, prost::Message)]
pub struct Take {
    #[prost(string, tag = "1")]
    pub account: String,
    #[prost(int64, tag = "2")]
    pub amount: i64,
}

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS accounts (
        name TEXT PRIMARY KEY,
        opening INTEGER NOT NULL,
        free INTEGER NOT NULL,
        held INTEGER NOT NULL,
        used INTEGER NOT NULL
    );
    CREATE TABLE IF NOT EXISTS effects (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        transaction_id TEXT NOT NULL,
        branch_id TEXT NOT NULL,
        operation TEXT NOT NULL,
        account TEXT NOT NULL,
        amount INTEGER NOT NULL
    );
";

/// Runs until it is killed or told to end: at this address, or connected to this URL.
pub async fn run(name: &str, way: &str, database: &Path, seed: u64) {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let fence = open(database).await.unwrap();
    let participant = Participant::new(name.to_owned(), fence).resource(Accounts);
    let shutdown = async move { terminate.recv().await.unwrap_or_default() };
    if way.starts_with("http://") {
        println!("listening on nothing, connecting to {way}");
        participant.connect(way, shutdown).await.unwrap();
    } else {
        serve(participant, way, shutdown, seed).await;
    }
}

async fn serve(
    participant: Participant<SqliteFence>,
    address: &str,
    shutdown: impl Future<Output = ()>,
    seed: u64,
) {
    let service = participant.into_service().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    println!("listening on {address}");
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let rng = Arc::new(Mutex::new(Rng::with_seed(seed)));
    // Outside of the fence's transaction: SQLite has one writer, and a slow call is not to hold up
    // the others.
    Server::builder()
        .layer(MapFutureLayer::new(move |call| {
            slowly(call, Arc::clone(&rng))
        }))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .unwrap();
}

async fn slowly<T>(call: impl Future<Output = T>, rng: Arc<Mutex<Rng>>) -> T {
    let lot = |share: u8, ms_max: u64| {
        let mut rng = rng.lock();
        let is_slow = rng.u8(..share) == 0;
        Duration::from_millis(if is_slow { rng.u64(..ms_max) } else { 0 })
    };
    let (before, after) = (
        lot(SLOW_BEFORE, DELAY_BEFORE_MS_MAX),
        lot(SLOW_AFTER, DELAY_AFTER_MS_MAX),
    );
    tokio::time::sleep(before).await;
    let reply = call.await;
    tokio::time::sleep(after).await;
    reply
}

/// As [`SqliteFence::open`], but without syncs: what a process has written outlives its kill, and a
/// disk that forgets is another test's. One connection, as SQLite has one writer.
async fn open(database: &Path) -> Result<SqliteFence, FenceError> {
    let options = SqliteConnectOptions::new()
        .filename(database)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Off)
        .pragma("cache_size", CACHE);
    let pool = SqlitePoolOptions::new().max_connections(1);
    let pool = pool.connect_with(options).await;
    let fence = SqliteFence::new(pool.map_err(FenceError::database)?);
    fence.migrate().await?;
    let tables = sqlx::raw_sql(SCHEMA).execute(fence.pool()).await;
    tables.map_err(FenceError::database)?;
    for (name, opening) in ACCOUNTS {
        let account = "INSERT INTO accounts VALUES (?1, ?2, ?2, 0, 0) ON CONFLICT DO NOTHING";
        let account = sqlx::query(account).bind(name).bind(opening);
        let opened = account.execute(fence.pool()).await;
        opened.map_err(FenceError::database)?;
    }
    Ok(fence)
}

struct Accounts;

impl Resource<SqliteConnection> for Accounts {
    const NAME: &'static str = "take";
    type Request = Take;
    type Held = Take;

    async fn on_try(
        &self,
        db: &mut SqliteConnection,
        branch: &Branch,
        take: Take,
    ) -> Result<Take, TryError> {
        let hold = "UPDATE accounts SET free = free - ?1, held = held + ?1 \
                    WHERE name = ?2 AND free >= ?1";
        if change(db, hold, &take).await? == 0 {
            return Err(refuse("NOTHING_LEFT").with("account", &take.account));
        }
        note(db, branch, "try", &take).await?;
        Ok(take)
    }

    async fn on_confirm(
        &self,
        db: &mut SqliteConnection,
        branch: &Branch,
        held: Take,
    ) -> Result<(), Later> {
        let consume = "UPDATE accounts SET held = held - ?1, used = used + ?1 WHERE name = ?2";
        change(db, consume, &held).await?;
        note(db, branch, "confirm", &held).await?;
        Ok(())
    }

    async fn on_cancel(
        &self,
        db: &mut SqliteConnection,
        branch: &Branch,
        held: Take,
    ) -> Result<(), Later> {
        let release = "UPDATE accounts SET held = held - ?1, free = free + ?1 WHERE name = ?2";
        change(db, release, &held).await?;
        note(db, branch, "cancel", &held).await?;
        Ok(())
    }
}

async fn change(
    db: &mut SqliteConnection,
    update: &'static str,
    take: &Take,
) -> Result<u64, sqlx::Error> {
    let update = sqlx::query(update).bind(take.amount).bind(&take.account);
    Ok(update.execute(db).await?.rows_affected())
}

/// Nothing here keeps an effect from being noted twice: that is what the test looks for.
async fn note(
    db: &mut SqliteConnection,
    branch: &Branch,
    operation: &str,
    take: &Take,
) -> Result<(), sqlx::Error> {
    let effect = "INSERT INTO effects (transaction_id, branch_id, operation, account, amount) \
                  VALUES (?, ?, ?, ?, ?)";
    sqlx::query(effect)
        .bind(branch.key.transaction_id.as_str())
        .bind(branch.key.branch_id.as_str())
        .bind(operation)
        .bind(&take.account)
        .bind(take.amount)
        .execute(db)
        .await?;
    Ok(())
}
