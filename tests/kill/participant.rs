//! A participant in a process of its own: accounts in SQLite, changed by Try, Confirm and Cancel, and
//! a log of every change in the same database transaction.

use std::{io::Read as _, path::Path, time::Duration};

use sqlx::SqliteConnection;
use tercet_sdk::participant::{
    Branch, FenceError, Later, Participant, Resource, SqliteFence, TryError, refuse,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tonic::transport::{Server, server::TcpIncoming};
use tower::util::MapFutureLayer;

/// Set in the environment of a participant's process: NAME ADDRESS DATABASE, parted by spaces.
pub const ROLE: &str = "KILL_PARTICIPANT";

/// The accounts of every participant, and what is on them at the start.
pub const ACCOUNTS: [(&str, i64); 2] = [(PLENTY, 1_000_000), (SCARCE, 40)];
pub const PLENTY: &str = "plenty";
/// Soon used up, so that a Try is refused.
pub const SCARCE: &str = "scarce";

/// Every other call is slow before its effect, every fourth after it, by up to so much.
const DELAY_BEFORE_MS_MAX: u64 = 200;
const DELAY_AFTER_MS_MAX: u64 = 100;

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

/// Serves until it is killed, told to end, or left alone by the test.
pub async fn serve(role: &str) {
    let [name, address, database] = role.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{ROLE}={role}: NAME ADDRESS DATABASE");
    };
    std::thread::spawn(end_with_the_test);
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    let fence = open(Path::new(database)).await.unwrap();
    let service = Participant::new(name, fence).resource(Accounts);
    let service = service.into_service().unwrap();
    let listener = TcpListener::bind(address).await.unwrap();
    println!("listening on {address}");
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let shutdown = async move { terminate.recv().await.unwrap_or_default() };
    // Outside of the fence's transaction: SQLite has one writer, and a slow call is not to hold up
    // the others.
    Server::builder()
        .layer(MapFutureLayer::new(slowly))
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, shutdown)
        .await
        .unwrap();
}

/// The test holds the other end of this process's input, however it ends itself.
fn end_with_the_test() {
    let ended = std::io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(i32::from(ended.is_err()));
}

async fn slowly<T>(call: impl Future<Output = T>) -> T {
    if fastrand::bool() {
        delay(DELAY_BEFORE_MS_MAX).await;
    }
    let reply = call.await;
    if fastrand::u8(..4) == 0 {
        delay(DELAY_AFTER_MS_MAX).await;
    }
    reply
}

async fn delay(ms_max: u64) {
    tokio::time::sleep(Duration::from_millis(fastrand::u64(..ms_max))).await;
}

async fn open(database: &Path) -> Result<SqliteFence, FenceError> {
    let fence = SqliteFence::open(database).await?;
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
