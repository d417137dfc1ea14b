//! TWO_STATE: SUCCESS or FAILED only. It fails fast and reverses in the background.

mod common;

use common::{Run, contract};
use tercet_core::{
    operation::{Operation, RecordState},
    outcome::{Outcome, ReplyMode},
    step::{Answer, Durability, Input, Timer},
    transaction::State,
};

fn reason(run: &Run) -> Option<&str> {
    run.tx.failure.as_ref().map(|it| &*it.reason)
}

#[test]
fn every_try_gets_its_timeout_with_its_first_call() {
    let run = Run::submitted(ReplyMode::TwoState, 2);
    let armed = [(Timer::TryTimeout(0), 3_000), (Timer::TryTimeout(1), 3_000)];
    assert_eq!(run.timers, armed);
    for mode in [ReplyMode::ThreeState, ReplyMode::Accepted] {
        assert_eq!(Run::submitted(mode, 2).timers, []);
    }
}

#[test]
fn a_repeated_try_does_not_start_the_timeout_again() {
    let mut run = Run::submitted(ReplyMode::TwoState, 1);
    run.lost(0, Operation::Try);
    run.due(Timer::Attempt(0));
    run.says(0, Operation::Try, RecordState::Unknown);
    assert_eq!(run.called(), [(0, Operation::Try, false)]);
    assert_eq!(run.timers, []);
}

#[test]
fn a_try_that_times_out_is_failed_and_reversed() {
    let mut run = Run::submitted(ReplyMode::TwoState, 2);
    run.success(0, Operation::Try);
    run.due(Timer::TryTimeout(1));
    assert_eq!(run.tx.outcome(), Outcome::Failed);
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(reason(&run), Some("TRY_TIMEOUT"));
    assert_eq!(run.calls.len(), 2, "both are canceled");
}

#[test]
fn an_explicit_processing_does_not_outlast_the_try_timeout() {
    let mut run = Run::submitted(ReplyMode::TwoState, 1);
    let retry_after_ms = Some(60_000);
    run.answer(0, Operation::Try, Answer::Processing { retry_after_ms });
    run.due(Timer::TryTimeout(0));
    assert_eq!(run.tx.outcome(), Outcome::Failed);
}

#[test]
fn the_timeout_of_a_try_that_has_answered_means_nothing() {
    let mut run = Run::submitted(ReplyMode::TwoState, 2);
    run.success(0, Operation::Try);
    run.due(Timer::TryTimeout(0));
    run.due(Timer::TryTimeout(7));
    assert_eq!(run.tx.state, State::Trying);
    run.success(1, Operation::Try);
    run.due(Timer::TryTimeout(1));
    assert_eq!(run.tx.outcome(), Outcome::Success);
}

#[test]
fn the_end_of_the_first_callers_wait_is_failed() {
    let mut run = Run::submitted(ReplyMode::TwoState, 1);
    run.due(Timer::FirstWait);
    assert_eq!(run.tx.outcome(), Outcome::Failed);
    assert_eq!(reason(&run), Some("WAIT_ENDED"));
}

#[test]
fn a_restart_that_finds_it_undecided_is_failed() {
    let mut run = Run::submitted(ReplyMode::TwoState, 1);
    run.input(Input::Recovered);
    assert_eq!(run.tx.outcome(), Outcome::Failed);
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(reason(&run), Some("RESTARTED"));

    let mut run = Run::begun(ReplyMode::TwoState);
    run.add(contract(0)).unwrap();
    run.success(0, Operation::Try);
    run.input(Input::Recovered);
    assert_eq!(run.tx.outcome(), Outcome::Failed);
}

#[test]
fn a_decided_commit_is_success_and_survives_restarts_and_timers() {
    let mut run = Run::confirming(ReplyMode::TwoState, 1);
    assert_eq!(run.tx.outcome(), Outcome::Success);
    for input in [
        Input::Recovered,
        Input::Due(Timer::FirstWait),
        Input::Due(Timer::Expire),
        Input::Due(Timer::TryTimeout(0)),
    ] {
        run.input(input);
        assert_eq!(run.tx.outcome(), Outcome::Success);
    }
}

#[test]
fn the_other_modes_do_their_best_to_finish() {
    for mode in [ReplyMode::ThreeState, ReplyMode::Accepted] {
        let mut run = Run::submitted(mode, 1);
        run.due(Timer::FirstWait);
        run.due(Timer::TryTimeout(0));
        run.input(Input::Recovered);
        assert_eq!(run.tx.state, State::Trying);
        run.due(Timer::Attempt(0));
        assert_eq!(run.called(), [(0, Operation::Try, true)], "recovery asks");
        run.says(0, Operation::Try, RecordState::Tried);
        assert_eq!(run.tx.state, State::Confirming);
    }
}
