use tercet_core::{
    answer::Answer,
    step::{Call, Context, Event, Input},
    transaction::Attention,
};

use super::{super::samples, *};

/// The sample after an input, as the engine would store it.
fn after(record: &Record, input: Input) -> Record {
    let step = record.transaction.step(input, Context::default());
    let revision = record.revision + 1;
    let lines = step
        .events
        .into_iter()
        .map(|it| samples::line(revision, it));
    Record {
        revision,
        transaction: step.next,
        history: record.history.iter().cloned().chain(lines).collect(),
        ..record.clone()
    }
}

fn answered(branch: usize, answer: Answer) -> Input {
    Input::Answered {
        branch,
        operation: Operation::Try,
        answer,
    }
}

fn success(text: &str) -> Answer {
    Answer::Success(Some(Payload {
        type_url: "json".into(),
        value: text.as_bytes().into(),
    }))
}

fn tried_at(record: &Record, branch: &str) -> pb::TryBranchResponse {
    tried(record, &BranchId::parse(branch).expect("a good id"))
}

fn state_in(answer: &pb::TryBranchResponse) -> pb::BranchState {
    answer.branch.as_ref().expect("it has the branch").state()
}

#[test]
fn payloads_are_shown_only_in_the_full_view() {
    let record = samples::record();
    let payloads = |view| {
        let branches = transaction(&record, view).branches;
        branches.into_iter().filter_map(|it| it.payload).count()
    };
    assert_eq!((payloads(View::Basic), payloads(View::Full)), (0, 2));
}

#[test]
fn a_record_is_shown_with_its_times() {
    let mut record = samples::record();
    record.branch_times[1].next_attempt_ms = Some(samples::CREATE_MS + 5_000);
    record.branch_times[1].interval_ms = Some(1_500);
    record.keep_until_ms = Some(samples::CREATE_MS + 9_000);
    record.transaction.attentions.push(Attention {
        reason: AttentionReason::StateMismatch,
        branch: 1,
        detail: "it says CANCELED".into(),
    });
    record.attention_ms.push(samples::CREATE_MS + 1);
    let shown = transaction(&record, View::Basic);
    let at = |ms: i64| Some(timestamp(samples::CREATE_MS + ms));
    assert_eq!((shown.create_time, shown.update_time), (at(0), at(250)));
    assert_eq!(
        (shown.expire_time, shown.next_attempt_time),
        (at(30_000), at(5_000))
    );
    assert_eq!((shown.purge_time, shown.decide_time), (at(9_000), None));
    assert_eq!((shown.revision, shown.etag.as_str()), (1, "r1"));
    assert_eq!(shown.outcome(), participant::Outcome::Processing);
    assert_eq!(shown.decision(), pb::Decision::Unspecified);
    let attention = &shown.attentions[0];
    assert_eq!(
        (attention.branch_id.as_str(), attention.raise_time),
        ("b2", at(1))
    );
    let interval = shown.branches[1]
        .current_retry_interval
        .expect("it retries");
    assert_eq!((interval.seconds, interval.nanos), (1, 500_000_000));
}

#[test]
fn times_before_1970_are_shown_as_what_they_are() {
    let shown = timestamp(-1);
    assert_eq!((shown.seconds, shown.nanos), (-1, 999_000_000));
}

#[test]
fn a_branch_being_tried_is_processing_and_then_success_with_its_result() {
    let record = samples::record();
    assert_eq!(
        tried_at(&record, "b1").outcome(),
        participant::Outcome::Processing
    );
    let answer = tried_at(&after(&record, answered(0, success("seat 7"))), "b1");
    assert_eq!(answer.outcome(), participant::Outcome::Success);
    assert_eq!(state_in(&answer), pb::BranchState::Tried);
    assert_eq!(answer.result.expect("it has a result").value, "seat 7");
}

#[test]
fn a_refused_try_is_failed_with_its_own_reason_and_the_others_with_the_cause() {
    let reserved = after(&samples::record(), answered(0, success("seat 7")));
    let refusal = Failure::new("NO_MONEY", "7 are missing");
    let record = after(&reserved, answered(1, Answer::Failed(refusal)));
    let refused = tried_at(&record, "b2");
    assert_eq!(refused.outcome(), participant::Outcome::Failed);
    assert_eq!(state_in(&refused), pb::BranchState::TryFailed);
    assert_eq!(
        refused.failure.expect("it has a failure").reason,
        "NO_MONEY"
    );
    let other = tried_at(&record, "b1");
    assert_eq!(other.outcome(), participant::Outcome::Failed);
    assert_eq!(state_in(&other), pb::BranchState::Canceling);
    assert_eq!((other.result, other.failure.is_some()), (None, true));
}

#[test]
fn try_failed_is_a_state_of_events_alone() {
    let refusal = Failure::new("NO_MONEY", "7 are missing");
    let record = after(&samples::record(), answered(1, Answer::Failed(refusal)));
    let events: Vec<_> = record
        .history
        .iter()
        .map(|line| event(&record, line))
        .collect();
    let failed = events
        .iter()
        .filter(|it| it.branch_state() == pb::BranchState::TryFailed);
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].branch_id, "b2");
    assert_eq!(failed[0].operation(), participant::Operation::Try);
    assert_eq!(
        failed[0].latency.expect("it is about a call").nanos,
        12_000_000
    );
    let branches = transaction(&record, View::Full).branches;
    assert!(
        branches
            .iter()
            .all(|it| it.state() != pb::BranchState::TryFailed)
    );
}

#[test]
fn a_query_is_named_in_the_timeline() {
    let record = samples::record();
    let line = samples::line(
        2,
        Event {
            branch: Some(0),
            call: Some(Call {
                branch: 0,
                operation: Operation::Confirm,
                query: true,
                attempt: 3,
            }),
            outcome: Some(Outcome::Processing),
            state: State::Confirming,
            branch_state: Some(BranchState::Confirming),
            failure: None,
        },
    );
    let shown = event(&record, &line);
    assert_eq!(
        (shown.operation(), shown.attempt),
        (participant::Operation::Query, 3)
    );
    assert_eq!(shown.branch_state(), pb::BranchState::Confirming);
}
