//! What clients, participants and operators ask of a transaction, and may be refused.

use std::sync::Arc;

use crate::{
    ids::BranchId,
    operation::{Operation, RecordState},
    outcome::Decision,
    payload::{Failure, Payload},
    step::{Call, Context, Durability, Step, Work},
    transaction::{BranchSpec, BranchState, Resolution, State, Target, Transaction},
};

/// Something asked from outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Request {
    /// Interactive: record one more branch and try it.
    AddBranch(Arc<BranchSpec>),
    /// Interactive: commit exactly these branches.
    Commit {
        /// Exactly those meant; another recorded set is refused, because a delayed AddBranch would
        /// otherwise be left out of a commit that meant it.
        branches: Vec<BranchId>,
    },
    /// Roll back.
    Rollback {
        /// Becomes the transaction's failure.
        cause: Failure,
    },
    /// A participant pushes the end of an operation it had answered PROCESSING.
    Report {
        /// Which branch.
        branch: BranchId,
        /// Which operation ended.
        operation: Operation,
        /// How.
        report: Report,
    },
    /// Operator: make no more calls. Decisions go on.
    Pause,
    /// Operator: make the owed calls again.
    Resume,
    /// Operator: close one branch for good.
    Resolve {
        /// Which branch.
        branch: BranchId,
        /// Reached by hand, or given up.
        resolution: Resolution,
        /// 10 minutes have passed since the transaction's `expire_time`.
        overdue: bool,
        /// What the participant has just said it has recorded; none when it gave no answer.
        recorded: Option<RecordState>,
    },
}

/// How an operation ended, as its participant reports it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Report {
    /// Done, durably.
    Success(Option<Payload>),
    /// Refused.
    Failed(Failure),
}

/// Why a request is refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The commit names other branches than are recorded.
    #[error("the commit names {named} but recorded are {recorded}")]
    BranchSetMismatch {
        /// The ids in the request, sorted.
        named: String,
        /// The ids in the record, sorted.
        recorded: String,
    },
    /// A branch of this id is recorded with other content.
    #[error("branch {0} is recorded with other content")]
    BranchIdReused(BranchId),
    /// The transaction has no such branch.
    #[error("the transaction has no branch {0}")]
    BranchNotFound(BranchId),
    /// The opposite was decided, durably.
    #[error("the transaction is already committed; a decision is never changed")]
    DecisionConflict,
    /// The transaction is in a state in which this can't be done.
    #[error("{0}")]
    StateInvalid(&'static str),
}

impl Transaction {
    /// What follows when this is asked.
    ///
    /// # Errors
    /// [`Refusal`] says why not; the transaction is unchanged.
    pub fn request(&self, request: Request, context: Context) -> Result<Step, Refusal> {
        let mut work = Work::within(self.clone(), context);
        match request {
            Request::AddBranch(spec) => work.request_branch(spec)?,
            Request::Commit { branches } => work.request_commit(branches)?,
            Request::Rollback { cause } => work.request_rollback(cause)?,
            Request::Report {
                branch,
                operation,
                report,
            } => {
                work.report(&branch, operation, report)?;
            }
            Request::Pause => work.pause()?,
            Request::Resume => work.resume(),
            Request::Resolve {
                branch,
                resolution,
                overdue,
                recorded,
            } => {
                work.resolve(&branch, resolution, overdue, recorded)?;
            }
        }
        Ok(work.done())
    }
}

impl Work {
    fn request_branch(&mut self, spec: Arc<BranchSpec>) -> Result<(), Refusal> {
        if let Some(at) = self.tx.position(&spec.id) {
            let same = *self.tx.branches[at].spec == *spec;
            return if same {
                Ok(())
            } else {
                Err(Refusal::BranchIdReused(spec.id.clone()))
            };
        }
        if self.tx.state != State::Trying {
            return Err(Refusal::StateInvalid(
                "the transaction is decided and takes no more branches",
            ));
        }
        if !self.tx.interactive {
            let why = "a submitted transaction takes no more branches; begin an interactive one";
            return Err(Refusal::StateInvalid(why));
        }
        if self.tx.commit_requested {
            let why = "the commit is requested and the transaction takes no more branches";
            return Err(Refusal::StateInvalid(why));
        }
        self.add_branch(spec);
        self.event(Some(self.tx.branches.len() - 1), None);
        self.at_least(Durability::Required);
        Ok(())
    }

    fn request_commit(&mut self, mut named: Vec<BranchId>) -> Result<(), Refusal> {
        if self.tx.decision() == Some(Decision::Cancel) {
            return Ok(()); // answered OK, with FAILED; an id forbidden before its Begin came, too
        }
        if !self.tx.interactive {
            let why = "a submitted transaction commits by itself once every branch is tried";
            return Err(Refusal::StateInvalid(why));
        }
        named.sort();
        let mut recorded: Vec<_> = self
            .tx
            .branches
            .iter()
            .map(|it| it.spec.id.clone())
            .collect();
        recorded.sort();
        if named != recorded {
            let (named, recorded) = (list(&named), list(&recorded));
            return Err(Refusal::BranchSetMismatch { named, recorded });
        }
        if !self.tx.commit_requested {
            self.tx.commit_requested = true;
            self.event(None, None);
            self.at_least(Durability::Required);
            self.commit_if_ready();
        }
        Ok(())
    }

    fn request_rollback(&mut self, cause: Failure) -> Result<(), Refusal> {
        match self.tx.decision() {
            None => self.decide(Decision::Cancel, Some(cause)),
            Some(Decision::Cancel) => {}
            Some(Decision::Commit) => return Err(Refusal::DecisionConflict),
        }
        Ok(())
    }

    fn report(
        &mut self,
        id: &BranchId,
        operation: Operation,
        report: Report,
    ) -> Result<(), Refusal> {
        let branch = self
            .tx
            .position(id)
            .ok_or_else(|| Refusal::BranchNotFound(id.clone()))?;
        if self.tx.branches[branch].state.owes() == Some(operation) {
            let attempt = self.tx.branches[branch].attempts.begun(operation, false);
            let call = Call {
                branch,
                operation,
                query: false,
                attempt,
            };
            match report {
                Report::Success(result) => self.succeeded(call, result),
                Report::Failed(failure) => self.refused(call, failure),
            }
            self.at_least(Durability::Required);
        } else if let Report::Success(_) = report {
            self.success_out_of_turn(branch, operation);
        }
        Ok(())
    }

    /// What was done late or twice changes nothing; what contradicts us is for a person.
    pub(crate) fn success_out_of_turn(&mut self, branch: usize, operation: Operation) {
        use BranchState::{Canceled, Canceling, Confirmed, Confirming, Resolved, Tried, Trying};
        let contradicts = match (operation, self.tx.branches[branch].state) {
            (Operation::Try, _) => false,
            (Operation::Cancel, Trying | Tried) => {
                let message = "the participant reports that it has canceled before a decision";
                let cause = Failure::new("CANCELED_BY_PARTICIPANT", message);
                return self.decide(Decision::Cancel, Some(cause));
            }
            (Operation::Confirm, Trying | Tried | Canceling | Canceled) => true,
            (Operation::Cancel, Confirming | Confirmed) => true,
            (Operation::Confirm, Confirming | Confirmed) => false,
            (Operation::Cancel, Canceling | Canceled) => false,
            (Operation::Confirm, Resolved(how)) => {
                self.tx.decision() != Some(Decision::Commit) || how == Resolution::Abandoned
            }
            (Operation::Cancel, Resolved(how)) => {
                self.tx.decision() != Some(Decision::Cancel) || how == Resolution::Abandoned
            }
        };
        if contradicts {
            let recorded = match operation {
                Operation::Try => RecordState::Tried,
                Operation::Confirm => RecordState::Confirmed,
                Operation::Cancel => RecordState::Canceled,
            };
            self.mismatch(branch, recorded);
            self.at_least(Durability::Required);
        }
    }

    fn pause(&mut self) -> Result<(), Refusal> {
        if self.tx.state.is_terminal() {
            return Err(Refusal::StateInvalid(
                "the transaction has ended; there is nothing to pause",
            ));
        }
        if !self.tx.paused {
            self.tx.paused = true;
            self.event(None, None);
            self.at_least(Durability::Required);
        }
        Ok(())
    }

    fn resume(&mut self) {
        if !self.tx.paused {
            return;
        }
        self.tx.paused = false;
        self.event(None, None);
        self.at_least(Durability::Required);
        for branch in 0..self.tx.branches.len() {
            self.call(branch);
        }
    }

    fn resolve(
        &mut self,
        id: &BranchId,
        resolution: Resolution,
        overdue: bool,
        recorded: Option<RecordState>,
    ) -> Result<(), Refusal> {
        let branch = self
            .tx
            .position(id)
            .ok_or_else(|| Refusal::BranchNotFound(id.clone()))?;
        self.may_resolve(branch, resolution, overdue, recorded)?;
        self.tx.branches[branch].state = BranchState::Resolved(resolution);
        self.tx.attentions.retain(|it| it.branch != branch);
        let how = match resolution {
            Resolution::Done => "an operator reached it by hand",
            Resolution::Abandoned => "an operator gave it up",
        };
        self.event(
            Some(branch),
            Some(Failure::new("RESOLVED_BY_OPERATOR", how)),
        );
        self.at_least(Durability::Required);
        self.finish_if_complete();
        Ok(())
    }

    /// A branch closed while its participant still works on it, or before it says it is done, would
    /// reserve for ever or release twice.
    fn may_resolve(
        &self,
        branch: usize,
        resolution: Resolution,
        overdue: bool,
        recorded: Option<RecordState>,
    ) -> Result<(), Refusal> {
        let refuse = |why| Err(Refusal::StateInvalid(why));
        let it = &self.tx.branches[branch];
        let reached = match it.state {
            BranchState::Trying | BranchState::Tried => {
                return refuse("the transaction is undecided; roll it back instead");
            }
            BranchState::Confirming => RecordState::Confirmed,
            BranchState::Canceling => RecordState::Canceled,
            BranchState::Confirmed | BranchState::Canceled | BranchState::Resolved(_) => {
                return refuse("the branch has already ended");
            }
        };
        if !overdue {
            return refuse(
                "a branch can be resolved only 10 minutes after the transaction's expire_time",
            );
        }
        if let Some(RecordState::Trying | RecordState::Confirming | RecordState::Canceling) =
            recorded
        {
            return refuse("the participant is still working on this branch");
        }
        let by_word = matches!(it.spec.target, Target::Methods(_));
        if resolution == Resolution::Done && recorded != Some(reached) && !by_word {
            return refuse("the participant does not say that it is done; close it there first");
        }
        Ok(())
    }
}

fn list(ids: &[BranchId]) -> String {
    let ids: Vec<_> = ids.iter().map(BranchId::as_str).collect();
    if ids.is_empty() {
        "no branch".into()
    } else {
        ids.join(", ")
    }
}
