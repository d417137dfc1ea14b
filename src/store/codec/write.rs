//! From the domain to the wire, without a copy in between. Fields and tags are those of `wire`.

use tercet_core::{
    payload::{Failure, Payload},
    retry::RetryPolicy,
    step::Call,
    transaction::{Attention, Branch, BranchSpec, Methods, Target, Transaction},
};

use super::numbers::Numbered;
use crate::{
    message::Message,
    store::{BranchTimes, HistoryEvent, Origin, Record, UnixMs},
};

pub(super) fn record(to: &mut Message<'_>, it: &Record) {
    to.text(1, it.id.as_str());
    to.number(2, it.revision);
    to.number(3, it.epoch);
    to.number(4, it.boot);
    to.message(5, |to| origin(to, &it.origin));
    to.message(6, |to| transaction(to, it));
    to.signed(7, it.update_ms);
    to.given_signed(8, it.decide_ms);
    to.given_signed(9, it.finish_ms);
    to.given_signed(10, it.keep_until_ms);
    to.number(11, it.cut_down);
    for line in &it.history {
        to.message(12, |to| history_event(to, line));
    }
    to.number(13, it.history_dropped_revision);
}

fn origin(to: &mut Message<'_>, it: &Origin) {
    if let Some(digest) = &it.digest {
        to.given_bytes(1, digest);
    }
    to.text(2, &it.transaction_type);
    to.text(3, &it.business_key);
    to.texts(4, &it.labels);
    to.texts(5, &it.switches);
    to.signed(6, it.create_ms);
    to.signed(7, it.expire_ms);
    to.number(8, it.try_timeout_ms);
    to.fixed(9, (it.report_token >> 64) as u64);
    to.fixed(10, it.report_token as u64);
    to.text(11, &it.traceparent);
}

fn transaction(to: &mut Message<'_>, record: &Record) {
    let it: &Transaction = &record.transaction;
    to.number(1, it.mode.number());
    to.number(2, it.interactive);
    to.message(3, |to| policy(to, &it.policy));
    to.number(4, it.state.number());
    to.number(5, it.commit_requested);
    to.number(6, it.paused);
    given_failure(to, 7, it.failure.as_ref());
    for (at, it) in it.branches.iter().enumerate() {
        let times = record.branch_times.get(at).copied().unwrap_or_default();
        to.message(8, |to| branch(to, it, times));
    }
    for (at, it) in it.attentions.iter().enumerate() {
        let raised_ms = record.attention_ms.get(at).copied();
        to.message(9, |to| {
            attention(to, it, raised_ms.unwrap_or(record.update_ms))
        });
    }
}

fn policy(to: &mut Message<'_>, it: &RetryPolicy) {
    to.numbers(1, &it.intervals_ms);
    to.number(2, it.jitter_permille);
    to.number(3, it.attention_after_attempts);
}

fn branch(to: &mut Message<'_>, it: &Branch, times: BranchTimes) {
    to.message(1, |to| spec(to, &it.spec));
    to.number(2, it.state.number());
    to.number(3, it.next.number());
    to.number(4, it.pace.early);
    to.number(5, it.pace.ladder);
    to.number(6, it.failed_attempts);
    to.number(7, it.attempts.tries);
    to.number(8, it.attempts.confirms);
    to.number(9, it.attempts.cancels);
    to.number(10, it.attempts.queries);
    given_payload(to, 11, it.try_result.as_ref());
    given_payload(to, 12, it.confirm_result.as_ref());
    given_failure(to, 13, it.last_failure.as_ref());
    to.given_signed(14, times.last_attempt_ms);
    to.given_signed(15, times.next_attempt_ms);
    to.given(16, times.interval_ms);
}

fn spec(to: &mut Message<'_>, it: &BranchSpec) {
    to.text(1, it.id.as_str());
    match &it.target {
        Target::Contract {
            participant,
            resource,
        } => to.message(2, |to| {
            to.text(1, participant.as_str());
            to.text(2, resource);
        }),
        Target::Methods(it) => to.message(3, |to| methods(to, it)),
    }
    given_payload(to, 4, Some(&it.payload));
    to.number(5, it.try_timeout_ms);
}

fn methods(to: &mut Message<'_>, it: &Methods) {
    to.text(1, &it.endpoint);
    to.text(2, &it.try_method);
    to.text(3, &it.confirm_method);
    to.text(4, &it.cancel_method);
    if let Some(method) = &it.query_method {
        to.given_bytes(5, method.as_bytes());
    }
    given_payload(to, 6, it.confirm_payload.as_ref());
    given_payload(to, 7, it.cancel_payload.as_ref());
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

fn attention(to: &mut Message<'_>, it: &Attention, raised_ms: UnixMs) {
    to.number(1, it.reason.number());
    to.number(2, it.branch as u64);
    to.text(3, &it.detail);
    to.signed(4, raised_ms);
}

fn history_event(to: &mut Message<'_>, it: &HistoryEvent) {
    let event = &it.event;
    let number = |it: u32| u64::from(it);
    to.number(1, it.revision);
    to.signed(2, it.event_ms);
    to.given(3, it.latency_ms);
    to.text(4, &it.actor);
    to.given(5, event.branch.map(|branch| branch as u64));
    if let Some(it) = event.call {
        to.message(6, |to| call(to, it));
    }
    to.given(7, event.outcome.map(Numbered::number).map(number));
    to.number(8, event.state.number());
    to.given(9, event.branch_state.map(Numbered::number).map(number));
    given_failure(to, 10, event.failure.as_ref());
}

fn call(to: &mut Message<'_>, it: Call) {
    to.number(1, it.branch as u64);
    to.number(2, it.operation.number());
    to.number(3, it.query);
    to.number(4, it.attempt);
}
