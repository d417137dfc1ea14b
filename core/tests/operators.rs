//! What operators may do: pause, resume, resolve.

mod common;

use common::{Run, branch_id, contract, failure, methods};
use tercet_core::{
    operation::{Operation, RecordState},
    outcome::{Decision, ReplyMode},
    request::{Refusal, Report, Request},
    step::{Durability, Timer},
    transaction::{AttentionReason, Next, Resolution, State},
};

#[test]
fn paused_calls_stop_and_decisions_go_on() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    run.ask(Request::Pause).unwrap();
    assert_eq!(run.durability, Durability::Required);
    run.lost(0, Operation::Try);
    run.due(Timer::Attempt(0));
    assert_eq!(run.called(), []);
    run.success(1, Operation::Try);
    run.due(Timer::Expire);
    assert_eq!(run.tx.state, State::Canceling);
    assert_eq!(run.called(), []);

    run.ask(Request::Resume).unwrap();
    assert_eq!(run.durability, Durability::Required);
    let owed = [(0, Operation::Cancel, false), (1, Operation::Cancel, false)];
    assert_eq!(run.called(), owed);
}

#[test]
fn a_commit_is_decided_while_paused_and_confirmed_after_it() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.ask(Request::Pause).unwrap();
    run.success(0, Operation::Try);
    assert_eq!(run.tx.state, State::Confirming);
    assert_eq!(run.called(), []);
    run.ask(Request::Resume).unwrap();
    assert_eq!(run.called(), [(0, Operation::Confirm, false)]);
}

#[test]
fn pause_and_resume_are_repeatable() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    let running = run.tx.clone();
    run.ask(Request::Resume).unwrap();
    assert_eq!(run.tx, running);
    assert_eq!(run.called(), [], "nothing was stopped, nothing is repeated");
    run.ask(Request::Pause).unwrap();
    let paused = run.tx.clone();
    run.ask(Request::Pause).unwrap();
    assert_eq!(run.tx, paused);
}

#[test]
fn an_ended_transaction_is_not_paused_and_a_resume_leaves_it_alone() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.ask(Request::Pause).unwrap();
    run.success(0, Operation::Confirm); // was in flight
    assert_eq!(run.tx.state, State::Confirmed);
    let ended = run.tx.clone();
    run.ask(Request::Resume).unwrap();
    assert_eq!(run.tx, ended, "a terminal record never changes");
    assert!(matches!(
        run.ask(Request::Pause),
        Err(Refusal::StateInvalid(_))
    ));
}

#[test]
fn the_try_timeout_of_a_branch_recorded_while_paused_counts_from_its_first_try() {
    let mut run = Run::begun(ReplyMode::TwoState);
    run.ask(Request::Pause).unwrap();
    run.add(contract(0)).unwrap();
    assert_eq!(run.timers, []);
    run.ask(Request::Resume).unwrap();
    assert_eq!(run.called(), [(0, Operation::Try, false)]);
    assert_eq!(run.timers, [(Timer::TryTimeout(0), 3_000)]);
}

#[test]
fn an_undecided_branch_is_not_resolved() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    run.success(0, Operation::Try);
    for branch in 0..2 {
        let refused = run.resolve(branch, Resolution::Abandoned, None);
        assert!(matches!(refused, Err(Refusal::StateInvalid(why)) if why.contains("roll it back")));
    }
}

#[test]
fn no_branch_is_resolved_before_its_time() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    let refused = run.ask(Request::Resolve {
        branch: branch_id(0),
        resolution: Resolution::Done,
        overdue: false,
        recorded: Some(RecordState::Confirmed),
    });
    assert!(matches!(refused, Err(Refusal::StateInvalid(why)) if why.contains("10 minutes")));
}

#[test]
fn a_resolution_is_final_durable_and_ends_the_transaction_with_its_last_branch() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 2);
    run.resolve(0, Resolution::Done, Some(RecordState::Confirmed))
        .unwrap();
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(run.tx.state, State::Confirming);
    let again = run.resolve(0, Resolution::Abandoned, None);
    assert!(matches!(again, Err(Refusal::StateInvalid(why)) if why.contains("already ended")));
    assert_eq!(run.tx.owed_by(0), None);
    run.success(1, Operation::Confirm);
    assert_eq!(run.tx.state, State::Confirmed);
    assert_eq!(
        run.resolve(9, Resolution::Done, None),
        Err(Refusal::BranchNotFound(branch_id(9)))
    );
}

#[test]
fn the_end_is_mixed_whichever_branch_was_given_up_first() {
    let mut run = Run::canceling(ReplyMode::ThreeState, 2);
    run.resolve(0, Resolution::Abandoned, None).unwrap();
    assert_eq!(
        run.tx.state,
        State::Canceling,
        "the other one is still owed"
    );
    run.success(1, Operation::Cancel);
    assert_eq!(run.tx.state, State::Mixed(Decision::Cancel));
}

#[test]
fn an_operators_word_counts_for_a_target_without_a_fence() {
    let mut run = Run::submitted_with(ReplyMode::ThreeState, vec![methods(0)]);
    run.rollback().unwrap();
    run.resolve(0, Resolution::Done, None).unwrap();
    assert_eq!(run.tx.state, State::Canceled);
}

#[test]
fn a_reply_that_contradicts_a_resolution_is_a_mismatch() {
    type Late = fn(&mut Run);
    let contradictions: [Late; 3] = [
        |run| run.success(0, Operation::Confirm),
        |run| run.says(0, Operation::Confirm, RecordState::Confirmed),
        |run| {
            run.report(0, Operation::Confirm, Report::Success(None))
                .unwrap();
        },
    ];
    for late in contradictions {
        let mut run = Run::confirming(ReplyMode::ThreeState, 1);
        run.resolve(0, Resolution::Abandoned, None).unwrap();
        assert!(run.tx.attentions.is_empty());
        late(&mut run);
        assert!(run.attends(AttentionReason::StateMismatch));
        assert_eq!(
            run.tx.state,
            State::Mixed(Decision::Commit),
            "the end stands"
        );
    }
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.resolve(0, Resolution::Done, Some(RecordState::Confirmed))
        .unwrap();
    run.says(0, Operation::Confirm, RecordState::Canceled);
    assert!(run.attends(AttentionReason::StateMismatch));
}

#[test]
fn a_late_cancel_contradicts_only_a_branch_that_was_given_up() {
    for (resolution, contradicts) in [(Resolution::Done, false), (Resolution::Abandoned, true)] {
        let mut run = Run::canceling(ReplyMode::ThreeState, 1);
        run.resolve(0, resolution, Some(RecordState::Canceled))
            .unwrap();
        run.success(0, Operation::Cancel);
        let mismatch = run.attends(AttentionReason::StateMismatch);
        assert_eq!(mismatch, contradicts, "{resolution:?}");
    }
}

#[test]
fn a_resolution_settles_what_was_seen_of_its_own_branch_only() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 2);
    run.refused(0, Operation::Confirm);
    run.refused(1, Operation::Confirm);
    run.resolve(0, Resolution::Abandoned, None).unwrap();
    let left: Vec<_> = run.tx.attentions.iter().map(|it| it.branch).collect();
    assert_eq!(left, [1]);
}

#[test]
fn a_reply_that_agrees_with_a_resolution_changes_nothing() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.resolve(0, Resolution::Done, Some(RecordState::Confirmed))
        .unwrap();
    let ended = run.tx.clone();
    run.success(0, Operation::Confirm);
    run.refused(0, Operation::Confirm); // sent before the person did it by hand
    run.lost(0, Operation::Confirm);
    run.says(0, Operation::Confirm, RecordState::Confirmed);
    run.says(0, Operation::Confirm, RecordState::Tried);
    run.report(0, Operation::Confirm, Report::Success(None))
        .unwrap();
    assert_eq!(run.tx, ended);
}

#[test]
fn a_report_that_contradicts_the_decision_stops_the_branch_and_calls_a_person() {
    let mut run = Run::canceling(ReplyMode::ThreeState, 1);
    run.report(0, Operation::Confirm, Report::Success(None))
        .unwrap();
    assert!(run.attends(AttentionReason::StateMismatch));
    assert_eq!(run.durability, Durability::Required);
    run.due(Timer::Attempt(0));
    assert_eq!(run.called(), []);
}

#[test]
fn a_reported_refusal_does_not_wake_a_stopped_branch() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Confirm);
    run.due(Timer::Attempt(0));
    run.says(0, Operation::Confirm, RecordState::Canceled);
    assert_eq!(run.tx.branches[0].next, Next::Stopped);
    run.report(0, Operation::Confirm, Report::Failed(failure("NO")))
        .unwrap();
    assert_eq!(run.tx.branches[0].next, Next::Stopped);
    assert_eq!(run.timers, []);
    assert!(run.attends(AttentionReason::StateMismatch));
    assert!(run.attends(AttentionReason::Refused));
}
