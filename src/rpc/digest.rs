//! What "the same content" means: SHA-256 of a request's canonical form.
//!
//! The canonical form is versioned and unambiguous. A message is its fields in ascending order, each
//! as its number, the length of its value and the value; an unset field writes nothing, so that a field
//! added later leaves the digests of older requests as they are. Maps are sorted by key. It is
//! taken before defaults are filled in: a new default doesn't make old content differ.
//!
//! How a caller waits is no content: `wait_timeout`, `submit_expire_time` and `validate_only` are left
//! out.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::proto::tercet::{participant::v1 as participant, v1 as pb};

/// Before the content: the version of this form, and what it is the form of.
const SUBMIT: &[u8] = b"tercet digest 1 submit\0";
const BEGIN: &[u8] = b"tercet digest 1 begin\0";

pub(super) fn submit(request: &pb::SubmitTransactionRequest) -> [u8; 32] {
    let mut form = Form::new();
    form.text(1, &request.transaction_id);
    form.some(2, request.options.as_ref(), options);
    for it in &request.branches {
        form.message(3, |form| branch(form, it));
    }
    form.digest(SUBMIT)
}

pub(super) fn begin(request: &pb::BeginTransactionRequest) -> [u8; 32] {
    let mut form = Form::new();
    form.text(1, &request.transaction_id);
    form.some(2, request.options.as_ref(), options);
    form.digest(BEGIN)
}

fn options(form: &mut Form, it: &pb::TransactionOptions) {
    form.text(1, &it.transaction_type);
    form.text(2, &it.business_key);
    form.map(3, &it.labels);
    form.map(4, &it.switches);
    form.number(5, it.reply_mode.into());
    form.some(6, it.timeout.as_ref(), duration);
    form.some(7, it.try_timeout.as_ref(), duration);
    form.some(8, it.retry_policy.as_ref(), policy);
}

fn policy(form: &mut Form, it: &pb::RetryPolicy) {
    for interval in &it.intervals {
        form.message(1, |form| duration(form, interval));
    }
    form.some(2, it.jitter_permille.as_ref(), |form, it| {
        form.number(1, (*it).into())
    });
    form.number(3, it.attention_after_attempts.into());
}

fn branch(form: &mut Form, it: &pb::BranchSpec) {
    form.text(1, &it.branch_id);
    // No payload and an empty one are the same to a participant.
    let given = it.payload.as_ref();
    form.some(
        2,
        given.filter(|it| **it != participant::Payload::default()),
        payload,
    );
    form.some(3, it.try_timeout.as_ref(), duration);
    match &it.target {
        Some(pb::branch_spec::Target::Contract(it)) => form.message(4, |form| contract(form, it)),
        Some(pb::branch_spec::Target::Methods(it)) => form.message(5, |form| methods(form, it)),
        None => {}
    }
}

fn contract(form: &mut Form, it: &pb::ContractTarget) {
    form.text(1, &it.participant);
    form.text(2, &it.resource);
}

fn methods(form: &mut Form, it: &pb::MethodTarget) {
    form.text(1, &it.endpoint);
    form.text(2, &it.try_method);
    form.text(3, &it.confirm_method);
    form.text(4, &it.cancel_method);
    form.text(5, &it.query_method);
    form.some(6, it.confirm_payload.as_ref(), payload);
    form.some(7, it.cancel_payload.as_ref(), payload);
}

fn payload(form: &mut Form, it: &participant::Payload) {
    form.text(1, &it.type_url);
    form.bytes(2, &it.value);
}

fn duration(form: &mut Form, it: &prost_types::Duration) {
    form.number(1, it.seconds);
    form.number(2, it.nanos.into());
}

/// The canonical form of one message.
struct Form(Vec<u8>);

impl Form {
    /// With room for most requests.
    fn new() -> Self {
        Self(Vec::with_capacity(1000))
    }

    fn digest(self, kind: &[u8]) -> [u8; 32] {
        let mut hash = Sha256::new();
        hash.update(kind);
        hash.update(self.0);
        hash.finalize().into()
    }

    fn text(&mut self, field: u32, value: &str) {
        self.bytes(field, value.as_bytes());
    }

    /// A field whose zero is the same as unset.
    fn number(&mut self, field: u32, value: i64) {
        if value != 0 {
            self.field(field, &value.to_be_bytes());
        }
    }

    /// A field whose empty value is the same as unset.
    fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.field(field, value);
        }
    }

    fn map(&mut self, field: u32, map: &BTreeMap<String, String>) {
        for (key, value) in map {
            self.message(field, |entry| {
                entry.text(1, key);
                entry.text(2, value);
            });
        }
    }

    /// A field that is unset or a message, be it an empty one.
    fn some<T>(&mut self, field: u32, value: Option<&T>, write: impl FnOnce(&mut Form, &T)) {
        if let Some(value) = value {
            self.message(field, |form| write(form, value));
        }
    }

    /// The length stands before the message, and is known behind it.
    fn message(&mut self, field: u32, write: impl FnOnce(&mut Form)) {
        self.head(field, 0);
        let start = self.0.len();
        write(self);
        let len = length(self.0.len() - start);
        self.0[start - len.len()..start].copy_from_slice(&len);
    }

    fn field(&mut self, field: u32, value: &[u8]) {
        self.head(field, value.len());
        self.0.extend_from_slice(value);
    }

    fn head(&mut self, field: u32, len: usize) {
        self.0.extend_from_slice(&field.to_be_bytes());
        self.0.extend_from_slice(&length(len));
    }
}

fn length(len: usize) -> [u8; 8] {
    let len = u64::try_from(len).expect("a length fits 64 bits");
    len.to_be_bytes()
}

#[cfg(test)]
mod tests;
