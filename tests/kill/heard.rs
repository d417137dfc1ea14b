//! Everything that clients ask and hear, and how far they are known to have come.

use std::{
    collections::{BTreeMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tercet_core::outcome::{Decision, Outcome};
use tercet_sdk::client::{Error, Outcome as Told, Refused, Transaction};
use tokio::{sync::watch, time::timeout};

use super::{
    history::{Answer, History, Intent, told},
    names::Names,
    plan::Plan,
};

/// Only a test that fails waits as long.
pub const PROGRESS_TIMEOUT: Duration = Duration::from_secs(90);

/// Shared by all clients.
pub struct Heard {
    inner: Mutex<Inner>,
    progress: watch::Sender<Progress>,
}

#[derive(Default)]
struct Inner {
    all: All,
    unfinished: HashSet<Arc<str>>,
    /// Refusals that no client of this test should meet.
    surprises: BTreeMap<String, usize>,
}

/// What there is to judge by when every client has gone.
#[derive(Default)]
pub struct All {
    pub history: History,
    pub intents: Vec<Intent>,
    pub operations: Operations,
    pub names: Names,
}

#[derive(Clone, Copy, Default)]
pub struct Progress {
    pub answers: usize,
    /// Transactions that the coordinator has said it has.
    pub accepted: usize,
    /// Transactions that were sent, whose outcome nobody has heard, and not forgotten.
    pub unfinished: usize,
}

/// Calls by what came of them.
#[derive(Clone, Copy, Default)]
pub struct Operations {
    /// A definite answer.
    pub ok: usize,
    /// A refusal: this call changed nothing, for certain.
    pub fail: usize,
    /// Nothing definite: it may have happened or not.
    pub info: usize,
}

impl Heard {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            progress: watch::Sender::default(),
        })
    }

    pub fn intend(&self, plan: &Plan) {
        let mut inner = self.inner.lock();
        let intent = inner.all.names.intent(&plan.intent);
        inner.unfinished.insert(Arc::clone(&intent.id));
        inner.all.intents.push(intent);
        self.count(&inner, |_| {});
    }

    /// From now on nobody expects to hear of this transaction.
    pub fn forget(&self, plan: &Plan, answer: Answer) {
        let mut inner = self.inner.lock();
        if inner.unfinished.remove(plan.id()) {
            self.count(&inner, |it| it.accepted += usize::from(exists(answer)));
        }
    }

    fn count(&self, inner: &Inner, more: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(|it| {
            more(it);
            it.unfinished = inner.unfinished.len();
        });
    }

    /// Makes a call and writes down what was heard.
    pub async fn call(&self, plan: &Plan, call: impl Future<Output = Answer>) -> Answer {
        let number = {
            let all = &mut self.inner.lock().all;
            let id = all.names.name(plan.id());
            all.history.invoke(id)
        };
        let answer = call.await;
        let mut inner = self.inner.lock();
        inner.all.history.answer(number, answer);
        inner.all.operations.count(answer);
        let over = is_definitive(answer) && inner.unfinished.remove(plan.id());
        self.count(&inner, |it| {
            it.answers += 1;
            it.accepted += usize::from(over);
        });
        answer
    }

    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Returns as soon as this holds; none if for far too long no transaction has been accepted.
    pub async fn until(&self, mut holds: impl FnMut(&Progress) -> bool) -> Option<Progress> {
        let mut progress = self.progress.subscribe();
        loop {
            let accepted = progress.borrow().accepted;
            let moved = progress.wait_for(|it| holds(it) || it.accepted > accepted);
            let moved = timeout(PROGRESS_TIMEOUT, moved).await.ok()?;
            let moved = *moved.expect("the sender is here");
            if holds(&moved) {
                return Some(moved);
            }
        }
    }

    /// What is still unfinished, for whoever has waited in vain.
    pub fn describe(&self) -> String {
        let inner = self.inner.lock();
        let some: Vec<_> = inner.unfinished.iter().take(5).collect();
        format!("{} unfinished, among them {some:?}", inner.unfinished.len())
    }

    /// All of it, once every client has gone.
    pub fn take(&self) -> All {
        self.check_refusals();
        std::mem::take(&mut self.inner.lock().all)
    }

    /// Clients that are refused for what they are do no work, and prove nothing.
    pub fn check_refusals(&self) {
        let surprises = &self.inner.lock().surprises;
        assert!(surprises.is_empty(), "refused: {surprises:#?}");
    }

    pub fn outcome<E: Into<Error>>(&self, told: Result<Told, E>) -> Answer {
        told::outcome(told, |it| self.refused(it))
    }

    pub fn shown(&self, read: Result<Transaction, Error>) -> Answer {
        told::shown(read, |it| self.refused(it))
    }

    pub fn error(&self, error: &Error) -> Answer {
        told::error(error, |it| self.refused(it))
    }

    fn refused(&self, refused: &Refused) -> Answer {
        match &*refused.reason {
            "TRANSACTION_NOT_FOUND" => Answer::NotFound,
            // Rollback of what was committed.
            "DECISION_CONFLICT" => Answer::Decided(Decision::Commit),
            // Another branch for what was canceled meanwhile, or a commit without a branch that
            // never arrived.
            "STATE_INVALID" | "BRANCH_SET_MISMATCH" | "INFLIGHT_LIMIT" => Answer::NotTaken,
            _ => {
                let surprise = refused.to_string();
                *self.inner.lock().surprises.entry(surprise).or_default() += 1;
                Answer::NotTaken
            }
        }
    }
}

impl Operations {
    fn count(&mut self, answer: Answer) {
        match answer {
            Answer::Shown(_) | Answer::Accepted | Answer::Decided(_) | Answer::Merged => {
                self.ok += 1
            }
            Answer::NotTaken | Answer::NotFound => self.fail += 1,
            Answer::Unknown => self.info += 1,
        }
    }

    pub fn sum(self) -> usize {
        self.ok + self.fail + self.info
    }
}

impl fmt::Display for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part| 100.0 * part as f64 / self.sum().max(1) as f64;
        let Self { ok, fail, info } = *self;
        write!(
            f,
            "{} operations: {ok} ok ({:.1} %), {fail} fail ({:.1} %), {info} info ({:.1} %)",
            self.sum(),
            share(ok),
            share(fail),
            share(info)
        )
    }
}

/// SUCCESS or FAILED, for good.
pub fn is_definitive(answer: Answer) -> bool {
    matches!(answer, Answer::Shown(seen) if seen.outcome != Outcome::Processing)
}

fn exists(answer: Answer) -> bool {
    matches!(
        answer,
        Answer::Shown(_) | Answer::Accepted | Answer::Decided(_)
    )
}
