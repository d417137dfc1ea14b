//! Submitting: what is certain, and what is PROCESSING.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime},
};

use prost::Message as _;
use tercet_sdk::{
    client::{Branch, Client, Error, Failure, Methods, Outcome, Payload, Submit},
    proto::{participant::v1::Outcome as OutcomeCode, v1::*},
};
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    confirmed,
    coordinator::{Step, coordinator, refusal, refusal_for_now},
    processing, transaction,
};

const PROOF: Duration = Duration::from_secs(24 * 60 * 60);

fn order() -> Submit {
    Submit::new("order-7")
        .transaction_type("place-order")
        .wait(Duration::from_secs(5))
        .branch_json("inventory", "reserve", "{}")
}

fn submitted(transaction: Transaction) -> Step<SubmitTransactionResponse> {
    Step::Reply(SubmitTransactionResponse {
        transaction: Some(transaction),
    })
}

/// Submits against a script that must be used up exactly.
async fn submit(
    steps: Vec<Step<SubmitTransactionResponse>>,
) -> Result<Outcome, tercet_sdk::client::Refused> {
    let (script, client) = coordinator();
    let count = steps.len();
    script.submit.script(steps);
    let outcome = client.submit(&order()).await;
    assert_eq!(script.submit.asked().len(), count, "attempts");
    outcome
}

#[tokio::test(start_paused = true)]
async fn the_three_outcomes_are_told_apart() {
    let success = submit(vec![submitted(confirmed())]).await.unwrap();
    assert!(matches!(success, Outcome::Success(t) if t.id() == "order-7"));

    let mut canceled = transaction(TransactionState::Canceled, OutcomeCode::Failed);
    canceled.failure = Some(Failure {
        reason: "OUT_OF_STOCK".into(),
        ..Failure::default()
    });
    let failed = submit(vec![submitted(canceled)]).await.unwrap();
    assert!(matches!(failed, Outcome::Failed(f) if f.reason == "OUT_OF_STOCK"));

    for outcome in [OutcomeCode::Processing, OutcomeCode::Unspecified] {
        let running = transaction(TransactionState::Trying, outcome);
        let p = processing(submit(vec![submitted(running)]).await.unwrap());
        assert_eq!(p.transaction_id(), "order-7");
        assert!(p.transaction().is_some() && p.cause().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn its_own_timeout_is_processing() {
    let started = Instant::now();
    let p = processing(submit(vec![Step::Hang]).await.unwrap());
    assert_eq!(p.transaction_id(), "order-7");
    assert!(matches!(p.cause(), Some(Error::Indeterminate { .. })));
    // The wait and the margin for the way, and then it is over.
    assert!(
        started.elapsed() < Duration::from_secs(7),
        "{:?}",
        started.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn an_unavailable_coordinator_is_processing_not_failure() {
    let (script, client) = coordinator();
    script
        .submit
        .script((0..10).map(|_| Step::Refuse(Status::unavailable("connection reset"))));
    let p = processing(client.submit(&order()).await.unwrap());
    assert!(p.cause().unwrap().to_string().contains("connection reset"));
    let attempts = script.submit.asked().len();
    assert!((2..=10).contains(&attempts), "{attempts} attempts");
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_processing_because_an_earlier_process_may_have_submitted()
 {
    let unused = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", unused.local_addr().unwrap());
    drop(unused);
    let order = order().wait(Duration::ZERO);
    let outcome = Client::new(url).unwrap().submit(&order).await.unwrap();
    assert!(processing(outcome).cause().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_the_coordinator_did_not_make_proves_nothing() {
    for code in [
        Code::InvalidArgument,
        Code::AlreadyExists,
        Code::PermissionDenied,
        Code::FailedPrecondition,
        Code::OutOfRange,
        Code::Unauthenticated,
        Code::Unimplemented,
    ] {
        let outcome = submit(vec![Step::Refuse(Status::new(code, "by a proxy"))]).await;
        processing(outcome.unwrap());
    }
    let mut details = ErrorDetails::new();
    details.set_error_info("FIELD_INVALID", "another.domain", HashMap::new());
    let foreign = Status::with_error_details(Code::InvalidArgument, "by a proxy", details);
    processing(submit(vec![Step::Refuse(foreign)]).await.unwrap());
    // A reason from the future, too.
    let unknown = refusal(Code::InvalidArgument, "WRITTEN_BUT_ODD");
    processing(submit(vec![Step::Refuse(unknown)]).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_the_coordinator_refused_at_the_door_is_an_error() {
    for (code, reason) in [
        (Code::InvalidArgument, "FIELD_INVALID"),
        (Code::InvalidArgument, "BRANCH_ID_DUPLICATE"),
        (Code::InvalidArgument, "LIMIT_EXCEEDED"),
        (Code::NotFound, "PARTICIPANT_NOT_FOUND"),
        (Code::AlreadyExists, "TRANSACTION_ID_REUSED"),
        (Code::FailedPrecondition, "TRANSACTION_EXPIRED"),
        (Code::FailedPrecondition, "PARTICIPANT_DRAINING"),
        (Code::PermissionDenied, "TARGET_NOT_ALLOWED"),
        (Code::Unavailable, "DEGRADED"),
    ] {
        let refused = submit(vec![Step::Refuse(refusal(code, reason))])
            .await
            .unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (code, reason));
    }
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_stops_or_whose_store_fails_may_have_recorded_it() {
    for reason in ["SHUTTING_DOWN", "STORE_UNAVAILABLE", "WAIT_ENDED"] {
        let status = refusal_for_now(Code::Unavailable, reason, Duration::from_secs(60));
        let p = processing(submit(vec![Step::Refuse(status)]).await.unwrap());
        assert!(p.cause().unwrap().to_string().contains(reason));
        assert_eq!(
            p.cause().unwrap().retry_delay(),
            Some(Duration::from_secs(60))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_says_what_is_wrong_and_what_to_do() {
    let mut details = ErrorDetails::new();
    details.set_error_info("FIELD_INVALID", "tercet", HashMap::new());
    details.add_bad_request_violation("branches[0].payload", "has 70000 bytes; at most 65536");
    let status = Status::with_error_details(Code::InvalidArgument, "1 field is wrong", details);
    let refused = submit(vec![Step::Refuse(status)]).await.unwrap_err();
    assert_eq!(refused.violations[0].field, "branches[0].payload");
    assert_eq!(
        refused.to_string(),
        "FIELD_INVALID: 1 field is wrong; branches[0].payload: has 70000 bytes; at most 65536 \
         (correct the request)"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_attempt_without_answer_is_processing() {
    for reason in [
        "FIELD_INVALID",
        "PARTICIPANT_NOT_FOUND",
        "TRANSACTION_EXPIRED",
    ] {
        let outcome = submit(vec![
            Step::Refuse(Status::unavailable("connection reset")),
            Step::Refuse(refusal(Code::InvalidArgument, reason)),
        ]);
        let p = processing(outcome.await.unwrap());
        assert!(p.cause().unwrap().to_string().contains(reason));
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_of_other_content_is_refused_even_then_or_its_outcome_would_be_taken_for_ours() {
    let outcome = submit(vec![
        Step::Refuse(Status::unavailable("connection reset")),
        Step::Refuse(refusal(Code::AlreadyExists, "TRANSACTION_ID_REUSED")),
    ]);
    assert_eq!(outcome.await.unwrap_err().reason, "TRANSACTION_ID_REUSED");
}

#[tokio::test(start_paused = true)]
async fn a_busy_coordinator_is_asked_again_no_sooner_than_it_said() {
    let delay = Duration::from_secs(2);
    let busy = || {
        Step::Refuse(refusal_for_now(
            Code::ResourceExhausted,
            "INFLIGHT_LIMIT",
            delay,
        ))
    };
    let started = Instant::now();
    let outcome = submit(vec![busy(), submitted(confirmed())]).await.unwrap();
    assert!(matches!(outcome, Outcome::Success(_)));
    assert!(started.elapsed() >= delay);

    // When the next attempt falls behind the wait, the refusal is the answer: nothing is running.
    let refused = submit(vec![busy(), busy(), busy()]).await.unwrap_err();
    assert_eq!(refused.retry_delay, Some(delay));
}

#[tokio::test(start_paused = true)]
async fn a_resend_has_the_same_id_and_content() {
    let (script, client) = coordinator();
    script.submit.script([
        Step::Refuse(Status::unavailable("connection reset")),
        Step::Refuse(Status::internal("reset again")),
        submitted(confirmed()),
    ]);
    client.submit(&order()).await.unwrap();
    let mut asked = script.submit.asked();
    for request in &mut asked {
        // The wait that is left is no part of the content.
        assert!(request.wait_timeout.take().unwrap().seconds < 6);
    }
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|request| *request == asked[0]));
    assert_eq!(asked[0].transaction_id, "order-7");
}

#[tokio::test(start_paused = true)]
async fn every_submission_says_how_long_its_id_protects() {
    let (script, client) = coordinator();
    script.submit.script([submitted(confirmed())]);
    let before = SystemTime::now();
    client.submit(&order()).await.unwrap();
    let until = script.submit.asked()[0].submit_expire_time.unwrap();
    let until = SystemTime::try_from(until).unwrap();
    assert!(until >= before + PROOF - Duration::from_secs(1));
    assert!(until <= SystemTime::now() + PROOF);
}

#[tokio::test(start_paused = true)]
async fn no_id_is_sent_after_its_protection_is_over() {
    let (script, client) = coordinator();
    let late = order().expires_at(SystemTime::now() - Duration::from_secs(1));
    let p = processing(client.submit(&late).await.unwrap());
    assert!(matches!(p.cause(), Some(Error::ProtectionOver)));
    assert_eq!(script.submit.asked(), []);

    // Nor does a resend come too late, however long the caller waits.
    script
        .submit
        .script((0..10).map(|_| Step::Refuse(Status::unavailable("connection reset"))));
    let soon = order()
        .wait(Duration::from_secs(60))
        .expires_at(SystemTime::now() + Duration::from_millis(200));
    let started = Instant::now();
    processing(client.submit(&soon).await.unwrap());
    assert!((1..=4).contains(&script.submit.asked().len()));
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn the_clients_own_clock_says_when_the_protection_is_over() {
    let (script, client) = coordinator();
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let client = client.clock(move || long_ago);
    script.submit.script([submitted(confirmed())]);
    let soon = order().expires_at(long_ago + Duration::from_secs(1));
    client.submit(&soon).await.unwrap();
    assert_eq!(script.submit.asked().len(), 1);

    let late = order().expires_at(long_ago);
    let p = processing(client.submit(&late).await.unwrap());
    assert!(matches!(p.cause(), Some(Error::ProtectionOver)));
}

#[tokio::test(start_paused = true)]
async fn a_branch_is_what_was_asked_for() {
    let (script, client) = coordinator();
    script.submit.script([submitted(confirmed())]);
    let methods = Methods::new("billing", "/b.B/Hold", "/b.B/Take", "/b.B/Drop").query("/b.B/Ask");
    let named = Branch::new("inventory", "reserve", Payload::named(&String::from("tea")));
    let order = order()
        .two_state()
        .label("shop", "north")
        .switch("stock", "new")
        .branch("payment", "charge", &String::from("x"))
        .branch_raw("mail", "send", &b"\x01\x02"[..])
        .with_branch(named.id("tea").try_timeout(Duration::from_secs(9)))
        .with_branch(Branch::methods(methods, Payload::raw("", "hold")));
    client.submit(&order).await.unwrap();
    let asked = script.submit.asked().remove(0);

    let options = asked.options.unwrap();
    assert_eq!(options.reply_mode(), ReplyMode::TwoState);
    assert_eq!(
        (
            options.labels["shop"].as_str(),
            options.switches["stock"].as_str()
        ),
        ("north", "new")
    );
    let payloads: Vec<_> = asked
        .branches
        .iter()
        .map(|b| b.payload.clone().unwrap())
        .collect();
    assert_eq!(payloads[0], Payload::json("{}"));
    assert_eq!(payloads[1], Payload::raw("", &b"\x0a\x01x"[..]));
    assert_eq!(payloads[2], Payload::raw("", &b"\x01\x02"[..]));
    assert_eq!(
        payloads[3].type_url,
        "type.googleapis.com/google.protobuf.StringValue"
    );
    assert_eq!(asked.branches[3].branch_id, "tea");
    assert_eq!(asked.branches[3].try_timeout.unwrap().seconds, 9);
    let Some(branch_spec::Target::Methods(methods)) = &asked.branches[4].target else {
        panic!("{:?}", asked.branches[4]);
    };
    assert_eq!(
        (methods.endpoint.as_str(), methods.query_method.as_str()),
        ("billing", "/b.B/Ask")
    );
}

#[tokio::test]
async fn an_address_that_cannot_work_is_refused_with_the_remedy() {
    for (url, remedy) in [
        ("https://tercet:7070", "TLS"),
        ("127.0.0.1:7070", "http://host:port"),
        ("http://not a url", "http://host:port"),
    ] {
        let error = Client::new(url).unwrap_err().to_string();
        assert!(error.contains(url) && error.contains(remedy), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wait_and_a_protection_without_an_end_in_sight_are_no_overflow() {
    let (script, client) = coordinator();
    let request = SubmitTransactionRequest {
        wait_timeout: Some(prost_types::Duration {
            seconds: i64::MAX,
            nanos: 0,
        }),
        submit_expire_time: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        transaction_id: "order-7".into(),
        ..SubmitTransactionRequest::default()
    };
    let order = Submit::decode(&request.encode_to_vec()).expect("it is valid");
    script.submit.script([submitted(confirmed())]);
    let outcome = client.submit(&order).await.expect("it is no refusal");
    assert!(matches!(outcome, Outcome::Success(_)));
    script.wait.script([Step::Reply(WaitTransactionResponse {
        transaction: Some(confirmed()),
    })]);
    let outcome = client.wait("order-7", Duration::MAX).await;
    assert!(matches!(outcome, Ok(Outcome::Success(_))));
}
