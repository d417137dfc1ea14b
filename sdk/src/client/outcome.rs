//! What came of a transaction, and the transaction as it was read.

use std::time::{Duration, SystemTime};

use super::{Client, Error, Watch};
use crate::proto::{
    participant::v1::{Failure, Outcome as OutcomeCode, Payload},
    v1::{self, BranchState, Decision, TransactionState},
};

/// One of three, and the third is not the second: what is PROCESSING may yet succeed.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Committed, and never taken back.
    Success(Transaction),
    /// Rolled back, and nothing of it will ever be confirmed.
    Failed(Failed),
    /// Not known yet.
    Processing(Processing),
}

impl Outcome {
    pub(crate) fn new(client: &Client, transaction: v1::Transaction) -> Self {
        let transaction = Transaction(transaction);
        match transaction.outcome() {
            OutcomeCode::Success => Self::Success(transaction),
            OutcomeCode::Failed => Self::Failed(Failed::new(transaction)),
            OutcomeCode::Processing | OutcomeCode::Unspecified => Self::Processing(Processing {
                client: client.clone(),
                transaction_id: transaction.id().to_owned(),
                last: Ok(Box::new(transaction)),
            }),
        }
    }

    pub(crate) fn unknown(client: &Client, id: &str, cause: Error) -> Self {
        Self::Processing(Processing {
            client: client.clone(),
            transaction_id: id.to_owned(),
            last: Err(cause),
        })
    }
}

/// A transaction that was rolled back.
#[derive(Clone, Debug)]
pub struct Failed {
    /// The first cause, for programs: a participant's own reason (`OUT_OF_STOCK`) or one of the
    /// coordinator's. Empty if none was recorded.
    pub reason: String,
    /// The first cause, for people.
    pub message: String,
    /// All that is known of it.
    pub transaction: Transaction,
}

impl Failed {
    fn new(transaction: Transaction) -> Self {
        let failure = transaction.failure().cloned().unwrap_or_default();
        Self {
            reason: failure.reason,
            message: failure.message,
            transaction,
        }
    }
}

/// A transaction whose outcome isn't known: it may be running, or be about to, or be done.
///
/// Keep its id; ask again, with [`Processing::wait`] or by submitting the same again.
#[derive(Clone, Debug)]
pub struct Processing {
    client: Client,
    transaction_id: String,
    last: Result<Box<Transaction>, Error>,
}

impl Processing {
    /// The id to ask by.
    #[must_use]
    pub fn transaction_id(&self) -> &str {
        &self.transaction_id
    }

    /// The transaction as the coordinator showed it, unless it didn't answer.
    #[must_use]
    pub fn transaction(&self) -> Option<&Transaction> {
        self.last.as_deref().ok()
    }

    /// Why the coordinator's answer is missing, unless it is there: what the last attempt ran into.
    #[must_use]
    pub fn cause(&self) -> Option<&Error> {
        self.last.as_ref().err()
    }

    /// Waits for the outcome, through outages of the coordinator. See [`Client::wait`].
    ///
    /// # Errors
    /// As [`Client::wait`].
    pub async fn wait(&self, timeout: Duration) -> Result<Outcome, Error> {
        self.client.wait(&self.transaction_id, timeout).await
    }

    /// Follows every change from now on. See [`Client::watch`].
    #[must_use]
    pub fn watch(&self) -> Watch {
        self.client.watch(&self.transaction_id)
    }
}

/// A transaction as the coordinator has it in its memory of record.
#[derive(Clone, Debug, PartialEq)]
pub struct Transaction(pub(crate) v1::Transaction);

impl Transaction {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.0.transaction_id
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> TransactionState {
        self.0.state()
    }

    /// What its client may rely on, by its state and reply mode.
    #[must_use]
    pub fn outcome(&self) -> OutcomeCode {
        self.0.outcome()
    }

    /// Commit or cancel, once it is decided.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        Some(self.0.decision()).filter(|decision| *decision != Decision::Unspecified)
    }

    /// The first cause of a rollback.
    #[must_use]
    pub fn failure(&self) -> Option<&Failure> {
        self.0.failure.as_ref()
    }

    /// Its branches, in the order in which they were added.
    pub fn branches(&self) -> impl Iterator<Item = BranchView<'_>> {
        self.0.branches.iter().map(BranchView)
    }

    /// The branch by this id.
    #[must_use]
    pub fn branch(&self, branch_id: &str) -> Option<BranchView<'_>> {
        self.branches().find(|branch| branch.id() == branch_id)
    }

    /// Grows with every change of it.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.0.revision
    }

    /// When it is rolled back, if still undecided.
    #[must_use]
    pub fn expire_time(&self) -> Option<SystemTime> {
        SystemTime::try_from(self.0.expire_time?).ok()
    }

    /// All of it, as it came.
    #[must_use]
    pub fn as_message(&self) -> &v1::Transaction {
        &self.0
    }
}

/// One branch of a [`Transaction`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BranchView<'a>(&'a v1::Branch);

impl<'a> BranchView<'a> {
    /// Its id, unique inside the transaction.
    #[must_use]
    pub fn id(self) -> &'a str {
        &self.0.branch_id
    }

    /// The participant's name.
    #[must_use]
    pub fn participant(self) -> &'a str {
        &self.0.participant
    }

    /// Where it stands.
    #[must_use]
    pub fn state(self) -> BranchState {
        self.0.state()
    }

    /// What its Try answered.
    #[must_use]
    pub fn try_result(self) -> Option<&'a Payload> {
        self.0.try_result.as_ref()
    }

    /// What its Confirm answered.
    #[must_use]
    pub fn confirm_result(self) -> Option<&'a Payload> {
        self.0.confirm_result.as_ref()
    }

    /// What went wrong with it last.
    #[must_use]
    pub fn last_failure(self) -> Option<&'a Failure> {
        self.0.last_failure.as_ref()
    }

    /// All of it, as it came.
    #[must_use]
    pub fn as_message(self) -> &'a v1::Branch {
        self.0
    }
}

pub(crate) fn is_terminal(state: TransactionState) -> bool {
    match state {
        TransactionState::Confirmed | TransactionState::Canceled | TransactionState::Mixed => true,
        TransactionState::Unspecified
        | TransactionState::Trying
        | TransactionState::Confirming
        | TransactionState::Canceling => false,
    }
}
