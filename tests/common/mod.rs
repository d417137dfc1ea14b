//! What the tests of the engine share: participants with real fences over a ledger, and short ways
//! to make transactions.
#![allow(dead_code, reason = "each test file uses its part of it")]

pub mod ledger;

use std::{sync::Arc, time::Duration};

use tercet::{
    engine::{AnchoredClock, Clock, Engine, EngineConfig, NewTransaction},
    store::{MemoryStore, Record, UnixMs},
};
use tercet_core::{
    ids::{BranchId, ParticipantName, Realm, TransactionId},
    outcome::ReplyMode,
    payload::Payload,
    retry::RetryPolicy,
    transaction::{BranchSpec, Target},
};

use ledger::Ledger;

pub const START_MS: UnixMs = 1_800_000_000_000;
pub const WAIT: Duration = Duration::from_secs(30);

pub fn store() -> MemoryStore {
    MemoryStore::new(Realm::parse("test").unwrap())
}

/// An engine that recovers, over a store and a ledger.
pub fn engine(store: Arc<MemoryStore>, ledger: &Arc<Ledger>) -> Engine {
    engine_with(
        store,
        ledger,
        Arc::new(ledger.clock),
        EngineConfig::default(),
    )
}

/// The same, with another clock and other bounds.
pub fn engine_with(
    store: Arc<MemoryStore>,
    ledger: &Arc<Ledger>,
    clock: Arc<dyn Clock>,
    config: EngineConfig,
) -> Engine {
    let engine = Engine::new(store, Arc::clone(ledger) as _, clock, config);
    engine.recover();
    engine
}

pub fn clock() -> AnchoredClock {
    AnchoredClock::starting_at(START_MS)
}

pub fn id(text: &str) -> TransactionId {
    TransactionId::parse(text).unwrap()
}

pub fn branch_id(text: &str) -> BranchId {
    BranchId::parse(text).unwrap()
}

/// A branch that takes `amount` from a participant.
pub fn branch(id: &str, participant: &str, amount: i64) -> BranchSpec {
    BranchSpec {
        id: branch_id(id),
        target: Target::Contract {
            participant: ParticipantName::parse(participant).unwrap(),
            resource: "take".into(),
        },
        payload: Payload {
            type_url: "".into(),
            value: amount.to_string().as_bytes().into(),
        },
        try_timeout_ms: 3_000,
    }
}

/// Five from stock and five from money.
pub fn order(id_text: &str, mode: ReplyMode) -> NewTransaction {
    transaction(
        id_text,
        mode,
        vec![branch("b1", "stock", 5), branch("b2", "money", 5)],
    )
}

pub fn transaction(id_text: &str, mode: ReplyMode, branches: Vec<BranchSpec>) -> NewTransaction {
    NewTransaction {
        id: id(id_text),
        digest: [7; 32],
        mode,
        policy: RetryPolicy {
            jitter_permille: 0,
            ..RetryPolicy::default()
        },
        branches,
        transaction_type: "place-order".into(),
        business_key: id_text.into(),
        labels: Default::default(),
        switches: Default::default(),
        timeout_ms: 30_000,
        try_timeout_ms: 3_000,
        traceparent: "".into(),
        submit_expire_ms: None,
    }
}

/// Follows a transaction to its end, however long that takes.
pub async fn end_of(engine: &Engine, id: &TransactionId) -> Arc<Record> {
    let mut follow = engine.follow(id).unwrap();
    while !follow.record().transaction.state.is_terminal() {
        assert!(
            follow.changed().await,
            "{id} stopped at {:?}",
            follow.record().transaction.state
        );
    }
    follow.record()
}
