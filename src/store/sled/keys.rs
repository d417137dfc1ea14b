//! What stands where in the one tree. A batch is atomic within a tree only, so records and indexes
//! share it and are told apart by the first byte of the key.
//!
//! | key | value |
//! |---|---|
//! | `M` | [`Meta`](super::meta::Meta), rewritten with each batch |
//! | `I` id | [`Place`]; ids of the first [generation](super::ids) |
//! | `J` generation, id | the same; those of any other |
//! | `F` generation, number | a part of the [`Filter`](super::filter::Filter) of a generation |
//! | `R` cursor | the first [`CHUNK_BYTES`] of a record that stands by itself |
//! | `C` cursor, number | each further [`CHUNK_BYTES`] of it |
//! | `P` cursor of the first it ever had | a [`Pack`](super::pack::Pack) of finished records |
//! | `U` cursor | due time, id: unfinished transactions |
//! | `B` length, business key, cursor | the cursor of its pack, or nothing |
//! | `K` time, cursor | finished transactions by the time until which they are kept: id, or nothing for a pack by the earliest of its records |
//!
//! Numbers are big-endian, so that keys sort as the numbers do. A cursor is the sequence number a
//! record got when it arrived: records lie in the order in which they are written first, rewritten
//! and purged, and only ids are at random places within their generation, once in a transaction's life.

use std::ops::Range;

use sled::IVec;
use tercet_core::ids::TransactionId;

use crate::store::{Cursor, UnixMs};

/// The most bytes in one value. sled puts a page (up to 16 values and some more) that is larger than a
/// quarter of a segment into a file of its own, which it never syncs; with segments of 8 MiB and
/// values of this size a page stays below a third of that.
pub(super) const CHUNK_BYTES: usize = 32 * 1024;

pub(super) const META: &[u8] = b"M";

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) cursor: Cursor,
    /// The pack it is in, if it doesn't stand by itself.
    pub(super) pack: Option<Cursor>,
}

impl Place {
    /// Of a record that stands by itself.
    pub(super) fn alone(cursor: Cursor) -> Self {
        let pack = None;
        Self { cursor, pack }
    }

    /// As the value of `I`.
    pub(super) fn to_value(self) -> IVec {
        let pack = pack_value(self.pack);
        [&self.cursor.to_be_bytes(), &pack[..]].concat().into()
    }

    pub(super) fn of_value(value: &[u8]) -> Option<Self> {
        let (cursor, pack) = value.split_first_chunk()?;
        let cursor = Cursor::from_be_bytes(*cursor);
        let pack = read_pack_value(pack)?;
        Some(Self { cursor, pack })
    }
}

/// The id in this generation.
pub(super) fn id(generation: u32, id: &TransactionId) -> Vec<u8> {
    let mut key = ids_of(generation);
    key.extend_from_slice(id.as_str().as_bytes());
    key
}

/// What the keys of all ids of a generation begin with.
pub(super) fn ids_of(generation: u32) -> Vec<u8> {
    match generation {
        0 => b"I".to_vec(),
        _ => [&b"J"[..], &generation.to_be_bytes()].concat(),
    }
}

/// Whether this is the key of an id.
pub(super) fn is_id(key: &[u8]) -> bool {
    ids().contains(&key)
}

/// All ids.
pub(super) fn ids() -> Range<&'static [u8]> {
    b"I"..b"K"
}

/// What the keys of a generation's filter begin with.
pub(super) fn filter(generation: u32) -> Vec<u8> {
    [&b"F"[..], &generation.to_be_bytes()].concat()
}

pub(super) fn filter_part(generation: u32, number: usize) -> Vec<u8> {
    [&filter(generation)[..], &(number as u32).to_be_bytes()].concat()
}

pub(super) fn record(cursor: Cursor) -> Vec<u8> {
    numbered(b'R', cursor)
}

/// The record's bytes from `number` times [`CHUNK_BYTES`] on; number 0 is [`record`]'s own.
pub(super) fn chunk(cursor: Cursor, number: usize) -> Vec<u8> {
    match number {
        0 => record(cursor),
        _ => [
            &b"C"[..],
            &cursor.to_be_bytes(),
            &(number as u32).to_be_bytes(),
        ]
        .concat(),
    }
}

/// The pack whose first record had this cursor.
pub(super) fn pack(cursor: Cursor) -> Vec<u8> {
    numbered(b'P', cursor)
}

pub(super) fn unfinished(cursor: Cursor) -> Vec<u8> {
    numbered(b'U', cursor)
}

pub(super) fn unfinished_value(due_ms: UnixMs, id: &TransactionId) -> Vec<u8> {
    [&due_ms.to_be_bytes()[..], id.as_str().as_bytes()].concat()
}

/// The length before the key keeps one that is a prefix of another apart from it.
pub(super) fn business_key(key: &str, cursor: Cursor) -> Vec<u8> {
    let len = (key.len() as u64).to_be_bytes();
    [&b"B"[..], &len, key.as_bytes(), &cursor.to_be_bytes()].concat()
}

pub(super) fn keep_until(keep_until_ms: UnixMs, cursor: Cursor) -> Vec<u8> {
    let time = sortable(keep_until_ms).to_be_bytes();
    [&b"K"[..], &time, &cursor.to_be_bytes()].concat()
}

/// All records whose cursor is in this range.
pub(super) fn records(cursors: Range<Cursor>) -> Range<Vec<u8>> {
    record(cursors.start)..record(cursors.end)
}

/// All packs whose first record has had a cursor in this range.
pub(super) fn packs(cursors: Range<Cursor>) -> Range<Vec<u8>> {
    pack(cursors.start)..pack(cursors.end)
}

/// All unfinished ones whose cursor is in this range.
pub(super) fn unfinished_in(cursors: Range<Cursor>) -> Range<Vec<u8>> {
    unfinished(cursors.start)..unfinished(cursors.end)
}

/// All with this business key whose cursor is in this range.
pub(super) fn with_business_key(key: &str, cursors: Range<Cursor>) -> Range<Vec<u8>> {
    business_key(key, cursors.start)..business_key(key, cursors.end)
}

/// All finished ones kept until this time or a shorter one.
pub(super) fn kept_until(now_ms: UnixMs) -> Range<Vec<u8>> {
    keep_until(UnixMs::MIN, 0)..keep_until(now_ms, Cursor::MAX)
}

/// The cursor that this key ends with, if it is one of `R`, `P`, `U`, `B` or `K`.
pub(super) fn cursor(key: &[u8]) -> Option<Cursor> {
    let (rest, cursor) = key.split_last_chunk()?;
    let indexed = match (rest.split_first()?, rest.len()) {
        ((b'R' | b'P' | b'U', _), 1) | ((b'K', _), 9) => true,
        ((b'B', rest), _) => rest.len() >= 8,
        _ => false,
    };
    indexed.then(|| Cursor::from_be_bytes(*cursor))
}

/// The time in a key of `K`.
pub(super) fn read_keep_until(key: &[u8]) -> Option<UnixMs> {
    let time = key.get(1..)?.first_chunk()?;
    Some((u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed())
}

/// The value of `B`.
pub(super) fn pack_value(pack: Option<Cursor>) -> IVec {
    pack.map_or_else(IVec::default, |pack| IVec::from(&pack.to_be_bytes()))
}

/// The pack that a value of `B` names, if any; none at all when it is no such value.
pub(super) fn read_pack_value(value: &[u8]) -> Option<Option<Cursor>> {
    if value.is_empty() {
        return Some(None);
    }
    let pack = <[u8; 8]>::try_from(value).ok()?;
    Some(Some(Cursor::from_be_bytes(pack)))
}

/// Due time and id of an unfinished one.
pub(super) fn read_unfinished(value: &[u8]) -> Option<(UnixMs, TransactionId)> {
    let (due_ms, id) = value.split_first_chunk()?;
    Some((UnixMs::from_be_bytes(*due_ms), read_id(id)?))
}

/// Generation and id of an id's key.
pub(super) fn read_id_key(key: &[u8]) -> Option<(u32, TransactionId)> {
    let (generation, id) = match key.split_first()? {
        (b'I', id) => (0, id),
        (b'J', rest) => {
            let (generation, id) = rest.split_first_chunk()?;
            (u32::from_be_bytes(*generation), id)
        }
        _ => return None,
    };
    Some((generation, read_id(id)?))
}

/// An id as it stands in a key or a value.
pub(super) fn read_id(bytes: &[u8]) -> Option<TransactionId> {
    TransactionId::parse(std::str::from_utf8(bytes).ok()?).ok()
}

fn numbered(prefix: u8, cursor: Cursor) -> Vec<u8> {
    let mut key = Vec::with_capacity(9);
    key.push(prefix);
    key.extend_from_slice(&cursor.to_be_bytes());
    key
}

/// Negative times sort before positive ones.
fn sortable(time_ms: UnixMs) -> u64 {
    time_ms.cast_unsigned() ^ (1 << 63)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::arbitrary::any_time;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(due_ms in any_time(), text in "[A-Za-z0-9._:-]{1,128}", at in any::<Cursor>()) {
            let id = TransactionId::parse(&text).expect("a valid id");
            let value = unfinished_value(due_ms, &id);
            prop_assert_eq!(read_unfinished(&value), Some((due_ms, id.clone())));
            for generation in [0, 1, u32::MAX] {
                let key = super::id(generation, &id);
                prop_assert_eq!(read_id_key(&key), Some((generation, id.clone())));
                prop_assert!(ids().contains(&&key[..]) && key.starts_with(&ids_of(generation)));
            }
            for pack in [None, Some(due_ms.cast_unsigned())] {
                let place = Place { cursor: at, pack };
                prop_assert_eq!(Place::of_value(&place.to_value()), Some(place));
                prop_assert_eq!(read_pack_value(&pack_value(pack)), Some(pack));
            }
            let keys = [record(at), pack(at), unfinished(at), keep_until(due_ms, at), business_key(&text, at)];
            for key in keys {
                prop_assert_eq!(cursor(&key), Some(at));
            }
            prop_assert_eq!(read_keep_until(&keep_until(due_ms, at)), Some(due_ms));
        }

        #[test]
        fn any_bytes_are_something_or_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..150)) {
            if let Some((due_ms, id)) = read_unfinished(&bytes) {
                prop_assert_eq!(unfinished_value(due_ms, &id), &*bytes);
            }
            if let Some(id) = read_id(&bytes) {
                prop_assert_eq!(id.as_str().as_bytes(), &*bytes);
            }
            if let Some((generation, id)) = read_id_key(&bytes) && (generation > 0 || bytes[0] == b'I') {
                prop_assert_eq!(super::id(generation, &id), &*bytes);
            }
            prop_assert_eq!(Place::of_value(&bytes).is_some(), [8, 16].contains(&bytes.len()));
            prop_assert!(cursor(&bytes).is_none() || bytes.len() >= 9);
        }
    }

    #[test]
    fn times_sort_as_numbers_do() {
        let times = [UnixMs::MIN, -1, 0, 1, UnixMs::MAX];
        let keys: Vec<_> = times.iter().map(|it| keep_until(*it, 7)).collect();
        assert!(keys.is_sorted());
    }

    #[test]
    fn a_business_key_that_is_a_prefix_of_another_does_not_reach_into_it() {
        let range = with_business_key("order-1", 0..Cursor::MAX);
        assert!(range.contains(&business_key("order-1", 5)));
        assert!(!range.contains(&business_key("order-12", 5)));
        assert!(!range.contains(&business_key("order-", 5)));
    }
}
