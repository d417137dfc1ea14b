//! The table *Query says* of the protocol, cell by cell.

mod common;

use common::{Run, failure, record_states::RECORD_STATES, recorded};
use tercet_core::{
    operation::{Operation, RecordState},
    outcome::{Decision, ReplyMode},
    step::{Durability, QueryAnswer, Timer},
    transaction::{AttentionReason, Next},
};

/// What a row begins with.
#[derive(Clone, Copy, Debug)]
enum Says {
    NoAnswer,
    Unclear,
    State(RecordState),
}

/// What a cell demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// The operation is sent again, at once.
    Resend,
    /// The same, and a person is asked to look.
    ResendWithAttention,
    /// The operation is sent again after `retry_after`.
    ResendLater,
    /// A failed attempt; the next one begins with Query, by the ladder.
    NextAttempt,
    /// As if the operation had answered SUCCESS.
    Succeeded,
    /// As if the operation had answered FAILED.
    Refused,
    /// Cancel is decided, because somebody canceled.
    DecideCancel,
    /// No more calls, and a person is asked to look.
    Mismatch,
}

use RecordState as R;
use Says::{NoAnswer, State, Unclear};
use Then::{
    DecideCancel, Mismatch, NextAttempt, Refused, Resend, ResendLater, ResendWithAttention,
    Succeeded,
};

/// The protocol's table: what Query says, then what follows while TRYING, CONFIRMING, CANCELING.
const TABLE: [(Says, [Then; 3]); 12] = [
    (Unclear, [Resend, Resend, Resend]),
    (State(R::Unknown), [Resend, ResendWithAttention, Resend]),
    (NoAnswer, [NextAttempt, NextAttempt, NextAttempt]),
    (State(R::Trying), [ResendLater, Resend, Resend]),
    (State(R::Confirming), [Mismatch, ResendLater, Mismatch]),
    (State(R::Canceling), [DecideCancel, Mismatch, ResendLater]),
    (State(R::ConfirmFailed), [Mismatch, Refused, Refused]),
    (State(R::CancelFailed), [Mismatch, Refused, Refused]),
    (State(R::Tried), [Succeeded, Resend, Resend]),
    (State(R::TryFailed), [Refused, Mismatch, Resend]),
    (State(R::Confirmed), [Mismatch, Succeeded, Mismatch]),
    (State(R::Canceled), [DecideCancel, Mismatch, Succeeded]),
];

const PHASES: [Operation; 3] = [Operation::Try, Operation::Confirm, Operation::Cancel];

#[test]
fn every_cell_does_what_the_protocol_says() {
    for (says, row) in TABLE {
        for (phase, then) in PHASES.into_iter().zip(row) {
            assert_eq!(seen(says, phase), then, "Query says {says:?} in {phase:?}");
        }
    }
}

#[test]
fn the_table_has_a_row_for_everything_a_query_can_say() {
    for state in RECORD_STATES {
        let rows = TABLE
            .iter()
            .filter(|(says, _)| matches!(says, State(it) if *it == state));
        assert_eq!(rows.count(), 1, "{state:?}");
    }
}

/// Two branches in this phase; the first asks and gets this answer. What did it do?
fn seen(says: Says, phase: Operation) -> Then {
    let mut run = match phase {
        Operation::Try => Run::submitted(ReplyMode::ThreeState, 2),
        Operation::Confirm => Run::confirming(ReplyMode::ThreeState, 2),
        Operation::Cancel => Run::canceling(ReplyMode::ThreeState, 2),
    };
    run.lost(0, phase);
    run.due(Timer::Attempt(0));
    assert_eq!(run.called(), [(0, phase, true)], "recovery asks first");

    let before = run.tx.clone();
    let mut answer = match says {
        NoAnswer => QueryAnswer::Indeterminate(failure("UNAVAILABLE")),
        Unclear => QueryAnswer::Unclear,
        State(state) => recorded(state),
    };
    if let QueryAnswer::Recorded(recorded) = &mut answer {
        recorded.retry_after_ms = Some(7_777);
    }
    run.query(0, phase, answer);

    let ours = &run.tx.branches[0];
    let called = run.called();
    let resent = called == [(0, phase, false)];
    let attention = run.attends(AttentionReason::StateMismatch);
    let armed = |delay_ms| run.timers == [(Timer::Attempt(0), delay_ms)];
    let decided = before.decision().is_none() && run.tx.decision() == Some(Decision::Cancel);
    let reason = run.tx.failure.as_ref().map(|it| it.reason.to_string());

    if resent && ours.state == before.branches[0].state {
        return if attention {
            ResendWithAttention
        } else {
            Resend
        };
    }
    if decided {
        assert_eq!(run.durability, Durability::Required);
        let both = [(0, Operation::Cancel, false), (1, Operation::Cancel, false)];
        assert_eq!(called, both, "every branch is canceled");
        return match reason.as_deref() {
            Some("CANCELED_BY_PARTICIPANT") => DecideCancel,
            Some("REFUSED") => Refused,
            other => panic!("canceled because of {other:?}"),
        };
    }
    assert_eq!(called, [], "{says:?} in {phase:?} calls something else");
    if ours.next == Next::Stopped && attention && run.timers.is_empty() {
        assert_eq!(run.tx.owed_by(0), None);
        return Mismatch;
    }
    if ours.state.owes().is_none() {
        assert!(run.timers.is_empty());
        return Succeeded;
    }
    assert_eq!(ours.state, before.branches[0].state);
    if armed(7_777) && ours.next == Next::Send {
        assert_eq!(ours.failed_attempts, before.branches[0].failed_attempts);
        return ResendLater;
    }
    if armed(300_000) && run.attends(AttentionReason::Refused) && ours.next == Next::Send {
        return Refused;
    }
    assert!(armed(10_000), "the second rung: {:?}", run.timers);
    assert_eq!(ours.failed_attempts, before.branches[0].failed_attempts + 1);
    assert_eq!(ours.next, Next::Query);
    NextAttempt
}
