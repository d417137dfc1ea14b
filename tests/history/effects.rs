//! What participants did: once, in order, and as the coordinator decided.

use std::collections::{HashMap, HashSet};

use tercet_core::{
    check::Violation,
    fence,
    operation::Operation,
    transaction::{BranchState, State},
};

use super::{Ended, EndedBranch, Evidence, LedgerEffect, broken};

/// Participant, transaction, branch.
type Key<'a> = (&'a str, &'a str, &'a str);

pub(super) fn violations(evidence: &Evidence<'_>) -> Vec<Violation> {
    let done = Done::read(evidence);
    let mut found = Vec::new();
    for (key, effects) in &done.effects {
        in_order(key, effects, &mut found);
    }
    as_sent(evidence, &done, &mut found);
    for ended in evidence.ended {
        one_way(ended, &done, &mut found);
        for branch in &ended.branches {
            agrees(ended, branch, &done, &mut found);
        }
    }
    justified(evidence, &done, &mut found);
    found
}

/// What the databases say of each branch.
#[derive(Default)]
struct Done<'a> {
    effects: HashMap<Key<'a>, Vec<&'a LedgerEffect>>,
    rows: HashMap<Key<'a>, fence::State>,
}

impl<'a> Done<'a> {
    fn read(evidence: &Evidence<'a>) -> Self {
        let mut done = Self::default();
        for ledger in evidence.ledgers {
            for effect in &ledger.effects {
                let key = (&*ledger.participant, &*effect.transaction, &*effect.branch);
                done.effects.entry(key).or_default().push(effect);
            }
            for row in &ledger.rows {
                let key = (&*ledger.participant, &*row.transaction, &*row.branch);
                done.rows.insert(key, row.state);
            }
        }
        done
    }

    fn has(&self, key: &Key<'_>, operation: Operation) -> bool {
        let effects = self.effects.get(key);
        effects.is_some_and(|effects| effects.iter().any(|it| it.operation == operation))
    }
}

/// Each once, Try first.
fn in_order(key: &Key<'_>, effects: &[&LedgerEffect], found: &mut Vec<Violation>) {
    let name = name(key);
    for operation in [Operation::Try, Operation::Confirm, Operation::Cancel] {
        let count = effects
            .iter()
            .filter(|it| it.operation == operation)
            .count();
        if count > 1 {
            let detail = format!("{operation:?} of {name} took effect {count} times");
            found.push(broken("S6", detail));
        }
    }
    let place = |operation| effects.iter().position(|it| it.operation == operation);
    let tried = place(Operation::Try);
    if let (Some(tried), Some(canceled)) = (tried, place(Operation::Cancel))
        && canceled < tried
    {
        found.push(broken("S5", format!("{name} was tried after its Cancel")));
    }
    if tried.is_none() {
        let detail = format!("{name} was ended without having been tried");
        found.push(broken("S10", detail));
    }
}

/// Each with the content that its client sent.
fn as_sent(evidence: &Evidence<'_>, done: &Done<'_>, found: &mut Vec<Violation>) {
    let mut meant = HashMap::new();
    for intent in evidence.intents {
        for branch in &intent.branches {
            let key = (&*branch.participant, &*intent.id, &*branch.id);
            meant.insert(key, branch);
        }
    }
    for (key, effects) in &done.effects {
        let as_sent = meant.get(key).is_some_and(|branch| {
            let same =
                |it: &&LedgerEffect| it.account == branch.account && it.amount == branch.amount;
            effects.iter().all(same)
        });
        if !as_sent {
            let detail = format!("{} took effect with other content", name(key));
            found.push(broken("S11", detail));
        }
    }
}

/// No transaction is confirmed here and canceled there.
fn one_way(ended: &Ended, done: &Done<'_>, found: &mut Vec<Violation>) {
    let any = |operation| {
        let mut branches = ended.branches.iter();
        branches.any(|branch| done.has(&key(ended, branch), operation))
    };
    let operator = matches!(ended.seen.state, State::Mixed(_));
    if any(Operation::Confirm) && any(Operation::Cancel) && !operator {
        let detail = format!("{} has a Confirm effect and a Cancel effect", ended.id);
        found.push(broken("S2", detail));
    }
}

/// What the coordinator says of a branch is what its participant did.
fn agrees(ended: &Ended, branch: &EndedBranch, done: &Done<'_>, found: &mut Vec<Violation>) {
    let key = key(ended, branch);
    let name = name(&key);
    let row = done.rows.get(&key).copied();
    let (tried, confirmed, canceled) = (
        done.has(&key, Operation::Try),
        done.has(&key, Operation::Confirm),
        done.has(&key, Operation::Cancel),
    );
    match branch.state {
        BranchState::Confirmed => {
            if !tried || !confirmed || row != Some(fence::State::Confirmed) {
                let detail = format!("{name} is CONFIRMED, but its participant has {row:?}");
                found.push(broken("S4", detail));
            }
        }
        BranchState::Canceled => {
            if confirmed {
                let detail = format!("{name} is CANCELED, but took its Confirm's effect");
                found.push(broken("S4", detail));
            }
            if tried && !canceled {
                let detail = format!("{name} is CANCELED, but what it reserved is still held");
                found.push(broken("L2", detail));
            }
            if row != Some(fence::State::Canceled) {
                let detail = format!("{name} is CANCELED, but a late Try would find {row:?}");
                found.push(broken("S5", detail));
            }
        }
        // It still owes something, or an operator has answered for it.
        BranchState::Trying
        | BranchState::Tried
        | BranchState::Confirming
        | BranchState::Canceling
        | BranchState::Resolved(_) => {}
    }
}

/// No participant was called for what is not on record.
fn justified(evidence: &Evidence<'_>, done: &Done<'_>, found: &mut Vec<Violation>) {
    let recorded: HashSet<Key<'_>> = evidence
        .ended
        .iter()
        .flat_map(|ended| ended.branches.iter().map(move |it| key(ended, it)))
        .collect();
    let called = done.rows.keys().chain(done.effects.keys());
    for key in called.filter(|key| !recorded.contains(*key)) {
        let detail = format!("{} was called without a record of it", name(key));
        found.push(broken("S7", detail));
    }
}

fn key<'a>(ended: &'a Ended, branch: &'a EndedBranch) -> Key<'a> {
    (&branch.participant, &ended.id, &branch.id)
}

fn name((participant, transaction, branch): &Key<'_>) -> String {
    format!("{transaction}/{branch} at {participant}")
}
