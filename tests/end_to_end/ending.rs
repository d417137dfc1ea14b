//! How a coordinator ends: asked to, with calls in flight and streams open, and when its store fails.

use std::time::Duration;

use tercet::{
    proto::tercet::{participant::v1::Operation, v1 as pb},
    server::ServeError,
};
use tercet_sdk::client::TransactionState;
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{
    coordinator::{World, expect, failed, order, processing, request, success},
    wire::Fault,
};

fn watch(id: &str) -> pb::WatchTransactionRequest {
    pb::WatchTransactionRequest {
        transaction_id: id.into(),
        after_revision: 0,
    }
}

#[tokio::test]
async fn a_shutdown_keeps_nobody_waiting_and_loses_nothing() {
    let mut world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Silent);
    let three_state = world.spawn(order("three"));
    world.money.wire.called(Operation::Try, 1).await;
    let mut stream = world
        .raw()
        .watch_transaction(watch("three"))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let mut health = HealthClient::new(world.coordinator.channel.clone());
    let mut watched = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::Serving
    );
    let two_state = world.spawn(order("two").two_state());
    world.money.wire.called(Operation::Try, 2).await;

    world.coordinator.stop();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    processing(three_state.await.unwrap());
    assert_eq!(failed(two_state.await.unwrap()).reason, "WAIT_ENDED");
    let ended = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            ended => break ended,
        }
    };
    let details = expect(ended, Code::Unavailable, "SHUTTING_DOWN");
    assert!(details.retry_info().is_some());
    let (result, took) = world.coordinator.ended().await;
    result.unwrap();
    assert!(took < Duration::from_secs(7), "{took:?}");

    world.money.wire.heal();
    world.restart().await;
    assert_eq!(
        world.end_of("three").await.state(),
        TransactionState::Confirmed
    );
    assert_eq!(
        world.end_of("two").await.state(),
        TransactionState::Canceled
    );
    world.expect_used(5).await;
}

#[tokio::test]
async fn while_it_drains_it_is_not_serving_refuses_what_is_new_and_answers_what_is_known() {
    let mut world = World::start().await;
    success(world.client().submit(&order("done")).await.unwrap());
    world.money.wire.every(Operation::Try, Fault::Silent); // a call in flight holds the end up
    world
        .client()
        .submit(&order("open").accepted())
        .await
        .unwrap();
    world.money.wire.called(Operation::Try, 2).await;
    let mut health = HealthClient::new(world.coordinator.channel.clone());
    let mut watched = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    watched.message().await.unwrap();
    world.coordinator.stop();
    assert_eq!(
        watched.message().await.unwrap().unwrap().status(),
        ServingStatus::NotServing
    );
    let checked = health
        .check(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(checked.status(), ServingStatus::NotServing);
    let refused = world.raw().submit_transaction(request("new")).await;
    let details = expect(refused, Code::Unavailable, "SHUTTING_DOWN");
    assert!(details.retry_info().is_some());
    success(world.client().submit(&order("done")).await.unwrap());
    let (result, _) = world.coordinator.ended().await;
    result.unwrap();
    world.money.wire.heal();
    world.restart().await;
    world.end_of("open").await;
    world.expect_used(10).await;
}

#[tokio::test]
async fn a_broken_store_is_unavailable_and_ends_the_server_with_an_error_within_a_second() {
    let mut world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Silent);
    let two_state = tokio::spawn({
        let mut raw = world.raw();
        let mut two = request("two");
        two.options = Some(pb::TransactionOptions {
            reply_mode: pb::ReplyMode::TwoState.into(),
            ..pb::TransactionOptions::default()
        });
        async move { raw.submit_transaction(two).await }
    });
    world.money.wire.called(Operation::Try, 1).await;
    let mut stream = world
        .raw()
        .watch_transaction(watch("two"))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    let mut health = HealthClient::new(world.coordinator.channel.clone());
    let mut watched = health
        .watch(HealthCheckRequest::default())
        .await
        .unwrap()
        .into_inner();
    watched.message().await.unwrap().unwrap();

    world.store.fail_commit(1);
    let refused = world.raw().submit_transaction(request("o")).await;
    let details = expect(refused, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(details.retry_info().is_some());
    let (result, took) = world.coordinator.ended().await;
    assert!(
        matches!(result, Err(ServeError::StoreBroken(_))),
        "{result:?}"
    );
    assert!(took < Duration::from_secs(1), "{took:?}");
    expect(
        two_state.await.unwrap(),
        Code::Unavailable,
        "STORE_UNAVAILABLE",
    );
    let status = watched.message().await;
    let not_serving = status
        .as_ref()
        .is_ok_and(|it| it.is_none_or(|it| it.status() == ServingStatus::NotServing));
    assert!(not_serving || status.is_err(), "{status:?}");
    assert_eq!(world.stock.wire.count(Operation::Confirm), 0);

    world.money.wire.heal();
    world.crash().await;
    assert_eq!(
        world.end_of("two").await.state(),
        TransactionState::Canceled
    );
    world.expect_used(0).await;
}
