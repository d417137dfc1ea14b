//! What the executable invariants catch: each planted fault by the invariant it breaks.

mod common;

use common::{Run, contract};
use tercet_core::{
    check::{legal, well_formed},
    operation::Operation,
    outcome::{Decision, ReplyMode},
    transaction::{BranchState, Resolution, State, Transaction},
};

fn broken(tx: &Transaction) -> Option<&'static str> {
    well_formed(tx).err().map(|it| it.invariant)
}

fn illegal(before: &Transaction, after: &Transaction) -> Option<&'static str> {
    legal(before, after).err().map(|it| it.invariant)
}

fn trying() -> Transaction {
    Run::submitted(ReplyMode::ThreeState, 2).tx
}

fn confirming() -> Transaction {
    Run::confirming(ReplyMode::ThreeState, 2).tx
}

fn confirmed() -> Transaction {
    let mut run = Run::confirming(ReplyMode::ThreeState, 2);
    run.success(0, Operation::Confirm);
    run.success(1, Operation::Confirm);
    run.tx
}

#[test]
fn a_branch_never_disagrees_with_the_decision() {
    for (state, branch) in [
        (State::Trying, BranchState::Confirming),
        (State::Trying, BranchState::Resolved(Resolution::Done)),
        (State::Confirming, BranchState::Tried),
        (State::Confirming, BranchState::Canceling),
        (State::Confirming, BranchState::Canceled),
        (State::Canceling, BranchState::Confirmed),
        (State::Canceling, BranchState::Trying),
        (State::Confirmed, BranchState::Canceled),
        (
            State::Confirmed,
            BranchState::Resolved(Resolution::Abandoned),
        ),
        (State::Canceled, BranchState::Confirmed),
        (
            State::Canceled,
            BranchState::Resolved(Resolution::Abandoned),
        ),
        (State::Mixed(Decision::Commit), BranchState::Canceled),
    ] {
        let mut tx = trying();
        tx.state = state;
        tx.branches[0].state = branch;
        tx.branches.truncate(1);
        assert_eq!(broken(&tx), Some("S2"), "{branch:?} in {state:?}");
    }
}

#[test]
fn nothing_has_ended_that_still_owes_a_call() {
    let mut tx = confirming();
    tx.state = State::Mixed(Decision::Commit);
    assert_eq!(broken(&tx), Some("S4"));
}

#[test]
fn mixed_means_that_a_branch_was_given_up() {
    let mut tx = confirmed();
    tx.state = State::Mixed(Decision::Commit);
    assert_eq!(broken(&tx), Some("S4"));
    tx.branches[0].state = BranchState::Resolved(Resolution::Abandoned);
    assert_eq!(broken(&tx), None);
}

#[test]
fn an_ended_transaction_is_not_paused() {
    let mut tx = confirmed();
    tx.paused = true;
    assert_eq!(broken(&tx), Some("S8"));
}

#[test]
fn no_transaction_waits_for_nothing() {
    let mut tx = confirmed();
    tx.state = State::Confirming;
    assert_eq!(broken(&tx), Some("L1"));

    let mut tx = trying();
    for branch in &mut tx.branches {
        branch.state = BranchState::Tried;
    }
    assert_eq!(broken(&tx), Some("L1"), "the commit decision was lost");
    tx.interactive = true;
    assert_eq!(broken(&tx), None, "its client has not asked yet");
    tx.commit_requested = true;
    assert_eq!(broken(&tx), Some("L1"));
}

#[test]
fn a_decision_is_immutable() {
    let canceling = Run::canceling(ReplyMode::ThreeState, 2).tx;
    assert_eq!(illegal(&confirming(), &canceling), Some("S3"));
    assert_eq!(illegal(&confirming(), &trying()), Some("S3"));
}

#[test]
fn an_end_is_an_end() {
    let mut mixed = confirmed();
    mixed.state = State::Mixed(Decision::Commit);
    mixed.branches[0].state = BranchState::Resolved(Resolution::Abandoned);
    assert_eq!(illegal(&confirmed(), &mixed), Some("S8"));
    assert_eq!(illegal(&confirmed(), &confirming()), Some("S8"));
}

#[test]
fn what_was_pinned_stays() {
    let changes: [fn(&mut Transaction); 3] = [
        |tx| tx.mode = ReplyMode::TwoState,
        |tx| tx.interactive = true,
        |tx| tx.policy = common::policy(&[1], 1),
    ];
    for change in changes {
        let mut after = trying();
        change(&mut after);
        assert_eq!(illegal(&trying(), &after), Some("S11"));
    }
    let mut after = trying();
    after.branches[1].spec = contract(9);
    assert_eq!(illegal(&trying(), &after), Some("S11"));
}

#[test]
fn no_branch_is_lost_and_none_joins_after_the_decision() {
    let mut fewer = trying();
    fewer.branches.pop();
    assert_eq!(illegal(&trying(), &fewer), Some("S1"));

    let one = Run::confirming(ReplyMode::ThreeState, 1).tx;
    assert_eq!(illegal(&one, &confirming()), Some("S3"));

    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    let mut before = run.tx.clone();
    run.add(contract(1)).unwrap();
    assert_eq!(illegal(&before, &run.tx), None);
    before.commit_requested = true;
    run.tx.commit_requested = true;
    assert_eq!(illegal(&before, &run.tx), Some("S3"));
    run.tx.branches.pop();
    run.tx.commit_requested = false;
    assert_eq!(
        illegal(&before, &run.tx),
        Some("S8"),
        "a request taken back"
    );
}

#[test]
fn a_branch_never_goes_back() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    let before = run.tx.clone();
    run.success(0, Operation::Try);
    assert_eq!(illegal(&run.tx, &before), Some("S8"));

    let mut run = Run::confirming(ReplyMode::ThreeState, 2);
    let before = run.tx.clone();
    run.success(0, Operation::Confirm);
    assert_eq!(illegal(&run.tx, &before), Some("S8"));
    let mut resolved = run.tx.clone();
    resolved.branches[0].state = BranchState::Resolved(Resolution::Done);
    assert_eq!(illegal(&run.tx, &resolved), Some("S8"));
}
