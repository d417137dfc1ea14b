//! Existing unary methods that serve as a participant.
//!
//! The payload's bytes are the request message, the reply's bytes are the result; what a contract
//! target finds in its BranchContext stands in metadata:
//!
//! | key | value |
//! |---|---|
//! | `tercet-transaction-id`, `tercet-branch-id`, `tercet-realm` | together the idempotency key, with the operation |
//! | `tercet-operation` | `try`, `confirm` or `cancel`; for a query the one that is asked about |
//! | `tercet-attempt` | from 1, per operation; queries are counted by themselves |
//! | `tercet-expire-time` | RFC 3339; a Try that comes later must be refused |
//!
//! # What a status means
//!
//! | | OK | refused | everything else |
//! |---|---|---|---|
//! | Try | SUCCESS | FAILED: INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION, and on the first attempt ALREADY_EXISTS | indeterminate |
//! | Confirm, Cancel | SUCCESS | – | indeterminate: repeated |
//!
//! Those codes are never made up by gRPC libraries. ALREADY_EXISTS to a repeated Try may be about our
//! own first one. NOT_FOUND to a Cancel is no success: the Try may still be on its way.
//!
//! # The query method
//!
//! It gets the payload of the operation it is asked about, and says what is durably recorded with
//! the response header (or trailer) `tercet-record-state`: the name of a `RecordState` of
//! `tercet.participant.v1`, like `TRIED` or `CANCELED`. With TRIED the reply's bytes are Try's
//! result, with CONFIRMED they are Confirm's.
//!
//! OK alone says nothing, and the operation is repeated: most existing services answer OK from a
//! method that only reads, whatever it has found, and to take that for "canceled" or "confirmed"
//! would lose the money that is still reserved. NOT_FOUND is UNKNOWN, UNIMPLEMENTED says nothing,
//! any other error is indeterminate and the question is repeated.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use prost::bytes::Bytes;
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    operation::{Operation, RecordState},
    payload::{Failure, Payload},
    transaction::Methods,
};
use tonic::{Code, Status, codegen::http::uri::PathAndQuery};
use tonic_types::StatusExt as _;

use super::{
    Outgoing, convert,
    fault::{self, Unanswered},
    headers,
    route::Route,
    wire::{Failed, Request, Wire, framed_bytes},
};
use crate::proto::tercet::participant::v1 as proto;

/// The response header by which a query method says what is recorded.
pub const RECORD_STATE_HEADER: &str = "tercet-record-state";

/// Try, Confirm or Cancel.
pub(super) async fn perform(
    route: &Route,
    outgoing: &Outgoing,
    methods: &Methods,
    bytes_max: usize,
) -> Result<Answer, Unanswered> {
    let operation = outgoing.call.operation;
    let (method, timeout_ms) = match operation {
        Operation::Try => (&methods.try_method, outgoing.spec.try_timeout_ms),
        Operation::Confirm => (&methods.confirm_method, route.call_timeout_ms),
        Operation::Cancel => (&methods.cancel_method, route.call_timeout_ms),
    };
    let path = match path(method) {
        Ok(path) => path,
        Err(failure) => return Ok(Answer::NotSent(failure)),
    };
    let payload = payload(outgoing, methods);
    let send = |wire: Arc<Wire>, left: Duration| {
        let request = request(&path, payload, outgoing, left);
        async move {
            match wire.call(request, bytes_max).await {
                Ok(reply) => Ok(Answer::Success(match operation {
                    Operation::Try | Operation::Confirm => Some(result(&reply.message)),
                    Operation::Cancel => None,
                })),
                Err(Failed::Status(status)) if is_refusal(&status, outgoing) => {
                    Ok(Answer::Failed(refusal(&status)))
                }
                Err(failed) => Err(failed.into()),
            }
        }
    };
    route.call(Route::deadline(timeout_ms), send).await
}

/// What the query method says is recorded.
pub(super) async fn query(
    route: &Route,
    outgoing: &Outgoing,
    methods: &Methods,
    bytes_max: usize,
) -> Result<QueryAnswer, Unanswered> {
    let Some(method) = &methods.query_method else {
        return Ok(QueryAnswer::Unclear);
    };
    let path = match path(method) {
        Ok(path) => path,
        Err(failure) => return Ok(QueryAnswer::Indeterminate(failure)),
    };
    let payload = payload(outgoing, methods);
    let send = |wire: Arc<Wire>, left: Duration| {
        let request = request(&path, payload, outgoing, left);
        async move {
            match wire.call(request, bytes_max).await {
                Ok(reply) => {
                    let state = reply.header(RECORD_STATE_HEADER);
                    let state = state.and_then(|state| state.to_str().ok());
                    Ok(recorded(state, &reply.message))
                }
                Err(Failed::Status(status)) if status.code() == Code::NotFound => {
                    Ok(state_only(RecordState::Unknown))
                }
                Err(Failed::Status(status)) if status.code() == Code::Unimplemented => {
                    Ok(QueryAnswer::Unclear)
                }
                Err(failed) => Err(failed.into()),
            }
        }
    };
    route
        .call(Route::deadline(route.call_timeout_ms), send)
        .await
}

fn path(method: &str) -> Result<PathAndQuery, Failure> {
    let path = method.parse::<PathAndQuery>();
    path.ok()
        .filter(|path| path.as_str().starts_with('/') && path.query().is_none())
        .ok_or_else(|| {
            let message = format!("{method:?} is no gRPC method; write /package.Service/Method");
            Failure::new("METHOD_INVALID", message)
        })
}

fn payload<'a>(outgoing: &'a Outgoing, methods: &'a Methods) -> &'a Payload {
    let own = match outgoing.call.operation {
        Operation::Try => None,
        Operation::Confirm => methods.confirm_payload.as_ref(),
        Operation::Cancel => methods.cancel_payload.as_ref(),
    };
    own.unwrap_or(&outgoing.spec.payload)
}

fn request(path: &PathAndQuery, payload: &Payload, outgoing: &Outgoing, left: Duration) -> Request {
    let mut headers = headers::headers(outgoing, left);
    headers::context(&mut headers, outgoing);
    Request {
        path: path.clone(),
        headers,
        frame: framed_bytes(&payload.value),
    }
}

fn is_refusal(status: &Status, outgoing: &Outgoing) -> bool {
    let first = outgoing.call.attempt == 1;
    outgoing.call.operation == Operation::Try
        && match status.code() {
            Code::InvalidArgument | Code::NotFound | Code::FailedPrecondition => true,
            Code::AlreadyExists => first,
            _ => false,
        }
}

/// The service's own reason, if it sends `google.rpc.ErrorInfo` as most do that send any.
pub(super) fn refusal(status: &Status) -> Failure {
    let code = status.code();
    let (reason, metadata) = match status.get_details_error_info() {
        Some(info) => (info.reason, info.metadata.into_iter().collect()),
        None => (fault::code_name(code).to_owned(), BTreeMap::new()),
    };
    convert::failure(&reason, status.message(), metadata, code.into())
}

/// `name` is what the header says.
pub(super) fn recorded(name: Option<&str>, message: &Bytes) -> QueryAnswer {
    let state = name
        .and_then(|name| proto::RecordState::from_str_name(&format!("RECORD_STATE_{name}")))
        .and_then(convert::record_state);
    let (state, result) = match state {
        None => return QueryAnswer::Unclear,
        Some(state) => (state, result(message)),
    };
    match state {
        RecordState::Tried => QueryAnswer::Recorded(Box::new(Recorded {
            try_result: Some(result),
            ..blank(state)
        })),
        RecordState::Confirmed => QueryAnswer::Recorded(Box::new(Recorded {
            confirm_result: Some(result),
            ..blank(state)
        })),
        other => state_only(other),
    }
}

fn state_only(state: RecordState) -> QueryAnswer {
    QueryAnswer::Recorded(Box::new(blank(state)))
}

fn blank(state: RecordState) -> Recorded {
    Recorded {
        state,
        try_result: None,
        confirm_result: None,
        failure: None,
        retry_after_ms: None,
    }
}

fn result(bytes: &Bytes) -> Payload {
    Payload {
        type_url: "".into(),
        value: bytes[..].into(),
    }
}
