//! What a client is told: every state in every reply mode.

mod common;

use tercet_core::{
    outcome::{
        Decision,
        Outcome::{self, Failed, Processing, Success},
        ReplyMode, outcome,
    },
    transaction::State,
};

/// State, then the outcome in TWO_STATE, THREE_STATE, ACCEPTED.
const TABLE: [(State, [Outcome; 3]); 7] = [
    (State::Trying, [Processing, Processing, Processing]),
    (State::Confirming, [Success, Processing, Processing]),
    (State::Confirmed, [Success, Success, Success]),
    (State::Canceling, [Failed, Failed, Failed]),
    (State::Canceled, [Failed, Failed, Failed]),
    (State::Mixed(Decision::Commit), [Success, Success, Success]),
    (State::Mixed(Decision::Cancel), [Failed, Failed, Failed]),
];

#[test]
fn the_outcome_is_a_function_of_state_and_mode() {
    for (state, row) in TABLE {
        for (mode, expected) in common::MODES.into_iter().zip(row) {
            assert_eq!(outcome(state, mode), expected, "{state:?} in {mode:?}");
        }
    }
}

#[test]
fn an_outcome_once_told_is_never_taken_back_by_a_later_state() {
    // Every way a state can go, by the diagram.
    let ways = [
        (State::Trying, State::Confirming),
        (State::Trying, State::Canceling),
        (State::Confirming, State::Confirmed),
        (State::Confirming, State::Mixed(Decision::Commit)),
        (State::Canceling, State::Canceled),
        (State::Canceling, State::Mixed(Decision::Cancel)),
    ];
    for (from, to) in ways {
        for mode in common::MODES {
            let (before, after) = (outcome(from, mode), outcome(to, mode));
            assert!(
                before == Processing || before == after,
                "{mode:?}: {from:?} said {before:?}, {to:?} says {after:?}"
            );
        }
    }
}

#[test]
fn a_state_knows_its_decision_and_whether_it_is_the_end() {
    let commit = Some(Decision::Commit);
    let cancel = Some(Decision::Cancel);
    for (state, decision, terminal) in [
        (State::Trying, None, false),
        (State::Confirming, commit, false),
        (State::Confirmed, commit, true),
        (State::Canceling, cancel, false),
        (State::Canceled, cancel, true),
        (State::Mixed(Decision::Commit), commit, true),
        (State::Mixed(Decision::Cancel), cancel, true),
    ] {
        assert_eq!(state.decision(), decision);
        assert_eq!(state.is_terminal(), terminal);
    }
}

#[test]
fn a_transaction_tells_the_outcome_of_its_own_mode() {
    let run = common::Run::confirming(ReplyMode::TwoState, 1);
    assert_eq!(run.tx.outcome(), Success);
    let run = common::Run::confirming(ReplyMode::ThreeState, 1);
    assert_eq!(run.tx.outcome(), Processing);
}
