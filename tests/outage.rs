//! A participant is away for half an hour: nothing is lost, nothing is decided twice, and every attempt
//! comes exactly when the ladder says.

mod common;

use std::{sync::Arc, time::Duration};

use common::{branch, clock, end_of, engine, id, ledger::Ledger, store, transaction};
use tercet::engine::NewTransaction;
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    transaction::State,
};
use tokio::time::Instant;

const OUTAGE: Duration = Duration::from_secs(30 * 60);
const CALLER_WAITS: Duration = Duration::from_secs(2);

/// The first call, two early repeats while the caller waits, the ladder, and the first attempt after
/// the participant has come back.
const ATTEMPTS_MS: [u64; 14] = [
    0, 200, 1_200, 6_200, 16_200, 36_200, 76_200, 156_200, 316_200, 636_200, 936_200, 1_236_200,
    1_536_200, 1_836_200,
];

fn patient(id: &str) -> NewTransaction {
    let branches = vec![branch("b1", "stock", 5), branch("b2", "money", 5)];
    let timeout_ms = 24 * 60 * 60 * 1000;
    NewTransaction {
        timeout_ms,
        ..transaction(id, ReplyMode::ThreeState, branches)
    }
}

/// When `money` was called, in milliseconds since the start, and which calls they were.
fn money_calls(ledger: &Ledger, start: Instant) -> (Vec<u64>, Vec<(Operation, bool)>) {
    let seen = ledger.seen();
    let calls = seen.iter().filter(|it| it.participant == "money");
    calls
        .map(|it| {
            let at = u64::try_from(it.at.duration_since(start).as_millis()).unwrap();
            (at, (it.operation, it.query))
        })
        .unzip()
}

#[tokio::test(start_paused = true)]
async fn an_undecided_transaction_is_tried_again_on_the_ladder_and_commits() {
    let ledger = Ledger::new(clock());
    let engine = engine(Arc::new(store()), &ledger);
    let start = Instant::now();
    ledger.down("money");
    let said = engine.submit(patient("o"), CALLER_WAITS).await.unwrap();
    assert_eq!(said.transaction.outcome(), Outcome::Processing);
    assert_eq!(start.elapsed(), CALLER_WAITS);

    tokio::time::sleep_until(start + OUTAGE).await;
    assert_eq!(
        engine.record(&id("o")).unwrap().transaction.state,
        State::Trying
    );
    assert_eq!(
        engine.load(),
        (0, 1),
        "a waiting transaction is parked, not live"
    );
    ledger.up("money");
    let next = Duration::from_millis(ATTEMPTS_MS[13] + 1);
    tokio::time::sleep_until(start + next).await;
    let record = end_of(&engine, &id("o")).await;

    let (at, calls) = money_calls(&ledger, start);
    let last = ATTEMPTS_MS[13];
    assert_eq!(at, [&ATTEMPTS_MS[..], &[last, last]].concat());
    let mut expected = vec![(Operation::Try, false)];
    expected.extend([(Operation::Try, true); 13]);
    expected.extend([(Operation::Try, false), (Operation::Confirm, false)]);
    assert_eq!(calls, expected);
    assert_eq!(record.transaction.outcome(), Outcome::Success);
    ledger.check(&[record]);
}

#[tokio::test(start_paused = true)]
async fn a_decided_transaction_is_confirmed_again_on_the_ladder() {
    let ledger = Ledger::new(clock());
    let engine = engine(Arc::new(store()), &ledger);
    let start = Instant::now();
    ledger.down_from(2, "money");
    let said = engine.submit(patient("o"), CALLER_WAITS).await.unwrap();
    assert_eq!(said.transaction.state, State::Confirming);

    tokio::time::sleep_until(start + OUTAGE).await;
    let waiting = engine.record(&id("o")).unwrap();
    assert_eq!(waiting.transaction.state, State::Confirming);
    assert_eq!(
        waiting.transaction.attentions.len(),
        1,
        "a person was asked to look"
    );
    ledger.up("money");
    let next = Duration::from_millis(ATTEMPTS_MS[13] + 1);
    tokio::time::sleep_until(start + next).await;
    let record = end_of(&engine, &id("o")).await;

    let (at, calls) = money_calls(&ledger, start);
    assert_eq!(at, [&[0], &ATTEMPTS_MS[..], &[ATTEMPTS_MS[13]]].concat());
    let mut expected = vec![(Operation::Try, false), (Operation::Confirm, false)];
    expected.extend([(Operation::Confirm, true); 13]);
    expected.push((Operation::Confirm, false));
    assert_eq!(calls, expected);
    assert_eq!(record.transaction.outcome(), Outcome::Success);
    assert!(
        record.transaction.attentions.is_empty(),
        "nothing is left to look at"
    );
    ledger.check(&[record]);
}

#[tokio::test(start_paused = true)]
async fn the_coordinator_restarts_in_the_middle_and_keeps_to_the_ladder() {
    let ledger = Ledger::new(clock());
    let before = Arc::new(store());
    let first = engine(Arc::clone(&before), &ledger);
    let start = Instant::now();
    ledger.down_from(2, "money");
    first.submit(patient("o"), CALLER_WAITS).await.unwrap();
    tokio::time::sleep_until(start + Duration::from_secs(100)).await;
    first.shutdown().await;

    let second = engine(Arc::new(before.crash()), &ledger);
    tokio::time::sleep_until(start + OUTAGE).await;
    ledger.up("money");
    let next = Duration::from_millis(ATTEMPTS_MS[13] + 1);
    tokio::time::sleep_until(start + next).await;
    let record = end_of(&second, &id("o")).await;
    let (at, _) = money_calls(&ledger, start);
    assert_eq!(at, [&[0], &ATTEMPTS_MS[..], &[ATTEMPTS_MS[13]]].concat());
    ledger.check(&[record]);
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_transactions_all_finish_and_others_are_not_held_up() {
    let ledger = Ledger::new(clock());
    let engine = engine(Arc::new(store()), &ledger);
    let start = Instant::now();
    ledger.black_hole("money");
    let mut ids = Vec::new();
    for nth in 0..150 {
        let name = format!("stuck-{nth}");
        let branches = vec![branch("b1", "stock", 1), branch("b2", "money", 1)];
        let mode = if nth % 2 == 0 {
            ReplyMode::Accepted
        } else {
            ReplyMode::TwoState
        };
        let new = transaction(&name, mode, branches);
        let timeout_ms = 24 * 60 * 60 * 1000;
        let engine = engine.clone();
        let new = NewTransaction { timeout_ms, ..new };
        tokio::spawn(async move { engine.submit(new, CALLER_WAITS).await });
        ids.push(id(&name));
    }
    tokio::time::sleep(Duration::from_secs(20)).await;
    let before = Instant::now();
    let other = transaction(
        "other",
        ReplyMode::ThreeState,
        vec![branch("b1", "other", 5)],
    );
    let said = engine.submit(other, CALLER_WAITS).await.unwrap();
    assert_eq!(said.transaction.outcome(), Outcome::Success);
    assert_eq!(
        before.elapsed(),
        Duration::ZERO,
        "an unrelated transaction waited"
    );

    tokio::time::sleep_until(start + OUTAGE).await;
    ledger.up("money");
    let mut records = vec![said];
    for (nth, id) in ids.iter().enumerate() {
        let record = end_of(&engine, id).await;
        let outcome = if nth % 2 == 0 {
            Outcome::Success
        } else {
            Outcome::Failed
        };
        assert_eq!(record.transaction.outcome(), outcome, "{id}");
        records.push(record);
    }
    assert!(
        start.elapsed() < OUTAGE + Duration::from_secs(331),
        "{:?}",
        start.elapsed()
    );
    ledger.check(&records);
}
