//! What an engine is given: its bounds, and new transactions.

use std::{collections::BTreeMap, sync::Arc};

use tercet_core::{
    ids::TransactionId, outcome::ReplyMode, retry::RetryPolicy, transaction::BranchSpec,
};

use crate::store::UnixMs;

/// The bounds of one engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// New transactions in flight; past it, a new one is refused with a retry delay.
    pub inflight_max: usize,
    /// Transactions that recovery drives at the same time.
    pub recovery_inflight_max: usize,
    /// How long a finished record is kept whole.
    pub retention_ms: u64,
    /// How much longer the cut-down record keeps its id from running again.
    pub id_retention_ms: u64,
    /// How long calls in flight may take to end when the engine shuts down.
    pub drain_ms: u64,
}

impl Default for EngineConfig {
    fn default() -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1000;
        Self {
            inflight_max: 4096,
            recovery_inflight_max: 1024,
            retention_ms: 7 * DAY_MS,
            id_retention_ms: 30 * DAY_MS,
            drain_ms: 5_000,
        }
    }
}

/// A transaction as its client gave it, parsed and within every limit.
#[derive(Clone, Debug)]
pub struct NewTransaction {
    /// Its name and idempotency key.
    pub id: TransactionId,
    /// SHA-256 of the request's canonical form.
    pub digest: [u8; 32],
    /// How it answers.
    pub mode: ReplyMode,
    /// When indeterminate calls are repeated.
    pub policy: RetryPolicy,
    /// All branches; none for an interactive transaction.
    pub branches: Vec<BranchSpec>,
    /// For example `place-order`.
    pub transaction_type: Arc<str>,
    /// For example the order number.
    pub business_key: Arc<str>,
    /// The client's own words about it.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Migration switches.
    pub switches: BTreeMap<Arc<str>, Arc<str>>,
    /// From its creation to the decision.
    pub timeout_ms: u64,
    /// The Try timeout of branches that name none.
    pub try_timeout_ms: u64,
    /// W3C trace context, or empty.
    pub traceparent: Arc<str>,
    /// Arriving later, and unknown, it is refused.
    pub submit_expire_ms: Option<UnixMs>,
}
