//! The coordinator's side of one transaction, as plain data.

use crate::outcome::Decision;

/// Where a transaction stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Undecided.
    Trying,
    /// Commit decided, durable, irreversible.
    Confirming,
    /// Terminal: every branch confirmed.
    Confirmed,
    /// Cancel decided, durable, irreversible.
    Canceling,
    /// Terminal: every branch canceled.
    Canceled,
    /// Terminal: an operator gave up at least one branch; the decision stands.
    Mixed(Decision),
}
