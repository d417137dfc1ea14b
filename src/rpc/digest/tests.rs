use std::collections::BTreeSet;

use super::*;

type Change = fn(&mut pb::SubmitTransactionRequest);

fn duration(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn payload(text: &str) -> Option<participant::Payload> {
    Some(participant::Payload {
        type_url: "json".into(),
        value: text.to_owned().into(),
    })
}

fn order() -> pb::SubmitTransactionRequest {
    let branch = |id: &str| pb::BranchSpec {
        branch_id: id.into(),
        payload: payload("{}"),
        try_timeout: duration(2),
        target: Some(pb::branch_spec::Target::Contract(pb::ContractTarget {
            participant: "inventory".into(),
            resource: "reserve".into(),
        })),
    };
    let by_methods = pb::BranchSpec {
        target: Some(pb::branch_spec::Target::Methods(pb::MethodTarget {
            endpoint: "billing".into(),
            try_method: "/a/Try".into(),
            confirm_method: "/a/Confirm".into(),
            cancel_method: "/a/Cancel".into(),
            query_method: "/a/Query".into(),
            confirm_payload: payload("1"),
            cancel_payload: payload("2"),
        })),
        ..branch("b2")
    };
    pb::SubmitTransactionRequest {
        transaction_id: "order-7".into(),
        options: Some(pb::TransactionOptions {
            transaction_type: "place-order".into(),
            business_key: "7".into(),
            labels: [("a", "1"), ("b", "2")]
                .map(|(k, v)| (k.into(), v.into()))
                .into(),
            switches: [("c".into(), "3".into())].into(),
            reply_mode: 1,
            timeout: duration(30),
            try_timeout: duration(3),
            retry_policy: Some(pb::RetryPolicy {
                intervals: vec![prost_types::Duration {
                    seconds: 5,
                    nanos: 0,
                }],
                jitter_permille: Some(100),
                attention_after_attempts: 8,
            }),
        }),
        branches: vec![branch("b1"), by_methods],
        wait_timeout: duration(5),
        validate_only: false,
        submit_expire_time: None,
    }
}

fn options(request: &mut pb::SubmitTransactionRequest) -> &mut pb::TransactionOptions {
    request.options.as_mut().expect("it has options")
}

fn policy(request: &mut pb::SubmitTransactionRequest) -> &mut pb::RetryPolicy {
    options(request)
        .retry_policy
        .as_mut()
        .expect("it has a policy")
}

fn contract(request: &mut pb::SubmitTransactionRequest) -> &mut pb::ContractTarget {
    match &mut request.branches[0].target {
        Some(pb::branch_spec::Target::Contract(it)) => it,
        other => panic!("{other:?}"),
    }
}

fn methods(request: &mut pb::SubmitTransactionRequest) -> &mut pb::MethodTarget {
    match &mut request.branches[1].target {
        Some(pb::branch_spec::Target::Methods(it)) => it,
        other => panic!("{other:?}"),
    }
}

const CONTENT: &[Change] = &[
    |it| it.transaction_id = "order-8".into(),
    |it| it.options = None,
    |it| options(it).transaction_type.clear(),
    |it| options(it).business_key = "8".into(),
    |it| drop(options(it).labels.insert("a".into(), "2".into())),
    |it| drop(options(it).labels.remove("a")),
    |it| drop(options(it).labels.insert("c".into(), "3".into())),
    |it| drop(options(it).switches.insert("c".into(), "4".into())),
    |it| {
        let labels = std::mem::take(&mut options(it).labels);
        options(it).labels = std::mem::replace(&mut options(it).switches, labels);
    },
    |it| options(it).reply_mode = 2,
    |it| options(it).timeout = None,
    |it| options(it).timeout = duration(31),
    |it| options(it).try_timeout = duration(4),
    |it| options(it).retry_policy = None,
    |it| policy(it).intervals[0].nanos = 1,
    |it| policy(it).intervals.push(prost_types::Duration::default()),
    |it| policy(it).jitter_permille = None,
    |it| policy(it).jitter_permille = Some(0),
    |it| policy(it).attention_after_attempts = 9,
    |it| it.branches.swap(0, 1),
    |it| drop(it.branches.pop()),
    |it| it.branches[0].branch_id.clear(),
    |it| it.branches[0].payload = None,
    |it| it.branches[0].payload = payload("{} "),
    |it| it.branches[0].try_timeout = None,
    |it| it.branches[0].target = None,
    |it| contract(it).participant = "payment".into(),
    |it| contract(it).resource = "sell".into(),
    |it| methods(it).endpoint = "other".into(),
    |it| methods(it).try_method = "/b/Try".into(),
    |it| methods(it).confirm_method = "/b/Confirm".into(),
    |it| methods(it).cancel_method = "/b/Cancel".into(),
    |it| methods(it).query_method.clear(),
    |it| methods(it).confirm_payload = None,
    |it| methods(it).confirm_payload = Some(participant::Payload::default()),
    |it| methods(it).cancel_payload = payload("1"),
];

#[test]
fn every_field_of_the_content_counts() {
    let mut digests = BTreeSet::from([submit(&order())]);
    for (at, change) in CONTENT.iter().enumerate() {
        let mut changed = order();
        change(&mut changed);
        assert!(digests.insert(submit(&changed)), "change {at} is not seen");
    }
}

#[test]
fn how_a_caller_waits_does_not_count() {
    let changes: [Change; 3] = [
        |it| it.wait_timeout = None,
        |it| it.validate_only = true,
        |it| it.submit_expire_time = Some(prost_types::Timestamp::default()),
    ];
    for change in changes {
        let mut changed = order();
        change(&mut changed);
        assert_eq!(submit(&changed), submit(&order()));
    }
}

#[test]
fn the_order_in_which_a_map_was_filled_does_not_count() {
    let mut other = order();
    let labels = std::mem::take(&mut options(&mut other).labels);
    options(&mut other).labels.extend(labels.into_iter().rev());
    assert_eq!(submit(&other), submit(&order()));
}

#[test]
fn no_payload_is_an_empty_payload() {
    let mut none = order();
    none.branches[0].payload = None;
    let mut empty = order();
    empty.branches[0].payload = Some(participant::Payload::default());
    assert_eq!(submit(&none), submit(&empty));
}

#[test]
fn where_one_text_ends_and_the_next_begins_counts() {
    let with = |transaction_type: &str, business_key: &str| {
        let mut it = order();
        options(&mut it).transaction_type = transaction_type.into();
        options(&mut it).business_key = business_key.into();
        submit(&it)
    };
    assert_ne!(with("ab", "c"), with("a", "bc"));
    assert_ne!(with("ab", ""), with("", "ab"));
}

#[test]
fn opening_a_transaction_is_not_submitting_it() {
    let begun = pb::BeginTransactionRequest {
        transaction_id: order().transaction_id,
        options: order().options,
        submit_expire_time: None,
    };
    let mut empty = order();
    empty.branches.clear();
    assert_ne!(begin(&begun), submit(&empty));
    let mut later = begun.clone();
    later.submit_expire_time = Some(prost_types::Timestamp::default());
    assert_eq!(begin(&begun), begin(&later));
}

/// A digest is stored for weeks: this one may never change.
#[test]
fn the_form_is_the_same_in_every_release() {
    let digest: String = submit(&order())
        .iter()
        .map(|it| format!("{it:02x}"))
        .collect();
    assert_eq!(
        digest,
        "82056c67941a0bd0b41640d464cf0e58a4185dcf544b3a091bc5a8dd4f36c05c"
    );
}
