//! Transactions and their events, as tables or JSON.

use serde_json::{Value, json};
use tercet_sdk::client::{Page, Transaction, TransactionEvent};

use crate::cli::{
    Problem,
    output::{self, Format, Table, cut, message},
};

const TRANSACTION: &str = "tercet.v1.Transaction";
const EVENT: &str = "tercet.v1.TransactionEvent";
const LINE_WIDTH_MAX: usize = 100;

/// One transaction with its branches.
pub(super) fn transaction(transaction: &Transaction, format: Format) -> Result<(), Problem> {
    let value = message(TRANSACTION, transaction.as_message())?;
    match format {
        Format::Json => output::json(&value),
        Format::Table => output::text(&details(&value)),
    }
}

/// The outcome's name: SUCCESS, FAILED or PROCESSING.
pub(super) fn outcome(transaction: &Transaction) -> &'static str {
    match transaction
        .outcome()
        .as_str_name()
        .trim_start_matches("OUTCOME_")
    {
        "UNSPECIFIED" => "PROCESSING",
        outcome => outcome,
    }
}

/// Where a watch begins.
pub(super) fn snapshot(transaction: &Transaction, format: Format) -> Result<(), Problem> {
    let value = message(TRANSACTION, transaction.as_message())?;
    match format {
        Format::Json => output::json_line(&json!({ "snapshot": value })),
        Format::Table => output::text(&details(&value)),
    }
}

/// One step of a watch.
pub(super) fn event(event: &TransactionEvent, format: Format) -> Result<(), Problem> {
    let value = message(EVENT, event)?;
    match format {
        Format::Json => output::json_line(&json!({ "event": value })),
        Format::Table => output::text(&line(&value)),
    }
}

/// The whole timeline.
pub(super) fn events(events: &[TransactionEvent], format: Format) -> Result<(), Problem> {
    let events = events.iter().map(|event| message(EVENT, event));
    let events: Vec<_> = events.collect::<Result<_, _>>()?;
    match format {
        Format::Json => output::json(&json!({ "events": events })),
        Format::Table => output::text(&events.iter().map(line).collect::<String>()),
    }
}

/// One page of a list.
pub(super) fn page(page: &Page, format: Format) -> Result<(), Problem> {
    let transactions = page
        .transactions
        .iter()
        .map(|it| message(TRANSACTION, it.as_message()));
    let transactions: Vec<_> = transactions.collect::<Result<_, _>>()?;
    let token = page.next_page_token.as_deref().unwrap_or_default();
    if format == Format::Json {
        return output::json(&json!({ "transactions": transactions, "nextPageToken": token }));
    }
    let mut table = Table::new(&["ID", "TYPE", "STATE", "OUTCOME", "CREATED"]);
    for it in transactions {
        let created = seconds(&text(&it, "createTime"));
        table.row([
            text(&it, "transactionId"),
            text(&it, "transactionType"),
            name(&it, "state", "TRANSACTION_STATE_"),
            name(&it, "outcome", "OUTCOME_"),
            created,
        ]);
    }
    output::text(&table.to_string())?;
    if !token.is_empty() {
        eprintln!("there are more: --page-token {token}");
    }
    Ok(())
}

fn details(it: &Value) -> String {
    let mut facts = vec![
        ("transaction", text(it, "transactionId")),
        ("outcome", name(it, "outcome", "OUTCOME_")),
        ("state", name(it, "state", "TRANSACTION_STATE_")),
        ("failure", failure(&it["failure"])),
        ("type", text(it, "transactionType")),
        ("business key", text(it, "businessKey")),
        ("mode", name(it, "replyMode", "REPLY_MODE_")),
        ("created", text(it, "createTime")),
        ("expires", text(it, "expireTime")),
        ("decided", text(it, "decideTime")),
        ("finished", text(it, "finishTime")),
        ("next attempt", text(it, "nextAttemptTime")),
    ];
    for attention in array(it, "attentions") {
        let reason = name(attention, "reason", "ATTENTION_REASON_");
        let (branch, detail) = (text(attention, "branchId"), text(attention, "detail"));
        facts.push((
            "attention",
            format!("{branch} {reason}: {detail}").trim().to_owned(),
        ));
    }
    let mut lines = String::new();
    for (label, value) in facts.into_iter().filter(|(_, value)| !value.is_empty()) {
        let fact = format!("{label:12}  {}", value.replace('\n', " "));
        lines.push_str(&cut(&fact, LINE_WIDTH_MAX));
        lines.push('\n');
    }
    let branches = array(it, "branches");
    if !branches.is_empty() {
        lines.push('\n');
        lines.push_str(&branch_table(branches).to_string());
    }
    lines
}

fn branch_table(branches: &[Value]) -> Table {
    let header = [
        "BRANCH",
        "PARTICIPANT",
        "RESOURCE",
        "STATE",
        "TRY",
        "CONFIRM",
        "CANCEL",
        "LAST FAILURE",
    ];
    let mut table = Table::new(&header);
    for branch in branches {
        table.row([
            text(branch, "branchId"),
            text(branch, "participant"),
            text(branch, "resource"),
            name(branch, "state", "BRANCH_STATE_"),
            number(branch, "tryAttempts"),
            number(branch, "confirmAttempts"),
            number(branch, "cancelAttempts"),
            failure(&branch["lastFailure"]),
        ]);
    }
    table
}

/// `03:30:26.123  b1 TRY #1 → TRIED  OUT_OF_STOCK: …`, or without a branch the transaction's state.
fn line(event: &Value) -> String {
    let time = text(event, "eventTime");
    let branch = text(event, "branchId");
    let what = if branch.is_empty() {
        name(event, "state", "TRANSACTION_STATE_")
    } else {
        let call = match name(event, "operation", "OPERATION_") {
            operation if operation.is_empty() => String::new(),
            operation => format!(" {operation} #{}", number(event, "attempt")),
        };
        format!(
            "{branch}{call} → {}",
            name(event, "branchState", "BRANCH_STATE_")
        )
    };
    let mut line = format!("{}  {what}", clock(&time));
    for more in [
        text(event, "latency"),
        failure(&event["failure"]),
        text(event, "reason"),
    ] {
        if !more.is_empty() {
            line.push_str("  ");
            line.push_str(&more.replace('\n', " "));
        }
    }
    line = cut(&line, LINE_WIDTH_MAX);
    line.push('\n');
    line
}

fn failure(failure: &Value) -> String {
    let (reason, message) = (text(failure, "reason"), text(failure, "message"));
    match (reason.is_empty(), message.is_empty()) {
        (_, true) => reason,
        (true, false) => message,
        (false, false) => format!("{reason}: {message}"),
    }
}

fn array<'a>(value: &'a Value, field: &str) -> &'a [Value] {
    value[field].as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, field: &str) -> String {
    value[field].as_i64().unwrap_or_default().to_string()
}

/// An enum's value without its prefix; nothing when it is not set.
fn name(value: &Value, field: &str, prefix: &str) -> String {
    let name = text(value, field);
    name.strip_prefix(prefix).unwrap_or(&name).to_owned()
}

/// `2026-11-21T03:30:26.123Z` to the second.
fn seconds(time: &str) -> String {
    let seconds = time.split(['.', 'Z']).next().unwrap_or_default();
    if seconds.is_empty() {
        String::new()
    } else {
        format!("{seconds}Z")
    }
}

/// The time of day of a timestamp, to the millisecond.
fn clock(time: &str) -> String {
    let day_time = time
        .split('T')
        .nth(1)
        .unwrap_or_default()
        .trim_end_matches('Z');
    let (seconds, fraction) = day_time.split_once('.').unwrap_or((day_time, ""));
    format!("{seconds}.{:0<3.3}", fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_of_at_most_100_columns() {
        let event = json!({
            "eventTime": "2026-11-21T03:30:26.5Z", "branchId": "b1", "operation": "OPERATION_TRY",
            "attempt": 2, "branchState": "BRANCH_STATE_TRY_FAILED", "latency": "0.012s",
            "failure": {"reason": "OUT_OF_STOCK", "message": "no tea\n".repeat(40)},
        });
        let line = line(&event);
        let start = "03:30:26.500  b1 TRY #2 → TRY_FAILED  0.012s  OUT_OF_STOCK: no tea no tea";
        assert!(line.starts_with(start), "{line}");
        assert_eq!(line.chars().count(), LINE_WIDTH_MAX + 1);
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn a_transactions_facts_leave_out_what_is_not_there() {
        let it = json!({"transactionId": "order-7", "state": "TRANSACTION_STATE_TRYING"});
        assert_eq!(
            details(&it),
            "transaction   order-7\nstate         TRYING\n"
        );
    }
}
