//! What clients read of transactions: pages, counts, timelines and watches. The service is called in
//! this process, without a socket, so that time can be paused.

mod common;

use std::{sync::Arc, time::Duration};

use common::{clock, ledger::Ledger, store};
use tercet::{
    engine::Engine,
    proto::tercet::{
        participant::v1 as participant,
        v1::{
            self as pb, coordinator_service_client::CoordinatorServiceClient,
            coordinator_service_server::CoordinatorServiceServer, watch_transaction_response::Item,
        },
    },
    rpc::{self, Coordinator, Door, Limits},
};
use tokio::time::Instant;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt as _;

type Client = CoordinatorServiceClient<Door<CoordinatorServiceServer<Coordinator>>>;

struct Parts {
    ledger: Arc<Ledger>,
    engine: Engine,
    client: Client,
}

fn coordinator(limits: Limits) -> Parts {
    let ledger = Ledger::new(clock());
    let engine = common::engine(Arc::new(store()), &ledger);
    let service = rpc::service(engine.clone(), limits);
    Parts {
        ledger,
        engine,
        client: CoordinatorServiceClient::new(service),
    }
}

fn order(id: &str, business_key: &str) -> pb::SubmitTransactionRequest {
    let branch = |participant: &str| pb::BranchSpec {
        payload: Some(participant::Payload {
            type_url: String::new(),
            value: "5".into(),
        }),
        target: Some(pb::branch_spec::Target::Contract(pb::ContractTarget {
            participant: participant.into(),
            resource: "take".into(),
        })),
        ..pb::BranchSpec::default()
    };
    pb::SubmitTransactionRequest {
        transaction_id: id.into(),
        options: Some(pb::TransactionOptions {
            business_key: business_key.into(),
            ..pb::TransactionOptions::default()
        }),
        branches: vec![branch("stock"), branch("money")],
        ..pb::SubmitTransactionRequest::default()
    }
}

/// Ten orders, `o0` to `o9`, for customers `c0` and `c1` in turn; the last two are not finished.
async fn ten_orders(limits: Limits) -> Parts {
    let mut it = coordinator(limits);
    for at in 0..10 {
        if at == 8 {
            it.ledger.down("money");
        }
        let mut order = order(&format!("o{at}"), &format!("c{}", at % 2));
        order.wait_timeout = Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        });
        it.client.submit_transaction(order).await.unwrap();
    }
    it
}

/// All pages of a list, each as its ids.
async fn pages(client: &mut Client, filter: &str, page_size: i32) -> Vec<Vec<String>> {
    let mut pages = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListTransactionsRequest {
            page_size,
            page_token,
            filter: filter.into(),
            view: 0,
        };
        let page = client
            .list_transactions(request)
            .await
            .unwrap()
            .into_inner();
        pages.push(
            page.transactions
                .into_iter()
                .map(|it| it.transaction_id)
                .collect(),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

async fn count(client: &mut Client, filter: &str) -> (i64, bool) {
    let request = pb::CountTransactionsRequest {
        filter: filter.into(),
    };
    let answer = client
        .count_transactions(request)
        .await
        .unwrap()
        .into_inner();
    (answer.count, answer.exact)
}

async fn watch(
    client: &mut Client,
    id: &str,
    after: i64,
) -> Streaming<pb::WatchTransactionResponse> {
    let request = pb::WatchTransactionRequest {
        transaction_id: id.into(),
        after_revision: after,
    };
    client
        .watch_transaction(request)
        .await
        .unwrap()
        .into_inner()
}

async fn next(stream: &mut Streaming<pb::WatchTransactionResponse>) -> Option<Item> {
    let item = stream.message().await.unwrap()?.item;
    Some(item.expect("every message has an item"))
}

fn reason(status: &Status) -> String {
    status
        .get_details_error_info()
        .expect("every error has a reason")
        .reason
}

#[tokio::test(start_paused = true)]
async fn pages_hold_every_transaction_once_newest_first() {
    let mut it = ten_orders(Limits::default()).await;
    let newest_first: Vec<_> = (0..10).rev().map(|at| format!("o{at}")).collect();
    for size in [1, 3, 5, 10, 11, 0] {
        let pages = pages(&mut it.client, "", size).await;
        assert_eq!(pages.concat(), newest_first, "pages of {size}");
        let full = usize::try_from(size).unwrap();
        let count = if full == 0 {
            1
        } else {
            10_usize.div_ceil(full)
        };
        assert_eq!(pages.len(), count, "no page is empty: pages of {size}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_filter_finds_by_index_and_over_it() {
    let mut it = ten_orders(Limits::default()).await;
    let client = &mut it.client;
    assert_eq!(
        pages(client, "business_key = c1", 2).await.concat(),
        ["o9", "o7", "o5", "o3", "o1"]
    );
    assert_eq!(
        pages(client, "outcome = PROCESSING", 1).await.concat(),
        ["o9", "o8"]
    );
    assert_eq!(
        pages(client, "business_key = c1 AND state = TRYING", 9)
            .await
            .concat(),
        ["o9"]
    );
    assert_eq!(
        pages(client, "state = CANCELED", 9).await,
        [Vec::<String>::new()]
    );
    assert_eq!(count(client, "").await, (10, true));
    assert_eq!(count(client, "outcome = SUCCESS").await, (8, true));
}

#[tokio::test(start_paused = true)]
async fn a_page_looks_at_so_many_records_and_a_count_says_that_it_stopped() {
    let limits = |page_records_max| Limits {
        page_records_max,
        ..Limits::default()
    };
    let mut it = ten_orders(limits(4)).await;
    let found = pages(&mut it.client, "business_key != c0 AND type = \"\"", 9).await;
    assert_eq!(found, [vec!["o9", "o7"], vec!["o5", "o3"], vec!["o1"]]);
    assert_eq!(count(&mut it.client, "").await, (4, false));
    let mut it = ten_orders(limits(10)).await;
    assert_eq!(count(&mut it.client, "").await, (10, true));
}

#[tokio::test(start_paused = true)]
async fn a_page_ends_before_it_is_too_long_to_be_read() {
    let limits = Limits {
        page_bytes_max: 1,
        ..Limits::default()
    };
    let mut it = ten_orders(limits).await;
    let pages = pages(&mut it.client, "", 0).await;
    assert_eq!(pages.len(), 10, "one transaction a page is the least");
    assert_eq!(pages.concat().len(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_token_belongs_to_its_filter() {
    let mut it = ten_orders(Limits::default()).await;
    let mut request = pb::ListTransactionsRequest {
        page_size: 3,
        ..pb::ListTransactionsRequest::default()
    };
    let page = it
        .client
        .list_transactions(request.clone())
        .await
        .unwrap()
        .into_inner();
    request.page_token = page.next_page_token;
    request.filter = "state = TRYING".into();
    let status = it.client.list_transactions(request).await.unwrap_err();
    assert_eq!(reason(&status), "PAGE_TOKEN_INVALID");
}

#[tokio::test(start_paused = true)]
async fn a_timeline_is_read_in_pages() {
    let mut it = coordinator(Limits::default());
    it.client.submit_transaction(order("o", "c")).await.unwrap();
    let whole = it.engine.record(&common::id("o")).unwrap().history.len();
    let mut events = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListTransactionEventsRequest {
            transaction_id: "o".into(),
            page_size: 2,
            page_token,
        };
        let page = it
            .client
            .list_transaction_events(request)
            .await
            .unwrap()
            .into_inner();
        assert!(page.events.len() <= 2);
        events.extend(page.events);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(events.len(), whole);
    assert!(events.is_sorted_by_key(|it| it.revision));
    assert_eq!(
        events.last().unwrap().state(),
        pb::TransactionState::Confirmed
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_shows_the_snapshot_then_every_event_then_ends() {
    let mut it = coordinator(Limits::default());
    it.ledger.down("money");
    let mut accepted = order("o", "c");
    accepted.options.as_mut().unwrap().reply_mode = pb::ReplyMode::Accepted.into();
    it.client.submit_transaction(accepted).await.unwrap();
    let mut stream = watch(&mut it.client, "o", 0).await;
    let Some(Item::Snapshot(snapshot)) = next(&mut stream).await else {
        panic!("no snapshot");
    };
    assert_eq!(snapshot.state(), pb::TransactionState::Trying);
    it.ledger.up("money");
    let mut seen = Vec::new();
    while let Some(item) = next(&mut stream).await {
        match item {
            Item::Event(event) => seen.push(event),
            Item::Heartbeat(beat) => assert!(beat.revision >= snapshot.revision),
            Item::Snapshot(_) => panic!("a second snapshot"),
        }
    }
    let record = it.engine.record(&common::id("o")).unwrap();
    let after = |revision: i64| {
        let lines = record.history.iter();
        lines
            .filter(|line| i64::try_from(line.revision).unwrap() > revision)
            .count()
    };
    assert_eq!(seen.len(), after(snapshot.revision), "each event once");
    assert_eq!(
        seen.last().unwrap().state(),
        pb::TransactionState::Confirmed
    );

    let mut again = watch(&mut it.client, "o", seen[0].revision).await;
    let mut rest = Vec::new();
    while let Some(Item::Event(event)) = next(&mut again).await {
        rest.push(event);
    }
    assert_eq!(
        rest.len(),
        after(seen[0].revision),
        "whoever comes back misses nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_a_finished_transaction_is_its_snapshot() {
    let mut it = coordinator(Limits::default());
    it.client.submit_transaction(order("o", "c")).await.unwrap();
    let mut stream = watch(&mut it.client, "o", 0).await;
    assert!(matches!(next(&mut stream).await, Some(Item::Snapshot(_))));
    assert_eq!(next(&mut stream).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_beats_every_15_seconds_while_nothing_happens() {
    let mut it = coordinator(Limits::default());
    let begin = pb::BeginTransactionRequest {
        transaction_id: "trip".into(),
        options: Some(pb::TransactionOptions {
            timeout: Some(prost_types::Duration {
                seconds: 3600,
                nanos: 0,
            }),
            ..pb::TransactionOptions::default()
        }),
        ..pb::BeginTransactionRequest::default()
    };
    it.client.begin_transaction(begin).await.unwrap();
    let mut stream = watch(&mut it.client, "trip", 1).await;
    let start = Instant::now();
    for beats in 1..=3 {
        let item = next(&mut stream).await;
        assert_eq!(item, Some(Item::Heartbeat(pb::Heartbeat { revision: 1 })));
        assert_eq!(start.elapsed().as_secs(), 15 * beats);
    }
    it.engine.drain();
    let status = stream.message().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "SHUTTING_DOWN")
    );
    assert!(start.elapsed() < Duration::from_secs(46));
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_before_the_history_begins_is_told_so() {
    let mut it = coordinator(Limits::default());
    let mut patient = order("o", "c");
    let options = patient.options.as_mut().unwrap();
    options.timeout = Some(prost_types::Duration {
        seconds: 86_400,
        nanos: 0,
    });
    let second = prost_types::Duration {
        seconds: 1,
        nanos: 0,
    };
    options.retry_policy = Some(pb::RetryPolicy {
        intervals: vec![second],
        ..pb::RetryPolicy::default()
    });
    it.ledger.down("money");
    patient.wait_timeout = Some(second);
    it.client.submit_transaction(patient).await.unwrap();
    while it
        .engine
        .record(&common::id("o"))
        .unwrap()
        .history_dropped_revision
        < 2
    {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
    let request = pb::WatchTransactionRequest {
        transaction_id: "o".into(),
        after_revision: 1,
    };
    let status = it.client.watch_transaction(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::OutOfRange, "REVISION_COMPACTED")
    );
    let request = pb::WatchTransactionRequest {
        transaction_id: "o".into(),
        after_revision: i64::MAX,
    };
    let status = it.client.watch_transaction(request).await.unwrap_err();
    assert_eq!(reason(&status), "FIELD_INVALID");
}
