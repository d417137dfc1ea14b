//! Existing unary methods: raw bytes, context in metadata, and what their codes mean.

use std::sync::{Arc, Mutex};

use prost::bytes::Bytes;
use tercet::participants::{Connector, GrpcParticipants, Participants as _, ParticipantsConfig};
use tercet_core::{
    answer::{Answer, QueryAnswer},
    operation::{Operation, RecordState},
    payload::Payload,
    transaction::{Methods, Target},
};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::support::{Existing, Shop, outgoing, participants, payload, shop_methods};

const CODES: std::ops::RangeInclusive<i32> = 1..=16;

/// A shop that answers every method like this.
async fn shop(
    answer: impl Fn() -> Result<Response<Bytes>, Status> + Send + Sync + 'static,
) -> GrpcParticipants {
    let address = Existing::<Shop>::serve(move |_: &str, _| answer()).await;
    participants(&[address])
}

fn stock() -> Target {
    Target::Methods(shop_methods("stock"))
}

fn raw(value: &[u8]) -> Payload {
    Payload {
        type_url: "".into(),
        value: value.into(),
    }
}

#[tokio::test]
async fn methods_get_the_payload_raw_and_the_context_in_metadata() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = Arc::clone(&seen);
    let address = Existing::<Shop>::serve(move |method: &str, request: Request<Bytes>| {
        let headers: Vec<_> = [
            "tercet-transaction-id",
            "tercet-branch-id",
            "tercet-operation",
            "tercet-attempt",
            "tercet-realm",
            "tercet-expire-time",
            "traceparent",
        ]
        .map(|key| {
            request
                .metadata()
                .get(key)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .into();
        assert!(request.metadata().contains_key("grpc-timeout"));
        let line = format!("{method} {headers:?} {:?}", request.into_inner());
        note.lock().unwrap().push(line);
        Ok(Response::new(Bytes::from_static(b"done")))
    });
    let calls = participants(&[address.await]);
    let own_payloads = Target::Methods(Methods {
        confirm_payload: Some(payload(b"take-it")),
        cancel_payload: Some(payload(b"release-it")),
        ..shop_methods("stock")
    });
    for (operation, target, result) in [
        (Operation::Try, stock(), Some(raw(b"done"))),
        (Operation::Confirm, stock(), Some(raw(b"done"))),
        (Operation::Cancel, stock(), None),
        (Operation::Confirm, own_payloads.clone(), Some(raw(b"done"))),
        (Operation::Cancel, own_payloads.clone(), None),
    ] {
        let answer = calls.perform(outgoing(operation, target)).await;
        assert_eq!(answer, Answer::Success(result), "{operation:?}");
    }
    calls.query(outgoing(Operation::Cancel, own_payloads)).await;

    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let line = |method, operation, payload| {
        let expire = "2023-11-14T22:13:50.250Z";
        let headers = ["order-1", "b1", operation, "1", "realm-1", expire, trace];
        format!("{method} {headers:?} b\"{payload}\"")
    };
    let expected = [
        line("Reserve", "try", "reserve-me"),
        line("Take", "confirm", "reserve-me"),
        line("Release", "cancel", "reserve-me"),
        line("Take", "confirm", "take-it"),
        line("Release", "cancel", "release-it"),
        line("Look", "cancel", "release-it"),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_try_is_refused_only_by_codes_that_libraries_never_make_up() {
    for code in CODES.map(Code::from) {
        let calls = shop(move || Err(Status::new(code, "no"))).await;
        for attempt in [1, 2] {
            let mut call = outgoing(Operation::Try, stock());
            call.call.attempt = attempt;
            let refused = match code {
                Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => true,
                Code::AlreadyExists => attempt == 1,
                _ => false,
            };
            match calls.perform(call).await {
                Answer::Failed(failure) => {
                    assert!(refused, "{code:?}, attempt {attempt}");
                    assert_eq!((&*failure.message, failure.code), ("no", code.into()));
                }
                Answer::Indeterminate(_) => assert!(!refused, "{code:?}, attempt {attempt}"),
                other => panic!("{code:?}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_tells_the_services_own_reason_where_there_is_one() {
    let calls = shop(|| Err(Status::failed_precondition("no"))).await;
    let Answer::Failed(failure) = calls.perform(outgoing(Operation::Try, stock())).await else {
        panic!("not failed");
    };
    assert_eq!(&*failure.reason, "FAILED_PRECONDITION");

    let calls = shop(|| {
        let sku = [("sku".to_owned(), "7".to_owned())];
        let details = ErrorDetails::with_error_info("OUT_OF_STOCK", "shop", sku);
        let code = Code::FailedPrecondition;
        Err(Status::with_error_details(code, "no", details))
    });
    let answer = calls.await.perform(outgoing(Operation::Try, stock())).await;
    let Answer::Failed(failure) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(&*failure.reason, "OUT_OF_STOCK");
    assert_eq!(failure.metadata, [("sku".into(), "7".into())].into());
}

#[tokio::test]
async fn no_error_refuses_a_confirm_or_cancel_and_none_is_a_success() {
    for code in CODES.map(Code::from) {
        let calls = shop(move || Err(Status::new(code, "no"))).await;
        for operation in [Operation::Confirm, Operation::Cancel] {
            let answer = calls.perform(outgoing(operation, stock())).await;
            assert!(
                matches!(answer, Answer::Indeterminate(_)),
                "{code:?}: {answer:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_reply_up_to_the_limit_is_taken_and_a_larger_one_is_told_apart() {
    let limit = ParticipantsConfig::default().payload_bytes_max;
    for (len, fits) in [(limit, true), (limit + 1, false)] {
        let calls = shop(move || Ok(Response::new(vec![7; len].into()))).await;
        let answer = calls.perform(outgoing(Operation::Try, stock())).await;
        assert_eq!(matches!(answer, Answer::Success(_)), fits, "{len} bytes");
        assert_eq!(matches!(answer, Answer::TooLarge(_)), !fits, "{len} bytes");
    }
}

/// What the query method's answer means when asked about each operation.
async fn queried(
    answer: impl Fn() -> Result<Response<Bytes>, Status> + Send + Sync + 'static,
) -> [QueryAnswer; 3] {
    let calls = shop(answer).await;
    let ask = |operation| calls.query(outgoing(operation, stock()));
    [
        ask(Operation::Try).await,
        ask(Operation::Confirm).await,
        ask(Operation::Cancel).await,
    ]
}

fn says(state: &'static str) -> Result<Response<Bytes>, Status> {
    let mut reply = Response::new(Bytes::from_static(b"body"));
    let state = tonic::metadata::MetadataValue::from_static(state);
    reply.metadata_mut().insert("tercet-record-state", state);
    Ok(reply)
}

#[tokio::test]
async fn a_query_method_says_in_a_header_what_is_recorded() {
    for (name, state, try_result, confirm_result) in [
        ("UNKNOWN", RecordState::Unknown, false, false),
        ("TRYING", RecordState::Trying, false, false),
        ("TRIED", RecordState::Tried, true, false),
        ("TRY_FAILED", RecordState::TryFailed, false, false),
        ("CONFIRMING", RecordState::Confirming, false, false),
        ("CONFIRMED", RecordState::Confirmed, false, true),
        ("CANCELING", RecordState::Canceling, false, false),
        ("CANCELED", RecordState::Canceled, false, false),
    ] {
        for answer in queried(move || says(name)).await {
            let QueryAnswer::Recorded(recorded) = answer else {
                panic!("{name}: {answer:?}");
            };
            assert_eq!(recorded.state, state);
            assert_eq!(
                recorded.try_result,
                try_result.then(|| raw(b"body")),
                "{name}"
            );
            assert_eq!(
                recorded.confirm_result,
                confirm_result.then(|| raw(b"body")),
                "{name}"
            );
        }
    }
}

/// A method that only reads answers OK whatever it finds: taken for "done", it would lose what is
/// still reserved.
#[tokio::test]
async fn ok_alone_or_an_unknown_word_says_nothing() {
    let silent = || Ok(Response::new(Bytes::from_static(b"body")));
    assert_eq!(queried(silent).await, [const { QueryAnswer::Unclear }; 3]);
    for word in ["", "UNSPECIFIED", "DONE", "canceled"] {
        let answers = queried(move || says(word)).await;
        assert_eq!(answers, [const { QueryAnswer::Unclear }; 3], "{word:?}");
    }
}

#[tokio::test]
async fn no_error_of_a_query_method_counts_as_done() {
    for code in CODES.map(Code::from) {
        for answer in queried(move || Err(Status::new(code, "no"))).await {
            match (code, &answer) {
                (Code::NotFound, QueryAnswer::Recorded(recorded)) => {
                    assert_eq!(recorded.state, RecordState::Unknown);
                }
                (Code::Unimplemented, QueryAnswer::Unclear) => {}
                (Code::NotFound | Code::Unimplemented, _) => panic!("{code:?}: {answer:?}"),
                (_, answer) => {
                    assert!(
                        matches!(answer, QueryAnswer::Indeterminate(_)),
                        "{answer:?}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn a_method_that_is_no_path_is_never_sent() {
    let address = Existing::<Shop>::serve(|_: &str, _| panic!("called")).await;
    let calls = participants(&[address]);
    for method in ["", "shop.Stock/Reserve", "/shop.Stock/Reserve?x=1", "/a b"] {
        let target = Target::Methods(Methods {
            try_method: method.into(),
            ..shop_methods("stock")
        });
        let answer = calls.perform(outgoing(Operation::Try, target)).await;
        let Answer::NotSent(failure) = answer else {
            panic!("{method:?}: {answer:?}");
        };
        assert_eq!(&*failure.reason, "METHOD_INVALID");
    }
}

#[tokio::test]
async fn an_allowed_endpoint_is_called_directly() {
    let address = Existing::<Shop>::serve(|_: &str, _| Ok(Response::new(Bytes::new()))).await;
    let config = ParticipantsConfig {
        allowed_endpoints: vec![format!("http://{address}")],
        ..ParticipantsConfig::default()
    };
    let calls = GrpcParticipants::new(&config, Connector::tcp()).unwrap();
    let target = Target::Methods(shop_methods(&format!("http://{address}/")));
    assert_eq!(calls.check(&target), Ok(()));
    let answer = calls.perform(outgoing(Operation::Cancel, target)).await;
    assert_eq!(answer, Answer::Success(None));
}
