//! What a caller is told who waits for the outcome, and how often it is woken for that.

use std::{future::poll_fn, pin::pin};

use tercet_core::{
    outcome::{Outcome, ReplyMode},
    transaction::State,
};

use crate::{
    common::WAIT,
    support::{World, millis, order, outcome},
};

const MODE: ReplyMode = ReplyMode::ThreeState;

#[tokio::test(start_paused = true)]
async fn a_caller_is_woken_once_for_all_that_becomes_of_its_transaction() {
    let world = World::new();
    let mut submitted = pin!(world.engine.submit(order("o", MODE), WAIT));
    let mut polls = 0;
    let record = poll_fn(|context| {
        polls += 1;
        submitted.as_mut().poll(context)
    });
    let record = record.await.unwrap();
    assert_eq!(outcome(&record), Outcome::Success);
    assert!(record.revision > 2, "more was shown on the way");
    assert_eq!(polls, 2, "it asks, and is told");
}

#[tokio::test(start_paused = true)]
async fn a_caller_whose_wait_ends_between_two_commits_gets_what_was_shown_last() {
    let world = World::new();
    world.ledger.down_from(2, "money"); // after its Try
    let submitted = world.engine.submit(order("o", MODE), millis(100));
    let record = submitted.await.unwrap();
    assert_eq!(outcome(&record), Outcome::Processing);
    assert_eq!(record.transaction.state, State::Confirming);
    assert_eq!(record, world.record("o"));
}

#[tokio::test(start_paused = true)]
async fn callers_that_attach_are_told_the_same() {
    let world = World::new();
    world.ledger.down_from(2, "money");
    let first = world.submit(order("o", MODE), WAIT);
    let second = world.submit(order("o", MODE), WAIT);
    tokio::time::sleep(millis(100)).await;
    let third = world.submit(order("o", MODE), WAIT);
    tokio::time::sleep(millis(100)).await;
    world.ledger.up("money");
    let first = first.await.unwrap().unwrap();
    assert_eq!(outcome(&first), Outcome::Success);
    for other in [second, third] {
        assert_eq!(first, other.await.unwrap().unwrap());
    }
}
