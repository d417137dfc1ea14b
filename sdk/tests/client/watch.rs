//! Watching, through streams that break.

use tercet_sdk::{
    client::{Change, Client},
    proto::{
        participant::v1::Outcome as OutcomeCode,
        v1::{watch_transaction_response::Item, *},
    },
};
use tonic::{Code, Status};

use crate::{
    coordinator::{Script, Step, coordinator, refusal},
    transaction,
};

fn snapshot(revision: i64, state: TransactionState) -> Result<WatchTransactionResponse, Status> {
    let transaction = Transaction {
        revision,
        ..transaction(state, OutcomeCode::Processing)
    };
    Ok(WatchTransactionResponse {
        item: Some(Item::Snapshot(transaction)),
    })
}

fn event(
    revision: i64,
    branch_id: &str,
    state: TransactionState,
) -> Result<WatchTransactionResponse, Status> {
    let event = TransactionEvent {
        revision,
        branch_id: branch_id.into(),
        state: state.into(),
        ..TransactionEvent::default()
    };
    Ok(WatchTransactionResponse {
        item: Some(Item::Event(event)),
    })
}

/// What a watch gives, as "s REVISION" and "e REVISION BRANCH", and what it asked for.
async fn watched(script: &Script, client: &Client) -> (Vec<String>, Vec<i64>) {
    let mut watch = client.watch("order-7");
    let mut seen = Vec::new();
    while let Some(change) = watch.next().await {
        seen.push(match change {
            Ok(Change::Snapshot(t)) => format!("s {}", t.revision()),
            Ok(Change::Event(e)) => format!("e {} {}", e.revision, e.branch_id),
            Err(error) => format!("error {}", error.refused().map_or("", |r| &r.reason)),
        });
    }
    let asked = script.watch.asked();
    (
        seen,
        asked.iter().map(|request| request.after_revision).collect(),
    )
}

#[tokio::test(start_paused = true)]
async fn a_watch_goes_on_where_its_stream_broke_even_between_events_of_one_revision() {
    use TransactionState::{Confirmed, Confirming, Trying};
    let (script, client) = coordinator();
    let broken = || Err(Status::unavailable("connection reset"));
    script.watch.script([
        Step::Reply(vec![snapshot(2, Trying), event(3, "b1", Trying), broken()]),
        // A stream that ends well before the end is broken too.
        Step::Reply(vec![
            event(3, "b1", Trying),
            event(3, "b2", Trying),
            event(4, "", Confirming),
        ]),
        Step::Reply(vec![event(4, "", Confirming), event(5, "", Confirmed)]),
    ]);
    let (seen, asked) = watched(&script, &client).await;
    assert_eq!(seen, ["s 2", "e 3 b1", "e 3 b2", "e 4 ", "e 5 "]);
    assert_eq!(asked, [0, 2, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_starts_over_when_its_revision_is_gone() {
    use TransactionState::{Confirmed, Trying};
    let (script, client) = coordinator();
    script.watch.script([
        Step::Reply(vec![snapshot(2, Trying)]),
        Step::Refuse(refusal(Code::OutOfRange, "REVISION_COMPACTED")),
        Step::Reply(vec![snapshot(9, Confirmed)]),
    ]);
    let (seen, asked) = watched(&script, &client).await;
    assert_eq!(seen, ["s 2", "s 9"]);
    assert_eq!(asked, [0, 2, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_with_what_stops_it() {
    let (script, client) = coordinator();
    script.watch.script([Step::Refuse(refusal(
        Code::NotFound,
        "TRANSACTION_NOT_FOUND",
    ))]);
    let (seen, _) = watched(&script, &client).await;
    assert_eq!(seen, ["error TRANSACTION_NOT_FOUND"]);

    let (script, client) = coordinator();
    script
        .watch
        .script((0..100).map(|_| Step::Refuse(Status::unavailable("away"))));
    let (seen, asked) = watched(&script, &client).await;
    assert_eq!(seen, ["error "]);
    assert_eq!(asked.len(), 10);
}

#[tokio::test(start_paused = true)]
async fn revisions_at_their_ends_are_followed_like_any_other() {
    for revision in [i64::MIN, -1, i64::MAX - 1, i64::MAX] {
        let (script, client) = coordinator();
        let beat = WatchTransactionResponse {
            item: Some(Item::Heartbeat(Heartbeat { revision })),
        };
        let lost = || Err(Status::new(Code::Unavailable, "the stream is lost"));
        script.watch.script([
            Step::Reply(vec![
                snapshot(revision, TransactionState::Trying),
                Ok(beat),
                lost(),
            ]),
            Step::Reply(vec![event(revision, "b1", TransactionState::Confirmed)]),
        ]);
        let (seen, asked) = watched(&script, &client).await;
        assert_eq!(seen.len(), 2, "{seen:?}");
        assert_eq!(asked, [0, revision.clamp(0, i64::MAX - 1)]);
    }
}
