//! What goes over a session and what comes back means what it means in a unary call.

use std::{sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusBuilder;
use tercet::{
    participants::{Participants as _, measure},
    proto::tercet::participant::v1::{
        CancelResponse, ConfirmResponse, Failure, Outcome, Payload, QueryResponse, RecordState,
        SessionReplies, SessionReply, TryResponse, open_session_request::Frame as Said,
        session_call::Request, session_reply::Response,
    },
};
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    operation::{self, Operation},
    payload,
    transaction::BranchSpec,
};
use tonic::Code;

use super::{Coordinator, config, indeterminate, success, within};
use crate::support::{self, outgoing, stock};

fn payload_of(value: &'static [u8]) -> Payload {
    Payload {
        type_url: "shop.v1.Reserve".into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn a_try_carries_its_context_and_brings_its_result() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut stock = coordinator.instance("a").await;
    let answer = coordinator.begin_try();
    let call = stock.call().await;
    let timeout: Duration = call.timeout.unwrap().try_into().unwrap();
    assert!(timeout <= Duration::from_secs(10) && timeout > Duration::from_secs(5));
    assert!(
        call.traceparent
            .starts_with("00-0af7651916cd43dd8448eb211c80319c")
    );
    let Some(Request::TryCall(request)) = call.request else {
        panic!("{:?}", call.request);
    };
    let context = request.context.unwrap();
    assert_eq!(
        (&*context.transaction_id, &*context.branch_id),
        ("order-1", "b1")
    );
    assert_eq!((&*context.resource, context.epoch), ("reserve", 7));
    assert_eq!(request.payload, Some(payload_of(b"reserve-me")));
    let reply = TryResponse {
        outcome: Outcome::Success.into(),
        result: Some(payload_of(b"seat 7")),
        ..TryResponse::default()
    };
    stock.replies([(call.call_id, Response::TryReply(reply))]);
    let result = support::payload(b"seat 7");
    assert_eq!(answer.await.unwrap(), Answer::Success(Some(result)));
}

#[tokio::test]
async fn confirm_cancel_and_query_go_the_same_way() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut instance = coordinator.instance("a").await;
    let outcome = Outcome::Success.into();

    let answer = coordinator.begin(outgoing(Operation::Confirm, stock()));
    let call = instance.call().await;
    let Some(Request::ConfirmCall(request)) = call.request else {
        panic!("{:?}", call.request);
    };
    assert_eq!(request.try_result, Some(payload_of(b"held")));
    let reply = ConfirmResponse {
        outcome,
        ..ConfirmResponse::default()
    };
    instance.replies([(call.call_id, Response::ConfirmReply(reply))]);
    assert_eq!(answer.await.unwrap(), Answer::Success(None));

    let answer = coordinator.begin(outgoing(Operation::Cancel, stock()));
    let call = instance.call().await;
    let Some(Request::CancelCall(request)) = call.request else {
        panic!("{:?}", call.request);
    };
    assert_eq!(request.cause.unwrap().reason, "OUT_OF_STOCK");
    let reply = CancelResponse {
        outcome,
        ..CancelResponse::default()
    };
    instance.replies([(call.call_id, Response::CancelReply(reply))]);
    assert_eq!(answer.await.unwrap(), Answer::Success(None));

    let query = coordinator.calls.query(outgoing(Operation::Try, stock()));
    let answer = tokio::spawn(query);
    let call = instance.call().await;
    assert!(matches!(call.request, Some(Request::QueryCall(_))));
    let reply = QueryResponse {
        state: RecordState::Tried.into(),
        try_result: Some(payload_of(b"seat 7")),
        ..QueryResponse::default()
    };
    instance.replies([(call.call_id, Response::QueryReply(reply))]);
    let recorded = Recorded {
        state: operation::RecordState::Tried,
        try_result: Some(support::payload(b"seat 7")),
        confirm_result: None,
        failure: None,
        retry_after_ms: None,
    };
    assert_eq!(
        answer.await.unwrap(),
        QueryAnswer::Recorded(Box::new(recorded))
    );
}

#[tokio::test]
async fn only_outcome_failed_is_failed_and_everything_unclear_is_indeterminate() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut stock = coordinator.instance("a").await;
    let failure = Failure {
        reason: "OUT_OF_STOCK".into(),
        message: "none left".into(),
        ..Failure::default()
    };
    let try_reply = |outcome: i32, failure: Option<Failure>| {
        Response::TryReply(TryResponse {
            outcome,
            failure,
            ..TryResponse::default()
        })
    };
    let broke = Failure {
        reason: "FENCE_UNAVAILABLE".into(),
        message: "the database is away".into(),
        code: Code::Unavailable.into(),
        ..Failure::default()
    };
    let unsaid = Failure::default();
    for (response, expected) in [
        (
            try_reply(2, Some(failure)),
            "failed: OUT_OF_STOCK: none left",
        ),
        (try_reply(3, None), "processing"),
        (try_reply(0, None), "OUTCOME_UNSPECIFIED"),
        (try_reply(9, None), "OUTCOME_UNSPECIFIED"),
        (
            Response::Indeterminate(broke),
            "UNAVAILABLE: FENCE_UNAVAILABLE: the database is away",
        ),
        (Response::Indeterminate(unsaid), "UNKNOWN"),
        (
            Response::ConfirmReply(ConfirmResponse::default()),
            "one to another kind of call",
        ),
    ] {
        let answer = coordinator.begin_try();
        let call = stock.call().await;
        stock.replies([(call.call_id, response)]);
        let told = match answer.await.unwrap() {
            Answer::Failed(it) => format!("failed: {}: {}", it.reason, it.message),
            Answer::Processing { .. } => "processing".into(),
            Answer::Indeterminate(it) => it.message.to_string(),
            other => panic!("{other:?}"),
        };
        assert!(told.contains(expected), "{told}");
    }

    let answer = coordinator.begin_try();
    let call_id = stock.call().await.call_id;
    let nothing = SessionReply {
        call_id,
        response: None,
    };
    let replies = vec![nothing];
    stock.says(Said::Replies(SessionReplies { replies }));
    let failure = indeterminate(answer.await.unwrap());
    assert!(failure.message.contains("nothing that this version knows"));
    assert!(
        failure
            .message
            .contains("session stock-1 of instance a: INTERNAL"),
        "{}",
        failure.message
    );
}

#[tokio::test]
async fn a_participant_that_cannot_be_asked_says_so() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut instance = coordinator.instance("a").await;
    let query = coordinator.calls.query(outgoing(Operation::Try, stock()));
    let answer = tokio::spawn(query);
    let call = instance.call().await;
    let unimplemented = Failure {
        code: Code::Unimplemented.into(),
        ..Failure::default()
    };
    instance.replies([(call.call_id, Response::Indeterminate(unimplemented))]);
    assert_eq!(answer.await.unwrap(), QueryAnswer::Unclear);
}

#[tokio::test]
async fn a_result_at_the_limit_comes_and_a_larger_one_is_too_large() {
    let mut config = config(&[]);
    config.payload_bytes_max = 300_000;
    let coordinator = Coordinator::start(&config).await;
    let mut stock = coordinator.instance("a").await;
    for bytes in [300_000, 300_001] {
        let mut order = outgoing(Operation::Try, support::stock());
        let payload = payload::Payload {
            type_url: "".into(),
            value: vec![7; bytes].into(),
        };
        order.spec = Arc::new(BranchSpec {
            payload: payload.clone(),
            ..(*order.spec).clone()
        });
        let answer = coordinator.begin(order);
        let call = stock.call().await;
        let Some(Request::TryCall(request)) = call.request else {
            panic!("{:?}", call.request);
        };
        let reply = TryResponse {
            outcome: Outcome::Success.into(),
            result: request.payload,
            ..TryResponse::default()
        };
        stock.replies([(call.call_id, Response::TryReply(reply))]);
        match answer.await.unwrap() {
            Answer::Success(result) if bytes == 300_000 => assert_eq!(result, Some(payload)),
            Answer::TooLarge(failure) => assert_eq!(&*failure.reason, "REPLY_TOO_LARGE"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_late_reply_and_one_that_nobody_asked_for_are_ignored() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut stock = coordinator.instance("a").await;
    let mut short = outgoing(Operation::Try, support::stock());
    short.spec = Arc::new(BranchSpec {
        try_timeout_ms: 50,
        ..(*short.spec).clone()
    });
    let answer = coordinator.begin(short);
    let late = stock.call().await;
    let failure = indeterminate(within(answer).await.unwrap());
    assert_eq!(&*failure.reason, "DEADLINE_EXCEEDED");
    assert!(failure.message.contains("session stock-1"));
    stock.replies([(late.call_id, success()), (4711, success())]);

    let answer = coordinator.begin_try();
    let call = stock.call().await;
    assert_ne!(call.call_id, late.call_id);
    stock.succeeds(&call);
    assert_eq!(answer.await.unwrap(), Answer::Success(None));
}

#[tokio::test]
async fn calls_and_open_sessions_are_measured_by_participant() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let prometheus = recorder.handle();
    let _guard = metrics::set_default_local_recorder(&recorder);
    let coordinator = Coordinator::start(&config(&[])).await;
    let (mut a, b) = (
        coordinator.instance("a").await,
        coordinator.instance("b").await,
    );
    let shown = |line: &str| {
        let shown = prometheus.render();
        assert!(shown.contains(line), "{line} in\n{shown}");
    };
    shown(&format!("{}{{participant=\"stock\"}} 2", measure::SESSIONS));
    let answer = coordinator.begin_try();
    let call = a.call().await;
    a.succeeds(&call);
    answer.await.unwrap();
    let labels = "{participant=\"stock\",operation=\"try\",outcome=\"success\"";
    shown(&format!("{}_count{labels}}} 1", measure::CALL_SECONDS));
    drop(a);
    drop(b);
    let none = format!("{}{{participant=\"stock\"}} 0", measure::SESSIONS);
    within(async {
        while !prometheus.render().contains(&none) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
