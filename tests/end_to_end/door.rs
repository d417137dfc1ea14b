//! What stands at the door: checking without starting, ids that are assigned, late submissions, health
//! and reflection.

use std::time::{Duration, SystemTime};

use tercet::proto::tercet::{participant::v1::Operation, v1 as pb};
use tonic::Code;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::coordinator::{World, expect, order, request, success};

const SERVICE: &str = "tercet.v1.CoordinatorService";

#[tokio::test]
async fn validate_only_checks_everything_and_starts_nothing() {
    let world = World::start().await;
    let validate = |request| pb::SubmitTransactionRequest {
        validate_only: true,
        ..request
    };
    let checked = world
        .raw()
        .submit_transaction(validate(request("o")))
        .await
        .unwrap();
    let checked = checked.into_inner().transaction.unwrap();
    assert_eq!(checked.state(), pb::TransactionState::Unspecified);
    assert_eq!(checked.branches.len(), 2);
    world.client().validate(&order("o")).await.unwrap();

    let mut nobody = request("o");
    let Some(pb::branch_spec::Target::Contract(target)) = &mut nobody.branches[1].target else {
        panic!()
    };
    target.participant = "nobody".into();
    let refused = world.raw().submit_transaction(validate(nobody)).await;
    expect(refused, Code::NotFound, "PARTICIPANT_NOT_FOUND");
    let empty = pb::SubmitTransactionRequest {
        branches: Vec::new(),
        ..request("o")
    };
    let refused = world.raw().submit_transaction(validate(empty)).await;
    let details = expect(refused, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "branches"
    );

    assert_eq!(world.client().count("").await.unwrap().count, 0);
    assert_eq!(world.stock.wire.count(Operation::Try), 0);
    world.raw().submit_transaction(request("o")).await.unwrap();
    let known = world
        .raw()
        .submit_transaction(validate(request("o")))
        .await
        .unwrap();
    let known = known.into_inner().transaction.unwrap();
    assert_eq!(
        known.state(),
        pb::TransactionState::Confirmed,
        "the id is in use already"
    );
}

#[tokio::test]
async fn an_id_that_is_not_given_is_assigned() {
    let world = World::start().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let said = world
            .raw()
            .submit_transaction(request(""))
            .await
            .unwrap()
            .into_inner();
        ids.push(said.transaction.unwrap().transaction_id);
    }
    let begun = world
        .raw()
        .begin_transaction(pb::BeginTransactionRequest::default())
        .await
        .unwrap();
    ids.push(begun.into_inner().transaction.unwrap().transaction_id);
    for id in &ids {
        let id = uuid::Uuid::parse_str(id).unwrap();
        assert_eq!(id.get_version_num(), 7);
    }
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3);
    world.expect_used(10).await;
}

#[tokio::test]
async fn a_submission_that_arrives_late_is_refused() {
    let world = World::start().await;
    let late = pb::SubmitTransactionRequest {
        submit_expire_time: Some((SystemTime::now() - Duration::from_secs(5)).into()),
        ..request("o")
    };
    let refused = world.raw().submit_transaction(late).await;
    let details = expect(refused, Code::FailedPrecondition, "TRANSACTION_EXPIRED");
    assert!(details.precondition_failure().is_some());
    let unknown = world.client().get("o").await.unwrap_err();
    assert_eq!(unknown.refused().unwrap().reason, "TRANSACTION_NOT_FOUND");
    success(world.client().submit(&order("o")).await.unwrap());
}

#[tokio::test]
async fn health_is_checked_and_watched() {
    let world = World::start().await;
    let mut health = HealthClient::new(world.coordinator.channel.clone());
    for service in ["", SERVICE] {
        let ask = HealthCheckRequest {
            service: service.into(),
        };
        let said = health.check(ask.clone()).await.unwrap().into_inner();
        assert_eq!(said.status(), ServingStatus::Serving);
        let mut watched = health.watch(ask).await.unwrap().into_inner();
        let said = watched.message().await.unwrap().unwrap();
        assert_eq!(said.status(), ServingStatus::Serving);
    }
    let unknown = HealthCheckRequest {
        service: "shop.Stock".into(),
    };
    assert_eq!(
        health.check(unknown).await.unwrap_err().code(),
        Code::NotFound
    );
}

#[tokio::test]
async fn reflection_lists_the_services_and_describes_them() {
    let world = World::start().await;
    let mut reflection = ServerReflectionClient::new(world.coordinator.channel.clone());
    let ask = |request| ServerReflectionRequest {
        host: String::new(),
        message_request: Some(request),
    };
    let questions = [
        ask(MessageRequest::ListServices(String::new())),
        ask(MessageRequest::FileContainingSymbol(SERVICE.into())),
    ];
    let mut answers = reflection
        .server_reflection_info(tokio_stream::iter(questions))
        .await
        .unwrap()
        .into_inner();
    let listed = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::ListServicesResponse(listed) = listed else {
        panic!("{listed:?}")
    };
    let listed: Vec<_> = listed.service.into_iter().map(|it| it.name).collect();
    for service in [SERVICE, "grpc.health.v1.Health"] {
        assert!(listed.iter().any(|it| it == service), "{listed:?}");
    }
    let described = answers
        .message()
        .await
        .unwrap()
        .unwrap()
        .message_response
        .unwrap();
    let MessageResponse::FileDescriptorResponse(described) = described else {
        panic!("{described:?}")
    };
    assert!(!described.file_descriptor_proto.is_empty());
}
