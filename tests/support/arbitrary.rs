//! Any record there can be, its numbers often at the ends of what they can be.
#![allow(
    dead_code,
    reason = "each test file that includes this uses its own part of it"
)]

use std::{collections::BTreeMap, sync::Arc};

use proptest::{collection::vec, option, prelude::*, sample::select};
use tercet::store::{BranchTimes, HistoryEvent, Origin, Record, UnixMs};
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

/// What revisions, epochs and boots can be.
const COUNTED_MAX: u64 = i64::MAX.unsigned_abs();

const MODES: [ReplyMode; 3] = [
    ReplyMode::TwoState,
    ReplyMode::ThreeState,
    ReplyMode::Accepted,
];
const NEXT: [Next; 3] = [Next::Send, Next::Query, Next::Stopped];
const OPERATIONS: [Operation; 3] = [Operation::Try, Operation::Confirm, Operation::Cancel];
const OUTCOMES: [Outcome; 3] = [Outcome::Success, Outcome::Failed, Outcome::Processing];
const REASONS: [AttentionReason; 4] = [
    AttentionReason::RetriesExceeded,
    AttentionReason::Refused,
    AttentionReason::StateMismatch,
    AttentionReason::ReplyTooLarge,
];
const STATES: [State; 7] = [
    State::Trying,
    State::Confirming,
    State::Confirmed,
    State::Canceling,
    State::Canceled,
    State::Mixed(Decision::Commit),
    State::Mixed(Decision::Cancel),
];
const BRANCH_STATES: [BranchState; 8] = [
    BranchState::Trying,
    BranchState::Tried,
    BranchState::Confirming,
    BranchState::Confirmed,
    BranchState::Canceling,
    BranchState::Canceled,
    BranchState::Resolved(Resolution::Done),
    BranchState::Resolved(Resolution::Abandoned),
];

pub(crate) fn records() -> impl Strategy<Value = Record> {
    let numbers = (
        1..=COUNTED_MAX,
        0..=COUNTED_MAX,
        0..=COUNTED_MAX,
        0..=COUNTED_MAX,
        any::<bool>(),
    );
    let times = (
        any_time(),
        option::of(any_time()),
        option::of(any_time()),
        option::of(any_time()),
    );
    let id = "[A-Za-z0-9._:-]{1,128}";
    let history = vec(history_events(), 0..6);
    let parts = (id, numbers, times, origins(), transactions(), history);
    parts.prop_flat_map(|(id, numbers, times, origin, transaction, history)| {
        let branch_times = vec(branch_times(), transaction.branches.len());
        let attention_ms = vec(any_time(), transaction.attentions.len());
        (branch_times, attention_ms).prop_map(move |(branch_times, attention_ms)| {
            let (revision, epoch, boot, history_dropped_revision, cut_down) = numbers;
            let (update_ms, decide_ms, finish_ms, keep_until_ms) = times;
            let mut history = history.clone();
            for line in &mut history {
                line.revision %= revision + 1;
            }
            history.sort_by_key(|line| line.revision);
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
                history,
                history_dropped_revision,
            }
        })
    })
}

fn origins() -> impl Strategy<Value = Origin> {
    let words = (text(), text(), text());
    let numbers = (any_time(), any_time(), any_number(), any::<u128>());
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
        select(&MODES[..]),
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
    let parts = (vec(any_number(), 1..9), any::<u16>(), any::<u32>());
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
        select(&NEXT[..]),
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
        any_number(),
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
    let parts = (select(&REASONS[..]), 0..64_usize, text());
    parts.prop_map(|(reason, branch, detail)| Attention {
        reason,
        branch,
        detail,
    })
}

fn branch_times() -> impl Strategy<Value = BranchTimes> {
    let parts = (
        option::of(any_time()),
        option::of(any_time()),
        option::of(any_number()),
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
    let envelope = (any_number(), any_time(), option::of(any_number()), text());
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
    let states = (select(&STATES[..]), option::of(select(&BRANCH_STATES[..])));
    let outcome = option::of(select(&OUTCOMES[..]));
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
        select(&OPERATIONS[..]),
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

/// Any time, and often one at an end of its 64 bits.
pub(crate) fn any_time() -> impl Strategy<Value = UnixMs> {
    const ENDS: [UnixMs; 6] = [
        UnixMs::MIN,
        UnixMs::MIN + 1,
        -1,
        0,
        UnixMs::MAX - 1,
        UnixMs::MAX,
    ];
    prop_oneof![select(&ENDS[..]), any::<UnixMs>()]
}

/// Any number, and often one at an end of its 64 bits.
pub(crate) fn any_number() -> impl Strategy<Value = u64> {
    const ENDS: [u64; 4] = [0, 1, u64::MAX - 1, u64::MAX];
    prop_oneof![select(&ENDS[..]), any::<u64>()]
}
