//! The body of a record, as protobuf, to be read. A tag, once given, keeps its meaning for ever.

use std::collections::BTreeMap;

use prost::{Message, Oneof, bytes::Bytes};

/// Of [`Record::transaction`].
pub(super) const TRANSACTION_TAG: usize = 6;

#[derive(Clone, PartialEq, Message)]
pub(super) struct Record {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
    #[prost(uint64, tag = "3")]
    pub(super) epoch: u64,
    #[prost(uint64, tag = "4")]
    pub(super) boot: u64,
    #[prost(message, optional, tag = "5")]
    pub(super) origin: Option<Origin>,
    #[prost(message, optional, tag = "6")]
    pub(super) transaction: Option<Transaction>,
    #[prost(int64, tag = "7")]
    pub(super) update_ms: i64,
    #[prost(int64, optional, tag = "8")]
    pub(super) decide_ms: Option<i64>,
    #[prost(int64, optional, tag = "9")]
    pub(super) finish_ms: Option<i64>,
    #[prost(int64, optional, tag = "10")]
    pub(super) keep_until_ms: Option<i64>,
    #[prost(bool, tag = "11")]
    pub(super) cut_down: bool,
    #[prost(message, repeated, tag = "12")]
    pub(super) history: Vec<HistoryEvent>,
    #[prost(uint64, tag = "13")]
    pub(super) history_dropped_revision: u64,
}

/// A [`Record`] of which only these fields are read; the tags are the record's.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Head {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(uint64, tag = "2")]
    pub(super) revision: u64,
    #[prost(uint64, tag = "3")]
    pub(super) epoch: u64,
    #[prost(message, optional, tag = "5")]
    pub(super) origin: Option<HeadOrigin>,
    #[prost(message, optional, tag = "6")]
    pub(super) transaction: Option<HeadTransaction>,
    #[prost(int64, optional, tag = "10")]
    pub(super) keep_until_ms: Option<i64>,
}

/// An [`Origin`] of which only this is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeadOrigin {
    #[prost(string, tag = "3")]
    pub(super) business_key: String,
}

/// A [`Transaction`] of which only this is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct HeadTransaction {
    #[prost(uint32, tag = "4")]
    pub(super) state: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Origin {
    /// 32 bytes, or none.
    #[prost(bytes = "bytes", optional, tag = "1")]
    pub(super) digest: Option<Bytes>,
    #[prost(string, tag = "2")]
    pub(super) transaction_type: String,
    #[prost(string, tag = "3")]
    pub(super) business_key: String,
    #[prost(btree_map = "string, string", tag = "4")]
    pub(super) labels: BTreeMap<String, String>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub(super) switches: BTreeMap<String, String>,
    #[prost(int64, tag = "6")]
    pub(super) create_ms: i64,
    #[prost(int64, tag = "7")]
    pub(super) expire_ms: i64,
    #[prost(uint64, tag = "8")]
    pub(super) try_timeout_ms: u64,
    #[prost(fixed64, tag = "9")]
    pub(super) report_token_high: u64,
    #[prost(fixed64, tag = "10")]
    pub(super) report_token_low: u64,
    #[prost(string, tag = "11")]
    pub(super) traceparent: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Transaction {
    #[prost(uint32, tag = "1")]
    pub(super) mode: u32,
    #[prost(bool, tag = "2")]
    pub(super) interactive: bool,
    #[prost(message, optional, tag = "3")]
    pub(super) policy: Option<RetryPolicy>,
    #[prost(uint32, tag = "4")]
    pub(super) state: u32,
    #[prost(bool, tag = "5")]
    pub(super) commit_requested: bool,
    #[prost(bool, tag = "6")]
    pub(super) paused: bool,
    #[prost(message, optional, tag = "7")]
    pub(super) failure: Option<Failure>,
    #[prost(message, repeated, tag = "8")]
    pub(super) branches: Vec<Branch>,
    #[prost(message, repeated, tag = "9")]
    pub(super) attentions: Vec<Attention>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct RetryPolicy {
    #[prost(uint64, repeated, tag = "1")]
    pub(super) intervals_ms: Vec<u64>,
    #[prost(uint32, tag = "2")]
    pub(super) jitter_permille: u32,
    #[prost(uint32, tag = "3")]
    pub(super) attention_after_attempts: u32,
}

/// A branch, and when it is called.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Branch {
    #[prost(message, optional, tag = "1")]
    pub(super) spec: Option<BranchSpec>,
    #[prost(uint32, tag = "2")]
    pub(super) state: u32,
    #[prost(uint32, tag = "3")]
    pub(super) next: u32,
    #[prost(uint32, tag = "4")]
    pub(super) pace_early: u32,
    #[prost(uint32, tag = "5")]
    pub(super) pace_ladder: u32,
    #[prost(uint32, tag = "6")]
    pub(super) failed_attempts: u32,
    #[prost(uint32, tag = "7")]
    pub(super) tries: u32,
    #[prost(uint32, tag = "8")]
    pub(super) confirms: u32,
    #[prost(uint32, tag = "9")]
    pub(super) cancels: u32,
    #[prost(uint32, tag = "10")]
    pub(super) queries: u32,
    #[prost(message, optional, tag = "11")]
    pub(super) try_result: Option<Payload>,
    #[prost(message, optional, tag = "12")]
    pub(super) confirm_result: Option<Payload>,
    #[prost(message, optional, tag = "13")]
    pub(super) last_failure: Option<Failure>,
    #[prost(int64, optional, tag = "14")]
    pub(super) last_attempt_ms: Option<i64>,
    #[prost(int64, optional, tag = "15")]
    pub(super) next_attempt_ms: Option<i64>,
    #[prost(uint64, optional, tag = "16")]
    pub(super) interval_ms: Option<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BranchSpec {
    #[prost(string, tag = "1")]
    pub(super) id: String,
    #[prost(oneof = "Target", tags = "2, 3")]
    pub(super) target: Option<Target>,
    #[prost(message, optional, tag = "4")]
    pub(super) payload: Option<Payload>,
    #[prost(uint64, tag = "5")]
    pub(super) try_timeout_ms: u64,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum Target {
    #[prost(message, tag = "2")]
    Contract(Contract),
    #[prost(message, tag = "3")]
    Methods(Methods),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Contract {
    #[prost(string, tag = "1")]
    pub(super) participant: String,
    #[prost(string, tag = "2")]
    pub(super) resource: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Methods {
    #[prost(string, tag = "1")]
    pub(super) endpoint: String,
    #[prost(string, tag = "2")]
    pub(super) try_method: String,
    #[prost(string, tag = "3")]
    pub(super) confirm_method: String,
    #[prost(string, tag = "4")]
    pub(super) cancel_method: String,
    #[prost(string, optional, tag = "5")]
    pub(super) query_method: Option<String>,
    #[prost(message, optional, tag = "6")]
    pub(super) confirm_payload: Option<Payload>,
    #[prost(message, optional, tag = "7")]
    pub(super) cancel_payload: Option<Payload>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Payload {
    #[prost(string, tag = "1")]
    pub(super) type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Failure {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, tag = "2")]
    pub(super) message: String,
    #[prost(btree_map = "string, string", tag = "3")]
    pub(super) metadata: BTreeMap<String, String>,
    #[prost(int32, tag = "4")]
    pub(super) code: i32,
}

/// An attention, and when it was raised.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attention {
    #[prost(uint32, tag = "1")]
    pub(super) reason: u32,
    #[prost(uint64, tag = "2")]
    pub(super) branch: u64,
    #[prost(string, tag = "3")]
    pub(super) detail: String,
    #[prost(int64, tag = "4")]
    pub(super) raised_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HistoryEvent {
    #[prost(uint64, tag = "1")]
    pub(super) revision: u64,
    #[prost(int64, tag = "2")]
    pub(super) event_ms: i64,
    #[prost(uint64, optional, tag = "3")]
    pub(super) latency_ms: Option<u64>,
    #[prost(string, tag = "4")]
    pub(super) actor: String,
    #[prost(uint64, optional, tag = "5")]
    pub(super) branch: Option<u64>,
    #[prost(message, optional, tag = "6")]
    pub(super) call: Option<Call>,
    #[prost(uint32, optional, tag = "7")]
    pub(super) outcome: Option<u32>,
    #[prost(uint32, tag = "8")]
    pub(super) state: u32,
    #[prost(uint32, optional, tag = "9")]
    pub(super) branch_state: Option<u32>,
    #[prost(message, optional, tag = "10")]
    pub(super) failure: Option<Failure>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Call {
    #[prost(uint64, tag = "1")]
    pub(super) branch: u64,
    #[prost(uint32, tag = "2")]
    pub(super) operation: u32,
    #[prost(bool, tag = "3")]
    pub(super) query: bool,
    #[prost(uint32, tag = "4")]
    pub(super) attempt: u32,
}
