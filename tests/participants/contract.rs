//! Participants that implement ParticipantService: what they are sent and what their answers mean.

use std::sync::{Arc, Mutex};

use prost::bytes::Bytes;
use prost_types::{Duration, Timestamp};
use tercet::{
    participants::{PAYLOAD_BYTES_MAX_DEFAULT, Participants as _},
    proto::tercet::participant::v1::{
        BranchContext, CancelResponse, ConfirmResponse, Failure as ProtoFailure, Outcome,
        Payload as ProtoPayload, QueryResponse, RecordState as ProtoState, TryResponse,
    },
};
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    operation::{Operation, RecordState},
    payload::{Failure, Payload},
};
use tonic::{Code, Response, Status};

use crate::support::{Contract, Existing, Stub, outgoing, participants, payload, stock};

const OPERATIONS: [Operation; 3] = [Operation::Try, Operation::Confirm, Operation::Cancel];
const CODES: [(Code, &str); 16] = [
    (Code::Cancelled, "CANCELLED"),
    (Code::Unknown, "UNKNOWN"),
    (Code::InvalidArgument, "INVALID_ARGUMENT"),
    (Code::DeadlineExceeded, "DEADLINE_EXCEEDED"),
    (Code::NotFound, "NOT_FOUND"),
    (Code::AlreadyExists, "ALREADY_EXISTS"),
    (Code::PermissionDenied, "PERMISSION_DENIED"),
    (Code::ResourceExhausted, "RESOURCE_EXHAUSTED"),
    (Code::FailedPrecondition, "FAILED_PRECONDITION"),
    (Code::Aborted, "ABORTED"),
    (Code::OutOfRange, "OUT_OF_RANGE"),
    (Code::Unimplemented, "UNIMPLEMENTED"),
    (Code::Internal, "INTERNAL"),
    (Code::Unavailable, "UNAVAILABLE"),
    (Code::DataLoss, "DATA_LOSS"),
    (Code::Unauthenticated, "UNAUTHENTICATED"),
];

/// One call to a participant that answers Try like this.
async fn tried(answer: impl Fn() -> Result<TryResponse, Status> + Send + Sync + 'static) -> Answer {
    let stub = Stub {
        on_try: Box::new(move |_| answer()),
        ..Stub::default()
    };
    let (_, address) = stub.serve().await;
    let call = outgoing(Operation::Try, stock());
    participants(&[address]).perform(call).await
}

async fn queried(
    answer: impl Fn() -> Result<QueryResponse, Status> + Send + Sync + 'static,
) -> QueryAnswer {
    let stub = Stub {
        on_query: Box::new(move |_| answer()),
        ..Stub::default()
    };
    let (_, address) = stub.serve().await;
    let call = outgoing(Operation::Confirm, stock());
    participants(&[address]).query(call).await
}

fn try_reply(outcome: Outcome) -> TryResponse {
    TryResponse {
        outcome: outcome.into(),
        ..TryResponse::default()
    }
}

fn bytes(len: usize) -> Option<ProtoPayload> {
    Some(ProtoPayload {
        type_url: String::new(),
        value: vec![7; len].into(),
    })
}

fn expected_context() -> BranchContext {
    BranchContext {
        transaction_id: "order-1".into(),
        branch_id: "b1".into(),
        resource: "reserve".into(),
        attempt: 1,
        create_time: Some(Timestamp {
            seconds: 1_700_000_000,
            nanos: 1_000_000,
        }),
        expire_time: Some(Timestamp {
            seconds: 1_700_000_030,
            nanos: 250_000_000,
        }),
        switches: [("new-stock".into(), "on".into())].into(),
        labels: [("team".into(), "blue".into())].into(),
        report_token: "0000000000000000000000000000feed".into(),
        epoch: 7,
        realm: "realm-1".into(),
    }
}

#[tokio::test]
async fn every_call_carries_the_whole_context_the_payload_a_deadline_and_the_trace() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |seen: &Arc<Mutex<Vec<_>>>| {
        let seen = Arc::clone(seen);
        move |metadata: &tonic::metadata::MetadataMap, context: Option<BranchContext>| {
            let header = |key| metadata.get(key).map(|it| it.to_str().unwrap().to_owned());
            let headers = (header("grpc-timeout").is_some(), header("traceparent"));
            seen.lock().unwrap().push((headers, context.unwrap()));
        }
    };
    let (in_try, in_confirm) = (note(&seen), note(&seen));
    let (in_cancel, in_query) = (note(&seen), note(&seen));
    let given = Some(ProtoPayload {
        type_url: "shop.v1.Reserve".into(),
        value: Bytes::from_static(b"reserve-me"),
    });
    let held = Some(ProtoPayload {
        value: Bytes::from_static(b"held"),
        ..given.clone().unwrap()
    });
    let (given_confirm, held_confirm) = (given.clone(), held.clone());
    let (given_cancel, held_cancel) = (given.clone(), held);
    let stub = Stub {
        on_try: Box::new(move |request| {
            in_try(request.metadata(), request.get_ref().context.clone());
            assert_eq!(request.get_ref().payload, given);
            Ok(try_reply(Outcome::Success))
        }),
        on_confirm: Box::new(move |request| {
            in_confirm(request.metadata(), request.get_ref().context.clone());
            assert_eq!(request.get_ref().payload, given_confirm);
            assert_eq!(request.get_ref().try_result, held_confirm);
            Ok(ConfirmResponse {
                outcome: Outcome::Success.into(),
                ..ConfirmResponse::default()
            })
        }),
        on_cancel: Box::new(move |request| {
            in_cancel(request.metadata(), request.get_ref().context.clone());
            assert_eq!(request.get_ref().payload, given_cancel);
            assert_eq!(request.get_ref().try_result, held_cancel);
            let cause = request.into_inner().cause.unwrap();
            assert_eq!(cause.reason, "OUT_OF_STOCK");
            assert_eq!(cause.message, "none left");
            Ok(CancelResponse {
                outcome: Outcome::Success.into(),
                ..CancelResponse::default()
            })
        }),
        on_query: Box::new(move |request| {
            in_query(request.metadata(), request.get_ref().context.clone());
            Ok(QueryResponse {
                state: ProtoState::Tried.into(),
                ..QueryResponse::default()
            })
        }),
        ..Stub::default()
    };
    let (stub, address) = stub.serve().await;
    let calls = participants(&[address]);
    for operation in OPERATIONS {
        let answer = calls.perform(outgoing(operation, stock())).await;
        assert_eq!(answer, Answer::Success(None), "{operation:?}");
    }
    let answer = calls.query(outgoing(Operation::Try, stock())).await;
    assert!(matches!(answer, QueryAnswer::Recorded(_)), "{answer:?}");

    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let expected = ((true, Some(trace.to_owned())), expected_context());
    assert_eq!(stub.calls(), 4);
    assert_eq!(*seen.lock().unwrap(), vec![expected; 4]);
}

#[tokio::test]
async fn every_grpc_error_is_indeterminate_and_told_with_its_code() {
    for (code, name) in CODES {
        let stub = Stub {
            on_try: Box::new(move |_| Err(Status::new(code, "oh"))),
            on_confirm: Box::new(move |_| Err(Status::new(code, "oh"))),
            on_cancel: Box::new(move |_| Err(Status::new(code, "oh"))),
            on_query: Box::new(move |_| Err(Status::new(code, "oh"))),
            ..Stub::default()
        };
        let (_, address) = stub.serve().await;
        let expected = Failure {
            reason: name.into(),
            message: format!("participant stock at http://{address}: {name}: oh").into(),
            metadata: [
                ("endpoint".into(), format!("http://{address}").into()),
                ("participant".into(), "stock".into()),
            ]
            .into(),
            code: code.into(),
        };
        let calls = participants(&[address]);
        for operation in OPERATIONS {
            let answer = calls.perform(outgoing(operation, stock())).await;
            assert_eq!(
                answer,
                Answer::Indeterminate(expected.clone()),
                "{operation:?}"
            );
        }
        let answer = calls.query(outgoing(Operation::Confirm, stock())).await;
        match code {
            Code::Unimplemented => assert_eq!(answer, QueryAnswer::Unclear),
            _ => assert_eq!(answer, QueryAnswer::Indeterminate(expected)),
        }
    }
}

#[tokio::test]
async fn an_unspecified_or_unknown_outcome_is_indeterminate() {
    for outcome in [0, 4, -1] {
        let answer = tried(move || {
            Ok(TryResponse {
                outcome,
                ..TryResponse::default()
            })
        });
        let Answer::Indeterminate(failure) = answer.await else {
            panic!("outcome {outcome}");
        };
        assert_eq!(&*failure.reason, "OUTCOME_UNSPECIFIED");
    }
}

#[tokio::test]
async fn an_unreadable_reply_is_indeterminate() {
    let garbage = |_: &str, _| {
        Ok(Response::new(Bytes::from_static(
            b"\xff\xff\xff\xff garbage",
        )))
    };
    let address = Existing::<Contract>::serve(garbage).await;
    let calls = participants(&[address]);
    for operation in OPERATIONS {
        let answer = calls.perform(outgoing(operation, stock())).await;
        assert!(matches!(answer, Answer::Indeterminate(_)), "{answer:?}");
    }
    let answer = calls.query(outgoing(Operation::Try, stock())).await;
    assert!(
        matches!(answer, QueryAnswer::Indeterminate(_)),
        "{answer:?}"
    );
}

#[tokio::test]
async fn the_participants_own_failed_is_a_failure_with_its_words() {
    let answer = tried(|| {
        Ok(TryResponse {
            failure: Some(ProtoFailure {
                reason: "OUT_OF_STOCK".into(),
                message: "sku 7 is gone".into(),
                metadata: [("sku".into(), "7".into())].into(),
                code: 9,
            }),
            ..try_reply(Outcome::Failed)
        })
    });
    let expected = Failure {
        reason: "OUT_OF_STOCK".into(),
        message: "sku 7 is gone".into(),
        metadata: [("sku".into(), "7".into())].into(),
        code: 9,
    };
    assert_eq!(answer.await, Answer::Failed(expected));
}

#[tokio::test]
async fn a_failure_is_cut_to_what_a_record_may_hold() {
    let answer = tried(|| {
        let entry = |at: usize| (format!("key-{at:02}"), "v".repeat(30));
        let metadata = (0..30).map(entry).chain([("aa".into(), "x".repeat(2000))]);
        Ok(TryResponse {
            failure: Some(ProtoFailure {
                reason: "R".repeat(100),
                message: "é".repeat(1000),
                metadata: metadata.collect(),
                code: 99,
            }),
            ..try_reply(Outcome::Failed)
        })
    });
    let Answer::Failed(failure) = answer.await else {
        panic!("not failed");
    };
    assert_eq!(failure.reason.len(), 63);
    assert_eq!(failure.message.len(), 1024);
    assert_eq!(failure.metadata.len(), 16);
    assert!(!failure.metadata.contains_key("aa"), "does not fit");
    assert_eq!(failure.code, 0);

    let Answer::Failed(nothing_said) = tried(|| Ok(try_reply(Outcome::Failed))).await else {
        panic!("not failed");
    };
    assert_eq!(&*nothing_said.reason, "UNSPECIFIED");
}

#[tokio::test]
async fn processing_may_say_when_to_ask_again() {
    for (retry_after, expected) in [
        (None, None),
        (Some((2, 500_000_000)), Some(2_500)),
        (Some((0, 0)), Some(0)),
        (Some((-2, 0)), None),
        (Some((0, -1)), None),
    ] {
        let answer = tried(move || {
            Ok(TryResponse {
                retry_after: retry_after.map(|(seconds, nanos)| Duration { seconds, nanos }),
                ..try_reply(Outcome::Processing)
            })
        });
        let retry_after_ms = expected;
        assert_eq!(answer.await, Answer::Processing { retry_after_ms });
    }
}

#[tokio::test]
async fn a_result_up_to_the_limit_is_taken_and_a_larger_one_is_told_apart() {
    let limit = PAYLOAD_BYTES_MAX_DEFAULT;
    for (len, fits) in [(limit, true), (limit + 1, false), (10 * limit, false)] {
        let answer = tried(move || {
            Ok(TryResponse {
                result: bytes(len),
                ..try_reply(Outcome::Success)
            })
        });
        let answer = answer.await;
        match &answer {
            Answer::Success(Some(result)) => assert!(fits && result.len() == len),
            Answer::TooLarge(failure) => {
                assert!(!fits);
                assert_eq!(&*failure.reason, "REPLY_TOO_LARGE");
            }
            other => panic!("{len} bytes: {other:?}"),
        }
        let answer = queried(move || {
            Ok(QueryResponse {
                state: ProtoState::Confirmed.into(),
                try_result: bytes(limit),
                confirm_result: bytes(len),
                ..QueryResponse::default()
            })
        });
        let answer = answer.await;
        assert_eq!(
            matches!(answer, QueryAnswer::Recorded(_)),
            fits,
            "{len} bytes"
        );
        assert_eq!(
            matches!(answer, QueryAnswer::TooLarge(_)),
            !fits,
            "{len} bytes"
        );
    }
}

#[tokio::test]
async fn the_participants_own_limits_are_not_ours() {
    let texts = [
        "page 9 of 3",
        "Error, decoded message length too large: found 70000 bytes, the limit is: 4096 bytes",
    ];
    for text in texts {
        let answer = tried(move || Err(Status::out_of_range(text))).await;
        assert!(matches!(answer, Answer::Indeterminate(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn query_tells_what_is_recorded_or_nothing() {
    let answer = queried(|| {
        Ok(QueryResponse {
            state: ProtoState::Confirmed.into(),
            try_result: Some(ProtoPayload {
                type_url: "shop.v1.Reserve".into(),
                value: Bytes::from_static(b"held"),
            }),
            failure: None,
            retry_after: Some(Duration {
                seconds: 1,
                nanos: 0,
            }),
            confirm_result: Some(ProtoPayload::default()),
        })
    });
    let expected = Recorded {
        state: RecordState::Confirmed,
        try_result: Some(payload(b"held")),
        confirm_result: Some(Payload::default()),
        failure: None,
        retry_after_ms: Some(1_000),
    };
    assert_eq!(answer.await, QueryAnswer::Recorded(Box::new(expected)));
    for state in [0, 11, -1] {
        let answer = queried(move || {
            Ok(QueryResponse {
                state,
                ..QueryResponse::default()
            })
        });
        assert_eq!(answer.await, QueryAnswer::Unclear, "state {state}");
    }
}
