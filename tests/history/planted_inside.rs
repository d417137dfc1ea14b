//! Each fault that only a simulation can see is found, and named.

use tercet_core::{operation::Operation, transaction::State};

use super::inside::{Event, Inside, Pace, Sent, Stored, What, violations};

/// One transaction that goes well, from its record to its end, and a client that expects it to.
fn sound() -> Inside {
    let mut inside = Inside::default();
    for (at_ms, what) in [
        (0, expected(500)),
        (10, What::Stored(stored(1, State::Trying))),
        (10, What::Sent(sent(Operation::Try))),
        (90, What::Stored(stored(2, State::Confirming))),
        (90, What::Sent(sent(Operation::Confirm))),
        (200, What::Stored(stored(3, State::Confirmed))),
        (300, What::Healed { within_ms: 1_000 }),
    ] {
        inside.events.push(Event { at_ms, what });
    }
    inside
}

fn expected(within_ms: u64) -> What {
    What::Expected {
        id: "order".into(),
        within_ms,
        invariant: "L3",
    }
}

fn stored(revision: u64, state: State) -> Stored {
    Stored {
        id: "order".into(),
        revision,
        epoch: 2,
        boot: 1,
        state,
        branches: vec!["b1".into()],
        pace: Pace {
            rungs: 2,
            last_ms: 100,
        },
    }
}

fn sent(operation: Operation) -> Sent {
    Sent {
        id: "order".into(),
        branch: "b1".into(),
        participant: "stock".into(),
        operation,
        query: false,
        epoch: 2,
        boot: 1,
    }
}

/// The invariants that are broken once this has happened too, in order, each once.
fn found(inside: &Inside) -> Vec<&'static str> {
    let mut names: Vec<_> = violations(inside).iter().map(|it| it.invariant).collect();
    names.sort_unstable();
    names.dedup();
    names
}

/// The same, with one event in the place of another.
fn with(place: usize, what: What) -> Vec<&'static str> {
    let mut inside = sound();
    inside.events[place].what = what;
    found(&inside)
}

/// The same, with one event more at the end.
fn after(what: What) -> Vec<&'static str> {
    let mut inside = sound();
    inside.events.push(Event { at_ms: 400, what });
    found(&inside)
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert_eq!(found(&sound()), [""; 0]);
}

#[test]
fn a_call_before_its_record_is_found() {
    let mut inside = sound();
    inside.events.swap(1, 2);
    assert_eq!(found(&inside), ["S7"]);
}

#[test]
fn a_confirm_before_its_decision_is_found() {
    let mut inside = sound();
    inside.events.swap(3, 4);
    assert_eq!(found(&inside), ["S7"]);
}

#[test]
fn a_cancel_of_what_is_to_be_confirmed_is_found() {
    assert_eq!(with(4, What::Sent(sent(Operation::Cancel))), ["S7"]);
}

#[test]
fn a_query_needs_its_decision_too() {
    let query = Sent {
        query: true,
        ..sent(Operation::Cancel)
    };
    assert_eq!(with(4, What::Sent(query)), ["S7"]);
}

#[test]
fn a_call_for_a_branch_that_is_not_on_record_is_found() {
    let other = Sent {
        branch: "b2".into(),
        ..sent(Operation::Try)
    };
    assert_eq!(with(2, What::Sent(other)), ["S7"]);
}

#[test]
fn a_branch_that_goes_off_the_record_is_found() {
    let without = Stored {
        branches: Vec::new(),
        ..stored(3, State::Confirmed)
    };
    assert_eq!(with(5, What::Stored(without)), ["S1"]);
}

#[test]
fn a_decision_that_changes_on_record_is_found() {
    assert_eq!(with(5, What::Stored(stored(3, State::Canceled))), ["S3"]);
}

#[test]
fn a_record_that_goes_back_is_found() {
    let again = What::Stored(stored(2, State::Confirming));
    assert_eq!(after(again), ["S8"]);
}

#[test]
fn a_write_of_an_older_epoch_is_found() {
    let old = Stored {
        epoch: 1,
        ..stored(4, State::Confirmed)
    };
    assert_eq!(after(What::Stored(old)), ["S9"]);
}

#[test]
fn so_is_one_of_another_transaction() {
    let old = Stored {
        id: "other".into(),
        epoch: 1,
        ..stored(1, State::Canceled)
    };
    assert_eq!(after(What::Stored(old)), ["S9"]);
}

#[test]
fn a_call_of_an_older_epoch_is_found() {
    let old = Sent {
        epoch: 1,
        ..sent(Operation::Confirm)
    };
    assert_eq!(with(4, What::Sent(old)), ["S9"]);
}

#[test]
fn what_never_ends_is_found() {
    let mut inside = sound();
    inside.events.remove(5);
    assert_eq!(found(&inside), ["L1", "L3"]);
}

#[test]
fn what_ends_too_late_is_found() {
    let mut inside = sound();
    inside.events[5].at_ms = 501;
    assert_eq!(found(&inside), ["L3"]);
    inside.events[5].at_ms = 1_301;
    assert_eq!(found(&inside), ["L1", "L3"]);
}

#[test]
fn what_is_expected_and_never_recorded_is_found() {
    let mut inside = Inside::default();
    inside.events.push(Event {
        at_ms: 0,
        what: expected(500),
    });
    assert_eq!(found(&inside), ["L3"]);
}

#[test]
fn more_calls_than_the_ladder_has_rungs_are_found() {
    let mut inside = sound();
    let again = |at_ms| Event {
        at_ms,
        what: What::Sent(sent(Operation::Confirm)),
    };
    // The first, two rungs, and one for each 100 ms.
    inside.events.extend([91, 92, 190].map(again));
    assert_eq!(found(&inside), [""; 0]);
    inside.events.push(again(195));
    assert_eq!(found(&inside), ["L5"]);
}
