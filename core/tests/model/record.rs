//! A transaction as the model keeps it: compared and hashed by what can differ within a scenario.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use tercet_core::{
    ids::{BranchId, ParticipantName},
    payload::Payload,
    transaction::{
        Attempts, AttentionReason, Branch, BranchSpec, BranchState, Next, Target, Transaction,
    },
};

/// A transaction without what no rule depends on.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) Arc<Transaction>);

impl Record {
    pub(crate) fn of(mut tx: Transaction) -> Self {
        tx.failure = None;
        tx.attentions.retain(|it| match it.reason {
            AttentionReason::Refused | AttentionReason::StateMismatch => true,
            AttentionReason::RetriesExceeded | AttentionReason::ReplyTooLarge => false,
        });
        for attention in &mut tx.attentions {
            attention.detail = "".into();
        }
        tx.attentions.sort_by_key(|it| (it.reason, it.branch));
        for branch in &mut tx.branches {
            branch.pace = Default::default();
            branch.failed_attempts = 0;
            branch.attempts = Attempts {
                tries: branch.attempts.tries.min(2),
                ..Attempts::default()
            };
            if branch.state != BranchState::Trying {
                branch.attempts.tries = 0;
            }
            if branch.state.owes().is_none() {
                branch.next = Next::Send;
            }
            branch.last_failure = None;
        }
        Self(Arc::new(tx))
    }

    /// A new process asks first, whatever was stored: nothing reads that.
    pub(crate) fn as_loaded(&self) -> Self {
        let asks = |at: &Branch| at.state.owes().is_none() || at.next != Next::Send;
        if self.0.branches.iter().all(asks) {
            return self.clone();
        }
        let mut tx = Transaction::clone(&self.0);
        for branch in &mut tx.branches {
            if branch.state.owes().is_some() && branch.next == Next::Send {
                branch.next = Next::Query;
            }
        }
        Self(Arc::new(tx))
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, into: &mut H) {
        let tx = &*self.0;
        (tx.state, tx.interactive, tx.commit_requested, tx.paused).hash(into);
        for branch in &tx.branches {
            (branch.state, branch.next, branch.attempts.tries).hash(into);
        }
        for attention in &tx.attentions {
            (attention.reason, attention.branch).hash(into);
        }
    }
}

pub(crate) fn spec(branch: usize) -> Arc<BranchSpec> {
    thread_local! {
        static SPECS: [Arc<BranchSpec>; 3] = std::array::from_fn(|at| Arc::new(new_spec(at)));
    }
    SPECS.with(|it| it[branch].clone())
}

/// The same id, another content.
pub(crate) fn other_spec(branch: usize) -> Arc<BranchSpec> {
    let mut spec = new_spec(branch);
    spec.try_timeout_ms += 1;
    Arc::new(spec)
}

fn new_spec(branch: usize) -> BranchSpec {
    BranchSpec {
        id: branch_id(branch),
        target: Target::Contract {
            participant: ParticipantName::parse("stock").expect("a name"),
            resource: "reserve".into(),
        },
        payload: Payload::default(),
        try_timeout_ms: 3_000,
    }
}

pub(crate) fn branch_id(branch: usize) -> BranchId {
    BranchId::parse(["a", "b", "c"][branch]).expect("an id")
}
