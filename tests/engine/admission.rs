//! How much is in flight: new work past the limit is refused, what is known is always answered,
//! recovery has a share of its own, and what waits costs nobody anything.

use std::{sync::Arc, time::Duration};

use futures::FutureExt as _;
use tercet::engine::{EngineConfig, EngineError};
use tercet_core::{
    outcome::{Outcome, ReplyMode},
    payload::Failure,
};

use crate::{
    common::{WAIT, end_of, id, transaction},
    support::{World, branch, millis, outcome, patient, secs},
};

fn only_one_each() -> EngineConfig {
    EngineConfig {
        inflight_max: 1,
        recovery_inflight_max: 1,
        ..EngineConfig::default()
    }
}

fn is_limit(error: &EngineError) -> bool {
    matches!(error, EngineError::InflightLimit { limit: 1, retry_after } if *retry_after > Duration::ZERO)
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_new_ids_are_refused_and_known_ones_answered() {
    let world = World::with(only_one_each());
    let engine = &world.engine;
    world.ledger.black_hole("money");
    let new = patient("known", ReplyMode::ThreeState);
    engine.submit(new.clone(), millis(10)).await.unwrap();
    assert_eq!(engine.load().0, 1);
    let refused = engine
        .submit(patient("new", ReplyMode::ThreeState), WAIT)
        .await;
    assert!(refused.as_ref().is_err_and(is_limit), "{refused:?}");
    let refused = engine
        .begin(transaction("i", ReplyMode::ThreeState, vec![]))
        .await;
    assert!(refused.as_ref().is_err_and(is_limit), "{refused:?}");
    assert_eq!(
        engine.record(&id("new")),
        Err(EngineError::NotFound(id("new")))
    );

    let again = engine.submit(new, millis(10)).await.unwrap();
    assert_eq!(outcome(&again), Outcome::Processing);
    engine.wait(&id("known"), millis(10)).await.unwrap();
    let cause = Failure::new("ROLLED_BACK", "no more");
    let rolled_back = engine
        .rollback(&id("known"), cause, millis(10))
        .await
        .unwrap();
    assert_eq!(outcome(&rolled_back), Outcome::Failed);
    world.ledger.up("money");
    world.end_of("known").await;
    let said = engine
        .submit(patient("new", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
}

/// More than begin at once.
fn many() -> EngineConfig {
    EngineConfig {
        inflight_max: 300,
        ..EngineConfig::default()
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_participant_holds_up_nobody_who_begins() {
    let world = World::with(many());
    world.ledger.black_hole("money");
    for nth in 0..300 {
        let room = world.engine.room().await;
        assert_eq!(world.start.elapsed(), Duration::ZERO, "before number {nth}");
        let new = patient(&format!("t{nth}"), ReplyMode::Accepted);
        world.engine.submit_in(room, new, WAIT).await.unwrap();
    }
    assert_eq!(world.engine.load().0, 300);
    assert!(world.engine.room().await.is_none());
    let refused = world.engine.refuse_unknown(&id("new"));
    assert!(matches!(
        refused,
        Err(EngineError::InflightLimit { limit: 300, .. })
    ));
    assert_eq!(world.engine.refuse_unknown(&id("t3")), Ok(()));
    world.ledger.up("money");
}

#[tokio::test(start_paused = true)]
async fn who_attaches_needs_no_room() {
    let world = World::with(many());
    world.ledger.black_hole("money");
    let new = patient("o", ReplyMode::Accepted);
    for _ in 0..3 {
        let room = world.engine.room().await;
        let said = world.engine.submit_in(room, new.clone(), WAIT).await;
        assert_eq!(outcome(&said.unwrap()), Outcome::Processing);
        assert_eq!(world.engine.load().0, 1);
    }
    assert_eq!(world.start.elapsed(), Duration::ZERO);
    world.ledger.up("money");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_is_waited_for_is_part_of_the_wait() {
    let world = World::with(many());
    world.ledger.black_hole("money");
    let mut begun = Vec::new();
    while let Some(room) = world.engine.room().now_or_never() {
        begun.push(room);
    }
    assert_eq!(begun.len(), 256);
    let later = async {
        let room = world.engine.room().await;
        let new = patient("o", ReplyMode::ThreeState);
        let said = world.engine.submit_in(room, new, millis(300)).await;
        assert_eq!(outcome(&said.unwrap()), Outcome::Processing);
        world.start.elapsed()
    };
    let leaves = async {
        tokio::time::sleep(millis(200)).await;
        drop(begun);
    };
    let (answered, ()) = tokio::join!(later, leaves);
    assert_eq!(answered, millis(300));
    world.ledger.up("money");
}

#[tokio::test(start_paused = true)]
async fn transactions_that_wait_are_not_in_flight() {
    let world = World::with(only_one_each());
    world.ledger.down("money");
    for nth in 0..50 {
        let new = patient(&format!("t{nth}"), ReplyMode::Accepted);
        world.engine.submit(new, WAIT).await.unwrap();
        tokio::time::sleep(millis(1)).await;
    }
    assert_eq!(world.engine.load(), (0, 50));
    world.ledger.up("money");
    let mut records = Vec::new();
    for nth in 0..50 {
        records.push(end_of(&world.engine, &id(&format!("t{nth}"))).await);
    }
    world.ledger.check(&records);
    tokio::time::sleep(secs(1)).await;
    assert_eq!(world.engine.load(), (0, 0), "what has ended costs nothing");
}

#[tokio::test(start_paused = true)]
async fn recovery_keeps_to_its_share_and_new_work_goes_on_beside_it() {
    let world = World::new();
    world.ledger.down("money");
    for id_text in ["r1", "r2", "r3"] {
        world
            .engine
            .submit(patient(id_text, ReplyMode::Accepted), WAIT)
            .await
            .unwrap();
    }
    tokio::time::sleep(secs(1)).await;
    world.ledger.up("money");
    world.ledger.black_hole("money");
    let found = Arc::new(world.store.crash());
    world.engine.shutdown().await;
    tokio::time::sleep(secs(60)).await;
    let before = world.ledger.seen().len();
    let world = World::over(found, world.ledger, only_one_each());
    let asked = || {
        world.ledger.seen()[before..]
            .iter()
            .filter(|it| it.participant == "money")
            .count()
    };

    tokio::time::sleep(secs(1)).await;
    assert_eq!(asked(), 1, "one is driven at a time");
    let other = || vec![branch("b1", "other", 5)];
    let new = transaction("new", ReplyMode::ThreeState, other());
    let said = world.engine.submit(new, WAIT).await.unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
    assert_eq!(
        world.start.elapsed(),
        secs(1),
        "recovery holds up no new work"
    );

    world.ledger.black_hole("other");
    let stuck = transaction("stuck", ReplyMode::Accepted, other());
    world.engine.submit(stuck, WAIT).await.unwrap();
    let refused = world
        .engine
        .submit(patient("more", ReplyMode::Accepted), WAIT)
        .await;
    assert!(refused.as_ref().is_err_and(is_limit), "{refused:?}");
    tokio::time::sleep_until(world.start + millis(3_500)).await;
    assert_eq!(asked(), 2, "new work holds up no recovery");
    tokio::time::sleep_until(world.start + millis(6_500)).await;
    assert_eq!(asked(), 3);
    world.ledger.up("money");
    world.ledger.up("other");
    for id_text in ["r1", "r2", "r3", "stuck"] {
        let end = world.engine.wait(&id(id_text), secs(100)).await.unwrap();
        assert_eq!(outcome(&end), Outcome::Success, "{id_text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_branch_whose_target_is_unknown_is_refused_before_anything_is_recorded() {
    let world = World::new();
    let branches = vec![branch("b1", "stock", 5), branch("b2", "nobody", 5)];
    let new = transaction("o", ReplyMode::ThreeState, branches);
    let refused = world.engine.submit(new, WAIT).await;
    assert!(
        matches!(refused, Err(EngineError::Target { .. })),
        "{refused:?}"
    );
    assert_eq!(
        world.engine.record(&id("o")),
        Err(EngineError::NotFound(id("o")))
    );
    assert!(world.ledger.seen().is_empty());
}
