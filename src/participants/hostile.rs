//! Replies that no participant should have sent, and transactions whose numbers are at their ends: an
//! answer that may be kept, and never a panic.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*};
use prost::{Message, bytes::Bytes};
use prost_types::Duration;
use tercet_core::{
    answer::{Answer, QueryAnswer},
    ids::Realm,
    payload::{Failure, Payload},
};
use tonic::{Code, Status};

use super::{
    Outgoing, convert, headers, methods, report_token,
    write::{self, Asked},
};
use crate::{
    arbitrary,
    http2::frame::framed,
    mangle::{cases, mangled, manglings},
    proto::{
        SessionCalls,
        tercet::participant::v1::{self as proto, SessionCall, session_call::Request as Sent},
    },
};

const PAYLOAD_BYTES_MAX: usize = 64;

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_mangled_reply_is_a_fault_or_an_answer_that_may_be_kept(
        reply in replies(), manglings in manglings(),
    ) {
        let bytes = mangled(&reply.encode_to_vec(), &manglings);
        let replies = [
            proto::TryResponse::decode(&*bytes).map(convert::Reply::from),
            proto::ConfirmResponse::decode(&*bytes).map(convert::Reply::from),
            proto::CancelResponse::decode(&*bytes).map(convert::Reply::from),
        ];
        for reply in replies.into_iter().flatten() {
            match convert::answer(reply, PAYLOAD_BYTES_MAX) {
                Ok(Answer::Success(result)) => may_be_kept(None, [result.as_ref(), None])?,
                Ok(Answer::Failed(failure)) => may_be_kept(Some(&failure), [None, None])?,
                Ok(Answer::Processing { .. }) | Err(_) => {}
                Ok(other) => return Err(TestCaseError::fail(format!("{other:?}"))),
            }
        }
    }

    #[test]
    fn a_mangled_query_reply_is_a_fault_or_an_answer_that_may_be_kept(
        reply in query_replies(), manglings in manglings(),
    ) {
        let bytes = mangled(&reply.encode_to_vec(), &manglings);
        let Ok(reply) = proto::QueryResponse::decode(&*bytes) else {
            return Ok(());
        };
        if let Ok(QueryAnswer::Recorded(it)) = convert::query_answer(reply, PAYLOAD_BYTES_MAX) {
            may_be_kept(it.failure.as_ref(), [it.try_result.as_ref(), it.confirm_result.as_ref()])?;
        }
    }

    #[test]
    fn whatever_a_failure_says_it_may_be_kept(
        reason in ".{0,80}", message in "(.{0,40}|é{500,600})",
        metadata in vec((".{0,20}", "(.{0,20}|x{1000})"), 0..40), code in any::<i32>(),
    ) {
        let failure = convert::failure(&reason, &message, metadata, code);
        may_be_kept(Some(&failure), [None, None])?;
    }

    #[test]
    fn an_existing_methods_status_and_headers_are_read_whatever_they_are(
        code in -1..20_i32, message in ".*", details in vec(any::<u8>(), 0..200), state in ".*",
    ) {
        let status = Status::with_details(Code::from(code), message, details.into());
        may_be_kept(Some(&methods::refusal(&status)), [None, None])?;
        let _ = methods::recorded(Some(&state), &Bytes::new());
    }

    /// Times outside of the years 1 to 9999 are none in protobuf, and other languages refuse them.
    #[test]
    fn every_record_can_be_told_to_a_participant(
        record in arbitrary::records(), epoch in arbitrary::any_number(), query in any::<bool>(),
    ) {
        for call in record.transaction.owed() {
            let branch = &record.transaction.branches[call.branch];
            let outgoing = Outgoing {
                realm: Realm::parse("here").expect("a valid realm"),
                epoch,
                id: record.id.clone(),
                origin: record.origin.clone(),
                spec: branch.spec.clone(),
                call: tercet_core::step::Call { query, ..call },
                try_result: branch.try_result.clone(),
                cause: record.transaction.failure.clone(),
            };
            can_be_told(&outgoing)?;
        }
    }

    #[test]
    fn what_a_payload_and_a_failure_say_comes_back(
        type_url in ".{0,9}", value in vec(any::<u8>(), 0..50), reason in ".{1,15}",
        message in ".{0,50}", metadata in "[a-z]{0,9}", code in 0..17,
    ) {
        let payload = Payload { type_url: type_url.into(), value: value.into() };
        let reply = proto::TryResponse {
            outcome: proto::Outcome::Success.into(),
            result: Some(payload_out(&payload)),
            ..proto::TryResponse::default()
        };
        let answer = convert::answer(reply.into(), 1024).expect("it is small");
        prop_assert_eq!(answer, Answer::Success(Some(payload)));
        let metadata = [(metadata.as_str().into(), message.as_str().into())].into();
        let failure = Failure { reason: reason.into(), message: message.into(), metadata, code };
        let reply = proto::TryResponse {
            outcome: proto::Outcome::Failed.into(),
            failure: Some(failure_out(&failure)),
            ..proto::TryResponse::default()
        };
        let answer = convert::answer(reply.into(), 1024).expect("it has an outcome");
        prop_assert_eq!(answer, Answer::Failed(failure));
    }
}

/// Found by the mangled replies: the most negative duration has no positive one to be told by.
#[test]
fn a_retry_after_that_is_no_duration_is_as_good_as_not_said() {
    for (seconds, nanos, expected) in [
        (i64::MIN, 0, None),
        (i64::MIN, i32::MIN, None),
        (i64::MAX, i32::MAX, None),
        (-1, 0, None),
        (0, -1, None),
        (2, 999_999_999, Some(2_999)),
    ] {
        let reply = proto::TryResponse {
            outcome: proto::Outcome::Processing.into(),
            retry_after: Some(Duration { seconds, nanos }),
            ..proto::TryResponse::default()
        };
        let answer = convert::answer(reply.into(), PAYLOAD_BYTES_MAX).expect("it has an outcome");
        let retry_after_ms = expected;
        assert_eq!(answer, Answer::Processing { retry_after_ms });
    }
}

fn may_be_kept(
    failure: Option<&Failure>,
    results: [Option<&Payload>; 2],
) -> Result<(), TestCaseError> {
    for result in results.into_iter().flatten() {
        prop_assert!(result.len() <= PAYLOAD_BYTES_MAX);
    }
    let Some(failure) = failure else {
        return Ok(());
    };
    let metadata = failure.metadata.iter();
    let bytes: usize = metadata.map(|(key, value)| key.len() + value.len()).sum();
    prop_assert!((1..=convert::FAILURE_REASON_BYTES_MAX).contains(&failure.reason.len()));
    prop_assert!(failure.message.len() <= convert::FAILURE_MESSAGE_BYTES_MAX);
    prop_assert!(failure.metadata.len() <= convert::FAILURE_METADATA_MAX);
    prop_assert!(bytes <= convert::FAILURE_METADATA_BYTES_MAX);
    prop_assert!((0..=16).contains(&failure.code));
    Ok(())
}

fn can_be_told(outgoing: &Outgoing) -> Result<(), TestCaseError> {
    let context = context(outgoing);
    let asked = match outgoing.call.query {
        true => Asked::Query,
        false => outgoing.call.operation.into(),
    };
    let request = is_what_prost_writes(asked, outgoing, &context)?;
    let call = SessionCall {
        call_id: 7,
        timeout: Some(Duration {
            seconds: 2,
            nanos: 999_999_999,
        }),
        traceparent: outgoing.origin.traceparent.to_string(),
        request: Some(request),
    };
    let leaving = write::SessionCall::of(asked, outgoing, "r");
    let in_a_frame = leaving.bytes();
    let leaving = leaving.leaving(7, std::time::Duration::new(2, 999_999_999));
    prop_assert_eq!(leaving.len(), call.encoded_len());
    let frame = SessionCalls {
        calls: vec![leaving.clone()],
    };
    prop_assert!(frame.encoded_len() <= in_a_frame);
    prop_assert_eq!(SessionCall::decode(leaving).expect("it is read"), call);
    prop_assert_eq!(
        report_token::parse(&context.report_token),
        Some(outgoing.origin.report_token)
    );
    for time in [context.create_time, context.expire_time] {
        let time = time.expect("it is always said");
        prop_assert!((-62_135_596_800..=253_402_300_799).contains(&time.seconds));
        prop_assert!((0..1_000_000_000).contains(&time.nanos));
    }
    let mut headers = headers::headers(outgoing, std::time::Duration::ZERO);
    headers::context(&mut headers, outgoing);
    let expire_time = headers.get("tercet-expire-time");
    let text = expire_time
        .and_then(|it| it.to_str().ok())
        .unwrap_or_default();
    let parsed = text.parse::<prost_types::Timestamp>().ok();
    prop_assert_eq!(parsed, context.expire_time);
    Ok(())
}

/// The message of a unary call, byte for byte.
fn is_what_prost_writes(
    asked: Asked,
    outgoing: &Outgoing,
    context: &proto::BranchContext,
) -> Result<Sent, TestCaseError> {
    let context = Some(context.clone());
    let payload = Some(payload_out(&outgoing.spec.payload));
    let try_result = outgoing.try_result.as_ref().map(payload_out);
    let (sent, frame) = match asked {
        Asked::Query => {
            let it = proto::QueryRequest { context };
            (Sent::QueryCall(it.clone()), framed(&it))
        }
        Asked::Try => {
            let it = proto::TryRequest { context, payload };
            (Sent::TryCall(it.clone()), framed(&it))
        }
        Asked::Confirm => {
            let it = proto::ConfirmRequest {
                context,
                payload,
                try_result,
            };
            (Sent::ConfirmCall(it.clone()), framed(&it))
        }
        Asked::Cancel => {
            let cause = outgoing.cause.as_ref().map(failure_out);
            let it = proto::CancelRequest {
                context,
                payload,
                try_result,
                cause,
            };
            (Sent::CancelCall(it.clone()), framed(&it))
        }
    };
    prop_assert_eq!(write::frame(asked, outgoing, "r"), frame);
    Ok(sent)
}

fn context(outgoing: &Outgoing) -> proto::BranchContext {
    let origin = &outgoing.origin;
    let token = report_token::digits(origin.report_token);
    proto::BranchContext {
        transaction_id: outgoing.id.as_str().into(),
        branch_id: outgoing.spec.id.as_str().into(),
        resource: "r".into(),
        attempt: i32::try_from(outgoing.call.attempt).unwrap_or(i32::MAX),
        create_time: Some(convert::timestamp(origin.create_ms)),
        expire_time: Some(convert::timestamp(origin.expire_ms)),
        switches: texts_out(&origin.switches),
        labels: texts_out(&origin.labels),
        report_token: String::from_utf8(token.into()).expect("digits are ASCII"),
        epoch: i64::try_from(outgoing.epoch).unwrap_or(i64::MAX),
        realm: outgoing.realm.as_str().into(),
    }
}

fn payload_out(payload: &Payload) -> proto::Payload {
    proto::Payload {
        type_url: payload.type_url.to_string(),
        value: payload.value.to_vec().into(),
    }
}

fn failure_out(failure: &Failure) -> proto::Failure {
    proto::Failure {
        reason: failure.reason.to_string(),
        message: failure.message.to_string(),
        metadata: texts_out(&failure.metadata),
        code: failure.code,
    }
}

fn texts_out(texts: &BTreeMap<Arc<str>, Arc<str>>) -> BTreeMap<String, String> {
    let own = |(key, value): (&Arc<str>, &Arc<str>)| (key.to_string(), value.to_string());
    texts.iter().map(own).collect()
}

fn replies() -> impl Strategy<Value = proto::TryResponse> {
    let parts = (0..4, option::of(payloads()), failures(), durations());
    parts.prop_map(
        |(outcome, result, failure, retry_after)| proto::TryResponse {
            outcome,
            result,
            failure: Some(failure),
            retry_after: Some(retry_after),
        },
    )
}

fn query_replies() -> impl Strategy<Value = proto::QueryResponse> {
    let parts = (
        0..11,
        payloads(),
        option::of(payloads()),
        failures(),
        durations(),
    );
    parts.prop_map(
        |(state, try_result, confirm_result, failure, retry_after)| proto::QueryResponse {
            state,
            try_result: Some(try_result),
            confirm_result,
            failure: Some(failure),
            retry_after: Some(retry_after),
        },
    )
}

fn payloads() -> impl Strategy<Value = proto::Payload> {
    (".{0,20}", vec(any::<u8>(), 0..60)).prop_map(|(type_url, value)| proto::Payload {
        type_url,
        value: value.into(),
    })
}

fn failures() -> impl Strategy<Value = proto::Failure> {
    let metadata = proptest::collection::btree_map(".{0,9}", ".{0,9}", 0..20);
    let parts = (".{0,70}", ".{0,90}", metadata, any::<i32>());
    parts.prop_map(|(reason, message, metadata, code)| proto::Failure {
        reason,
        message,
        metadata,
        code,
    })
}

fn durations() -> impl Strategy<Value = Duration> {
    let parts = (arbitrary::any_time(), any::<i32>());
    parts.prop_map(|(seconds, nanos)| Duration { seconds, nanos })
}
