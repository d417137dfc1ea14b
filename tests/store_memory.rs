//! The faults of the reference implementation, which other tests rely on.

mod support;

use std::sync::Arc;

use futures::FutureExt;
use support::{
    queries::refusal,
    records::{commit, confirmed, fresh, id, tried},
};
use tercet::store::{Listing, MemoryStore, Store, StoreError};

#[tokio::test(start_paused = true)]
async fn between_a_write_and_its_sync_nothing_is_seen_and_nothing_acknowledged() {
    let store = MemoryStore::default();
    let first = fresh(&store, "a");
    commit(&store, &first).await;
    store.hold();
    let second = tried(&first);
    let mut waiting = store.commit(Arc::new(second.clone()));
    assert_eq!(store.held(1).await, [Arc::new(second.clone())]);
    assert!((&mut waiting).now_or_never().is_none());
    assert_eq!(store.read(&id("a")), Ok(Some(Arc::new(first))));

    store.release();
    drop(waiting.await.expect("it is acknowledged now"));
    assert_eq!(store.read(&id("a")), Ok(Some(Arc::new(second))));
    assert!(store.held(0).await.is_empty());
}

/// The same holds on sled: the disk tests let each write and sync fail.
#[tokio::test]
async fn after_the_first_error_every_call_is_broken() {
    let store = MemoryStore::default();
    let first = fresh(&store, "a");
    commit(&store, &first).await;
    let waiting = store.broken();
    store.fail_commit(1);
    let broken = refusal(&store, &tried(&first)).await;
    assert!(matches!(broken, StoreError::Broken(_)), "{broken}");
    let reason = waiting.await;
    assert_eq!(broken, StoreError::Broken(reason.clone()));
    assert_eq!(store.broken().await, reason);

    assert_eq!(refusal(&store, &fresh(&store, "b")).await, broken);
    assert_eq!(store.purge(&id("a"), 1).await, Err(broken.clone()));
    assert_eq!(store.read(&id("a")).expect_err("broken"), broken);
    assert_eq!(store.unfinished(None, 9).expect_err("broken"), broken);
    let listed = store.list(&Listing::All, None, 9);
    assert_eq!(listed.expect_err("broken"), broken);
    assert_eq!(store.outlived(0, 9).expect_err("broken"), broken);
    assert_eq!(store.counters().commits, 1);
}

#[tokio::test]
async fn a_crash_takes_back_what_was_held_and_keeps_what_was_acknowledged() {
    let store = MemoryStore::default();
    let first = fresh(&store, "a");
    commit(&store, &first).await;
    store.hold();
    let waiting = store.commit(Arc::new(tried(&first)));
    let next = store.crash();
    assert!(matches!(waiting.await.err(), Some(StoreError::Broken(_))));
    assert!(matches!(store.read(&id("a")), Err(StoreError::Broken(_))));
    assert_eq!(next.read(&id("a")), Ok(Some(Arc::new(first))));
    assert_eq!(next.identity().boot, 2);
    assert_eq!(next.identity().realm, store.identity().realm);
}

#[tokio::test]
async fn a_crash_after_the_sync_keeps_what_nobody_was_told() {
    let store = MemoryStore::default();
    let first = fresh(&store, "a");
    commit(&store, &first).await;
    store.hold();
    let second = tried(&first);
    let waiting = store.commit(Arc::new(second.clone()));
    let next = store.crash_after_sync();
    assert!(waiting.await.is_err());
    assert_eq!(next.read(&id("a")), Ok(Some(Arc::new(second.clone()))));
    commit(&next, &confirmed(&second, 5)).await;
    assert_eq!(next.outlived(5, 9), Ok(vec![id("a")]));
}

#[tokio::test]
async fn a_commit_that_fails_has_no_effect_and_one_whose_acknowledgement_is_lost_has() {
    for (lost, survives) in [(false, false), (true, true)] {
        let store = MemoryStore::default();
        match lost {
            false => store.fail_commit(2),
            true => store.lose_acknowledgement(2),
        }
        let first = fresh(&store, "a");
        commit(&store, &first).await;
        let second = store.commit(Arc::new(fresh(&store, "b"))).await;
        assert!(matches!(second.err(), Some(StoreError::Broken(_))));
        let third = store.commit(Arc::new(fresh(&store, "c"))).await;
        assert!(matches!(third.err(), Some(StoreError::Broken(_))));
        store.broken().await;
        assert_eq!(store.counters().commits, 1);

        let next = store.crash();
        let found = next.list(&Listing::All, None, 9).expect("they are read");
        assert_eq!(found.len(), 1 + usize::from(survives));
        commit(&next, &fresh(&next, "d")).await;
    }
}
