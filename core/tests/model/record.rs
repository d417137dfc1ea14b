//! A transaction as the model keeps it: compared and hashed by what can differ within a scenario.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher},
    sync::{Arc, OnceLock},
};

use tercet_core::{
    ids::{BranchId, ParticipantName},
    payload::Payload,
    transaction::{Attempts, AttentionReason, BranchSpec, BranchState, Next, Target, Transaction},
};

/// A transaction without what no rule depends on. Equal ones are the same one.
#[derive(Clone, Debug)]
pub(crate) struct Record(Arc<Kept>);

#[derive(Debug)]
struct Kept {
    tx: Transaction,
    hash: u64,
    loaded: OnceLock<Record>,
}

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
        Self::kept(tx)
    }

    fn kept(tx: Transaction) -> Self {
        thread_local! {
            static KNOWN: RefCell<HashMap<Transaction, Record>> = RefCell::default();
        }
        KNOWN.with_borrow_mut(|known| {
            if let Some(record) = known.get(&tx) {
                return record.clone();
            }
            let record = Self(Arc::new(Kept {
                hash: BuildHasherDefault::<DefaultHasher>::default().hash_one(&tx),
                tx: tx.clone(),
                loaded: OnceLock::new(),
            }));
            known.insert(tx, record.clone());
            record
        })
    }

    pub(crate) fn transaction(&self) -> &Transaction {
        &self.0.tx
    }

    /// One address a record, as long as the thread runs that made it.
    pub(crate) fn address(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// A new process asks first, whatever was stored: nothing reads that.
    pub(crate) fn as_loaded(&self) -> Self {
        let loaded = self.0.loaded.get_or_init(|| {
            let mut tx = self.0.tx.clone();
            for branch in &mut tx.branches {
                if branch.state.owes().is_some() && branch.next == Next::Send {
                    branch.next = Next::Query;
                }
            }
            Self::kept(tx)
        });
        loaded.clone()
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.hash == other.0.hash && self.0.tx == other.0.tx
    }
}

impl Eq for Record {}

impl Hash for Record {
    fn hash<H: Hasher>(&self, into: &mut H) {
        self.0.hash.hash(into);
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
    Arc::new(BranchSpec {
        try_timeout_ms: 1,
        ..new_spec(branch)
    })
}

pub(crate) fn branch_id(branch: usize) -> BranchId {
    spec(branch).id.clone()
}

fn new_spec(branch: usize) -> BranchSpec {
    BranchSpec {
        id: BranchId::parse(["a", "b", "c"][branch]).expect("an id"),
        target: Target::Contract {
            participant: ParticipantName::parse("stock").expect("a name"),
            resource: "reserve".into(),
        },
        payload: Payload::default(),
        try_timeout_ms: 3_000,
    }
}
