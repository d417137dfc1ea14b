//! What the SDK's answers say, and what a refusal means here.

use tercet_core::outcome::Decision;
use tercet_sdk::client::{Error, Outcome as Told, Refused, Transaction};

use super::{
    history::{Answer, told},
    plan::Plan,
    trace::Trace,
};

pub use told::{seen, state};

/// What a call that wants an outcome was told.
pub fn outcome<E: Into<Error>>(trace: &Trace, told: Result<Told, E>) -> Answer {
    told::outcome(told, |it| refused(trace, it))
}

/// The same, for a call whose content has to be the transaction's.
pub fn outcome_of<E: Into<Error>>(trace: &Trace, plan: &Plan, told: Result<Told, E>) -> Answer {
    let transaction = told.as_ref().ok().and_then(told::transaction);
    if transaction.is_some_and(|it| !is_of(plan, it)) {
        return Answer::Merged;
    }
    outcome(trace, told)
}

/// An id that was forbidden before its transaction came has no branch.
fn is_of(plan: &Plan, transaction: &Transaction) -> bool {
    let mut branches = transaction.branches();
    branches.all(|it| {
        plan.intent
            .branches
            .iter()
            .any(|meant| *meant.id == *it.id())
    })
}

pub fn shown(trace: &Trace, read: Result<Transaction, Error>) -> Answer {
    told::shown(read, |it| refused(trace, it))
}

pub fn error(trace: &Trace, error: &Error) -> Answer {
    told::error(error, |it| refused(trace, it))
}

fn refused(trace: &Trace, refused: &Refused) -> Answer {
    trace.count("refused", &*refused.reason);
    match &*refused.reason {
        "TRANSACTION_NOT_FOUND" => Answer::NotFound,
        // Rollback of what was committed.
        "DECISION_CONFLICT" => Answer::Decided(Decision::Commit),
        // Too much is in flight; or other content; or another branch for what was canceled
        // meanwhile; or a commit without a branch that never arrived; or the clock has jumped.
        "INFLIGHT_LIMIT"
        | "TRANSACTION_ID_REUSED"
        | "STATE_INVALID"
        | "BRANCH_SET_MISMATCH"
        | "TRANSACTION_EXPIRED" => Answer::NotTaken,
        _ => panic!("no client here should be told so: {refused}"),
    }
}
