//! What the client may say, and when: against a coordinator that answers by a script.
#![cfg(feature = "client")]

mod coordinator;
mod interactive;
mod read;
mod submit;
mod watch;

use tercet_sdk::{
    client::{Outcome, Processing},
    proto::{
        participant::v1::Outcome as OutcomeCode,
        v1::{Transaction, TransactionState},
    },
};

pub(crate) fn transaction(state: TransactionState, outcome: OutcomeCode) -> Transaction {
    Transaction {
        transaction_id: "order-7".into(),
        state: state.into(),
        outcome: outcome.into(),
        revision: 3,
        ..Transaction::default()
    }
}

pub(crate) fn confirmed() -> Transaction {
    transaction(TransactionState::Confirmed, OutcomeCode::Success)
}

pub(crate) fn processing(outcome: Outcome) -> Processing {
    match outcome {
        Outcome::Processing(processing) => processing,
        other => panic!("expected PROCESSING, got {other:?}"),
    }
}
