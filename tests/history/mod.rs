//! What was said and what was done, held against each other.
//!
//! A [`History`] is what clients asked and heard, in the order of real time. Beside it stand what the
//! coordinator says once everything has healed ([`Ended`]) and what the participants' databases hold
//! ([`Ledger`]). [`violations`] finds every invariant of the protocol that the three together break;
//! it knows nothing of how they came about, so that tests of processes and simulations share it. Its cost
//! is linear, and names are shared texts, so that a run of a million transactions fits into memory.
#![allow(dead_code, reason = "each test file uses its part of it")]

mod answers;
mod effects;
pub mod inside;
mod money;
#[cfg(test)]
mod planted;
#[cfg(test)]
mod planted_inside;
pub mod told;

use std::sync::Arc;

use tercet_core::{
    check::Violation,
    fence,
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    transaction::{BranchState, State},
};

/// Everything there is to judge by.
pub struct Evidence<'a> {
    pub history: &'a History,
    pub intents: &'a [Intent],
    pub ended: &'a [Ended],
    pub ledgers: &'a [Ledger],
}

/// Every invariant that doesn't hold, each with the transaction or the account that shows it.
pub fn violations(evidence: &Evidence<'_>) -> Vec<Violation> {
    let mut found = answers::violations(evidence);
    found.extend(effects::violations(evidence));
    found.extend(money::violations(evidence));
    found
}

/// The calls of all clients. One clock orders it: an answer that stands before an invocation was
/// heard before that call was made.
#[derive(Clone, Debug, Default, Hash)]
pub struct History {
    entries: Vec<Entry>,
    calls: usize,
}

#[derive(Clone, Debug, Hash)]
enum Entry {
    Invoked { call: Call, id: Arc<str> },
    Answered { call: Call, answer: Answer },
}

/// One call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call(usize);

/// What a client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// The transaction.
    Shown(Seen),
    /// That the transaction exists, and no more.
    Accepted,
    /// Only what was decided: a refused rollback, a refused Try.
    Decided(Decision),
    /// That this call changed nothing, for certain.
    NotTaken,
    /// That no such transaction is known.
    NotFound,
    /// The transaction of somebody else, whose id this call has used again with other content.
    Merged,
    /// Nothing definite.
    Unknown,
}

/// A transaction as somebody was shown it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Seen {
    pub state: State,
    pub outcome: Outcome,
    pub mode: ReplyMode,
    pub revision: u64,
}

impl History {
    pub fn invoke(&mut self, id: impl Into<Arc<str>>) -> Call {
        let call = Call(self.calls);
        self.calls += 1;
        let id = id.into();
        self.entries.push(Entry::Invoked { call, id });
        call
    }

    pub fn answer(&mut self, call: Call, answer: Answer) {
        self.entries.push(Entry::Answered { call, answer });
    }

    /// Calls made and answers heard.
    pub fn len(&self) -> usize {
        self.entries.len()
    }
}

/// What a client meant by an id. Two clients may mean two things by one id: whoever comes first.
#[derive(Clone, Debug)]
pub struct Intent {
    pub id: Arc<str>,
    pub mode: ReplyMode,
    /// Its branches are added one by one, and a crash may leave any of them out.
    pub interactive: bool,
    pub branches: Vec<IntendedBranch>,
}

#[derive(Clone, Debug)]
pub struct IntendedBranch {
    pub id: Arc<str>,
    pub participant: Arc<str>,
    pub account: Arc<str>,
    pub amount: i64,
}

/// A transaction as the coordinator has it in the end.
#[derive(Clone, Debug)]
pub struct Ended {
    pub id: Arc<str>,
    pub seen: Seen,
    pub branches: Vec<EndedBranch>,
    /// Why a person has to look, when one has.
    pub attention: Option<String>,
}

#[derive(Clone, Debug)]
pub struct EndedBranch {
    pub id: Arc<str>,
    pub participant: Arc<str>,
    pub state: BranchState,
}

/// A participant's database.
#[derive(Clone, Debug)]
pub struct Ledger {
    pub participant: Arc<str>,
    pub accounts: Vec<Account>,
    /// In the order in which they were committed.
    pub effects: Vec<LedgerEffect>,
    pub rows: Vec<FenceRow>,
}

#[derive(Clone, Debug)]
pub struct Account {
    pub name: Arc<str>,
    pub opening: i64,
    pub free: i64,
    pub held: i64,
    pub used: i64,
}

/// One business change, written down in the same database transaction.
#[derive(Clone, Debug)]
pub struct LedgerEffect {
    pub transaction: Arc<str>,
    pub branch: Arc<str>,
    pub operation: Operation,
    pub account: Arc<str>,
    pub amount: i64,
}

#[derive(Clone, Debug)]
pub struct FenceRow {
    pub transaction: Arc<str>,
    pub branch: Arc<str>,
    pub state: fence::State,
}

fn broken(invariant: &'static str, detail: String) -> Violation {
    Violation { invariant, detail }
}
