//! Exports that somebody has changed, with every checksum made good again.

use proptest::{prelude::*, sample::Index};

use super::*;
use crate::{
    arbitrary::records,
    mangle::{cases, mangled, manglings},
};

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn an_export_is_read_as_it_was_written(records in proptest::collection::vec(records(), 0..4)) {
        let bodies: Vec<_> = records.iter().map(codec::encode).collect();
        let read = read(&export_of(&header(), &bodies)).expect("it is whole");
        prop_assert_eq!(read, bodies);
    }

    #[test]
    fn an_export_changed_anywhere_is_damaged(
        records in proptest::collection::vec(records(), 1..3), at in any::<Index>(), bit in 0..8_u32, cut in any::<bool>(),
    ) {
        let bodies: Vec<_> = records.iter().map(codec::encode).collect();
        let mut bytes = export_of(&header(), &bodies);
        let at = at.index(bytes.len());
        if cut {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1_u8 << bit;
        }
        prop_assert!(read(&bytes).is_err());
    }

    #[test]
    fn a_mangled_header_is_an_error_or_can_be_gone_on_from(manglings in manglings()) {
        let body = mangled(&header().encode_to_vec(), &manglings);
        let content = Content::Header(frame::seal_bytes(&body).into());
        let mut bytes = item(content);
        bytes.extend(item(Content::Footer(frame::seal(&Footer::default()).into())));
        let mut from = &bytes[..];
        if let Ok((header, _)) = Items::new(&mut from).header() {
            prop_assert!(codec::counted("epoch", header.epoch + 1).is_ok());
            prop_assert!(codec::counted("boot", header.boot + 1).is_ok());
        }
    }

    #[test]
    fn a_mangled_record_is_an_error_or_taken_as_it_is(record in records(), manglings in manglings()) {
        let body = frame::open(codec::encode(&record).into()).expect("it is whole");
        let bytes = frame::seal_bytes(&mangled(&body, &manglings));
        if let Ok(read) = read(&export_of(&header(), std::slice::from_ref(&bytes))) {
            prop_assert_eq!(read, vec![bytes]);
        }
    }

    #[test]
    fn mangled_items_are_an_error_or_records(record in records(), manglings in manglings()) {
        let content = Some(Content::Record(codec::encode(&record).into()));
        let body = mangled(&Item { content }.encode_to_vec(), &manglings);
        let mut bytes = item(Content::Header(frame::seal(&header()).into()));
        prost::encode_length_delimiter(body.len(), &mut bytes).expect("there is room");
        bytes.extend(body);
        let _ = read(&bytes);
    }

    #[test]
    fn any_bytes_are_damaged(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(read(&bytes).is_err());
    }
}

#[test]
fn numbers_that_a_store_could_not_go_on_from_are_damage() {
    for number in [u64::MAX, u64::MAX - 1, 1 << 63, i64::MAX.unsigned_abs()] {
        for header in [
            Header {
                epoch: number,
                ..header()
            },
            Header {
                boot: number,
                ..header()
            },
        ] {
            let error = read(&export_of(&header, &[])).expect_err("it would overflow");
            assert!(
                matches!(error, ImportError::Damaged { record: 0, .. }),
                "{error}"
            );
        }
    }
}

fn header() -> Header {
    Header {
        format: EXPORT_FORMAT,
        realm: "here".into(),
        epoch: 3,
        boot: 7,
    }
}

fn export_of(header: &Header, records: &[Vec<u8>]) -> Vec<u8> {
    let mut footer = Footer::default();
    let mut bytes = item(Content::Header(frame::seal(header).into()));
    for record in records {
        footer.count(record);
        bytes.extend(item(Content::Record(record.clone().into())));
    }
    bytes.extend(item(Content::Footer(frame::seal(&footer).into())));
    bytes
}

fn item(content: Content) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_item(&mut bytes, content).expect("there is room");
    bytes
}

/// Reads all of it, without a store to put it into.
fn read(mut bytes: &[u8]) -> Result<Vec<Vec<u8>>, ImportError> {
    let mut items = Items::new(&mut bytes);
    items.header()?;
    let mut records = Vec::new();
    while let Some(batch) = items.batch()? {
        records.extend(batch.into_iter().map(|it| Vec::from(it.bytes)));
    }
    Ok(records)
}
