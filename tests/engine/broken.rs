//! A store that fails, and records that can't be read.

use std::sync::Arc;

use tercet::{
    engine::{EngineConfig, EngineError},
    store::StoreError,
};
use tercet_core::{
    outcome::{Outcome, ReplyMode},
    payload::Failure,
};

use crate::{
    common::{WAIT, id},
    support::{World, millis, order, outcome, patient, secs},
};

const MODES: [ReplyMode; 3] = [
    ReplyMode::TwoState,
    ReplyMode::ThreeState,
    ReplyMode::Accepted,
];

fn is_broken(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(StoreError::Broken(_)))
}

fn is_corrupt(error: &EngineError) -> bool {
    matches!(error, EngineError::Store(StoreError::Corrupt { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_store_that_breaks_is_never_answered_as_failed() {
    for mode in MODES {
        for commit in 1..=3 {
            let world = World::new();
            world.store.fail_commit(commit);
            match world.engine.submit(order("o", mode), WAIT).await {
                Ok(said) if commit == 1 => panic!("accepted without a record: {said:?}"),
                Ok(said) => assert_ne!(outcome(&said), Outcome::Failed, "{mode:?} {commit}"),
                Err(error) => assert!(is_broken(&error), "{mode:?} {commit}: {error}"),
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_when_the_store_breaks_hears_of_it_at_once() {
    let world = World::new();
    world.ledger.black_hole("money");
    let two_state = world.submit(patient("two", ReplyMode::TwoState), secs(60));
    let mut attached = patient("two", ReplyMode::TwoState);
    attached.submit_expire_ms = None;
    tokio::time::sleep(millis(10)).await;
    let attached = world.submit(attached, secs(60));
    tokio::time::sleep(millis(10)).await;
    world.store.fail_commit(1);
    let failed = world
        .engine
        .submit(order("o", ReplyMode::ThreeState), WAIT)
        .await;
    assert!(failed.as_ref().is_err_and(is_broken), "{failed:?}");
    for caller in [two_state, attached] {
        let said = caller.await.unwrap();
        assert!(said.as_ref().is_err_and(is_broken), "{said:?}");
    }
    assert_eq!(world.start.elapsed(), millis(20));
}

#[tokio::test(start_paused = true)]
async fn once_the_store_is_broken_nothing_is_taken_on_and_nothing_sent() {
    let world = World::new();
    world.ledger.down_from(3, "money");
    world
        .engine
        .submit(patient("o", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    let _live = world.engine.follow(&id("o")).unwrap();
    tokio::time::sleep(millis(500)).await;
    world.ledger.up("money");
    let sent = world.ledger.seen().len();
    drop(world.store.crash()); // it breaks by itself: no commit of ours is told
    tokio::time::sleep(secs(3600)).await;
    assert_eq!(
        world.ledger.seen().len(),
        sent,
        "a call left after the store had failed"
    );

    let (engine, o) = (&world.engine, id("o"));
    let cause = Failure::new("ROLLED_BACK", "");
    let answers = [
        engine
            .submit(order("new", ReplyMode::ThreeState), WAIT)
            .await,
        engine.submit(patient("o", ReplyMode::Accepted), WAIT).await,
        engine.rollback(&o, cause, WAIT).await,
        engine.commit(&o, vec![], WAIT).await,
        engine.wait(&o, WAIT).await,
        engine.record(&o),
    ];
    for answer in answers {
        assert!(answer.as_ref().is_err_and(is_broken), "{answer:?}");
    }
    engine.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_is_quarantined_and_everything_else_goes_on() {
    for restarted in [false, true] {
        let world = World::new();
        world.ledger.down("money");
        for id_text in ["poison", "fine"] {
            world
                .engine
                .submit(patient(id_text, ReplyMode::Accepted), WAIT)
                .await
                .unwrap();
        }
        tokio::time::sleep(secs(1)).await;
        assert!(world.store.corrupt(&id("poison")));
        let world = if restarted {
            world.restart(EngineConfig::default()).await
        } else {
            world
        };
        world.ledger.up("money");
        assert_eq!(
            outcome(&*world.end_of_unrelated("fine").await),
            Outcome::Success
        );
        let said = world
            .engine
            .submit(order("new", ReplyMode::ThreeState), WAIT)
            .await
            .unwrap();
        assert_eq!(outcome(&said), Outcome::Success);
        let sent = world.ledger.seen().len();

        let (engine, poison) = (&world.engine, id("poison"));
        let cause = Failure::new("ROLLED_BACK", "");
        let answers = [
            engine
                .submit(patient("poison", ReplyMode::Accepted), WAIT)
                .await,
            engine.rollback(&poison, cause, WAIT).await,
            engine.wait(&poison, WAIT).await,
            engine.record(&poison),
        ];
        for answer in answers {
            assert!(answer.as_ref().is_err_and(is_corrupt), "{answer:?}");
        }
        tokio::time::sleep(secs(3600)).await;
        assert_eq!(
            world.ledger.seen().len(),
            sent,
            "nobody knows what to send for it"
        );
    }
}

impl World {
    /// Follows a transaction to its end beside another one that never ends.
    async fn end_of_unrelated(&self, id_text: &str) -> Arc<tercet::store::Record> {
        crate::common::end_of(&self.engine, &id(id_text)).await
    }
}
