//! What is written is read back, and nothing else is.

use std::sync::Arc;

use proptest::{collection::vec, prelude::*};
use prost::{Message as _, bytes::Bytes};
use tercet_core::{
    ids::TransactionId,
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    payload::{Failure, Payload},
    transaction::{AttentionReason, BranchState, Next, State, Transaction},
};

use super::{DecodeError, FIELDS_MAX, decode, decode_head, encode, frame, numbers::Numbered, wire};
use crate::{
    arbitrary::records,
    mangle::{cases, mangled, manglings},
    store::Record,
};

proptest! {
    #![proptest_config(cases(128))]

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
    fn what_is_written_is_what_prost_writes(record in records()) {
        prop_assert_eq!(encode(&record), frame::seal(&as_read(&record)));
    }

    #[test]
    fn arbitrary_bytes_are_an_error_and_never_a_panic(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(bytes.into()).is_err());
    }

    #[test]
    fn an_arbitrary_body_under_a_good_checksum_is_an_error_or_a_record(
        body in vec(any::<u8>(), 0..400),
    ) {
        is_an_error_or_a_record(&body)?;
    }

    #[test]
    fn a_cut_record_is_an_error(record in records(), share in 0.0..1.0) {
        let bytes = encode(&record);
        let cut = (bytes.len() as f64 * share) as usize;
        prop_assert!(decode(bytes[..cut].to_vec().into()).is_err());
    }
}

proptest! {
    #![proptest_config(cases(512))]

    #[test]
    fn a_mangled_record_under_a_good_checksum_is_an_error_or_a_record(
        record in records(), manglings in manglings(),
    ) {
        let body = frame::open(encode(&record).into()).expect("it is whole");
        is_an_error_or_a_record(&mangled(&body, &manglings))?;
    }
}

proptest! {
    #![proptest_config(cases(8))]

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
        let mut wire = as_read(&smallest());
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

#[test]
fn a_number_that_nobody_can_have_counted_up_to_is_an_error() {
    let changes: [fn(&mut Record); 4] = [
        |it| it.revision = u64::MAX,
        |it| it.epoch = u64::MAX,
        |it| it.boot = 1 << 63,
        |it| it.history_dropped_revision = u64::MAX,
    ];
    for change in changes {
        let mut record = smallest();
        change(&mut record);
        let error = decode(encode(&record).into()).expect_err("it would overflow");
        assert!(matches!(error, DecodeError::Number { .. }), "{error}");
    }
}

#[test]
fn a_history_out_of_order_is_an_error() {
    for revisions in [&[2, 1][..], &[1, 9]] {
        let mut wire = as_read(&smallest());
        wire.revision = 3;
        wire.history = revisions.iter().map(|&revision| line(revision)).collect();
        let error = super::read::record(wire).expect_err("no page of it could be found again");
        assert!(matches!(error, DecodeError::History), "{error}");
    }
}

#[test]
fn a_body_of_more_fields_than_a_record_has_is_not_even_decoded() {
    let line = wire::HistoryEvent::default();
    let transaction = |branches| wire::Transaction {
        branches: vec![wire::Branch::default(); branches],
        ..wire::Transaction::default()
    };
    let long = wire::Record {
        history: vec![line; FIELDS_MAX],
        ..as_read(&smallest())
    };
    let wide = wire::Record {
        transaction: Some(transaction(FIELDS_MAX)),
        ..as_read(&smallest())
    };
    for wire in [long, wide] {
        let error = decode(frame::seal(&wire).into()).expect_err("two bytes each");
        assert!(matches!(error, DecodeError::TooManyFields(_)), "{error}");
    }
}

/// A record's body, before anything is made of it.
fn as_read(record: &Record) -> wire::Record {
    let body = frame::open(encode(record).into()).expect("it is whole");
    wire::Record::decode(body).expect("it is protobuf")
}

/// What decodes says the same of itself as its head, and is the same once it is written anew.
fn is_an_error_or_a_record(body: &[u8]) -> Result<(), TestCaseError> {
    let bytes = frame::seal_bytes(body);
    let head = decode_head(bytes.clone().into());
    let Ok(record) = decode(bytes.into()) else {
        return Ok(());
    };
    let again = encode(&record);
    let head_again = decode_head(again.clone().into()).expect("its head is read");
    prop_assert_eq!(head.expect("its head is read"), head_again);
    prop_assert_eq!(decode(again.into()).expect("it is read"), record);
    Ok(())
}

fn line(revision: u64) -> wire::HistoryEvent {
    wire::HistoryEvent {
        revision,
        state: 1,
        ..wire::HistoryEvent::default()
    }
}

pub(crate) fn smallest() -> Record {
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
