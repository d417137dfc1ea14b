//! Get, Wait, List, Count and ListTransactionEvents.

use std::time::{Duration, Instant};

use tercet::proto::tercet::{
    participant::v1::{Operation, Outcome},
    v1 as pb,
};
use tercet_sdk::client::TransactionState;
use tonic::Code;

use crate::{
    account::{Amount, HELD},
    coordinator::{World, amount, expect, failed, order, request, success},
    wire::Fault,
};

#[tokio::test]
async fn get_shows_the_whole_transaction_and_payloads_only_on_request() {
    let world = World::start().await;
    let placed = order("o")
        .business_key("order-7")
        .label("team", "blue")
        .switch("new-stock", "on");
    success(world.client().submit(&placed).await.unwrap());
    let get = |view: pb::TransactionView| pb::GetTransactionRequest {
        transaction_id: "o".into(),
        view: view.into(),
    };
    let basic = world
        .raw()
        .get_transaction(get(pb::TransactionView::Basic))
        .await
        .unwrap();
    let basic = basic.into_inner().transaction.unwrap();
    let full = world
        .raw()
        .get_transaction(get(pb::TransactionView::Full))
        .await
        .unwrap();
    let full = full.into_inner().transaction.unwrap();
    assert_eq!(basic.branches[0].payload, None);
    assert_eq!(full.branches[0].payload, Some(amount(5)));
    assert_eq!(
        (basic.state(), basic.outcome()),
        (pb::TransactionState::Confirmed, Outcome::Success)
    );
    assert_eq!(
        (basic.decision(), basic.reply_mode()),
        (pb::Decision::Commit, pb::ReplyMode::ThreeState)
    );
    assert_eq!(
        (basic.transaction_type.as_str(), basic.business_key.as_str()),
        ("place-order", "order-7")
    );
    assert_eq!(
        (
            basic.labels["team"].as_str(),
            basic.switches["new-stock"].as_str()
        ),
        ("blue", "on")
    );
    let times = [
        basic.create_time,
        basic.decide_time,
        basic.finish_time,
        basic.purge_time,
    ];
    let times: Vec<_> = times
        .map(|it| it.map(|it| (it.seconds, it.nanos)))
        .into_iter()
        .collect();
    assert!(
        times.iter().all(Option::is_some) && times.is_sorted(),
        "{times:?}"
    );
    assert!(!basic.etag.is_empty() && basic.revision == 3);
    assert_eq!(basic.branches[1].try_attempts, 1);

    let unknown = pb::GetTransactionRequest {
        transaction_id: "p".into(),
        view: 0,
    };
    expect(
        world.raw().get_transaction(unknown).await,
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    );
}

#[tokio::test]
async fn wait_answers_at_the_end_or_when_its_time_is_over() {
    let world = World::start().await;
    world.money.wire.every(Operation::Try, Fault::Lost);
    world.client().submit(&order("o").accepted()).await.unwrap();
    let wait = |millis: i32| pb::WaitTransactionRequest {
        transaction_id: "o".into(),
        timeout: Some(prost_types::Duration {
            seconds: 0,
            nanos: millis * 1_000_000,
        }),
    };
    let began = Instant::now();
    let waited = world
        .raw()
        .wait_transaction(wait(300))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(waited.transaction.unwrap().outcome(), Outcome::Processing);
    assert!(began.elapsed() >= Duration::from_millis(300));
    world.money.wire.heal();
    let waited = world
        .client()
        .wait("o", Duration::from_secs(20))
        .await
        .unwrap();
    assert_eq!(success(waited).state(), TransactionState::Confirmed);
    let unknown = pb::WaitTransactionRequest {
        transaction_id: "p".into(),
        timeout: None,
    };
    expect(
        world.raw().wait_transaction(unknown).await,
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    );
}

#[tokio::test]
async fn list_and_count_filter_and_page_newest_first() {
    let world = World::start().await;
    for nth in 0..7 {
        let placed = order(&format!("o{nth}"))
            .business_key(format!("key-{}", nth % 2))
            .label("team", "blue");
        success(world.client().submit(&placed).await.unwrap());
    }
    let greedy = order("greedy").branch("stock", "take", &Amount { count: HELD });
    failed(world.client().submit(&greedy).await.unwrap());
    world.end_of("greedy").await;
    world.money.wire.every(Operation::Confirm, Fault::Silent);
    world
        .client()
        .submit(&order("open").accepted())
        .await
        .unwrap();

    let client = world.client();
    let ids = async |filter: &str| {
        let page = client.list(filter, 50, None).await.unwrap();
        assert_eq!(page.next_page_token, None);
        let count = client.count(filter).await.unwrap();
        let ids: Vec<_> = page
            .transactions
            .iter()
            .map(|it| it.id().to_owned())
            .collect();
        assert_eq!(
            (count.count, count.is_exact),
            (ids.len() as u64, true),
            "{filter}"
        );
        ids
    };
    assert_eq!(
        ids("").await,
        ["open", "greedy", "o6", "o5", "o4", "o3", "o2", "o1", "o0"]
    );
    assert_eq!(ids("state = CANCELED").await, ["greedy"]);
    assert_eq!(ids("outcome = PROCESSING").await, ["open"]);
    assert_eq!(ids("business_key = key-1").await, ["o5", "o3", "o1"]);
    assert_eq!(
        ids("labels.team = blue AND business_key != key-1").await,
        ["o6", "o4", "o2", "o0"]
    );
    assert_eq!(ids("participant = nobody").await, [""; 0]);
    assert_eq!(
        ids("type = \"place-order\" AND create_time < 2020-01-01T00:00:00Z").await,
        [""; 0]
    );

    let mut seen = Vec::new();
    let mut token = None;
    loop {
        let page = client
            .list("outcome = SUCCESS", 3, token.as_deref())
            .await
            .unwrap();
        assert!(page.transactions.len() <= 3);
        seen.extend(page.transactions.iter().map(|it| it.id().to_owned()));
        token = page.next_page_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(seen, ["o6", "o5", "o4", "o3", "o2", "o1", "o0"]);

    let first = client.list("outcome = SUCCESS", 3, None).await.unwrap();
    let other = pb::ListTransactionsRequest {
        filter: "outcome = FAILED".into(),
        page_token: first.next_page_token.unwrap(),
        ..pb::ListTransactionsRequest::default()
    };
    expect(
        world.raw().list_transactions(other).await,
        Code::InvalidArgument,
        "PAGE_TOKEN_INVALID",
    );
    let wrong = pb::CountTransactionsRequest {
        filter: "color = red".into(),
    };
    expect(
        world.raw().count_transactions(wrong).await,
        Code::InvalidArgument,
        "FILTER_INVALID",
    );
}

#[tokio::test]
async fn the_timeline_tells_what_happened_page_by_page() {
    let world = World::start().await;
    world.money.wire.fault(Operation::Try, Fault::ReplyLost);
    success(world.client().submit(&order("o")).await.unwrap());
    let all = world.client().events("o").await.unwrap();
    assert!(all.is_sorted_by_key(|it| it.revision));
    let about_money: Vec<_> = all
        .iter()
        .filter(|it| it.branch_id == "b2")
        .map(|it| (it.operation(), it.actor.as_str()))
        .collect();
    let (query, confirm) = (
        tercet_sdk::client::Operation::Query,
        tercet_sdk::client::Operation::Confirm,
    );
    assert!(
        about_money.contains(&(query, "recovery")),
        "{about_money:?}"
    );
    assert_eq!(about_money.last().unwrap().0, confirm);
    assert_eq!(all.last().unwrap().state(), TransactionState::Confirmed);

    let mut paged = Vec::new();
    let mut page_token = String::new();
    loop {
        let ask = pb::ListTransactionEventsRequest {
            transaction_id: "o".into(),
            page_size: 2,
            page_token,
        };
        let page = world
            .raw()
            .list_transaction_events(ask)
            .await
            .unwrap()
            .into_inner();
        assert!(page.events.len() <= 2);
        paged.extend(
            page.events
                .iter()
                .map(|it| (it.revision, it.branch_id.clone())),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let all: Vec<_> = all
        .iter()
        .map(|it| (it.revision, it.branch_id.clone()))
        .collect();
    assert_eq!(paged, all);
}

#[tokio::test]
async fn the_same_id_is_answered_again_and_other_content_refused() {
    let world = World::start().await;
    let first = world
        .raw()
        .submit_transaction(request("o"))
        .await
        .unwrap()
        .into_inner();
    let again = world
        .raw()
        .submit_transaction(request("o"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(first, again);
    let mut other = request("o");
    other.branches[0].payload = Some(amount(6));
    expect(
        world.raw().submit_transaction(other).await,
        Code::AlreadyExists,
        "TRANSACTION_ID_REUSED",
    );
    let rollback = world
        .client()
        .rollback("o", "too late", Duration::from_secs(1))
        .await;
    assert_eq!(
        rollback.unwrap_err().refused().unwrap().reason,
        "DECISION_CONFLICT"
    );
    world.expect_used(5).await;
}

#[tokio::test]
async fn many_duplicates_at_once_have_one_effect_and_one_answer() {
    let world = World::start().await;
    let callers: Vec<_> = (0..50).map(|_| world.spawn(order("o"))).collect();
    for caller in callers {
        assert_eq!(
            success(caller.await.unwrap()).state(),
            TransactionState::Confirmed
        );
    }
    assert_eq!(world.stock.wire.count(Operation::Try), 1);
    world.expect_used(5).await;
}

#[tokio::test]
async fn an_id_rolled_back_before_its_submit_came_is_answered_failed() {
    let world = World::start().await;
    let forbidden = world
        .client()
        .rollback("o", "gave up", Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(failed(forbidden).message, "gave up");
    let late = failed(world.client().submit(&order("o")).await.unwrap());
    assert_eq!(late.message, "gave up");
    assert_eq!(world.stock.wire.count(Operation::Try), 0);
}
