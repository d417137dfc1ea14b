//! What calls carry in headers.

use std::time::Duration;

use tercet_core::operation::Operation;
use tonic::codegen::http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONTENT_TYPE, TE, USER_AGENT},
};

use super::{Outgoing, convert};

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRANSACTION_ID: HeaderName = HeaderName::from_static("tercet-transaction-id");
const BRANCH_ID: HeaderName = HeaderName::from_static("tercet-branch-id");
const OPERATION: HeaderName = HeaderName::from_static("tercet-operation");
const ATTEMPT: HeaderName = HeaderName::from_static("tercet-attempt");
const REALM: HeaderName = HeaderName::from_static("tercet-realm");
const EXPIRE_TIME: HeaderName = HeaderName::from_static("tercet-expire-time");
/// As many as any call has.
const HEADERS_MAX: usize = 12;

/// What gRPC wants of every call, with what is left of its deadline, and the W3C trace context of the
/// call that created the transaction.
pub(super) fn headers(outgoing: &Outgoing, left: Duration) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(HEADERS_MAX);
    headers.insert(TE, HeaderValue::from_static("trailers"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let user_agent = concat!("tercet/", env!("CARGO_PKG_VERSION"));
    headers.insert(USER_AGENT, HeaderValue::from_static(user_agent));
    set(&mut headers, GRPC_TIMEOUT, &grpc_timeout(left));
    set(&mut headers, TRACEPARENT, &outgoing.origin.traceparent);
    headers
}

/// The context that contract targets get in the message.
pub(super) fn context(headers: &mut HeaderMap, outgoing: &Outgoing) {
    let expire_time = convert::timestamp(outgoing.origin.expire_ms).to_string();
    let attempt = outgoing.call.attempt.to_string();
    for (name, value) in [
        (TRANSACTION_ID, outgoing.id.as_str()),
        (BRANCH_ID, outgoing.spec.id.as_str()),
        (OPERATION, operation_name(outgoing.call.operation)),
        (ATTEMPT, &attempt),
        (REALM, outgoing.realm.as_str()),
        (EXPIRE_TIME, &expire_time),
    ] {
        set(headers, name, value);
    }
}

/// As it stands in headers and metrics.
pub(super) fn operation_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Try => "try",
        Operation::Confirm => "confirm",
        Operation::Cancel => "cancel",
    }
}

/// Rounded up to milliseconds: calls then usually carry the same text, which HTTP/2 sends as one byte.
/// A day of them has eight digits, which is what gRPC allows.
fn grpc_timeout(left: Duration) -> String {
    let ms = left.as_nanos().div_ceil(1_000_000);
    format!("{ms}m")
}

/// What is empty, or no header value, is left out: ids and numbers always are one, and a client's
/// broken trace context must not stop its transaction.
fn set(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    if value.is_empty() {
        return;
    }
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(name, value);
    }
}
