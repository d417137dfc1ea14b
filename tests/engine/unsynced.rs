//! Between a write and its sync everybody is shown the record before it: what a crash could take
//! back has never been said.

use std::{collections::BTreeMap, sync::Arc};

use tercet::{
    engine::{EngineConfig, EngineError, Follow},
    store::{Listing, Record},
};
use tercet_core::{
    outcome::{Outcome, ReplyMode},
    transaction::State,
};
use tokio::task::JoinHandle;

use crate::{
    common::{WAIT, id},
    support::{World, millis, order, outcome, patient, secs},
};

type Caller = JoinHandle<Result<Arc<Record>, EngineError>>;

/// An order that is about to be committed: the decision is written and waits for its sync.
async fn deciding(mode: ReplyMode) -> (World, Caller, Follow) {
    let world = World::new();
    world.ledger.down("money");
    let caller = world.submit(patient("o", mode), WAIT);
    tokio::time::sleep(millis(100)).await;
    let follow = world.engine.follow(&id("o")).unwrap();
    world.ledger.up("money");
    world.store.hold();
    let held = world.store.held(1).await;
    assert_eq!(held[0].transaction.state, State::Confirming);
    (world, caller, follow)
}

#[tokio::test(start_paused = true)]
async fn every_read_shows_the_record_before() {
    for mode in [ReplyMode::TwoState, ReplyMode::ThreeState] {
        let (world, caller, mut follow) = deciding(mode).await;
        let before = world.record("o");
        assert_eq!(before.transaction.state, State::Trying);
        let waited = world.engine.wait(&id("o"), secs(1)).await.unwrap();
        assert_eq!(waited, before);
        let later = world.engine.follow(&id("o")).unwrap();
        assert_eq!(
            (later.record(), follow.record()),
            (before.clone(), before.clone())
        );
        assert!(
            tokio::time::timeout(secs(1), follow.changed())
                .await
                .is_err()
        );
        let listed = world.engine.list(Listing::All, None, 10).await.unwrap();
        assert_eq!(listed[0].1, before);
        let attached = world.submit(patient("o", mode), secs(1));
        tokio::time::sleep(secs(2)).await;
        if attached.is_finished() {
            let said = attached.await.unwrap();
            assert!(said.is_err() || said.unwrap() == before);
        }
        let called = world.ledger.seen().len();
        assert_eq!(
            called, 4,
            "two Tries, a Query, a Try; nothing of the decision has left"
        );
        assert!(
            !caller.is_finished(),
            "its caller was told what was not durable"
        );
        world.store.release();
        assert!(follow.changed().await);
        assert_ne!(follow.record().transaction.state, State::Trying);
        world.end_of("o").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_attaches_while_a_decision_is_synced_hears_only_what_is_durable() {
    let (world, _caller, _follow) = deciding(ReplyMode::ThreeState).await;
    let attached = world.submit(patient("o", ReplyMode::ThreeState), secs(30));
    tokio::time::sleep(secs(1)).await;
    assert!(!attached.is_finished());
    world.store.release();
    assert_eq!(outcome(&attached.await.unwrap().unwrap()), Outcome::Success);
}

/// Between a sync and the moment at which its transaction's driver hears of it, others read the record.
#[tokio::test(start_paused = true)]
async fn a_submit_that_attaches_hears_nothing_older_than_what_others_have_read() {
    let world = World::new();
    world.ledger.down("money");
    world.store.hold_acknowledgements();
    let caller = world.submit(order("o", ReplyMode::Accepted), WAIT);
    tokio::time::sleep(millis(1)).await;
    world.store.release();
    world.store.hold_acknowledgements();
    let accepted = caller.await.unwrap().unwrap();
    tokio::time::sleep(millis(1)).await;
    let read = world.record("o").revision;
    assert!(
        read > accepted.revision,
        "an attempt that failed is on record"
    );
    let attached = world.submit(order("o", ReplyMode::Accepted), WAIT);
    tokio::time::sleep(millis(1)).await;
    world.store.release();
    let heard = attached.await.unwrap().unwrap();
    assert!(heard.revision >= read, "{} after {read}", heard.revision);
    world.ledger.up("money");
    world.end_of("o").await;
}

#[tokio::test(start_paused = true)]
async fn a_decision_whose_sync_was_lost_was_never_made() {
    let (world, _caller, _follow) = deciding(ReplyMode::ThreeState).await;
    let seen = world.record("o").revision;
    let world = world.restart(EngineConfig::default()).await;
    assert_eq!(world.record("o").revision, seen);
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);

    let (world, _caller, _follow) = deciding(ReplyMode::TwoState).await;
    let world = world.restart(EngineConfig::default()).await;
    let end = world.end_of("o").await;
    assert_eq!(
        outcome(&end),
        Outcome::Failed,
        "TWO_STATE found TRYING is canceled"
    );
}

#[tokio::test(start_paused = true)]
async fn no_revision_is_shown_twice_with_other_content() {
    for hold_at_ms in [0, 100, 1_000, 3_000, 6_250] {
        let world = World::new();
        world.ledger.down_from(3, "money");
        world
            .engine
            .submit(patient("o", ReplyMode::Accepted), WAIT)
            .await
            .unwrap();
        let shown = tokio::spawn(all_shown(world.engine.follow(&id("o")).unwrap()));
        tokio::time::sleep(millis(hold_at_ms)).await;
        world.store.hold();
        tokio::time::sleep(secs(30)).await; // attempts go on, their records are written, not synced
        let world = world.restart(EngineConfig::default()).await;
        let before = shown.await.unwrap();
        let last = *before.last_key_value().unwrap().0;
        assert_eq!(
            world.record("o").revision,
            last,
            "what was shown is durable, and no more"
        );
        world.ledger.up("money");
        let after = all_shown(world.engine.follow(&id("o")).unwrap()).await;
        for (revision, record) in &after {
            let known = before.get(revision);
            assert!(
                known.is_none_or(|it| it == record),
                "{revision} was used twice"
            );
        }
        assert!(after.len() > 1);
        world.end_of("o").await;
    }
}

async fn all_shown(mut follow: Follow) -> BTreeMap<u64, Arc<Record>> {
    let mut shown = BTreeMap::new();
    loop {
        let record = follow.record();
        shown.insert(record.revision, record);
        if !follow.changed().await {
            return shown;
        }
    }
}
