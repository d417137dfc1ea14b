use std::{collections::BTreeMap, time::Duration};

use tercet_core::{operation::Operation, outcome::ReplyMode, request::Report, transaction::Target};

use super::{super::arrival::Arrival, *};
use crate::{
    engine::NewTransaction,
    proto::tercet::{participant::v1 as participant, v1 as pb},
};

const NOW_MS: i64 = 1_700_000_000_000;
const TOKEN: &str = "000102030405060708090a0b0c0d0e0f";

fn arrival() -> Arrival {
    Arrival {
        now_ms: NOW_MS,
        traceparent: "".into(),
    }
}

fn contract(branch_id: &str) -> pb::BranchSpec {
    pb::BranchSpec {
        branch_id: branch_id.into(),
        target: Some(pb::branch_spec::Target::Contract(pb::ContractTarget {
            participant: "inventory".into(),
            resource: "reserve".into(),
        })),
        ..pb::BranchSpec::default()
    }
}

fn order(branches: Vec<pb::BranchSpec>) -> pb::SubmitTransactionRequest {
    pb::SubmitTransactionRequest {
        transaction_id: "order-7".into(),
        branches,
        ..pb::SubmitTransactionRequest::default()
    }
}

fn order_with(options: pb::TransactionOptions) -> pb::SubmitTransactionRequest {
    pb::SubmitTransactionRequest {
        options: Some(options),
        ..order(vec![contract("")])
    }
}

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn parsed(request: pb::SubmitTransactionRequest) -> NewTransaction {
    submit(request, &arrival(), &Limits::default())
        .expect("a good request")
        .new
}

/// The bad fields of a Submit, each with its reason.
fn faults_of(request: pb::SubmitTransactionRequest) -> Vec<(String, ErrorReason)> {
    let faults = submit(request, &arrival(), &Limits::default()).expect_err("a bad request");
    listed(&faults)
}

fn listed(faults: &Faults) -> Vec<(String, ErrorReason)> {
    let named = faults.named().iter();
    named.map(|it| (it.field.clone(), it.reason)).collect()
}

fn invalid(field: &str) -> Vec<(String, ErrorReason)> {
    vec![(field.into(), ErrorReason::FieldInvalid)]
}

fn exceeded(field: &str) -> Vec<(String, ErrorReason)> {
    vec![(field.into(), ErrorReason::LimitExceeded)]
}

#[test]
fn what_is_left_out_has_its_default() {
    let new = parsed(order(vec![contract("")]));
    assert_eq!(new.mode, ReplyMode::ThreeState);
    assert_eq!((new.timeout_ms, new.try_timeout_ms), (30_000, 3_000));
    assert_eq!(new.branches[0].try_timeout_ms, 3_000);
    assert_eq!(new.policy, tercet_core::retry::RetryPolicy::default());
    assert_eq!(new.submit_expire_ms, None);
}

#[test]
fn a_branch_keeps_its_own_try_timeout() {
    let branch = pb::BranchSpec {
        try_timeout: seconds(7),
        ..contract("")
    };
    assert_eq!(
        parsed(order(vec![branch])).branches[0].try_timeout_ms,
        7_000
    );
}

#[test]
fn the_default_try_timeout_is_no_longer_than_the_timeout() {
    let options = pb::TransactionOptions {
        timeout: seconds(1),
        ..pb::TransactionOptions::default()
    };
    assert_eq!(parsed(order_with(options)).try_timeout_ms, 1_000);
}

#[test]
fn an_empty_id_is_assigned_in_the_order_of_time() {
    let mut request = order(vec![contract("")]);
    request.transaction_id.clear();
    let first = parsed(request.clone()).id;
    let second = parsed(request).id;
    assert!(first < second, "{first} {second}");
    assert_eq!(
        uuid::Uuid::parse_str(first.as_str())
            .expect("a UUID")
            .get_version_num(),
        7
    );
}

#[test]
fn branches_without_an_id_are_named_by_their_place() {
    let new = parsed(order(vec![contract(""), contract("pay"), contract("")]));
    let ids: Vec<_> = new.branches.iter().map(|it| it.id.as_str()).collect();
    assert_eq!(ids, ["b1", "pay", "b3"]);
}

#[test]
fn two_branches_of_one_id_are_refused_even_if_one_was_assigned() {
    let duplicate = |at| {
        vec![(
            format!("branches[{at}].branch_id"),
            ErrorReason::BranchIdDuplicate,
        )]
    };
    assert_eq!(
        faults_of(order(vec![contract("a"), contract("a")])),
        duplicate(1)
    );
    assert_eq!(
        faults_of(order(vec![contract("b2"), contract("")])),
        duplicate(1)
    );
    assert_eq!(
        faults_of(order(vec![contract(""), contract("b1")])),
        duplicate(1)
    );
}

#[test]
fn all_bad_fields_are_named_at_once() {
    let request = pb::SubmitTransactionRequest {
        transaction_id: "a b".into(),
        options: Some(pb::TransactionOptions {
            reply_mode: 9,
            timeout: seconds(0),
            try_timeout: seconds(-1),
            labels: [("city of".to_owned(), "x".to_owned())].into(),
            retry_policy: Some(pb::RetryPolicy {
                intervals: vec![prost_types::Duration::default()],
                jitter_permille: Some(501),
                attention_after_attempts: -1,
            }),
            ..pb::TransactionOptions::default()
        }),
        branches: vec![pb::BranchSpec::default(), contract("ä")],
        wait_timeout: seconds(-1),
        submit_expire_time: Some(prost_types::Timestamp {
            seconds: -1,
            nanos: 0,
        }),
        validate_only: false,
    };
    let fields: Vec<_> = faults_of(request)
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(
        fields,
        [
            "transaction_id",
            "options.labels",
            "options.reply_mode",
            "options.retry_policy.intervals[0]",
            "options.retry_policy.jitter_permille",
            "options.retry_policy.attention_after_attempts",
            "options.timeout",
            "options.try_timeout",
            "submit_expire_time",
            "branches[0].target",
            "branches[1].branch_id",
            "wait_timeout",
        ]
    );
}

#[test]
fn the_number_of_branches_has_both_ends() {
    assert_eq!(faults_of(order(vec![])), invalid("branches"));
    assert_eq!(parsed(order(vec![contract(""); 64])).branches.len(), 64);
    assert_eq!(
        faults_of(order(vec![contract(""); 65])),
        exceeded("branches")
    );
}

#[test]
fn a_payload_may_be_64_kib_and_no_longer() {
    let with = |bytes: usize| pb::BranchSpec {
        payload: Some(participant::Payload {
            type_url: "json".into(),
            value: vec![0; bytes - 4].into(),
        }),
        ..contract("")
    };
    assert_eq!(
        parsed(order(vec![with(65_536)])).branches[0].payload.len(),
        65_536
    );
    assert_eq!(
        faults_of(order(vec![with(65_537)])),
        exceeded("branches[0].payload")
    );
}

#[test]
fn a_request_may_be_1_mib_in_all() {
    let payload = participant::Payload {
        type_url: String::new(),
        value: vec![0; 65_536].into(),
    };
    let branch = pb::BranchSpec {
        payload: Some(payload),
        ..contract("")
    };
    assert_eq!(faults_of(order(vec![branch; 16])), exceeded(""));
}

#[test]
fn labels_and_switches_are_few_and_short() {
    let labels = |count: usize, key: usize, value: usize| {
        let label = |at: usize| (format!("{at:0key$}"), "v".repeat(value));
        (0..count).map(label).collect::<BTreeMap<_, _>>()
    };
    let with = |labels: BTreeMap<String, String>| pb::TransactionOptions {
        labels: labels.clone(),
        switches: labels,
        ..pb::TransactionOptions::default()
    };
    assert_eq!(
        parsed(order_with(with(labels(16, 63, 256)))).labels.len(),
        16
    );
    let both = |at: &str| {
        [
            exceeded(&format!("options.labels{at}")),
            exceeded(&format!("options.switches{at}")),
        ]
        .concat()
    };
    assert_eq!(faults_of(order_with(with(labels(17, 2, 1)))), both(""));
    assert_eq!(faults_of(order_with(with(labels(1, 64, 1)))), both(""));
    assert_eq!(faults_of(order_with(with(labels(1, 1, 257)))), both("[0]"));
}

#[test]
fn times_have_both_ends() {
    let timeout = |timeout| {
        order_with(pb::TransactionOptions {
            timeout,
            ..pb::TransactionOptions::default()
        })
    };
    let nanos = |nanos| Some(prost_types::Duration { seconds: 1, nanos });
    assert_eq!(parsed(timeout(seconds(1))).timeout_ms, 1_000);
    assert_eq!(parsed(timeout(seconds(86_400))).timeout_ms, 86_400_000);
    for bad in [
        seconds(86_401),
        seconds(i64::MAX),
        seconds(i64::MIN),
        nanos(-1),
        nanos(i32::MAX),
    ] {
        assert_eq!(
            faults_of(timeout(bad)),
            invalid("options.timeout"),
            "{bad:?}"
        );
    }
    let longer = pb::BranchSpec {
        try_timeout: seconds(31),
        ..contract("")
    };
    assert_eq!(
        faults_of(order(vec![longer])),
        invalid("branches[0].try_timeout")
    );
}

#[test]
fn the_retry_policy_is_held_to_its_bounds() {
    let with = |policy| {
        order_with(pb::TransactionOptions {
            retry_policy: Some(policy),
            ..pb::TransactionOptions::default()
        })
    };
    let intervals = |count: usize, ms: u32| pb::RetryPolicy {
        intervals: vec![
            prost_types::Duration {
                seconds: i64::from(ms / 1000),
                nanos: i32::try_from(ms % 1000 * 1_000_000).expect("small"),
            };
            count
        ],
        ..pb::RetryPolicy::default()
    };
    let policy = parsed(with(intervals(16, 100))).policy;
    assert_eq!(*policy.intervals_ms, [100; 16]);
    assert_eq!(
        (policy.jitter_permille, policy.attention_after_attempts),
        (100, 8)
    );
    let exact = pb::RetryPolicy {
        jitter_permille: Some(0),
        attention_after_attempts: 3,
        ..pb::RetryPolicy::default()
    };
    let policy = parsed(with(exact)).policy;
    assert_eq!(
        (policy.jitter_permille, policy.attention_after_attempts),
        (0, 3)
    );
    assert_eq!(
        faults_of(with(intervals(17, 100))),
        exceeded("options.retry_policy.intervals")
    );
    assert_eq!(
        faults_of(with(intervals(1, 99))),
        invalid("options.retry_policy.intervals[0]")
    );
}

#[test]
fn a_submit_may_not_outlive_what_is_remembered() {
    let expiring = |ahead_ms: i64| {
        let at_ms = NOW_MS + ahead_ms;
        pb::SubmitTransactionRequest {
            submit_expire_time: Some(prost_types::Timestamp {
                seconds: at_ms / 1000,
                nanos: 0,
            }),
            ..order(vec![contract("")])
        }
    };
    let week_ms = 7 * 24 * 60 * 60 * 1000;
    assert_eq!(
        parsed(expiring(week_ms)).submit_expire_ms,
        Some(NOW_MS + week_ms)
    );
    assert_eq!(
        parsed(expiring(-1000)).submit_expire_ms,
        Some(NOW_MS - 1000)
    );
    assert_eq!(
        faults_of(expiring(week_ms + 1000)),
        invalid("submit_expire_time")
    );
}

#[test]
fn methods_are_paths_and_the_query_may_be_missing() {
    let target = |try_method: &str| pb::BranchSpec {
        target: Some(pb::branch_spec::Target::Methods(pb::MethodTarget {
            endpoint: "billing".into(),
            try_method: try_method.into(),
            confirm_method: "/pay.v1.Pay/Capture".into(),
            cancel_method: "/pay.v1.Pay/Release".into(),
            cancel_payload: Some(participant::Payload::default()),
            ..pb::MethodTarget::default()
        })),
        ..pb::BranchSpec::default()
    };
    let new = parsed(order(vec![target("/pay.v1.Pay/Hold")]));
    let Target::Methods(methods) = &new.branches[0].target else {
        panic!("not a method target");
    };
    assert_eq!(methods.query_method, None);
    assert_eq!(methods.confirm_payload, None);
    assert!(methods.cancel_payload.is_some());
    for bad in ["", "pay.v1.Pay/Hold", "/Hold", "//Hold", "/a/b/c", "/a b/c"] {
        assert_eq!(
            faults_of(order(vec![target(bad)])),
            invalid("branches[0].methods.try_method"),
            "{bad:?}"
        );
    }
}

#[test]
fn all_names_together_stay_below_their_limit() {
    let long = |at: usize| pb::BranchSpec {
        target: Some(pb::branch_spec::Target::Contract(pb::ContractTarget {
            participant: "p".repeat(63),
            resource: "r".repeat(256),
        })),
        ..contract(&format!("{at:0128}"))
    };
    let branches = |count: usize| order((0..count).map(long).collect());
    // 24 KiB are 54 times 63 + 256 + 128 bytes, and a little.
    assert_eq!(parsed(branches(54)).branches.len(), 54);
    assert_eq!(faults_of(branches(55)), exceeded("branches"));
}

#[test]
fn a_commit_names_each_branch_once() {
    let request = pb::CommitTransactionRequest {
        transaction_id: "order-7".into(),
        branch_ids: vec!["a".into(), "b".into(), "a".into()],
        wait_timeout: seconds(5),
    };
    let faults = commit(&request, &Limits::default()).expect_err("a twice");
    assert_eq!(
        listed(&faults),
        [("branch_ids[2]".into(), ErrorReason::BranchIdDuplicate)]
    );
}

#[test]
fn a_rollback_says_why_in_its_clients_words() {
    let request = |reason: String| pb::RollbackTransactionRequest {
        transaction_id: "order-7".into(),
        reason,
        wait_timeout: seconds(2),
    };
    let parsed = rollback(&request("changed my mind".into()), &Limits::default()).expect("good");
    assert_eq!(&*parsed.cause.message, "changed my mind");
    assert_eq!(parsed.wait, Some(Duration::from_secs(2)));
    let faults = rollback(&request("x".repeat(1025)), &Limits::default()).expect_err("too long");
    assert_eq!(listed(&faults), exceeded("reason"));
}

#[test]
fn only_the_end_of_an_operation_is_reported() {
    let good = pb::ReportBranchRequest {
        transaction_id: "order-7".into(),
        branch_id: "b1".into(),
        operation: participant::Operation::Try.into(),
        outcome: participant::Outcome::Success.into(),
        report_token: TOKEN.into(),
        ..pb::ReportBranchRequest::default()
    };
    let parsed = report(good.clone(), &Limits::default()).expect("good");
    assert_eq!(
        (parsed.operation, parsed.report),
        (Operation::Try, Report::Success(None))
    );
    assert_eq!(parsed.token, 0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f);
    let bad = pb::ReportBranchRequest {
        operation: participant::Operation::Query.into(),
        outcome: participant::Outcome::Processing.into(),
        report_token: "secret".into(),
        ..good.clone()
    };
    let faults = report(bad, &Limits::default()).expect_err("bad");
    let fields: Vec<_> = faults.named().iter().map(|it| it.field.as_str()).collect();
    assert_eq!(fields, ["operation", "report_token", "outcome"]);
    assert!(
        !format!("{faults:?}").contains("secret"),
        "a token is never repeated"
    );
    let unnamed = pb::ReportBranchRequest {
        outcome: participant::Outcome::Failed.into(),
        ..good
    };
    let faults = report(unnamed, &Limits::default()).expect_err("FAILED without a reason");
    assert_eq!(listed(&faults), invalid("failure.reason"));
}
