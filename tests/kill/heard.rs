//! Everything that clients ask and hear, and how far each transaction is known to have come.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tercet_core::{
    outcome::{Decision, Outcome, ReplyMode},
    transaction::State,
};
use tercet_sdk::{
    client::{Error, Outcome as Told, Refused, Transaction, TransactionState},
    proto::{participant::v1 as participant, v1},
};
use tokio::{sync::watch, time::timeout};

use super::{
    history::{Answer, History, Intent, Seen},
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
    history: History,
    intents: Vec<Intent>,
    unfinished: HashSet<String>,
    /// Refusals that no client of this test should meet.
    surprises: BTreeMap<String, usize>,
}

#[derive(Clone, Copy, Default)]
pub struct Progress {
    pub answers: usize,
    /// Transactions that were sent, are not known to have ended, and not forgotten.
    pub unfinished: usize,
}

impl Heard {
    pub fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::default(),
            progress: watch::Sender::default(),
        })
    }

    pub fn intend(&self, plan: &Plan) {
        self.inner.lock().intents.push(plan.intent.clone());
        self.remember(plan);
    }

    /// From now on this transaction is unfinished, until its end is heard of.
    pub fn remember(&self, plan: &Plan) {
        let mut inner = self.inner.lock();
        inner.unfinished.insert(plan.id().into());
        self.count(&inner, 0);
    }

    /// From now on nobody expects to hear of this transaction.
    pub fn forget(&self, plan: &Plan) {
        let mut inner = self.inner.lock();
        inner.unfinished.remove(plan.id());
        self.count(&inner, 0);
    }

    fn count(&self, inner: &Inner, answers: usize) {
        self.progress.send_modify(|it| {
            it.answers += answers;
            it.unfinished = inner.unfinished.len();
        });
    }

    /// Makes a call and writes down what was heard.
    pub async fn call(&self, plan: &Plan, call: impl Future<Output = Answer>) -> Answer {
        let number = self.inner.lock().history.invoke(plan.id());
        let answer = call.await;
        let mut inner = self.inner.lock();
        inner.history.answer(number, answer);
        if is_end(answer) {
            inner.unfinished.remove(plan.id());
        }
        self.count(&inner, 1);
        answer
    }

    pub fn progress(&self) -> Progress {
        *self.progress.borrow()
    }

    pub fn sent(&self) -> usize {
        self.inner.lock().intents.len()
    }

    /// Returns as soon as this holds; none if it takes far too long.
    pub async fn until(&self, holds: impl FnMut(&Progress) -> bool) -> Option<Progress> {
        let mut progress = self.progress.subscribe();
        let reached = timeout(PROGRESS_TIMEOUT, progress.wait_for(holds)).await;
        Some(*reached.ok()?.expect("the sender is here"))
    }

    /// What is still unfinished, for whoever has waited in vain.
    pub fn describe(&self) -> String {
        let inner = self.inner.lock();
        let some: Vec<_> = inner.unfinished.iter().take(5).collect();
        format!("{} unfinished, among them {some:?}", inner.unfinished.len())
    }

    /// All of it, once every client has gone.
    pub fn take(&self) -> (History, Vec<Intent>) {
        let mut inner = self.inner.lock();
        let surprises = std::mem::take(&mut inner.surprises);
        assert!(surprises.is_empty(), "refused: {surprises:#?}");
        (
            std::mem::take(&mut inner.history),
            std::mem::take(&mut inner.intents),
        )
    }

    pub fn outcome<E: Into<Error>>(&self, told: Result<Told, E>) -> Answer {
        match told {
            Ok(Told::Success(transaction)) => Answer::Shown(seen(&transaction)),
            Ok(Told::Failed(failed)) => Answer::Shown(seen(&failed.transaction)),
            Ok(Told::Processing(processing)) => match processing.transaction() {
                Some(transaction) => Answer::Shown(seen(transaction)),
                None => Answer::Unknown,
            },
            Err(error) => self.error(&error.into()),
        }
    }

    pub fn shown(&self, read: Result<Transaction, Error>) -> Answer {
        match read {
            Ok(transaction) => Answer::Shown(seen(&transaction)),
            Err(error) => self.error(&error),
        }
    }

    pub fn error(&self, error: &Error) -> Answer {
        match error.refused() {
            Some(refused) => self.refused(refused),
            None => Answer::Unknown,
        }
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

pub fn is_end(answer: Answer) -> bool {
    matches!(answer, Answer::Shown(seen) if seen.state.is_terminal())
}

/// What a transaction shows of itself.
pub fn seen(transaction: &Transaction) -> Seen {
    let message = transaction.as_message();
    Seen {
        state: match transaction.state() {
            TransactionState::Trying => State::Trying,
            TransactionState::Confirming => State::Confirming,
            TransactionState::Confirmed => State::Confirmed,
            TransactionState::Canceling => State::Canceling,
            TransactionState::Canceled => State::Canceled,
            TransactionState::Mixed | TransactionState::Unspecified => {
                panic!("no operator is here: {message:?}")
            }
        },
        outcome: match transaction.outcome() {
            participant::Outcome::Success => Outcome::Success,
            participant::Outcome::Failed => Outcome::Failed,
            participant::Outcome::Processing => Outcome::Processing,
            participant::Outcome::Unspecified => panic!("without an outcome: {message:?}"),
        },
        mode: match message.reply_mode() {
            v1::ReplyMode::TwoState => ReplyMode::TwoState,
            v1::ReplyMode::ThreeState => ReplyMode::ThreeState,
            v1::ReplyMode::Accepted => ReplyMode::Accepted,
            v1::ReplyMode::Unspecified => panic!("without a mode: {message:?}"),
        },
        revision: transaction.revision().unsigned_abs(),
    }
}
