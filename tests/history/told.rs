//! What the SDK's answers say, in the words of the history. What a refusal means, each test says: that
//! depends on what its clients do.

use tercet_core::{
    outcome::{Outcome, ReplyMode},
    transaction::State,
};
use tercet_sdk::{
    client::{Error, Outcome as Told, Refused, Transaction, TransactionState},
    proto::{participant::v1 as participant, v1},
};

use super::{Answer, Seen};

/// What a call that wants an outcome was told.
pub fn outcome<E: Into<Error>>(
    told: Result<Told, E>,
    refused: impl FnOnce(&Refused) -> Answer,
) -> Answer {
    match told {
        Ok(told) => transaction(&told).map_or(Answer::Unknown, |it| Answer::Shown(seen(it))),
        Err(it) => error(&it.into(), refused),
    }
}

/// The transaction that an outcome came with.
pub fn transaction(told: &Told) -> Option<&Transaction> {
    match told {
        Told::Success(transaction) => Some(transaction),
        Told::Failed(failed) => Some(&failed.transaction),
        Told::Processing(processing) => processing.transaction(),
    }
}

/// What a call that reads was shown.
pub fn shown(read: Result<Transaction, Error>, refused: impl FnOnce(&Refused) -> Answer) -> Answer {
    match read {
        Ok(transaction) => Answer::Shown(seen(&transaction)),
        Err(it) => error(&it, refused),
    }
}

/// Nothing definite, unless it is a refusal.
pub fn error(error: &Error, refused: impl FnOnce(&Refused) -> Answer) -> Answer {
    error.refused().map_or(Answer::Unknown, refused)
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
