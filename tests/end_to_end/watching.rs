//! WatchTransaction: snapshot, events, going on after a revision, and what is no longer kept.

use tercet::proto::tercet::{
    participant::v1::Operation,
    v1::{self as pb, watch_transaction_response::Item},
};
use tercet_sdk::client::{Change, Submit, TransactionState};
use tonic::{Code, Streaming};

use crate::{
    account::Amount,
    coordinator::{World, expect, order, success},
    wire::Fault,
};

fn watch(id: &str, after_revision: i64) -> pb::WatchTransactionRequest {
    pb::WatchTransactionRequest {
        transaction_id: id.into(),
        after_revision,
    }
}

async fn item(stream: &mut Streaming<pb::WatchTransactionResponse>) -> Option<Item> {
    stream.message().await.unwrap().map(|it| it.item.unwrap())
}

/// The revisions of all events up to the end of the stream.
async fn events(stream: &mut Streaming<pb::WatchTransactionResponse>) -> Vec<pb::TransactionEvent> {
    let mut events = Vec::new();
    while let Some(item) = item(stream).await {
        match item {
            Item::Event(event) => events.push(event),
            Item::Heartbeat(_) => {}
            Item::Snapshot(it) => panic!("{it:?}"),
        }
    }
    events
}

#[tokio::test]
async fn the_snapshot_comes_first_then_every_event_and_the_end() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Lost);
    world.client().submit(&order("o").accepted()).await.unwrap();
    let mut stream = world
        .raw()
        .watch_transaction(watch("o", 0))
        .await
        .unwrap()
        .into_inner();
    let Some(Item::Snapshot(snapshot)) = item(&mut stream).await else {
        panic!("no snapshot");
    };
    assert_eq!(snapshot.state(), pb::TransactionState::Trying);
    world.money.wire.heal();
    let told = events(&mut stream).await;
    assert!(told.iter().all(|it| it.revision > snapshot.revision));
    assert_eq!(
        told.last().unwrap().state(),
        pb::TransactionState::Confirmed
    );
    let kept = world.client().events("o").await.unwrap();
    let kept = kept
        .iter()
        .filter(|it| it.revision > snapshot.revision)
        .count();
    assert_eq!(told.len(), kept, "none is left out and none told twice");
}

#[tokio::test]
async fn it_goes_on_after_a_revision() {
    let world = World::start().await;
    success(world.client().submit(&order("o")).await.unwrap());
    let all = world.client().events("o").await.unwrap();
    let last = all.last().unwrap().revision;
    for after in 1..=last {
        let mut stream = world
            .raw()
            .watch_transaction(watch("o", after))
            .await
            .unwrap()
            .into_inner();
        let told: Vec<_> = events(&mut stream)
            .await
            .iter()
            .map(|it| it.revision)
            .collect();
        let expected: Vec<_> = all
            .iter()
            .map(|it| it.revision)
            .filter(|it| *it > after)
            .collect();
        assert_eq!(told, expected, "after {after}");
    }
    for wrong in [last + 1, -1] {
        let refused = world.raw().watch_transaction(watch("o", wrong)).await;
        expect(refused, Code::InvalidArgument, "FIELD_INVALID");
    }
    let unknown = world.raw().watch_transaction(watch("p", 0)).await;
    expect(unknown, Code::NotFound, "TRANSACTION_NOT_FOUND");
}

#[tokio::test]
async fn what_is_no_longer_kept_is_said_to_be_compacted() {
    let world = World::start().await;
    let one = Amount { count: 1 };
    let long = (0..64).fold(Submit::new("long"), |order, _| {
        order.branch("stock", "take", &one)
    });
    success(world.client().submit(&long).await.unwrap());
    let refused = world.raw().watch_transaction(watch("long", 1)).await;
    expect(refused, Code::OutOfRange, "REVISION_COMPACTED");
    let mut stream = world
        .raw()
        .watch_transaction(watch("long", 0))
        .await
        .unwrap()
        .into_inner();
    assert!(matches!(item(&mut stream).await, Some(Item::Snapshot(_))));
    assert!(item(&mut stream).await.is_none(), "it has ended");
}

#[tokio::test]
async fn a_watch_of_the_sdk_ends_with_the_transaction() {
    let world = World::start().await;
    world.client().submit(&order("o").accepted()).await.unwrap();
    let mut watch = world.client().watch("o");
    let mut last = None;
    while let Some(change) = watch.next().await {
        last = Some(match change.unwrap() {
            Change::Snapshot(it) => it.state(),
            Change::Event(it) => it.state(),
        });
    }
    assert_eq!(last, Some(TransactionState::Confirmed));
}

#[tokio::test]
async fn a_watcher_that_goes_away_changes_nothing() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Lost);
    world.client().submit(&order("o").accepted()).await.unwrap();
    for _ in 0..20 {
        let mut stream = world
            .raw()
            .watch_transaction(watch("o", 0))
            .await
            .unwrap()
            .into_inner();
        item(&mut stream).await.unwrap();
    }
    world.money.wire.heal();
    world.end_of("o").await;
    world.expect_used(5).await;
}
