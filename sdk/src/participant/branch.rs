//! Which branch of which transaction a call is about.

use std::{collections::BTreeMap, fmt};

use tercet_core::ids::{BranchId, Realm, TransactionId};

/// Names one branch for ever: the key of its fence row.
///
/// Shown as `realm/transaction/branch`; `/` stands in no id, so two keys never read the same. That
/// makes it a good idempotency key towards a system outside of the database.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BranchKey {
    /// The store the transaction lives in; ids are unique within it.
    pub realm: Realm,
    /// The transaction.
    pub transaction_id: TransactionId,
    /// The branch, unique within the transaction.
    pub branch_id: BranchId,
}

impl fmt::Display for BranchKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            realm,
            transaction_id,
            branch_id,
        } = self;
        write!(f, "{realm}/{transaction_id}/{branch_id}")
    }
}

/// What a call of the coordinator says about its branch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Branch {
    /// Its name.
    pub key: BranchKey,
    /// Which of the participant's resources is meant.
    pub resource: String,
    /// Counts from 1, per operation.
    pub attempt: i32,
    /// Grows whenever another coordinator takes the transaction over.
    pub epoch: i64,
    /// When the transaction was created, Unix milliseconds.
    pub create_time_ms: Option<i64>,
    /// The transaction's deadline, Unix milliseconds. Never cancel by it: only the coordinator
    /// decides.
    pub expire_time_ms: i64,
    /// Migration switches, pinned when the transaction was created.
    pub switches: BTreeMap<String, String>,
    /// The client's labels.
    pub labels: BTreeMap<String, String>,
    /// To be given back in `CoordinatorService.ReportBranch`, by work that ends later.
    pub report_token: String,
}

impl Branch {
    /// `realm/transaction/branch`: the same for every repetition of every call of this branch, and
    /// for no other.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        self.key.to_string()
    }
}
