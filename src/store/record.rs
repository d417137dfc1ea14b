//! What is kept of one transaction: the state machine's memory, and around it what only the shell
//! knows, times of day above all.

use std::{collections::BTreeMap, sync::Arc};

use tercet_core::{
    ids::TransactionId,
    step::Event,
    transaction::{State, Transaction},
};

/// Milliseconds since the Unix epoch.
pub type UnixMs = i64;

/// Lines of the timeline a record keeps; older ones are dropped first. With their failures cut to
/// [`Failure`](tercet_core::payload::Failure)'s reason and a short message, a full history stays
/// far below the limit on a record.
pub const HISTORY_EVENTS_MAX: usize = 128;

/// One transaction as stored, written whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its name and idempotency key.
    pub id: TransactionId,
    /// 1 for the first commit, one more with each; what compare-and-set compares.
    pub revision: u64,
    /// Of the coordinator that wrote it; a lower one never follows a higher.
    pub epoch: u64,
    /// The process that wrote it: another one has to treat every call as possibly sent.
    pub boot: u64,
    /// What was said when it was created.
    pub origin: Arc<Origin>,
    /// The state machine's memory.
    pub transaction: Transaction,
    /// Of this revision.
    pub update_ms: UnixMs,
    /// When commit or cancel was decided.
    pub decide_ms: Option<UnixMs>,
    /// When it ended.
    pub finish_ms: Option<UnixMs>,
    /// When a finished record is cut down, and a cut-down one is purged; none while unfinished.
    pub keep_until_ms: Option<UnixMs>,
    /// Payloads, branches and history are gone; what is left keeps the id from running again.
    pub cut_down: bool,
    /// One for each branch, in the same order.
    pub branch_times: Vec<BranchTimes>,
    /// When each attention was raised, in the same order.
    pub attention_ms: Vec<UnixMs>,
    /// The timeline, oldest first, at most [`HISTORY_EVENTS_MAX`] lines.
    pub history: Vec<HistoryEvent>,
    /// The highest revision of which a line was dropped from the history; 0 while it is whole.
    pub history_dropped_revision: u64,
}

/// What is said of a transaction once, when it is created.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// SHA-256 of the request's canonical form; none when its id was forbidden before it came.
    pub digest: Option<[u8; 32]>,
    /// For example `place-order`; may be empty.
    pub transaction_type: Arc<str>,
    /// For example the order number; indexed, not unique; may be empty.
    pub business_key: Arc<str>,
    /// The client's own words about it.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Migration switches, sent on every call.
    pub switches: BTreeMap<Arc<str>, Arc<str>>,
    /// When it was created.
    pub create_ms: UnixMs,
    /// Undecided at this time, it is canceled.
    pub expire_ms: UnixMs,
    /// The Try timeout of branches that name none.
    pub try_timeout_ms: u64,
    /// What a participant has to give back in ReportBranch.
    pub report_token: u128,
    /// W3C trace context of the call that created it; may be empty.
    pub traceparent: Arc<str>,
}

/// When a branch is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchTimes {
    /// When its last call began.
    pub last_attempt_ms: Option<UnixMs>,
    /// When its next call begins; none while a call is out, or when none is owed.
    pub next_attempt_ms: Option<UnixMs>,
    /// The interval that led to it.
    pub interval_ms: Option<u64>,
}

/// One line of the timeline, with what only the shell knows.
#[derive(Clone, Debug, PartialEq)]
pub struct HistoryEvent {
    /// The revision that first contains it.
    pub revision: u64,
    /// When it happened.
    pub event_ms: UnixMs,
    /// What happened.
    pub event: Event,
    /// How long the call took, if it is about one.
    pub latency_ms: Option<u64>,
    /// `client`, `participant`, `recovery` or `operator:NAME`.
    pub actor: Arc<str>,
}

impl Record {
    /// When something has to happen by itself; none for a finished transaction. Work that may be
    /// under way counts as due at once, since a record can't know.
    #[must_use]
    pub fn due_ms(&self) -> Option<UnixMs> {
        let transaction = &self.transaction;
        if transaction.state.is_terminal() {
            return None;
        }
        let deadline_ms = match transaction.state {
            State::Trying => self.origin.expire_ms,
            _ => UnixMs::MAX,
        };
        let owed = transaction.owed().filter(|_| !transaction.paused);
        let attempts = owed.map(|call| {
            let times = self
                .branch_times
                .get(call.branch)
                .copied()
                .unwrap_or_default();
            times.next_attempt_ms.unwrap_or(self.update_ms)
        });
        Some(attempts.chain([deadline_ms]).min().unwrap_or(deadline_ms))
    }
}
