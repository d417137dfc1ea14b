//! What each reply mode answers, submitted and interactive.

use std::time::{Duration, Instant};

use tercet::proto::tercet::participant::v1::Operation;
use tercet_sdk::client::{Outcome, TransactionState, Tried};

use crate::{
    account::{Amount, HELD},
    coordinator::{World, failed, order, processing, quick, success},
    wire::Fault,
};

const SECOND: Duration = Duration::from_secs(1);

fn five() -> Amount {
    Amount { count: 5 }
}

#[tokio::test]
async fn two_state_answers_success_or_failed() {
    let world = World::start().await;
    let placed = success(
        world
            .client()
            .submit(&order("o").two_state())
            .await
            .unwrap(),
    );
    assert_eq!(placed.branches().count(), 2);
    world.end_of("o").await;
    world.expect_used(5).await;

    let greedy = order("greedy")
        .two_state()
        .branch("stock", "take", &Amount { count: HELD });
    let refused = failed(world.client().submit(&greedy).await.unwrap());
    assert_eq!(refused.reason, "OUT_OF_STOCK");
    world.end_of("greedy").await;
    world.expect_used(5).await;
}

#[tokio::test]
async fn two_state_fails_fast_and_reverses_behind_it() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Silent);
    let began = Instant::now();
    let refused = failed(
        world
            .client()
            .submit(&order("o").two_state())
            .await
            .unwrap(),
    );
    assert_eq!(refused.reason, "TRY_TIMEOUT");
    assert!(began.elapsed() < 2 * SECOND, "{:?}", began.elapsed());
    world.end_of("o").await;
    world.expect_used(0).await;
}

#[tokio::test]
async fn three_state_answers_processing_when_it_takes_longer_and_finishes() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Lost);
    let slow = order("o").three_state().wait(SECOND / 4);
    processing(world.client().submit(&slow).await.unwrap());
    world.money.wire.heal();
    let placed = world
        .client()
        .wait("o", Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(success(placed).state(), TransactionState::Confirmed);
    world.expect_used(5).await;
}

#[tokio::test]
async fn three_state_answers_success_and_failed_as_soon_as_it_knows() {
    let world = World::start().await;
    let placed = success(world.client().submit(&order("o")).await.unwrap());
    assert_eq!(placed.state(), TransactionState::Confirmed);
    let greedy = order("greedy").branch("stock", "take", &Amount { count: HELD });
    assert_eq!(
        failed(world.client().submit(&greedy).await.unwrap()).reason,
        "OUT_OF_STOCK"
    );
    world.end_of("greedy").await;
    world.expect_used(5).await;
}

#[tokio::test]
async fn accepted_answers_once_it_is_durable() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Silent);
    let accepted = processing(world.client().submit(&order("o").accepted()).await.unwrap());
    assert_eq!(accepted.state(), TransactionState::Trying);
    world.money.wire.heal();
    assert_eq!(world.end_of("o").await.state(), TransactionState::Confirmed);
    world.expect_used(5).await;
}

#[tokio::test]
async fn an_interactive_transaction_commits_what_was_tried() {
    let world = World::start().await;
    for (nth, options) in [
        quick().two_state(),
        quick().three_state(),
        quick().accepted(),
    ]
    .into_iter()
    .enumerate()
    {
        let id = format!("trip-{nth}");
        let mut trip = world.client().begin_with(&id, &options).await.unwrap();
        let seat: Amount = trip
            .try_branch("b1", "stock", "take", &five())
            .await
            .unwrap()
            .success()
            .unwrap();
        assert_eq!(seat, five());
        let again = trip
            .try_branch("b1", "stock", "take", &five())
            .await
            .unwrap();
        assert_eq!(again.success::<Amount>().unwrap(), five());
        trip.try_branch("b2", "money", "take", &seat)
            .await
            .unwrap()
            .success::<Amount>()
            .unwrap();
        let before = trip.get().await.unwrap();
        assert_eq!(
            (before.state(), before.decision()),
            (TransactionState::Trying, None)
        );
        let outcome = trip.commit().await.unwrap();
        if nth < 2 {
            success(outcome);
        } else {
            // Accepted: durable, and the branches perhaps confirmed already.
            assert!(!matches!(outcome, Outcome::Failed(_)));
        }
        assert_eq!(world.end_of(&id).await.state(), TransactionState::Confirmed);
    }
    world.expect_used(15).await;
}

#[tokio::test]
async fn an_interactive_transaction_is_rolled_back_on_request_and_by_a_refusal() {
    let world = World::start().await;
    let mut trip = world.client().begin_with("asked", &quick()).await.unwrap();
    trip.try_branch("b1", "stock", "take", &five())
        .await
        .unwrap();
    assert_eq!(world.stock.amounts().await.reserved, 5);
    let rolled_back = failed(trip.rollback("changed my mind").await.unwrap());
    assert_eq!(rolled_back.message, "changed my mind");
    assert_eq!(
        failed(trip.commit().await.unwrap()).transaction.id(),
        "asked"
    );

    let mut trip = world
        .client()
        .begin_with("refused", &quick())
        .await
        .unwrap();
    trip.try_branch("b1", "stock", "take", &five())
        .await
        .unwrap();
    let refused = trip
        .try_branch("b2", "money", "take", &Amount { count: HELD + 1 })
        .await
        .unwrap();
    let Tried::Failed(failure) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!(failure.reason, "OUT_OF_STOCK");
    assert_eq!(failed(trip.commit().await.unwrap()).reason, "OUT_OF_STOCK");
    world.end_of("refused").await;
    world.expect_used(0).await;
}

#[tokio::test]
async fn a_try_that_is_not_finished_is_processing_and_may_be_asked_again() {
    let world = World::start().await;
    let mut trip = world.client().begin_with("trip", &quick()).await.unwrap();
    trip.set_wait(SECOND / 4);
    world.stock.wire.every(Operation::Try, Fault::Lost);
    let tried = trip
        .try_branch("b1", "stock", "take", &five())
        .await
        .unwrap();
    assert_eq!(tried, Tried::Processing);
    world.stock.wire.heal();
    trip.set_wait(20 * SECOND);
    let tried = trip
        .try_branch("b1", "stock", "take", &five())
        .await
        .unwrap();
    assert_eq!(tried.success::<Amount>().unwrap(), five());
    success(trip.commit().await.unwrap());
    world.stock.expect_used(5).await;
}
