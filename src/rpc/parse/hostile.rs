//! Requests that nobody should have sent: an error, or what is within every limit, and never a panic.

use prop::collection::vec;
use proptest::prelude::*;
use prost::Message;
use tercet_core::{payload::Payload, transaction::Target};

use super::{
    super::{arrival::Arrival, digest, page::Question, samples},
    *,
};
use crate::{
    engine::NewTransaction,
    mangle::{NUMBERS, cases, mangled, manglings},
    proto::tercet::{participant::v1 as participant, v1 as pb},
};

const NOW_MS: i64 = 1_700_000_000_000;

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..512)) {
        parse_all(&bytes)?;
    }

    /// Mostly well-formed messages, so that parsing gets past the decoder.
    #[test]
    fn no_values_panic(
        id in ".{0,9}", seconds in any::<i64>(), nanos in any::<i32>(), number in any::<i32>(),
        key in ".{0,70}", bytes in vec(any::<u8>(), 0..64), count in 0_usize..70,
    ) {
        let duration = Some(prost_types::Duration { seconds, nanos });
        let branch = pb::BranchSpec { branch_id: id.clone(), try_timeout: duration, ..branches()[0].clone() };
        let decoded = pb::BranchSpec::decode(&*bytes).unwrap_or(branch);
        let request = pb::SubmitTransactionRequest {
            transaction_id: id,
            options: Some(pb::TransactionOptions {
                labels: [(key.clone(), key)].into(),
                timeout: duration,
                reply_mode: number,
                retry_policy: Some(pb::RetryPolicy {
                    intervals: vec![prost_types::Duration { seconds, nanos }; count],
                    jitter_permille: Some(number),
                    attention_after_attempts: number,
                }),
                ..pb::TransactionOptions::default()
            }),
            branches: vec![decoded; count],
            wait_timeout: duration,
            submit_expire_time: Some(prost_types::Timestamp { seconds, nanos }),
            validate_only: false,
        };
        parse_all(&request.encode_to_vec())?;
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_mangled_request_is_an_error_or_within_every_limit(
        at in 0_usize..9, manglings in manglings(),
    ) {
        parse_all(&mangled(&requests()[at], &manglings))?;
    }

    /// What a digest is taken of can come in any order, and with fields nobody knows.
    #[test]
    fn a_digest_is_that_of_what_was_read(manglings in manglings()) {
        let bytes = mangled(&order().encode_to_vec(), &manglings);
        if let Ok(request) = pb::SubmitTransactionRequest::decode(&*bytes) {
            let again = pb::SubmitTransactionRequest::decode(&*request.encode_to_vec());
            prop_assert_eq!(digest::submit(&again.expect("it is valid")), digest::submit(&request));
            let same = request == order();
            prop_assert_eq!(digest::submit(&request) == digest::submit(&order()), same || same_content(request));
        }
    }

    /// A record's own times may be anything, too.
    #[test]
    fn a_branch_is_held_against_any_record(record in crate::arbitrary::records()) {
        let limits = Limits::default();
        let request = pb::TryBranchRequest {
            transaction_id: "order-7".into(),
            branch: Some(branches().remove(0)),
            wait_timeout: None,
        };
        let request = try_branch(request, &limits).expect("a good request");
        let _ = into_spec(request, &record, &limits);
    }
}

/// The same but for how its caller waits, and for what is as good as nothing.
fn same_content(request: pb::SubmitTransactionRequest) -> bool {
    let mut order = order();
    order.wait_timeout = request.wait_timeout;
    order.validate_only = request.validate_only;
    order.submit_expire_time = request.submit_expire_time;
    let nothing = Some(participant::Payload::default());
    let without_nothing = |mut it: pb::SubmitTransactionRequest| {
        let empty = it.branches.iter_mut().filter(|it| it.payload == nothing);
        empty.for_each(|it| it.payload = None);
        it
    };
    without_nothing(request) == without_nothing(order)
}

fn parse_all(bytes: &[u8]) -> Result<(), TestCaseError> {
    let limits = Limits::default();
    let arrival = Arrival {
        now_ms: NOW_MS,
        traceparent: "".into(),
    };
    if let Ok(request) = pb::SubmitTransactionRequest::decode(bytes)
        && let Some(parsed) = or_named(submit(request, &arrival, &limits))?
    {
        is_within_limits(&parsed.new, &limits)?;
    }
    if let Ok(request) = pb::BeginTransactionRequest::decode(bytes)
        && let Some(parsed) = or_named(begin(request, &arrival, &limits))?
    {
        is_within_limits(&parsed, &limits)?;
    }
    if let Ok(request) = pb::TryBranchRequest::decode(bytes)
        && let Some(request) = or_named(try_branch(request, &limits))?
    {
        or_named(into_spec(request, &samples::record(), &limits))?;
    }
    if let Ok(request) = pb::CommitTransactionRequest::decode(bytes)
        && let Some(parsed) = or_named(commit(&request, &limits))?
    {
        prop_assert!(parsed.branches.len() <= limits.branches_max);
    }
    if let Ok(request) = pb::RollbackTransactionRequest::decode(bytes)
        && let Some(parsed) = or_named(rollback(&request, &limits))?
    {
        prop_assert!(parsed.cause.message.len() <= limits.message_bytes_max);
    }
    if let Ok(request) = pb::ReportBranchRequest::decode(bytes) {
        or_named(report(request, &limits))?;
    }
    if let Ok(request) = pb::ListTransactionsRequest::decode(bytes) {
        let question = Question::Transactions(&request.filter);
        let listed = or_named(list(&request, question, &limits))?;
        prop_assert!(listed.is_none_or(|it| it.size <= limits.page_size_max));
    }
    if let Ok(request) = pb::ListTransactionEventsRequest::decode(bytes) {
        let question = Question::Events(&request.transaction_id);
        or_named(list_events(&request, question, &limits))?;
    }
    if let Ok(request) = pb::GetTransactionRequest::decode(bytes) {
        or_named(get(&request))?;
    }
    if let Ok(request) = pb::WaitTransactionRequest::decode(bytes) {
        or_named(wait(&request))?;
    }
    Ok(())
}

/// What was parsed, or at least one field is named, without which there is no answer.
fn or_named<T>(parsed: Result<T, Faults>) -> Result<Option<T>, TestCaseError> {
    match parsed {
        Ok(parsed) => Ok(Some(parsed)),
        Err(faults) => {
            prop_assert!(!faults.named().is_empty());
            Ok(None)
        }
    }
}

fn is_within_limits(new: &NewTransaction, limits: &Limits) -> Result<(), TestCaseError> {
    prop_assert!(limits.timeout_ms.contains(&new.timeout_ms));
    prop_assert!((1..=new.timeout_ms).contains(&new.try_timeout_ms));
    prop_assert!(new.labels.len().max(new.switches.len()) <= limits.labels_max);
    prop_assert!(new.branches.len() <= limits.branches_max);
    prop_assert!(words::of_new(new) <= limits.words_bytes_max);
    prop_assert!((1..=limits.retry_intervals_max).contains(&new.policy.intervals_ms.len()));
    prop_assert!(new.policy.jitter_permille <= 500 && new.policy.attention_after_attempts > 0);
    for branch in &new.branches {
        prop_assert!((1..=new.timeout_ms).contains(&branch.try_timeout_ms));
        let own = match &branch.target {
            Target::Contract { .. } => [None, None],
            Target::Methods(it) => [it.confirm_payload.as_ref(), it.cancel_payload.as_ref()],
        };
        let payloads = own.into_iter().flatten().chain([&branch.payload]);
        let longest = payloads.map(Payload::len).max().unwrap_or_default();
        prop_assert!(longest <= limits.payload_bytes_max);
    }
    Ok(())
}

/// One valid request of each kind, encoded.
fn requests() -> [Vec<u8>; 9] {
    let id = || "order-7".to_owned();
    let wait_timeout = order().wait_timeout;
    [
        order().encode_to_vec(),
        pb::BeginTransactionRequest {
            transaction_id: id(),
            options: order().options,
            submit_expire_time: order().submit_expire_time,
        }
        .encode_to_vec(),
        pb::TryBranchRequest {
            transaction_id: id(),
            branch: Some(branches().remove(1)),
            wait_timeout,
        }
        .encode_to_vec(),
        pb::CommitTransactionRequest {
            transaction_id: id(),
            branch_ids: vec!["b1".into(), "b2".into()],
            wait_timeout,
        }
        .encode_to_vec(),
        pb::RollbackTransactionRequest {
            transaction_id: id(),
            reason: "changed my mind".into(),
            wait_timeout,
        }
        .encode_to_vec(),
        pb::ReportBranchRequest {
            transaction_id: id(),
            branch_id: "b1".into(),
            operation: participant::Operation::Try.into(),
            outcome: participant::Outcome::Failed.into(),
            result: Some(payload()),
            failure: Some(participant::Failure {
                reason: "OUT_OF_STOCK".into(),
                message: "nothing is left".into(),
                metadata: [("sku".into(), "7".into())].into(),
                code: 9,
            }),
            report_token: "000102030405060708090a0b0c0d0e0f".into(),
        }
        .encode_to_vec(),
        pb::ListTransactionsRequest {
            page_size: 50,
            page_token: "ab".into(),
            filter: "state = TRYING".into(),
            view: 2,
        }
        .encode_to_vec(),
        pb::ListTransactionEventsRequest {
            transaction_id: id(),
            page_size: 50,
            page_token: "ab".into(),
        }
        .encode_to_vec(),
        pb::WaitTransactionRequest {
            transaction_id: id(),
            timeout: wait_timeout,
        }
        .encode_to_vec(),
    ]
}

fn order() -> pb::SubmitTransactionRequest {
    let time = |seconds| Some(prost_types::Duration { seconds, nanos: 1 });
    let labels = [("city", "Rome"), ("shop", "Zürich")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    pb::SubmitTransactionRequest {
        transaction_id: "order-7".into(),
        options: Some(pb::TransactionOptions {
            transaction_type: "place-order".into(),
            business_key: "7".into(),
            labels: labels.clone().into(),
            switches: labels.into(),
            reply_mode: 2,
            timeout: time(30),
            try_timeout: time(3),
            retry_policy: Some(pb::RetryPolicy {
                intervals: vec![time(5).expect("it is one"); 3],
                jitter_permille: Some(100),
                attention_after_attempts: 8,
            }),
        }),
        branches: branches(),
        wait_timeout: time(5),
        validate_only: true,
        submit_expire_time: Some(prost_types::Timestamp {
            seconds: NOW_MS / 1000 + 60,
            nanos: 1,
        }),
    }
}

fn branches() -> Vec<pb::BranchSpec> {
    let branch = |id: &str, target| pb::BranchSpec {
        branch_id: id.into(),
        payload: Some(payload()),
        try_timeout: Some(prost_types::Duration {
            seconds: 2,
            nanos: 0,
        }),
        target: Some(target),
    };
    let contract = pb::ContractTarget {
        participant: "inventory".into(),
        resource: "reserve".into(),
    };
    let methods = pb::MethodTarget {
        endpoint: "billing".into(),
        try_method: "/pay.v1.Pay/Hold".into(),
        confirm_method: "/pay.v1.Pay/Capture".into(),
        cancel_method: "/pay.v1.Pay/Release".into(),
        query_method: "/pay.v1.Pay/Look".into(),
        confirm_payload: Some(payload()),
        cancel_payload: Some(payload()),
    };
    vec![
        branch("b1", pb::branch_spec::Target::Contract(contract)),
        branch("b2", pb::branch_spec::Target::Methods(methods)),
    ]
}

fn payload() -> participant::Payload {
    participant::Payload {
        type_url: "json".into(),
        value: "{}".into(),
    }
}

/// Each number field of a request, at the ends of its bits.
#[test]
fn numbers_at_their_ends_are_taken_or_named() {
    for number in NUMBERS {
        let (seconds, nanos) = (number.cast_signed(), number as i32);
        let mut request = order();
        request.wait_timeout = Some(prost_types::Duration { seconds, nanos });
        request.submit_expire_time = Some(prost_types::Timestamp { seconds, nanos });
        let options = request.options.as_mut().expect("it has options");
        options.timeout = request.wait_timeout;
        options.reply_mode = nanos;
        let bytes = request.encode_to_vec();
        assert!(parse_all(&bytes).is_ok(), "{number}");
    }
}
