//! What may go wrong between the engine and its participants: calls that are altered on their way
//! out, and answers on their way back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tercet::participants::{Outgoing, Participants, TargetError};
use tercet_core::{
    answer::{Answer, QueryAnswer},
    ids::{BranchId, TransactionId},
    operation::{Operation, RecordState},
    transaction::Target,
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, sleep_until},
};

use super::Control;
use crate::{participant::TAKE, parts::Parts};

pub const CONTROLS: &[Control] = &[
    // A Try that was not heard of finds no tombstone either.
    Control {
        what: "reads a timeout as FAILED",
        invariant: "L2",
        besides: &["S5"],
        parts: || with(ReadsATimeoutAsFailed::default()),
    },
    // A late copy of that Try may reserve for nobody.
    Control {
        what: "skips Cancel of a refused branch",
        invariant: "S5",
        besides: &["L2"],
        parts: || with(SkipsCancelOfARefusedBranch::default()),
    },
    // A Try that was still on its way may reserve for nobody.
    Control {
        what: "takes UNKNOWN for canceled",
        invariant: "S5",
        besides: &["L2"],
        parts: || with(TakesUnknownForCanceled),
    },
    // What was never confirmed is held for nobody.
    Control {
        what: "takes a timeout for confirmed",
        invariant: "S4",
        besides: &["L2"],
        parts: || with(TakesATimeoutForConfirmed),
    },
    // The same here.
    Control {
        what: "answers the wrong branch",
        invariant: "S4",
        besides: &["L2"],
        parts: || with(AnswersTheWrongBranch::default()),
    },
    // No record justifies these calls, and the branch ends as nobody decided, or never: in no calm
    // either.
    Control {
        what: "cancels what it can't confirm",
        invariant: "S2",
        besides: &["S4", "S7", "L1", "L3", "L4"],
        parts: || with(CancelsWhatItCantConfirm),
    },
    // The same here.
    Control {
        what: "cancels by itself after a while",
        invariant: "S2",
        besides: &["S4", "S7", "L1", "L3", "L4"],
        parts: || with(CancelsByItselfAfterAWhile),
    },
    // And if the others do fail, nobody can cancel it, and it never ends: in no calm either.
    Control {
        what: "confirms before the decision",
        invariant: "S7",
        besides: &["S2", "S4", "L1", "L3", "L4"],
        parts: || with(ConfirmsBeforeTheDecision),
    },
    Control {
        what: "calls in an old epoch",
        invariant: "S9",
        besides: &[],
        parts: || with(CallsInAnOldEpoch::default()),
    },
    Control {
        what: "retries without a ladder",
        invariant: "L5",
        besides: &[],
        parts: || with(RetriesWithoutALadder),
    },
    Control {
        what: "shares two calls among all",
        invariant: "L3",
        besides: &[],
        parts: || with(SharesTwoCallsAmongAll::default()),
    },
    // Beside a participant that is stuck, whatever is late seems late because of that.
    Control {
        what: "recovers before anything new",
        invariant: "L4",
        besides: &["L3"],
        parts: || with(RecoversBeforeAnythingNew::default()),
    },
];

type Answering = BoxFuture<'static, Answer>;
type Querying = BoxFuture<'static, QueryAnswer>;
type Honest = Arc<dyn Participants>;

/// What a transport does wrong. Whatever it says nothing about goes its honest way.
pub trait Fault: Send + Sync + 'static {
    /// A process begins.
    fn started(&self) {}

    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        honest.perform(outgoing)
    }

    fn query(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Querying {
        honest.query(outgoing)
    }
}

pub fn with(fault: impl Fault) -> Parts {
    let fault = Arc::new(fault);
    Parts {
        transport: Box::new(move |honest| {
            fault.started();
            let fault = Arc::clone(&fault);
            Arc::new(Faulty { honest, fault })
        }),
        ..Parts::honest()
    }
}

/// Branches, as far as a fault remembers them.
#[derive(Default)]
struct Branches(Mutex<BTreeSet<(TransactionId, BranchId)>>);

impl Branches {
    fn note(&self, outgoing: &Outgoing) {
        let branch = (outgoing.id.clone(), outgoing.spec.id.clone());
        self.0.lock().insert(branch);
    }

    fn has(&self, outgoing: &Outgoing) -> bool {
        let branch = (outgoing.id.clone(), outgoing.spec.id.clone());
        self.0.lock().contains(&branch)
    }
}

/// Takes a Try that was not answered for refused, and so for one that has reserved nothing.
#[derive(Default)]
struct ReadsATimeoutAsFailed {
    refused: Branches,
}

impl Fault for ReadsATimeoutAsFailed {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let operation = outgoing.call.operation;
            if operation == Operation::Cancel && self.refused.has(&outgoing) {
                return Answer::Success(None);
            }
            match honest.perform(outgoing.clone()).await {
                Answer::Indeterminate(failure) if operation == Operation::Try => {
                    self.refused.note(&outgoing);
                    Answer::Failed(failure)
                }
                answer => answer,
            }
        })
    }
}

/// Sends no Cancel to a branch whose Try was refused: there seems to be nothing to undo.
#[derive(Default)]
struct SkipsCancelOfARefusedBranch {
    refused: Branches,
}

impl Fault for SkipsCancelOfARefusedBranch {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let operation = outgoing.call.operation;
            if operation == Operation::Cancel && self.refused.has(&outgoing) {
                return Answer::Success(None);
            }
            let answer = honest.perform(outgoing.clone()).await;
            if let (Operation::Try, Answer::Failed(_)) = (operation, &answer) {
                self.refused.note(&outgoing);
            }
            answer
        })
    }
}

/// Takes a branch that its participant doesn't know for one that is canceled.
struct TakesUnknownForCanceled;

impl Fault for TakesUnknownForCanceled {
    fn query(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Querying {
        Box::pin(async move {
            let operation = outgoing.call.operation;
            let mut answer = honest.query(outgoing).await;
            if let (Operation::Cancel, QueryAnswer::Recorded(recorded)) = (operation, &mut answer)
                && recorded.state == RecordState::Unknown
            {
                recorded.state = RecordState::Canceled;
            }
            answer
        })
    }
}

/// Takes a Confirm that was not answered for done.
struct TakesATimeoutForConfirmed;

impl Fault for TakesATimeoutForConfirmed {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let operation = outgoing.call.operation;
            match honest.perform(outgoing).await {
                Answer::Indeterminate(_) if operation == Operation::Confirm => {
                    Answer::Success(None)
                }
                answer => answer,
            }
        })
    }
}

/// Gives up a Confirm that was not answered, and cancels.
struct CancelsWhatItCantConfirm;

impl Fault for CancelsWhatItCantConfirm {
    fn perform(self: Arc<Self>, honest: Honest, mut outgoing: Outgoing) -> Answering {
        if outgoing.call.operation == Operation::Confirm && outgoing.call.attempt > 1 {
            outgoing.call.operation = Operation::Cancel;
        }
        honest.perform(outgoing)
    }
}

/// A participant's patience: it releases what is still reserved a second after its Try.
struct CancelsByItselfAfterAWhile;

impl Fault for CancelsByItselfAfterAWhile {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let answer = honest.perform(outgoing.clone()).await;
            if let (Operation::Try, Answer::Success(_)) = (outgoing.call.operation, &answer) {
                let mut outgoing = outgoing;
                outgoing.call.operation = Operation::Cancel;
                tokio::spawn(async move {
                    sleep(Duration::from_secs(1)).await;
                    honest.perform(outgoing).await
                });
            }
            answer
        })
    }
}

/// Confirms a branch as soon as it is tried, as if the others could not fail.
struct ConfirmsBeforeTheDecision;

impl Fault for ConfirmsBeforeTheDecision {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let answer = honest.perform(outgoing.clone()).await;
            if let (Operation::Try, Answer::Success(_)) = (outgoing.call.operation, &answer) {
                let mut outgoing = outgoing;
                outgoing.call.operation = Operation::Confirm;
                honest.perform(outgoing).await;
            }
            answer
        })
    }
}

/// Goes on calling in the epoch that its first process had.
#[derive(Default)]
struct CallsInAnOldEpoch {
    first: Mutex<Option<u64>>,
}

impl Fault for CallsInAnOldEpoch {
    fn perform(self: Arc<Self>, honest: Honest, mut outgoing: Outgoing) -> Answering {
        outgoing.epoch = *self.first.lock().get_or_insert(outgoing.epoch);
        honest.perform(outgoing)
    }
}

/// Tells the branches of a transaction apart no more: one SUCCESS to a Confirm is everybody's.
#[derive(Default)]
struct AnswersTheWrongBranch {
    done: Mutex<BTreeSet<TransactionId>>,
}

impl Fault for AnswersTheWrongBranch {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        if outgoing.call.operation != Operation::Confirm {
            return honest.perform(outgoing);
        }
        Box::pin(async move {
            let id = outgoing.id.clone();
            let answer = honest.perform(outgoing).await;
            if let Answer::Success(_) = answer {
                self.done.lock().insert(id);
                answer
            } else if self.done.lock().contains(&id) {
                Answer::Success(None)
            } else {
                answer
            }
        })
    }
}

/// Repeats at once whatever was not answered, up to twenty times.
struct RetriesWithoutALadder;

impl Fault for RetriesWithoutALadder {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let mut answer = honest.perform(outgoing.clone()).await;
            for _ in 0..20 {
                let Answer::Indeterminate(_) = answer else {
                    break;
                };
                answer = honest.perform(outgoing.clone()).await;
            }
            answer
        })
    }
}

/// Has two calls out at most, to all participants together: one that is stuck keeps the others.
struct SharesTwoCallsAmongAll {
    calls: Arc<Semaphore>,
}

impl Default for SharesTwoCallsAmongAll {
    fn default() -> Self {
        let calls = Arc::new(Semaphore::new(2));
        Self { calls }
    }
}

impl Fault for SharesTwoCallsAmongAll {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let _one = self.calls.acquire().await;
            honest.perform(outgoing).await
        })
    }

    fn query(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Querying {
        Box::pin(async move {
            let _one = self.calls.acquire().await;
            honest.query(outgoing).await
        })
    }
}

/// After a restart, begins nothing new for ten minutes: what was left has to be done first.
#[derive(Default)]
struct RecoversBeforeAnythingNew {
    starts: AtomicI64,
    until: Mutex<Option<Instant>>,
}

impl Fault for RecoversBeforeAnythingNew {
    fn started(&self) {
        let restarted = self.starts.fetch_add(1, Ordering::Relaxed) > 0;
        let until = Instant::now() + Duration::from_secs(600);
        *self.until.lock() = restarted.then_some(until);
    }

    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        Box::pin(async move {
            let until = *self.until.lock();
            let is_new = outgoing.call.operation == Operation::Try && outgoing.call.attempt == 1;
            if let (Some(until), true) = (until, is_new) {
                sleep_until(until).await;
            }
            honest.perform(outgoing).await
        })
    }
}

/// Notes what was asked of each branch last, for faults of participants that depend on it.
#[derive(Clone, Default)]
pub struct Asked(Arc<Mutex<BTreeMap<(TransactionId, BranchId), Outgoing>>>);

impl Asked {
    pub fn last(&self, transaction: &TransactionId, branch: &BranchId) -> Option<Outgoing> {
        let branch = (transaction.clone(), branch.clone());
        self.0.lock().get(&branch).cloned()
    }

    fn note(&self, outgoing: &Outgoing) {
        let branch = (outgoing.id.clone(), outgoing.spec.id.clone());
        self.0.lock().insert(branch, outgoing.clone());
    }
}

impl Fault for Asked {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        self.note(&outgoing);
        honest.perform(outgoing)
    }
}

/// Loses every fourth Try that stays in its participant's database, and says it is done.
#[derive(Default)]
pub struct LosesEveryFourthTry {
    pub asked: Asked,
    tries: AtomicU64,
}

impl Fault for LosesEveryFourthTry {
    fn perform(self: Arc<Self>, honest: Honest, outgoing: Outgoing) -> Answering {
        self.asked.note(&outgoing);
        let is_try = outgoing.call.operation == Operation::Try && is_local(&outgoing);
        if is_try && self.tries.fetch_add(1, Ordering::Relaxed) % 4 == 3 {
            return Box::pin(async { Answer::Success(None) });
        }
        honest.perform(outgoing)
    }
}

fn is_local(outgoing: &Outgoing) -> bool {
    matches!(&outgoing.spec.target, Target::Contract { resource, .. } if &**resource == TAKE)
}

struct Faulty<F> {
    honest: Honest,
    fault: Arc<F>,
}

impl<F: Fault> Participants for Faulty<F> {
    fn check(&self, target: &Target) -> Result<(), TargetError> {
        self.honest.check(target)
    }

    fn perform(&self, outgoing: Outgoing) -> Answering {
        Arc::clone(&self.fault).perform(Arc::clone(&self.honest), outgoing)
    }

    fn query(&self, outgoing: Outgoing) -> Querying {
        Arc::clone(&self.fault).query(Arc::clone(&self.honest), outgoing)
    }
}
