//! How long an id protects: whole, then cut down, then gone; and never while unfinished.

use futures::future::try_join_all;
use tercet::engine::{EngineConfig, EngineError};
use tercet_core::{
    outcome::{Outcome, ReplyMode},
    payload::Failure,
};

use crate::{
    common::{WAIT, id},
    support::{World, order, other_content, outcome, patient, reason, secs},
};

const MINUTE_MS: u64 = 60_000;
const MODE: ReplyMode = ReplyMode::ThreeState;

/// Kept whole for 10 minutes, cut down for 20 more.
fn short() -> EngineConfig {
    EngineConfig {
        retention_ms: 10 * MINUTE_MS,
        id_retention_ms: 20 * MINUTE_MS,
        ..EngineConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_ended_transaction_is_cut_down_then_purged_and_its_id_protected_until_then() {
    let world = World::with(short());
    let engine = &world.engine;
    engine.submit(order("o", MODE), WAIT).await.unwrap();
    let whole = world.record("o");
    tokio::time::sleep_until(world.start + secs(9 * 60)).await;
    assert_eq!(world.record("o"), whole);

    tokio::time::sleep_until(world.start + secs(12 * 60)).await;
    let cut_down = world.record("o");
    assert!(cut_down.cut_down && cut_down.transaction.branches.is_empty());
    assert!(cut_down.revision > whole.revision);
    let said = engine.submit(order("o", MODE), WAIT).await.unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
    let reused = engine.submit(other_content(order("o", MODE)), WAIT).await;
    assert_eq!(reused, Err(EngineError::IdReused(id("o"))));
    tokio::time::sleep_until(world.start + secs(29 * 60)).await;
    assert_eq!(outcome(&world.record("o")), Outcome::Success);
    assert_eq!(world.ledger.consumed("stock"), 5);

    tokio::time::sleep_until(world.start + secs(32 * 60)).await;
    assert_eq!(engine.record(&id("o")), Err(EngineError::NotFound(id("o"))));
}

#[tokio::test(start_paused = true)]
async fn a_forbidden_id_stays_forbidden_when_it_is_cut_down() {
    let world = World::with(short());
    let cause = Failure::new("ROLLED_BACK", "never mind");
    world.engine.rollback(&id("o"), cause, WAIT).await.unwrap();
    tokio::time::sleep(secs(12 * 60)).await;
    assert!(world.record("o").cut_down);
    let said = world.engine.submit(order("o", MODE), WAIT).await.unwrap();
    assert_eq!(
        (outcome(&said), reason(&said)),
        (Outcome::Failed, "ROLLED_BACK")
    );
    assert!(world.ledger.seen().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_unfinished_transaction_is_kept_however_old() {
    let world = World::with(short());
    world.ledger.down_from(2, "money");
    world
        .engine
        .submit(patient("o", MODE), secs(1))
        .await
        .unwrap();
    tokio::time::sleep(secs(24 * 60 * 60)).await;
    let record = world.record("o");
    assert!(!record.cut_down && record.transaction.branches.len() == 2);
    world.ledger.up("money");
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
}

/// Ends so many at once; their names.
async fn ended(world: &World, count: usize) -> Vec<String> {
    let ids: Vec<_> = (0..count).map(|number| format!("o{number}")).collect();
    let submit = |id| world.engine.submit(order(id, MODE), WAIT);
    try_join_all(ids.iter().map(|id| submit(id))).await.unwrap();
    ids
}

/// One after another, each would wait for a sync of its own: fewer than come.
#[tokio::test(start_paused = true)]
async fn many_are_cut_down_together_and_purged_together() {
    let world = World::with(short());
    ended(&world, 50).await;
    tokio::time::sleep(secs(9 * 60)).await;
    world.store.hold();
    let cut_down = tokio::time::timeout(secs(120), world.store.held(50)).await;
    let cut_down = cut_down.expect("one waits for another");
    assert!(cut_down.iter().all(|it| it.cut_down));
    world.store.release();

    tokio::time::sleep(secs(19 * 60)).await;
    world.store.hold();
    let purged = tokio::time::timeout(secs(120), world.store.held(50)).await;
    assert_eq!(purged.expect("one waits for another"), []);
    world.store.release();
}

/// A store at rest answers without a pause, and a sweep may have thousands to cut down.
#[tokio::test(start_paused = true)]
async fn others_have_their_turn_while_many_are_cut_down() {
    let world = World::with(short());
    let ids = ended(&world, 600).await;
    let cut_down = || ids.iter().filter(|id| world.record(id).cut_down).count();
    let mut minutes = 9;
    while cut_down() == 0 {
        minutes += 1;
        // At the same time as a sweep, and then beside it.
        tokio::time::sleep_until(world.start + secs(60 * minutes)).await;
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
    }
    assert!(cut_down() < ids.len(), "nobody had a turn");
}
