//! Interactive transactions: what a commit names, and what is certain of it.

use std::time::{Duration, SystemTime};

use tercet_sdk::{
    client::{Client, Error, Interactive, Outcome, PROTECTION_DEFAULT, Payload, Tried},
    proto::{participant::v1::Outcome as OutcomeCode, v1::*},
};
use tonic::{Code, Status};

use crate::{
    confirmed,
    coordinator::{Script, Step, coordinator, refusal},
    processing, transaction,
};

fn tried(outcome: OutcomeCode) -> Step<TryBranchResponse> {
    Step::Reply(TryBranchResponse {
        outcome: outcome.into(),
        result: Some(Payload::message(&String::from("12A"))),
        ..TryBranchResponse::default()
    })
}

async fn begin(script: &Script, client: &Client) -> Interactive {
    script.begin.script([Step::Reply(BeginTransactionResponse {
        transaction: Some(transaction(
            TransactionState::Trying,
            OutcomeCode::Processing,
        )),
    })]);
    client.begin("trip-7").await.unwrap()
}

fn committed() -> Step<CommitTransactionResponse> {
    Step::Reply(CommitTransactionResponse {
        transaction: Some(confirmed()),
    })
}

#[tokio::test(start_paused = true)]
async fn the_clients_own_clock_says_until_when_the_id_protects() {
    let (script, client) = coordinator();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    begin(&script, &client.clock(move || long_ago)).await;
    let until = (long_ago + PROTECTION_DEFAULT).into();
    assert_eq!(script.begin.asked()[0].submit_expire_time, Some(until));
}

#[tokio::test(start_paused = true)]
async fn commit_names_every_branch_that_is_or_may_be_recorded() {
    let (script, client) = coordinator();
    let mut trip = begin(&script, &client).await;
    assert!(script.begin.asked()[0].submit_expire_time.is_some());
    trip.set_wait(Duration::from_millis(10));
    let ask = String::from("window");

    script.try_branch.script([tried(OutcomeCode::Success)]);
    let seat: String = trip
        .try_branch("seat", "air", "seat", &ask)
        .await
        .unwrap()
        .success()
        .unwrap();
    assert_eq!(seat, "12A");

    script.try_branch.script([tried(OutcomeCode::Processing)]);
    let room = trip.try_branch("room", "inn", "room", &ask).await.unwrap();
    assert_eq!(room, Tried::Processing);

    script
        .try_branch
        .script([Step::Refuse(Status::unavailable("reset"))]);
    let error = trip
        .try_branch("car", "cars", "car", &ask)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Indeterminate { .. }));

    script.try_branch.script([Step::Refuse(refusal(
        Code::InvalidArgument,
        "FIELD_INVALID",
    ))]);
    let error = trip
        .try_branch("bad id", "cars", "car", &ask)
        .await
        .unwrap_err();
    assert!(error.refused().is_some());

    // A call that its caller gives up half way may have arrived.
    script.try_branch.script([Step::Hang]);
    let call = tokio::time::timeout(
        Duration::from_millis(1),
        trip.try_branch("boat", "boats", "boat", &ask),
    );
    assert!(call.await.is_err());

    // A branch that is recorded stays so, whatever a repetition of it meets.
    script.try_branch.script([Step::Refuse(refusal(
        Code::ResourceExhausted,
        "RATE_LIMITED",
    ))]);
    trip.try_branch("seat", "air", "seat", &ask)
        .await
        .unwrap_err();

    script.commit.script([committed()]);
    assert!(matches!(trip.commit().await.unwrap(), Outcome::Success(_)));
    assert_eq!(
        script.commit.asked()[0].branch_ids,
        ["boat", "car", "room", "seat"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_interactive_transaction_that_is_dropped_sends_nothing() {
    let (script, client) = coordinator();
    let mut trip = begin(&script, &client).await;
    script.try_branch.script([tried(OutcomeCode::Success)]);
    trip.try_branch("seat", "air", "seat", &String::new())
        .await
        .unwrap();
    drop(trip);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(script.commit.asked().is_empty() && script.rollback.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn commit_and_rollback_without_an_answer_are_processing_and_a_refusal_is_an_error() {
    let (script, client) = coordinator();
    let mut trip = begin(&script, &client).await;
    trip.set_wait(Duration::from_secs(1));

    script.commit.script([Step::Hang]);
    processing(trip.commit().await.unwrap());
    script.commit.script([Step::Refuse(refusal(
        Code::FailedPrecondition,
        "BRANCH_SET_MISMATCH",
    ))]);
    let error = trip.commit().await.unwrap_err();
    assert!(error.to_string().contains("repeat the branches"), "{error}");

    script.rollback.script([Step::Hang]);
    processing(trip.rollback("changed my mind").await.unwrap());
    script.rollback.script([Step::Refuse(refusal(
        Code::FailedPrecondition,
        "DECISION_CONFLICT",
    ))]);
    let error = trip.rollback("changed my mind").await.unwrap_err();
    assert_eq!(error.refused().unwrap().reason, "DECISION_CONFLICT");
}
