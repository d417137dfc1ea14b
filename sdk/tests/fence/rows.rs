//! Promises about the fence's rows: whose they are, how long they protect, what a crash leaves.

use tercet_sdk::{
    participant::{
        BranchKey, COLLECT_ROWS_MAX, Fence as _, FenceTransaction as _, Record, Retention, Row,
        State, collect,
    },
    proto::participant::v1::{BranchContext, RecordState},
};
use tonic::Code;

use crate::{
    bench::{EXPIRE_MS, NOW_MS, bench, branch, reserve, timestamp},
    databases::{Database, Shelf, Shelved as _, UNTOUCHED},
};

pub async fn a_lower_epoch_is_an_error_and_a_higher_one_is_kept<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let at = |epoch| BranchContext {
        epoch,
        ..branch("order-1")
    };
    assert!(bench.r#try(&at(3), &reserve(1)).await.unwrap().is_success());
    // A repetition changes nothing but the epoch.
    assert!(bench.r#try(&at(5), &reserve(1)).await.unwrap().is_success());
    let stale = [
        bench.r#try(&at(4), &reserve(1)).await.map(|_| ()),
        bench.confirm(&at(4)).await.map(|_| ()),
        bench.cancel(&at(4)).await.map(|_| ()),
        bench.query(&at(4)).await.map(|_| ()),
    ];
    for status in stale {
        assert_eq!(status.unwrap_err().code(), Code::Aborted);
    }
    // A Query of a newer coordinator does not raise it.
    assert_eq!(bench.state(&at(9)).await, RecordState::Tried);
    assert!(bench.confirm(&at(5)).await.unwrap().is_success());
    assert_eq!(database.shelf().await, Shelf::of(0, 1));
}

pub async fn an_expired_try_is_refused_unless_it_has_a_row<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let skew_ms = 5 * 60 * 1000;
    assert!(
        bench
            .r#try(&branch("in-time"), &reserve(1))
            .await
            .unwrap()
            .is_success()
    );
    bench.set_clock(EXPIRE_MS + skew_ms);
    assert!(
        bench
            .r#try(&branch("just-so"), &reserve(1))
            .await
            .unwrap()
            .is_success()
    );
    bench.set_clock(EXPIRE_MS + skew_ms + 1);
    let late = bench.r#try(&branch("too-late"), &reserve(1)).await.unwrap();
    assert!(late.failed_for("EXPIRED"), "{late:?}");
    assert_eq!(bench.state(&branch("too-late")).await, RecordState::Unknown);
    // Nothing is canceled by time.
    assert!(
        bench
            .r#try(&branch("in-time"), &reserve(1))
            .await
            .unwrap()
            .is_success()
    );
    assert!(
        bench
            .confirm(&branch("in-time"))
            .await
            .unwrap()
            .is_success()
    );
}

pub async fn a_clock_set_back_does_not_reopen_a_collected_branch<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    assert!(bench.cancel(&tx).await.unwrap().is_success());
    let fence = database.fence();
    let due_ms = EXPIRE_MS + Retention::DEFAULT.as_ms();
    assert_eq!(
        collect(&fence, due_ms, Retention::DEFAULT).await.unwrap(),
        0
    );
    assert_eq!(
        collect(&fence, due_ms + 1, Retention::DEFAULT)
            .await
            .unwrap(),
        1
    );
    assert_eq!(bench.state(&tx).await, RecordState::Unknown);

    bench.set_clock(NOW_MS);
    let late = bench.r#try(&tx, &reserve(1)).await.unwrap();
    assert!(late.failed_for("EXPIRED"), "{late:?}");
    assert_eq!(database.shelf().await, UNTOUCHED);
    let newer = BranchContext {
        expire_time: Some(timestamp(EXPIRE_MS + 1)),
        ..branch("order-2")
    };
    assert!(bench.r#try(&newer, &reserve(1)).await.unwrap().is_success());
}

pub async fn only_finished_rows_are_collected_a_batch_at_a_time<D: Database>() {
    let database = D::fresh().await;
    let fence = database.fence();
    let finished = COLLECT_ROWS_MAX + 2;
    let mut tx = fence.begin().await.unwrap();
    for n in 0..finished {
        let state = if n % 2 == 0 {
            State::Confirmed
        } else {
            State::Canceled
        };
        tx.insert_if_absent(&key(&format!("done-{n}")), &record(state))
            .await
            .unwrap();
    }
    for state in State::ALL.into_iter().filter(|state| !state.is_terminal()) {
        tx.insert_if_absent(&key(state.as_str()), &record(state))
            .await
            .unwrap();
    }
    tx.commit().await.unwrap();

    let long_after_ms = NOW_MS + 10 * Retention::DEFAULT.as_ms();
    for expected in [COLLECT_ROWS_MAX, 2, 0] {
        let removed = collect(&fence, long_after_ms, Retention::DEFAULT)
            .await
            .unwrap();
        assert_eq!(removed, expected);
    }
    let mut tx = fence.begin().await.unwrap();
    assert_eq!(tx.horizon_ms().await.unwrap(), EXPIRE_MS);
    for state in State::ALL.into_iter().filter(|state| !state.is_terminal()) {
        let kept = tx.load_for_update(&key(state.as_str())).await.unwrap();
        assert_eq!(kept, Some(record(state)));
    }
    // It never goes back.
    tx.raise_horizon(EXPIRE_MS - 1).await.unwrap();
    assert_eq!(tx.horizon_ms().await.unwrap(), EXPIRE_MS);
}

pub async fn a_crash_in_the_middle_leaves_nothing<D: Database>() {
    let database = D::fresh().await;
    let fence = database.fence();
    let mut tx = fence.begin().await.unwrap();
    assert!(
        tx.insert_if_absent(&key("order-1"), &record(State::Tried))
            .await
            .unwrap()
    );
    assert!(tx.connection().shift(-1, 1, 0).await.unwrap());
    tx.raise_horizon(EXPIRE_MS).await.unwrap();
    drop(tx);

    assert_eq!(database.shelf().await, UNTOUCHED);
    let mut tx = fence.begin().await.unwrap();
    assert_eq!(tx.load_for_update(&key("order-1")).await.unwrap(), None);
    assert_eq!(tx.horizon_ms().await.unwrap(), i64::MIN);
    assert!(
        tx.insert_if_absent(&key("order-1"), &record(State::Tried))
            .await
            .unwrap()
    );
    assert!(
        !tx.insert_if_absent(&key("order-1"), &record(State::Canceled))
            .await
            .unwrap()
    );
    tx.commit().await.unwrap();
}

pub async fn branches_of_other_realms_and_longer_ids_are_other_branches<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    assert!(bench.cancel(&tx).await.unwrap().is_success());
    let others = [
        BranchContext {
            realm: "realm-2".to_owned(),
            ..tx.clone()
        },
        BranchContext {
            transaction_id: "order-11".to_owned(),
            ..tx.clone()
        },
        BranchContext {
            branch_id: "b11".to_owned(),
            ..tx.clone()
        },
        BranchContext {
            transaction_id: "order-1b1".to_owned(),
            branch_id: "1".to_owned(),
            ..tx
        },
    ];
    for other in others {
        assert!(
            bench.r#try(&other, &reserve(1)).await.unwrap().is_success(),
            "{other:?}"
        );
    }
    assert_eq!(database.shelf().await.held, 4);
}

fn key(transaction_id: &str) -> BranchKey {
    BranchKey {
        realm: "realm-1".parse().unwrap(),
        transaction_id: transaction_id.parse().unwrap(),
        branch_id: "b1".parse().unwrap(),
    }
}

fn record(state: State) -> Record {
    Record {
        row: Row {
            state,
            epoch: 1,
            expire_time_ms: EXPIRE_MS,
        },
        body: vec![0, 255, 7],
    }
}
