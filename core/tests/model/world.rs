//! The world of the model: one transaction, its coordinator, its store, a network and two
//! participants. Everything that may happen may happen at any time, and any number of times.
//!
//! - The network loses, repeats and delays without bound: a call that was sent stays, and may
//!   arrive again or never. A reply that was ever possible may be heard at any time, and an answer
//!   to a Query may be as old as the decision before it (older ones arrive too, to be ignored).
//! - The coordinator crashes as often as it likes: its memory becomes what the store holds, and
//!   nobody answers the Queries of the old process any more.
//! - A participant with work outside its database crashes as often as it likes, and loses its jobs.
//! - Timers fire whenever they like, expiry too.
//!
//! Left out of the state, because nothing else depends on them: how far the retry intervals have
//! come, how often something was tried beyond the second Try, results, reasons, and the texts of
//! attentions. So the space is finite without a bound on anything that happens.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use tercet_core::{
    check,
    ids::{BranchId, ParticipantName},
    operation::{Operation, RecordState},
    outcome::{Decision, Outcome},
    payload::{Failure, Payload},
    receipt::Receipt,
    request::Request,
    step::{Answer, Call, Context, Durability, Effect, Input, QueryAnswer, Recorded, Step, Timer},
    transaction::{
        Attempts, AttentionReason, BranchSpec, BranchState, Next, Resolution, State, Target,
        Transaction,
    },
};

use crate::participant::{Participant, Reply};

pub(crate) const BRANCHES: usize = 2;
pub(crate) const OPERATIONS: [Operation; 3] =
    [Operation::Try, Operation::Confirm, Operation::Cancel];
pub(crate) const RECORD_STATES: [RecordState; 8] = [
    RecordState::Unknown,
    RecordState::Trying,
    RecordState::Tried,
    RecordState::TryFailed,
    RecordState::Confirming,
    RecordState::Confirmed,
    RecordState::Canceling,
    RecordState::Canceled,
];

/// Everything that distinguishes one moment from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    /// What is durable, and so what everybody is told.
    pub(crate) store: Option<Record>,
    /// What the process goes by.
    pub(crate) memory: Option<Record>,
    /// Per branch.
    pub(crate) wires: [Wire; BRANCHES],
    /// Per branch.
    pub(crate) participants: [Participant; BRANCHES],
    /// The first invariant that did not hold.
    pub(crate) broken: Option<&'static str>,
}

/// A transaction, compared and hashed by what can differ within one scenario.
#[derive(Clone, Debug)]
pub(crate) struct Record(pub(crate) Arc<Transaction>);

/// What was sent to one participant; what was sent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wire {
    /// One bit an operation.
    calls: u8,
    /// This process has sent a Query since the branch came to owe what it owes.
    pub(crate) asked: bool,
}

impl Wire {
    pub(crate) fn carries(self, operation: Operation) -> bool {
        self.calls & bit(operation) != 0
    }
}

fn bit(operation: Operation) -> u8 {
    1 << operation as u8
}

impl World {
    /// Nothing has happened; `remote`: which participants work outside their database.
    pub(crate) fn new(remote: [bool; BRANCHES]) -> Self {
        Self {
            store: None,
            memory: None,
            wires: [Wire::default(); BRANCHES],
            participants: remote.map(|remote| Participant {
                remote,
                ..Participant::default()
            }),
            broken: None,
        }
    }

    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.memory.as_ref().map(|it| &*it.0)
    }

    pub(crate) fn durable(&self) -> Option<&Transaction> {
        self.store.as_ref().map(|it| &*it.0)
    }

    /// A record comes into being.
    pub(crate) fn opens(&mut self, step: Step) {
        self.perform(step);
    }

    pub(crate) fn happens(&mut self, input: Input) {
        if let Some(memory) = self.memory.clone() {
            self.perform(memory.0.step(input, Context::default()));
        }
    }

    /// True when it was accepted.
    pub(crate) fn asked(&mut self, request: Request) -> bool {
        let Some(memory) = self.memory.clone() else {
            return false;
        };
        let Ok(step) = memory.0.request(request, Context::default()) else {
            return false;
        };
        self.perform(step);
        true
    }

    /// What the engine does with a step: commit when it must be durable, then its effects. A crash
    /// between the two is a network that loses them.
    fn perform(&mut self, step: Step) {
        let next = Record::of(step.next);
        self.forget_queries(&next.0);
        if let Some(before) = self.memory.take() {
            self.judge(check::legal(&before.0, &next.0));
        } else {
            self.judge(check::well_formed(&next.0));
        }
        self.memory = Some(next.clone());
        let effects = if step.durability == Durability::Required {
            self.commit(next);
            step.effects.open(Receipt::acknowledge())
        } else {
            step.effects.open_unsynced().unwrap_or_default()
        };
        for effect in effects {
            if let Effect::Call(call) = effect {
                self.send(call);
            }
        }
    }

    /// Queries of an operation that is owed no more don't count.
    fn forget_queries(&mut self, next: &Transaction) {
        for (at, branch) in next.branches.iter().enumerate() {
            let before = self.transaction().and_then(|tx| tx.branches.get(at));
            let owed = before.and_then(|it| it.state.owes());
            if owed != branch.state.owes() {
                self.wires[at].asked = false;
                self.participants[at].forgets();
            }
        }
    }

    /// What was said of a transaction is what its last durable record says: it never goes back.
    fn commit(&mut self, next: Record) {
        if let Some(before) = self.store.take() {
            self.judge(check::legal(&before.0, &next.0));
            let told = before.0.outcome();
            self.ensure(
                told == Outcome::Processing || told == next.0.outcome(),
                "S8",
            );
        }
        self.store = Some(next.as_loaded());
    }

    /// What the process knows reaches the store, with some other commit.
    pub(crate) fn flushes(&mut self) {
        if let Some(memory) = self.memory.clone() {
            self.commit(memory);
        }
    }

    /// Memory is lost, connections break, and a new process loads the record.
    pub(crate) fn crashes(&mut self) {
        self.memory = self.store.clone();
        for wire in &mut self.wires {
            wire.asked = false;
        }
        self.happens(Input::Recovered);
    }

    /// S7: no call leaves before the record that justifies it is durable.
    fn send(&mut self, call: Call) {
        let justified = self.durable().is_some_and(|durable| {
            let owed = match durable.decision() {
                None => Operation::Try,
                Some(Decision::Commit) => Operation::Confirm,
                Some(Decision::Cancel) => Operation::Cancel,
            };
            durable.branches.len() > call.branch && owed == call.operation && !durable.paused
        });
        self.ensure(justified, "S7");
        let wire = &mut self.wires[call.branch];
        if call.query {
            wire.asked = true;
        } else {
            wire.calls |= bit(call.operation);
        }
    }

    /// A reply reaches the coordinator.
    pub(crate) fn hears(&mut self, branch: usize, operation: Operation, reply: Reply) {
        let answer = match reply {
            Reply::Success => Answer::Success(None),
            Reply::Failed => Answer::Failed(Failure::default()),
            Reply::Processing => Answer::Processing {
                retry_after_ms: None,
            },
        };
        self.happens(Input::Answered {
            branch,
            operation,
            answer,
        });
    }

    /// A call is given up on, or its reply was lost.
    pub(crate) fn loses(&mut self, branch: usize, query: bool) {
        if query {
            self.is_answered(branch, QueryAnswer::Indeterminate(Failure::default()));
        } else if let Some(operation) = self.owed(branch) {
            let answer = Answer::Indeterminate(Failure::default());
            self.happens(Input::Answered {
                branch,
                operation,
                answer,
            });
        }
    }

    pub(crate) fn learns_nothing(&mut self, branch: usize) {
        self.is_answered(branch, QueryAnswer::Unclear);
    }

    fn is_answered(&mut self, branch: usize, answer: QueryAnswer) {
        if let Some(operation) = self.owed(branch) {
            self.happens(Input::Queried {
                branch,
                operation,
                answer,
            });
        }
    }

    fn owed(&self, branch: usize) -> Option<Operation> {
        let call = self.transaction().and_then(|tx| tx.owed_by(branch));
        call.map(|it| it.operation)
    }

    /// An answer to a Query reaches the coordinator.
    pub(crate) fn learns(&mut self, branch: usize, operation: Operation, state: RecordState) {
        let recorded = Recorded {
            state,
            try_result: None,
            confirm_result: None,
            failure: None,
            retry_after_ms: None,
        };
        self.happens(Input::Queried {
            branch,
            operation,
            answer: QueryAnswer::Recorded(Box::new(recorded)),
        });
    }

    fn judge(&mut self, verdict: Result<(), check::Violation>) {
        if let Err(violation) = verdict {
            self.broken.get_or_insert(violation.invariant);
        }
    }

    pub(crate) fn ensure(&mut self, holds: bool, invariant: &'static str) {
        if !holds {
            self.broken.get_or_insert(invariant);
        }
    }

    pub(crate) fn attends(&self, reason: AttentionReason) -> bool {
        self.transaction()
            .is_some_and(|tx| tx.attentions.iter().any(|it| it.reason == reason))
    }

    pub(crate) fn any_branch(&self, state: BranchState) -> bool {
        self.transaction()
            .is_some_and(|tx| tx.branches.iter().any(|it| it.state == state))
    }
}

impl Record {
    /// Without what no rule depends on.
    fn of(mut tx: Transaction) -> Self {
        tx.failure = None;
        tx.attentions
            .retain(|it| it.reason != AttentionReason::RetriesExceeded);
        for attention in &mut tx.attentions {
            attention.detail = "".into();
        }
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
}

impl Record {
    /// A new process asks first, whatever was stored: nothing reads that.
    fn as_loaded(&self) -> Self {
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
    Arc::new(BranchSpec {
        id: branch_id(branch),
        target: Target::Contract {
            participant: ParticipantName::parse("stock").expect("a name"),
            resource: "reserve".into(),
        },
        payload: Payload::default(),
        try_timeout_ms: 3_000,
    })
}

pub(crate) fn branch_id(branch: usize) -> BranchId {
    BranchId::parse(["a", "b"][branch]).expect("an id")
}

pub(crate) fn resolve(
    branch: usize,
    resolution: Resolution,
    recorded: Option<RecordState>,
) -> Request {
    Request::Resolve {
        branch: branch_id(branch),
        resolution,
        overdue: true,
        recorded,
    }
}

/// Timers that the reply mode arms beyond the attempts.
pub(crate) const TWO_STATE_TIMERS: [Timer; 3] =
    [Timer::FirstWait, Timer::TryTimeout(0), Timer::TryTimeout(1)];

pub(crate) fn is_open(state: State) -> bool {
    !state.is_terminal()
}
