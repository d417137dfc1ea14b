//! What a transaction came to, as its client is told: a pure function of state and reply mode.
//!
//! | state | TWO_STATE | THREE_STATE, ACCEPTED |
//! |---|---|---|
//! | TRYING | PROCESSING to reads; Submit and Commit never answer it | PROCESSING |
//! | CONFIRMING | SUCCESS (irreversible) | PROCESSING |
//! | CONFIRMED | SUCCESS | SUCCESS |
//! | CANCELING, CANCELED | FAILED | FAILED |
//! | MIXED | the decision's | the decision's |

use crate::transaction::State;

/// What a client may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Committed; every Confirm is acknowledged (TWO_STATE: is decided, and will be).
    Success,
    /// Rolled back, durably decided; no Confirm was or ever will be sent.
    Failed,
    /// Not finished. Never "did not happen".
    Processing,
}

/// How the interface behaves towards the client; pinned when the transaction is created.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReplyMode {
    /// SUCCESS or FAILED only; a Try timeout fails fast and is reversed in the background.
    TwoState,
    /// PROCESSING when not finished within the caller's wait; the work goes on.
    ThreeState,
    /// Durable, then answered at once; the result by Get, Wait or Watch.
    Accepted,
}

/// Made once, durable, never changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Confirm every branch.
    Commit,
    /// Cancel every branch.
    Cancel,
}

/// What a client is told of a transaction in this state.
///
/// MIXED follows its decision: anything else would take back a SUCCESS that TWO_STATE has already
/// answered, and invite a second order after a durable commit.
#[must_use]
pub fn outcome(state: State, mode: ReplyMode) -> Outcome {
    match state {
        State::Trying => Outcome::Processing,
        State::Confirming => match mode {
            ReplyMode::TwoState => Outcome::Success,
            ReplyMode::ThreeState | ReplyMode::Accepted => Outcome::Processing,
        },
        State::Confirmed | State::Mixed(Decision::Commit) => Outcome::Success,
        State::Canceling | State::Canceled | State::Mixed(Decision::Cancel) => Outcome::Failed,
    }
}
