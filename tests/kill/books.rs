//! What is on record: at the coordinator, in its store's files, and in the participants' databases.

use std::{
    fmt,
    ops::AddAssign,
    path::Path,
    time::{Duration, Instant},
};

use futures::TryStreamExt as _;
use sqlx::{Connection as _, Row as _, SqliteConnection};
use tercet::store::{Listing, SledStore, Store as _};
use tercet_core::{fence, operation::Operation, transaction};
use tercet_sdk::client::{BranchState, Client, Transaction};

use super::{
    history::{Account, Ended, EndedBranch, FenceRow, Ledger, LedgerEffect, told},
    names::Names,
};

/// Every transaction that the coordinator lists.
pub async fn listed(client: &Client, names: &mut Names) -> Vec<Ended> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = client.list("", PAGE, token.as_deref()).await.unwrap();
        all.extend(page.transactions.iter().map(|it| ended(it, names)));
        token = page.next_page_token;
        if token.is_none() {
            return all;
        }
    }
}

const PAGE: u16 = 500;

fn ended(transaction: &Transaction, names: &mut Names) -> Ended {
    let attentions = &transaction.as_message().attentions;
    let reasons = attentions.iter().map(|it| it.reason().as_str_name());
    let branches = transaction.branches().map(|it| EndedBranch {
        id: names.name(it.id()),
        participant: names.name(it.participant()),
        state: branch_state(it.state()),
    });
    let branches = branches.collect();
    Ended {
        id: names.name(transaction.id()),
        seen: told::seen(transaction),
        branches,
        attention: (!attentions.is_empty()).then(|| reasons.collect::<Vec<_>>().join(", ")),
    }
}

fn branch_state(state: BranchState) -> transaction::BranchState {
    match state {
        BranchState::Trying => transaction::BranchState::Trying,
        BranchState::Tried => transaction::BranchState::Tried,
        BranchState::Confirming => transaction::BranchState::Confirming,
        BranchState::Confirmed => transaction::BranchState::Confirmed,
        BranchState::Canceling => transaction::BranchState::Canceling,
        BranchState::Canceled => transaction::BranchState::Canceled,
        BranchState::TryFailed | BranchState::Resolved | BranchState::Unspecified => {
            panic!("a stored branch is never {state:?} without an operator")
        }
    }
}

/// Unfinished transactions by state.
#[derive(Clone, Copy, Default)]
pub struct Unfinished {
    pub trying: usize,
    pub confirming: usize,
    pub canceling: usize,
}

impl Unfinished {
    pub fn sum(self) -> usize {
        self.trying + self.confirming + self.canceling
    }
}

impl AddAssign for Unfinished {
    fn add_assign(&mut self, other: Self) {
        self.trying += other.trying;
        self.confirming += other.confirming;
        self.canceling += other.canceling;
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trying,
            confirming,
            canceling,
        } = self;
        write!(
            f,
            "{trying} TRYING, {confirming} CONFIRMING, {canceling} CANCELING"
        )
    }
}

/// What the coordinator says is unfinished now.
pub async fn unfinished(client: &Client) -> Unfinished {
    let count = async |state: &str| {
        let count = client.count(&format!("state = {state}")).await.unwrap();
        usize::try_from(count.count).unwrap()
    };
    Unfinished {
        trying: count("TRYING").await,
        confirming: count("CONFIRMING").await,
        canceling: count("CANCELING").await,
    }
}

/// What a dead coordinator has left in its store, and how long that took to open.
#[derive(Clone, Copy)]
pub struct Left {
    pub unfinished: Unfinished,
    pub opened_in: Duration,
}

/// Starts on this store, in a process of its own, and says what it finds.
pub async fn find_left(store: &Path) -> ! {
    let begun = Instant::now();
    let store = SledStore::open(store).unwrap();
    let opened_us = begun.elapsed().as_micros();
    let Unfinished {
        trying,
        confirming,
        canceling,
    } = left(&store);
    println!("{LEFT}{opened_us} {trying} {confirming} {canceling}");
    std::future::pending().await // killed, as the one before it
}

/// How its line begins.
pub const LEFT: &str = "opened, and found: ";

impl Left {
    /// From what such a process said.
    pub fn parse(line: &str) -> Self {
        let (_, numbers) = line.split_once(LEFT).expect("it begins so");
        let mut numbers = numbers.split(' ').map(|it| it.parse::<u64>().unwrap());
        let mut next = || numbers.next().expect("there are four");
        Self {
            opened_in: Duration::from_micros(next()),
            unfinished: Unfinished {
                trying: next() as usize,
                confirming: next() as usize,
                canceling: next() as usize,
            },
        }
    }
}

fn left(store: &SledStore) -> Unfinished {
    let mut left = Unfinished::default();
    let mut before = None;
    loop {
        let page = store.list(&Listing::Unfinished, before, 500).unwrap();
        let Some((cursor, _)) = page.last() else {
            return left;
        };
        before = Some(*cursor);
        for (_, record) in &page {
            match record.transaction.state {
                transaction::State::Trying => left.trying += 1,
                transaction::State::Confirming => left.confirming += 1,
                transaction::State::Canceling => left.canceling += 1,
                ended => panic!("{} is listed as unfinished and {ended:?}", record.id),
            }
        }
    }
}

/// A participant's database, after its process has ended.
pub async fn ledger(participant: &str, database: &Path, names: &mut Names) -> Ledger {
    let url = format!("sqlite:{}", database.display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    Ledger {
        participant: names.name(participant),
        accounts: accounts(&mut db).await,
        effects: effects(&mut db, names).await,
        rows: rows(&mut db, names).await,
    }
}

async fn accounts(db: &mut SqliteConnection) -> Vec<Account> {
    let query = "SELECT name, opening, free, held, used FROM accounts";
    let rows: Vec<(String, i64, i64, i64, i64)> =
        sqlx::query_as(query).fetch_all(db).await.unwrap();
    let account = |(name, opening, free, held, used): (String, _, _, _, _)| Account {
        name: name.into(),
        opening,
        free,
        held,
        used,
    };
    rows.into_iter().map(account).collect()
}

async fn effects(db: &mut SqliteConnection, names: &mut Names) -> Vec<LedgerEffect> {
    let query = "SELECT transaction_id, branch_id, operation, account, amount FROM effects \
                 ORDER BY number";
    let mut rows = sqlx::query(query).fetch(db);
    let mut effects = Vec::new();
    while let Some(row) = rows.try_next().await.unwrap() {
        let operation = match row.get(2) {
            "try" => Operation::Try,
            "confirm" => Operation::Confirm,
            "cancel" => Operation::Cancel,
            other => panic!("{other:?} is no operation"),
        };
        effects.push(LedgerEffect {
            transaction: names.name(row.get(0)),
            branch: names.name(row.get(1)),
            operation,
            account: names.name(row.get(3)),
            amount: row.get(4),
        });
    }
    effects
}

async fn rows(db: &mut SqliteConnection, names: &mut Names) -> Vec<FenceRow> {
    let query = "SELECT transaction_id, branch_id, state FROM tercet_fence";
    let mut rows = sqlx::query(query).fetch(db);
    let mut fence_rows = Vec::new();
    while let Some(row) = rows.try_next().await.unwrap() {
        fence_rows.push(FenceRow {
            transaction: names.name(row.get(0)),
            branch: names.name(row.get(1)),
            state: fence::State::parse(row.get(2)).expect("the fence wrote it"),
        });
    }
    fence_rows
}
