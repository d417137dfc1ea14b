//! What must always hold, and which states must sometimes be seen so that nothing holds for want
//! of visits. Which rules must have been used stands in `expected`.

use stateright::Property;
use tercet_core::{
    fence::State as Row,
    operation::Operation::{Cancel, Confirm, Try},
    outcome::{Decision, Outcome},
    transaction::{AttentionReason, BranchState, Next, Resolution, State, Transaction},
};

use crate::{participant::Participant, scenario::Scenario, world::World};

pub(crate) fn of(scenario: &Scenario) -> Vec<Property<Scenario>> {
    let mut properties = steps_are_legal();
    properties.extend(always());
    properties.extend(sometimes());
    if !scenario.copied {
        properties.extend(of_one_history());
    }
    if scenario.branches > 1 {
        properties.extend(sometimes_of_two());
    }
    if scenario.is_faithful() && !scenario.operator {
        properties.push(Property::always(
            "no mismatch with honest participants",
            |_, w: &World| {
                !w.attends(AttentionReason::StateMismatch) && !any_next(w, Next::Stopped)
            },
        ));
    }
    for (has, extra) in [
        (
            scenario.remote.contains(&true),
            sometimes_remote as fn() -> _,
        ),
        (scenario.interactive, sometimes_interactive),
        (scenario.operator, sometimes_operator),
        (scenario.slow_store, sometimes_slow),
        (scenario.takeover, sometimes_taken_over),
        (!scenario.is_faithful(), sometimes_unfaithful),
    ] {
        if has {
            properties.extend(extra());
        }
    }
    properties
}

/// What is judged at single steps, by `check` and by the world, one property an invariant.
fn steps_are_legal() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::always("S1 what was accepted is not lost", |_, w| kept(w, "S1")),
        P::always("S2 branches agree with the decision", |_, w| kept(w, "S2")),
        P::always("S3 a decision is immutable", |_, w| kept(w, "S3")),
        P::always("S4 an end owes nothing", |_, w| kept(w, "S4")),
        P::always("S5 no Try takes effect after its Cancel", |_, w| {
            kept(w, "S5")
        }),
        P::always("S7 durable before performed", |_, w| kept(w, "S7")),
        P::always("S8 nothing told is taken back", |_, w| kept(w, "S8")),
        P::always("S9 an old epoch's call changes nothing", |_, w| {
            kept(w, "S9")
        }),
        P::always("S11 what was pinned stays", |_, w| kept(w, "S11")),
        P::always("L1 no state waits for nothing", |_, w| kept(w, "L1")),
        P::always("no call contradicts the participant's row", |_, w| {
            kept(w, "FENCE")
        }),
        P::always("what is not known decides nothing", |_, w| {
            kept(w, "INDETERMINATE")
        }),
        P::always("the deadline decides what is undecided", |_, w| {
            kept(w, "DEADLINE")
        }),
        P::always("TWO_STATE fails fast, and no other mode", |_, w| {
            kept(w, "TWO_STATE")
        }),
        P::always("an exact commit is accepted", |_, w| kept(w, "COMMIT")),
        P::always("a rollback is refused only after a commit", |_, w| {
            kept(w, "ROLLBACK")
        }),
        P::always("no branch is closed while it is worked on", |_, w| {
            kept(w, "OPERATOR")
        }),
    ]
}

fn always() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::always("S4 SUCCESS means every Confirm took effect", |_, w| {
            !durably(w, State::Confirmed) || recorded(w).all(|it| it.count(Confirm) == 1)
        }),
        P::always("S4 what was done by hand is done", |_, w| {
            done_by_hand(w).all(|(decision, it)| {
                let closed = match decision {
                    Some(Decision::Commit) => Row::Confirmed,
                    Some(Decision::Cancel) | None => Row::Canceled,
                };
                it.state() == Some(closed) || it.was_collected()
            })
        }),
        P::always("S4 a commit covers the branches it named", |_, w| {
            let committed =
                |tx: &&Transaction| tx.interactive && tx.decision() == Some(Decision::Commit);
            let committed = w.durable().filter(committed);
            committed.is_none_or(|tx| w.meant == Some((1 << tx.branches.len()) - 1))
        }),
        P::always(
            "S5 the end of a rollback has fenced every branch",
            |_, w| {
                let fenced =
                    |it: &Participant| it.state() == Some(Row::Canceled) || it.was_collected();
                !durably(w, State::Canceled) || recorded(w).all(fenced)
            },
        ),
        P::always("S6 one effect per operation", |_, w| {
            all(w, |it| it.effects.iter().all(|count| *count <= 1))
        }),
        P::always(
            "S10 nothing is released or used that was not reserved",
            |_, w| all(w, |it| (0..=1).contains(&it.reserved())),
        ),
        P::always("S10 what a row has closed is not reserved", |_, w| {
            let closed = [Some(Row::Confirmed), Some(Row::Canceled)];
            all(w, |it| !closed.contains(&it.state()) || it.reserved() == 0)
        }),
        P::always("L2 an end leaves nothing reserved", |_, w| {
            let ended = durably(w, State::Confirmed) || durably(w, State::Canceled);
            !ended || recorded(w).all(|it| it.reserved() == 0)
        }),
    ]
}

/// What a store that went back can't hold any more.
fn of_one_history() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::always("S2 no Confirm and Cancel effect", |_, w| {
            !(any(w, |it| it.count(Confirm) > 0) && any(w, |it| it.count(Cancel) > 0))
        }),
        P::always("S4 TWO_STATE's SUCCESS is irreversible", |_, w| {
            told(w) != Some(Outcome::Success) || w.wires.iter().all(|it| !it.carries(Cancel))
        }),
        P::always("S4 FAILED means that no Confirm was sent", |_, w| {
            told(w) != Some(Outcome::Failed) || w.wires.iter().all(|it| !it.carries(Confirm))
        }),
    ]
}

fn sometimes() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("TRYING", |_, w| durably(w, State::Trying)),
        P::sometimes("CONFIRMING", |_, w| durably(w, State::Confirming)),
        P::sometimes("CONFIRMED", |_, w| durably(w, State::Confirmed)),
        P::sometimes("CANCELING", |_, w| durably(w, State::Canceling)),
        P::sometimes("CANCELED", |_, w| durably(w, State::Canceled)),
        P::sometimes("an id is forbidden", |_, w| {
            durably(w, State::Canceled) && recorded(w).count() == 0
        }),
    ]
}

fn sometimes_of_two() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("a branch TRIED in memory only", |_, w| {
            w.any_branch(BranchState::Tried) && w.memory != w.store
        }),
        P::sometimes("a branch CONFIRMED before the other", |_, w| {
            w.any_branch(BranchState::Confirmed) && w.any_branch(BranchState::Confirming)
        }),
        P::sometimes("a branch CANCELED before the other", |_, w| {
            w.any_branch(BranchState::Canceled) && w.any_branch(BranchState::Canceling)
        }),
        P::sometimes("a tombstone, its Try still on its way", |_, w| {
            let tombstone =
                |it: &Participant| it.state() == Some(Row::Canceled) && it.count(Try) == 0;
            any(w, tombstone) && w.wires[0].carries(Try) && w.wires[1].carries(Try)
        }),
    ]
}

fn sometimes_remote() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("a job is lost in a crash", |_, w| {
            any(w, |it| it.state() == Some(Row::Trying) && it.is_idle())
        }),
        P::sometimes("a Try's job outlives its Cancel", |_, w| {
            any(w, |it| {
                it.state() == Some(Row::Canceled) && it.works_on(Try)
            })
        }),
    ]
}

fn sometimes_interactive() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("a commit waits for a Try", |_, w| {
            durably(w, State::Trying) && w.durable().is_some_and(|tx| tx.commit_requested)
        }),
        P::sometimes("a rollback or expiry wins over a commit request", |_, w| {
            durably(w, State::Canceling) && w.durable().is_some_and(|tx| tx.commit_requested)
        }),
        P::sometimes("tried, and nobody asked for the commit", |_, w| {
            durably(w, State::Trying)
                && recorded(w).count() == 2
                && recorded(w).all(|it| it.state() == Some(Row::Tried))
        }),
    ]
}

fn sometimes_operator() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("paused and undecided", |_, w| paused(w, State::Trying)),
        P::sometimes("commit decided while paused", |_, w| {
            paused(w, State::Confirming)
        }),
        P::sometimes("cancel decided while paused", |_, w| {
            paused(w, State::Canceling)
        }),
        P::sometimes("MIXED after a commit", |_, w| {
            durably(w, State::Mixed(Decision::Commit))
        }),
        P::sometimes("MIXED after a cancel", |_, w| {
            durably(w, State::Mixed(Decision::Cancel))
        }),
        P::sometimes("done by hand", |_, w| {
            w.any_branch(BranchState::Resolved(Resolution::Done))
        }),
        P::sometimes("a late reply contradicts the operator", |_, w| {
            w.attends(AttentionReason::StateMismatch)
        }),
    ]
}

fn sometimes_slow() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("a decision that is not synced", |_, w| {
            let decided = w.transaction().and_then(Transaction::decision);
            decided.is_some() && durably(w, State::Trying)
        }),
        P::sometimes("an end that is not synced", |_, w| {
            let ended = w.transaction().is_some_and(|tx| tx.state.is_terminal());
            ended && !w.durable().is_some_and(|tx| tx.state.is_terminal())
        }),
    ]
}

fn sometimes_taken_over() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("the same Cancel of two coordinators", |_, w| {
            w.wires[0].carries_of(1, Cancel) && w.wires[0].carries_of(2, Cancel)
        }),
        P::sometimes("the old one tried and the new one cancels", |_, w| {
            w.wires[0].carries_of(1, Try) && w.wires[0].carries_of(2, Cancel)
        }),
    ]
}

fn sometimes_unfaithful() -> Vec<Property<Scenario>> {
    vec![Property::sometimes(
        "a mismatch calls a person",
        |_, w: &World| w.attends(AttentionReason::StateMismatch),
    )]
}

fn kept(world: &World, invariant: &str) -> bool {
    world.broken != Some(invariant)
}

fn durably(world: &World, state: State) -> bool {
    world.durable().is_some_and(|tx| tx.state == state)
}

fn paused(world: &World, state: State) -> bool {
    durably(world, state) && world.durable().is_some_and(|tx| tx.paused)
}

fn told(world: &World) -> Option<Outcome> {
    world.shown.map(|(_, outcome)| outcome)
}

/// The participants of the recorded branches, but for those whose word is worth nothing.
fn recorded(world: &World) -> impl Iterator<Item = &Participant> {
    let branches = world.durable().map_or(0, |tx| tx.branches.len());
    let recorded = world.participants.iter().take(branches);
    recorded.filter(|it| !it.kind.lies)
}

/// The decision, and the participants of branches that an operator closed as done.
fn done_by_hand(world: &World) -> impl Iterator<Item = (Option<Decision>, &Participant)> {
    let branches = world.durable().map_or(&[][..], |tx| &tx.branches);
    let decision = world.durable().and_then(Transaction::decision);
    let closed = branches.iter().zip(&world.participants);
    let closed = closed.filter(|(it, _)| it.state == BranchState::Resolved(Resolution::Done));
    closed.map(move |(_, participant)| (decision, participant))
}

fn all(world: &World, holds: impl FnMut(&Participant) -> bool) -> bool {
    world.participants.iter().all(holds)
}

fn any(world: &World, holds: impl FnMut(&Participant) -> bool) -> bool {
    world.participants.iter().any(holds)
}

fn any_next(world: &World, next: Next) -> bool {
    world
        .transaction()
        .is_some_and(|tx| tx.branches.iter().any(|it| it.next == next))
}
