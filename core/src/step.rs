//! How a transaction moves: `step` for what happens to it, [`request`](crate::request) for what is
//! asked of it. Both decide and never perform, store or read a clock.
//!
//! Timers arrive by identity and leave as relative delays. Safety never depends on one: every timer
//! may fire at any time, or never.

use std::sync::Arc;

use crate::{
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    payload::Failure,
    receipt::Sealed,
    retry::{Pace, RetryPolicy},
    transaction::{
        Attempts, Attention, AttentionReason, Branch, BranchSpec, BranchState, Next, Resolution,
        State, Transaction,
    },
};

pub use crate::answer::{Answer, QueryAnswer, Recorded};

/// What happens to a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Input {
    /// A new process has loaded the record: whatever it owed may have left already.
    Recovered,
    /// A timer fired.
    Due(Timer),
    /// A Try, Confirm or Cancel ended.
    Answered {
        /// Index of the branch.
        branch: usize,
        /// Which call.
        operation: Operation,
        /// How it ended.
        answer: Answer,
    },
    /// A Query ended.
    Queried {
        /// Index of the branch.
        branch: usize,
        /// What the branch owed when the Query was sent; an answer from another phase is ignored.
        operation: Operation,
        /// How it ended.
        answer: QueryAnswer,
    },
}

/// Names a timer; one of each may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Timer {
    /// The transaction's deadline: undecided, it is canceled.
    Expire,
    /// TWO_STATE: the first caller's wait has ended.
    FirstWait,
    /// TWO_STATE: this branch's Try timeout, counted from its first Try.
    TryTimeout(usize),
    /// The next attempt of this branch.
    Attempt(usize),
}

/// What the core is not allowed to find out by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Context {
    /// A caller waits for this transaction.
    pub attended: bool,
    /// −1000 to 1000, drawn at random.
    pub jitter: i16,
}

/// What has to be stored before the step's effects may be seen outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Durability {
    /// Nothing: lost in a crash, it is found out again. It rides with the next commit.
    Memory,
    /// Soon, but nobody waits for it.
    Lazy,
    /// Before anything that follows from it leaves.
    Required,
}

/// What a step wants done.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Call a participant.
    Call(Call),
    /// Start this timer, or start it anew.
    Arm {
        /// Which.
        timer: Timer,
        /// From now, in milliseconds.
        delay_ms: u64,
    },
}

/// One call to one participant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Index of the branch.
    pub branch: usize,
    /// What the branch owes.
    pub operation: Operation,
    /// Ask what is recorded instead of performing the operation.
    pub query: bool,
    /// From 1, per kind of call.
    pub attempt: u32,
}

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Event {
    /// Index of the branch; none for events of the transaction itself.
    pub branch: Option<usize>,
    /// The call that ended, if it is about one.
    pub call: Option<Call>,
    /// How that call ended.
    pub outcome: Option<Outcome>,
    /// The transaction's state after it.
    pub state: State,
    /// The branch's state after it.
    pub branch_state: Option<BranchState>,
    /// What went wrong.
    pub failure: Option<Failure>,
}

/// What follows from an input.
#[derive(Debug)]
#[must_use = "a step that is dropped never happened"]
pub struct Step {
    /// The transaction afterwards.
    pub next: Transaction,
    /// What to add to its timeline.
    pub events: Vec<Event>,
    /// What has to be stored first.
    pub durability: Durability,
    /// What to do then.
    pub effects: Sealed,
}

impl Transaction {
    /// A transaction with all its branches, to be recorded and tried.
    pub fn submit(mode: ReplyMode, policy: Arc<RetryPolicy>, specs: Vec<Arc<BranchSpec>>) -> Step {
        let mut work = Work::new(blank(mode, policy, State::Trying));
        work.event(None, None);
        for spec in specs {
            work.add_branch(spec);
        }
        work.require()
    }

    /// An interactive transaction, without branches yet.
    pub fn begin(mode: ReplyMode, policy: Arc<RetryPolicy>) -> Step {
        let mut work = Work::new(Transaction {
            interactive: true,
            ..blank(mode, policy, State::Trying)
        });
        work.event(None, None);
        work.require()
    }

    /// The record that forbids an unknown id: its Submit may still be on its way, and must then be
    /// answered FAILED.
    pub fn forbid(cause: Failure) -> Step {
        let policy = Arc::new(RetryPolicy::default());
        let mut work = Work::new(Transaction {
            failure: Some(cause.clone()),
            ..blank(ReplyMode::ThreeState, policy, State::Canceled)
        });
        work.event(None, Some(cause));
        work.require()
    }

    /// Every call still owed in this state. Recovery is: load, then perform these when due.
    pub fn owed(&self) -> impl Iterator<Item = Call> {
        (0..self.branches.len()).filter_map(|branch| self.owed_by(branch))
    }

    /// The call this branch still owes, numbered as its next attempt.
    #[must_use]
    pub fn owed_by(&self, branch: usize) -> Option<Call> {
        let it = self.branches.get(branch)?;
        let operation = it.state.owes()?;
        let query = match it.next {
            Next::Send => false,
            Next::Query => true,
            Next::Stopped => return None,
        };
        let attempt = it.attempts.begun(operation, query).saturating_add(1);
        Some(Call {
            branch,
            operation,
            query,
            attempt,
        })
    }

    /// What follows when this happens. Never refused: an input that comes too late or twice changes
    /// nothing.
    pub fn step(&self, input: Input, context: Context) -> Step {
        let mut work = Work::within(self.clone(), context);
        match input {
            Input::Recovered => work.recovered(),
            Input::Due(timer) => work.due(timer),
            Input::Answered {
                branch,
                operation,
                answer,
            } => work.answered(branch, operation, answer),
            Input::Queried {
                branch,
                operation,
                answer,
            } => work.queried(branch, operation, answer),
        }
        work.done()
    }
}

fn blank(mode: ReplyMode, policy: Arc<RetryPolicy>, state: State) -> Transaction {
    Transaction {
        mode,
        interactive: false,
        policy,
        state,
        commit_requested: false,
        paused: false,
        failure: None,
        branches: Vec::new(),
        attentions: Vec::new(),
    }
}

/// One step in the making.
pub(crate) struct Work {
    pub(crate) tx: Transaction,
    context: Context,
    durability: Durability,
    events: Vec<Event>,
    effects: Vec<Effect>,
}

impl Work {
    pub(crate) fn new(tx: Transaction) -> Self {
        Self {
            tx,
            context: Context::default(),
            durability: Durability::Memory,
            events: Vec::new(),
            effects: Vec::new(),
        }
    }

    pub(crate) fn within(tx: Transaction, context: Context) -> Self {
        Self {
            context,
            ..Self::new(tx)
        }
    }

    pub(crate) fn done(self) -> Step {
        Step {
            next: self.tx,
            events: self.events,
            durability: self.durability,
            effects: Sealed::new(self.durability, self.effects),
        }
    }

    pub(crate) fn require(mut self) -> Step {
        self.durability = Durability::Required;
        self.done()
    }

    fn recovered(&mut self) {
        if self.tx.state == State::Trying && self.tx.mode == ReplyMode::TwoState {
            let cause = "the coordinator restarted before every Try had answered";
            return self.decide(Decision::Cancel, Some(Failure::new("RESTARTED", cause)));
        }
        for branch in &mut self.tx.branches {
            if branch.next == Next::Send && branch.spec.can_query() {
                branch.next = Next::Query;
            }
        }
    }

    fn due(&mut self, timer: Timer) {
        let undecided = self.tx.state == State::Trying;
        let two_state = self.tx.mode == ReplyMode::TwoState;
        let cause = match timer {
            Timer::Attempt(branch) => return self.call(branch),
            Timer::Expire if undecided => {
                Failure::new("EXPIRED", "the deadline passed before a decision")
            }
            Timer::FirstWait if undecided && two_state => Failure::new(
                "WAIT_ENDED",
                "the first caller's wait ended before a decision",
            ),
            Timer::TryTimeout(branch) if undecided && two_state && self.is_trying(branch) => {
                let id = &self.tx.branches[branch].spec.id;
                let message = format!("the Try of branch {id} did not answer in time");
                Failure::new("TRY_TIMEOUT", message)
            }
            Timer::Expire | Timer::FirstWait | Timer::TryTimeout(_) => return,
        };
        self.decide(Decision::Cancel, Some(cause));
    }

    fn is_trying(&self, branch: usize) -> bool {
        self.tx
            .branches
            .get(branch)
            .is_some_and(|it| it.state == BranchState::Trying)
    }

    /// Records a branch and its first Try.
    pub(crate) fn add_branch(&mut self, spec: Arc<BranchSpec>) {
        let at = self.tx.branches.len();
        self.tx.branches.push(Branch {
            spec,
            state: BranchState::Trying,
            next: Next::Send,
            pace: Pace::default(),
            failed_attempts: 0,
            attempts: Attempts::default(),
            try_result: None,
            confirm_result: None,
            last_failure: None,
        });
        self.call(at);
    }

    /// Commits once every branch is tried and, when interactive, its client has asked for it.
    pub(crate) fn commit_if_ready(&mut self) {
        let asked = !self.tx.interactive || self.tx.commit_requested;
        let tried = self
            .tx
            .branches
            .iter()
            .all(|it| it.state == BranchState::Tried);
        if self.tx.state == State::Trying && asked && tried {
            self.decide(Decision::Commit, None);
        }
    }

    /// The one place where a decision is made; it reaches every recorded branch, because a record
    /// can't know whether a Try has left.
    pub(crate) fn decide(&mut self, decision: Decision, cause: Option<Failure>) {
        debug_assert_eq!(self.tx.state, State::Trying, "decided twice");
        let (state, branch_state) = match decision {
            Decision::Commit => (State::Confirming, BranchState::Confirming),
            Decision::Cancel => (State::Canceling, BranchState::Canceling),
        };
        self.tx.state = state;
        self.tx.failure.clone_from(&cause);
        self.tx
            .attentions
            .retain(|it| it.reason == AttentionReason::StateMismatch);
        self.durability = Durability::Required;
        for branch in &mut self.tx.branches {
            branch.state = branch_state;
            branch.next = Next::Send;
            branch.pace = Pace::default();
            branch.failed_attempts = 0;
        }
        self.event(None, cause);
        for branch in 0..self.tx.branches.len() {
            self.call(branch);
        }
        self.finish_if_complete();
    }

    /// Ends the transaction when its last branch has ended.
    pub(crate) fn finish_if_complete(&mut self) {
        let Some(decision) = self.tx.decision() else {
            return;
        };
        let open = self.tx.branches.iter().any(|it| it.state.owes().is_some());
        if open || self.tx.state.is_terminal() {
            return;
        }
        let given_up = BranchState::Resolved(Resolution::Abandoned);
        self.tx.state = if self.tx.branches.iter().any(|it| it.state == given_up) {
            let message = "an operator gave up at least one branch";
            self.tx.failure = Some(Failure::new("RESOLVED_BY_OPERATOR", message));
            State::Mixed(decision)
        } else {
            match decision {
                Decision::Commit => State::Confirmed,
                Decision::Cancel => State::Canceled,
            }
        };
        self.tx.paused = false; // nothing is left to stop, and an ended transaction changes no more
        self.durability = Durability::Required;
        self.event(None, None);
    }

    /// Begins the call this branch owes, unless an operator has paused calls.
    pub(crate) fn call(&mut self, branch: usize) {
        let Some(call) = self.tx.owed_by(branch) else {
            return;
        };
        if self.tx.paused {
            return;
        }
        let it = &mut self.tx.branches[branch];
        let first_try = call.operation == Operation::Try && !call.query && call.attempt == 1;
        it.attempts.begin(call);
        self.effects.push(Effect::Call(call));
        if first_try && self.tx.mode == ReplyMode::TwoState {
            self.effects.push(Effect::Arm {
                timer: Timer::TryTimeout(branch),
                delay_ms: it.spec.try_timeout_ms,
            });
        }
    }

    /// Lets the next attempt of this branch begin after the next interval, or after the
    /// participant's own.
    pub(crate) fn wait(&mut self, branch: usize, retry_after_ms: Option<u64>) {
        let delay_ms = match retry_after_ms {
            Some(asked_ms) => crate::retry::retry_after(asked_ms),
            None => {
                let policy = &self.tx.policy;
                let it = &mut self.tx.branches[branch];
                let Context { attended, jitter } = self.context;
                let (delay_ms, pace) = policy.next(it.pace, attended, jitter);
                it.pace = pace;
                delay_ms
            }
        };
        self.arm_attempt(branch, delay_ms);
    }

    /// A refused Confirm or Cancel is repeated at the ladder's last interval.
    pub(crate) fn wait_longest(&mut self, branch: usize) {
        let delay_ms = self.tx.policy.last(self.context.jitter);
        self.arm_attempt(branch, delay_ms);
    }

    fn arm_attempt(&mut self, branch: usize, delay_ms: u64) {
        let timer = Timer::Attempt(branch);
        self.effects.push(Effect::Arm { timer, delay_ms });
        self.at_least(Durability::Lazy);
    }

    pub(crate) fn at_least(&mut self, durability: Durability) {
        self.durability = self.durability.max(durability);
    }

    /// Asks a person to look; the same reason for the same branch stands once.
    pub(crate) fn raise(&mut self, reason: AttentionReason, branch: usize, detail: &str) {
        let known = |it: &Attention| it.reason == reason && it.branch == branch;
        if !self.tx.attentions.iter().any(known) {
            let detail = detail.into();
            self.tx.attentions.push(Attention {
                reason,
                branch,
                detail,
            });
        }
        self.at_least(Durability::Lazy);
    }

    /// A line of the timeline about the transaction, or about a branch nobody called.
    pub(crate) fn event(&mut self, branch: Option<usize>, failure: Option<Failure>) {
        let branch_state = branch.map(|at| self.tx.branches[at].state);
        let state = self.tx.state;
        self.events.push(Event {
            branch,
            call: None,
            outcome: None,
            state,
            branch_state,
            failure,
        });
    }

    /// A line of the timeline about a call that ended.
    pub(crate) fn call_event(&mut self, call: Call, outcome: Outcome, failure: Option<Failure>) {
        self.events.push(Event {
            branch: Some(call.branch),
            call: Some(call),
            outcome: Some(outcome),
            state: self.tx.state,
            branch_state: Some(self.tx.branches[call.branch].state),
            failure,
        });
    }
}
