//! The record a driver works on: what is acknowledged, and what has happened since.

use std::{sync::Arc, time::Duration};

use tercet_core::{
    check,
    ids::TransactionId,
    payload::Failure,
    step::{Call, Event},
    transaction::{Attention, State, Transaction},
};
use tracing::span::EnteredSpan;

use super::NewTransaction;
use crate::store::{
    BranchTimes, HISTORY_EVENTS_MAX, HistoryEvent, Identity, Origin, Record, UnixMs,
};

/// Characters of a failure's message that the timeline keeps; the branch keeps it whole.
const HISTORY_MESSAGE_CHARS_MAX: usize = 120;

pub(super) struct Draft {
    /// Shared with what was committed last, until something changes.
    record: Arc<Record>,
    /// Not yet in the record: they get the revision of the next commit.
    fresh: Vec<HistoryEvent>,
    dirty: bool,
}

/// Who moved the transaction, and when.
pub(super) struct Stamp {
    pub(super) now_ms: UnixMs,
    pub(super) actor: &'static str,
    pub(super) latency: Option<Duration>,
}

impl Draft {
    /// A transaction that has no record yet; its first step follows.
    pub(super) fn create(id: &TransactionId, origin: Origin, transaction: Transaction) -> Self {
        let now_ms = origin.create_ms;
        let record = Record {
            id: id.clone(),
            revision: 0,
            epoch: 0,
            boot: 0,
            origin: Arc::new(origin),
            transaction,
            update_ms: now_ms,
            decide_ms: None,
            finish_ms: None,
            keep_until_ms: None,
            cut_down: false,
            branch_times: Vec::new(),
            attention_ms: Vec::new(),
            history: Vec::new(),
            history_dropped_revision: 0,
        };
        Self::loaded(Arc::new(record))
    }

    pub(super) fn loaded(record: Arc<Record>) -> Self {
        Self {
            record,
            fresh: Vec::new(),
            dirty: false,
        }
    }

    pub(super) fn record(&self) -> &Record {
        &self.record
    }

    pub(super) fn transaction(&self) -> &Transaction {
        &self.record.transaction
    }

    /// True when something is known that no commit has taken yet.
    pub(super) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Takes in a step's result.
    pub(super) fn take_in(&mut self, next: Transaction, events: Vec<Event>, stamp: &Stamp) {
        debug_assert_eq!(check::legal(&self.record.transaction, &next), Ok(()));
        self.dirty |= self.record.transaction != next;
        let record = Arc::make_mut(&mut self.record);
        let mut raised_ms = Vec::with_capacity(next.attentions.len());
        for attention in &next.attentions {
            let known = record
                .transaction
                .attentions
                .iter()
                .position(|it| (it.reason, it.branch) == (attention.reason, attention.branch));
            if known.is_none() {
                warn_of(attention, &next, &record.id);
            }
            raised_ms.push(known.map_or(stamp.now_ms, |at| record.attention_ms[at]));
        }
        if tracing::enabled!(tracing::Level::DEBUG) {
            let _span = span(&record.id);
            events.iter().for_each(|event| trace_of(event, &next));
        }
        record.attention_ms = raised_ms;
        record
            .branch_times
            .resize(next.branches.len(), BranchTimes::default());
        if record.decide_ms.is_none() && next.state != State::Trying {
            record.decide_ms = Some(stamp.now_ms);
        }
        if record.finish_ms.is_none() && next.state.is_terminal() {
            record.finish_ms = Some(stamp.now_ms);
        }
        record.transaction = next;
        self.fresh
            .extend(events.into_iter().map(|event| history_event(event, stamp)));
    }

    /// A call of this branch begins.
    pub(super) fn call_begins(&mut self, call: Call, now_ms: UnixMs) {
        let record = Arc::make_mut(&mut self.record);
        if let Some(times) = record.branch_times.get_mut(call.branch) {
            *times = BranchTimes {
                last_attempt_ms: Some(now_ms),
                ..BranchTimes::default()
            };
        }
    }

    /// The next call of this branch begins after an interval.
    pub(super) fn call_waits(&mut self, branch: usize, interval_ms: u64, now_ms: UnixMs) {
        let record = Arc::make_mut(&mut self.record);
        if let Some(times) = record.branch_times.get_mut(branch) {
            let interval = UnixMs::try_from(interval_ms).unwrap_or(UnixMs::MAX);
            times.next_attempt_ms = Some(now_ms.saturating_add(interval));
            times.interval_ms = Some(interval_ms);
        }
    }

    /// The record to commit next.
    pub(super) fn seal(
        &mut self,
        identity: &Identity,
        now_ms: UnixMs,
        retention_ms: u64,
    ) -> Arc<Record> {
        let record = Arc::make_mut(&mut self.record);
        record.revision += 1;
        record.epoch = identity.epoch;
        record.boot = identity.boot;
        record.update_ms = now_ms;
        if let (Some(finish_ms), None) = (record.finish_ms, record.keep_until_ms) {
            let retention = UnixMs::try_from(retention_ms).unwrap_or(UnixMs::MAX);
            record.keep_until_ms = Some(finish_ms.saturating_add(retention));
        }
        let revision = record.revision;
        record.history.extend(
            self.fresh
                .drain(..)
                .map(|event| HistoryEvent { revision, ..event }),
        );
        let surplus = record.history.len().saturating_sub(HISTORY_EVENTS_MAX);
        if let Some(last) = record.history.drain(..surplus).next_back() {
            record.history_dropped_revision = last.revision;
        }
        self.dirty = false;
        Arc::clone(&self.record)
    }
}

/// The span that every line about a transaction is written in. It is made for each line: one that lasted
/// as long as its driver would cost every transaction more than any of its steps.
pub(super) fn span(id: &TransactionId) -> EnteredSpan {
    tracing::info_span!("transaction", %id).entered()
}

/// Who only reads the log should still learn that a person is needed.
fn warn_of(attention: &Attention, transaction: &Transaction, id: &TransactionId) {
    let _span = span(id);
    tracing::warn!(
        branch = transaction.branches[attention.branch].spec.id.as_str(),
        reason = ?attention.reason,
        detail = &*attention.detail,
        "a person should look"
    );
}

fn trace_of(event: &Event, transaction: &Transaction) {
    tracing::debug!(
        branch = event.branch.map(|at| transaction.branches[at].spec.id.as_str()),
        operation = ?event.call.map(|call| call.operation),
        attempt = event.call.map(|call| call.attempt),
        state = ?event.state,
        failure = event.failure.as_ref().map(|failure| &*failure.reason),
        "a step"
    );
}

fn history_event(event: Event, stamp: &Stamp) -> HistoryEvent {
    let failure = event.failure.map(|failure| Failure {
        message: failure
            .message
            .chars()
            .take(HISTORY_MESSAGE_CHARS_MAX)
            .collect::<String>()
            .into(),
        metadata: Default::default(),
        ..failure
    });
    let is_call = event.call.is_some();
    HistoryEvent {
        revision: 0,
        event_ms: stamp.now_ms,
        event: Event { failure, ..event },
        latency_ms: stamp
            .latency
            .filter(|_| is_call)
            .map(|it| u64::try_from(it.as_millis()).unwrap_or(u64::MAX)),
        actor: stamp.actor.into(),
    }
}

impl NewTransaction {
    /// What its record says of it for ever.
    pub(super) fn origin(&self, now_ms: UnixMs, report_token: u128) -> Origin {
        let timeout = UnixMs::try_from(self.timeout_ms).unwrap_or(UnixMs::MAX);
        Origin {
            digest: Some(self.digest),
            transaction_type: Arc::clone(&self.transaction_type),
            business_key: Arc::clone(&self.business_key),
            labels: self.labels.clone(),
            switches: self.switches.clone(),
            create_ms: now_ms,
            expire_ms: now_ms.saturating_add(timeout),
            try_timeout_ms: self.try_timeout_ms,
            report_token,
            traceparent: Arc::clone(&self.traceparent),
        }
    }
}
