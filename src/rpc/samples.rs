//! Records for this module's tests.

use std::sync::Arc;

use tercet_core::{
    ids::{BranchId, ParticipantName, TransactionId},
    outcome::ReplyMode,
    payload::Payload,
    retry::RetryPolicy,
    step::Event,
    transaction::{BranchSpec, Target, Transaction},
};

use crate::store::{BranchTimes, HistoryEvent, Origin, Record, UnixMs};

pub(super) const CREATE_MS: UnixMs = 1_700_000_000_000;

/// A transaction of two branches, `b1` at inventory and `b2` at payment, being tried.
pub(super) fn record() -> Record {
    let policy = Arc::new(RetryPolicy::default());
    let specs = vec![spec("b1", "inventory"), spec("b2", "payment")];
    let step = Transaction::submit(ReplyMode::ThreeState, policy, specs);
    let line = |event: Event| line(1, event);
    Record {
        id: TransactionId::parse("order-7").expect("a good id"),
        revision: 1,
        epoch: 1,
        boot: 1,
        origin: Arc::new(Origin {
            digest: Some([7; 32]),
            transaction_type: "place-order".into(),
            business_key: "7".into(),
            labels: [("city".into(), "New York".into())].into(),
            create_ms: CREATE_MS,
            expire_ms: CREATE_MS + 30_000,
            try_timeout_ms: 3_000,
            ..Origin::default()
        }),
        transaction: step.next,
        update_ms: CREATE_MS + 250,
        decide_ms: None,
        finish_ms: None,
        keep_until_ms: None,
        cut_down: false,
        branch_times: vec![BranchTimes::default(); 2],
        attention_ms: Vec::new(),
        history: step.events.into_iter().map(line).collect(),
        history_dropped_revision: 0,
    }
}

/// A line of the timeline.
pub(super) fn line(revision: u64, event: Event) -> HistoryEvent {
    HistoryEvent {
        revision,
        event_ms: CREATE_MS + 1_500,
        event,
        latency_ms: Some(12),
        actor: "client".into(),
    }
}

fn spec(id: &str, participant: &str) -> Arc<BranchSpec> {
    Arc::new(BranchSpec {
        id: BranchId::parse(id).expect("a good id"),
        target: Target::Contract {
            participant: ParticipantName::parse(participant).expect("a good name"),
            resource: "reserve".into(),
        },
        payload: Payload {
            type_url: "json".into(),
            value: b"{}".as_slice().into(),
        },
        try_timeout_ms: 3_000,
    })
}
