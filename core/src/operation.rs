//! The three calls of a branch, and what a participant says it has recorded.

/// Which of the three calls a branch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reserve.
    Try,
    /// Use what was reserved.
    Confirm,
    /// Release what was reserved.
    Cancel,
}

/// What a participant has durably recorded about one branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordState {
    /// Never seen.
    Unknown,
    /// Work outside the participant's database is running.
    Trying,
    /// Reserved.
    Tried,
    /// Refused; kept for work outside the participant's database.
    TryFailed,
    /// Confirm is running.
    Confirming,
    /// Used.
    Confirmed,
    /// Confirm was refused.
    ConfirmFailed,
    /// Cancel is running.
    Canceling,
    /// Released, or fenced by an empty Cancel.
    Canceled,
    /// Cancel was refused.
    CancelFailed,
}
