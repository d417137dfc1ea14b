//! Everything outside of the coordinator: what clients asked and heard, and what participants did. Each
//! event stands with the length that the journal had by then: what a cut at that place, or later, must
//! not take back. And the world itself can be taken back to a cut, because participants and clients
//! have seen a future that a coordinator on an older disk knows nothing of.

use std::{collections::HashMap, fs::File, path::Path, sync::Arc};

use parking_lot::Mutex;
use tercet_core::{check::Violation, fence::Row};
use tokio::sync::watch;

use super::history::{
    Answer, Ended, Evidence, FenceRow, History, Intent, Ledger, LedgerEffect, violations,
};

pub const PARTICIPANTS: [&str; 2] = ["stock", "money"];

#[derive(Default)]
pub struct World {
    inner: Mutex<Inner>,
    /// How many answers there were.
    heard: watch::Sender<usize>,
}

#[derive(Default)]
struct Inner {
    journal: Option<File>,
    past: Past,
    calls: usize,
    rows: HashMap<Branch, Row>,
    /// Grows when the world is taken back.
    age: u64,
}

/// What has happened, in order.
pub type Past = Vec<Event>;

#[derive(Clone)]
pub struct Event {
    /// The journal's length.
    pub at: u64,
    pub what: What,
}

#[derive(Clone)]
pub enum What {
    Intended(Intent),
    Invoked {
        call: usize,
        id: Arc<str>,
    },
    Answered {
        call: usize,
        answer: Answer,
    },
    /// A fence's row was written, and the business change with it, if there was one.
    Wrote {
        branch: Branch,
        row: Row,
        effect: Option<LedgerEffect>,
    },
}

/// Participant, transaction, branch.
pub type Branch = (&'static str, Arc<str>, Arc<str>);

impl World {
    /// From now on events are placed by the length of this journal.
    pub fn record_in(&self, journal: &Path) {
        let file = File::options().create(true).append(true).open(journal);
        self.inner.lock().journal = Some(file.unwrap());
    }

    /// Returns everything that has happened. From now on nothing is placed.
    pub fn stop_recording(&self) -> Past {
        let mut inner = self.inner.lock();
        inner.journal = None;
        inner.past.clone()
    }

    /// Makes this the past, all of it before any journal.
    pub fn take_back(&self, mut past: Past) {
        let mut inner = self.inner.lock();
        inner.rows.clear();
        let answers = Self::answers_in(&past);
        for event in &mut past {
            event.at = 0;
            if let What::Wrote { branch, row, .. } = &event.what {
                inner.rows.insert(branch.clone(), *row);
            }
        }
        inner.past = past;
        inner.age += 1;
        self.heard.send_replace(answers);
    }

    /// What of the past a cut at this place has to leave as it was.
    pub fn before(past: &Past, cut: u64) -> Past {
        let before = past.iter().take_while(|event| event.at <= cut);
        before.cloned().collect()
    }

    /// What clients meant.
    pub fn intents(past: &Past) -> impl Iterator<Item = &Intent> {
        past.iter().filter_map(|event| match &event.what {
            What::Intended(intent) => Some(intent),
            What::Invoked { .. } | What::Answered { .. } | What::Wrote { .. } => None,
        })
    }

    /// How many answers it has.
    pub fn answers_in(past: &Past) -> usize {
        let answers = past
            .iter()
            .filter(|event| matches!(event.what, What::Answered { .. }));
        answers.count()
    }

    /// Returns when there are so many answers.
    pub async fn until_answers(&self, count: usize) {
        let mut heard = self.heard.subscribe();
        let reached = heard.wait_for(|answers| *answers >= count).await;
        reached.expect("the sender is here");
    }

    /// How many answers there were.
    pub fn answers(&self) -> usize {
        *self.heard.borrow()
    }

    pub fn intend(&self, intent: &Intent) {
        self.inner.lock().note(What::Intended(intent.clone()));
    }

    /// Makes a call and notes what was heard.
    pub async fn call(&self, id: &str, call: impl Future<Output = Answer>) -> Answer {
        let number = {
            let mut inner = self.inner.lock();
            inner.calls += 1;
            let call = inner.calls;
            let id = id.into();
            inner.note(What::Invoked { call, id });
            call
        };
        let answer = call.await;
        let mut inner = self.inner.lock();
        let call = number;
        inner.note(What::Answered { call, answer });
        self.heard.send_modify(|answers| *answers += 1);
        answer
    }

    /// To be told to [`World::participate`]: a call that arrived before the world was taken back has no
    /// business in what came of it.
    pub fn age(&self) -> u64 {
        self.inner.lock().age
    }

    pub fn row(&self, branch: &Branch) -> Option<Row> {
        self.inner.lock().rows.get(branch).copied()
    }

    /// Lets a participant look at its row and write it. None when the world is not what it was.
    pub fn participate<T>(
        &self,
        age: u64,
        branch: &Branch,
        act: impl FnOnce(Option<&Row>) -> (Option<Row>, Option<LedgerEffect>, T),
    ) -> Option<T> {
        let mut inner = self.inner.lock();
        if inner.age != age {
            return None;
        }
        let before = inner.rows.get(branch).copied();
        let (row, effect, result) = act(before.as_ref());
        if let Some(row) = row
            && before != Some(row)
        {
            inner.rows.insert(branch.clone(), row);
            let branch = branch.clone();
            inner.note(What::Wrote {
                branch,
                row,
                effect,
            });
        }
        Some(result)
    }

    /// Everything that doesn't fit together, once the coordinator has said how all ended.
    pub fn judge(&self, ended: &[Ended]) -> Vec<Violation> {
        let inner = self.inner.lock();
        let (mut history, mut intents) = (History::default(), Vec::new());
        let mut calls = HashMap::new();
        let mut ledgers = PARTICIPANTS.map(|participant| Ledger {
            participant: participant.into(),
            accounts: Vec::new(),
            effects: Vec::new(),
            rows: Vec::new(),
        });
        for event in &inner.past {
            match &event.what {
                What::Intended(intent) => intents.push(intent.clone()),
                What::Invoked { call, id } => {
                    calls.insert(*call, history.invoke(Arc::clone(id)));
                }
                What::Answered { call, answer } => history.answer(calls[call], *answer),
                What::Wrote { branch, effect, .. } => {
                    let ledger = ledgers.iter_mut().find(|it| *it.participant == *branch.0);
                    ledger.unwrap().effects.extend(effect.clone());
                }
            }
        }
        for ((participant, transaction, branch), row) in &inner.rows {
            let ledger = ledgers
                .iter_mut()
                .find(|it| *it.participant == **participant);
            ledger.unwrap().rows.push(FenceRow {
                transaction: transaction.clone(),
                branch: branch.clone(),
                state: row.state,
            });
        }
        violations(&Evidence {
            history: &history,
            intents: &intents,
            ended,
            ledgers: &ledgers,
        })
    }
}

impl Inner {
    fn note(&mut self, what: What) {
        let journal = self.journal.as_ref();
        let at = journal.map_or(0, |it| it.metadata().unwrap().len());
        self.past.push(Event { at, what });
    }
}
