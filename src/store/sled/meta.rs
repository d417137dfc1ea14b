//! What the database knows of itself: rewritten whenever the database is, and so exactly as new.

use prost::{Message, bytes::Bytes};

use crate::store::codec::{DecodeError, counted, frame};

/// The value at [`META`](super::keys::META).
#[derive(Clone, PartialEq, Message)]
pub(super) struct Meta {
    /// The store this database is part of; the sidecar names it too.
    #[prost(string, tag = "1")]
    pub(super) store: String,
    /// How often it has been opened.
    #[prost(uint64, tag = "2")]
    pub(super) boot: u64,
    /// The last batch of the journal of which the database has everything.
    #[prost(uint64, tag = "3")]
    pub(super) settled: u64,
    /// The last cursor that was given to a record that is or was in the database.
    #[prost(uint64, tag = "4")]
    pub(super) arrived: u64,
    /// Records there are.
    #[prost(uint64, tag = "5")]
    pub(super) records: u64,
    /// All entries but this one, folded: see [`entry_digest`].
    #[prost(fixed64, tag = "6")]
    pub(super) digest: u64,
    /// The last cursor that is or was in a pack.
    #[prost(uint64, tag = "7")]
    pub(super) packed: u64,
    /// Of the ids, the youngest last; empty while there is only the first, which is 0.
    #[prost(uint32, repeated, tag = "8")]
    pub(super) generations: Vec<u32>,
    /// Ids put since the youngest of them began.
    #[prost(uint64, tag = "9")]
    pub(super) young: u64,
}

impl Meta {
    /// Of the ids, the youngest last.
    pub(super) fn generations(&self) -> Vec<u32> {
        if self.generations.is_empty() {
            vec![0]
        } else {
            self.generations.clone()
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        frame::seal(self)
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let body = frame::open(Bytes::copy_from_slice(bytes))?;
        let meta = <Self as Message>::decode(body)?;
        counted("count of starts", meta.boot)?;
        counted("count of batches", meta.settled)?;
        counted("count of arrivals", meta.arrived)?;
        counted("count of ids", meta.young)?;
        for number in &meta.generations {
            counted("generation of ids", u64::from(*number) << 32)?;
        }
        Ok(meta)
    }
}

/// Stands for one entry in the digest of all of them, which is the exclusive or of these: an entry is
/// taken out as it was put in, in any order, so that the digest can follow every change, and a page that
/// sled has lost without noticing shows in `tercet store verify`. It finds accidents, not forgers.
pub(super) fn entry_digest(key: &[u8], value: &[u8]) -> u64 {
    let checksum = crc32c::crc32c(value).to_le_bytes();
    fold(key.iter().chain(&checksum).copied())
}

/// FNV-1a.
pub(super) fn fold(bytes: impl Iterator<Item = u8>) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    bytes.fold(BASIS, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(PRIME)
    })
}
