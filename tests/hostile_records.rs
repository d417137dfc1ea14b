//! Records that decode, but whose times, counters and intervals are at the ends of what they can be:
//! the whole coordinator loads, shows, lists, steps and removes them, and nothing overflows.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::future::{BoxFuture, ready};
use proptest::prelude::*;
use tercet::{
    engine::{AnchoredClock, Engine, EngineConfig},
    participants::{Outgoing, Participants, TargetError},
    proto::tercet::{
        participant::v1 as participant,
        v1::{self as pb, coordinator_service_client::CoordinatorServiceClient},
    },
    rpc::{self, Limits},
    store::{MemoryStore, Record, Store as _},
};
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    ids::Realm,
    operation::RecordState,
    payload::Failure,
    transaction::Target,
};
use tonic::{Response, Status};

#[path = "support/arbitrary.rs"]
mod arbitrary;
#[path = "support/mangle.rs"]
mod mangle;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
const START_MS: i64 = 1_800_000_000_000;

/// Panics in any task: a driver's own would go unseen.
static PANICS: AtomicUsize = AtomicUsize::new(0);

proptest! {
    #![proptest_config(mangle::cases(96))]

    #[test]
    fn whatever_is_recorded_is_loaded_shown_stepped_and_removed(
        record in arbitrary::records(), retention_ms in arbitrary::any_number(),
        start_ms in prop::sample::select(&[0, START_MS, i64::MAX / 2][..]), seed in any::<u64>(),
    ) {
        count_panics();
        let record = first_commit(record);
        let config = EngineConfig { retention_ms, id_retention_ms: retention_ms, ..EngineConfig::default() };
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().start_paused(true).build().expect("a runtime");
        runtime.block_on(live_through(record, config, start_ms, seed));
        drop(runtime);
        prop_assert_eq!(PANICS.swap(0, Ordering::SeqCst), 0, "a task has panicked");
    }
}

fn count_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let shown = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            shown(info);
        }));
    });
}

/// As a store takes it that has not seen it before.
fn first_commit(mut record: Record) -> Record {
    record.revision = 1;
    record.epoch = 1;
    record.history_dropped_revision = 0;
    record.history.iter_mut().for_each(|line| line.revision = 1);
    record
}

async fn live_through(record: Record, config: EngineConfig, start_ms: i64, seed: u64) {
    let store = Arc::new(MemoryStore::new(Realm::parse("here").expect("a realm")));
    let committed = store.commit(Arc::new(record.clone())).await;
    drop(committed.expect("it is durable"));
    // Another process: what it finds was written by the one before.
    let store = Arc::new(store.crash());
    let clock = Arc::new(AnchoredClock::starting_at(start_ms));
    let wild = Arc::new(Wild(AtomicU64::new(seed)));
    let engine = Engine::new(store, wild, clock, config);
    engine.recover();
    let service = rpc::service(engine.clone(), Limits::default());
    let mut client = CoordinatorServiceClient::new(service);
    for _ in 0..3 {
        is_shown(&mut client, &record).await;
        is_moved(&mut client, &record, seed).await;
        for _ in 0..3 {
            tokio::time::advance(DAY).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    engine.drain();
    engine.shutdown().await;
}

type Client = CoordinatorServiceClient<
    rpc::Door<
        tercet::proto::tercet::v1::coordinator_service_server::CoordinatorServiceServer<
            rpc::Coordinator,
        >,
    >,
>;

async fn is_shown(client: &mut Client, record: &Record) {
    let id = record.id.to_string();
    let get = pb::GetTransactionRequest {
        transaction_id: id.clone(),
        view: pb::TransactionView::Full.into(),
    };
    if let Some(got) = answered(client.get_transaction(get).await) {
        times_are_times(&got.transaction.expect("it is shown"));
    }
    let filter = "create_time > 1970-01-01T00:00:00Z AND state != MIXED".to_owned();
    let list = pb::ListTransactionsRequest {
        filter: filter.clone(),
        ..pb::ListTransactionsRequest::default()
    };
    drop(answered(client.list_transactions(list).await));
    let count = pb::CountTransactionsRequest { filter };
    let _ = answered(client.count_transactions(count).await);
    let mut page_token = String::new();
    for _ in 0..100 {
        let events = pb::ListTransactionEventsRequest {
            transaction_id: id.clone(),
            page_size: 2,
            page_token,
        };
        let Some(page) = answered(client.list_transaction_events(events).await) else {
            break;
        };
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let watch = pb::WatchTransactionRequest {
        transaction_id: id,
        after_revision: 1,
    };
    if let Some(mut changes) = answered(client.watch_transaction(watch).await) {
        let first = tokio::time::timeout(Duration::from_secs(20), changes.message());
        drop(first.await);
    }
}

async fn is_moved(client: &mut Client, record: &Record, seed: u64) {
    let transaction_id = record.id.to_string();
    let wait_timeout = Some(prost_types::Duration::default());
    let branches = &record.transaction.branches;
    let branch_id = |at: usize| branches[at].spec.id.to_string();
    let operation = participant::Operation::try_from(1 + (seed % 3) as i32);
    if !branches.is_empty() {
        let report = pb::ReportBranchRequest {
            transaction_id: transaction_id.clone(),
            branch_id: branch_id(seed as usize % branches.len()),
            operation: operation.expect("it is one").into(),
            outcome: participant::Outcome::Success.into(),
            report_token: format!("{:032x}", record.origin.report_token),
            ..pb::ReportBranchRequest::default()
        };
        let _ = answered(client.report_branch(report).await);
    }
    let target = pb::branch_spec::Target::Contract(pb::ContractTarget {
        participant: "stock".into(),
        resource: "take".into(),
    });
    let try_branch = pb::TryBranchRequest {
        transaction_id: transaction_id.clone(),
        branch: Some(pb::BranchSpec {
            branch_id: "one-more".into(),
            try_timeout: Some(prost_types::Duration {
                seconds: 1,
                nanos: 0,
            }),
            target: Some(target),
            ..pb::BranchSpec::default()
        }),
        wait_timeout,
    };
    drop(answered(client.try_branch(try_branch).await));
    let commit = pb::CommitTransactionRequest {
        transaction_id: transaction_id.clone(),
        branch_ids: (0..branches.len()).map(branch_id).collect(),
        wait_timeout,
    };
    drop(answered(client.commit_transaction(commit).await));
    if seed.is_multiple_of(2) {
        let rollback = pb::RollbackTransactionRequest {
            transaction_id,
            reason: String::new(),
            wait_timeout,
        };
        drop(answered(client.rollback_transaction(rollback).await));
    }
}

/// An answer or a refusal is fine; a fault of the coordinator's is not.
fn answered<T>(answer: Result<Response<T>, Status>) -> Option<T> {
    match answer {
        Ok(answer) => Some(answer.into_inner()),
        Err(status) => {
            assert_ne!(status.code(), tonic::Code::Internal, "{status:?}");
            assert_ne!(status.code(), tonic::Code::Unknown, "{status:?}");
            None
        }
    }
}

/// What is shown can be read in any language: protobuf's times are those of the years 1 to 9999.
fn times_are_times(shown: &pb::Transaction) {
    let own = [
        shown.create_time,
        shown.update_time,
        shown.expire_time,
        shown.decide_time,
        shown.finish_time,
        shown.next_attempt_time,
        shown.purge_time,
    ];
    let of_branches = shown
        .branches
        .iter()
        .flat_map(|it| [it.last_attempt_time, it.next_attempt_time]);
    let of_attentions = shown.attentions.iter().map(|it| it.raise_time);
    for time in own.into_iter().chain(of_branches).chain(of_attentions) {
        let seconds = time.unwrap_or_default().seconds;
        assert!((-62_135_596_800..=253_402_300_799).contains(&seconds));
    }
    for branch in &shown.branches {
        let interval = branch.current_retry_interval.unwrap_or_default();
        assert!((0..=315_576_000_000).contains(&interval.seconds));
    }
}

/// Participants that say anything a participant can say, at once.
struct Wild(AtomicU64);

impl Wild {
    fn draw(&self, sides: u64) -> u64 {
        let step = |seed: u64| Some(seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        let seed = self
            .0
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, step);
        (seed.unwrap_or_else(|seed| seed) >> 33) % sides
    }

    fn retry_after_ms(&self) -> Option<u64> {
        [None, Some(0), Some(u64::MAX)][self.draw(3) as usize]
    }
}

impl Participants for Wild {
    fn check(&self, _: &Target) -> Result<(), TargetError> {
        Ok(())
    }

    fn perform(&self, _: Outgoing) -> BoxFuture<'static, Answer> {
        let failure = Failure::new("WILD", "as it comes");
        let answer = match self.draw(6) {
            0 | 1 => Answer::Success(None),
            2 => Answer::Failed(failure),
            3 => Answer::Processing {
                retry_after_ms: self.retry_after_ms(),
            },
            4 => Answer::TooLarge(failure),
            _ => Answer::Indeterminate(failure),
        };
        Box::pin(ready(answer))
    }

    fn query(&self, _: Outgoing) -> BoxFuture<'static, QueryAnswer> {
        const STATES: [RecordState; 10] = [
            RecordState::Unknown,
            RecordState::Trying,
            RecordState::Tried,
            RecordState::TryFailed,
            RecordState::Confirming,
            RecordState::Confirmed,
            RecordState::ConfirmFailed,
            RecordState::Canceling,
            RecordState::Canceled,
            RecordState::CancelFailed,
        ];
        let answer = match self.draw(4) {
            0 => QueryAnswer::Unclear,
            1 => QueryAnswer::Indeterminate(Failure::new("WILD", "as it comes")),
            _ => QueryAnswer::Recorded(Box::new(Recorded {
                state: STATES[self.draw(10) as usize],
                try_result: None,
                confirm_result: None,
                failure: None,
                retry_after_ms: self.retry_after_ms(),
            })),
        };
        Box::pin(ready(answer))
    }
}
