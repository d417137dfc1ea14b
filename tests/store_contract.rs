//! Every sentence of the store's contract, for every store.

mod support;

use std::sync::Arc;

use support::{
    queries::{conflict, finish, names, paged, read, refusal},
    records::{CREATE_MS, commit, confirmed, due_at, fresh, fresh_with, id, refused, tried},
    subject::Subject,
};
use tercet::store::{Listing, Record, StoreError};

#[tokio::test]
async fn what_is_acknowledged_is_read_and_outlives_the_process() {
    for subject in Subject::all() {
        let before = subject.store().identity().clone();
        let first = fresh_with(subject.store(), "a", "order-1", b"payload");
        commit(subject.store(), &first).await;
        let second = tried(&first);
        commit(subject.store(), &second).await;
        assert_eq!(read(subject.store(), "a"), Some(second.clone()));

        let subject = subject.restart();
        assert_eq!(read(subject.store(), "a"), Some(second.clone()));
        assert_eq!(names(subject.store(), &Listing::All), ["a"]);
        let after = subject.store().identity();
        assert_eq!(after.boot, before.boot + 1);
        assert_eq!((&after.realm, after.epoch), (&before.realm, before.epoch));
        commit(subject.store(), &confirmed(&second, 0)).await;
    }
}

#[tokio::test]
async fn an_unknown_id_is_no_error() {
    for subject in Subject::all() {
        assert_eq!(read(subject.store(), "unknown"), None);
        assert!(names(subject.store(), &Listing::Unfinished).is_empty());
    }
}

#[tokio::test]
async fn only_the_next_revision_is_taken_and_a_conflict_changes_nothing() {
    for subject in Subject::all() {
        let store = subject.store();
        let first = fresh_with(store, "a", "key", b"");
        let second = tried(&first);
        let ended = confirmed(&second, 5);
        assert_eq!(refusal(store, &second).await, conflict("a", 0));
        assert_eq!(read(store, "a"), None);
        assert!(names(store, &Listing::Unfinished).is_empty());

        commit(store, &first).await;
        assert_eq!(refusal(store, &first).await, conflict("a", 1));
        assert_eq!(refusal(store, &ended).await, conflict("a", 1));
        commit(store, &second).await;
        let mut late = due_at(&first, 77);
        late.origin = fresh_with(store, "a", "other key", b"").origin;
        assert_eq!(refusal(store, &late).await, conflict("a", 2));
        let zero = Record {
            revision: 0,
            ..first.clone()
        };
        assert_eq!(refusal(store, &zero).await, conflict("a", 2));

        assert_eq!(read(store, "a"), Some(second.clone()));
        assert_eq!(names(store, &Listing::Unfinished), ["a"]);
        assert_eq!(names(store, &Listing::BusinessKey("key".into())), ["a"]);
        assert!(names(store, &Listing::BusinessKey("other key".into())).is_empty());
        assert!(store.outlived(i64::MAX, 9).expect("it is read").is_empty());
        let unfinished = store.unfinished(None, 9).expect("they are read");
        assert_eq!(Some(unfinished[0].due_ms), second.due_ms());
    }
}

#[tokio::test]
async fn an_older_epoch_never_follows_a_newer_one() {
    for subject in Subject::all() {
        let store = subject.store();
        let mut first = fresh(store, "a");
        first.epoch = 7;
        commit(store, &first).await;
        let mut second = tried(&first);
        second.epoch = 6;
        assert_eq!(refusal(store, &second).await, conflict("a", 1));
        second.epoch = 8;
        commit(store, &second).await;
    }
}

#[tokio::test]
async fn commits_take_effect_in_the_order_of_the_calls_polled_or_not() {
    for subject in Subject::all() {
        let store = subject.store();
        let first = fresh(store, "a");
        let second = tried(&first);
        let third = confirmed(&second, 5);
        drop(store.commit(Arc::new(first.clone())));
        let unpolled = store.commit(Arc::new(second.clone()));
        let repeated = store.commit(Arc::new(second));
        let last = store.commit(Arc::new(third.clone()));
        drop(last.await.expect("its predecessors are there"));
        assert_eq!(read(store, "a"), Some(third));
        drop(unpolled.await.expect("it was acknowledged before"));
        assert_eq!(repeated.await.err(), Some(conflict("a", 2)));
    }
}

#[tokio::test]
async fn a_dropped_commit_still_happens_when_the_store_is_closed_at_once() {
    let [_, subject] = Subject::all();
    for number in 0..100 {
        let record = fresh(subject.store(), &format!("t{number}"));
        drop(subject.store().commit(Arc::new(record)));
    }
    let subject = subject.restart();
    assert_eq!(names(subject.store(), &Listing::All).len(), 100);
}

#[tokio::test]
async fn listings_are_newest_first_and_go_on_from_a_cursor() {
    for subject in Subject::all() {
        let store = subject.store();
        let mut expected = Vec::new();
        for number in 0..150 {
            // In another order than that of their names.
            let name = format!("t{:03}", number * 37 % 150);
            commit(store, &fresh(store, &name)).await;
            expected.insert(0, name);
        }
        assert_eq!(names(store, &Listing::All), expected);
        for page in [1, 7, 64, 150, 151] {
            assert_eq!(paged(store, &Listing::All, page), expected, "page {page}");
        }
        assert!(
            store
                .list(&Listing::All, None, 0)
                .expect("it is read")
                .is_empty()
        );

        // A change keeps the place.
        let oldest = expected.last().expect("there are some").clone();
        commit(store, &tried(&fresh(store, &oldest))).await;
        assert_eq!(names(store, &Listing::All), expected);
    }
}

#[tokio::test]
async fn unfinished_ones_come_oldest_first_with_their_due_time() {
    for subject in Subject::all() {
        let store = subject.store();
        for name in ["c", "a", "b", "d"] {
            commit(store, &fresh(store, name)).await;
        }
        let first = fresh(store, "a");
        let waiting = due_at(&first, CREATE_MS + 5_000);
        commit(store, &waiting).await;
        let second = tried(&fresh(store, "b"));
        commit(store, &second).await;
        commit(store, &confirmed(&second, 9)).await;

        let found = store.unfinished(None, 9).expect("they are read");
        let ids: Vec<_> = found.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(ids, ["c", "a", "d"]);
        assert_eq!(Some(found[0].due_ms), fresh(store, "c").due_ms());
        assert_eq!(found[1].due_ms, CREATE_MS + 5_000);
        assert_eq!(names(store, &Listing::Unfinished), ["d", "a", "c"]);

        let one = store.unfinished(None, 1).expect("they are read");
        assert_eq!(one, found[..1]);
        let rest = store
            .unfinished(Some(one[0].cursor), 9)
            .expect("they are read");
        assert_eq!(rest, found[1..]);
        let none = store
            .unfinished(Some(rest[1].cursor), 9)
            .expect("they are read");
        assert!(none.is_empty());
    }
}

#[tokio::test]
async fn a_thousand_unfinished_ones_are_paged_without_a_gap() {
    for subject in Subject::all() {
        let store = subject.store();
        let commits =
            (0..1_100).map(|number| store.commit(Arc::new(fresh(store, &format!("t{number}")))));
        futures::future::try_join_all(commits)
            .await
            .expect("all are acknowledged");
        let all = store.unfinished(None, 5_000).expect("they are read");
        assert_eq!(all.len(), 1_100);
        let (mut paged, mut after) = (Vec::new(), None);
        loop {
            let page = store.unfinished(after, 300).expect("they are read");
            let Some(last) = page.last() else { break };
            after = Some(last.cursor);
            paged.extend(page);
        }
        assert_eq!(paged, all);
    }
}

#[tokio::test]
async fn business_keys_that_are_prefixes_of_one_another_stay_apart() {
    for subject in Subject::all() {
        let store = subject.store();
        let keys = [
            "order-1",
            "order-12",
            "order-",
            "order-1",
            "",
            "ö",
            "order-1\0",
        ];
        for (number, key) in keys.iter().enumerate() {
            commit(store, &fresh_with(store, &format!("t{number}"), key, b"")).await;
        }
        let with = |key: &str| names(store, &Listing::BusinessKey(key.into()));
        assert_eq!(with("order-1"), ["t3", "t0"]);
        assert_eq!(with("order-12"), ["t1"]);
        assert_eq!(with("order-"), ["t2"]);
        assert_eq!(with("order-1\0"), ["t6"]);
        assert_eq!(with("ö"), ["t5"]);
        assert!(with("order").is_empty());
        assert!(with("").is_empty(), "nobody is found by having no key");
        let one = paged(store, &Listing::BusinessKey("order-1".into()), 1);
        assert_eq!(one, ["t3", "t0"]);
    }
}

#[tokio::test]
async fn outlived_ones_come_earliest_first() {
    for subject in Subject::all() {
        let store = subject.store();
        for (name, keep_until_ms) in [("a", 300), ("b", 100), ("c", 200), ("d", -5)] {
            finish(store, name, keep_until_ms).await;
        }
        commit(store, &fresh(store, "unfinished")).await;
        let outlived = |now_ms, limit| {
            let found = store.outlived(now_ms, limit).expect("they are read");
            found
                .iter()
                .map(|it| it.as_str().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(outlived(-6, 9), [""; 0]);
        assert_eq!(outlived(99, 9), ["d"]);
        assert_eq!(outlived(200, 9), ["d", "b", "c"]);
        assert_eq!(outlived(i64::MAX, 9), ["d", "b", "c", "a"]);
        assert_eq!(outlived(i64::MAX, 2), ["d", "b"]);
    }
}

#[tokio::test]
async fn a_record_cut_down_loses_its_old_index_entries() {
    for subject in Subject::all() {
        let store = subject.store();
        let first = fresh_with(store, "a", "key", b"");
        commit(store, &first).await;
        let second = tried(&first);
        commit(store, &second).await;
        let third = confirmed(&second, 100);
        commit(store, &third).await;

        let mut cut = third.clone();
        cut.revision += 1;
        cut.cut_down = true;
        cut.keep_until_ms = Some(500);
        cut.origin = fresh(store, "a").origin;
        cut.transaction.branches.clear();
        cut.branch_times.clear();
        cut.history.clear();
        commit(store, &cut).await;

        assert_eq!(read(store, "a"), Some(cut));
        assert!(names(store, &Listing::BusinessKey("key".into())).is_empty());
        assert!(store.outlived(499, 9).expect("they are read").is_empty());
        assert_eq!(store.outlived(500, 9), Ok(vec![id("a")]));
    }
}

#[tokio::test]
async fn a_purge_removes_every_trace_and_the_id_is_new_again() {
    for subject in Subject::all() {
        let store = subject.store();
        let payload = vec![7; 200 * 1024];
        let first = fresh_with(store, "a", "key", &payload);
        commit(store, &first).await;
        assert_eq!(
            store.purge(&id("a"), 1).await,
            Err(conflict("a", 1)),
            "unfinished"
        );
        let second = tried(&first);
        commit(store, &second).await;
        commit(store, &confirmed(&second, 100)).await;
        finish(store, "b", 100).await;
        assert_eq!(
            store.purge(&id("a"), 2).await,
            Err(conflict("a", 3)),
            "revision"
        );
        assert_eq!(
            store.purge(&id("x"), 1).await,
            Err(conflict("x", 0)),
            "unknown"
        );

        assert_eq!(store.purge(&id("a"), 3).await, Ok(()));
        assert_eq!(read(store, "a"), None);
        assert_eq!(names(store, &Listing::All), ["b"]);
        assert!(names(store, &Listing::BusinessKey("key".into())).is_empty());
        assert_eq!(store.outlived(i64::MAX, 9), Ok(vec![id("b")]));
        assert_eq!(
            store.purge(&id("a"), 3).await,
            Err(conflict("a", 0)),
            "twice"
        );

        commit(store, &fresh(store, "a")).await;
        let subject = subject.restart();
        assert_eq!(names(subject.store(), &Listing::All), ["a", "b"]);
        assert_eq!(names(subject.store(), &Listing::Unfinished), ["a"]);
    }
}

#[tokio::test]
async fn records_of_any_allowed_size_grow_and_shrink() {
    for subject in Subject::all() {
        let store = subject.store();
        for (number, kib) in [0, 31, 32, 64, 1024].into_iter().enumerate() {
            let name = format!("t{number}");
            let payload = vec![number as u8; kib * 1024];
            let large = fresh_with(store, &name, "", &payload);
            commit(store, &large).await;
            assert_eq!(read(store, &name), Some(large.clone()), "{kib} KiB");
            let mut small = due_at(&large, 5);
            small.transaction.branches.clear();
            small.branch_times.clear();
            commit(store, &small).await;
            assert_eq!(
                read(store, &name),
                Some(small.clone()),
                "{kib} KiB, emptied"
            );
            let mut grown = small;
            grown.revision += 1;
            grown.transaction.branches = large.transaction.branches.clone();
            grown.branch_times = large.branch_times.clone();
            commit(store, &grown).await;
            assert_eq!(read(store, &name), Some(grown), "{kib} KiB, grown again");
        }
        assert_eq!(names(store, &Listing::All), ["t4", "t3", "t2", "t1", "t0"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_of_64_committers_sees_its_own_at_once() {
    for subject in Subject::all() {
        let subject = Arc::new(subject);
        let tasks = (0..64).map(|task| {
            let subject = subject.clone();
            tokio::spawn(async move {
                let store = subject.store();
                for number in 0..8 {
                    let name = format!("t{task}-{number}");
                    let first = fresh_with(store, &name, &format!("key-{task}"), b"");
                    commit(store, &first).await;
                    assert_eq!(read(store, &name), Some(first.clone()));
                    let second = if number % 2 == 0 {
                        tried(&first)
                    } else {
                        refused(&first)
                    };
                    commit(store, &second).await;
                    assert_eq!(read(store, &name), Some(second));
                }
                let listing = Listing::BusinessKey(format!("key-{task}").into());
                assert_eq!(names(store, &listing).len(), 8);
            })
        });
        futures::future::try_join_all(tasks)
            .await
            .expect("no task fails");
        let store = subject.store();
        assert_eq!(names(store, &Listing::All).len(), 512);
        assert_eq!(store.counters().commits, 1024);
        assert!(store.counters().syncs <= 1025);
    }
}

#[tokio::test]
async fn a_corrupt_record_is_quarantined_and_all_others_go_on() {
    for subject in Subject::all() {
        let first = fresh_with(subject.store(), "bad", "key", b"");
        commit(subject.store(), &first).await;
        for name in ["good", "better"] {
            commit(
                subject.store(),
                &fresh_with(subject.store(), name, "key", b""),
            )
            .await;
        }
        finish(subject.store(), "ended", 5).await;

        let subject = subject.restart_with_corrupt(&id("bad"));
        let store = subject.store();
        let error = store.read(&id("bad")).expect_err("it can't be read");
        assert!(matches!(&error, StoreError::Corrupt { id, .. } if id.as_str() == "bad"));
        assert_eq!(names(store, &Listing::All), ["ended", "better", "good"]);
        assert_eq!(names(store, &Listing::Unfinished), ["better", "good"]);
        let of_key = names(store, &Listing::BusinessKey("key".into()));
        assert_eq!(of_key, ["better", "good"]);
        let unfinished = store.unfinished(None, 1).expect("they are read");
        assert_eq!(
            unfinished[0].id,
            id("good"),
            "a full page, without the corrupt one"
        );
        assert_eq!(store.counters().quarantined, 1);

        let refused = refusal(store, &tried(&first)).await;
        assert!(matches!(refused, StoreError::Corrupt { .. }), "{refused}");
        let refused = store.purge(&id("bad"), 1).await;
        assert!(matches!(refused, Err(StoreError::Corrupt { .. })));
        commit(store, &tried(&fresh_with(store, "good", "key", b""))).await;
        assert_eq!(store.counters().quarantined, 1, "it is counted once");
    }
}

#[tokio::test]
async fn a_corrupt_finished_record_is_not_named_as_outlived_once_it_is_known() {
    for subject in Subject::all() {
        finish(subject.store(), "bad", 5).await;
        finish(subject.store(), "good", 6).await;
        let subject = subject.restart_with_corrupt(&id("bad"));
        let store = subject.store();
        assert!(store.read(&id("bad")).is_err());
        assert_eq!(store.outlived(9, 1), Ok(vec![id("good")]));
    }
}
