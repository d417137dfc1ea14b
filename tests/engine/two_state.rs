//! TWO_STATE: SUCCESS or FAILED, and fast; what has to be reversed is reversed behind it.

use std::time::Duration;

use tercet::engine::{EngineConfig, EngineError, NewTransaction};
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    request::Request,
    transaction::State,
};
use tokio::time::Instant;

use crate::{
    common::id,
    support::{
        World, branch, branch_id, interactive, millis, order, outcome, patient, reason, secs,
    },
};

const MODE: ReplyMode = ReplyMode::TwoState;

/// A patient order whose Try calls may take this long.
fn with_try_timeout(id_text: &str, try_timeout: Duration) -> NewTransaction {
    let mut new = patient(id_text, MODE);
    for branch in &mut new.branches {
        branch.try_timeout_ms = u64::try_from(try_timeout.as_millis()).unwrap();
    }
    new
}

#[tokio::test(start_paused = true)]
async fn it_fails_at_the_try_timeout_and_is_reversed_in_the_background() {
    let world = World::new();
    world.ledger.black_hole("money");
    let said = world
        .engine
        .submit(patient("o", MODE), secs(20))
        .await
        .unwrap();
    assert_eq!(world.start.elapsed(), secs(3));
    assert_eq!(
        (outcome(&said), reason(&said)),
        (Outcome::Failed, "TRY_TIMEOUT")
    );
    assert_eq!(said.transaction.state, State::Canceling);
    world.ledger.up("money");
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn repeated_attempts_do_not_put_the_try_timeout_off() {
    let world = World::new();
    world.ledger.down("money");
    let said = world
        .engine
        .submit(patient("o", MODE), secs(20))
        .await
        .unwrap();
    assert_eq!(world.start.elapsed(), secs(3), "counted from the first Try");
    assert_eq!(reason(&said), "TRY_TIMEOUT");
    assert!(world.calls("money").len() > 2);
}

#[tokio::test(start_paused = true)]
async fn it_fails_at_the_end_of_the_first_callers_wait() {
    let world = World::new();
    world.ledger.black_hole("money");
    let said = world
        .engine
        .submit(patient("o", MODE), secs(1))
        .await
        .unwrap();
    assert_eq!(world.start.elapsed(), secs(1));
    assert_eq!(
        (outcome(&said), reason(&said)),
        (Outcome::Failed, "WAIT_ENDED")
    );
    world.ledger.up("money");
    world.end_of("o").await;
}

#[tokio::test(start_paused = true)]
async fn the_first_callers_wait_counts_even_when_that_caller_went_away() {
    let world = World::new();
    world.ledger.black_hole("money");
    let new = with_try_timeout("o", secs(20));
    let first = world.submit(new.clone(), secs(4));
    tokio::time::sleep(secs(1)).await;
    first.abort();
    let said = world.engine.submit(new, secs(10)).await.unwrap();
    assert_eq!(world.start.elapsed(), secs(4));
    assert_eq!(reason(&said), "WAIT_ENDED");
}

#[tokio::test(start_paused = true)]
async fn an_attached_caller_never_shortens_it_and_is_told_no_outcome() {
    let world = World::new();
    world.ledger.down("money");
    let new = with_try_timeout("o", secs(20));
    let first = world.submit(new.clone(), secs(15));
    tokio::time::sleep(millis(100)).await;
    let attached = world.engine.submit(new, secs(1)).await;
    assert_eq!(attached, Err(EngineError::WaitEnded(id("o"))));
    assert_eq!(world.start.elapsed(), millis(1_100));
    assert_eq!(world.state("o"), State::Trying);
    world.ledger.up("money");
    let said = first.await.unwrap().unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
    world.end_of("o").await;
}

#[tokio::test(start_paused = true)]
async fn an_attached_caller_that_waits_long_enough_is_told_the_same() {
    let world = World::new();
    world.ledger.black_hole("money");
    let first = world.submit(patient("o", MODE), secs(2));
    tokio::time::sleep(millis(100)).await;
    let attached = world
        .engine
        .submit(patient("o", MODE), secs(60))
        .await
        .unwrap();
    assert_eq!(world.start.elapsed(), secs(2));
    assert_eq!(outcome(&attached), Outcome::Failed);
    assert_eq!(attached, first.await.unwrap().unwrap());
}

#[tokio::test(start_paused = true)]
async fn found_trying_at_a_restart_it_is_canceled_without_another_try() {
    let world = World::new();
    world.ledger.black_hole("money");
    let caller = world.submit(patient("o", MODE), secs(20));
    tokio::time::sleep(secs(1)).await;
    let tries = world.ledger.seen().len();
    let world = world.restart(EngineConfig::default()).await;
    let said = caller.await.unwrap();
    assert!(matches!(said, Err(EngineError::Store(_))), "{said:?}");
    world.ledger.up("money");
    let record = world.end_of("o").await;
    assert_eq!(
        (outcome(&record), reason(&record)),
        (Outcome::Failed, "RESTARTED")
    );
    let seen = world.ledger.seen();
    assert!(
        seen[tries..]
            .iter()
            .all(|it| it.operation == Operation::Cancel),
        "{seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn once_commit_is_decided_it_is_success_however_long_the_confirm_takes() {
    let world = World::new();
    world.ledger.down_from(2, "money");
    let said = world
        .engine
        .submit(order("o", MODE), secs(5))
        .await
        .unwrap();
    assert_eq!(world.start.elapsed(), Duration::ZERO);
    assert_eq!(said.transaction.state, State::Confirming);
    assert_eq!(outcome(&said), Outcome::Success);
    tokio::time::sleep(secs(600)).await;
    world.ledger.up("money");
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn of_an_interactive_one_the_wait_is_the_commits() {
    let world = World::new();
    let (engine, o) = (&world.engine, id("o"));
    engine.begin(interactive("o", MODE)).await.unwrap();
    world.ledger.down("money");
    let mut slow = branch("b1", "money", 5);
    slow.try_timeout_ms = 20_000;
    let tried = engine.try_branch(&o, slow, secs(2)).await.unwrap();
    assert_eq!(
        outcome(&tried),
        Outcome::Processing,
        "TryBranch's wait forces nothing"
    );
    assert_eq!(world.start.elapsed(), secs(2));
    let said = engine
        .commit(&o, vec![branch_id("b1")], secs(1))
        .await
        .unwrap();
    assert_eq!(world.start.elapsed(), secs(3));
    assert_eq!(
        (outcome(&said), reason(&said)),
        (Outcome::Failed, "WAIT_ENDED")
    );
    world.ledger.up("money");
    world.end_of("o").await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_does_not_keep_it_from_failing_fast() {
    let world = World::new();
    world.ledger.down("money");
    let caller = world.submit(patient("o", MODE), secs(20));
    tokio::time::sleep(millis(100)).await;
    world
        .engine
        .operate(&id("o"), Request::Pause)
        .await
        .unwrap();
    let said = caller.await.unwrap().unwrap();
    assert_eq!(world.start.elapsed(), secs(3));
    assert_eq!(outcome(&said), Outcome::Failed);
    assert_ne!(world.start, Instant::now());
}
