//! Records as protobuf: what clients read of a transaction.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tercet_core::{
    ids::BranchId,
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    payload::{Failure, Payload},
    transaction::{AttentionReason, Branch, BranchSpec, BranchState, State, Target},
};

use crate::{
    engine::NewTransaction,
    proto::tercet::{participant::v1 as participant, v1 as pb},
    store::{BranchTimes, HistoryEvent, Record, UnixMs},
};

/// The beginning of the year 1.
const TIMESTAMP_MS_MIN: UnixMs = -62_135_596_800_000;
/// The end of the year 9999.
const TIMESTAMP_MS_MAX: UnixMs = 253_402_300_799_999;
/// About 10,000 years.
const DURATION_MS_MAX: u64 = 315_576_000_000_000;

/// How much of a transaction is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    /// Without what its client sent as payloads.
    Basic,
    /// All of it.
    Full,
}

/// A transaction as stored.
pub(super) fn transaction(record: &Record, view: View) -> pb::Transaction {
    let it = &record.transaction;
    let origin = &record.origin;
    let times = &record.branch_times;
    let times_of = |at: usize| times.get(at).copied().unwrap_or_default();
    let branches = it.branches.iter().enumerate();
    let next_attempt_ms = times.iter().filter_map(|it| it.next_attempt_ms).min();
    pb::Transaction {
        transaction_id: text(record.id.as_str()),
        transaction_type: text(&origin.transaction_type),
        business_key: text(&origin.business_key),
        labels: texts(&origin.labels),
        switches: texts(&origin.switches),
        reply_mode: mode(it.mode).into(),
        state: state(it.state).into(),
        outcome: outcome(it.outcome()).into(),
        failure: it.failure.as_ref().map(failure),
        branches: branches
            .map(|(at, it)| branch(it, times_of(at), view))
            .collect(),
        attentions: attentions(record),
        paused: it.paused,
        commit_requested: it.commit_requested,
        create_time: Some(timestamp(origin.create_ms)),
        update_time: Some(timestamp(record.update_ms)),
        expire_time: Some(timestamp(origin.expire_ms)),
        decide_time: record.decide_ms.map(timestamp),
        finish_time: record.finish_ms.map(timestamp),
        next_attempt_time: next_attempt_ms.map(timestamp),
        purge_time: record.keep_until_ms.map(timestamp),
        traceparent: text(&origin.traceparent),
        revision: revision(record.revision),
        etag: format!("r{}", record.revision),
        decision: decision(it.decision()).into(),
    }
}

/// What a transaction would be recorded as; it has no state, since nothing was started.
pub(super) fn validated(new: &NewTransaction) -> pb::Transaction {
    let branches = new.branches.iter();
    pb::Transaction {
        transaction_id: text(new.id.as_str()),
        transaction_type: text(&new.transaction_type),
        business_key: text(&new.business_key),
        labels: texts(&new.labels),
        switches: texts(&new.switches),
        reply_mode: mode(new.mode).into(),
        branches: branches.map(|spec| named(spec, View::Basic)).collect(),
        traceparent: text(&new.traceparent),
        ..pb::Transaction::default()
    }
}

/// One line of the timeline.
pub(super) fn event(record: &Record, line: &HistoryEvent) -> pb::TransactionEvent {
    let event = &line.event;
    let branch = event
        .branch
        .and_then(|at| record.transaction.branches.get(at));
    let call = event.call;
    let operation = match call {
        None => participant::Operation::Unspecified,
        Some(call) if call.query => participant::Operation::Query,
        Some(call) => operation(call.operation),
    };
    let branch_state = match event.branch_state {
        _ if is_refused_try(line) => pb::BranchState::TryFailed,
        None => pb::BranchState::Unspecified,
        Some(it) => state_of_branch(it),
    };
    pb::TransactionEvent {
        revision: revision(line.revision),
        event_time: Some(timestamp(line.event_ms)),
        branch_id: branch
            .map(|it| text(it.spec.id.as_str()))
            .unwrap_or_default(),
        operation: operation.into(),
        attempt: call.map_or(0, |it| count(it.attempt)),
        state: state(event.state).into(),
        branch_state: branch_state.into(),
        failure: event.failure.as_ref().map(failure),
        latency: line.latency_ms.map(duration),
        actor: text(&line.actor),
        ..pb::TransactionEvent::default()
    }
}

/// How the Try of a branch came out.
///
/// Once cancel is decided it is FAILED for the caller, even if this branch had been reserved: with the
/// branch's own refusal if it was the one, else with the cause of the rollback.
pub(super) fn tried(record: &Record, id: &BranchId) -> pb::TryBranchResponse {
    let transaction = &record.transaction;
    let Some(at) = transaction.position(id) else {
        // Cut down in the meantime: all that is left is how it ended.
        return pb::TryBranchResponse {
            outcome: outcome(transaction.outcome()).into(),
            failure: transaction.failure.as_ref().map(failure),
            ..pb::TryBranchResponse::default()
        };
    };
    let it = &transaction.branches[at];
    let times = record.branch_times.get(at).copied().unwrap_or_default();
    let mut shown = branch(it, times, View::Basic);
    let result = it.try_result.as_ref().map(payload);
    match (transaction.decision(), it.state) {
        (Some(Decision::Cancel), _) => {
            let of_branch = |line: &&HistoryEvent| line.event.branch == Some(at);
            let mut lines = record.history.iter().filter(of_branch);
            let refusal = lines.find(|line| is_refused_try(line));
            if refusal.is_some() {
                shown.state = pb::BranchState::TryFailed.into();
            }
            let own = refusal.and_then(|line| line.event.failure.as_ref());
            pb::TryBranchResponse {
                outcome: participant::Outcome::Failed.into(),
                failure: own.or(transaction.failure.as_ref()).map(failure),
                result: None,
                branch: Some(shown),
            }
        }
        (None, BranchState::Trying) => pb::TryBranchResponse {
            outcome: participant::Outcome::Processing.into(),
            branch: Some(shown),
            ..pb::TryBranchResponse::default()
        },
        (None | Some(Decision::Commit), _) => pb::TryBranchResponse {
            outcome: participant::Outcome::Success.into(),
            result,
            failure: None,
            branch: Some(shown),
        },
    }
}

/// A revision, which never comes near the end of 63 bits.
pub(super) fn revision(revision: u64) -> i64 {
    i64::try_from(revision).unwrap_or(i64::MAX)
}

fn is_refused_try(line: &HistoryEvent) -> bool {
    let event = &line.event;
    let of_try = event
        .call
        .is_some_and(|call| call.operation == Operation::Try);
    of_try && event.outcome == Some(Outcome::Failed)
}

fn branch(it: &Branch, times: BranchTimes, view: View) -> pb::Branch {
    pb::Branch {
        state: state_of_branch(it.state).into(),
        try_result: it.try_result.as_ref().map(payload),
        confirm_result: it.confirm_result.as_ref().map(payload),
        last_failure: it.last_failure.as_ref().map(failure),
        try_attempts: count(it.attempts.tries),
        confirm_attempts: count(it.attempts.confirms),
        cancel_attempts: count(it.attempts.cancels),
        query_attempts: count(it.attempts.queries),
        last_attempt_time: times.last_attempt_ms.map(timestamp),
        next_attempt_time: times.next_attempt_ms.map(timestamp),
        current_retry_interval: times.interval_ms.map(duration),
        ..named(&it.spec, view)
    }
}

fn named(spec: &BranchSpec, view: View) -> pb::Branch {
    let (participant, resource) = match &spec.target {
        Target::Contract {
            participant,
            resource,
        } => (text(participant.as_str()), text(resource)),
        Target::Methods(methods) => (text(&methods.endpoint), String::new()),
    };
    let payload = match view {
        View::Basic => None,
        View::Full => Some(payload(&spec.payload)),
    };
    pb::Branch {
        branch_id: text(spec.id.as_str()),
        participant,
        resource,
        payload,
        ..pb::Branch::default()
    }
}

fn attentions(record: &Record) -> Vec<pb::Attention> {
    let transaction = &record.transaction;
    let attentions = transaction.attentions.iter().enumerate();
    attentions
        .map(|(at, it)| {
            let branch = transaction.branches.get(it.branch);
            pb::Attention {
                reason: attention(it.reason).into(),
                branch_id: branch
                    .map(|it| text(it.spec.id.as_str()))
                    .unwrap_or_default(),
                detail: text(&it.detail),
                raise_time: record.attention_ms.get(at).copied().map(timestamp),
            }
        })
        .collect()
}

pub(super) fn attention(it: AttentionReason) -> pb::AttentionReason {
    match it {
        AttentionReason::RetriesExceeded => pb::AttentionReason::RetriesExceeded,
        AttentionReason::Refused => pb::AttentionReason::Refused,
        AttentionReason::StateMismatch => pb::AttentionReason::StateMismatch,
        AttentionReason::ReplyTooLarge => pb::AttentionReason::ReplyTooLarge,
    }
}

pub(super) fn state(it: State) -> pb::TransactionState {
    match it {
        State::Trying => pb::TransactionState::Trying,
        State::Confirming => pb::TransactionState::Confirming,
        State::Confirmed => pb::TransactionState::Confirmed,
        State::Canceling => pb::TransactionState::Canceling,
        State::Canceled => pb::TransactionState::Canceled,
        State::Mixed(_) => pb::TransactionState::Mixed,
    }
}

pub(super) fn outcome(it: Outcome) -> participant::Outcome {
    match it {
        Outcome::Success => participant::Outcome::Success,
        Outcome::Failed => participant::Outcome::Failed,
        Outcome::Processing => participant::Outcome::Processing,
    }
}

fn state_of_branch(it: BranchState) -> pb::BranchState {
    match it {
        BranchState::Trying => pb::BranchState::Trying,
        BranchState::Tried => pb::BranchState::Tried,
        BranchState::Confirming => pb::BranchState::Confirming,
        BranchState::Confirmed => pb::BranchState::Confirmed,
        BranchState::Canceling => pb::BranchState::Canceling,
        BranchState::Canceled => pb::BranchState::Canceled,
        BranchState::Resolved(_) => pb::BranchState::Resolved,
    }
}

fn mode(it: ReplyMode) -> pb::ReplyMode {
    match it {
        ReplyMode::TwoState => pb::ReplyMode::TwoState,
        ReplyMode::ThreeState => pb::ReplyMode::ThreeState,
        ReplyMode::Accepted => pb::ReplyMode::Accepted,
    }
}

fn decision(it: Option<Decision>) -> pb::Decision {
    match it {
        None => pb::Decision::Unspecified,
        Some(Decision::Commit) => pb::Decision::Commit,
        Some(Decision::Cancel) => pb::Decision::Cancel,
    }
}

fn operation(it: Operation) -> participant::Operation {
    match it {
        Operation::Try => participant::Operation::Try,
        Operation::Confirm => participant::Operation::Confirm,
        Operation::Cancel => participant::Operation::Cancel,
    }
}

fn payload(it: &Payload) -> participant::Payload {
    participant::Payload {
        type_url: text(&it.type_url),
        value: it.value.to_vec().into(),
    }
}

fn failure(it: &Failure) -> participant::Failure {
    participant::Failure {
        reason: text(&it.reason),
        message: text(&it.message),
        metadata: texts(&it.metadata),
        code: it.code,
    }
}

/// Not by way of `Display`, which writes piece by piece.
fn text(it: &str) -> String {
    it.to_owned()
}

fn texts(it: &BTreeMap<Arc<str>, Arc<str>>) -> BTreeMap<String, String> {
    let texts = it.iter();
    texts.map(|(key, value)| (text(key), text(value))).collect()
}

fn count(it: u32) -> i32 {
    i32::try_from(it).unwrap_or(i32::MAX)
}

/// Within what protobuf knows: a reader in another language refuses anything else.
fn timestamp(ms: UnixMs) -> prost_types::Timestamp {
    let ms = ms.clamp(TIMESTAMP_MS_MIN, TIMESTAMP_MS_MAX);
    let nanos = i32::try_from(ms.rem_euclid(1000) * 1_000_000);
    prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: nanos.expect("less than a second is fewer nanoseconds than 31 bits hold"),
    }
}

fn duration(ms: u64) -> prost_types::Duration {
    let duration = Duration::from_millis(ms.min(DURATION_MS_MAX));
    prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).expect("10,000 years fit 63 bits"),
        nanos: i32::try_from(duration.subsec_nanos()).expect("less than 10^9 fits 31 bits"),
    }
}

#[cfg(test)]
mod tests;
