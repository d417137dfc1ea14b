//! Promises about work in the fence's own database.

use futures::future::join_all;
use tercet_sdk::proto::participant::v1::RecordState;
use tonic::Code;

use crate::{
    bench::{bench, branch, faulty, reserve},
    databases::{Database, STOCK, Shelf, UNTOUCHED},
};

pub async fn a_try_is_done_once_and_its_confirm_once<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    for _ in 0..3 {
        let tried = bench.r#try(&tx, &reserve(7)).await.unwrap();
        assert_eq!(
            tried.result,
            Some(reserve(7)),
            "the stored answer, each time"
        );
    }
    assert_eq!(database.shelf().await, Shelf::of(7, 0));
    let recorded = bench.query(&tx).await.unwrap();
    assert_eq!(recorded.state(), RecordState::Tried);
    assert!(
        recorded.try_result.is_some(),
        "a lost reply is recovered from here"
    );

    for _ in 0..3 {
        assert!(bench.confirm(&tx).await.unwrap().is_success());
    }
    assert_eq!(database.shelf().await, Shelf::of(0, 7));
    assert_eq!(bench.state(&tx).await, RecordState::Confirmed);
    assert!(bench.r#try(&tx, &reserve(7)).await.unwrap().is_success());
    assert_eq!(
        bench.cancel(&tx).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(database.shelf().await.used, 7);
}

pub async fn a_try_is_done_once_and_its_cancel_once<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    assert!(bench.r#try(&tx, &reserve(7)).await.unwrap().is_success());
    for _ in 0..3 {
        assert!(bench.cancel(&tx).await.unwrap().is_success());
    }
    assert_eq!(database.shelf().await, UNTOUCHED);
    assert_eq!(bench.state(&tx).await, RecordState::Canceled);
    assert_eq!(
        bench.confirm(&tx).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(database.shelf().await, UNTOUCHED);
}

pub async fn stock_is_conserved_under_concurrent_duplicates<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let transactions: Vec<_> = (0..12).map(|n| branch(&format!("order-{n}"))).collect();
    let tries = transactions.iter().flat_map(|tx| [tx; 4]);
    let answers = join_all(tries.map(|tx| {
        let (bench, tx) = (bench.clone(), tx.clone());
        tokio::spawn(async move { bench.r#try(&tx, &reserve(5)).await.unwrap() })
    }));
    assert!(
        answers
            .await
            .into_iter()
            .all(|answer| answer.unwrap().is_success())
    );
    assert_eq!(database.shelf().await, Shelf::of(60, 0));

    let ends = transactions.iter().enumerate().flat_map(|tx| [tx; 4]);
    let answers = join_all(ends.map(|(n, tx)| {
        let (bench, tx) = (bench.clone(), tx.clone());
        tokio::spawn(async move {
            if n % 2 == 0 {
                bench.confirm(&tx).await
            } else {
                bench.cancel(&tx).await
            }
        })
    }));
    assert!(
        answers
            .await
            .into_iter()
            .all(|answer| answer.unwrap().unwrap().is_success())
    );
    assert_eq!(database.shelf().await, Shelf::of(0, 30));
}

pub async fn a_late_try_after_its_cancel_has_no_effect<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    for (id, tried_before) in [("canceled-empty", false), ("canceled-tried", true)] {
        let tx = branch(id);
        if tried_before {
            assert!(bench.r#try(&tx, &reserve(1)).await.unwrap().is_success());
        }
        assert!(bench.cancel(&tx).await.unwrap().is_success());
        let late = bench.r#try(&tx, &reserve(1)).await.unwrap();
        assert!(late.failed_for("BRANCH_FENCED"), "{late:?}");
        assert_eq!(database.shelf().await, UNTOUCHED);
    }
}

pub async fn an_empty_cancel_succeeds_and_runs_no_business<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("never-tried");
    assert_eq!(bench.state(&tx).await, RecordState::Unknown);
    for _ in 0..2 {
        // on_cancel would fail: nothing is held.
        assert!(bench.cancel(&tx).await.unwrap().is_success());
        assert_eq!(bench.state(&tx).await, RecordState::Canceled);
    }
    assert_eq!(database.shelf().await, UNTOUCHED);
}

pub async fn try_and_cancel_at_once_leave_nothing_reserved<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    for round in 0..25 {
        let tx = branch(&format!("race-{round}"));
        let (late, again) = (bench.clone(), bench.clone());
        let (tx_late, tx_again) = (tx.clone(), tx.clone());
        let tried = tokio::spawn(async move { late.r#try(&tx_late, &reserve(3)).await.unwrap() });
        let canceled = tokio::spawn(async move { again.cancel(&tx_again).await.unwrap() });
        let (tried, canceled) = (tried.await.unwrap(), canceled.await.unwrap());
        assert!(canceled.is_success());
        assert!(
            tried.is_success() || tried.failed_for("BRANCH_FENCED"),
            "{tried:?}"
        );
        assert_eq!(database.shelf().await, UNTOUCHED, "round {round}");
        assert_eq!(bench.state(&tx).await, RecordState::Canceled);
    }
}

pub async fn a_refused_try_rolls_back_and_leaves_no_row<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    let refused = bench.r#try(&tx, &faulty("refuse")).await.unwrap();
    assert!(refused.failed_for("UNWANTED"), "{refused:?}");
    let too_many = bench.r#try(&tx, &reserve(STOCK + 1)).await.unwrap();
    assert!(too_many.failed_for("OUT_OF_STOCK"), "{too_many:?}");
    assert_eq!(database.shelf().await, UNTOUCHED);
    assert_eq!(bench.state(&tx).await, RecordState::Unknown);
    // A late copy may yet succeed; the Cancel that every branch gets undoes it.
    assert!(bench.r#try(&tx, &reserve(1)).await.unwrap().is_success());
    assert!(bench.cancel(&tx).await.unwrap().is_success());
    assert_eq!(database.shelf().await, UNTOUCHED);
}

pub async fn an_error_of_the_database_is_never_a_refusal<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    let status = bench.r#try(&tx, &faulty("break")).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    assert!(status.message().contains("the shelf broke"), "{status}");
    assert_eq!(database.shelf().await, UNTOUCHED);
    assert_eq!(bench.state(&tx).await, RecordState::Unknown);
    assert!(bench.r#try(&tx, &reserve(1)).await.unwrap().is_success());
}

pub async fn a_panic_commits_nothing<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    let status = bench.r#try(&tx, &faulty("panic")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal, "{status}");
    assert_eq!(database.shelf().await, UNTOUCHED);
    assert!(
        bench.r#try(&tx, &reserve(1)).await.unwrap().is_success(),
        "and the fence goes on"
    );
}

pub async fn a_refused_confirm_is_failed_and_leaves_the_branch_tried<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    assert!(
        bench
            .r#try(&tx, &faulty("refuse-confirm"))
            .await
            .unwrap()
            .is_success()
    );
    for _ in 0..2 {
        let refused = bench.confirm(&tx).await.unwrap();
        assert!(refused.failed_for("FROZEN"), "{refused:?}");
        assert_eq!(database.shelf().await, Shelf::of(1, 0));
        assert_eq!(bench.state(&tx).await, RecordState::Tried);
    }
}

pub async fn a_confirm_without_a_try_is_an_error<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("never-tried");
    let status = bench.confirm(&tx).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert_eq!(bench.state(&tx).await, RecordState::Unknown);
    assert!(
        bench.r#try(&tx, &reserve(1)).await.unwrap().is_success(),
        "it left no row"
    );
}

pub async fn a_confirm_and_a_cancel_never_both_take_effect<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    for round in 0..10 {
        let before = database.shelf().await;
        let tx = branch(&format!("race-{round}"));
        assert!(bench.r#try(&tx, &reserve(1)).await.unwrap().is_success());
        let (one, other) = (bench.clone(), bench.clone());
        let (tx_one, tx_other) = (tx.clone(), tx.clone());
        let confirmed = tokio::spawn(async move { one.confirm(&tx_one).await });
        let canceled = tokio::spawn(async move { other.cancel(&tx_other).await });
        let (confirmed, canceled) = (confirmed.await.unwrap(), canceled.await.unwrap());
        assert!(
            confirmed.is_ok() != canceled.is_ok(),
            "{confirmed:?} {canceled:?}"
        );
        let used = i64::from(confirmed.is_ok());
        let after = Shelf {
            free: before.free - used,
            held: 0,
            used: before.used + used,
        };
        assert_eq!(database.shelf().await, after);
    }
}

pub async fn a_result_over_the_limit_is_an_error_and_reserves_nothing<D: Database>() {
    let database = D::fresh().await;
    let bench = bench(&database);
    let tx = branch("order-1");
    let status = bench.r#try(&tx, &faulty("large")).await.unwrap_err();
    assert_eq!(status.code(), Code::Internal);
    assert!(
        status.message().contains("at most 65536 are allowed"),
        "{status}"
    );
    assert_eq!(database.shelf().await, UNTOUCHED);
    assert_eq!(bench.state(&tx).await, RecordState::Unknown);
}
