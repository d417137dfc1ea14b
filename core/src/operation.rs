//! The three calls of a branch, and what a participant may have recorded about them.

/// Which of the three calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reserve.
    Try,
    /// Use what Try reserved.
    Confirm,
    /// Release what Try reserved.
    Cancel,
}

/// What a participant has durably recorded about one branch, as its Query says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordState {
    /// Never seen.
    Unknown,
    /// Try is under way.
    Trying,
    /// Reserved.
    Tried,
    /// Try was refused.
    TryFailed,
    /// Confirm is under way.
    Confirming,
    /// Used; terminal.
    Confirmed,
    /// Confirm was refused.
    ConfirmFailed,
    /// Cancel is under way.
    Canceling,
    /// Released; terminal. Also the tombstone that an empty Cancel leaves.
    Canceled,
    /// Cancel was refused.
    CancelFailed,
}
