//! Each external call and each commit fails, is lost, is repeated, in turn; the invariants hold.

mod common;

use std::sync::Arc;

use common::{
    WAIT, clock, end_of, engine, id,
    ledger::{Fault, HELD, Ledger},
    order, store,
};
use tercet::{
    engine::EngineError,
    store::{Record, Store as _, StoreError},
};
use tercet_core::outcome::{Outcome, ReplyMode};

const FAULTS: [Fault; 6] = [
    Fault::Lost,
    Fault::ReplyLost,
    Fault::Twice,
    Fault::VeryLate,
    Fault::Processing,
    Fault::Refused,
];
const MODES: [ReplyMode; 3] = [
    ReplyMode::TwoState,
    ReplyMode::ThreeState,
    ReplyMode::Accepted,
];

/// How many calls and commits an undisturbed order takes.
const CALLS: usize = 4;
const COMMITS: u64 = 3;

/// Runs one order on a ledger prepared by the test, to its end.
async fn run(mode: ReplyMode, prepare: impl FnOnce(&Ledger)) -> (Arc<Ledger>, Arc<Record>) {
    let ledger = Ledger::new(clock());
    prepare(&ledger);
    let engine = engine(Arc::new(store()), &ledger);
    engine.submit(order("o", mode), WAIT).await.unwrap();
    let record = end_of(&engine, &id("o")).await;
    ledger.deliver_late();
    ledger.check(&[Arc::clone(&record)]);
    engine.shutdown().await;
    (ledger, record)
}

#[tokio::test(start_paused = true)]
async fn an_undisturbed_order_takes_four_calls_and_three_commits() {
    for mode in MODES {
        let (ledger, record) = run(mode, |_| {}).await;
        assert_eq!(record.transaction.outcome(), Outcome::Success);
        assert_eq!(ledger.seen().len(), CALLS);
        assert_eq!(record.revision, COMMITS);
        assert_eq!((ledger.consumed("stock"), ledger.consumed("money")), (5, 5));
    }
}

#[tokio::test(start_paused = true)]
async fn each_call_in_turn_goes_wrong_in_each_way() {
    for mode in MODES {
        for nth in 0..CALLS {
            for fault in FAULTS {
                let (_, record) = run(mode, |ledger| ledger.fault(nth, fault)).await;
                let is_try = nth < 2;
                let refused = fault == Fault::Refused && is_try;
                if refused {
                    let outcome = record.transaction.outcome();
                    assert_eq!(outcome, Outcome::Failed, "{mode:?} {nth} {fault:?}");
                }
                if mode != ReplyMode::TwoState && !refused {
                    let outcome = record.transaction.outcome();
                    assert_eq!(outcome, Outcome::Success, "{mode:?} {nth} {fault:?}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn any_two_calls_go_wrong_together() {
    for mode in MODES {
        for first in 0..CALLS + 2 {
            for second in first + 1..CALLS + 4 {
                for fault in FAULTS {
                    for other in FAULTS {
                        run(mode, |ledger| {
                            ledger.fault(first, fault);
                            ledger.fault(second, other);
                        })
                        .await;
                    }
                }
            }
        }
    }
}

/// The process dies with its store at the nth commit; the next one finishes what was accepted, and
/// the client's repeated request meets the same transaction.
async fn crash_at(
    mode: ReplyMode,
    commit: u64,
    acknowledgement_lost: bool,
    nth: usize,
    fault: Fault,
) {
    let ledger = Ledger::new(clock());
    ledger.fault(nth, fault);
    let before = Arc::new(store());
    if acknowledgement_lost {
        before.lose_acknowledgement(commit);
    } else {
        before.fail_commit(commit);
    }
    let first = engine(Arc::clone(&before), &ledger);
    let said = first.submit(order("o", mode), WAIT).await;
    if let Err(error) = &said {
        let broken = matches!(error, EngineError::Store(StoreError::Broken(_)));
        assert!(
            broken,
            "a store error is never anything else to a caller: {error}"
        );
    }
    if mode == ReplyMode::Accepted || said.is_ok() {
        before.broken().await;
    }
    first.shutdown().await;

    let after = Arc::new(before.crash());
    let second = engine(after, &ledger);
    second.submit(order("o", mode), WAIT).await.unwrap();
    let record = end_of(&second, &id("o")).await;
    if let Ok(said) = said {
        let (before, now) = (said.transaction.outcome(), record.transaction.outcome());
        assert!(
            before == Outcome::Processing || before == now,
            "{before:?} became {now:?}"
        );
    }
    ledger.deliver_late();
    ledger.check(&[record]);
    second.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn the_process_dies_at_each_commit_while_each_call_goes_wrong() {
    for mode in MODES {
        for commit in 1..=COMMITS {
            for acknowledgement_lost in [false, true] {
                for nth in 0..CALLS {
                    for fault in FAULTS {
                        crash_at(mode, commit, acknowledgement_lost, nth, fault).await;
                    }
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_sent_before_its_record_is_durable() {
    let ledger = Ledger::new(clock());
    let store = Arc::new(store());
    store.hold();
    let engine = engine(Arc::clone(&store), &ledger);
    let submit = tokio::spawn({
        let engine = engine.clone();
        async move { engine.submit(order("o", ReplyMode::ThreeState), WAIT).await }
    });
    store.held(1).await;
    assert!(
        ledger.seen().is_empty(),
        "a Try left before the record was durable"
    );
    assert!(matches!(
        engine.record(&id("o")),
        Err(EngineError::NotFound(_))
    ));
    store.release();
    submit.await.unwrap().unwrap();
    assert_eq!(ledger.consumed("stock") + ledger.consumed("money"), 10);
    assert_eq!(HELD, 1_000);
    engine.shutdown().await;
}
