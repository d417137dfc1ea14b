//! Interactive transactions: branches one by one, then commit or rollback.

mod common;

use common::{Run, contract, failure};
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    request::{Refusal, Report},
    step::{Durability, Timer},
    transaction::State,
};

/// Begun, with this many tried branches.
fn tried(branches: usize) -> Run {
    let mut run = Run::begun(ReplyMode::ThreeState);
    for branch in 0..branches {
        run.add(contract(branch)).unwrap();
        run.success(branch, Operation::Try);
    }
    run
}

#[test]
fn a_branch_is_durable_before_its_try_leaves() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(run.called(), [(0, Operation::Try, false)]);
}

#[test]
fn nothing_commits_before_the_client_asks() {
    let run = tried(2);
    assert_eq!(run.tx.state, State::Trying);
}

#[test]
fn a_commit_of_tried_branches_decides_at_once() {
    let mut run = tried(2);
    run.commit(&[0, 1]).unwrap();
    assert_eq!(run.tx.state, State::Confirming);
    assert_eq!(run.durability, Durability::Required);
    let confirms = [
        (0, Operation::Confirm, false),
        (1, Operation::Confirm, false),
    ];
    assert_eq!(run.called(), confirms);
}

#[test]
fn a_commit_asked_for_early_waits_for_the_last_try() {
    let mut run = tried(1);
    run.add(contract(1)).unwrap();
    run.commit(&[0, 1]).unwrap();
    assert_eq!(run.tx.state, State::Trying);
    assert_eq!(
        run.durability,
        Durability::Required,
        "before it is answered"
    );
    run.success(1, Operation::Try);
    assert_eq!(run.tx.state, State::Confirming);
}

#[test]
fn a_commit_without_branches_ends_confirmed() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.commit(&[]).unwrap();
    assert_eq!(run.tx.state, State::Confirmed);
}

#[test]
fn a_refused_try_cancels_at_once() {
    let mut run = tried(1);
    run.add(contract(1)).unwrap();
    run.refused(1, Operation::Try);
    assert_eq!(run.tx.state, State::Canceling);
    assert_eq!(run.durability, Durability::Required, "FAILED waits for it");
}

#[test]
fn a_rollback_after_a_commit_request_wins_while_undecided() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    run.commit(&[0]).unwrap();
    run.rollback().unwrap();
    assert_eq!(run.tx.state, State::Canceling);
    run.success(0, Operation::Try);
    assert_eq!(run.tx.state, State::Canceling);
}

#[test]
fn commit_and_rollback_are_repeatable_and_never_cross() {
    let mut run = tried(1);
    run.commit(&[0]).unwrap();
    let committed = run.tx.clone();
    assert_eq!(run.commit(&[0]), Ok(()));
    assert_eq!(run.tx, committed);
    assert_eq!(run.called(), []);
    assert_eq!(run.rollback(), Err(Refusal::DecisionConflict));

    let mut run = tried(1);
    run.rollback().unwrap();
    let canceled = run.tx.clone();
    assert_eq!(run.rollback(), Ok(()));
    assert_eq!(run.commit(&[0]), Ok(()), "OK, with FAILED");
    assert_eq!(run.tx, canceled);
    assert_eq!(run.tx.outcome(), Outcome::Failed);
}

#[test]
fn the_first_cause_of_a_rollback_is_kept() {
    let mut run = tried(1);
    run.rollback().unwrap();
    run.ask(tercet_core::request::Request::Rollback {
        cause: failure("ANOTHER"),
    })
    .unwrap();
    run.due(Timer::Expire);
    let reason = run.tx.failure.map(|it| it.reason.to_string());
    assert_eq!(reason.as_deref(), Some("CLIENT_ROLLBACK"));
}

#[test]
fn the_deadline_cancels_what_was_never_committed() {
    let mut run = tried(2);
    run.due(Timer::Expire);
    assert_eq!(run.tx.state, State::Canceling);
}

#[test]
fn the_deadline_cancels_a_commit_that_was_asked_for_and_is_still_undecided() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    run.commit(&[0]).unwrap();
    run.due(Timer::Expire);
    assert_eq!(run.tx.state, State::Canceling);
    let reason = run.tx.failure.map(|it| it.reason.to_string());
    assert_eq!(reason.as_deref(), Some("EXPIRED"));
}

#[test]
fn a_submitted_transaction_takes_neither_branches_nor_a_commit() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    let branch = run.add(contract(1));
    assert!(matches!(branch, Err(Refusal::StateInvalid(why)) if why.contains("interactive")));
    let commit = run.commit(&[0]);
    assert!(matches!(commit, Err(Refusal::StateInvalid(why)) if why.contains("by itself")));
}

#[test]
fn a_report_is_as_good_as_the_answer_and_durable_before_it_is_acknowledged() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    let held = Some(common::payload("seat 7"));
    run.report(0, Operation::Try, Report::Success(held.clone()))
        .unwrap();
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(run.tx.branches[0].try_result, held);

    let before = run.tx.clone();
    run.report(0, Operation::Try, Report::Success(None))
        .unwrap();
    run.report(0, Operation::Try, Report::Failed(failure("NO")))
        .unwrap();
    assert_eq!(run.tx, before, "late and repeated reports change nothing");
    assert_eq!(
        run.report(7, Operation::Try, Report::Success(None)),
        Err(Refusal::BranchNotFound(common::branch_id(7)))
    );
}

#[test]
fn a_participant_that_reports_a_cancel_of_its_own_rolls_back() {
    let mut run = tried(2);
    run.report(0, Operation::Cancel, Report::Success(None))
        .unwrap();
    assert_eq!(run.tx.state, State::Canceling);
    assert_eq!(run.calls.len(), 2);
}
