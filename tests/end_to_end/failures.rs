//! The failure table of the protocol, row by row, as far as one process can show it; what takes a
//! crash or a large outage is in `ending` and in the other test files.

use std::{sync::Arc, time::Duration};

use tercet::{
    proto::tercet::{participant::v1::Operation, v1 as pb},
    store::Store as _,
};
use tercet_sdk::{
    client::{BranchState, Outcome, TransactionState},
    participant::MemoryFence,
    proto::v1::AttentionReason,
};
use tokio::sync::Notify;
use tonic::Code;

use crate::{
    account::{self, Amount, Amounts, HELD},
    coordinator::{World, expect, failed, order, processing, quick, request, success},
    wire::Fault,
};

#[tokio::test]
async fn client_dies_before_the_reply() {
    let world = World::start().await;
    let held = Arc::new(Notify::new());
    world.money.wire.fault(Operation::Try, Fault::HeldUp(held));
    let caller = world.spawn(order("o"));
    world.money.wire.called(Operation::Try, 1).await;
    caller.abort();
    assert_eq!(
        success(world.client().submit(&order("o")).await.unwrap()).id(),
        "o"
    );
    world.expect_used(5).await;
    assert_eq!(world.stock.wire.count(Operation::Try), 1);
}

#[tokio::test]
async fn crash_before_record_durable() {
    let mut world = World::start().await;
    world.store.hold();
    let caller = world.spawn(order("o"));
    world.store.held(1).await;
    world.crash().await;
    let Outcome::Processing(unknown) = caller.await.unwrap() else {
        panic!("nobody knows what became of it");
    };
    assert!(unknown.transaction().is_none());
    let get = pb::GetTransactionRequest {
        transaction_id: "o".into(),
        view: 0,
    };
    expect(
        world.raw().get_transaction(get).await,
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    );
    assert_eq!(world.stock.wire.count(Operation::Try), 0);
    success(world.client().submit(&order("o")).await.unwrap());
    world.expect_used(5).await;
}

#[tokio::test]
async fn crash_after_the_record() {
    for (reply_mode, expected) in [
        (quick().three_state(), TransactionState::Confirmed),
        (quick().two_state(), TransactionState::Canceled),
    ] {
        let mut world = World::start().await;
        world.money.wire.fault(Operation::Try, Fault::Silent);
        let five = Amount { count: 5 };
        let order = order("o")
            .options(reply_mode)
            .branch("stock", "take", &five);
        let caller = world.spawn(order);
        world.money.wire.called(Operation::Try, 1).await;
        world.crash().await;
        assert_eq!(world.end_of("o").await.state(), expected);
        let confirmed = expected == TransactionState::Confirmed;
        world
            .stock
            .expect_used(if confirmed { 10 } else { 0 })
            .await;
        world.money.expect_used(if confirmed { 5 } else { 0 }).await;
        caller.abort();
    }
}

#[tokio::test]
async fn crash_after_the_decision() {
    let mut world = World::start().await;
    world.money.wire.every(Operation::Confirm, Fault::Silent);
    world.client().submit(&order("o").accepted()).await.unwrap();
    world.money.wire.called(Operation::Confirm, 1).await;
    world.crash().await;
    world.money.wire.heal();
    let ended = world.end_of("o").await;
    assert_eq!(ended.state(), TransactionState::Confirmed);
    assert_eq!(
        world.money.wire.count(Operation::Try),
        1,
        "what was decided is not tried again"
    );
    world.expect_used(5).await;
}

#[tokio::test]
async fn try_times_out_or_its_reply_is_lost() {
    let world = World::start().await;
    for (nth, fault) in [Fault::ReplyLost, Fault::Lost, Fault::Silent]
        .into_iter()
        .enumerate()
    {
        world.money.wire.fault(Operation::Try, fault);
        let id = format!("o{nth}");
        let placed = success(world.client().submit(&order(&id)).await.unwrap());
        let money = placed.branch("b2").unwrap().as_message();
        let tries = if nth == 0 { 1 } else { 2 };
        assert_eq!(
            (money.try_attempts, money.query_attempts),
            (tries, 1),
            "queried first"
        );
    }
    world.expect_used(15).await;
}

#[tokio::test]
async fn try_arrives_after_cancel_and_cancel_arrives_before_try() {
    let world = World::start().await;
    let held = Arc::new(Notify::new());
    world
        .money
        .wire
        .fault(Operation::Try, Fault::HeldUp(Arc::clone(&held)));
    failed(
        world
            .client()
            .submit(&order("o").two_state())
            .await
            .unwrap(),
    );
    let ended = world.end_of("o").await;
    assert_eq!(
        ended.state(),
        TransactionState::Canceled,
        "its Cancel found nothing, and succeeded"
    );
    held.notify_one();
    held.notified().await; // the late Try has been answered
    world.expect_used(0).await;
}

#[tokio::test]
async fn duplicate_try_confirm_cancel() {
    let world = World::start().await;
    for operation in [Operation::Try, Operation::Confirm] {
        world.stock.wire.fault(operation, Fault::Twice);
        world.money.wire.fault(operation, Fault::Twice);
    }
    let placed = success(world.client().submit(&order("o")).await.unwrap());
    let result = placed.branch("b2").unwrap().try_result().unwrap();
    assert_eq!(
        prost::Message::decode(&result.value[..]),
        Ok(Amount { count: 5 }),
        "the stored answer"
    );
    world.expect_used(5).await;

    world.stock.wire.every(Operation::Cancel, Fault::Twice);
    let greedy = order("greedy").branch("money", "take", &Amount { count: HELD });
    failed(world.client().submit(&greedy).await.unwrap());
    world.end_of("greedy").await;
    world.expect_used(5).await;
}

#[tokio::test]
async fn commit_races_expiry() {
    let world = World::start().await;
    let options = quick().timeout(Duration::from_secs(1));
    let mut trip = world.client().begin_with("race", &options).await.unwrap();
    trip.try_branch("b1", "stock", "take", &Amount { count: 5 })
        .await
        .unwrap();
    let expire_time = trip.get().await.unwrap().expire_time().unwrap();
    let left = expire_time
        .duration_since(std::time::SystemTime::now())
        .unwrap_or_default();
    tokio::time::sleep(left).await;
    let said = trip.commit().await.unwrap();
    let ended = world.end_of("race").await;
    match said {
        Outcome::Success(_) => assert_eq!(ended.state(), TransactionState::Confirmed),
        Outcome::Failed(failed) => {
            assert_eq!(
                (failed.reason.as_str(), ended.state()),
                ("EXPIRED", TransactionState::Canceled)
            );
        }
        Outcome::Processing(it) => panic!("{it:?}"),
    }
    let used = if ended.state() == TransactionState::Confirmed {
        5
    } else {
        0
    };
    world.stock.expect_used(used).await;

    let mut late = world.client().begin_with("late", &options).await.unwrap();
    late.try_branch("b1", "stock", "take", &Amount { count: 5 })
        .await
        .unwrap();
    world.end_of("late").await;
    assert_eq!(failed(late.commit().await.unwrap()).reason, "EXPIRED");
}

#[tokio::test]
async fn confirm_or_cancel_answers_failed() {
    let world = World::start().await;
    world.money.wire.every(Operation::Confirm, Fault::Refused);
    let said = success(
        world
            .client()
            .submit(&order("two").two_state())
            .await
            .unwrap(),
    );
    assert_eq!(
        said.state(),
        TransactionState::Confirming,
        "the decision stands"
    );
    let brief = order("three").wait(Duration::from_millis(400));
    processing(world.client().submit(&brief).await.unwrap());
    let waiting = world.client().get("three").await.unwrap();
    let attention = &waiting.as_message().attentions[0];
    assert_eq!(attention.reason(), AttentionReason::Refused);
    assert_eq!(attention.branch_id, "b2");
    let listed = world
        .client()
        .list("attention = REFUSED", 10, None)
        .await
        .unwrap();
    assert_eq!(listed.transactions.len(), 2);
    world.money.wire.heal();
    for id in ["two", "three"] {
        let ended = world.end_of(id).await;
        assert_eq!(ended.state(), TransactionState::Confirmed);
        assert!(ended.as_message().attentions.is_empty());
    }
    world.expect_used(10).await;

    world.money.wire.fault(Operation::Cancel, Fault::Refused);
    let greedy = order("greedy").branch("stock", "take", &Amount { count: HELD });
    failed(world.client().submit(&greedy).await.unwrap());
    assert_eq!(
        world.end_of("greedy").await.state(),
        TransactionState::Canceled
    );
    world.expect_used(10).await;
}

#[tokio::test]
async fn confirm_without_a_try_at_the_participant() {
    let world = World::start().await;
    let forgetful = MemoryFence::new(Amounts {
        free: HELD,
        reserved: 0,
        used: 0,
    });
    let forgetful = account::served("money", forgetful).await;
    let real = world.money.wire.target();
    let held = Arc::new(Notify::new());
    world.stock.wire.fault(Operation::Try, Fault::HeldUp(held));
    world.client().submit(&order("o").accepted()).await.unwrap();
    world.money.wire.called(Operation::Try, 1).await;
    world
        .until("o", |it| {
            it.branch("b2").unwrap().state() == BranchState::Tried
        })
        .await;
    world.money.wire.redirect(forgetful);
    let stuck = world
        .until("o", |it| {
            let attentions = &it.as_message().attentions;
            attentions
                .iter()
                .any(|it| it.reason() == AttentionReason::StateMismatch)
        })
        .await;
    assert_eq!(stuck.state(), TransactionState::Confirming, "never success");
    world.money.wire.redirect(real);
    assert_eq!(world.end_of("o").await.state(), TransactionState::Confirmed);
    world.expect_used(5).await;
}

#[tokio::test]
async fn processing_for_hours() {
    let world = World::start().await;
    world
        .money
        .wire
        .every(Operation::Confirm, Fault::Processing);
    world
        .client()
        .submit(&order("slow").accepted())
        .await
        .unwrap();
    world.money.wire.called(Operation::Confirm, 3).await;
    let slow = world.client().get("slow").await.unwrap();
    assert!(
        slow.as_message().attentions.is_empty(),
        "PROCESSING is no failed attempt"
    );
    let confirmed = slow.branch("b1").unwrap().state();
    assert_eq!(
        confirmed,
        BranchState::Confirmed,
        "the other branch went on"
    );
    let other = order("other").options(quick());
    processing(
        world
            .client()
            .submit(&other.wait(Duration::from_millis(200)))
            .await
            .unwrap(),
    );
    let stock_only =
        tercet_sdk::client::Submit::new("unrelated").branch("stock", "take", &Amount { count: 1 });
    success(world.client().submit(&stock_only).await.unwrap());
    world.money.wire.heal();
    for id in ["slow", "other"] {
        world.end_of(id).await;
    }
    world.stock.expect_used(11).await;
    world.money.expect_used(10).await;
}

#[tokio::test]
async fn a_reply_larger_than_the_limit() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::TooLarge);
    let caller = world.spawn(order("o"));
    world.money.wire.called(Operation::Try, 1).await;
    world
        .until("o", |it| {
            let attentions = &it.as_message().attentions;
            attentions
                .iter()
                .any(|it| it.reason() == AttentionReason::ReplyTooLarge)
        })
        .await;
    world.money.wire.heal();
    success(caller.await.unwrap());
    world.expect_used(5).await;
}

#[tokio::test]
async fn poison_record() {
    let world = World::start().await;
    for id in ["poison", "fine"] {
        success(world.client().submit(&order(id)).await.unwrap());
    }
    assert!(
        world
            .store
            .corrupt(&tercet_core::ids::TransactionId::parse("poison").unwrap())
    );
    let get = pb::GetTransactionRequest {
        transaction_id: "poison".into(),
        view: 0,
    };
    expect(
        world.raw().get_transaction(get).await,
        Code::DataLoss,
        "STORE_CORRUPT",
    );
    expect(
        world.raw().submit_transaction(request("poison")).await,
        Code::DataLoss,
        "STORE_CORRUPT",
    );
    assert_eq!(
        world.client().get("fine").await.unwrap().state(),
        TransactionState::Confirmed
    );
    let listed = world.client().list("", 10, None).await.unwrap();
    assert_eq!(listed.transactions.len(), 1);
    success(world.client().submit(&order("new")).await.unwrap());
    assert_eq!(world.store.counters().quarantined, 1);
    world.expect_used(15).await;
}

#[tokio::test]
async fn overload() {
    let world = World::start_with(|config| config.inflight_max.value = 1).await;
    world.money.wire.every(Operation::Try, Fault::Silent);
    let caller = world.spawn(order("known"));
    world.money.wire.called(Operation::Try, 1).await;
    let details = expect(
        world.raw().submit_transaction(request("new")).await,
        Code::ResourceExhausted,
        "INFLIGHT_LIMIT",
    );
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert!(details.quota_failure().is_some());
    let known = order("known").wait(Duration::from_millis(50));
    processing(world.client().submit(&known).await.unwrap());
    world.money.wire.heal();
    success(caller.await.unwrap());
    success(world.client().submit(&order("new")).await.unwrap());
    world.expect_used(10).await;
}
