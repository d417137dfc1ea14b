//! The invariants that one record, or one change of it, can show. The engine asserts them in debug
//! builds, a store's records are held against them when they are loaded, and the model and the
//! simulator check them at every step.

use crate::{
    outcome::Decision,
    transaction::{BranchState, Resolution, State, Transaction},
};

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{invariant} is broken: {detail}")]
pub struct Violation {
    /// Its number in the protocol.
    pub invariant: &'static str,
    /// What was seen.
    pub detail: String,
}

fn ensure(
    holds: bool,
    invariant: &'static str,
    detail: impl FnOnce() -> String,
) -> Result<(), Violation> {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            invariant,
            detail: detail(),
        })
    }
}

/// Whether a record can be: its branches agree with its state.
///
/// # Errors
/// The first invariant that doesn't hold.
pub fn well_formed(tx: &Transaction) -> Result<(), Violation> {
    let open = tx.branches.iter().any(|it| it.state.owes().is_some());
    for branch in &tx.branches {
        let allowed = match tx.state {
            State::Trying => matches!(branch.state, BranchState::Trying | BranchState::Tried),
            State::Confirming => agrees(branch.state, Decision::Commit),
            State::Confirmed => matches!(
                branch.state,
                BranchState::Confirmed | BranchState::Resolved(Resolution::Done)
            ),
            State::Canceling => agrees(branch.state, Decision::Cancel),
            State::Canceled => matches!(
                branch.state,
                BranchState::Canceled | BranchState::Resolved(Resolution::Done)
            ),
            State::Mixed(decision) => agrees(branch.state, decision),
        };
        ensure(allowed, "S2", || {
            format!(
                "branch {} is {:?} in {:?}",
                branch.spec.id, branch.state, tx.state
            )
        })?;
    }
    ensure(!tx.state.is_terminal() || !open, "S4", || {
        format!("{:?} with a branch that still owes a call", tx.state)
    })?;
    let mixed = matches!(tx.state, State::Mixed(_));
    let given_up = BranchState::Resolved(Resolution::Abandoned);
    let any_given_up = tx.branches.iter().any(|it| it.state == given_up);
    ensure(
        !mixed || any_given_up || tx.branches.is_empty(),
        "S4",
        || "MIXED without a branch that was given up".into(),
    )?;
    ensure(!tx.state.is_terminal() || !tx.paused, "S8", || {
        format!("{:?} and paused: a resume would change it", tx.state)
    })?;
    let deciding = tx.state == State::Confirming || tx.state == State::Canceling;
    ensure(!deciding || open, "L1", || {
        format!("{:?} with nothing left to do", tx.state)
    })?;
    let asked = !tx.interactive || tx.commit_requested;
    let undecided = tx.state == State::Trying && asked && !tx.branches.is_empty();
    ensure(!undecided || open, "L1", || {
        "every Try has succeeded and the commit is not decided".into()
    })
}

/// Whether a branch state can stand beside this decision.
fn agrees(state: BranchState, decision: Decision) -> bool {
    match state {
        BranchState::Trying | BranchState::Tried => false,
        BranchState::Confirming | BranchState::Confirmed => decision == Decision::Commit,
        BranchState::Canceling | BranchState::Canceled => decision == Decision::Cancel,
        BranchState::Resolved(_) => true,
    }
}

/// Whether one record may follow another.
///
/// # Errors
/// The first invariant that the change breaks.
pub fn legal(before: &Transaction, after: &Transaction) -> Result<(), Violation> {
    well_formed(after)?;
    let change = || format!("{:?} became {:?}", before.state, after.state);
    ensure(
        before.decision().is_none() || before.decision() == after.decision(),
        "S3",
        change,
    )?;
    ensure(
        !before.state.is_terminal() || before.state == after.state,
        "S8",
        change,
    )?;
    ensure(
        before.mode == after.mode
            && before.interactive == after.interactive
            && before.policy == after.policy,
        "S11",
        || "what was pinned when it was created has changed".into(),
    )?;
    ensure(before.branches.len() <= after.branches.len(), "S1", || {
        "a branch was lost".into()
    })?;
    let grew = before.branches.len() < after.branches.len();
    ensure(
        !grew || (before.decision().is_none() && !before.commit_requested),
        "S3",
        || "a branch was added after the decision, or after commit was requested".into(),
    )?;
    ensure(
        !before.commit_requested || after.commit_requested,
        "S8",
        || "a commit request was taken back".into(),
    )?;
    for (was, is) in before.branches.iter().zip(&after.branches) {
        ensure(was.spec == is.spec, "S11", || {
            format!("branch {} changed its content", was.spec.id)
        })?;
        let forward = if rank(was.state) == RANK_ENDED {
            was.state == is.state
        } else {
            rank(was.state) <= rank(is.state)
        };
        ensure(forward, "S8", || {
            format!(
                "branch {} went from {:?} back to {:?}",
                was.spec.id, was.state, is.state
            )
        })?;
    }
    Ok(())
}

/// A branch's rank never sinks; on the last one, nothing changes any more.
fn rank(state: BranchState) -> u8 {
    match state {
        BranchState::Trying => 0,
        BranchState::Tried => 1,
        BranchState::Confirming | BranchState::Canceling => RANK_DECIDED,
        BranchState::Confirmed | BranchState::Canceled | BranchState::Resolved(_) => RANK_ENDED,
    }
}

const RANK_DECIDED: u8 = 2;
const RANK_ENDED: u8 = 3;
