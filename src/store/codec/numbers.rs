//! The numbers that stand for the protocol's enumerations. They are what is on disks: one that was
//! given is never changed and never given again. 0 stands for nothing, because that is what a missing
//! field reads as.

use tercet_core::{
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    transaction::{AttentionReason, BranchState, Next, Resolution, State},
};

use super::DecodeError;

/// An enumeration with a number for each of its values.
pub(super) trait Numbered: Copy + 'static {
    /// What it is called in an error.
    const WHAT: &'static str;
    /// Every value; the tests hold this against the numbers.
    const ALL: &'static [Self];

    fn number(self) -> u32;

    fn of(number: u32) -> Result<Self, DecodeError> {
        let named = Self::ALL.iter().find(|it| it.number() == number);
        named.copied().ok_or(DecodeError::Number {
            what: Self::WHAT,
            number: number.into(),
        })
    }
}

impl Numbered for State {
    const WHAT: &'static str = "transaction state";
    const ALL: &'static [Self] = &[
        State::Trying,
        State::Confirming,
        State::Confirmed,
        State::Canceling,
        State::Canceled,
        State::Mixed(Decision::Commit),
        State::Mixed(Decision::Cancel),
    ];

    fn number(self) -> u32 {
        match self {
            State::Trying => 1,
            State::Confirming => 2,
            State::Confirmed => 3,
            State::Canceling => 4,
            State::Canceled => 5,
            State::Mixed(Decision::Commit) => 6,
            State::Mixed(Decision::Cancel) => 7,
        }
    }
}

impl Numbered for BranchState {
    const WHAT: &'static str = "branch state";
    const ALL: &'static [Self] = &[
        BranchState::Trying,
        BranchState::Tried,
        BranchState::Confirming,
        BranchState::Confirmed,
        BranchState::Canceling,
        BranchState::Canceled,
        BranchState::Resolved(Resolution::Done),
        BranchState::Resolved(Resolution::Abandoned),
    ];

    fn number(self) -> u32 {
        match self {
            BranchState::Trying => 1,
            BranchState::Tried => 2,
            BranchState::Confirming => 3,
            BranchState::Confirmed => 4,
            BranchState::Canceling => 5,
            BranchState::Canceled => 6,
            BranchState::Resolved(Resolution::Done) => 7,
            BranchState::Resolved(Resolution::Abandoned) => 8,
        }
    }
}

impl Numbered for Next {
    const WHAT: &'static str = "next attempt";
    const ALL: &'static [Self] = &[Next::Send, Next::Query, Next::Stopped];

    fn number(self) -> u32 {
        match self {
            Next::Send => 1,
            Next::Query => 2,
            Next::Stopped => 3,
        }
    }
}

impl Numbered for ReplyMode {
    const WHAT: &'static str = "reply mode";
    const ALL: &'static [Self] = &[
        ReplyMode::TwoState,
        ReplyMode::ThreeState,
        ReplyMode::Accepted,
    ];

    fn number(self) -> u32 {
        match self {
            ReplyMode::TwoState => 1,
            ReplyMode::ThreeState => 2,
            ReplyMode::Accepted => 3,
        }
    }
}

impl Numbered for Operation {
    const WHAT: &'static str = "operation";
    const ALL: &'static [Self] = &[Operation::Try, Operation::Confirm, Operation::Cancel];

    fn number(self) -> u32 {
        match self {
            Operation::Try => 1,
            Operation::Confirm => 2,
            Operation::Cancel => 3,
        }
    }
}

impl Numbered for Outcome {
    const WHAT: &'static str = "outcome";
    const ALL: &'static [Self] = &[Outcome::Success, Outcome::Failed, Outcome::Processing];

    fn number(self) -> u32 {
        match self {
            Outcome::Success => 1,
            Outcome::Failed => 2,
            Outcome::Processing => 3,
        }
    }
}

impl Numbered for AttentionReason {
    const WHAT: &'static str = "attention reason";
    const ALL: &'static [Self] = &[
        AttentionReason::RetriesExceeded,
        AttentionReason::Refused,
        AttentionReason::StateMismatch,
        AttentionReason::ReplyTooLarge,
    ];

    fn number(self) -> u32 {
        match self {
            AttentionReason::RetriesExceeded => 1,
            AttentionReason::Refused => 2,
            AttentionReason::StateMismatch => 3,
            AttentionReason::ReplyTooLarge => 4,
        }
    }
}
