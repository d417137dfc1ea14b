//! Says of most ids that they are certainly not among those that were put in, and never so of one that was:
//! a Bloom filter.
//!
//! It stands on the disk, so what it makes of an id never changes.

use prost::{DecodeError, Message, bytes::Bytes};
use sled::IVec;

use super::meta::fold;
use crate::store::codec::frame;

/// With these and [`PROBES`] about one in a thousand that are not there may be.
const BITS_PER_ID: usize = 16;
const PROBES: u64 = 6;
/// The most ids that one is made for: it has to fit one batch of the database.
pub(super) const FILTER_IDS_MAX: usize = 1024 * 1024 * 8 / BITS_PER_ID;
/// In one value, without what stands around it.
const PART_BYTES: usize = 16 * 1024;

/// Has some ids.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Filter {
    /// As many bits as a power of two.
    bits: Vec<u8>,
}

/// What stands for an id in every filter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Print(u64);

/// A filter in one value of several.
#[derive(Clone, PartialEq, Message)]
struct Part {
    /// How many there are.
    #[prost(uint32, tag = "1")]
    parts: u32,
    #[prost(bytes = "bytes", tag = "2")]
    bits: Bytes,
}

impl Filter {
    /// For so many ids, at most [`FILTER_IDS_MAX`]: of more it says too often that one may be among them.
    pub(super) fn for_ids(count: usize) -> Self {
        let bytes = (count * BITS_PER_ID / 8).next_power_of_two();
        let bits = vec![0; bytes];
        Self { bits }
    }

    /// One more.
    pub(super) fn add(&mut self, print: Print) {
        for (byte, bit) in print.probes(self.bits.len()) {
            self.bits[byte] |= bit;
        }
    }

    /// Whether this id may be among them.
    pub(super) fn may_have(&self, print: Print) -> bool {
        let mut probes = print.probes(self.bits.len());
        probes.all(|(byte, bit)| self.bits[byte] & bit != 0)
    }

    /// As values of the database, in order.
    pub(super) fn to_values(&self) -> Vec<IVec> {
        let parts = self.bits.chunks(PART_BYTES);
        let count = u32::try_from(parts.len()).unwrap_or(u32::MAX);
        let sealed = parts.map(|bits| {
            let bits = Bytes::copy_from_slice(bits);
            let parts = count;
            frame::seal(&Part { parts, bits }).into()
        });
        sealed.collect()
    }

    /// The filter that these values are; none when one is missing or damaged.
    pub(super) fn of_values(values: &[IVec]) -> Option<Self> {
        let parts = values.iter().map(|value| {
            let body = frame::open(Bytes::copy_from_slice(value)).ok()?;
            let part: Result<Part, DecodeError> = Part::decode(body);
            part.ok().filter(|it| it.parts as usize == values.len())
        });
        let parts = parts.collect::<Option<Vec<_>>>()?;
        let bits: Vec<u8> = parts.iter().flat_map(|it| &it.bits).copied().collect();
        bits.len().is_power_of_two().then_some(Self { bits })
    }
}

impl Print {
    pub(super) fn of(id: &str) -> Self {
        // SplitMix64's finish: what was folded differs in few places where ids do.
        let mut print = fold(id.bytes());
        print = (print ^ (print >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        print = (print ^ (print >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Self(print ^ (print >> 31))
    }

    /// The bits that stand for it among those of so many bytes, a power of two.
    fn probes(self, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
        let step = self.0.rotate_left(32) | 1;
        (0..PROBES).map(move |nth| {
            let probe = self.0.wrapping_add(nth.wrapping_mul(step));
            let byte = (probe >> 3) as usize & (bytes - 1);
            (byte, 1 << (probe & 7))
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mangle::{cases, mangled, manglings};

    fn filter_of(prints: &[Print]) -> Filter {
        let mut filter = Filter::for_ids(prints.len());
        prints.iter().for_each(|print| filter.add(*print));
        filter
    }

    fn prints(name: &str, count: u32) -> Vec<Print> {
        let ids = (0..count).map(|number| format!("{name}-{number}"));
        ids.map(|id| Print::of(&id)).collect()
    }

    #[test]
    fn every_id_may_be_there_that_is_and_hardly_any_other() {
        let there = prints("there", 50_000);
        let filter = filter_of(&there);
        assert!(there.iter().all(|print| filter.may_have(*print)));
        let absent = prints("absent", 50_000);
        let taken = absent.iter().filter(|print| filter.may_have(**print));
        let taken = taken.count();
        assert!(taken < 250, "{taken} of 50000 are taken for others");
    }

    #[test]
    fn it_is_read_as_it_was_written_and_not_without_a_part() {
        let filter = filter_of(&prints("t", 50_000));
        let values = filter.to_values();
        assert!(values.len() > 1);
        assert_eq!(Filter::of_values(&values), Some(filter));
        for left_out in 0..values.len() {
            let mut values = values.clone();
            values.remove(left_out);
            assert_eq!(Filter::of_values(&values), None);
        }
        assert_eq!(Filter::of_values(&[]), None);
    }

    #[test]
    fn what_stands_for_an_id_is_the_same_for_ever() {
        assert_eq!(Print::of("order-4711").0, 12_913_946_167_916_334_383);
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn a_mangled_part_is_none_or_can_be_asked(manglings in manglings(), id in "[a-z]{1,9}") {
            let bits = filter_of(&prints("t", 9)).bits.into();
            let part = Part { parts: 1, bits }.encode_to_vec();
            let sealed = frame::seal_bytes(&mangled(&part, &manglings));
            if let Some(read) = Filter::of_values(&[sealed.into()]) {
                read.may_have(Print::of(&id));
            }
        }
    }
}
