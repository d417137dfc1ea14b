//! What must always hold, and which states must sometimes be seen so that nothing holds for want
//! of visits. Which actions must have had their effect stands in `scenario`.

use stateright::Property;
use tercet_core::{
    fence::State as Row,
    operation::Operation::{Cancel, Confirm, Try},
    outcome::{Decision, Outcome},
    transaction::{AttentionReason, BranchState, Next, Resolution, State},
};

use crate::{participant::Participant, scenario::Scenario, world::World};

pub(crate) fn of(scenario: &Scenario) -> Vec<Property<Scenario>> {
    let mut properties = steps_are_legal();
    properties.extend(always());
    properties.extend(sometimes());
    if scenario.remote.contains(&true) {
        properties.extend(sometimes_remote());
    }
    if scenario.interactive {
        properties.extend(sometimes_interactive());
    }
    if scenario.operator {
        properties.extend(sometimes_operator());
    } else {
        properties.push(Property::always(
            "no mismatch with honest participants",
            |_, w: &World| {
                !w.attends(AttentionReason::StateMismatch) && !any_next(w, Next::Stopped)
            },
        ));
    }
    properties
}

/// What `check` and the world find at single steps, one property an invariant.
fn steps_are_legal() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::always("S1 no branch is lost", |_, w| w.broken != Some("S1")),
        P::always("S2 branches agree with the decision", |_, w| {
            w.broken != Some("S2")
        }),
        P::always("S3 a decision is immutable", |_, w| w.broken != Some("S3")),
        P::always("S4 an end owes nothing", |_, w| w.broken != Some("S4")),
        P::always("S7 durable before performed", |_, w| w.broken != Some("S7")),
        P::always("S8 nothing told is taken back", |_, w| {
            w.broken != Some("S8")
        }),
        P::always("S11 what was pinned stays", |_, w| w.broken != Some("S11")),
        P::always("L1 no state waits for nothing", |_, w| {
            w.broken != Some("L1")
        }),
        P::always("a commit names its branches", |_, w| {
            w.broken != Some("COMMIT")
        }),
    ]
}

fn always() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::always("S2 no Confirm and Cancel effect", |_, w| {
            !(any(w, |it| it.count(Confirm) > 0) && any(w, |it| it.count(Cancel) > 0))
        }),
        P::always("S4 SUCCESS means every Confirm took effect", |_, w| {
            !durably(w, State::Confirmed) || recorded(w).all(|it| it.count(Confirm) == 1)
        }),
        P::always("S4 TWO_STATE's SUCCESS is irreversible", |_, w| {
            told(w) != Some(Outcome::Success) || w.wires.iter().all(|it| !it.carries(Cancel))
        }),
        P::always("S4 FAILED means that no Confirm was sent", |_, w| {
            told(w) != Some(Outcome::Failed) || w.wires.iter().all(|it| !it.carries(Confirm))
        }),
        P::always("S5 no Try takes effect after its Cancel", |_, w| {
            all(w, |it| !it.tried_after_cancel)
        }),
        P::always(
            "S5 the end of a rollback has fenced every branch",
            |_, w| {
                let mut recorded = recorded(w);
                !durably(w, State::Canceled) || recorded.all(|it| it.state() == Some(Row::Canceled))
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
            !ended || all(w, |it| it.reserved() == 0)
        }),
        P::always("no call contradicts the participant's row", |_, w| {
            all(w, |it| !it.alarmed)
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
            any(w, tombstone) && w.wires.iter().all(|it| it.carries(Try))
        }),
        P::sometimes("a participant's clock passed the deadline", |_, w| {
            any(w, |it| it.late) && durably(w, State::Trying)
        }),
    ]
}

fn sometimes_remote() -> Vec<Property<Scenario>> {
    type P = Property<Scenario>;
    vec![
        P::sometimes("a job is lost in a crash", |_, w| {
            any(w, |it| {
                it.state() == Some(Row::Trying) && it.jobs == [false; 3]
            })
        }),
        P::sometimes("a Try's job outlives its Cancel", |_, w| {
            any(w, |it| {
                it.state() == Some(Row::Canceled) && it.jobs[Try as usize]
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

fn durably(world: &World, state: State) -> bool {
    world.durable().is_some_and(|tx| tx.state == state)
}

fn paused(world: &World, state: State) -> bool {
    durably(world, state) && world.durable().is_some_and(|tx| tx.paused)
}

fn told(world: &World) -> Option<Outcome> {
    world.durable().map(|tx| tx.outcome())
}

/// The participants of the recorded branches.
fn recorded(world: &World) -> impl Iterator<Item = &Participant> {
    let branches = world.durable().map_or(0, |tx| tx.branches.len());
    world.participants.iter().take(branches)
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
