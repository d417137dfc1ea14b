//! Remote work under way: one job per branch at a time, detached from the call that started it.
//!
//! A job carries a branch on from whatever its row says: TRYING, CONFIRMING or CANCELING runs the
//! resource's method, and the end is written by the fence's rule for finishers. A Try that finds
//! itself canceled when it ends goes on with the undoing. So a job that was lost in a crash needs
//! nothing special: the next call starts one.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::Shared};
use prost::bytes::Bytes;
use tercet_core::{
    fence::{self as core, Call, Finish, JobEnd, Row, State},
    payload::Failure,
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout_at},
};

use super::{
    branch::{Branch, BranchKey},
    calls::Calls,
    convert::{self, Reply},
    error::Verdict,
    fence::{Fence, FenceTransaction as _},
    handler::RemoteHandler,
    problem::Problem,
    record::Body,
    resource::Progress,
};

/// The most jobs that run in one process; past it, calls that need another one are an error, and
/// repeated later. Enough for a provider that takes seconds, and bounded in memory.
const JOBS_MAX: usize = 1024;
/// A call that joined the end of another job starts its own after it; so twice is enough.
const JOBS_PER_CALL_MAX: u32 = 2;
/// How often, and after which wait (doubled each time), a Try that ended after its Cancel is
/// undone: for some three minutes, in which most outages end.
const UNDO_ATTEMPTS_MAX: u32 = 12;
const UNDO_WAIT: Duration = Duration::from_millis(50);

/// The jobs of this process.
#[derive(Clone, Default)]
pub(crate) struct Jobs {
    running: Arc<Mutex<HashMap<BranchKey, Job>>>,
}

/// The end of a job, for everybody who waits for it.
type Job = Shared<oneshot::Receiver<Ended>>;

/// How a job ended.
#[derive(Clone, Debug)]
enum Ended {
    /// The row says no more work is owed.
    Settled,
    /// The other system goes on; ask again then.
    Processing(Duration),
    /// Confirm or Cancel was refused; the row stays.
    Refused(Failure),
    /// Nobody knows.
    Problem(Problem),
}

impl<F: Fence> Calls<F> {
    /// Sees to it that a job runs for this branch, waits for it a while, and answers.
    pub(crate) async fn answer_of_job(
        self: &Arc<Self>,
        handler: &Arc<dyn RemoteHandler>,
        branch: &Branch,
        call: &Call,
    ) -> Result<Reply, Problem> {
        let deadline = Instant::now() + self.answer_within;
        for _ in 0..JOBS_PER_CALL_MAX {
            let (job, is_ours) = self.start_or_join(handler, branch)?;
            let ended = match timeout_at(deadline, job).await {
                Ok(Ok(ended)) => ended,
                Ok(Err(_dropped)) => Ended::Problem(Problem::Panicked),
                Err(_elapsed) => return Ok(Reply::Processing(super::RETRY_AFTER_DEFAULT)),
            };
            if let Some(reply) = self.answer_of_row(&branch.key, call).await? {
                return Ok(reply);
            }
            // Still owed. What another call's job came to says nothing about this one.
            match ended {
                Ended::Processing(retry_after) if is_ours => {
                    return Ok(Reply::Processing(retry_after));
                }
                Ended::Refused(failure) if is_ours => return Ok(Reply::Failed(failure)),
                Ended::Problem(problem) if is_ours => return Err(problem),
                _ => {}
            }
        }
        Ok(Reply::Processing(super::RETRY_AFTER_DEFAULT))
    }

    /// The job of this branch, and whether it was started here and now.
    fn start_or_join(
        self: &Arc<Self>,
        handler: &Arc<dyn RemoteHandler>,
        branch: &Branch,
    ) -> Result<(Job, bool), Problem> {
        let mut running = self.jobs.lock();
        let count = running.len();
        let slot = match running.entry(branch.key.clone()) {
            Entry::Occupied(job) => return Ok((job.get().clone(), false)),
            Entry::Vacant(_) if count >= JOBS_MAX => {
                return Err(Problem::JobsFull { max: JOBS_MAX });
            }
            Entry::Vacant(slot) => slot,
        };
        let (sender, receiver) = oneshot::channel();
        let job = receiver.shared();
        slot.insert(job.clone());
        let place = Place {
            jobs: self.jobs.clone(),
            key: branch.key.clone(),
        };
        let (calls, handler, branch) = (Arc::clone(self), Arc::clone(handler), branch.clone());
        tokio::spawn(async move {
            // Declared first, dropped last, also by a panic: who sees the end can start the next.
            let sender = sender;
            let place = place;
            let ended = match calls.carry_on(&*handler, &branch).await {
                Ok(ended) => ended,
                Err(problem) => Ended::Problem(problem),
            };
            if let Ended::Problem(problem) = &ended {
                tracing::warn!(branch = %branch.key, %problem, "remote work will be repeated");
            }
            drop(place);
            let _ = sender.send(ended); // nobody may be waiting any more
        });
        Ok((job, true))
    }

    /// Runs what the row owes until it owes nothing.
    async fn carry_on(
        &self,
        handler: &dyn RemoteHandler,
        branch: &Branch,
    ) -> Result<Ended, Problem> {
        while let Some((row, body)) = self.load(&branch.key).await? {
            let Some(step) = step(handler, branch, row, &body).await else {
                return Ok(Ended::Settled);
            };
            let end = match step {
                Step::Ended(end) => end,
                Step::Processing(retry_after) => return Ok(Ended::Processing(retry_after)),
                Step::Failed(Verdict::Refused(failure)) => return Ok(Ended::Refused(failure)),
                Step::Failed(Verdict::Problem(problem)) => return Ok(Ended::Problem(problem)),
            };
            let held = end.held.clone();
            if self.finish(&branch.key, end).await? == After::UndoElsewhere {
                return Ok(undo(handler, branch, body.request, held).await);
            }
        }
        Ok(Ended::Settled)
    }

    /// Writes the end of a step over the row it finds, if the rule lets it.
    async fn finish(&self, key: &BranchKey, end: StepEnd) -> Result<After, Problem> {
        let mut tx = self.fence.begin().await?;
        let found = tx.load_for_update(key).await?;
        let decided = core::finish(found.as_ref().map(|record| record.row.state), end.end);
        let (state, record) = match (decided, found) {
            (Finish::Leave, _) => return Ok(After::GoOn),
            (Finish::Write(state), Some(record)) => (state, record),
            // The row keeps what Try holds, so that the Cancel it goes on with has it.
            (Finish::Undo, Some(record)) if record.row.state == State::Canceling => {
                (State::Canceling, record)
            }
            (Finish::Undo | Finish::Write(_), _) => return Ok(After::UndoElsewhere),
        };
        let mut body = Body::decode_from(key, &record)?;
        body.held = end.held.or(body.held);
        body.failure = end.failure.or(body.failure);
        let row = Row {
            state,
            ..record.row
        };
        tx.update(key, &body.into_record(row)).await?;
        tx.commit().await?;
        Ok(After::GoOn)
    }
}

impl Jobs {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<BranchKey, Job>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The place of a job among the running ones; given back when dropped.
struct Place {
    jobs: Jobs,
    key: BranchKey,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.jobs.lock().remove(&self.key);
    }
}

/// What one method of the resource came to.
enum Step {
    Ended(StepEnd),
    Processing(Duration),
    Failed(Verdict),
}

struct StepEnd {
    end: JobEnd,
    held: Option<Bytes>,
    failure: Option<crate::proto::participant::v1::Failure>,
}

#[derive(PartialEq)]
enum After {
    /// Look at the row again.
    GoOn,
    /// The Try reserved, and nobody's row will ever release it.
    UndoElsewhere,
}

/// Runs the method that the row owes, if any.
async fn step(handler: &dyn RemoteHandler, branch: &Branch, row: Row, body: &Body) -> Option<Step> {
    let (request, held) = (body.request.clone(), body.held.clone());
    Some(match row.state {
        State::Trying => match handler.on_try(branch, request).await {
            Ok(Progress::Done(held)) => ended(JobEnd::Tried, Some(held), None),
            Ok(Progress::Processing { retry_after }) => Step::Processing(retry_after),
            Err(Verdict::Refused(failure)) => {
                let failure = convert::failure_to_proto(&failure);
                ended(JobEnd::TryFailed, None, Some(failure))
            }
            Err(problem @ Verdict::Problem(_)) => Step::Failed(problem),
        },
        State::Confirming => of_progress(JobEnd::Confirmed, handler.on_confirm(branch, held).await),
        State::Canceling => of_progress(
            JobEnd::Canceled,
            handler.on_cancel(branch, request, held).await,
        ),
        State::TryFailed | State::Tried | State::Confirmed | State::Canceled => return None,
    })
}

fn of_progress(end: JobEnd, progress: Result<Progress<()>, Verdict>) -> Step {
    match progress {
        Ok(Progress::Done(())) => ended(end, None, None),
        Ok(Progress::Processing { retry_after }) => Step::Processing(retry_after),
        Err(verdict) => Step::Failed(verdict),
    }
}

fn ended(
    end: JobEnd,
    held: Option<Bytes>,
    failure: Option<crate::proto::participant::v1::Failure>,
) -> Step {
    Step::Ended(StepEnd { end, held, failure })
}

/// Releases what a Try reserved after another process had canceled or refused the branch. Its row
/// is closed, so no call will come to repeat it: it is repeated here.
async fn undo(
    handler: &dyn RemoteHandler,
    branch: &Branch,
    request: Option<Bytes>,
    held: Option<Bytes>,
) -> Ended {
    let mut wait = UNDO_WAIT;
    for attempt in 1..=UNDO_ATTEMPTS_MAX {
        let undoing = handler.on_cancel(branch, request.clone(), held.clone());
        let verdict = match undoing.await {
            // Another system that owns it will finish it.
            Ok(Progress::Done(()) | Progress::Processing { .. }) => return Ended::Settled,
            Err(verdict) => verdict,
        };
        tracing::warn!(branch = %branch.key, attempt, ?verdict, "a Try after its Cancel is not undone yet");
        sleep(wait).await;
        wait *= 2;
    }
    tracing::error!(
        branch = %branch.key,
        "a Try ended after its Cancel and could not be undone: release it by hand",
    );
    Ended::Settled
}
