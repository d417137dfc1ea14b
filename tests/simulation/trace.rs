//! What is written down while a seed runs: what clients asked and heard, what became durable, what
//! left for participants, and how often everything occurred.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tercet::{
    participants::{Outgoing, Participants, TargetError},
    store::Record,
};
use tercet_core::{
    answer::{Answer, QueryAnswer},
    check::Violation,
    retry::{EARLY_INTERVALS_MS, RetryPolicy},
    transaction::{State, Target},
};

use super::{
    clock::elapsed_ms,
    history::{
        self, History, Intent,
        inside::{Event, Inside, Pace, Sent, Stored, What},
    },
    participant::RETRY_AFTER_MS_MIN,
    plan::Plan,
    tally::Tally,
    turns::Turns,
};

/// Shared by everybody in one world.
#[derive(Clone, Default)]
pub struct Trace(Arc<Mutex<Inner>>);

#[derive(Default)]
pub struct Inner {
    pub history: History,
    pub intents: Vec<Intent>,
    pub inside: Inside,
    pub tally: Tally,
    /// What was seen to be broken at once.
    pub violations: Vec<Violation>,
    /// Everything that was ever durable of each transaction: its states by revision.
    durable: BTreeMap<Arc<str>, BTreeMap<u64, State>>,
    boot: u64,
}

impl Trace {
    pub fn intend(&self, intent: Intent) {
        self.0.lock().intents.push(intent);
    }

    /// Makes a call and writes down what was heard.
    pub async fn call(
        &self,
        id: &str,
        call: impl Future<Output = history::Answer>,
    ) -> history::Answer {
        let number = self.0.lock().history.invoke(id);
        let answer = call.await;
        let mut inner = self.0.lock();
        inner.history.answer(number, answer);
        inner.tally.answer(answer);
        inner.is_durable(id, answer);
        answer
    }

    pub fn count(&self, kind: &'static str, what: impl Into<String>) {
        self.0.lock().tally.count(kind, what);
    }

    /// A process begins, and finds this on its disk.
    pub fn found(&self, record: &Record) {
        let is_known = {
            let inner = self.0.lock();
            let states = inner.durable.get(record.id.as_str());
            states.is_some_and(|states| states.contains_key(&record.revision))
        };
        if !is_known {
            self.stored(record);
        }
    }

    /// A record is durable, and not acknowledged yet.
    pub fn stored(&self, record: &Record) {
        let transaction = &record.transaction;
        let id: Arc<str> = record.id.as_str().into();
        let stored = Stored {
            id: Arc::clone(&id),
            revision: record.revision,
            epoch: record.epoch,
            boot: record.boot,
            state: transaction.state,
            branches: transaction
                .branches
                .iter()
                .map(|it| it.spec.id.as_str().into())
                .collect(),
            pace: pace(&transaction.policy),
        };
        let mut inner = self.0.lock();
        inner.tally.record(transaction);
        let states = inner.durable.entry(id).or_default();
        states.insert(record.revision, transaction.state);
        inner.note(What::Stored(stored));
    }

    /// A process begins.
    pub fn booted(&self, boot: u64) {
        self.0.lock().boot = boot;
    }

    pub fn healed(&self, at_ms: u64, within_ms: u64) {
        let what = What::Healed { within_ms };
        self.0.lock().inside.events.push(Event { at_ms, what });
    }

    pub fn fault(&self, at_ms: u64, what: String) {
        let what = What::Fault(what);
        self.0.lock().inside.events.push(Event { at_ms, what });
    }

    /// A client sends it.
    pub fn kind(&self, plan: &Plan) {
        let Intent {
            mode, interactive, ..
        } = plan.intent;
        self.0.lock().tally.intent(mode, interactive);
    }

    /// A watch goes on, from one revision and state to the next.
    pub fn watched(&self, id: &str, from: (i64, State), to: (i64, State)) {
        let decided = from.1.decision();
        if to.0 < from.0 || (decided.is_some() && decided != to.1.decision()) {
            self.0.lock().violations.push(Violation {
                invariant: "S8",
                detail: format!("a watch of {id} went back from {from:?} to {to:?}"),
            });
        }
    }

    pub fn expect(&self, id: &str, within_ms: u64, invariant: &'static str) {
        let id = id.into();
        self.0.lock().note(What::Expected {
            id,
            within_ms,
            invariant,
        });
    }

    fn sent(&self, outgoing: &Outgoing) {
        let mut inner = self.0.lock();
        let boot = inner.boot;
        let sent = Sent {
            id: outgoing.id.as_str().into(),
            branch: outgoing.spec.id.as_str().into(),
            participant: participant(&outgoing.spec.target).into(),
            operation: outgoing.call.operation,
            query: outgoing.call.query,
            epoch: outgoing.epoch,
            boot,
        };
        inner.tally.sent(&sent);
        inner.note(What::Sent(sent));
    }

    /// Watches every call that leaves. Must be called on the host.
    pub fn watch(&self, participants: Arc<dyn Participants>) -> Arc<dyn Participants> {
        let trace = self.clone();
        Arc::new(Watched {
            participants,
            trace,
            turns: Turns::new(),
            calls: 0.into(),
        })
    }

    pub fn take(&self) -> Inner {
        std::mem::take(&mut *self.0.lock())
    }
}

impl Inner {
    fn note(&mut self, what: What) {
        let at_ms = elapsed_ms();
        self.inside.events.push(Event { at_ms, what });
    }

    /// What is said has been durable before.
    fn is_durable(&mut self, id: &str, answer: history::Answer) {
        let states = self.durable.get(id);
        let durable = match answer {
            history::Answer::Shown(seen) => {
                let state = states.and_then(|states| states.get(&seen.revision));
                state == Some(&seen.state)
            }
            history::Answer::Accepted => states.is_some(),
            history::Answer::Decided(decision) => states.is_some_and(|states| {
                let mut decisions = states.values().filter_map(|state| state.decision());
                decisions.any(|it| it == decision)
            }),
            _ => true,
        };
        if !durable {
            self.violations.push(Violation {
                invariant: "S8",
                detail: format!("{id} was said to be {answer:?}, and no such record was durable"),
            });
        }
    }

    /// The same for the same history.
    pub fn hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.history.hash(&mut hasher);
        self.inside.hash(&mut hasher);
        self.tally.hash(&mut hasher);
        hasher.finish()
    }
}

/// Participants whose every call is written down.
struct Watched {
    participants: Arc<dyn Participants>,
    trace: Trace,
    turns: Turns,
    calls: AtomicU64,
}

impl Participants for Watched {
    fn check(&self, target: &Target) -> Result<(), TargetError> {
        self.participants.check(target)
    }

    fn perform(&self, outgoing: Outgoing) -> BoxFuture<'static, Answer> {
        self.trace.sent(&outgoing);
        let (trace, turns) = (self.trace.clone(), self.turns.clone());
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.participants.perform(outgoing);
        Box::pin(async move {
            let answer = answer.await;
            turns.wait(number).await;
            trace.count("answer", answer_name(&answer));
            answer
        })
    }

    fn query(&self, outgoing: Outgoing) -> BoxFuture<'static, QueryAnswer> {
        self.trace.sent(&outgoing);
        let (trace, turns) = (self.trace.clone(), self.turns.clone());
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        let answer = self.participants.query(outgoing);
        Box::pin(async move {
            let answer = answer.await;
            turns.wait(number).await;
            trace.count("query", query_name(&answer));
            answer
        })
    }
}

fn pace(policy: &RetryPolicy) -> Pace {
    let intervals = &policy.intervals_ms;
    let last_ms = intervals.last().copied().unwrap_or_default();
    let shortest_ms = last_ms * u64::from(1000 - policy.jitter_permille) / 1000;
    Pace {
        rungs: (intervals.len() - 1 + EARLY_INTERVALS_MS.len()) as u64,
        last_ms: shortest_ms.min(RETRY_AFTER_MS_MIN),
    }
}

pub fn participant(target: &Target) -> &str {
    match target {
        Target::Contract { participant, .. } => participant.as_str(),
        Target::Methods(methods) => &methods.endpoint,
    }
}

fn answer_name(answer: &Answer) -> &'static str {
    match answer {
        Answer::Success(_) => "SUCCESS",
        Answer::Failed(_) => "FAILED",
        Answer::Processing { .. } => "PROCESSING",
        Answer::NotSent(_) => "not sent",
        Answer::TooLarge(_) => "too large",
        Answer::Indeterminate(_) => "indeterminate",
    }
}

fn query_name(answer: &QueryAnswer) -> String {
    match answer {
        QueryAnswer::Recorded(recorded) => format!("{:?}", recorded.state),
        QueryAnswer::Unclear => "unclear".into(),
        QueryAnswer::TooLarge(_) => "too large".into(),
        QueryAnswer::Indeterminate(_) => "indeterminate".into(),
    }
}
