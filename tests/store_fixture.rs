//! A store written by the first release of format 1 is read by every later program, field by field.

mod support;

use std::{fs, path::Path, sync::Arc};

use support::records::id;
use tempfile::TempDir;
use tercet::store::{
    BranchTimes, HistoryEvent, Listing, Origin, Record, SledStore, Store, import, verify,
};
use tercet_core::{
    ids::{BranchId, ParticipantName},
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    payload::{Failure, Payload},
    retry::{Pace, RetryPolicy},
    step::{Call, Event},
    transaction::{
        Attempts, Attention, AttentionReason, Branch, BranchSpec, BranchState, Methods, Next,
        Resolution, State, Target, Transaction,
    },
};

#[test]
fn the_directory_of_format_1_opens_with_everything_in_it() {
    let dir = TempDir::new().expect("a temporary directory");
    for entry in fixture("dir").read_dir().expect("it is read") {
        let path = entry.expect("it is read").path();
        let name = path.file_name().expect("it has a name");
        fs::copy(&path, dir.path().join(name)).expect("it is copied");
    }
    let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
    assert_eq!(verified.problems, [""; 0]);
    let store = SledStore::open(dir.path()).expect("it is opened");
    assert_eq!((store.identity().epoch, store.identity().boot), (1, 2));
    assert_content(&store);
}

#[test]
fn the_export_of_format_1_is_imported_with_everything_in_it() {
    let dir = TempDir::new().expect("a temporary directory");
    let mut export = fs::File::open(fixture("records.export")).expect("it is opened");
    let imported = import(dir.path(), &mut export, &mut |_| {}).expect("it is imported");
    assert_eq!((imported.records, imported.epoch), (3, 2));
    assert_content(&SledStore::open(dir.path()).expect("it is opened"));
}

fn fixture(name: &str) -> std::path::PathBuf {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    fixtures.join("store-v1").join(name)
}

fn assert_content(store: &SledStore) {
    let newest_first = store.list(&Listing::All, None, 9).expect("they are read");
    let records = newest_first.into_iter().rev().map(|(_, record)| record);
    let expected = expected().map(Arc::new);
    assert_eq!(records.collect::<Vec<_>>(), expected);
    let unfinished = store.unfinished(None, 9).expect("they are read");
    let never = i64::MAX; // it is paused
    assert_eq!(unfinished.len(), 1);
    assert_eq!(
        (&unfinished[0].id, unfinished[0].due_ms),
        (&id("order:1"), never)
    );
    assert_eq!(store.outlived(1_700_000_900_000, 9), Ok(vec![id("mixed")]));
    let key = Listing::BusinessKey("Auftrag-Nº1".into());
    assert_eq!(store.list(&key, None, 9).expect("they are read").len(), 1);
}

/// What was committed, in this order.
fn expected() -> [Record; 3] {
    [confirming(), mixed(), forbidden()]
}

fn confirming() -> Record {
    let call = Call {
        branch: 1,
        operation: Operation::Confirm,
        query: false,
        attempt: 2,
    };
    let refused = HistoryEvent {
        revision: 1,
        event_ms: 1_700_000_004_000,
        event: Event {
            branch: Some(1),
            call: Some(call),
            outcome: Some(Outcome::Failed),
            state: State::Confirming,
            branch_state: Some(BranchState::Confirming),
            failure: Some(failure()),
        },
        latency_ms: Some(17),
        actor: "recovery".into(),
    };
    let attention = Attention {
        reason: AttentionReason::Refused,
        branch: 1,
        detail: "no stock was reserved".into(),
    };
    Record {
        decide_ms: Some(1_700_000_003_000),
        branch_times: vec![
            BranchTimes::default(),
            BranchTimes {
                last_attempt_ms: Some(1_700_000_002_000),
                next_attempt_ms: Some(1_700_000_012_000),
                interval_ms: Some(10_000),
            },
        ],
        attention_ms: vec![1_700_000_004_000],
        history: vec![refused],
        history_dropped_revision: 4,
        ..record(
            "order:1",
            origin(),
            Transaction {
                interactive: true,
                commit_requested: true,
                paused: true,
                branches: vec![contract_branch(BranchState::Confirmed), methods_branch()],
                attentions: vec![attention],
                ..transaction(ReplyMode::TwoState, State::Confirming)
            },
        )
    }
}

fn mixed() -> Record {
    let abandoned = contract_branch(BranchState::Resolved(Resolution::Abandoned));
    Record {
        finish_ms: Some(1_700_000_200_000),
        keep_until_ms: Some(1_700_000_900_000),
        branch_times: vec![BranchTimes::default()],
        ..record(
            "mixed",
            Origin::default(),
            Transaction {
                failure: Some(failure()),
                branches: vec![abandoned],
                ..transaction(ReplyMode::Accepted, State::Mixed(Decision::Cancel))
            },
        )
    }
}

fn forbidden() -> Record {
    let canceled = transaction(ReplyMode::ThreeState, State::Canceled);
    Record {
        cut_down: true,
        ..record("forbidden", Origin::default(), canceled)
    }
}

fn record(name: &str, origin: Origin, transaction: Transaction) -> Record {
    Record {
        id: id(name),
        revision: 1,
        epoch: 1,
        boot: 1,
        origin: Arc::new(origin),
        transaction,
        update_ms: 1_700_000_005_000,
        decide_ms: None,
        finish_ms: None,
        keep_until_ms: None,
        cut_down: false,
        branch_times: vec![],
        attention_ms: vec![],
        history: vec![],
        history_dropped_revision: 0,
    }
}

fn origin() -> Origin {
    Origin {
        digest: Some([0xab; 32]),
        transaction_type: "place-order".into(),
        business_key: "Auftrag-Nº1".into(),
        labels: [("shop".into(), "Zürich".into())].into(),
        switches: [("wave".into(), "2".into())].into(),
        create_ms: 1_700_000_000_000,
        expire_ms: 1_700_000_030_000,
        try_timeout_ms: 3_000,
        report_token: 0x0123_4567_89ab_cdef_0011_2233_4455_6677,
        traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
    }
}

fn transaction(mode: ReplyMode, state: State) -> Transaction {
    let policy = RetryPolicy {
        intervals_ms: [1_000, 2_000].into(),
        jitter_permille: 50,
        attention_after_attempts: 3,
    };
    Transaction {
        mode,
        interactive: false,
        policy: Arc::new(policy),
        state,
        commit_requested: false,
        paused: false,
        failure: None,
        branches: vec![],
        attentions: vec![],
    }
}

fn contract_branch(state: BranchState) -> Branch {
    let target = Target::Contract {
        participant: ParticipantName::parse("inventory").expect("a valid name"),
        resource: "Stock".into(),
    };
    Branch {
        try_result: Some(payload("json", b"{\"left\":3}")),
        confirm_result: Some(payload("", &[])),
        ..branch("stock", target, state)
    }
}

fn methods_branch() -> Branch {
    let target = Target::Methods(Methods {
        endpoint: "https://payments.example:443".into(),
        try_method: "/pay.v1.Pay/Reserve".into(),
        confirm_method: "/pay.v1.Pay/Capture".into(),
        cancel_method: "/pay.v1.Pay/Void".into(),
        query_method: Some("/pay.v1.Pay/Find".into()),
        confirm_payload: Some(payload("", b"capture")),
        cancel_payload: Some(payload("", b"void")),
    });
    Branch {
        next: Next::Query,
        pace: Pace {
            early: 2,
            ladder: 1,
        },
        failed_attempts: 3,
        attempts: Attempts {
            tries: 1,
            confirms: 2,
            cancels: 0,
            queries: 4,
        },
        last_failure: Some(failure()),
        ..branch("payment", target, BranchState::Confirming)
    }
}

fn branch(name: &str, target: Target, state: BranchState) -> Branch {
    let spec = BranchSpec {
        id: BranchId::parse(name).expect("a valid id"),
        target,
        payload: payload("type.googleapis.com/shop.v1.Reserve", &[0, 1, 0xff]),
        try_timeout_ms: 2_500,
    };
    Branch {
        spec: Arc::new(spec),
        state,
        next: Next::Send,
        pace: Pace::default(),
        failed_attempts: 0,
        attempts: Attempts::default(),
        try_result: None,
        confirm_result: None,
        last_failure: None,
    }
}

fn payload(type_url: &str, value: &[u8]) -> Payload {
    let (type_url, value) = (type_url.into(), value.into());
    Payload { type_url, value }
}

fn failure() -> Failure {
    Failure {
        reason: "OUT_OF_STOCK".into(),
        message: "3 are left, 5 were asked for".into(),
        metadata: [("left".into(), "3".into()), ("asked".into(), "5".into())].into(),
        code: 9,
    }
}
