//! When an indeterminate call is repeated, and when a person is asked to look.

mod common;

use common::{Run, contract, failure, methods, policy, recorded};
use tercet_core::{
    operation::{Operation, RecordState},
    outcome::ReplyMode,
    step::{Answer, Input, QueryAnswer, Timer},
    transaction::{AttentionReason, State, Transaction},
};

/// The waits between failed rounds of the first branch, its Queries unanswered.
fn waits(run: &mut Run, operation: Operation, rounds: usize) -> Vec<u64> {
    run.lost(0, operation);
    let mut waits = Vec::new();
    loop {
        let &[(timer, delay_ms)] = run.timers.as_slice() else {
            panic!("one timer, not {:?}", run.timers);
        };
        assert_eq!(timer, Timer::Attempt(0));
        waits.push(delay_ms);
        if waits.len() == rounds {
            return waits;
        }
        run.due(timer);
        assert_eq!(run.called(), [(0, operation, true)], "each asks first");
        let unanswered = QueryAnswer::Indeterminate(failure("UNAVAILABLE"));
        run.query(0, operation, unanswered);
    }
}

const LADDER_MS: [u64; 9] = [
    5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 300_000, 300_000,
];

#[test]
fn with_nobody_waiting_the_attempts_climb_the_ladder() {
    let mut run = Run::submitted(ReplyMode::Accepted, 1);
    assert_eq!(waits(&mut run, Operation::Try, 9), LADDER_MS);
}

#[test]
fn while_a_caller_waits_two_early_attempts_come_first() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.context.attended = true;
    let seen = waits(&mut run, Operation::Try, 11);
    assert_eq!(seen[..2], [200, 1_000]);
    assert_eq!(seen[2..], LADDER_MS);
}

#[test]
fn a_caller_that_comes_later_gets_its_early_attempts_and_the_ladder_goes_on_after_them() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    assert_eq!(waits(&mut run, Operation::Try, 2), [5_000, 10_000]);
    run.context.attended = true;
    assert_eq!(waits(&mut run, Operation::Try, 3), [200, 1_000, 20_000]);
}

#[test]
fn the_decision_starts_the_ladder_anew() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    waits(&mut run, Operation::Try, 6);
    run.rollback().unwrap();
    assert_eq!(waits(&mut run, Operation::Cancel, 9), LADDER_MS);

    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.context.attended = true;
    assert_eq!(
        waits(&mut run, Operation::Confirm, 3),
        [200, 1_000, 5_000],
        "early attempts too"
    );
}

#[test]
fn what_follows_from_a_query_follows_at_once() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Confirm);
    run.due(Timer::Attempt(0));
    run.says(0, Operation::Confirm, RecordState::Tried);
    assert_eq!(run.called(), [(0, Operation::Confirm, false)]);
    assert_eq!(run.timers, []);
}

#[test]
fn a_target_that_cannot_be_asked_is_called_again() {
    let mut run = Run::submitted_with(ReplyMode::ThreeState, vec![methods(0)]);
    run.lost(0, Operation::Try);
    run.due(Timer::Attempt(0));
    assert_eq!(run.called(), [(0, Operation::Try, false)]);
    assert_eq!(run.calls[0].attempt, 2);
}

#[test]
fn attempts_are_numbered_from_one_by_kind_of_call() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    assert_eq!(run.calls[0].attempt, 1);
    for round in 1..4 {
        run.lost(0, Operation::Try);
        run.due(Timer::Attempt(0));
        assert_eq!((run.calls[0].query, run.calls[0].attempt), (true, round));
        run.query(0, Operation::Try, QueryAnswer::Unclear);
        let again = (run.calls[0].query, run.calls[0].attempt);
        assert_eq!(again, (false, round + 1));
    }
    run.rollback().unwrap();
    assert_eq!(run.calls[0].attempt, 1, "the first Cancel");
}

#[test]
fn retry_after_replaces_the_interval_within_its_limits() {
    for (asked_ms, waited_ms) in [
        (Some(0), 100),
        (Some(99), 100),
        (Some(2_000), 2_000),
        (Some(300_000), 300_000),
        (Some(u64::MAX), 300_000),
        (None, 5_000),
    ] {
        let mut run = Run::submitted(ReplyMode::ThreeState, 1);
        let retry_after_ms = asked_ms;
        run.answer(0, Operation::Try, Answer::Processing { retry_after_ms });
        assert_eq!(run.timers, [(Timer::Attempt(0), waited_ms)], "{asked_ms:?}");
    }
}

#[test]
fn retry_after_uses_up_no_rung() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    let retry_after_ms = Some(7_000);
    for _ in 0..3 {
        run.answer(0, Operation::Try, Answer::Processing { retry_after_ms });
    }
    run.lost(0, Operation::Try);
    assert_eq!(run.timers, [(Timer::Attempt(0), 5_000)]);
}

#[test]
fn a_query_that_says_trying_resends_after_the_participants_own_interval() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.lost(0, Operation::Try);
    run.due(Timer::Attempt(0));
    let mut answer = recorded(RecordState::Trying);
    if let QueryAnswer::Recorded(recorded) = &mut answer {
        recorded.retry_after_ms = Some(1_234);
    }
    run.query(0, Operation::Try, answer);
    assert_eq!(run.timers, [(Timer::Attempt(0), 1_234)]);
    run.due(Timer::Attempt(0));
    let resent = [(0, Operation::Try, false)];
    assert_eq!(run.called(), resent, "which restarts a lost job");
}

#[test]
fn a_refused_confirm_or_cancel_waits_the_last_interval_and_needs_a_person_at_once() {
    for (mut run, operation) in [
        (
            Run::confirming(ReplyMode::ThreeState, 1),
            Operation::Confirm,
        ),
        (Run::canceling(ReplyMode::ThreeState, 1), Operation::Cancel),
    ] {
        run.context.attended = true;
        run.refused(0, operation);
        assert_eq!(run.timers, [(Timer::Attempt(0), 300_000)]);
        assert!(run.attends(AttentionReason::Refused));
        run.due(Timer::Attempt(0));
        assert_eq!(run.called(), [(0, operation, false)]);
        run.success(0, operation);
        assert!(run.tx.attentions.is_empty());
        assert!(run.tx.state.is_terminal());
    }
}

#[test]
fn a_person_is_asked_to_look_after_so_many_failed_attempts() {
    let policy = policy(&[1_000], 3);
    let mut run = Run::open(Transaction::submit(
        ReplyMode::ThreeState,
        policy,
        vec![contract(0)],
    ));
    waits(&mut run, Operation::Try, 2);
    assert!(!run.attends(AttentionReason::RetriesExceeded));
    waits(&mut run, Operation::Try, 1);
    assert!(run.attends(AttentionReason::RetriesExceeded));
    waits(&mut run, Operation::Try, 5);
    assert_eq!(run.tx.attentions.len(), 1, "it stands once");
    assert_eq!(run.tx.state, State::Trying, "and the work goes on");

    run.rollback().unwrap();
    assert!(
        run.tx.attentions.is_empty(),
        "another operation counts anew"
    );
    waits(&mut run, Operation::Cancel, 2);
    assert!(!run.attends(AttentionReason::RetriesExceeded));
}

#[test]
fn an_explicit_processing_is_no_failed_attempt() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    for _ in 0..100 {
        let retry_after_ms = None;
        run.answer(0, Operation::Try, Answer::Processing { retry_after_ms });
        run.due(Timer::Attempt(0));
        run.says(0, Operation::Try, RecordState::Trying);
        run.due(Timer::Attempt(0));
    }
    assert_eq!(run.tx.branches[0].failed_attempts, 0);
    assert!(run.tx.attentions.is_empty());
}

#[test]
fn a_reply_too_large_to_read_is_indeterminate_and_needs_a_person() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 1);
    run.answer(0, Operation::Confirm, Answer::TooLarge(failure("LARGE")));
    assert!(run.attends(AttentionReason::ReplyTooLarge));
    assert_eq!(run.tx.branches[0].failed_attempts, 1);
    run.due(Timer::Attempt(0));
    run.query(
        0,
        Operation::Confirm,
        QueryAnswer::TooLarge(failure("LARGE")),
    );
    assert_eq!(run.tx.attentions.len(), 1);
    assert_eq!(run.timers, [(Timer::Attempt(0), 10_000)]);
}

#[test]
fn a_new_process_asks_before_it_acts() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 2);
    run.success(1, Operation::Confirm);
    run.input(Input::Recovered);
    assert_eq!(run.called(), [], "what is due is driven by its timer");
    run.due(Timer::Attempt(0));
    assert_eq!(run.called(), [(0, Operation::Confirm, true)]);
    run.due(Timer::Attempt(1));
    assert_eq!(run.called(), [], "the other one owes nothing");
}

#[test]
fn what_is_owed_is_one_call_of_each_branch_that_has_not_ended() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 3);
    run.success(1, Operation::Confirm);
    run.lost(2, Operation::Confirm);
    let owed: Vec<_> = run.tx.owed().collect();
    let calls: Vec<_> = owed.iter().map(|it| (it.branch, it.query)).collect();
    assert_eq!(calls, [(0, false), (2, true)]);
    assert!(owed.iter().all(|it| it.operation == Operation::Confirm));
    assert_eq!([owed[0].attempt, owed[1].attempt], [2, 1], "the next ones");
}

#[test]
fn jitter_stretches_every_rung_and_no_hint() {
    let mut run = Run::submitted(ReplyMode::ThreeState, 1);
    run.context.jitter = 1_000;
    assert_eq!(waits(&mut run, Operation::Try, 2), [5_500, 11_000]);
    let retry_after_ms = Some(2_000);
    run.answer(0, Operation::Try, Answer::Processing { retry_after_ms });
    assert_eq!(run.timers, [(Timer::Attempt(0), 2_000)]);
    run.rollback().unwrap();
    run.context.jitter = -1_000;
    run.refused(0, Operation::Cancel);
    assert_eq!(run.timers, [(Timer::Attempt(0), 270_000)]);
}

#[test]
fn one_stuck_branch_holds_up_no_other() {
    let mut run = Run::confirming(ReplyMode::ThreeState, 3);
    run.refused(0, Operation::Confirm);
    run.lost(1, Operation::Confirm);
    run.success(2, Operation::Confirm);
    run.due(Timer::Attempt(1));
    run.says(1, Operation::Confirm, RecordState::Confirmed);
    assert_eq!(run.tx.state, State::Confirming);
    run.success(0, Operation::Confirm);
    assert_eq!(run.tx.state, State::Confirmed);
}
