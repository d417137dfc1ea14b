//! From the wire to the domain, refusing whatever was never written.

use std::{collections::BTreeMap, str::FromStr, sync::Arc};

use tercet_core::{
    check,
    ids::IdError,
    payload::{Failure, Payload},
    retry::{Pace, RetryPolicy},
    step::{Call, Event},
    transaction::{Attempts, Attention, Branch, BranchSpec, Methods, State, Target, Transaction},
};

use super::{DecodeError, Head, counted, numbers::Numbered, wire};
use crate::store::{BranchTimes, HistoryEvent, Origin, Record};

pub(super) fn record(it: wire::Record) -> Result<Record, DecodeError> {
    let origin = origin(it.origin.ok_or(DecodeError::Missing("origin"))?)?;
    let transaction = it.transaction.ok_or(DecodeError::Missing("transaction"))?;
    let branch_times = transaction.branches.iter().map(times).collect();
    let attention_ms = transaction
        .attentions
        .iter()
        .map(|it| it.raised_ms)
        .collect();
    let revision = revision(it.revision)?;
    Ok(Record {
        id: id("transaction id", it.id)?,
        revision,
        epoch: counted("epoch", it.epoch)?,
        boot: counted("boot", it.boot)?,
        origin: Arc::new(origin),
        transaction: self::transaction(transaction)?,
        update_ms: it.update_ms,
        decide_ms: it.decide_ms,
        finish_ms: it.finish_ms,
        keep_until_ms: it.keep_until_ms,
        cut_down: it.cut_down,
        branch_times,
        attention_ms,
        history: history(it.history, revision)?,
        history_dropped_revision: counted("revision", it.history_dropped_revision)?,
    })
}

pub(super) fn head(it: wire::Head) -> Result<Head, DecodeError> {
    let origin = it.origin.ok_or(DecodeError::Missing("origin"))?;
    let transaction = it.transaction.ok_or(DecodeError::Missing("transaction"))?;
    Ok(Head {
        id: it.id,
        revision: revision(it.revision)?,
        epoch: counted("epoch", it.epoch)?,
        finished: State::of(transaction.state)?.is_terminal(),
        keep_until_ms: it.keep_until_ms,
        business_key: origin.business_key,
    })
}

fn revision(number: u64) -> Result<u64, DecodeError> {
    match number {
        0 => Err(DecodeError::Missing("revision")),
        _ => counted("revision", number),
    }
}

fn origin(it: wire::Origin) -> Result<Origin, DecodeError> {
    let digest = it.digest.map(|bytes| {
        <[u8; 32]>::try_from(&bytes[..]).map_err(|_| DecodeError::Number {
            what: "length of a SHA-256 digest",
            number: bytes.len() as u64,
        })
    });
    Ok(Origin {
        digest: digest.transpose()?,
        transaction_type: it.transaction_type.into(),
        business_key: it.business_key.into(),
        labels: texts(it.labels),
        switches: texts(it.switches),
        create_ms: it.create_ms,
        expire_ms: it.expire_ms,
        try_timeout_ms: it.try_timeout_ms,
        report_token: u128::from(it.report_token_high) << 64 | u128::from(it.report_token_low),
        traceparent: it.traceparent.into(),
    })
}

fn transaction(it: wire::Transaction) -> Result<Transaction, DecodeError> {
    let policy = policy(it.policy.ok_or(DecodeError::Missing("retry policy"))?)?;
    let branches: Result<_, _> = it.branches.into_iter().map(branch).collect();
    let attentions: Result<_, _> = it.attentions.into_iter().map(attention).collect();
    let transaction = Transaction {
        mode: Numbered::of(it.mode)?,
        interactive: it.interactive,
        policy: Arc::new(policy),
        state: Numbered::of(it.state)?,
        commit_requested: it.commit_requested,
        paused: it.paused,
        failure: it.failure.map(failure),
        branches: branches?,
        attentions: attentions?,
    };
    check::well_formed(&transaction)?;
    Ok(transaction)
}

fn policy(it: wire::RetryPolicy) -> Result<RetryPolicy, DecodeError> {
    if it.intervals_ms.is_empty() {
        return Err(DecodeError::Missing("retry interval"));
    }
    Ok(RetryPolicy {
        intervals_ms: it.intervals_ms.into(),
        jitter_permille: narrow("jitter in per mille", it.jitter_permille)?,
        attention_after_attempts: it.attention_after_attempts,
    })
}

fn branch(it: wire::Branch) -> Result<Branch, DecodeError> {
    let spec = spec(it.spec.ok_or(DecodeError::Missing("branch content"))?)?;
    Ok(Branch {
        spec: Arc::new(spec),
        state: Numbered::of(it.state)?,
        next: Numbered::of(it.next)?,
        pace: Pace {
            early: narrow("count of early attempts", it.pace_early)?,
            ladder: it.pace_ladder,
        },
        failed_attempts: it.failed_attempts,
        attempts: Attempts {
            tries: it.tries,
            confirms: it.confirms,
            cancels: it.cancels,
            queries: it.queries,
        },
        try_result: it.try_result.map(payload),
        confirm_result: it.confirm_result.map(payload),
        last_failure: it.last_failure.map(failure),
    })
}

fn times(it: &wire::Branch) -> BranchTimes {
    BranchTimes {
        last_attempt_ms: it.last_attempt_ms,
        next_attempt_ms: it.next_attempt_ms,
        interval_ms: it.interval_ms,
    }
}

fn spec(it: wire::BranchSpec) -> Result<BranchSpec, DecodeError> {
    let target = match it.target.ok_or(DecodeError::Missing("branch target"))? {
        wire::Target::Contract(it) => Target::Contract {
            participant: id("participant name", it.participant)?,
            resource: it.resource.into(),
        },
        wire::Target::Methods(it) => Target::Methods(methods(it)),
    };
    Ok(BranchSpec {
        id: id("branch id", it.id)?,
        target,
        payload: payload(it.payload.ok_or(DecodeError::Missing("branch payload"))?),
        try_timeout_ms: it.try_timeout_ms,
    })
}

fn methods(it: wire::Methods) -> Methods {
    Methods {
        endpoint: it.endpoint.into(),
        try_method: it.try_method.into(),
        confirm_method: it.confirm_method.into(),
        cancel_method: it.cancel_method.into(),
        query_method: it.query_method.map(Into::into),
        confirm_payload: it.confirm_payload.map(payload),
        cancel_payload: it.cancel_payload.map(payload),
    }
}

fn payload(it: wire::Payload) -> Payload {
    Payload {
        type_url: it.type_url.into(),
        value: it.value[..].into(),
    }
}

fn failure(it: wire::Failure) -> Failure {
    Failure {
        reason: it.reason.into(),
        message: it.message.into(),
        metadata: texts(it.metadata),
        code: it.code,
    }
}

fn attention(it: wire::Attention) -> Result<Attention, DecodeError> {
    Ok(Attention {
        reason: Numbered::of(it.reason)?,
        branch: position(it.branch)?,
        detail: it.detail.into(),
    })
}

/// Pages and watches find their place by revisions, so they have to be in order.
fn history(
    lines: Vec<wire::HistoryEvent>,
    revision: u64,
) -> Result<Vec<HistoryEvent>, DecodeError> {
    let history: Result<Vec<_>, _> = lines.into_iter().map(history_event).collect();
    let history = history?;
    let ordered = history.is_sorted_by_key(|line| line.revision);
    if !ordered || history.last().is_some_and(|line| line.revision > revision) {
        return Err(DecodeError::History);
    }
    Ok(history)
}

fn history_event(it: wire::HistoryEvent) -> Result<HistoryEvent, DecodeError> {
    let event = Event {
        branch: it.branch.map(position).transpose()?,
        call: it.call.map(call).transpose()?,
        outcome: it.outcome.map(Numbered::of).transpose()?,
        state: Numbered::of(it.state)?,
        branch_state: it.branch_state.map(Numbered::of).transpose()?,
        failure: it.failure.map(failure),
    };
    Ok(HistoryEvent {
        revision: it.revision,
        event_ms: it.event_ms,
        event,
        latency_ms: it.latency_ms,
        actor: it.actor.into(),
    })
}

fn call(it: wire::Call) -> Result<Call, DecodeError> {
    Ok(Call {
        branch: position(it.branch)?,
        operation: Numbered::of(it.operation)?,
        query: it.query,
        attempt: it.attempt,
    })
}

fn position(number: u64) -> Result<usize, DecodeError> {
    let what = "position of a branch";
    usize::try_from(number).map_err(|_| DecodeError::Number { what, number })
}

fn narrow<T: TryFrom<u32>>(what: &'static str, number: u32) -> Result<T, DecodeError> {
    T::try_from(number).map_err(|_| DecodeError::Number {
        what,
        number: number.into(),
    })
}

fn id<T: FromStr<Err = IdError>>(what: &'static str, text: String) -> Result<T, DecodeError> {
    let parsed = text.parse();
    parsed.map_err(|source| DecodeError::Id { what, text, source })
}

fn texts(map: BTreeMap<String, String>) -> BTreeMap<Arc<str>, Arc<str>> {
    let entries = map.into_iter();
    entries
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}
