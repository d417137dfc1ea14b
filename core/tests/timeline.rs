//! What a step adds to the transaction's timeline.

mod common;

use common::{Run, contract, failure};
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    step::{Call, Event},
    transaction::{BranchState, Resolution, State},
};

fn of_transaction(state: State) -> Event {
    Event {
        branch: None,
        call: None,
        outcome: None,
        state,
        branch_state: None,
        failure: None,
    }
}

fn of_call(
    operation: Operation,
    outcome: Outcome,
    state: State,
    branch_state: BranchState,
) -> Event {
    Event {
        branch: Some(0),
        call: Some(Call {
            branch: 0,
            operation,
            query: false,
            attempt: 1,
        }),
        outcome: Some(outcome),
        branch_state: Some(branch_state),
        ..of_transaction(state)
    }
}

#[test]
fn the_usual_transaction_tells_its_states_and_how_each_call_ended() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    assert_eq!(run.events, [of_transaction(State::Trying)]);
    run.success(0, Operation::Try);
    let tried = of_call(
        Operation::Try,
        Outcome::Success,
        State::Trying,
        BranchState::Tried,
    );
    assert_eq!(run.events, [tried, of_transaction(State::Confirming)]);
    run.success(0, Operation::Confirm);
    let confirmed = of_call(
        Operation::Confirm,
        Outcome::Success,
        State::Confirming,
        BranchState::Confirmed,
    );
    assert_eq!(run.events, [confirmed, of_transaction(State::Confirmed)]);
}

#[test]
fn what_went_wrong_stands_beside_the_call_and_the_decision() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Try);
    let lost = Event {
        failure: Some(failure("DEADLINE_EXCEEDED")),
        ..of_call(
            Operation::Try,
            Outcome::Processing,
            State::Trying,
            BranchState::Trying,
        )
    };
    assert_eq!(run.events, [lost]);
    run.refused(0, Operation::Try);
    let no = Some(failure("NO"));
    let refused = Event {
        failure: no.clone(),
        ..of_call(
            Operation::Try,
            Outcome::Failed,
            State::Trying,
            BranchState::Trying,
        )
    };
    let decided = Event {
        failure: no,
        ..of_transaction(State::Canceling)
    };
    assert_eq!(run.events, [refused, decided]);
}

#[test]
fn what_was_asked_of_a_branch_names_it() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    let added = Event {
        branch: Some(0),
        branch_state: Some(BranchState::Trying),
        ..of_transaction(State::Trying)
    };
    assert_eq!(run.events, [added]);

    let mut run = Run::canceling(ReplyMode::ThreeState, 1);
    run.resolve(0, Resolution::Abandoned, None).unwrap();
    let closed = &run.events[0];
    assert_eq!(closed.branch, Some(0));
    let given_up = BranchState::Resolved(Resolution::Abandoned);
    assert_eq!(closed.branch_state, Some(given_up));
}
