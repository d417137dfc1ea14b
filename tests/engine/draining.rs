//! Going away: nothing new, nobody kept waiting, nothing lost.

use tercet::engine::{EngineConfig, EngineError};
use tercet_core::{
    outcome::{Outcome, ReplyMode},
    transaction::State,
};

use crate::{
    common::{WAIT, id},
    support::{World, interactive, millis, order, outcome, patient, reason, secs},
};

#[tokio::test(start_paused = true)]
async fn new_ids_are_refused_and_known_ones_answered() {
    let world = World::new();
    let engine = &world.engine;
    engine
        .submit(order("done", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    world.ledger.down("money");
    engine
        .submit(patient("open", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    engine.drain();
    let refused = engine
        .submit(order("new", ReplyMode::ThreeState), WAIT)
        .await;
    assert_eq!(refused, Err(EngineError::ShuttingDown));
    let refused = engine
        .begin(interactive("new", ReplyMode::ThreeState))
        .await;
    assert_eq!(refused, Err(EngineError::ShuttingDown));
    assert_eq!(
        engine.record(&id("new")),
        Err(EngineError::NotFound(id("new")))
    );
    let known = engine
        .submit(order("done", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    assert_eq!(outcome(&known), Outcome::Success);
    let known = engine
        .submit(patient("open", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    assert_eq!(outcome(&known), Outcome::Processing);
}

#[tokio::test(start_paused = true)]
async fn waits_end_and_two_state_callers_get_their_decision() {
    let world = World::new();
    let engine = world.engine.clone();
    world.ledger.black_hole("money");
    let three_state = world.submit(patient("three", ReplyMode::ThreeState), secs(60));
    let two_state = world.submit(patient("two", ReplyMode::TwoState), secs(60));
    engine
        .submit(patient("waited-for", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    let waiter = tokio::spawn({
        let engine = engine.clone();
        async move { engine.wait(&id("waited-for"), secs(60)).await }
    });
    tokio::time::sleep(millis(500)).await;
    engine.drain();
    let (three_state, two_state, waited_for) = (
        three_state.await.unwrap().unwrap(),
        two_state.await.unwrap().unwrap(),
        waiter.await.unwrap().unwrap(),
    );
    assert_eq!(
        world.start.elapsed(),
        millis(500),
        "nobody was kept waiting"
    );
    assert_eq!(outcome(&three_state), Outcome::Processing);
    assert_eq!(
        (outcome(&two_state), reason(&two_state)),
        (Outcome::Failed, "WAIT_ENDED")
    );
    assert_eq!(outcome(&waited_for), Outcome::Processing);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_lets_calls_end_and_hands_the_rest_to_the_next_start() {
    let world = World::new();
    world.ledger.black_hole("money");
    world.submit(patient("o", ReplyMode::ThreeState), secs(60));
    tokio::time::sleep(secs(1)).await;
    world.engine.shutdown().await;
    let took = world.start.elapsed();
    assert!(
        secs(3) <= took && took <= secs(6),
        "the call in flight ended at 3 s: {took:?}"
    );
    assert_eq!(world.state("o"), State::Trying);
    let failed = world.record("o").transaction.branches[1].failed_attempts;
    assert_eq!(failed, 1, "what the call came to is kept");
    world.ledger.up("money");
    let sent = world.ledger.seen().len();
    tokio::time::sleep(secs(600)).await;
    assert_eq!(world.ledger.seen().len(), sent, "it is gone");
    let world = world.restart(EngineConfig::default()).await;
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_for_calls_in_flight_and_not_for_attempts_to_come() {
    let world = World::new();
    world.ledger.down("money");
    world.submit(patient("o", ReplyMode::ThreeState), secs(60));
    tokio::time::sleep(millis(100)).await; // the next attempt is at 200 ms, then 1200
    world.engine.shutdown().await;
    assert_eq!(world.start.elapsed(), millis(100));
    assert_eq!(world.calls("money").len(), 1);
    world.ledger.up("money");
    let world = world.restart(EngineConfig::default()).await;
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_waits_no_longer_than_it_is_allowed_to() {
    let world = World::with(EngineConfig {
        drain_ms: 700,
        ..EngineConfig::default()
    });
    world.ledger.black_hole("money");
    world.submit(patient("o", ReplyMode::Accepted), WAIT);
    tokio::time::sleep(millis(100)).await;
    world.engine.shutdown().await;
    assert_eq!(world.start.elapsed(), millis(800));
    world.ledger.up("money");
    let world = world.restart(EngineConfig::default()).await;
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
}
