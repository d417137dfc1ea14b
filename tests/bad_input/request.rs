//! Requests that are wrong by themselves, whatever the coordinator knows.

use std::sync::Arc;

use tercet::{
    engine::EngineConfig,
    participants::{Connector, GrpcParticipants, ParticipantsConfig},
    proto::tercet::{participant::v1 as participant, v1 as pb},
};
use tonic::Code;

use crate::{
    common::{clock, ledger::Ledger},
    support::{
        bad_fields, begin, branch, coordinator, coordinator_with, expect, get, order, resource,
        try_branch,
    },
};

#[tokio::test]
async fn all_bad_fields_are_named_and_nothing_is_started() {
    let mut it = coordinator().await;
    let mut bad = order("order/7");
    bad.branches[1].target = None;
    let answer = it.client.submit_transaction(bad).await;
    let details = expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(
        bad_fields(&details),
        ["transaction_id", "branches[1].target"]
    );
    assert!(it.ledger.seen().is_empty());
}

#[tokio::test]
async fn a_branch_named_twice() {
    let mut it = coordinator().await;
    let mut bad = order("o");
    bad.branches[1].branch_id = "b1".into();
    let answer = it.client.submit_transaction(bad).await;
    let details = expect(answer, Code::InvalidArgument, "BRANCH_ID_DUPLICATE");
    assert_eq!(bad_fields(&details), ["branches[1].branch_id"]);
}

#[tokio::test]
async fn too_many_branches() {
    let mut it = coordinator().await;
    let mut bad = order("o");
    bad.branches = vec![branch("", "stock"); 65];
    let answer = it.client.submit_transaction(bad).await;
    let details = expect(answer, Code::InvalidArgument, "LIMIT_EXCEEDED");
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert_eq!(
        violation.description,
        "there are 65 branches; at most 64 are allowed"
    );
}

#[tokio::test]
async fn one_branch_more_than_an_interactive_transaction_may_have() {
    let mut it = coordinator().await;
    it.client.begin_transaction(begin("trip")).await.unwrap();
    for at in 0..64 {
        let branch = branch(&format!("s{at}"), "stock");
        it.client
            .try_branch(try_branch("trip", branch))
            .await
            .unwrap();
    }
    let answer = it
        .client
        .try_branch(try_branch("trip", branch("s64", "stock")))
        .await;
    expect(answer, Code::InvalidArgument, "LIMIT_EXCEEDED");
    let again = it
        .client
        .try_branch(try_branch("trip", branch("s63", "stock")))
        .await;
    assert_eq!(
        again.unwrap().into_inner().outcome(),
        participant::Outcome::Success
    );
}

#[tokio::test]
async fn a_filter_that_cannot_be_read() {
    let mut it = coordinator().await;
    let filter = "state = TRYING AND colour = red".to_owned();
    let list = pb::ListTransactionsRequest {
        filter: filter.clone(),
        ..pb::ListTransactionsRequest::default()
    };
    let answer = it.client.list_transactions(list).await;
    let details = expect(answer, Code::InvalidArgument, "FILTER_INVALID");
    let violation = &details.bad_request().unwrap().field_violations[0];
    assert!(
        violation
            .description
            .starts_with("at position 20: found \"colour\", expected")
    );
    let answer = it
        .client
        .count_transactions(pb::CountTransactionsRequest { filter })
        .await;
    expect(answer, Code::InvalidArgument, "FILTER_INVALID");
}

#[tokio::test]
async fn a_page_token_that_is_none() {
    let mut it = coordinator().await;
    let list = pb::ListTransactionsRequest {
        page_token: "next please".into(),
        page_size: -1,
        ..pb::ListTransactionsRequest::default()
    };
    let answer = it.client.list_transactions(list).await;
    let details = expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert_eq!(bad_fields(&details), ["page_size", "page_token"]);
    let events = pb::ListTransactionEventsRequest {
        transaction_id: "o".into(),
        page_token: "next please".into(),
        ..pb::ListTransactionEventsRequest::default()
    };
    let answer = it.client.list_transaction_events(events).await;
    expect(answer, Code::InvalidArgument, "PAGE_TOKEN_INVALID");
}

#[tokio::test]
async fn an_unknown_participant() {
    let mut it = coordinator().await;
    let mut bad = order("o");
    bad.branches[1] = branch("b2", "shipping");
    for validate_only in [true, false] {
        bad.validate_only = validate_only;
        let answer = it.client.submit_transaction(bad.clone()).await;
        let details = expect(answer, Code::NotFound, "PARTICIPANT_NOT_FOUND");
        assert_eq!(resource(&details), ("participant", "shipping"));
    }
    let answer = it.client.get_transaction(get("o")).await;
    expect(answer, Code::NotFound, "TRANSACTION_NOT_FOUND");
}

#[tokio::test]
async fn an_endpoint_that_is_not_allowed() {
    let config = ParticipantsConfig::default();
    let participants = GrpcParticipants::new(&config, Connector::tcp()).unwrap();
    let participants = Arc::new(participants);
    let ledger = Ledger::new(clock());
    let mut it = coordinator_with(ledger, participants, EngineConfig::default()).await;
    let mut bad = order("o");
    let methods = pb::MethodTarget {
        endpoint: "http://169.254.169.254:80".into(),
        try_method: "/a.A/Try".into(),
        confirm_method: "/a.A/Confirm".into(),
        cancel_method: "/a.A/Cancel".into(),
        ..pb::MethodTarget::default()
    };
    bad.branches.truncate(1);
    bad.branches[0].target = Some(pb::branch_spec::Target::Methods(methods));
    let answer = it.client.submit_transaction(bad).await;
    let message = answer.as_ref().unwrap_err().message().to_owned();
    expect(answer, Code::PermissionDenied, "TARGET_NOT_ALLOWED");
    assert!(message.contains("169.254.169.254") && message.contains("allowed_endpoints"));
}

#[tokio::test]
async fn checking_starts_nothing_and_says_what_would_be_recorded() {
    let mut it = coordinator().await;
    let mut check = order("o");
    check.validate_only = true;
    let answer = it
        .client
        .submit_transaction(check)
        .await
        .unwrap()
        .into_inner();
    let shown = answer.transaction.unwrap();
    assert_eq!(shown.state(), pb::TransactionState::Unspecified);
    let branches: Vec<_> = shown
        .branches
        .iter()
        .map(|it| it.participant.as_str())
        .collect();
    assert_eq!(branches, ["stock", "money"]);
    assert!(it.ledger.seen().is_empty());
    expect(
        it.client.get_transaction(get("o")).await,
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    );
}
