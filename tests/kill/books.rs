//! What is on record: at the coordinator, in its store's files, and in the participants' databases.

use std::{
    fmt, fs,
    ops::AddAssign,
    path::{Path, PathBuf},
};

use sqlx::{Connection as _, SqliteConnection};
use tercet::store::{Listing, SledStore, Store as _};
use tercet_core::{fence, operation::Operation, transaction};
use tercet_sdk::client::{BranchState, Client, Transaction};

use super::{
    heard::seen,
    history::{Account, Ended, EndedBranch, FenceRow, Ledger, LedgerEffect},
};

/// Every transaction that the coordinator lists.
pub async fn listed(client: &Client) -> Vec<Ended> {
    let mut all = Vec::new();
    let mut token: Option<String> = None;
    loop {
        let page = client.list("", 500, token.as_deref()).await.unwrap();
        all.extend(page.transactions.iter().map(ended));
        token = page.next_page_token;
        if token.is_none() {
            return all;
        }
    }
}

fn ended(transaction: &Transaction) -> Ended {
    let attentions = &transaction.as_message().attentions;
    let reasons = attentions.iter().map(|it| it.reason().as_str_name());
    Ended {
        id: transaction.id().into(),
        seen: seen(transaction),
        branches: transaction
            .branches()
            .map(|it| EndedBranch {
                id: it.id().into(),
                participant: it.participant().into(),
                state: branch_state(it.state()),
            })
            .collect(),
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

/// What a dead coordinator has left in its store. Reads a copy: opening it counts as a start.
pub fn left_unfinished(store: PathBuf) -> Unfinished {
    let copy = tempfile::tempdir().unwrap();
    copy_files(&store, copy.path());
    let store = SledStore::open(copy.path()).unwrap();
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

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&to).unwrap();
            copy_files(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// A participant's database, after its process has ended.
pub async fn ledger(participant: &str, database: &Path) -> Ledger {
    let url = format!("sqlite:{}", database.display());
    let mut db = SqliteConnection::connect(&url).await.unwrap();
    Ledger {
        participant: participant.into(),
        accounts: accounts(&mut db).await,
        effects: effects(&mut db).await,
        rows: rows(&mut db).await,
    }
}

async fn accounts(db: &mut SqliteConnection) -> Vec<Account> {
    let query = "SELECT name, opening, free, held, used FROM accounts";
    let rows: Vec<(String, i64, i64, i64, i64)> =
        sqlx::query_as(query).fetch_all(db).await.unwrap();
    let account = |(name, opening, free, held, used)| Account {
        name,
        opening,
        free,
        held,
        used,
    };
    rows.into_iter().map(account).collect()
}

async fn effects(db: &mut SqliteConnection) -> Vec<LedgerEffect> {
    let query = "SELECT transaction_id, branch_id, operation, account, amount FROM effects \
                 ORDER BY number";
    let rows: Vec<(String, String, String, String, i64)> =
        sqlx::query_as(query).fetch_all(db).await.unwrap();
    let effect = |(transaction, branch, operation, account, amount): (_, _, String, _, _)| {
        let operation = match &*operation {
            "try" => Operation::Try,
            "confirm" => Operation::Confirm,
            "cancel" => Operation::Cancel,
            other => panic!("{other:?} is no operation"),
        };
        LedgerEffect {
            transaction,
            branch,
            operation,
            account,
            amount,
        }
    };
    rows.into_iter().map(effect).collect()
}

async fn rows(db: &mut SqliteConnection) -> Vec<FenceRow> {
    let query = "SELECT transaction_id, branch_id, state FROM tercet_fence";
    let rows: Vec<(String, String, String)> = sqlx::query_as(query).fetch_all(db).await.unwrap();
    let row = |(transaction, branch, state): (_, _, String)| FenceRow {
        transaction,
        branch,
        state: fence::State::parse(&state).expect("the fence wrote it"),
    };
    rows.into_iter().map(row).collect()
}
