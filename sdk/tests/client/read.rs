//! Waiting, listing, counting, histories and reports.

use std::time::Duration;

use tercet_sdk::{
    client::{Failure, Operation, Outcome, Report},
    proto::{participant::v1::Outcome as OutcomeCode, v1::*},
};
use tonic::{Code, Status};

use crate::{
    confirmed,
    coordinator::{Step, coordinator, refusal},
    processing, transaction,
};

#[tokio::test(start_paused = true)]
async fn waiting_outlasts_an_outage_and_ends_with_the_outcome() {
    let (script, client) = coordinator();
    let waited = |t| {
        Step::Reply(WaitTransactionResponse {
            transaction: Some(t),
        })
    };
    script.wait.script([
        Step::Refuse(Status::unavailable("away")),
        Step::Hang,
        waited(transaction(
            TransactionState::Trying,
            OutcomeCode::Processing,
        )),
        waited(confirmed()),
    ]);
    let outcome = client
        .wait("order-7", Duration::from_secs(120))
        .await
        .unwrap();
    assert!(matches!(outcome, Outcome::Success(_)));

    script.wait.script([Step::Hang]);
    let outcome = client
        .wait("order-7", Duration::from_secs(1))
        .await
        .unwrap();
    assert_eq!(processing(outcome).transaction_id(), "order-7");

    script.wait.script([Step::Refuse(refusal(
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    ))]);
    let error = client
        .wait("order-8", Duration::from_secs(1))
        .await
        .unwrap_err();
    assert_eq!(error.refused().unwrap().reason, "TRANSACTION_NOT_FOUND");
}

#[tokio::test(start_paused = true)]
async fn lists_counts_and_histories_are_read_to_their_end() {
    let (script, client) = coordinator();
    script.list.script([Step::Reply(ListTransactionsResponse {
        transactions: vec![confirmed()],
        next_page_token: "2".into(),
    })]);
    let page = client.list("state = CONFIRMED", 1, None).await.unwrap();
    assert_eq!(
        (page.transactions.len(), page.next_page_token.as_deref()),
        (1, Some("2"))
    );

    script.count.script([Step::Reply(CountTransactionsResponse {
        count: 10_000,
        exact: false,
    })]);
    let count = client.count("").await.unwrap();
    assert_eq!((count.count, count.is_exact), (10_000, false));

    let part = |revision, next: &str| {
        Step::Reply(ListTransactionEventsResponse {
            events: vec![TransactionEvent {
                revision,
                ..TransactionEvent::default()
            }],
            next_page_token: next.into(),
        })
    };
    script.events.script([part(1, "more"), part(2, "")]);
    let events = client.events("order-7").await.unwrap();
    assert_eq!(
        events
            .iter()
            .map(|event| event.revision)
            .collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(script.events.asked()[1].page_token, "more");
}

#[tokio::test(start_paused = true)]
async fn a_report_is_repeated_until_it_is_taken() {
    let (script, client) = coordinator();
    script.report.script([
        Step::Refuse(Status::unavailable("away")),
        Step::Reply(ReportBranchResponse {}),
    ]);
    let report = Report {
        transaction_id: "order-7".into(),
        branch_id: "b1".into(),
        report_token: "secret".into(),
        operation: Operation::Try,
        result: Err(Failure {
            reason: "OUT_OF_STOCK".into(),
            ..Failure::default()
        }),
    };
    client.report_branch(report).await.unwrap();
    let asked = script.report.asked();
    assert_eq!(asked[0], asked[1]);
    assert_eq!(asked[0].outcome(), OutcomeCode::Failed);
}
