//! Requests that a transaction's state, or the coordinator's, does not allow.

use std::{sync::Arc, time::Duration};

use tercet::{
    engine::EngineConfig,
    proto::tercet::{participant::v1 as participant, v1 as pb},
};
use tonic::{Code, Request};
use tonic_types::ErrorDetails;

use crate::{
    common::{self, clock, ledger::Ledger},
    support::{
        begin, branch, commit, coordinator, coordinator_with, expect, get, order, resource,
        rollback, try_branch, violated,
    },
    unreadable::raw,
};

#[tokio::test]
async fn an_unknown_transaction() {
    let mut it = coordinator().await;
    let not_found = |details: ErrorDetails| assert_eq!(resource(&details), ("transaction", "o"));
    let answer = it.client.get_transaction(get("o")).await;
    not_found(expect(answer, Code::NotFound, "TRANSACTION_NOT_FOUND"));
    let answer = it
        .client
        .try_branch(try_branch("o", branch("b1", "stock")))
        .await;
    not_found(expect(answer, Code::NotFound, "TRANSACTION_NOT_FOUND"));
    let answer = it.client.commit_transaction(commit("o", &[])).await;
    not_found(expect(answer, Code::NotFound, "TRANSACTION_NOT_FOUND"));
    let watch = pb::WatchTransactionRequest {
        transaction_id: "o".into(),
        after_revision: 0,
    };
    let answer = it.client.watch_transaction(watch).await;
    not_found(expect(
        answer.map(drop),
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    ));
}

#[tokio::test]
async fn the_same_id_with_other_content() {
    let mut it = coordinator().await;
    it.client.submit_transaction(order("o")).await.unwrap();
    let mut other = order("o");
    other.branches.swap(0, 1);
    for validate_only in [true, false] {
        other.validate_only = validate_only;
        let answer = it.client.submit_transaction(other.clone()).await;
        let details = expect(answer, Code::AlreadyExists, "TRANSACTION_ID_REUSED");
        assert_eq!(resource(&details), ("transaction", "o"));
    }
    let answer = it.client.begin_transaction(begin("o")).await;
    expect(answer, Code::AlreadyExists, "TRANSACTION_ID_REUSED");
}

#[tokio::test]
async fn the_same_branch_with_other_content() {
    let mut it = coordinator().await;
    it.client.begin_transaction(begin("trip")).await.unwrap();
    let request = try_branch("trip", branch("b1", "stock"));
    it.client.try_branch(request).await.unwrap();
    let answer = it
        .client
        .try_branch(try_branch("trip", branch("b1", "money")))
        .await;
    let details = expect(answer, Code::AlreadyExists, "BRANCH_ID_REUSED");
    assert_eq!(resource(&details), ("branch", "b1"));
}

#[tokio::test]
async fn what_the_state_does_not_allow() {
    let mut it = coordinator().await;
    it.client.submit_transaction(order("o")).await.unwrap();
    let answer = it
        .client
        .try_branch(try_branch("o", branch("b3", "stock")))
        .await;
    let details = expect(answer, Code::FailedPrecondition, "STATE_INVALID");
    assert_eq!(violated(&details), "transaction o");
    let answer = it.client.rollback_transaction(rollback("o")).await;
    let details = expect(answer, Code::FailedPrecondition, "DECISION_CONFLICT");
    assert_eq!(violated(&details), "transaction o");
}

#[tokio::test]
async fn a_commit_of_other_branches_than_were_tried() {
    let mut it = coordinator().await;
    it.client.begin_transaction(begin("trip")).await.unwrap();
    let request = try_branch("trip", branch("b1", "stock"));
    it.client.try_branch(request).await.unwrap();
    let answer = it
        .client
        .commit_transaction(commit("trip", &["b1", "b2"]))
        .await;
    let details = expect(answer, Code::FailedPrecondition, "BRANCH_SET_MISMATCH");
    assert_eq!(violated(&details), "transaction trip");
}

#[tokio::test]
async fn a_submit_that_comes_too_late() {
    let mut it = coordinator().await;
    let mut late = order("o");
    late.submit_expire_time = Some(prost_types::Timestamp {
        seconds: common::START_MS / 1000 - 1,
        nanos: 0,
    });
    for validate_only in [true, false] {
        late.validate_only = validate_only;
        let answer = it.client.submit_transaction(late.clone()).await;
        let details = expect(answer, Code::FailedPrecondition, "TRANSACTION_EXPIRED");
        assert_eq!(violated(&details), "transaction o");
    }
    assert!(it.ledger.seen().is_empty());
}

#[tokio::test]
async fn more_than_may_be_in_flight() {
    let ledger = Ledger::new(clock());
    ledger.black_hole("money");
    let config = EngineConfig {
        inflight_max: 1,
        ..EngineConfig::default()
    };
    let participants = Arc::clone(&ledger);
    let mut it = coordinator_with(ledger, participants, config).await;
    let mut accepted = order("o1");
    accepted.options = Some(pb::TransactionOptions {
        reply_mode: pb::ReplyMode::Accepted.into(),
        ..pb::TransactionOptions::default()
    });
    it.client.submit_transaction(accepted).await.unwrap();
    let answer = it.client.submit_transaction(order("o2")).await;
    let details = expect(answer, Code::ResourceExhausted, "INFLIGHT_LIMIT");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert_eq!(details.quota_failure().unwrap().violations.len(), 1);
    let unread = pb::SubmitTransactionRequest {
        branches: Vec::new(),
        ..order("o3")
    };
    let answer = it.client.submit_transaction(unread.clone()).await;
    expect(answer, Code::ResourceExhausted, "INFLIGHT_LIMIT");
    let validated = pb::SubmitTransactionRequest {
        validate_only: true,
        ..unread.clone()
    };
    let answer = it.client.submit_transaction(validated).await;
    expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    let no_id = pb::SubmitTransactionRequest {
        transaction_id: "no id".into(),
        ..unread
    };
    let answer = it.client.submit_transaction(no_id).await;
    expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    let garbage = raw(&it.channel, &[], b"\0\0\0\0\x03\x0a\x64a").await;
    expect(garbage, Code::InvalidArgument, "FIELD_INVALID");
    let interactive = pb::BeginTransactionRequest {
        transaction_id: "o4".into(),
        ..pb::BeginTransactionRequest::default()
    };
    let answer = it.client.begin_transaction(interactive).await;
    expect(answer, Code::ResourceExhausted, "INFLIGHT_LIMIT");
}

#[tokio::test]
async fn a_two_state_caller_whose_wait_ends_first() {
    let mut it = coordinator().await;
    it.ledger.black_hole("money");
    let mut two_state = order("o");
    two_state.options = Some(pb::TransactionOptions {
        reply_mode: pb::ReplyMode::TwoState.into(),
        ..pb::TransactionOptions::default()
    });
    let mut first = it.client.clone();
    let request = two_state.clone();
    let first = tokio::spawn(async move { first.submit_transaction(request).await });
    let id = common::id("o");
    while it.engine.record(&id).is_err() {
        tokio::task::yield_now().await;
    }
    two_state.wait_timeout = Some(prost_types::Duration::default());
    let answer = it.client.submit_transaction(two_state).await;
    expect(answer, Code::DeadlineExceeded, "WAIT_ENDED");
    let first = first.await.unwrap().unwrap().into_inner();
    let outcome = first.transaction.unwrap().outcome();
    assert_eq!(outcome, participant::Outcome::Failed);
}

#[tokio::test]
async fn a_coordinator_that_goes_away() {
    let mut it = coordinator().await;
    it.engine.drain();
    let answer = it.client.submit_transaction(order("o")).await;
    let details = expect(answer, Code::Unavailable, "SHUTTING_DOWN");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn a_store_that_has_failed() {
    let mut it = coordinator().await;
    it.store.fail_commit(1);
    let answer = it.client.submit_transaction(order("o")).await;
    let details = expect(answer, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
}

#[tokio::test]
async fn a_record_that_is_corrupt() {
    let mut it = coordinator().await;
    it.client.submit_transaction(order("o")).await.unwrap();
    assert!(it.store.corrupt(&common::id("o")));
    let answer = it.client.get_transaction(get("o")).await;
    expect(answer, Code::DataLoss, "STORE_CORRUPT");
}

#[tokio::test]
async fn a_report_without_the_token() {
    let mut it = coordinator().await;
    it.client.submit_transaction(order("o")).await.unwrap();
    let report = |branch: &str, token: u128| pb::ReportBranchRequest {
        transaction_id: "o".into(),
        branch_id: branch.into(),
        operation: participant::Operation::Try.into(),
        outcome: participant::Outcome::Success.into(),
        report_token: format!("{token:032x}"),
        ..pb::ReportBranchRequest::default()
    };
    let token = it
        .engine
        .record(&common::id("o"))
        .unwrap()
        .origin
        .report_token;
    let answer = it.client.report_branch(report("b1", token ^ 1)).await;
    expect(answer, Code::PermissionDenied, "REPORT_TOKEN_INVALID");
    it.client.report_branch(report("b1", token)).await.unwrap();
    let answer = it.client.report_branch(report("b9", token)).await;
    let details = expect(answer, Code::NotFound, "BRANCH_NOT_FOUND");
    assert_eq!(resource(&details), ("branch", "b9"));
}

#[tokio::test]
async fn a_call_is_answered_before_its_deadline() {
    let mut it = coordinator().await;
    it.ledger.black_hole("money");
    let mut request = Request::new(order("o"));
    request.set_timeout(Duration::from_millis(600));
    let answer = it
        .client
        .submit_transaction(request)
        .await
        .unwrap()
        .into_inner();
    let outcome = answer.transaction.unwrap().outcome();
    assert_eq!(outcome, participant::Outcome::Processing);
}
