//! Turns what a participant did into findings.

use super::{
    Finding,
    branch::{Answer, Branch},
};
use crate::proto::participant::v1::{Operation, Payload, RecordState};

pub(super) fn broken(expected: impl Into<String>, seen: impl Into<String>) -> Finding {
    Finding::Broken {
        expected: expected.into(),
        seen: seen.into(),
    }
}

fn inconclusive(why: impl Into<String>) -> Finding {
    Finding::Inconclusive { why: why.into() }
}

/// Reserves, to have something to check with; returns what Try answered.
pub(super) async fn reserve(branch: &Branch) -> Result<Option<Payload>, Finding> {
    match branch.settle(Operation::Try).await {
        Answer::Success(result) => Ok(result),
        other => Err(inconclusive(format!(
            "a new branch's Try was answered {other}; give a resource and a payload that succeed"
        ))),
    }
}

/// What comes before the point of a check, and is a check of its own elsewhere.
pub(super) async fn prepare(branch: &Branch, operation: Operation) -> Result<(), Finding> {
    match branch.settle(operation).await {
        Answer::Success(_) => Ok(()),
        other => Err(inconclusive(format!(
            "it needs a {} that succeeds, which was answered {other}",
            name(operation)
        ))),
    }
}

/// The point of a check: this must succeed.
pub(super) async fn must_succeed(
    branch: &Branch,
    operation: Operation,
    when: &str,
) -> Result<Option<Payload>, Finding> {
    match branch.settle(operation).await {
        Answer::Success(result) => Ok(result),
        other => Err(broken(
            format!("SUCCESS to {} {when}", name(operation)),
            other.to_string(),
        )),
    }
}

/// It must not succeed, now or later. FAILED, PROCESSING and errors are all allowed.
pub(super) async fn must_not_succeed(
    branch: &Branch,
    operation: Operation,
    when: &str,
) -> Result<(), Finding> {
    let answer = branch.call(operation).await;
    let answer = match answer {
        Answer::Processing(_) => branch.settle(operation).await,
        other => other,
    };
    if answer.is_success() {
        let expected = format!("an error to {} {when}, never SUCCESS", name(operation));
        return Err(broken(expected, answer.to_string()));
    }
    Ok(())
}

/// FAILED with this reason, however often it is asked.
pub(super) async fn must_fail(branch: &Branch, reason: &str, when: &str) -> Result<(), Finding> {
    match branch.settle(Operation::Try).await {
        Answer::Failed(failure) if failure.reason == reason => Ok(()),
        other => Err(broken(
            format!("FAILED {reason} to Try {when}"),
            other.to_string(),
        )),
    }
}

/// A non-OK status, which the coordinator reads as "ask again", never an outcome.
pub(super) async fn must_be_an_error(
    branch: &Branch,
    operation: Operation,
    when: &str,
) -> Result<(), Finding> {
    match branch.call(operation).await {
        Answer::Error(_) => Ok(()),
        other => Err(broken(
            format!("a non-OK status to {} {when}", name(operation)),
            other.to_string(),
        )),
    }
}

/// The record stands here.
pub(super) async fn must_stand(
    branch: &Branch,
    state: RecordState,
    when: &str,
) -> Result<(), Finding> {
    let expected = || format!("Query says {} {when}", state_name(state));
    match branch.query().await {
        Ok(record) if record.state() == state => Ok(()),
        Ok(record) => Err(broken(expected(), state_name(record.state()))),
        Err(status) => Err(broken(expected(), Answer::Error(status).to_string())),
    }
}

/// Two answers to the same question are the same.
pub(super) fn must_equal(
    first: &Option<Payload>,
    again: &Option<Payload>,
    what: &str,
) -> Result<(), Finding> {
    if first == again {
        return Ok(());
    }
    let show = |result: &Option<Payload>| Answer::Success(result.clone()).to_string();
    Err(broken(
        format!("{what} is the first answer again, {}", show(first)),
        show(again),
    ))
}

pub(super) fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Try => "Try",
        Operation::Confirm => "Confirm",
        Operation::Cancel | Operation::Query | Operation::Unspecified => "Cancel",
    }
}

fn state_name(state: RecordState) -> &'static str {
    state.as_str_name().trim_start_matches("RECORD_STATE_")
}
