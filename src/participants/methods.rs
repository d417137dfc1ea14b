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

use std::{collections::BTreeMap, time::Duration};

use prost::bytes::{Buf, BufMut, Bytes};
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    operation::{Operation, RecordState},
    payload::{Failure, Payload},
    transaction::Methods,
};
use tonic::{
    Code, Request, Response, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};
use tonic_types::StatusExt as _;

use super::{
    Outgoing, convert,
    fault::{self, Fault, Unanswered},
    headers,
    route::Route,
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
    let send = |channel: Channel, left: Duration| {
        let (path, message) = (path.clone(), convert::bytes_out(payload));
        async move {
            match unary(channel, path, request(message, outgoing, left), bytes_max).await {
                Ok(reply) => Ok(Answer::Success(match operation {
                    Operation::Try | Operation::Confirm => Some(result(reply.get_ref())),
                    Operation::Cancel => None,
                })),
                Err(status) if is_refusal(&status, outgoing) => {
                    Ok(Answer::Failed(refusal(&status)))
                }
                Err(status) => Err(Fault::of(status, bytes_max)),
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
    let send = |channel: Channel, left: Duration| {
        let (path, message) = (path.clone(), convert::bytes_out(payload));
        async move {
            let reply = unary(channel, path, request(message, outgoing, left), bytes_max).await;
            match reply {
                Ok(reply) => Ok(recorded(&reply)),
                Err(status) if !fault::came_from_the_participant(&status) => {
                    Err(Fault::of(status, bytes_max))
                }
                Err(status) => match status.code() {
                    Code::NotFound => Ok(state_only(RecordState::Unknown)),
                    Code::Unimplemented => Ok(QueryAnswer::Unclear),
                    _ => Err(Fault::of(status, bytes_max)),
                },
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

fn request(message: Bytes, outgoing: &Outgoing, left: Duration) -> Request<Bytes> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    headers::trace(request.metadata_mut(), outgoing);
    headers::context(request.metadata_mut(), outgoing);
    request
}

async fn unary(
    channel: Channel,
    path: PathAndQuery,
    request: Request<Bytes>,
    bytes_max: usize,
) -> Result<Response<Bytes>, Status> {
    let mut client = Grpc::new(channel).max_decoding_message_size(bytes_max);
    if let Err(error) = client.ready().await {
        return Err(Status::from_error(error.into()));
    }
    client.unary(request, path, Raw).await
}

fn is_refusal(status: &Status, outgoing: &Outgoing) -> bool {
    let first = outgoing.call.attempt == 1;
    outgoing.call.operation == Operation::Try
        && fault::came_from_the_participant(status)
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

pub(super) fn recorded(reply: &Response<Bytes>) -> QueryAnswer {
    let name = reply.metadata().get(RECORD_STATE_HEADER);
    let name = name.and_then(|name| name.to_str().ok());
    let state = name
        .and_then(|name| proto::RecordState::from_str_name(&format!("RECORD_STATE_{name}")))
        .and_then(convert::record_state);
    let (state, result) = match state {
        None => return QueryAnswer::Unclear,
        Some(state) => (state, result(reply.get_ref())),
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

/// Bytes through, as they are.
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
