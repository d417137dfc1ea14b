//! Records for the stores' tests, made by the protocol itself.
#![allow(
    dead_code,
    reason = "each test file that includes this uses its own part of it"
)]

use std::sync::Arc;

use tercet::store::{BranchTimes, HistoryEvent, Origin, Record, Store, UnixMs};
use tercet_core::{
    answer::Answer,
    ids::{BranchId, ParticipantName, TransactionId},
    operation::Operation,
    outcome::ReplyMode,
    payload::{Failure, Payload},
    retry::RetryPolicy,
    step::{Context, Input, Step},
    transaction::{BranchSpec, Target, Transaction},
};

pub(crate) const CREATE_MS: UnixMs = 1_700_000_000_000;

pub(crate) fn id(text: &str) -> TransactionId {
    TransactionId::parse(text).expect("a valid id")
}

/// A transaction of one branch, as it is first committed to this store.
pub(crate) fn fresh(store: &dyn Store, name: &str) -> Record {
    fresh_with(store, name, "", b"{}")
}

/// The same, with a business key and its branch's payload.
pub(crate) fn fresh_with(
    store: &dyn Store,
    name: &str,
    business_key: &str,
    payload: &[u8],
) -> Record {
    let spec = BranchSpec {
        id: BranchId::parse("stock").expect("a valid id"),
        target: Target::Contract {
            participant: ParticipantName::parse("inventory").expect("a valid name"),
            resource: "Stock".into(),
        },
        payload: Payload {
            type_url: "json".into(),
            value: payload.into(),
        },
        try_timeout_ms: 3_000,
    };
    let origin = Origin {
        digest: Some([7; 32]),
        transaction_type: "place-order".into(),
        business_key: business_key.into(),
        labels: [("shop".into(), "Zürich".into())].into(),
        create_ms: CREATE_MS,
        expire_ms: CREATE_MS + 30_000,
        try_timeout_ms: 3_000,
        report_token: u128::MAX - 1,
        ..Origin::default()
    };
    let policy = Arc::new(RetryPolicy::default());
    let step = Transaction::submit(ReplyMode::ThreeState, policy, vec![Arc::new(spec)]);
    let blank = Record {
        id: id(name),
        revision: 0,
        epoch: store.identity().epoch,
        boot: store.identity().boot,
        origin: Arc::new(origin),
        transaction: step.next.clone(),
        update_ms: CREATE_MS,
        decide_ms: None,
        finish_ms: None,
        keep_until_ms: None,
        cut_down: false,
        branch_times: vec![BranchTimes::default()],
        attention_ms: vec![],
        history: vec![],
        history_dropped_revision: 0,
    };
    follow(&blank, step)
}

/// The record after its branch was tried: CONFIRMING.
pub(crate) fn tried(record: &Record) -> Record {
    answered(record, Operation::Try, Answer::Success(None))
}

/// The record after its branch was confirmed: finished, kept until `keep_until_ms`.
pub(crate) fn confirmed(record: &Record, keep_until_ms: UnixMs) -> Record {
    let record = answered(record, Operation::Confirm, Answer::Success(None));
    assert!(record.transaction.state.is_terminal());
    Record {
        finish_ms: Some(record.update_ms),
        keep_until_ms: Some(keep_until_ms),
        ..record
    }
}

/// The record after its Try was refused: CANCELING.
pub(crate) fn refused(record: &Record) -> Record {
    let failure = Failure::new("OUT_OF_STOCK", "nothing is left");
    answered(record, Operation::Try, Answer::Failed(failure))
}

/// The same transaction once more, with another due time.
pub(crate) fn due_at(record: &Record, next_attempt_ms: UnixMs) -> Record {
    let mut next = record.clone();
    next.revision += 1;
    next.branch_times[0].next_attempt_ms = Some(next_attempt_ms);
    next
}

fn answered(record: &Record, operation: Operation, answer: Answer) -> Record {
    let input = Input::Answered {
        branch: 0,
        operation,
        answer,
    };
    follow(record, record.transaction.step(input, Context::default()))
}

fn follow(record: &Record, step: Step) -> Record {
    let revision = record.revision + 1;
    let mut next = record.clone();
    next.revision = revision;
    next.update_ms += 1;
    next.transaction = step.next;
    let lines = step.events.into_iter().map(|event| HistoryEvent {
        revision,
        event_ms: record.update_ms + 1,
        event,
        latency_ms: Some(1),
        actor: "client".into(),
    });
    next.history.extend(lines);
    next
}

/// Commits one record and waits until it is durable.
pub(crate) async fn commit(store: &dyn Store, record: &Record) {
    let receipt = store.commit(Arc::new(record.clone())).await;
    drop(receipt.expect("the commit is acknowledged"));
}
