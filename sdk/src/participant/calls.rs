//! One call of the coordinator, from its context to its answer: claim the row, ask the rule, do
//! what it says.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::bytes::Bytes;
use tercet_core::{
    fence::{self as core, Action, Alarm, Call, HORIZON_NONE_MS, Job, Row, State, Stored, Work},
    operation::Operation,
    payload::Failure,
};

use super::{
    branch::{Branch, BranchKey},
    convert::{self, Recorded, Reply},
    error::Verdict,
    fence::{Fence, FenceError, FenceTransaction, Record},
    handler::{Handler, LocalHandler},
    jobs::Jobs,
    problem::Problem,
    record::Body,
};
use crate::proto::participant::v1::Payload;

/// How often a row that goes away between insert and read is claimed anew, before it is an error.
const CLAIM_ATTEMPTS_MAX: u32 = 3;
/// That a job never started is never certain here: another process may have begun it.
const REMOTE: Work = Work::Remote(Job::MayHaveStarted);

/// What all calls of a participant share.
pub(crate) struct Calls<F: Fence> {
    pub(crate) participant: String,
    pub(crate) fence: Arc<F>,
    pub(crate) handlers: BTreeMap<&'static str, Handler<F::Connection>>,
    pub(crate) jobs: Jobs,
    /// How long a call waits for remote work before it answers PROCESSING.
    pub(crate) answer_within: Duration,
    pub(crate) clock: Clock,
}

/// The wall clock, Unix milliseconds.
pub(crate) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

impl<F: Fence> Calls<F> {
    /// Try, Confirm or Cancel.
    pub(crate) async fn perform(
        self: &Arc<Self>,
        operation: Operation,
        branch: &Branch,
        request: Payload,
    ) -> Result<Reply, Problem> {
        let (work, keep) = match (self.handler(&branch.resource)?, operation) {
            (Handler::Local(_), _) => (Work::Local, None),
            (Handler::Remote(_), Operation::Try) => (REMOTE, Some(request.value.clone())),
            (Handler::Remote(_), Operation::Confirm | Operation::Cancel) => (REMOTE, None),
        };
        let call = Call {
            operation,
            epoch: branch.epoch,
            expire_time_ms: branch.expire_time_ms,
            work,
        };
        let claim = self.claim(branch, &call, body_of(branch, keep)).await?;
        if let Some(reply) = settled(claim.action, &claim.body) {
            claim.commit(&branch.key).await?;
            return reply;
        }
        match self.handler(&branch.resource)? {
            Handler::Local(handler) => run(&**handler, claim, operation, branch, &request).await,
            Handler::Remote(handler) => {
                if claim.before.is_none() {
                    // What can't be read is refused before it is owned.
                    if let Err(refused) = handler.check(&request) {
                        return refusal(refused);
                    }
                }
                claim.commit(&branch.key).await?;
                self.answer_of_job(handler, branch, &call).await
            }
        }
    }

    /// Query.
    pub(crate) async fn query(self: Arc<Self>, branch: Branch) -> Result<Recorded, Problem> {
        self.handler(&branch.resource)?;
        let loaded = self.load(&branch.key).await?;
        let (row, body) = loaded.map_or((None, None), |(row, body)| (Some(row), Some(body)));
        if let Some(body) = &body {
            same_resource(body, &branch)?;
        }
        if let Some(row) = row.filter(|row| branch.epoch < row.epoch) {
            return Err(Problem::Alarm(Alarm::EpochStale {
                epoch: branch.epoch,
                row_epoch: row.epoch,
            }));
        }
        let body = body.unwrap_or_default();
        let is_working = row.is_some_and(|row| is_working(row.state));
        Ok(Recorded {
            state: core::record_state(row.as_ref()),
            held: body.held,
            failure: body.failure,
            retry_after: is_working.then_some(super::RETRY_AFTER_DEFAULT),
        })
    }

    /// Answers from the row alone; `None` while a job is owed.
    pub(crate) async fn answer_of_row(
        &self,
        key: &BranchKey,
        call: &Call,
    ) -> Result<Option<Reply>, Problem> {
        let loaded = self.load(key).await?;
        let (row, body) = loaded.ok_or(Problem::Alarm(Alarm::NotTried))?;
        let action = core::rule(Some(&row), call, HORIZON_NONE_MS, (self.clock)());
        settled(action, &body).transpose()
    }

    /// Reads a row as last committed, and lets it go.
    pub(crate) async fn load(&self, key: &BranchKey) -> Result<Option<(Row, Body)>, FenceError> {
        let mut tx = self.fence.begin().await?;
        let record = tx.load_for_update(key).await?;
        let read = |record: Record| Ok((record.row, Body::decode_from(key, &record)?));
        record.map(read).transpose()
    }

    fn handler(&self, resource: &str) -> Result<&Handler<F::Connection>, Problem> {
        self.handlers.get(resource).ok_or_else(|| {
            let known: Vec<_> = self.handlers.keys().copied().collect();
            Problem::ResourceUnknown {
                participant: self.participant.clone(),
                resource: resource.to_owned(),
                known: known.join(", "),
            }
        })
    }

    /// Makes the row this transaction's own, and asks the rule. Inserted first, read after: two
    /// first calls of a branch come one after the other without a gap being locked.
    async fn claim(
        &self,
        branch: &Branch,
        call: &Call,
        body: Body,
    ) -> Result<Claim<F::Transaction>, Problem> {
        let mut tx = self.fence.begin().await?;
        let (before, body) = claim_row(&mut tx, branch, call, body).await?;
        let horizon_ms = match before {
            Some(_) => HORIZON_NONE_MS,
            // Read after the insert: a row that a collector took away meanwhile is below it.
            None => tx.horizon_ms().await?,
        };
        let action = core::rule(before.as_ref(), call, horizon_ms, (self.clock)());
        Ok(Claim {
            after: action.row_after(before.as_ref(), call),
            tx,
            action,
            before,
            body,
        })
    }
}

/// A row that belongs to this transaction until its end, and what to do.
struct Claim<T> {
    tx: T,
    action: Action,
    before: Option<Row>,
    after: Option<Row>,
    body: Body,
}

impl<T: FenceTransaction> Claim<T> {
    /// Writes the row as the action leaves it, with whatever the business did.
    async fn commit(mut self, key: &BranchKey) -> Result<(), FenceError> {
        match self.after {
            Some(row) if self.before != self.after => {
                self.tx.update(key, &self.body.into_record(row)).await?;
                self.tx.commit().await
            }
            // Nothing to write: dropped, the transaction takes its placeholder back.
            Some(_) | None => Ok(()),
        }
    }
}

async fn claim_row<T: FenceTransaction>(
    tx: &mut T,
    branch: &Branch,
    call: &Call,
    body: Body,
) -> Result<(Option<Row>, Body), Problem> {
    let placeholder = |state| {
        let row = Row {
            state,
            epoch: call.epoch,
            expire_time_ms: call.expire_time_ms,
        };
        body.clone().into_record(row)
    };
    for _ in 0..CLAIM_ATTEMPTS_MAX {
        let inserted = match call.operation {
            Operation::Try => {
                tx.insert_if_absent(&branch.key, &placeholder(State::Trying))
                    .await?
            }
            Operation::Cancel => {
                tx.insert_if_absent(&branch.key, &placeholder(State::Canceled))
                    .await?
            }
            Operation::Confirm => false,
        };
        if inserted {
            return Ok((None, body));
        }
        match tx.load_for_update(&branch.key).await? {
            Some(record) => {
                let found = Body::decode_from(&branch.key, &record)?;
                same_resource(&found, branch)?;
                return Ok((Some(record.row), found));
            }
            None if call.operation == Operation::Confirm => return Ok((None, body)),
            None => {}
        }
    }
    let what = format!("the row of {} comes and goes", branch.key);
    Err(FenceError::database(what).into())
}

/// The business change and the row, in one transaction.
async fn run<T: FenceTransaction>(
    handler: &dyn LocalHandler<T::Connection>,
    mut claim: Claim<T>,
    operation: Operation,
    branch: &Branch,
    request: &Payload,
) -> Result<Reply, Problem> {
    let held = claim.body.held.clone();
    let db = claim.tx.connection();
    let done = match operation {
        Operation::Try => handler.on_try(db, branch, request).await.map(Some),
        Operation::Confirm => handler.on_confirm(db, branch, held).await.map(|()| None),
        Operation::Cancel => handler.on_cancel(db, branch, held).await.map(|()| None),
    };
    match done {
        Ok(held) => {
            if held.is_some() {
                claim.body.held.clone_from(&held);
            }
            claim.commit(&branch.key).await?;
            Ok(Reply::Success(held))
        }
        // The claim is dropped: the business change rolls back with the row.
        Err(verdict) => refusal(verdict),
    }
}

fn refusal(verdict: Verdict) -> Result<Reply, Problem> {
    match verdict {
        Verdict::Refused(failure) => Ok(Reply::Failed(failure)),
        Verdict::Problem(problem) => Err(problem),
    }
}

/// The answer when nothing has to run for it; an action that writes no more than a tombstone is
/// settled by committing it.
fn settled(action: Action, body: &Body) -> Option<Result<Reply, Problem>> {
    match action {
        Action::Run(_) | Action::Own(_) => None,
        Action::Stored(Stored::TryResult) => Some(Ok(Reply::Success(body.held.clone()))),
        Action::Stored(Stored::TryFailure) => {
            let failure = body.failure.clone().unwrap_or_default();
            Some(Ok(Reply::Failed(convert::failure_from_proto(failure))))
        }
        Action::Stored(Stored::Done) | Action::Tombstone => Some(Ok(Reply::Success(None))),
        Action::Refuse(refusal) => {
            let failure = Failure::new(refusal.reason(), refusal.to_string());
            Some(Ok(Reply::Failed(failure)))
        }
        Action::Alarm(alarm) => Some(Err(alarm.into())),
    }
}

fn same_resource(body: &Body, branch: &Branch) -> Result<(), Problem> {
    if body.resource == branch.resource {
        return Ok(());
    }
    Err(Problem::ResourceMismatch {
        recorded: body.resource.clone(),
        called: branch.resource.clone(),
    })
}

fn body_of(branch: &Branch, request: Option<Bytes>) -> Body {
    Body {
        resource: branch.resource.clone(),
        request,
        held: None,
        failure: None,
    }
}

fn is_working(state: State) -> bool {
    matches!(state, State::Trying | State::Confirming | State::Canceling)
}
