//! Prints what happens to a transaction, as it happens.

use std::time::{Duration, Instant};

use tercet_sdk::client::{
    BranchState, Change, Client, Operation, TransactionEvent, TransactionState,
};
use tokio::sync::watch;

/// The coordinator has not recorded it yet, or is away: look again this soon.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Nothing in the shop takes this long.
const GIVE_UP: Duration = Duration::from_secs(120);

/// Follows a transaction in the background; the receiver gives its state after each change.
pub fn follow(client: Client, id: String) -> watch::Receiver<TransactionState> {
    let (state, states) = watch::channel(TransactionState::Unspecified);
    tokio::spawn(async move {
        let start = Instant::now();
        let mut seen = 0;
        while start.elapsed() < GIVE_UP && !is_terminal(*state.borrow()) {
            let mut changes = client.watch(&id);
            while let Some(Ok(change)) = changes.next().await {
                let now = match &change {
                    Change::Snapshot(transaction) => {
                        let events = client.events(&id).await.unwrap_or_default();
                        let last = events.last().map_or(seen, |it| it.revision);
                        for event in events.iter().filter(|it| it.revision > seen) {
                            print(event, start);
                        }
                        seen = last.max(seen);
                        transaction.state()
                    }
                    Change::Event(event) => {
                        if event.revision >= seen {
                            print(event, start);
                            seen = event.revision;
                        }
                        event.state()
                    }
                };
                state.send_replace(now);
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    });
    states
}

fn is_terminal(state: TransactionState) -> bool {
    use TransactionState::{Canceled, Confirmed, Mixed};
    matches!(state, Canceled | Confirmed | Mixed)
}

fn print(event: &TransactionEvent, start: Instant) {
    println!(
        "   {:>7.3}s  {}",
        start.elapsed().as_secs_f64(),
        describe(event)
    );
}

fn describe(event: &TransactionEvent) -> String {
    let state = event
        .state()
        .as_str_name()
        .trim_start_matches("TRANSACTION_STATE_");
    let why = event
        .failure
        .as_ref()
        .map(|it| format!("  {}", it.reason))
        .unwrap_or_default();
    if event.branch_id.is_empty() {
        return format!("{:<10} {state}{why}", "");
    }
    let branch = event
        .branch_state()
        .as_str_name()
        .trim_start_matches("BRANCH_STATE_");
    if event.operation() == Operation::Unspecified
        || event.branch_state() == BranchState::Unspecified
    {
        return format!("{:<10} {branch}{why}", event.branch_id);
    }
    let call = event
        .operation()
        .as_str_name()
        .trim_start_matches("OPERATION_");
    format!(
        "{:<10} {call} {} → {branch}{why}",
        event.branch_id, event.attempt
    )
}
