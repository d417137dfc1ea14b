//! Calls that no coordinator should have made, to a participant built with the SDK: each is answered,
//! and the next one is served as ever.

use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::{BodyExt as _, Full};
use proptest::prelude::*;
use prost::{Message, bytes::Bytes};
use tercet_sdk::{
    participant::{Branch, Later, MemoryFence, Participant, Resource, TryError},
    proto::participant::v1 as pb,
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
};
use tower::ServiceExt as _;

#[path = "support/mangle.rs"]
mod mangle;

use mangle::{cases, mangled, manglings};

proptest! {
    #![proptest_config(cases(128))]

    #[test]
    fn a_mangled_call_is_answered_and_the_next_one_is_served(
        method in 0..4_usize, before in 0..4_usize, manglings in manglings(), bytes in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let stock = Participant::new("stock", MemoryFence::new(())).resource(Anything);
            let stock = stock.into_service().expect("it is set up well");
            let call = |method: usize, message| answered(stock.clone(), METHODS[method], message);
            // The rows it meets are those that a Try, a Confirm or a Cancel has left.
            for method in 0..before {
                drop(call(method, request(method, "o")).await);
            }
            for message in [mangled(&request(method, "o"), &manglings), bytes] {
                if let Err(status) = call(method, message).await {
                    prop_assert_ne!(status.code(), Code::Unknown, "{:?}", status);
                }
            }
            let answer = call(0, request(0, "another")).await.expect("it is served");
            let answer = pb::TryResponse::decode(&answer[5..]).expect("it is one");
            prop_assert_eq!(answer.outcome(), pb::Outcome::Success);
            Ok(())
        })?;
    }
}

const METHODS: [&str; 4] = ["Try", "Confirm", "Cancel", "Query"];

/// A valid message for the method.
fn request(method: usize, id: &str) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is after 1970");
    let time = |ahead: i64| {
        Some(prost_types::Timestamp {
            seconds: i64::try_from(now.as_secs()).expect("it fits") + ahead,
            nanos: 1,
        })
    };
    let context = Some(pb::BranchContext {
        transaction_id: id.into(),
        branch_id: "b1".into(),
        resource: Anything::NAME.into(),
        attempt: 1,
        create_time: time(-1),
        expire_time: time(60),
        switches: [("a".into(), "b".into())].into(),
        labels: [("c".into(), "d".into())].into(),
        report_token: "000102030405060708090a0b0c0d0e0f".into(),
        epoch: 1,
        realm: "here".into(),
    });
    let payload = Some(pb::Payload {
        type_url: String::new(),
        value: 7_i64.encode_to_vec().into(),
    });
    let (try_result, cause) = (payload.clone(), Some(pb::Failure::default()));
    match method {
        0 => pb::TryRequest { context, payload }.encode_to_vec(),
        1 => pb::ConfirmRequest {
            context,
            payload,
            try_result,
        }
        .encode_to_vec(),
        2 => pb::CancelRequest {
            context,
            payload,
            try_result,
            cause,
        }
        .encode_to_vec(),
        _ => pb::QueryRequest { context }.encode_to_vec(),
    }
}

/// What comes back, with the frame around it.
async fn answered<S>(service: S, method: &str, message: Vec<u8>) -> Result<Bytes, Status>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Error: std::fmt::Debug,
{
    let len = u32::try_from(message.len()).expect("it is short");
    let body = [&[0][..], &len.to_be_bytes(), &message].concat();
    let path = format!("/tercet.participant.v1.ParticipantService/{method}");
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .body(Body::new(Full::new(Bytes::from(body))));
    let answer = service.oneshot(request.expect("a request")).await;
    let answer = answer.expect("it never fails");
    if let Some(status) = Status::from_header_map(answer.headers()) {
        return Err(status);
    }
    let body = answer.into_body().collect().await?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    match Status::from_header_map(&trailers) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(body.to_bytes()),
    }
}

struct Anything;

impl Resource<()> for Anything {
    const NAME: &'static str = "anything";
    type Request = i64;
    type Held = i64;

    async fn on_try(&self, (): &mut (), _: &Branch, request: i64) -> Result<i64, TryError> {
        Ok(request)
    }

    async fn on_confirm(&self, (): &mut (), _: &Branch, _: i64) -> Result<(), Later> {
        Ok(())
    }

    async fn on_cancel(&self, (): &mut (), _: &Branch, _: i64) -> Result<(), Later> {
        Ok(())
    }
}
