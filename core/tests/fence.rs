//! The participant's rule: every cell of its table, and each rule whose absence has a
//! counterexample.

use tercet_core::{
    fence::{
        Action, Alarm, Call, EXPIRY_SKEW_MS, Finish, HORIZON_NONE_MS, Job, JobEnd, Refusal,
        Retention, Row, State, Stored, Work, finish, horizon_after, may_collect, record_state,
        rule,
    },
    operation::{Operation, RecordState},
};

const NOW_MS: i64 = 1_800_000_000_000;
const EXPIRE_MS: i64 = NOW_MS + 30_000;
const REMOTE: Work = Work::Remote(Job::MayHaveStarted);

#[test]
fn every_cell_of_the_table_is_as_the_protocol_says() {
    use Action::{Own, Refuse, Run, Tombstone};
    use State::{Canceled, Canceling, Confirmed, Confirming, Tried, TryFailed, Trying};
    let contradiction = |state| Action::Alarm(Alarm::Contradiction(state));
    let not_local = |state| Action::Alarm(Alarm::NotLocal(state));
    let stored = Action::Stored;
    let fenced = Refuse(Refusal::BranchFenced);
    let not_tried = Action::Alarm(Alarm::NotTried);
    // row; then Try, Confirm, Cancel of local work; then the same of remote work.
    let table: [(Option<State>, [Action; 3], [Action; 3]); 8] = [
        (
            None,
            [Run(Tried), not_tried, Tombstone],
            [Own(Trying), not_tried, Tombstone],
        ),
        (
            Some(Trying),
            [not_local(Trying); 3],
            [Own(Trying), contradiction(Trying), Own(Canceling)],
        ),
        (
            Some(TryFailed),
            [
                stored(Stored::TryFailure),
                contradiction(TryFailed),
                Tombstone,
            ],
            [
                stored(Stored::TryFailure),
                contradiction(TryFailed),
                Tombstone,
            ],
        ),
        (
            Some(Tried),
            [stored(Stored::TryResult), Run(Confirmed), Run(Canceled)],
            [stored(Stored::TryResult), Own(Confirming), Own(Canceling)],
        ),
        (
            Some(Confirming),
            [not_local(Confirming); 3],
            [
                stored(Stored::TryResult),
                Own(Confirming),
                contradiction(Confirming),
            ],
        ),
        (
            Some(Confirmed),
            [
                stored(Stored::TryResult),
                stored(Stored::Done),
                contradiction(Confirmed),
            ],
            [
                stored(Stored::TryResult),
                stored(Stored::Done),
                contradiction(Confirmed),
            ],
        ),
        (
            Some(Canceling),
            [not_local(Canceling); 3],
            [fenced, contradiction(Canceling), Own(Canceling)],
        ),
        (
            Some(Canceled),
            [fenced, contradiction(Canceled), stored(Stored::Done)],
            [fenced, contradiction(Canceled), stored(Stored::Done)],
        ),
    ];
    let operations = [Operation::Try, Operation::Confirm, Operation::Cancel];
    for (state, local, remote) in table {
        let row = state.map(row);
        for (column, operation) in operations.into_iter().enumerate() {
            for (work, expected) in [(Work::Local, local[column]), (REMOTE, remote[column])] {
                let call = call(operation, work);
                let action = rule(row.as_ref(), &call, HORIZON_NONE_MS, NOW_MS);
                assert_eq!(
                    action, expected,
                    "{operation:?} of {work:?} finds {state:?}"
                );
                // Whatever happens to a row, only an error may leave a Try's tombstone unwritten.
                if operation == Operation::Cancel && !matches!(action, Action::Alarm(_)) {
                    let after = action.row_after(row.as_ref(), &call).unwrap().state;
                    assert!(
                        matches!(after, Canceled | Canceling),
                        "{state:?} became {after:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_try_that_certainly_never_started_is_canceled_at_once() {
    let cancel = call(Operation::Cancel, Work::Remote(Job::NeverStarted));
    let trying = row(State::Trying);
    assert_eq!(
        rule(Some(&trying), &cancel, HORIZON_NONE_MS, NOW_MS),
        Action::Tombstone
    );
    // What is known of a Try's job says nothing of any other row.
    for state in State::ALL
        .into_iter()
        .filter(|state| *state != State::Trying)
    {
        let careful = call(Operation::Cancel, REMOTE);
        assert_eq!(
            rule(Some(&row(state)), &cancel, HORIZON_NONE_MS, NOW_MS),
            rule(Some(&row(state)), &careful, HORIZON_NONE_MS, NOW_MS),
        );
    }
}

#[test]
fn a_lower_epoch_is_an_error_whatever_the_row_says_and_a_higher_one_is_kept() {
    for state in State::ALL {
        for operation in [Operation::Try, Operation::Confirm, Operation::Cancel] {
            for work in [Work::Local, REMOTE, Work::Remote(Job::NeverStarted)] {
                let row = Row {
                    epoch: 7,
                    ..row(state)
                };
                let stale = Call {
                    epoch: 6,
                    ..call(operation, work)
                };
                let action = rule(Some(&row), &stale, HORIZON_NONE_MS, NOW_MS);
                assert_eq!(
                    action,
                    Action::Alarm(Alarm::EpochStale {
                        epoch: 6,
                        row_epoch: 7
                    })
                );
                assert_eq!(action.row_after(Some(&row), &stale), Some(row));

                let newer = Call { epoch: 8, ..stale };
                let action = rule(Some(&row), &newer, HORIZON_NONE_MS, NOW_MS);
                let after = action.row_after(Some(&row), &newer).unwrap();
                assert_eq!(after.epoch, 8, "{operation:?} of {work:?} finds {state:?}");
                assert_eq!(after.expire_time_ms, row.expire_time_ms);
            }
        }
    }
}

#[test]
fn a_try_without_a_row_is_refused_once_it_is_past_its_deadline_by_more_than_the_skew() {
    let late_ms = EXPIRE_MS + EXPIRY_SKEW_MS;
    for work in [Work::Local, REMOTE] {
        let call = call(Operation::Try, work);
        assert!(!is_expired(rule(None, &call, HORIZON_NONE_MS, late_ms)));
        assert!(is_expired(rule(None, &call, HORIZON_NONE_MS, late_ms + 1)));
    }
    // Never with a row: nothing is canceled by time.
    for state in State::ALL {
        let call = call(Operation::Try, REMOTE);
        assert!(!is_expired(rule(
            Some(&row(state)),
            &call,
            i64::MAX,
            i64::MAX
        )));
    }
}

#[test]
fn a_refused_or_failing_call_without_a_row_leaves_none() {
    let expired = Call {
        expire_time_ms: 0,
        ..call(Operation::Try, Work::Local)
    };
    let confirm = call(Operation::Confirm, Work::Local);
    for call in [expired, confirm] {
        let action = rule(None, &call, HORIZON_NONE_MS, NOW_MS);
        assert_eq!(action.row_after(None, &call), None, "{action:?}");
    }
}

#[test]
fn a_try_that_arrives_after_its_cancel_has_no_effect() {
    let cancel = call(Operation::Cancel, Work::Local);
    let tombstone = rule(None, &cancel, HORIZON_NONE_MS, NOW_MS).row_after(None, &cancel);
    let late = call(Operation::Try, Work::Local);
    assert_eq!(
        rule(tombstone.as_ref(), &late, HORIZON_NONE_MS, NOW_MS),
        Action::Refuse(Refusal::BranchFenced)
    );
}

#[test]
fn a_finisher_that_finds_a_cancel_undoes_its_work_and_reserves_nothing() {
    // Try commits TRYING and starts its job; Cancel comes; only then does the job end.
    let mut row = None;
    for operation in [Operation::Try, Operation::Cancel] {
        let call = call(operation, REMOTE);
        row = rule(row.as_ref(), &call, HORIZON_NONE_MS, NOW_MS).row_after(row.as_ref(), &call);
    }
    let state = row.map(|row| row.state);
    assert_eq!(state, Some(State::Canceling));
    // Written blindly, the row would say TRIED from here on, after the Cancel.
    assert_eq!(finish(state, JobEnd::Tried), Finish::Undo);
    assert_eq!(finish(state, JobEnd::TryFailed), Finish::Undo);
    assert_eq!(
        finish(state, JobEnd::Canceled),
        Finish::Write(State::Canceled)
    );
}

#[test]
fn a_job_writes_only_over_the_state_it_was_started_for() {
    let starts = [
        (JobEnd::Tried, State::Trying, State::Tried),
        (JobEnd::TryFailed, State::Trying, State::TryFailed),
        (JobEnd::Confirmed, State::Confirming, State::Confirmed),
        (JobEnd::Canceled, State::Canceling, State::Canceled),
    ];
    for (end, from, to) in starts {
        for found in State::ALL.into_iter().map(Some).chain([None]) {
            let written = finish(found, end) == Finish::Write(to);
            assert_eq!(written, found == Some(from), "{end:?} finds {found:?}");
            assert!(written || !matches!(finish(found, end), Finish::Write(_)));
        }
    }
    // A reservation that nobody's row answers for must not stay.
    for found in [Some(State::Canceled), Some(State::TryFailed), None] {
        assert_eq!(finish(found, JobEnd::Tried), Finish::Undo);
    }
}

#[test]
fn only_terminal_rows_past_their_deadline_and_the_retention_are_collected() {
    let retention = Retention::DEFAULT;
    let due_ms = EXPIRE_MS + retention.as_ms();
    for state in State::ALL {
        assert!(!may_collect(&row(state), due_ms, retention));
        let terminal = matches!(state, State::Confirmed | State::Canceled);
        assert_eq!(
            may_collect(&row(state), due_ms + 1, retention),
            terminal,
            "{state:?}"
        );
        assert_eq!(
            may_collect(&row(state), i64::MAX, retention),
            terminal,
            "{state:?}"
        );
    }
}

#[test]
fn a_retention_below_a_day_is_refused() {
    let day_ms = 86_400_000;
    assert_eq!(Retention::new(day_ms).map(Retention::as_ms), Ok(day_ms));
    let refused = Retention::new(day_ms - 1).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "a fence retention of 86399999 ms is too short; use at least 86400000 ms (1 day)"
    );
    assert!(Retention::new(-1).is_err());
}

#[test]
fn a_clock_set_back_does_not_reopen_what_was_removed() {
    // A canceled branch is removed in due time; then the clock goes back before its deadline and a
    // copy of its Try, delayed all the while, arrives.
    let removed = row(State::Canceled);
    assert!(may_collect(
        &removed,
        NOW_MS + 2 * Retention::DEFAULT.as_ms(),
        Retention::DEFAULT
    ));
    let horizon_ms = horizon_after(&removed, HORIZON_NONE_MS);
    let late = call(Operation::Try, Work::Local);
    assert!(
        !is_expired(rule(None, &late, HORIZON_NONE_MS, NOW_MS)),
        "the clock alone lets it in"
    );
    assert!(is_expired(rule(None, &late, horizon_ms, NOW_MS)));
    // Later transactions are let in, and the horizon never goes back.
    let next = Call {
        expire_time_ms: EXPIRE_MS + 1,
        ..late
    };
    assert!(!is_expired(rule(None, &next, horizon_ms, NOW_MS)));
    let older = Row {
        expire_time_ms: EXPIRE_MS - 1,
        ..removed
    };
    assert_eq!(horizon_after(&older, horizon_ms), horizon_ms);
}

#[test]
fn the_clocks_may_be_five_minutes_apart_and_rows_are_kept_thirty_days() {
    assert_eq!(EXPIRY_SKEW_MS, 300_000);
    assert_eq!(Retention::DEFAULT.as_ms(), 2_592_000_000);
}

#[test]
fn a_refusal_is_named_as_the_protocol_names_it() {
    assert_eq!(Refusal::Expired.reason(), "EXPIRED");
    assert_eq!(Refusal::BranchFenced.reason(), "BRANCH_FENCED");
}

#[test]
fn query_says_what_is_recorded() {
    let said = State::ALL.map(|state| record_state(Some(&row(state))));
    assert_eq!(record_state(None), RecordState::Unknown);
    assert_eq!(
        said,
        [
            RecordState::Trying,
            RecordState::TryFailed,
            RecordState::Tried,
            RecordState::Confirming,
            RecordState::Confirmed,
            RecordState::Canceling,
            RecordState::Canceled,
        ]
    );
}

#[test]
fn a_state_is_read_back_from_its_name() {
    for state in State::ALL {
        assert_eq!(State::parse(state.as_str()), Some(state));
    }
    assert_eq!(State::parse("Tried"), None);
}

fn row(state: State) -> Row {
    Row {
        state,
        epoch: 1,
        expire_time_ms: EXPIRE_MS,
    }
}

fn call(operation: Operation, work: Work) -> Call {
    Call {
        operation,
        epoch: 1,
        expire_time_ms: EXPIRE_MS,
        work,
    }
}

fn is_expired(action: Action) -> bool {
    action == Action::Refuse(Refusal::Expired)
}
