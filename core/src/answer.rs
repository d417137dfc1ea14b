//! What participants answer, and what follows from it.
//!
//! Only the participant's own FAILED is a failure. A timeout, a lost connection, any other gRPC
//! error and an unreadable reply are indeterminate: the next attempt asks first, then acts by the
//! table in `Work::recorded`, one row a line.

use crate::{
    operation::{Operation, RecordState},
    outcome::{Decision, Outcome},
    payload::{Failure, Payload},
    step::{Call, Durability, Work},
    transaction::{AttentionReason, BranchState, Next},
};

/// How a Try, Confirm or Cancel ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Answer {
    /// Done, durably.
    Success(Option<Payload>),
    /// Refused by the participant itself.
    Failed(Failure),
    /// Accepted, not finished.
    Processing {
        /// When to ask, if the participant said so.
        retry_after_ms: Option<u64>,
    },
    /// Not sent, by a rule of ours: for a first Try that decides cancel.
    NotSent(Failure),
    /// A reply came and was too large to be read.
    TooLarge(Failure),
    /// Anything else: it may or may not have happened.
    Indeterminate(Failure),
}

/// How a Query ended.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum QueryAnswer {
    /// The participant said what it has recorded.
    Recorded(Box<Recorded>),
    /// It can't say: the method is not implemented, or the state unspecified.
    Unclear,
    /// A reply came and was too large to be read.
    TooLarge(Failure),
    /// No answer.
    Indeterminate(Failure),
}

/// What a participant has recorded about one branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Recorded {
    /// Where the branch stands there.
    pub state: RecordState,
    /// As good as the Try reply that was lost.
    pub try_result: Option<Payload>,
    /// As good as the Confirm reply that was lost.
    pub confirm_result: Option<Payload>,
    /// Why something was refused.
    pub failure: Option<Failure>,
    /// When to ask again, if the participant said so.
    pub retry_after_ms: Option<u64>,
}

impl Work {
    pub(crate) fn answered(&mut self, branch: usize, operation: Operation, answer: Answer) {
        let Some(call) = self.current(branch, operation, false) else {
            if let Answer::Success(_) = answer {
                self.done_after_resolution(branch, operation);
            }
            return;
        };
        match answer {
            Answer::Success(result) => self.succeeded(call, result),
            Answer::Failed(failure) => self.refused(call, failure),
            Answer::Processing { retry_after_ms } => {
                self.tx.branches[branch].next = self.ask_next(branch);
                self.call_event(call, Outcome::Processing, None);
                self.wait(branch, retry_after_ms);
            }
            Answer::NotSent(failure) if operation == Operation::Try && call.attempt == 1 => {
                self.tx.branches[branch].last_failure = Some(failure.clone());
                self.decide(Decision::Cancel, Some(failure));
            }
            Answer::TooLarge(failure) => self.too_large(call, failure),
            Answer::NotSent(failure) | Answer::Indeterminate(failure) => {
                self.attempt_failed(call, failure);
            }
        }
    }

    pub(crate) fn queried(&mut self, branch: usize, operation: Operation, answer: QueryAnswer) {
        let Some(call) = self.current(branch, operation, true) else {
            return match answer {
                QueryAnswer::Recorded(recorded) if recorded.state == RecordState::Confirmed => {
                    self.done_after_resolution(branch, Operation::Confirm);
                }
                QueryAnswer::Recorded(recorded) if recorded.state == RecordState::Canceled => {
                    self.done_after_resolution(branch, Operation::Cancel);
                }
                QueryAnswer::Recorded(_)
                | QueryAnswer::Unclear
                | QueryAnswer::TooLarge(_)
                | QueryAnswer::Indeterminate(_) => {}
            };
        };
        match answer {
            QueryAnswer::Recorded(recorded) => self.recorded(call, *recorded),
            QueryAnswer::Unclear => self.send(branch),
            QueryAnswer::TooLarge(failure) => self.too_large(call, failure),
            QueryAnswer::Indeterminate(failure) => self.attempt_failed(call, failure),
        }
    }

    /// A call that was on its way while an operator closed its branch: a reply that contradicts the
    /// operator is for a person.
    fn done_after_resolution(&mut self, branch: usize, operation: Operation) {
        let state = self.tx.branches.get(branch).map(|it| it.state);
        if let Some(BranchState::Resolved(_)) = state {
            self.success_out_of_turn(branch, operation);
        }
    }

    /// The call an answer belongs to, unless the branch has moved on since: then it is ignored.
    fn current(&self, branch: usize, operation: Operation, query: bool) -> Option<Call> {
        let it = self.tx.branches.get(branch)?;
        if it.state.owes() != Some(operation) || it.next == Next::Stopped {
            return None;
        }
        let attempt = it.attempts.begun(operation, query);
        Some(Call {
            branch,
            operation,
            query,
            attempt,
        })
    }

    /// Query first, then act: the protocol's table, one row a line.
    fn recorded(&mut self, call: Call, recorded: Recorded) {
        use RecordState::{
            CancelFailed, Canceled, Canceling, ConfirmFailed, Confirmed, Confirming, Tried,
            TryFailed, Trying, Unknown,
        };
        let Recorded {
            state,
            try_result,
            confirm_result,
            failure,
            retry_after_ms,
        } = recorded;
        let failure = failure.unwrap_or_else(|| refusal(state));
        let branch = call.branch;
        match (call.operation, state) {
            (Operation::Try, Unknown) => self.send(branch),
            (Operation::Try, Trying) => self.resend_later(call, retry_after_ms),
            (Operation::Try, Tried) => self.succeeded(call, try_result),
            (Operation::Try, TryFailed) => self.refused(call, failure),
            (Operation::Try, Canceling | Canceled) => {
                self.tx.branches[branch].last_failure = Some(failure.clone());
                self.decide(Decision::Cancel, Some(failure));
            }
            (Operation::Try, Confirming | Confirmed | ConfirmFailed | CancelFailed) => {
                self.mismatch(branch, state);
            }
            (Operation::Confirm, Unknown) => {
                self.note_mismatch(branch, state);
                self.send(branch);
            }
            (Operation::Confirm, Trying) => self.send(branch),
            (Operation::Confirm, Tried) => {
                self.keep_try_result(branch, try_result);
                self.send(branch);
            }
            (Operation::Confirm, Confirming) => self.resend_later(call, retry_after_ms),
            (Operation::Confirm, Confirmed) => {
                self.keep_try_result(branch, try_result);
                self.succeeded(call, confirm_result);
            }
            (Operation::Confirm, TryFailed | Canceling | Canceled) => self.mismatch(branch, state),
            (Operation::Cancel, Unknown | Trying | Tried | TryFailed) => {
                self.keep_try_result(branch, try_result);
                self.send(branch);
            }
            (Operation::Cancel, Canceling) => self.resend_later(call, retry_after_ms),
            (Operation::Cancel, Canceled) => self.succeeded(call, None),
            (Operation::Cancel, Confirming | Confirmed) => self.mismatch(branch, state),
            (Operation::Confirm | Operation::Cancel, ConfirmFailed | CancelFailed) => {
                self.refused(call, failure);
            }
        }
    }

    /// Sends the operation itself, at once.
    fn send(&mut self, branch: usize) {
        self.tx.branches[branch].next = Next::Send;
        self.call(branch);
    }

    /// The participant works on it: repeating the call later restarts a lost job.
    fn resend_later(&mut self, call: Call, retry_after_ms: Option<u64>) {
        self.tx.branches[call.branch].next = Next::Send;
        self.call_event(call, Outcome::Processing, None);
        self.wait(call.branch, retry_after_ms);
    }

    fn keep_try_result(&mut self, branch: usize, result: Option<Payload>) {
        let kept = &mut self.tx.branches[branch].try_result;
        if kept.is_none() {
            *kept = result;
        }
    }

    pub(crate) fn succeeded(&mut self, call: Call, result: Option<Payload>) {
        let it = &mut self.tx.branches[call.branch];
        match call.operation {
            Operation::Try => {
                it.state = BranchState::Tried;
                it.try_result = result;
                if self.tx.interactive {
                    // Its client waits for it, whatever the other branches do.
                    self.at_least(Durability::Lazy);
                }
            }
            Operation::Confirm => {
                it.state = BranchState::Confirmed;
                it.confirm_result = result;
            }
            Operation::Cancel => it.state = BranchState::Canceled,
        }
        self.tx
            .attentions
            .retain(|attention| attention.branch != call.branch);
        self.call_event(call, Outcome::Success, None);
        self.commit_if_ready();
        self.finish_if_complete();
    }

    pub(crate) fn refused(&mut self, call: Call, failure: Failure) {
        self.tx.branches[call.branch].last_failure = Some(failure.clone());
        self.call_event(call, Outcome::Failed, Some(failure.clone()));
        match call.operation {
            Operation::Try => self.decide(Decision::Cancel, Some(failure)),
            Operation::Confirm | Operation::Cancel => {
                self.raise(AttentionReason::Refused, call.branch, &failure.message);
                let next = &mut self.tx.branches[call.branch].next;
                if *next != Next::Stopped {
                    *next = Next::Send;
                    self.wait_longest(call.branch);
                }
            }
        }
    }

    fn too_large(&mut self, call: Call, failure: Failure) {
        self.raise(
            AttentionReason::ReplyTooLarge,
            call.branch,
            &failure.message,
        );
        self.attempt_failed(call, failure);
    }

    fn attempt_failed(&mut self, call: Call, failure: Failure) {
        let threshold = self.tx.policy.attention_after_attempts;
        let next = self.ask_next(call.branch);
        let it = &mut self.tx.branches[call.branch];
        it.next = next;
        it.failed_attempts = it.failed_attempts.saturating_add(1);
        it.last_failure = Some(failure.clone());
        if it.failed_attempts >= threshold {
            self.raise(
                AttentionReason::RetriesExceeded,
                call.branch,
                &failure.message,
            );
        }
        self.call_event(call, Outcome::Processing, Some(failure));
        self.wait(call.branch, None);
    }

    fn ask_next(&self, branch: usize) -> Next {
        if self.tx.branches[branch].spec.can_query() {
            Next::Query
        } else {
            Next::Send
        }
    }

    /// The participant's record contradicts ours: no more calls until a person has looked.
    pub(crate) fn mismatch(&mut self, branch: usize, state: RecordState) {
        self.note_mismatch(branch, state);
        self.tx.branches[branch].next = Next::Stopped;
    }

    pub(crate) fn note_mismatch(&mut self, branch: usize, state: RecordState) {
        let ours = self.tx.branches[branch].state;
        let detail = format!("the participant has recorded {state:?}, this branch is {ours:?}");
        self.raise(AttentionReason::StateMismatch, branch, &detail);
        self.event(Some(branch), Some(Failure::new("STATE_MISMATCH", detail)));
        self.at_least(Durability::Lazy);
    }
}

fn refusal(state: RecordState) -> Failure {
    match state {
        RecordState::Canceling | RecordState::Canceled => Failure::new(
            "CANCELED_BY_PARTICIPANT",
            "the participant has canceled this branch before a decision",
        ),
        RecordState::Unknown
        | RecordState::Trying
        | RecordState::Tried
        | RecordState::TryFailed
        | RecordState::Confirming
        | RecordState::Confirmed
        | RecordState::ConfirmFailed
        | RecordState::CancelFailed => {
            Failure::new("REFUSED", format!("the participant has recorded {state:?}"))
        }
    }
}
