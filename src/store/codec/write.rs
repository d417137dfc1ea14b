//! From the domain to the wire.

use std::{collections::BTreeMap, sync::Arc};

use prost::bytes::Bytes;
use tercet_core::{
    payload::{Failure, Payload},
    retry::RetryPolicy,
    step::Call,
    transaction::{Attention, Branch, BranchSpec, Methods, Target, Transaction},
};

use super::{numbers::Numbered, wire};
use crate::store::{BranchTimes, HistoryEvent, Origin, Record, UnixMs};

pub(super) fn record(it: &Record) -> wire::Record {
    wire::Record {
        id: text(it.id.as_str()),
        revision: it.revision,
        epoch: it.epoch,
        boot: it.boot,
        origin: Some(origin(&it.origin)),
        transaction: Some(transaction(it)),
        update_ms: it.update_ms,
        decide_ms: it.decide_ms,
        finish_ms: it.finish_ms,
        keep_until_ms: it.keep_until_ms,
        cut_down: it.cut_down,
        history: it.history.iter().map(history_event).collect(),
        history_dropped_revision: it.history_dropped_revision,
    }
}

fn origin(it: &Origin) -> wire::Origin {
    wire::Origin {
        digest: it.digest.map(Bytes::from_owner),
        transaction_type: text(&it.transaction_type),
        business_key: text(&it.business_key),
        labels: texts(&it.labels),
        switches: texts(&it.switches),
        create_ms: it.create_ms,
        expire_ms: it.expire_ms,
        try_timeout_ms: it.try_timeout_ms,
        report_token_high: (it.report_token >> 64) as u64,
        report_token_low: it.report_token as u64,
        traceparent: text(&it.traceparent),
    }
}

fn transaction(record: &Record) -> wire::Transaction {
    let it: &Transaction = &record.transaction;
    let times = record.branch_times.iter().copied();
    let times = times.chain(std::iter::repeat(BranchTimes::default()));
    let raised = record.attention_ms.iter().copied();
    let raised = raised.chain(std::iter::repeat(record.update_ms));
    let branches = it.branches.iter().zip(times);
    let attentions = it.attentions.iter().zip(raised);
    wire::Transaction {
        mode: it.mode.number(),
        interactive: it.interactive,
        policy: Some(policy(&it.policy)),
        state: it.state.number(),
        commit_requested: it.commit_requested,
        paused: it.paused,
        failure: it.failure.as_ref().map(failure),
        branches: branches.map(|(it, times)| branch(it, times)).collect(),
        attentions: attentions.map(|(it, ms)| attention(it, ms)).collect(),
    }
}

fn policy(it: &RetryPolicy) -> wire::RetryPolicy {
    wire::RetryPolicy {
        intervals_ms: it.intervals_ms.to_vec(),
        jitter_permille: it.jitter_permille.into(),
        attention_after_attempts: it.attention_after_attempts,
    }
}

fn branch(it: &Branch, times: BranchTimes) -> wire::Branch {
    wire::Branch {
        spec: Some(spec(&it.spec)),
        state: it.state.number(),
        next: it.next.number(),
        pace_early: it.pace.early.into(),
        pace_ladder: it.pace.ladder,
        failed_attempts: it.failed_attempts,
        tries: it.attempts.tries,
        confirms: it.attempts.confirms,
        cancels: it.attempts.cancels,
        queries: it.attempts.queries,
        try_result: it.try_result.as_ref().map(payload),
        confirm_result: it.confirm_result.as_ref().map(payload),
        last_failure: it.last_failure.as_ref().map(failure),
        last_attempt_ms: times.last_attempt_ms,
        next_attempt_ms: times.next_attempt_ms,
        interval_ms: times.interval_ms,
    }
}

fn spec(it: &BranchSpec) -> wire::BranchSpec {
    let target = match &it.target {
        Target::Contract {
            participant,
            resource,
        } => wire::Target::Contract(wire::Contract {
            participant: text(participant.as_str()),
            resource: text(resource),
        }),
        Target::Methods(it) => wire::Target::Methods(methods(it)),
    };
    wire::BranchSpec {
        id: text(it.id.as_str()),
        target: Some(target),
        payload: Some(payload(&it.payload)),
        try_timeout_ms: it.try_timeout_ms,
    }
}

fn methods(it: &Methods) -> wire::Methods {
    wire::Methods {
        endpoint: text(&it.endpoint),
        try_method: text(&it.try_method),
        confirm_method: text(&it.confirm_method),
        cancel_method: text(&it.cancel_method),
        query_method: it.query_method.as_deref().map(text),
        confirm_payload: it.confirm_payload.as_ref().map(payload),
        cancel_payload: it.cancel_payload.as_ref().map(payload),
    }
}

/// Shares the bytes instead of copying them.
fn payload(it: &Payload) -> wire::Payload {
    wire::Payload {
        type_url: text(&it.type_url),
        value: Bytes::from_owner(it.value.clone()),
    }
}

fn failure(it: &Failure) -> wire::Failure {
    wire::Failure {
        reason: text(&it.reason),
        message: text(&it.message),
        metadata: texts(&it.metadata),
        code: it.code,
    }
}

fn attention(it: &Attention, raised_ms: UnixMs) -> wire::Attention {
    wire::Attention {
        reason: it.reason.number(),
        branch: it.branch as u64,
        detail: text(&it.detail),
        raised_ms,
    }
}

fn history_event(it: &HistoryEvent) -> wire::HistoryEvent {
    wire::HistoryEvent {
        revision: it.revision,
        event_ms: it.event_ms,
        latency_ms: it.latency_ms,
        actor: text(&it.actor),
        branch: it.event.branch.map(|branch| branch as u64),
        call: it.event.call.map(call),
        outcome: it.event.outcome.map(Numbered::number),
        state: it.event.state.number(),
        branch_state: it.event.branch_state.map(Numbered::number),
        failure: it.event.failure.as_ref().map(failure),
    }
}

fn call(it: Call) -> wire::Call {
    wire::Call {
        branch: it.branch as u64,
        operation: it.operation.number(),
        query: it.query,
        attempt: it.attempt,
    }
}

fn texts(map: &BTreeMap<Arc<str>, Arc<str>>) -> BTreeMap<String, String> {
    let entries = map.iter();
    entries
        .map(|(key, value)| (text(key), text(value)))
        .collect()
}

fn text(it: &str) -> String {
    it.to_owned()
}
