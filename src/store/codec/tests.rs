//! What is written is read back, and nothing else is.

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};
use prost::bytes::Bytes;
use tercet_core::{
    ids::{BranchId, ParticipantName, TransactionId},
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    payload::{Failure, Payload},
    retry::{Pace, RetryPolicy},
    step::{Call, Event},
    transaction::{
        Attempts, Attention, AttentionReason, Branch, BranchSpec, BranchState, Methods, Next,
        Resolution, State, Target, Transaction,
    },
};

use super::{DecodeError, decode, decode_head, encode, numbers::Numbered, wire};
use crate::store::{BranchTimes, HistoryEvent, Origin, Record};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_written_is_read_back(record in records()) {
        let bytes = Bytes::from(encode(&record));
        let head = decode_head(bytes.clone()).expect("its head is read");
        prop_assert_eq!(head.revision, record.revision);
        prop_assert_eq!(head.epoch, record.epoch);
        prop_assert_eq!(head.finished, record.transaction.state.is_terminal());
        prop_assert_eq!(head.keep_until_ms, record.keep_until_ms);
        prop_assert_eq!(&*head.business_key, &*record.origin.business_key);
        prop_assert_eq!(decode(bytes).expect("it is read"), record);
    }

    #[test]
    fn arbitrary_bytes_are_an_error_and_never_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(bytes.into()).is_err());
    }

    #[test]
    fn an_arbitrary_body_under_a_good_checksum_never_panics(body in vec(any::<u8>(), 0..400)) {
        if let Ok(wire) = <wire::Record as prost::Message>::decode(&body[..]) {
            let _ = super::read::record(wire);
        }
    }

    #[test]
    fn a_cut_record_is_an_error(record in records(), share in 0.0..1.0) {
        let bytes = encode(&record);
        let cut = (bytes.len() as f64 * share) as usize;
        prop_assert!(decode(bytes[..cut].to_vec().into()).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn every_flipped_bit_is_noticed(record in records()) {
        let mut bytes = encode(&record);
        // A long record is sampled, so that the test ends.
        let step = 1 + bytes.len() * 8 / 20_000;
        for bit in (0..bytes.len() * 8).step_by(step) {
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(decode(bytes.clone().into()).is_err(), "bit {}", bit);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn payloads_of_64_kib_pass(byte in any::<u8>(), record in records()) {
        let mut record = record;
        let payload = Payload { type_url: "".into(), value: vec![byte; 64 * 1024].into() };
        for branch in &mut record.transaction.branches {
            branch.try_result = Some(payload.clone());
            branch.confirm_result = Some(payload.clone());
        }
        prop_assert_eq!(decode(encode(&record).into()).expect("it is read"), record);
    }
}

#[test]
fn a_small_record_survives_no_flip_of_any_bit() {
    let mut bytes = encode(&smallest());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(bytes.clone().into()).is_err(), "bit {bit}");
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn a_version_of_the_future_is_named() {
    let mut bytes = encode(&smallest());
    bytes[0] = 9;
    let error = decode(bytes.into()).expect_err("it is unknown");
    assert_eq!(
        error.to_string(),
        "its version is 9; this program reads version 1"
    );
}

#[test]
fn a_number_without_a_meaning_is_an_error() {
    for number in [0, 8, u32::MAX] {
        let mut wire = super::write::record(&smallest());
        wire.transaction.as_mut().expect("it has one").state = number;
        let error = super::read::record(wire).expect_err("no such state");
        assert!(
            matches!(
                error,
                DecodeError::Number {
                    what: "transaction state",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[test]
fn a_record_that_can_not_be_is_refused() {
    let mut record = smallest();
    record.transaction.state = State::Confirming; // with nothing left to do
    let error = decode(encode(&record).into()).expect_err("L1 is broken");
    assert!(matches!(error, DecodeError::Impossible(_)), "{error}");
}

#[test]
fn numbers_are_unambiguous_and_never_zero() {
    fn holds<T: Numbered>() {
        let mut numbers: Vec<_> = T::ALL.iter().map(|it| it.number()).collect();
        numbers.sort_unstable();
        let expected: Vec<_> = (1..).take(T::ALL.len()).collect();
        assert_eq!(numbers, expected, "{}", T::WHAT);
    }
    holds::<State>();
    holds::<BranchState>();
    holds::<Next>();
    holds::<ReplyMode>();
    holds::<Operation>();
    holds::<Outcome>();
    holds::<AttentionReason>();
}

pub(in crate::store) fn smallest() -> Record {
    let failure = Failure::new("ROLLED_BACK", "before it came");
    Record {
        id: TransactionId::parse("a").expect("a valid id"),
        revision: 1,
        epoch: 1,
        boot: 1,
        origin: Arc::default(),
        transaction: Transaction::forbid(failure).next,
        update_ms: 0,
        decide_ms: None,
        finish_ms: None,
        keep_until_ms: None,
        cut_down: true,
        branch_times: vec![],
        attention_ms: vec![],
        history: vec![],
        history_dropped_revision: 0,
    }
}

fn records() -> impl Strategy<Value = Record> {
    let numbers = (
        1..u64::MAX,
        any::<u64>(),
        any::<u64>(),
        any::<u64>(),
        any::<bool>(),
    );
    let times = (
        any::<i64>(),
        option::of(any::<i64>()),
        option::of(any::<i64>()),
        option::of(any::<i64>()),
    );
    let id = "[A-Za-z0-9._:-]{1,128}";
    let history = vec(history_events(), 0..6);
    let parts = (id, numbers, times, origins(), transactions(), history);
    parts.prop_flat_map(|(id, numbers, times, origin, transaction, history)| {
        let branch_times = vec(branch_times(), transaction.branches.len());
        let attention_ms = vec(any::<i64>(), transaction.attentions.len());
        (branch_times, attention_ms).prop_map(move |(branch_times, attention_ms)| {
            let (revision, epoch, boot, history_dropped_revision, cut_down) = numbers;
            let (update_ms, decide_ms, finish_ms, keep_until_ms) = times;
            Record {
                id: TransactionId::parse(&id).expect("a valid id"),
                revision,
                epoch,
                boot,
                origin: Arc::new(origin.clone()),
                transaction: transaction.clone(),
                update_ms,
                decide_ms,
                finish_ms,
                keep_until_ms,
                cut_down,
                branch_times,
                attention_ms,
                history: history.clone(),
                history_dropped_revision,
            }
        })
    })
}

fn origins() -> impl Strategy<Value = Origin> {
    let words = (text(), text(), text());
    let numbers = (any::<i64>(), any::<i64>(), any::<u64>(), any::<u128>());
    let parts = (
        option::of(any::<[u8; 32]>()),
        words,
        texts(),
        texts(),
        numbers,
    );
    parts.prop_map(|(digest, words, labels, switches, numbers)| {
        let (transaction_type, business_key, traceparent) = words;
        let (create_ms, expire_ms, try_timeout_ms, report_token) = numbers;
        Origin {
            digest,
            transaction_type,
            business_key,
            labels,
            switches,
            create_ms,
            expire_ms,
            try_timeout_ms,
            report_token,
            traceparent,
        }
    })
}

/// A state, and the branch states that can stand beside it.
fn states() -> impl Strategy<Value = (State, Vec<BranchState>)> {
    let done = BranchState::Resolved(Resolution::Done);
    let abandoned = BranchState::Resolved(Resolution::Abandoned);
    let ended = |state, branch| (state, vec![branch, done], None);
    let mixed = |decision, branch| (State::Mixed(decision), vec![branch, done], Some(abandoned));
    let open = |state, owing, ended| (state, vec![owing, ended, done, abandoned], Some(owing));
    let shapes = vec![
        (
            State::Trying,
            vec![BranchState::Trying, BranchState::Tried],
            Some(BranchState::Trying),
        ),
        open(
            State::Confirming,
            BranchState::Confirming,
            BranchState::Confirmed,
        ),
        open(
            State::Canceling,
            BranchState::Canceling,
            BranchState::Canceled,
        ),
        ended(State::Confirmed, BranchState::Confirmed),
        ended(State::Canceled, BranchState::Canceled),
        mixed(Decision::Commit, BranchState::Confirmed),
        mixed(Decision::Cancel, BranchState::Canceled),
    ];
    select(shapes).prop_flat_map(|(state, possible, needed)| {
        let branches = vec(select(possible), 0..5);
        branches.prop_map(move |mut branches| {
            branches.extend(needed);
            (state, branches)
        })
    })
}

fn transactions() -> impl Strategy<Value = Transaction> {
    let flags = any::<[bool; 3]>();
    let parts = (
        states(),
        select(ReplyMode::ALL),
        flags,
        policies(),
        option::of(failures()),
    );
    let attentions = vec(attentions(), 0..4);
    (parts, attentions).prop_flat_map(|(parts, attentions)| {
        let ((state, states), mode, [interactive, commit_requested, paused], policy, failure) =
            parts;
        let branches: Vec<_> = states.into_iter().map(branches).collect();
        branches.prop_map(move |branches| Transaction {
            mode,
            interactive,
            policy: Arc::new(policy.clone()),
            state,
            commit_requested,
            paused: paused && !state.is_terminal(),
            failure: failure.clone(),
            branches,
            attentions: attentions.clone(),
        })
    })
}

fn policies() -> impl Strategy<Value = RetryPolicy> {
    let parts = (vec(1..u64::MAX, 1..9), 0..=500_u16, 1..u32::MAX);
    parts.prop_map(
        |(intervals_ms, jitter_permille, attention_after_attempts)| RetryPolicy {
            intervals_ms: intervals_ms.into(),
            jitter_permille,
            attention_after_attempts,
        },
    )
}

fn branches(state: BranchState) -> impl Strategy<Value = Branch> {
    let pace = (any::<u8>(), any::<u32>()).prop_map(|(early, ladder)| Pace { early, ladder });
    let results = (
        option::of(payloads()),
        option::of(payloads()),
        option::of(failures()),
    );
    let parts = (
        specs(),
        select(Next::ALL),
        pace,
        any::<u32>(),
        any::<[u32; 4]>(),
        results,
    );
    parts.prop_map(
        move |(spec, next, pace, failed_attempts, attempts, results)| {
            let [tries, confirms, cancels, queries] = attempts;
            let (try_result, confirm_result, last_failure) = results;
            Branch {
                spec: Arc::new(spec),
                state,
                next,
                pace,
                failed_attempts,
                attempts: Attempts {
                    tries,
                    confirms,
                    cancels,
                    queries,
                },
                try_result,
                confirm_result,
                last_failure,
            }
        },
    )
}

fn specs() -> impl Strategy<Value = BranchSpec> {
    let parts = (
        "[A-Za-z0-9._:-]{1,128}",
        targets(),
        payloads(),
        any::<u64>(),
    );
    parts.prop_map(|(id, target, payload, try_timeout_ms)| BranchSpec {
        id: BranchId::parse(&id).expect("a valid id"),
        target,
        payload,
        try_timeout_ms,
    })
}

fn targets() -> impl Strategy<Value = Target> {
    let contract = ("[a-z][a-z0-9-]{0,62}", text()).prop_map(|(name, resource)| Target::Contract {
        participant: ParticipantName::parse(&name).expect("a valid name"),
        resource,
    });
    let paths = [text(), text(), text(), text()];
    let optional = (
        option::of(text()),
        option::of(payloads()),
        option::of(payloads()),
    );
    let methods = (paths, optional).prop_map(|(paths, optional)| {
        let [endpoint, try_method, confirm_method, cancel_method] = paths;
        let (query_method, confirm_payload, cancel_payload) = optional;
        Target::Methods(Methods {
            endpoint,
            try_method,
            confirm_method,
            cancel_method,
            query_method,
            confirm_payload,
            cancel_payload,
        })
    });
    prop_oneof![contract, methods]
}

fn payloads() -> impl Strategy<Value = Payload> {
    let value = vec(any::<u8>(), 0..64);
    (text(), value).prop_map(|(type_url, value)| Payload {
        type_url,
        value: value.into(),
    })
}

fn failures() -> impl Strategy<Value = Failure> {
    let parts = (text(), text(), texts(), any::<i32>());
    parts.prop_map(|(reason, message, metadata, code)| Failure {
        reason,
        message,
        metadata,
        code,
    })
}

fn attentions() -> impl Strategy<Value = Attention> {
    let parts = (select(AttentionReason::ALL), 0..64_usize, text());
    parts.prop_map(|(reason, branch, detail)| Attention {
        reason,
        branch,
        detail,
    })
}

fn branch_times() -> impl Strategy<Value = BranchTimes> {
    let parts = (
        option::of(any::<i64>()),
        option::of(any::<i64>()),
        option::of(any::<u64>()),
    );
    parts.prop_map(
        |(last_attempt_ms, next_attempt_ms, interval_ms)| BranchTimes {
            last_attempt_ms,
            next_attempt_ms,
            interval_ms,
        },
    )
}

fn history_events() -> impl Strategy<Value = HistoryEvent> {
    let envelope = (any::<u64>(), any::<i64>(), option::of(any::<u64>()), text());
    (envelope, events()).prop_map(
        |((revision, event_ms, latency_ms, actor), event)| HistoryEvent {
            revision,
            event_ms,
            event,
            latency_ms,
            actor,
        },
    )
}

fn events() -> impl Strategy<Value = Event> {
    let states = (select(State::ALL), option::of(select(BranchState::ALL)));
    let outcome = option::of(select(Outcome::ALL));
    let parts = (
        option::of(0..64_usize),
        option::of(calls()),
        outcome,
        states,
        option::of(failures()),
    );
    parts.prop_map(
        |(branch, call, outcome, (state, branch_state), failure)| Event {
            branch,
            call,
            outcome,
            state,
            branch_state,
            failure,
        },
    )
}

fn calls() -> impl Strategy<Value = Call> {
    let parts = (
        0..64_usize,
        select(Operation::ALL),
        any::<bool>(),
        any::<u32>(),
    );
    parts.prop_map(|(branch, operation, query, attempt)| Call {
        branch,
        operation,
        query,
        attempt,
    })
}

/// Any text, unicode and control characters included.
fn text() -> impl Strategy<Value = Arc<str>> {
    "\\PC{0,12}|[\\x00-\\x1f]{0,3}".prop_map(Into::into)
}

fn texts() -> impl Strategy<Value = BTreeMap<Arc<str>, Arc<str>>> {
    proptest::collection::btree_map(text(), text(), 0..4)
}
