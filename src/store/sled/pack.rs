//! Finished records that share one value of the database.
//!
//! An entry costs sled much the same however small its value is, so several finished records stand in one.
//! What goes into a pack is finished and small, and arrived after everything that is or was in another: packs
//! never overlap and stand in the order of arrival. Who came late, or is too large, stands by itself. A
//! record stays in its pack until it is purged.

use prost::{DecodeError, Message, bytes::Bytes};
use sled::IVec;

use super::{entry::Entry, keys::CHUNK_BYTES};
use crate::store::{
    Cursor, UnixMs,
    codec::{self, Head},
};

/// Records in one value: enough that its own cost is little of each, few enough that one is read without
/// much of the others.
const MEMBERS_MAX: usize = 15;
/// A record with more bytes than this stands by itself.
const MEMBER_BYTES_MAX: usize = 2 * 1024;
/// Cursor, tags and lengths.
const MEMBER_OVERHEAD_BYTES: usize = 32;
// Whatever becomes of its members, a pack is no larger than any other value.
const _: () = assert!(MEMBERS_MAX * (MEMBER_BYTES_MAX + MEMBER_OVERHEAD_BYTES) <= CHUNK_BYTES);

/// Some records, in the order of their arrival.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Pack {
    #[prost(message, repeated, tag = "1")]
    members: Vec<Member>,
}

#[derive(Clone, PartialEq, Message)]
struct Member {
    #[prost(uint64, tag = "1")]
    cursor: Cursor,
    #[prost(bytes = "bytes", tag = "2")]
    record: Bytes,
}

impl Pack {
    /// Whether a record may stand in one at all.
    pub(super) fn takes(entry: &Entry) -> bool {
        entry.due_ms.is_none() && entry.bytes.len() <= MEMBER_BYTES_MAX
    }

    /// The pack that a value is. Each record has its own checksum, so that damage to one leaves the others.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn of_value(value: IVec) -> Result<Self, DecodeError> {
        Self::decode(Bytes::from_owner(value))
    }

    pub(super) fn to_value(&self) -> IVec {
        self.encode_to_vec().into()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.members.len() >= MEMBERS_MAX
    }

    /// Records with their places, in the order of arrival.
    pub(super) fn members(self) -> impl DoubleEndedIterator<Item = (Cursor, Bytes)> {
        let members = self.members.into_iter();
        members.map(|member| (member.cursor, member.record))
    }

    /// The record at this place.
    pub(super) fn find(&self, cursor: Cursor) -> Option<&Bytes> {
        let at = self.position(cursor).ok()?;
        Some(&self.members[at].record)
    }

    /// Puts a record at this place, whatever is there.
    pub(super) fn put(&mut self, cursor: Cursor, record: Bytes) {
        let member = Member { cursor, record };
        match self.position(cursor) {
            Ok(at) => self.members[at] = member,
            Err(at) => self.members.insert(at, member),
        }
    }

    /// Takes the record at this place out.
    pub(super) fn remove(&mut self, cursor: Cursor) {
        if let Ok(at) = self.position(cursor) {
            self.members.remove(at);
        }
    }

    /// What can be read of its records.
    pub(super) fn heads(&self) -> impl Iterator<Item = (Cursor, Head)> {
        self.members.iter().filter_map(|member| {
            let head = codec::decode_head(member.record.clone()).ok()?;
            Some((member.cursor, head))
        })
    }

    /// Until when the first of its records to go is kept.
    pub(super) fn earliest_ms(&self) -> Option<UnixMs> {
        self.heads()
            .filter_map(|(_, head)| head.keep_until_ms)
            .min()
    }

    fn position(&self, cursor: Cursor) -> Result<usize, usize> {
        self.members.binary_search_by_key(&cursor, |it| it.cursor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Record, codec::tests::smallest};

    fn record(keep_until_ms: Option<UnixMs>) -> Bytes {
        let record = Record {
            keep_until_ms,
            ..smallest()
        };
        codec::encode(&record).into()
    }

    #[test]
    fn a_pack_is_what_was_put_into_it_and_not_taken_out() {
        let mut pack = Pack::default();
        for (cursor, until_ms) in [(7, 30), (9, -5), (8, 20)] {
            pack.put(cursor, record(Some(until_ms)));
        }
        assert_eq!(pack.earliest_ms(), Some(-5));
        pack.put(8, record(None));
        pack.remove(9);
        pack.remove(1);
        let read = Pack::of_value(pack.to_value()).expect("it is one");
        assert_eq!(read, pack);
        assert_eq!(read.earliest_ms(), Some(30));
        let members: Vec<_> = read.members().collect();
        assert_eq!(members, [(7, record(Some(30))), (8, record(None))]);
    }

    #[test]
    fn no_changed_bit_makes_another_record() {
        let mut pack = Pack::default();
        pack.put(7, record(Some(30)));
        pack.put(8, record(Some(40)));
        let bytes = pack.to_value();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.to_vec();
            changed[bit / 8] ^= 1 << (bit % 8);
            let Ok(changed) = Pack::of_value(changed.into()) else {
                continue;
            };
            let found = changed.members();
            let read = found.filter(|(_, bytes)| codec::decode(bytes.clone()).is_ok());
            for (_, bytes) in read {
                assert!(
                    [record(Some(30)), record(Some(40))].contains(&bytes),
                    "bit {bit}"
                );
            }
        }
    }

    #[test]
    fn a_record_that_can_not_be_read_hides_no_other() {
        let mut pack = Pack::default();
        pack.put(7, Bytes::from_static(b"damaged before it came here"));
        pack.put(8, record(Some(30)));
        assert_eq!(pack.earliest_ms(), Some(30));
        assert_eq!(pack.heads().map(|(at, _)| at).collect::<Vec<_>>(), [8]);
        assert!(pack.find(7).is_some());
    }
}
