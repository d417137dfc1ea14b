//! Why the engine did not do what was asked. A transaction that failed is no error.

use std::time::Duration;

use tercet_core::{
    ids::{BranchId, TransactionId},
    request::Refusal,
};

use crate::{participants::TargetError, store::StoreError};

/// Why a request was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// No transaction of this id is known. It does not mean that it did not happen.
    #[error("no transaction {0} is known")]
    NotFound(TransactionId),
    /// The id belongs to a transaction with other content.
    #[error("transaction {0} exists with other content; use a new id for a new transaction")]
    IdReused(TransactionId),
    /// The Submit arrived later than its sender meant.
    #[error(
        "transaction {id} arrived {late_ms} ms after its submit_expire_time and was not started"
    )]
    SubmitExpired {
        /// Which transaction.
        id: TransactionId,
        /// By how much it was late.
        late_ms: u64,
    },
    /// The protocol does not allow it.
    #[error("transaction {id}: {refusal}")]
    Refused {
        /// Which transaction.
        id: TransactionId,
        /// Why.
        refusal: Refusal,
    },
    /// A branch's target can't be called.
    #[error("branch {branch}: {error}")]
    Target {
        /// Which branch.
        branch: BranchId,
        /// Why.
        error: TargetError,
    },
    /// A participant's report without the transaction's token.
    #[error("the report_token is not the one that was sent with the calls of transaction {0}")]
    ReportToken(TransactionId),
    /// As much is in flight as is allowed, or its turn to begin did not come in time.
    #[error(
        "too many transactions are in flight or wait to begin, of {limit} that this coordinator takes on right now; try again later"
    )]
    InflightLimit {
        /// The limit.
        limit: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// The transaction is known and goes on, but too many ask something of it at once.
    #[error(
        "{waiting} callers already ask something of transaction {id}; it goes on, ask again later"
    )]
    Busy {
        /// Which transaction.
        id: TransactionId,
        /// How many callers wait.
        waiting: usize,
        /// When to ask again.
        retry_after: Duration,
    },
    /// TWO_STATE: this caller's wait ended before the decision, which it may not shorten.
    #[error("the wait ended before transaction {0} was decided; send the same request again")]
    WaitEnded(TransactionId),
    /// The coordinator is going away; what is known is finished by its next start.
    #[error("the coordinator is shutting down; try again, or another one")]
    ShuttingDown,
    /// The store did not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
}
