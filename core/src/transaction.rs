//! The coordinator's side of one transaction, as plain data.
//!
//! Fields are public because the codec, the interface and the model read them; only
//! [`step`](crate::step) changes them, and [`check`](crate::check) says which values can't be.

use std::sync::Arc;

use crate::{
    ids::{BranchId, ParticipantName},
    operation::Operation,
    outcome::{self, Decision, Outcome, ReplyMode},
    payload::{Failure, Payload},
    retry::{Pace, RetryPolicy},
    step::Call,
};

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

impl State {
    /// What was decided, if it was.
    #[must_use]
    pub fn decision(self) -> Option<Decision> {
        match self {
            State::Trying => None,
            State::Confirming | State::Confirmed => Some(Decision::Commit),
            State::Canceling | State::Canceled => Some(Decision::Cancel),
            State::Mixed(decision) => Some(decision),
        }
    }

    /// True when nothing is left to do, for ever.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        match self {
            State::Confirmed | State::Canceled | State::Mixed(_) => true,
            State::Trying | State::Confirming | State::Canceling => false,
        }
    }
}

/// One transaction: the state machine's whole memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Transaction {
    /// Pinned when it was created.
    pub mode: ReplyMode,
    /// Branches are added one by one by its client, who also asks for the commit.
    pub interactive: bool,
    /// When indeterminate calls are repeated.
    pub policy: Arc<RetryPolicy>,
    /// Where it stands; the decision is part of it.
    pub state: State,
    /// The client of an interactive transaction asked to commit.
    pub commit_requested: bool,
    /// An operator stopped its calls; decisions go on.
    pub paused: bool,
    /// The first cause of a rollback, or that an operator resolved it.
    pub failure: Option<Failure>,
    /// In the order in which they were recorded.
    pub branches: Vec<Branch>,
    /// Why a person should look.
    pub attentions: Vec<Attention>,
}

/// One branch of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Branch {
    /// As its client gave it.
    pub spec: Arc<BranchSpec>,
    /// Where it stands.
    pub state: BranchState,
    /// What a due attempt begins with.
    pub next: Next,
    /// How far it has come through the retry intervals of its current operation.
    pub pace: Pace,
    /// Failed attempts of its current operation; an explicit PROCESSING is none.
    pub failed_attempts: u32,
    /// Calls begun, by kind, over its whole life.
    pub attempts: Attempts,
    /// What its Try returned.
    pub try_result: Option<Payload>,
    /// What its Confirm returned.
    pub confirm_result: Option<Payload>,
    /// The last thing that went wrong.
    pub last_failure: Option<Failure>,
}

/// What a client asks of one participant. Never changes once recorded.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct BranchSpec {
    /// Unique within the transaction.
    pub id: BranchId,
    /// Whom to call, and how.
    pub target: Target,
    /// Given to Try, and again to Confirm and Cancel.
    pub payload: Payload,
    /// The deadline of one Try call.
    pub try_timeout_ms: u64,
}

impl BranchSpec {
    /// Whether the participant can be asked what it has recorded.
    #[must_use]
    pub fn can_query(&self) -> bool {
        match &self.target {
            Target::Contract { .. } => true,
            Target::Methods(methods) => methods.query_method.is_some(),
        }
    }
}

/// Whom to call, and how.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// A participant that implements ParticipantService, with its fence.
    Contract {
        /// Its registered name.
        participant: ParticipantName,
        /// Which of its resources.
        resource: Arc<str>,
    },
    /// Existing unary methods, which must refuse a late Try by themselves.
    Methods(Methods),
}

/// Existing unary methods that serve as a participant. Paths look like `/pkg.Service/Method`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Methods {
    /// A registered participant's name, or an allow-listed URI.
    pub endpoint: Arc<str>,
    /// Called for Try.
    pub try_method: Arc<str>,
    /// Called for Confirm.
    pub confirm_method: Arc<str>,
    /// Called for Cancel.
    pub cancel_method: Arc<str>,
    /// Called to learn what happened; without it an indeterminate call is repeated.
    pub query_method: Option<Arc<str>>,
    /// Sent with Confirm instead of the branch's payload.
    pub confirm_payload: Option<Payload>,
    /// Sent with Cancel instead of the branch's payload.
    pub cancel_payload: Option<Payload>,
}

/// Where a branch stands. A refused Try has no state of its own: it decides cancel, and every
/// recorded branch is then canceled, the refused one too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BranchState {
    /// Recorded; its Try may have left; no definitive answer yet.
    Trying,
    /// Reserved.
    Tried,
    /// To be confirmed.
    Confirming,
    /// Terminal.
    Confirmed,
    /// To be canceled.
    Canceling,
    /// Terminal.
    Canceled,
    /// Terminal: closed by an operator.
    Resolved(Resolution),
}

impl BranchState {
    /// The operation it still owes its participant, if any.
    #[must_use]
    pub fn owes(self) -> Option<Operation> {
        match self {
            BranchState::Trying => Some(Operation::Try),
            BranchState::Confirming => Some(Operation::Confirm),
            BranchState::Canceling => Some(Operation::Cancel),
            BranchState::Tried
            | BranchState::Confirmed
            | BranchState::Canceled
            | BranchState::Resolved(_) => None,
        }
    }
}

/// How an operator closed a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// The effect was reached by hand: counts as confirmed or canceled.
    Done,
    /// It never will be: the transaction ends MIXED.
    Abandoned,
}

/// What the next attempt of an unfinished branch begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Next {
    /// The operation itself.
    Send,
    /// A Query, and then at once what follows from its answer.
    Query,
    /// Nothing: the participant's record contradicts ours, and a person has to look.
    Stopped,
}

/// Calls begun, by kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attempts {
    /// Try calls.
    pub tries: u32,
    /// Confirm calls.
    pub confirms: u32,
    /// Cancel calls.
    pub cancels: u32,
    /// Query calls.
    pub queries: u32,
}

impl Attempts {
    /// How many calls of this kind were begun.
    #[must_use]
    pub fn begun(&self, operation: Operation, query: bool) -> u32 {
        match (query, operation) {
            (true, _) => self.queries,
            (false, Operation::Try) => self.tries,
            (false, Operation::Confirm) => self.confirms,
            (false, Operation::Cancel) => self.cancels,
        }
    }

    pub(crate) fn begin(&mut self, call: Call) {
        let count = match (call.query, call.operation) {
            (true, _) => &mut self.queries,
            (false, Operation::Try) => &mut self.tries,
            (false, Operation::Confirm) => &mut self.confirms,
            (false, Operation::Cancel) => &mut self.cancels,
        };
        *count = call.attempt;
    }
}

/// A reason why a person should look, and what about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Attention {
    /// Why.
    pub reason: AttentionReason,
    /// Index of the branch it is about.
    pub branch: usize,
    /// What was seen.
    pub detail: Arc<str>,
}

/// Why a person should look. Beside the state, never a state: the work goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AttentionReason {
    /// Failed attempts of one operation passed the policy's threshold.
    RetriesExceeded,
    /// Confirm or Cancel answered FAILED.
    Refused,
    /// The participant's record contradicts the transaction.
    StateMismatch,
    /// A reply was larger than the limit and could not be read.
    ReplyTooLarge,
}

impl Transaction {
    /// What was decided, if it was.
    #[must_use]
    pub fn decision(&self) -> Option<Decision> {
        self.state.decision()
    }

    /// What its client may rely on.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        outcome::outcome(self.state, self.mode)
    }

    /// The position of a branch.
    #[must_use]
    pub fn position(&self, id: &BranchId) -> Option<usize> {
        self.branches
            .iter()
            .position(|branch| branch.spec.id == *id)
    }
}
