//! Whatever happens, in whatever order, with answers as stale and participants as wrong as they
//! like: nothing panics, and the invariants of every single step hold.

mod common;

use common::{branch_id, contract, failure, methods, record_states::RECORD_STATES, recorded};
use proptest::prelude::*;
use tercet_core::{
    check,
    operation::{Operation, RecordState},
    outcome::{Decision, Outcome},
    receipt::Receipt,
    request::{Report, Request},
    step::{Answer, Call, Context, Durability, Effect, Input, QueryAnswer, Step, Timer},
    transaction::{Resolution, Transaction},
};

#[derive(Clone, Debug)]
enum Event {
    Input(Input),
    Request(Request),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop::sample::select(vec![Operation::Try, Operation::Confirm, Operation::Cancel])
}

fn record_state() -> impl Strategy<Value = RecordState> {
    prop::sample::select(RECORD_STATES.to_vec())
}

/// One more than there ever are.
fn branch() -> std::ops::Range<usize> {
    0..4
}

fn answer() -> impl Strategy<Value = Answer> {
    prop_oneof![
        3 => Just(Answer::Success(None)),
        1 => Just(Answer::Failed(failure("NO"))),
        1 => any::<Option<u64>>().prop_map(|retry_after_ms| Answer::Processing { retry_after_ms }),
        1 => Just(Answer::NotSent(failure("BREAKER_OPEN"))),
        1 => Just(Answer::TooLarge(failure("LARGE"))),
        1 => Just(Answer::Indeterminate(failure("UNAVAILABLE"))),
    ]
}

fn query_answer() -> impl Strategy<Value = QueryAnswer> {
    prop_oneof![
        6 => record_state().prop_map(recorded),
        1 => Just(QueryAnswer::Unclear),
        1 => Just(QueryAnswer::TooLarge(failure("LARGE"))),
        1 => Just(QueryAnswer::Indeterminate(failure("UNAVAILABLE"))),
    ]
}

fn timer() -> impl Strategy<Value = Timer> {
    prop_oneof![
        1 => Just(Timer::Expire),
        1 => Just(Timer::FirstWait),
        2 => branch().prop_map(Timer::TryTimeout),
        8 => branch().prop_map(Timer::Attempt),
    ]
}

fn input() -> impl Strategy<Value = Input> {
    prop_oneof![
        1 => Just(Input::Recovered),
        4 => timer().prop_map(Input::Due),
        8 => (branch(), operation(), answer()).prop_map(|(branch, operation, answer)| {
            Input::Answered { branch, operation, answer }
        }),
        4 => (branch(), operation(), query_answer()).prop_map(|(branch, operation, answer)| {
            Input::Queried { branch, operation, answer }
        }),
    ]
}

fn request() -> impl Strategy<Value = Request> {
    let resolution = prop::sample::select(vec![Resolution::Done, Resolution::Abandoned]);
    let report = prop_oneof![
        Just(Report::Success(None)),
        Just(Report::Failed(failure("NO")))
    ];
    prop_oneof![
        3 => (0..3_usize).prop_map(|at| Request::AddBranch(contract(at))),
        1 => (0..3_usize).prop_map(|at| Request::AddBranch(methods(at))),
        2 => (0..4_usize).prop_map(|count| Request::Commit {
            branches: (0..count).map(branch_id).collect(),
        }),
        1 => Just(Request::Rollback { cause: failure("CLIENT_ROLLBACK") }),
        2 => (branch(), operation(), report).prop_map(|(at, operation, report)| {
            Request::Report { branch: branch_id(at), operation, report }
        }),
        1 => Just(Request::Pause),
        1 => Just(Request::Resume),
        1 => (branch(), resolution, any::<bool>(), prop::option::of(record_state())).prop_map(
            |(at, resolution, overdue, recorded)| Request::Resolve {
                branch: branch_id(at),
                resolution,
                overdue,
                recorded,
            },
        ),
    ]
}

fn event() -> impl Strategy<Value = (Event, Context)> {
    let event = prop_oneof![
        3 => input().prop_map(Event::Input),
        1 => request().prop_map(Event::Request),
    ];
    let context =
        (any::<bool>(), any::<i16>()).prop_map(|(attended, jitter)| Context { attended, jitter });
    (event, context)
}

fn start() -> impl Strategy<Value = Transaction> {
    let mode = prop::sample::select(common::MODES.to_vec());
    let policy = || common::policy(&[1_000, 2_000], 2);
    prop_oneof![
        (mode.clone(), 1..4_usize).prop_map(move |(mode, count)| {
            Transaction::submit(mode, policy(), (0..count).map(contract).collect()).next
        }),
        mode.prop_map(move |mode| Transaction::begin(mode, policy()).next),
        Just(Transaction::forbid(failure("CLIENT_ROLLBACK")).next),
    ]
}

fn operation_of(tx: &Transaction) -> Operation {
    match tx.decision() {
        None => Operation::Try,
        Some(Decision::Commit) => Operation::Confirm,
        Some(Decision::Cancel) => Operation::Cancel,
    }
}

/// What every single step has to keep.
fn holds(before: &Transaction, step: Step) -> Result<Transaction, TestCaseError> {
    let after = step.next;
    prop_assert_eq!(check::legal(before, &after), Ok(()));
    prop_assert!(before.outcome() == Outcome::Processing || before.outcome() == after.outcome());

    let calls: Vec<Call> = step
        .effects
        .open(Receipt::acknowledge())
        .into_iter()
        .filter_map(|effect| match effect {
            Effect::Call(call) => Some(call),
            Effect::Arm { .. } => None,
        })
        .collect();
    for call in &calls {
        prop_assert!(!after.paused, "{call:?} while paused");
        prop_assert_eq!(call.operation, operation_of(&after));
        prop_assert_eq!(
            after.branches[call.branch].state.owes(),
            Some(call.operation)
        );
    }
    if step.durability != Durability::Required {
        // S7: what leaves unsynced was owed before, by a record that is durable.
        for call in calls {
            let owed = before
                .branches
                .get(call.branch)
                .and_then(|it| it.state.owes());
            prop_assert_eq!(owed, Some(call.operation));
        }
        prop_assert_eq!(before.state, after.state);
        prop_assert_eq!(before.paused, after.paused);
        prop_assert_eq!(before.commit_requested, after.commit_requested);
        prop_assert_eq!(before.branches.len(), after.branches.len());
    }
    Ok(after)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_step_keeps_the_invariants(
        start in start(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut tx = start;
        prop_assert_eq!(check::well_formed(&tx), Ok(()));
        for (event, context) in events {
            let step = match event {
                Event::Input(input) => tx.step(input, context),
                Event::Request(request) => match tx.request(request, context) {
                    Ok(step) => step,
                    Err(_) => continue,
                },
            };
            tx = holds(&tx, step)?;
        }
    }

    #[test]
    fn an_ended_transaction_owes_nothing_and_only_attention_can_still_change_it(
        mode in prop::sample::select(common::MODES.to_vec()),
        commit in any::<bool>(),
        events in prop::collection::vec(event(), 1..40),
    ) {
        let mut ended = if commit {
            let mut run = common::Run::confirming(mode, 1);
            run.success(0, Operation::Confirm);
            run.tx
        } else {
            let mut run = common::Run::canceling(mode, 1);
            run.success(0, Operation::Cancel);
            run.tx
        };
        for (event, context) in events {
            let step = match event {
                Event::Input(input) => ended.step(input, context),
                Event::Request(request) => match ended.request(request, context) {
                    Ok(step) => step,
                    Err(_) => continue,
                },
            };
            prop_assert!(step.effects.open(Receipt::acknowledge()).is_empty());
            let after = step.next;
            prop_assert_eq!(after.owed().count(), 0);
            prop_assert_eq!((ended.state, ended.paused), (after.state, after.paused));
            prop_assert_eq!(&ended.failure, &after.failure);
            prop_assert_eq!(ended.branches[0].state, after.branches[0].state);
            ended = after;
        }
    }
}
