//! What the SDK's answers say, in the words of the history.

use tercet_core::{
    outcome::{Decision, Outcome, ReplyMode},
    transaction::State,
};
use tercet_sdk::{
    client::{Error, Outcome as Told, Refused, Transaction, TransactionState},
    proto::{participant::v1 as participant, v1},
};

use super::{
    history::{Answer, Seen},
    plan::Plan,
    trace::Trace,
};

/// What a call that wants an outcome was told.
pub fn outcome<E: Into<Error>>(trace: &Trace, told: Result<Told, E>) -> Answer {
    match transaction(&told) {
        Some(transaction) => Answer::Shown(seen(transaction)),
        None => told.map_or_else(|it| error(trace, &it.into()), |_| Answer::Unknown),
    }
}

/// The same, for a call whose content has to be the transaction's.
pub fn outcome_of<E: Into<Error>>(trace: &Trace, plan: &Plan, told: Result<Told, E>) -> Answer {
    if transaction(&told).is_some_and(|it| !is_of(plan, it)) {
        return Answer::Merged;
    }
    outcome(trace, told)
}

fn transaction<E>(told: &Result<Told, E>) -> Option<&Transaction> {
    match told {
        Ok(Told::Success(transaction)) => Some(transaction),
        Ok(Told::Failed(failed)) => Some(&failed.transaction),
        Ok(Told::Processing(processing)) => processing.transaction(),
        Err(_) => None,
    }
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
    match read {
        Ok(transaction) => Answer::Shown(seen(&transaction)),
        Err(it) => error(trace, &it),
    }
}

pub fn error(trace: &Trace, error: &Error) -> Answer {
    let Some(refused) = error.refused() else {
        return Answer::Unknown;
    };
    trace.count("refused", &*refused.reason);
    said(refused)
}

fn said(refused: &Refused) -> Answer {
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

/// What a transaction shows of itself.
pub fn seen(transaction: &Transaction) -> Seen {
    let message = transaction.as_message();
    Seen {
        state: state(transaction.state()),
        outcome: match transaction.outcome() {
            participant::Outcome::Success => Outcome::Success,
            participant::Outcome::Failed => Outcome::Failed,
            participant::Outcome::Processing => Outcome::Processing,
            participant::Outcome::Unspecified => panic!("without an outcome: {message:?}"),
        },
        mode: match message.reply_mode() {
            v1::ReplyMode::TwoState => ReplyMode::TwoState,
            v1::ReplyMode::ThreeState => ReplyMode::ThreeState,
            v1::ReplyMode::Accepted => ReplyMode::Accepted,
            v1::ReplyMode::Unspecified => panic!("without a mode: {message:?}"),
        },
        revision: transaction.revision().unsigned_abs(),
    }
}

pub fn state(state: TransactionState) -> State {
    match state {
        TransactionState::Trying => State::Trying,
        TransactionState::Confirming => State::Confirming,
        TransactionState::Confirmed => State::Confirmed,
        TransactionState::Canceling => State::Canceling,
        TransactionState::Canceled => State::Canceled,
        TransactionState::Mixed | TransactionState::Unspecified => {
            panic!("no operator is here: {state:?}")
        }
    }
}
