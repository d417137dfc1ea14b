//! What only a simulation sees: every record that became durable and every call that left, in one
//! order, each with its simulated time. [`violations`] holds them against the invariants that no
//! client can see broken from outside.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tercet_core::{check::Violation, operation::Operation, outcome::Decision, transaction::State};

use super::broken;

#[derive(Clone, Debug, Default, Hash)]
pub struct Inside {
    pub events: Vec<Event>,
}

#[derive(Clone, Debug, Hash)]
pub struct Event {
    pub at_ms: u64,
    pub what: What,
}

#[derive(Clone, Debug, Hash)]
pub enum What {
    /// A record is durable.
    Stored(Stored),
    /// A call leaves for a participant.
    Sent(Sent),
    /// A fault begins, or ends.
    Fault(String),
    /// The last fault is over. Everything has ended this much later.
    Healed { within_ms: u64 },
    /// A client sends a transaction that nothing is in the way of.
    Expected {
        id: Arc<str>,
        within_ms: u64,
        /// What is broken if it hasn't ended by then.
        invariant: &'static str,
    },
}

#[derive(Clone, Debug, Hash)]
pub struct Stored {
    pub id: Arc<str>,
    pub revision: u64,
    pub epoch: u64,
    pub boot: u64,
    pub state: State,
    pub branches: Vec<Arc<str>>,
    pub pace: Pace,
}

#[derive(Clone, Debug, Hash)]
pub struct Sent {
    pub id: Arc<str>,
    pub branch: Arc<str>,
    pub participant: Arc<str>,
    pub operation: Operation,
    pub query: bool,
    pub epoch: u64,
    pub boot: u64,
}

/// The retry intervals of a transaction, as far as they bound its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Pace {
    /// Intervals before the last one, early attempts among them.
    pub rungs: u64,
    /// The shortest that the last one can be, jitter taken off.
    pub last_ms: u64,
}

pub fn violations(inside: &Inside) -> Vec<Violation> {
    let mut seen = Seen::default();
    for event in &inside.events {
        match &event.what {
            What::Stored(stored) => seen.stored(event.at_ms, stored),
            What::Sent(sent) => seen.sent(event.at_ms, sent),
            What::Fault(_) => {}
            What::Healed { within_ms } => seen.healed = Some((event.at_ms, *within_ms)),
            What::Expected {
                id,
                within_ms,
                invariant,
            } => seen.expected.push((id, event.at_ms + within_ms, invariant)),
        }
    }
    seen.in_time();
    seen.bounded();
    seen.found
}

#[derive(Default)]
struct Seen<'a> {
    records: BTreeMap<&'a str, Last>,
    calls: BTreeMap<Series<'a>, Calls>,
    /// The newest that anything was written in.
    epoch: u64,
    healed: Option<(u64, u64)>,
    expected: Vec<(&'a str, u64, &'static str)>,
    found: Vec<Violation>,
}

/// The last durable record of a transaction.
struct Last {
    revision: u64,
    state: State,
    branches: BTreeSet<Arc<str>>,
    pace: Pace,
    ended_ms: Option<u64>,
}

/// The calls that one process makes for one thing.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Series<'a> {
    id: &'a str,
    branch: &'a str,
    operation: u8,
    query: bool,
    boot: u64,
}

struct Calls {
    first_ms: u64,
    last_ms: u64,
    count: u64,
}

impl<'a> Seen<'a> {
    fn stored(&mut self, at_ms: u64, stored: &'a Stored) {
        let id = &*stored.id;
        if stored.epoch < self.epoch {
            let (from, to) = (self.epoch, stored.epoch);
            let detail = format!("{id} was written in epoch {to} after {from}");
            self.found.push(broken("S9", detail));
        }
        self.epoch = self.epoch.max(stored.epoch);
        let ended_ms = stored.state.is_terminal().then_some(at_ms);
        let mut now = Last {
            revision: stored.revision,
            state: stored.state,
            branches: stored.branches.iter().cloned().collect(),
            pace: stored.pace,
            ended_ms,
        };
        let Some(last) = self.records.remove(id) else {
            self.records.insert(id, now);
            return;
        };
        let (before, after) = (last.state, stored.state);
        let (first, second) = (before.decision(), after.decision());
        if first.is_some() && first != second {
            let detail = format!("{id} was decided {first:?} on record, and then {second:?}");
            self.found.push(broken("S3", detail));
        }
        if stored.revision <= last.revision || (before.is_terminal() && before != after) {
            let (from, to) = (last.revision, stored.revision);
            let detail = format!(
                "{id} went from {before:?} (revision {from}) to {after:?} ({to}) on record"
            );
            self.found.push(broken("S8", detail));
        }
        if let Some(lost) = last.branches.difference(&now.branches).next() {
            let detail = format!("{id} lost its branch {lost} on record");
            self.found.push(broken("S1", detail));
        }
        now.ended_ms = last.ended_ms.or(now.ended_ms);
        self.records.insert(id, now);
    }

    fn sent(&mut self, at_ms: u64, sent: &'a Sent) {
        self.justified(sent);
        let series = Series {
            id: &sent.id,
            branch: &sent.branch,
            operation: sent.operation as u8,
            query: sent.query,
            boot: sent.boot,
        };
        let calls = self.calls.entry(series).or_insert(Calls {
            first_ms: at_ms,
            last_ms: at_ms,
            count: 0,
        });
        calls.last_ms = at_ms;
        calls.count += 1;
    }

    /// What leaves has been decided, on record.
    fn justified(&mut self, sent: &Sent) {
        let Sent {
            id,
            branch,
            operation,
            query,
            ..
        } = sent;
        let call = if *query { "a Query for " } else { "" };
        let Some(last) = self.records.get(&**id) else {
            let detail = format!("{call}{operation:?} of {id}/{branch} left before its record");
            self.found.push(broken("S7", detail));
            return;
        };
        let decided = match operation {
            Operation::Try => true,
            Operation::Confirm => last.state.decision() == Some(Decision::Commit),
            Operation::Cancel => last.state.decision() == Some(Decision::Cancel),
        };
        if !decided || !last.branches.contains(branch) {
            let state = last.state;
            let detail = format!(
                "{call}{operation:?} of {id}/{branch} left while its record says {state:?}"
            );
            self.found.push(broken("S7", detail));
        }
        if sent.epoch < self.epoch {
            let (from, to) = (self.epoch, sent.epoch);
            let detail =
                format!("{call}{operation:?} of {id}/{branch} left in epoch {to} after {from}");
            self.found.push(broken("S9", detail));
        }
    }

    fn in_time(&mut self) {
        for (id, by_ms, invariant) in std::mem::take(&mut self.expected) {
            let last = self.records.get(id);
            let ended_ms = last.and_then(|last| last.ended_ms);
            if ended_ms.is_none_or(|at| at > by_ms) {
                let state = last.map(|last| last.state);
                let detail = format!(
                    "{id} should have ended by {by_ms} ms; it is {state:?}, ended at {ended_ms:?} ms"
                );
                self.found.push(broken(invariant, detail));
            }
        }
        let Some((healed_ms, within_ms)) = self.healed else {
            return;
        };
        for (id, last) in &self.records {
            if last.ended_ms.is_none_or(|at| at > healed_ms + within_ms) {
                let (state, ended_ms) = (last.state, last.ended_ms);
                let detail = format!(
                    "all was well at {healed_ms} ms, and {id} is {state:?}, ended at {ended_ms:?} ms"
                );
                self.found.push(broken("L1", detail));
            }
        }
    }

    /// No more calls than the ladder has rungs, and then one for each of its last interval.
    fn bounded(&mut self) {
        for (series, calls) in &self.calls {
            let Some(Pace { rungs, last_ms }) = self.records.get(series.id).map(|it| it.pace)
            else {
                continue; // which is found out elsewhere
            };
            let most = 1 + rungs + (calls.last_ms - calls.first_ms) / last_ms.max(1);
            if calls.count > most {
                let Series { id, branch, .. } = series;
                let (count, from, to) = (calls.count, calls.first_ms, calls.last_ms);
                let detail = format!(
                    "{id}/{branch} was called {count} times from {from} to {to} ms, at most {most} were due"
                );
                self.found.push(broken("L5", detail));
            }
        }
    }
}
