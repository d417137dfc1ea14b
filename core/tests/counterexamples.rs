//! Each rule that the protocol marks ✗ and the coordinator keeps, by the counterexample that was
//! found without it. Where the participant matters it is the real fence's rule.

mod common;

use common::{Run, branch_id, contract, failure, record_states::RECORD_STATES};
use tercet_core::{
    fence::{self, Action, Call as FenceCall, HORIZON_NONE_MS, Row, Work},
    operation::{Operation, RecordState},
    outcome::{Decision, Outcome, ReplyMode},
    request::Refusal,
    step::{Answer, Durability, Input, QueryAnswer, Timer},
    transaction::{BranchState, Resolution, State, Transaction},
};

/// One participant's row, moved by the real rule; business always agrees.
#[derive(Default)]
struct Participant {
    row: Option<Row>,
    reserved: u32,
    released: u32,
    used: u32,
}

impl Participant {
    fn receives(&mut self, operation: Operation) -> Action {
        let call = FenceCall {
            operation,
            epoch: 1,
            expire_time_ms: 30_000,
            work: Work::Local,
        };
        let action = fence::rule(self.row.as_ref(), &call, HORIZON_NONE_MS, 0);
        if let Action::Run(_) = action {
            match operation {
                Operation::Try => self.reserved += 1,
                Operation::Confirm => self.used += 1,
                Operation::Cancel => self.released += 1,
            }
        }
        self.row = action.row_after(self.row.as_ref(), &call);
        action
    }

    fn says(&self) -> RecordState {
        fence::record_state(self.row.as_ref())
    }

    fn holds(&self) -> u32 {
        self.reserved - self.released - self.used
    }
}

#[test]
fn cancel_reaches_a_branch_whose_try_may_not_have_left() {
    // The record is durable, its Try is on its way, and the coordinator crashes: whether it left is
    // not recorded. Skipping the branch would leak what the Try reserves.
    let mut stock = Participant::default();
    let recorded = Run::submitted(ReplyMode::ThreeState, 2).tx;
    stock.receives(Operation::Try);

    let mut run = Run::open(Transaction::submit(
        ReplyMode::ThreeState,
        recorded.policy.clone(),
        recorded.branches.iter().map(|it| it.spec.clone()).collect(),
    ));
    run.input(Input::Recovered);
    run.due(Timer::Expire);
    let everyone = [(0, Operation::Cancel, false), (1, Operation::Cancel, false)];
    assert_eq!(run.called(), everyone);

    stock.receives(Operation::Cancel);
    assert_eq!(stock.holds(), 0);
}

#[test]
fn a_branch_recorded_while_paused_was_never_tried_and_is_canceled_all_the_same() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.ask(tercet_core::request::Request::Pause).unwrap();
    run.add(contract(0)).unwrap();
    assert_eq!(run.called(), []);
    run.rollback().unwrap();
    run.ask(tercet_core::request::Request::Resume).unwrap();
    assert_eq!(run.called(), [(0, Operation::Cancel, false)]);
}

#[test]
fn a_refused_branch_is_canceled_too() {
    // A refused Try keeps no row, and a late copy of it may yet succeed.
    let mut stock = Participant::default();
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    run.refused(0, Operation::Try);
    assert!(run.called().contains(&(0, Operation::Cancel, false)));

    stock.receives(Operation::Cancel);
    let late = stock.receives(Operation::Try);
    assert_eq!(late, Action::Refuse(fence::Refusal::BranchFenced));
    assert_eq!(stock.reserved, 0, "the tombstone keeps the late copy out");
}

#[test]
fn a_commit_names_its_branches() {
    // A delayed TryBranch arrives after a commit that meant it: it must not be left out in silence.
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    run.success(0, Operation::Try);
    let before = run.tx.clone();

    let mismatch = Err(Refusal::BranchSetMismatch {
        named: "b0, b1".into(),
        recorded: "b0".into(),
    });
    assert_eq!(run.commit(&[0, 1]), mismatch);
    assert_eq!(run.tx, before, "a refusal changes nothing");
    assert!(run.commit(&[]).is_err());
    assert!(run.commit(&[0, 0]).is_err());

    run.add(contract(1)).unwrap();
    assert!(run.commit(&[0]).is_err(), "one recorded and not meant");
    run.commit(&[1, 0]).unwrap();
    assert!(
        matches!(run.add(contract(2)), Err(Refusal::StateInvalid(_))),
        "none may be added after the commit was requested"
    );
}

#[test]
fn a_rollback_of_an_unknown_id_forbids_it() {
    let run = Run::open(Transaction::forbid(failure("CLIENT_ROLLBACK")));
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(run.tx.state, State::Canceled);
    for mode in common::MODES {
        // Whatever mode the Submit that is still on its way asks for.
        assert_eq!(
            tercet_core::outcome::outcome(run.tx.state, mode),
            Outcome::Failed
        );
    }
    assert_eq!(
        run.tx.failure.as_ref().map(|it| &*it.reason),
        Some("CLIENT_ROLLBACK")
    );
}

#[test]
fn whatever_else_arrives_late_for_a_forbidden_id_is_told_that_it_failed() {
    let mut run = Run::open(Transaction::forbid(failure("CLIENT_ROLLBACK")));
    let before = run.tx.clone();
    assert_eq!(run.commit(&[0]), Ok(()), "OK, with FAILED");
    assert_eq!(run.rollback(), Ok(()));
    let decided = Refusal::StateInvalid("the transaction is decided and takes no more branches");
    assert_eq!(run.add(contract(0)), Err(decided));
    run.input(Input::Recovered);
    run.due(Timer::Expire);
    assert_eq!(run.tx, before);
}

#[test]
fn unknown_while_canceling_still_sends_cancel() {
    // The Try is on its way: "unknown, so there is nothing to do" would let it reserve for ever.
    let mut stock = Participant::default();
    let mut run = Run::canceling(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Cancel);
    run.due(Timer::Attempt(0));
    assert_eq!(stock.says(), RecordState::Unknown);
    run.says(0, Operation::Cancel, stock.says());
    assert_eq!(run.called(), [(0, Operation::Cancel, false)]);
    assert_eq!(run.tx.state, State::Canceling);

    assert_eq!(stock.receives(Operation::Cancel), Action::Tombstone);
    stock.receives(Operation::Try);
    assert_eq!(stock.reserved, 0);
    run.success(0, Operation::Cancel);
    assert_eq!(run.tx.state, State::Canceled);
}

#[test]
fn try_failed_while_canceling_still_sends_cancel() {
    let mut run = Run::canceling(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Cancel);
    run.due(Timer::Attempt(0));
    run.says(0, Operation::Cancel, RecordState::TryFailed);
    assert_eq!(run.called(), [(0, Operation::Cancel, false)]);
    assert_eq!(run.tx.state, State::Canceling);
}

#[test]
fn mixed_follows_its_decision() {
    // TWO_STATE has answered SUCCESS since the decision; FAILED now would take it back.
    let mut run = Run::confirming(ReplyMode::TwoState, 2);
    assert_eq!(run.tx.outcome(), Outcome::Success);
    run.success(0, Operation::Confirm);
    run.resolve(1, Resolution::Abandoned, None).unwrap();
    assert_eq!(run.tx.state, State::Mixed(Decision::Commit));
    assert_eq!(run.tx.outcome(), Outcome::Success);
    let reason = run.tx.failure.map(|it| it.reason.to_string());
    assert_eq!(reason.as_deref(), Some("RESOLVED_BY_OPERATOR"));

    let mut run = Run::canceling(ReplyMode::ThreeState, 1);
    run.resolve(0, Resolution::Abandoned, None).unwrap();
    assert_eq!(run.tx.state, State::Mixed(Decision::Cancel));
    assert_eq!(run.tx.outcome(), Outcome::Failed);
}

#[test]
fn no_branch_is_resolved_while_its_participant_works() {
    // The job would end after the operator has closed the branch: it reserves for ever.
    for working in [
        RecordState::Trying,
        RecordState::Confirming,
        RecordState::Canceling,
    ] {
        for resolution in [Resolution::Done, Resolution::Abandoned] {
            let mut run = Run::canceling(ReplyMode::ThreeState, 1);
            let before = run.tx.clone();
            let refused = run.resolve(0, resolution, Some(working));
            assert!(matches!(refused, Err(Refusal::StateInvalid(_))));
            assert_eq!(run.tx, before);
        }
    }
}

#[test]
fn done_by_hand_is_accepted_only_once_the_fence_says_so() {
    // The Cancel is still on its way: closed now, it would release a second time.
    let mut stock = Participant::default();
    stock.receives(Operation::Try);
    let mut run = Run::canceling(ReplyMode::ThreeState, 1);
    assert!(
        run.resolve(0, Resolution::Done, Some(stock.says()))
            .is_err()
    );
    assert!(run.resolve(0, Resolution::Done, None).is_err());

    stock.receives(Operation::Cancel);
    run.resolve(0, Resolution::Done, Some(stock.says()))
        .unwrap();
    assert_eq!(run.tx.state, State::Canceled);
    stock.receives(Operation::Cancel);
    assert_eq!(stock.released, 1);
}

#[test]
fn the_effects_of_a_decision_do_not_open_before_it_is_durable() {
    let recorded = Run::submitted(ReplyMode::ThreeState, 1);
    let decisions = [
        Transaction::submit(
            ReplyMode::ThreeState,
            recorded.tx.policy.clone(),
            vec![contract(0)],
        ),
        recorded
            .tx
            .step(Input::Due(Timer::Expire), recorded.context),
        recorded.tx.step(
            Input::Answered {
                branch: 0,
                operation: Operation::Try,
                answer: Answer::Success(None),
            },
            recorded.context,
        ),
        recorded.tx.step(
            Input::Answered {
                branch: 0,
                operation: Operation::Try,
                answer: Answer::Failed(failure("NO")),
            },
            recorded.context,
        ),
    ];
    for step in decisions {
        assert_eq!(step.durability, Durability::Required);
        assert!(step.effects.open_unsynced().is_err());
    }
}

#[test]
fn what_an_earlier_record_justifies_opens_at_once() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Confirm);
    assert_eq!(
        run.durability,
        Durability::Lazy,
        "committed, not waited for"
    );
    let retry = run.tx.step(Input::Due(Timer::Attempt(0)), run.context);
    assert_eq!(retry.durability, Durability::Memory);
    assert_eq!(
        retry.effects.open_unsynced().map(|it| it.len()).ok(),
        Some(1)
    );
}

#[test]
fn a_try_result_is_durable_with_the_decision_that_rests_on_it() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    let result = Some(common::payload("seat 7"));
    run.answer(0, Operation::Try, Answer::Success(result.clone()));
    assert_eq!(
        run.durability,
        Durability::Memory,
        "found out again by Query"
    );
    run.success(1, Operation::Try);
    assert_eq!(run.durability, Durability::Required);
    assert_eq!(run.tx.branches[0].try_result, result);
}

#[test]
fn a_try_result_that_only_a_later_query_brings_is_kept() {
    // The reply was lost, and a report or the other copy's reply that counted brought no result.
    let held = Some(common::payload("seat 7"));
    for (mut run, operation, state) in [
        (
            Run::confirming(ReplyMode::ThreeState, 1),
            Operation::Confirm,
            RecordState::Tried,
        ),
        (
            Run::confirming(ReplyMode::ThreeState, 1),
            Operation::Confirm,
            RecordState::Confirmed,
        ),
        (
            Run::canceling(ReplyMode::ThreeState, 1),
            Operation::Cancel,
            RecordState::Tried,
        ),
    ] {
        run.lost(0, operation);
        run.due(Timer::Attempt(0));
        let mut answer = common::recorded(state);
        if let QueryAnswer::Recorded(recorded) = &mut answer {
            recorded.try_result = held.clone();
        }
        run.query(0, operation, answer);
        assert_eq!(run.tx.branches[0].try_result, held, "{state:?}");
    }
}

#[test]
fn an_answer_to_a_query_sent_before_the_decision_is_ignored_after_it() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Try);
    run.due(Timer::Attempt(0));
    run.due(Timer::Expire);
    let decided = run.tx.clone();
    for state in RECORD_STATES {
        run.says(0, Operation::Try, state);
        assert_eq!(run.tx, decided, "stale {state:?}");
        assert_eq!(run.called(), []);
    }
    run.query(0, Operation::Try, QueryAnswer::Unclear);
    assert_eq!(run.tx, decided);
}

#[test]
fn a_try_that_answers_after_the_cancel_decision_changes_nothing() {
    let mut run = Run::canceling(ReplyMode::ThreeState, 2);
    let decided = run.tx.clone();
    run.success(0, Operation::Try);
    run.refused(1, Operation::Try);
    assert_eq!(run.tx, decided);
}

#[test]
fn the_first_definitive_answer_wins() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    run.success(0, Operation::Try);
    run.refused(0, Operation::Try);
    assert_eq!(run.tx.state, State::Trying);
    assert_eq!(run.tx.branches[0].state, BranchState::Tried);
}

#[test]
fn commit_races_expiry_and_one_wins() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.due(Timer::Expire);
    assert_eq!(run.tx.state, State::Confirming);
    assert_eq!(run.rollback(), Err(Refusal::DecisionConflict));

    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.due(Timer::Expire);
    run.success(0, Operation::Try);
    assert_eq!(run.tx.state, State::Canceling);
}

#[test]
fn a_timeout_is_never_read_as_failed() {
    for mode in [ReplyMode::ThreeState, ReplyMode::Accepted] {
        let mut run = Run::submitted(mode, 1);
        run.lost(0, Operation::Try);
        assert_eq!(run.tx.state, State::Trying);
        run.answer(0, Operation::Try, Answer::TooLarge(failure("TOO_LARGE")));
        assert_eq!(run.tx.state, State::Trying);
        assert_eq!(run.tx.outcome(), Outcome::Processing);
    }
}

#[test]
fn a_refused_confirm_never_flips_the_decision() {
    let mut run = Run::confirming(ReplyMode::TwoState, 1);
    for _ in 0..20 {
        run.refused(0, Operation::Confirm);
        run.due(Timer::Attempt(0));
        assert_eq!(run.called(), [(0, Operation::Confirm, false)]);
    }
    assert_eq!(run.tx.outcome(), Outcome::Success);
}

#[test]
fn only_a_first_try_that_was_not_sent_cancels() {
    let not_sent = || Answer::NotSent(failure("BREAKER_OPEN"));
    let mut run = Run::submitted(ReplyMode::ThreeState, 2);
    run.answer(0, Operation::Try, not_sent());
    assert_eq!(run.tx.state, State::Canceling);

    // A repeat waits: the first may have reached the participant.
    let mut run = Run::submitted_with(ReplyMode::ThreeState, vec![common::methods(0)]);
    run.lost(0, Operation::Try);
    run.due(Timer::Attempt(0));
    run.answer(0, Operation::Try, not_sent());
    assert_eq!(run.tx.state, State::Trying);

    // After a restart all are repeats.
    let mut run = Run::submitted_with(ReplyMode::ThreeState, vec![common::methods(0)]);
    run.input(Input::Recovered);
    run.due(Timer::Attempt(0));
    run.answer(0, Operation::Try, not_sent());
    assert_eq!(run.tx.state, State::Trying);

    // Phase two waits.
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.answer(0, Operation::Confirm, not_sent());
    assert_eq!(run.tx.state, State::Confirming);
    assert_eq!(run.timers.len(), 1);
}

#[test]
fn a_branch_id_is_never_reused_with_other_content() {
    let mut run = Run::begun(ReplyMode::ThreeState);
    run.add(contract(0)).unwrap();
    let before = run.tx.clone();
    run.add(contract(0)).unwrap();
    assert_eq!(run.tx, before, "the same again is the same branch");
    assert_eq!(run.called(), []);
    assert_eq!(
        run.add(common::methods(0)),
        Err(Refusal::BranchIdReused(branch_id(0)))
    );
}
