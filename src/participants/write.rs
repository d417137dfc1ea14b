//! From a transaction to what is asked of its participants, without a copy in between. Fields and tags are
//! those of `proto/`; a test holds them against what prost writes. A payload and a failure stand on the disk
//! just so, but that is another format, and has its own reasons to stay as it is.

use std::time::Duration;

use prost::bytes::Bytes;
use tercet_core::{
    operation::Operation,
    payload::{Failure, Payload},
};

use super::{Outgoing, convert, report_token};
use crate::{http2::frame::framed_by, message::Message, store::UnixMs};

/// Most contexts are shorter, with what stands around them.
const CONTEXT_BYTES: usize = 320;

/// What is added to a call when it leaves, and stands around it in a frame, at most: a number, a timeout, a length.
const TAIL_BYTES: usize = 36;

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Try,
    Confirm,
    Cancel,
    Query,
}

impl From<Operation> for Asked {
    fn from(operation: Operation) -> Self {
        match operation {
            Operation::Try => Self::Try,
            Operation::Confirm => Self::Confirm,
            Operation::Cancel => Self::Cancel,
        }
    }
}

/// A call over a session, but for what is known only when it leaves.
pub(super) struct SessionCall(Vec<u8>);

impl SessionCall {
    pub(super) fn of(asked: Asked, outgoing: &Outgoing, resource: &str) -> Self {
        let tag = match asked {
            Asked::Try => 3,
            Asked::Confirm => 4,
            Asked::Cancel => 5,
            Asked::Query => 6,
        };
        let mut bytes = Vec::with_capacity(expected_bytes(outgoing) + TAIL_BYTES);
        let mut to = Message::at_end(&mut bytes);
        to.message(tag, |to| request(to, asked, outgoing, resource));
        to.text(7, &outgoing.origin.traceparent);
        Self(bytes)
    }

    /// All of it. What is added stands behind the rest, so that nothing moves: protobuf leaves the order of
    /// fields to who writes them.
    pub(super) fn leaving(self, call_id: u64, timeout: Duration) -> Bytes {
        let mut bytes = self.0;
        let mut to = Message::at_end(&mut bytes);
        to.number(1, call_id);
        to.message(2, |to| {
            to.number(1, timeout.as_secs());
            to.number(2, timeout.subsec_nanos());
        });
        bytes.into()
    }

    /// What it takes in a frame, at most.
    pub(super) fn bytes(&self) -> usize {
        self.0.len() + TAIL_BYTES
    }

    #[cfg(test)]
    pub(super) fn of_bytes(bytes: usize) -> Self {
        Self(vec![0; bytes])
    }
}

/// The message of a unary call, in its frame.
pub(super) fn frame(asked: Asked, outgoing: &Outgoing, resource: &str) -> Bytes {
    framed_by(expected_bytes(outgoing), |bytes| {
        request(&mut Message::at_end(bytes), asked, outgoing, resource);
    })
}

fn expected_bytes(outgoing: &Outgoing) -> usize {
    let payload = outgoing.spec.payload.len();
    let try_result = outgoing.try_result.as_ref().map_or(0, Payload::len);
    CONTEXT_BYTES + payload + try_result
}

/// A TryRequest, a ConfirmRequest, a CancelRequest or a QueryRequest.
fn request(to: &mut Message<'_>, asked: Asked, outgoing: &Outgoing, resource: &str) {
    to.message(1, |to| context(to, outgoing, resource));
    if asked != Asked::Query {
        given_payload(to, 2, Some(&outgoing.spec.payload));
    }
    if let Asked::Confirm | Asked::Cancel = asked {
        given_payload(to, 3, outgoing.try_result.as_ref());
    }
    if asked == Asked::Cancel {
        given_failure(to, 4, outgoing.cause.as_ref());
    }
}

/// A BranchContext.
fn context(to: &mut Message<'_>, outgoing: &Outgoing, resource: &str) {
    let origin = &outgoing.origin;
    to.text(1, outgoing.id.as_str());
    to.text(2, outgoing.spec.id.as_str());
    to.text(3, resource);
    to.signed(4, i32::try_from(outgoing.call.attempt).unwrap_or(i32::MAX));
    given_timestamp(to, 5, origin.create_ms);
    given_timestamp(to, 6, origin.expire_ms);
    to.texts(7, &origin.switches);
    to.texts(8, &origin.labels);
    to.bytes(9, &report_token::digits(origin.report_token));
    to.signed(10, i64::try_from(outgoing.epoch).unwrap_or(i64::MAX));
    to.text(11, outgoing.realm.as_str());
}

fn given_timestamp(to: &mut Message<'_>, tag: u32, ms: UnixMs) {
    let it = convert::timestamp(ms);
    to.message(tag, |to| {
        to.signed(1, it.seconds);
        to.signed(2, it.nanos);
    });
}

fn given_payload(to: &mut Message<'_>, tag: u32, payload: Option<&Payload>) {
    if let Some(it) = payload {
        to.message(tag, |to| {
            to.text(1, &it.type_url);
            to.bytes(2, &it.value);
        });
    }
}

fn given_failure(to: &mut Message<'_>, tag: u32, failure: Option<&Failure>) {
    if let Some(it) = failure {
        to.message(tag, |to| {
            to.text(1, &it.reason);
            to.text(2, &it.message);
            to.texts(3, &it.metadata);
            to.signed(4, it.code);
        });
    }
}
