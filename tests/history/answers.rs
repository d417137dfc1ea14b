//! What clients were told: nothing accepted is lost, nothing said is taken back.

use std::collections::{HashMap, HashSet};

use tercet_core::{
    check::Violation,
    outcome::{self, Decision, Outcome},
    transaction::State,
};

use super::{Answer, Ended, Entry, Evidence, Intent, Seen, broken};

pub(super) fn violations(evidence: &Evidence<'_>) -> Vec<Violation> {
    let mut told = Told::default();
    let mut calls = HashMap::new();
    for entry in &evidence.history.entries {
        match entry {
            Entry::Invoked { call, id } => {
                let before = told.known.entry(id).or_default().clone();
                calls.insert(*call, (&**id, before));
            }
            Entry::Answered { call, answer } => {
                let (id, before) = calls
                    .remove(call)
                    .expect("it was invoked, and answered once");
                told.answer(id, &before, *answer);
            }
        }
    }
    for (id, _) in calls.into_values() {
        told.known(id).possible = true;
    }
    let mut listed = HashSet::new();
    for ended in evidence.ended {
        if !listed.insert(&*ended.id) {
            told.found
                .push(broken("S1", format!("{} is listed twice", ended.id)));
        }
        told.ended(ended);
    }
    told.lost(&listed);
    let mut found = told.found;
    content(evidence, &mut found);
    found
}

/// What everybody has heard so far.
#[derive(Default)]
struct Told<'a> {
    known: HashMap<&'a str, Known>,
    found: Vec<Violation>,
}

/// What has been said of one transaction: nothing that is said later may fall behind it.
#[derive(Clone, Default)]
struct Known {
    accepted: bool,
    /// A call without a definite answer may have created it.
    possible: bool,
    last: Option<Seen>,
    decision: Option<Decision>,
    outcome: Option<Outcome>,
}

impl<'a> Told<'a> {
    /// `before`: what had been said of it when this call was made.
    fn answer(&mut self, id: &'a str, before: &Known, answer: Answer) {
        match answer {
            Answer::Shown(seen) => self.shown(id, before, seen),
            Answer::Accepted => self.known(id).accepted = true,
            Answer::Decided(decision) => {
                self.known(id).accepted = true;
                self.decided(id, decision);
            }
            Answer::NotFound if before.accepted => {
                let detail = format!("{id} was accepted, and then not found");
                self.found.push(broken("S1", detail));
            }
            Answer::NotFound | Answer::NotTaken => {}
            Answer::Merged => {
                let detail = format!("{id} was shown to who sent something else");
                self.found.push(broken("S11", detail));
            }
            Answer::Unknown => self.known(id).possible = true,
        }
    }

    fn known(&mut self, id: &'a str) -> &mut Known {
        self.known.entry(id).or_default()
    }

    fn shown(&mut self, id: &'a str, before: &Known, seen: Seen) {
        let expected = outcome::outcome(seen.state, seen.mode);
        if seen.outcome != expected {
            let detail = format!("{id} was shown as {seen:?}, whose outcome is {expected:?}");
            self.found.push(broken("S4", detail));
        }
        if let Some(last) = before.last
            && (seen.revision < last.revision || rank(seen.state) < rank(last.state))
        {
            let detail = format!("{id} went back from {last:?} to {seen:?}");
            self.found.push(broken("S8", detail));
        }
        if let Some(decision) = seen.state.decision() {
            self.decided(id, decision);
        }
        self.came_to(id, seen.outcome);
        let known = self.known(id);
        known.accepted = true;
        if known.last.is_none_or(|last| last.revision < seen.revision) {
            known.last = Some(seen);
        }
    }

    fn decided(&mut self, id: &'a str, decision: Decision) {
        let first = *self.known(id).decision.get_or_insert(decision);
        if first != decision {
            let detail = format!("{id} was decided {first:?}, and then {decision:?}");
            self.found.push(broken("S3", detail));
        }
    }

    fn came_to(&mut self, id: &'a str, outcome: Outcome) {
        if outcome == Outcome::Processing {
            return;
        }
        let first = *self.known(id).outcome.get_or_insert(outcome);
        if first != outcome {
            let detail = format!("{id} came to {first:?}, and then to {outcome:?}");
            self.found.push(broken("S8", detail));
        }
    }

    /// The end is one more answer, heard after all others.
    fn ended(&mut self, ended: &'a Ended) {
        let before = self.known(&ended.id).clone();
        if !before.accepted && !before.possible {
            let detail = format!("{} exists, and every call for it was refused", ended.id);
            self.found.push(broken("S1", detail));
        }
        self.shown(&ended.id, &before, ended.seen);
        if !ended.seen.state.is_terminal() && ended.attention.is_none() {
            let detail = format!("{} is {:?}, and nobody is told", ended.id, ended.seen.state);
            self.found.push(broken("L1", detail));
        }
    }

    fn lost(&mut self, listed: &HashSet<&str>) {
        for (id, known) in &self.known {
            if known.accepted && !listed.contains(id) {
                let detail = format!("{id} was accepted, and is not there in the end");
                self.found.push(broken("S1", detail));
            }
        }
    }
}

/// A state's rank never sinks, and the last one is the end.
fn rank(state: State) -> u8 {
    match state {
        State::Trying => 0,
        State::Confirming | State::Canceling => 1,
        State::Confirmed | State::Canceled | State::Mixed(_) => 2,
    }
}

/// What is recorded under an id is what a client meant by it.
fn content(evidence: &Evidence<'_>, found: &mut Vec<Violation>) {
    let mut intents: HashMap<&str, Vec<&Intent>> = HashMap::new();
    for intent in evidence.intents {
        intents.entry(&intent.id).or_default().push(intent);
    }
    for ended in evidence.ended {
        let meant: &[_] = intents.get(&*ended.id).map_or(&[], Vec::as_slice);
        if meant.iter().any(|intent| is_meant(intent, ended)) {
            continue;
        }
        if ended.branches.is_empty() && !meant.is_empty() {
            let detail = format!("{} is there, and nothing that its client sent", ended.id);
            found.push(broken("S1", detail));
        } else {
            let detail = format!("{} is not what its client sent", ended.id);
            found.push(broken("S11", detail));
        }
    }
}

fn is_meant(intent: &Intent, ended: &Ended) -> bool {
    let forbidden = ended.branches.is_empty() && ended.seen.state == State::Canceled;
    let all_there = intent.interactive || ended.branches.len() == intent.branches.len();
    let each_meant = ended.branches.iter().all(|branch| {
        let meant = intent.branches.iter().find(|it| it.id == branch.id);
        meant.is_some_and(|it| it.participant == branch.participant)
    });
    forbidden || (ended.seen.mode == intent.mode && all_there && each_meant)
}
