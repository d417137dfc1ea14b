//! Reads that show only what is durable.
//!
//! sled shows what was applied before it is synced. So before a batch is applied, the values it is
//! about to replace are laid over the tree, and readers see those until the sync is done. The overlay
//! is never larger than one batch.

use std::{collections::BTreeMap, ops::Range};

use parking_lot::{RwLock, RwLockReadGuard};
use prost::bytes::Bytes;
use sled::{Db, IVec};

use super::keys::{self, CHUNK_BYTES};
use crate::store::{Cursor, codec};

/// Values before the batch that is being synced; none: there was no such key.
type Before = BTreeMap<Vec<u8>, Option<IVec>>;

/// Which end of a range comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    Ascending,
    Descending,
}

/// The database, and what covers it.
#[derive(Debug)]
pub(super) struct View {
    db: Db,
    before: RwLock<Before>,
}

/// The durable state at one moment; no batch is applied while this lives, so it should not live long.
pub(super) struct Durable<'a> {
    db: &'a Db,
    before: RwLockReadGuard<'a, Before>,
}

impl View {
    pub(super) fn new(db: Db) -> Self {
        let before = RwLock::default();
        Self { db, before }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Waits for readers, and from then on hides what is applied.
    pub(super) fn cover(&self, before: Before) {
        *self.before.write() = before;
    }

    /// What is applied is durable: readers see it from now on.
    pub(super) fn uncover(&self) {
        self.before.write().clear();
    }

    pub(super) fn durable(&self) -> Durable<'_> {
        Durable {
            db: &self.db,
            before: self.before.read(),
        }
    }
}

impl Durable<'_> {
    pub(super) fn value(&self, key: &[u8]) -> sled::Result<Option<IVec>> {
        match self.before.get(key) {
            Some(before) => Ok(before.clone()),
            None => self.db.get(key),
        }
    }

    /// At most `limit` entries from one end of the range.
    pub(super) fn entries(
        &self,
        range: Range<Vec<u8>>,
        order: Order,
        limit: usize,
    ) -> sled::Result<Vec<(IVec, IVec)>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let stored = self.db.range(range.clone());
        let mut found = match order {
            Order::Ascending => self.uncovered(stored, limit),
            Order::Descending => self.uncovered(stored.rev(), limit),
        }?;
        let covered = self.before.range(range);
        let kept = covered.filter_map(|(key, value)| Some((IVec::from(&key[..]), value.clone()?)));
        found.extend(kept);
        found.sort_unstable_by(|(a, _), (b, _)| match order {
            Order::Ascending => a.cmp(b),
            Order::Descending => b.cmp(a),
        });
        found.truncate(limit);
        Ok(found)
    }

    /// A record's bytes. Missing parts show as a wrong length.
    pub(super) fn record(&self, cursor: Cursor) -> sled::Result<Option<Bytes>> {
        gather(cursor, |key| self.value(key))
    }

    fn uncovered(
        &self,
        entries: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
        limit: usize,
    ) -> sled::Result<Vec<(IVec, IVec)>> {
        let covered = |key: &IVec| self.before.contains_key(&key[..]);
        let uncovered = entries.filter(|it| !it.as_ref().is_ok_and(|(key, _)| covered(key)));
        uncovered.take(limit).collect()
    }
}

/// Puts a record together, from wherever its parts are read.
pub(super) fn gather(
    cursor: Cursor,
    mut value: impl FnMut(&[u8]) -> sled::Result<Option<IVec>>,
) -> sled::Result<Option<Bytes>> {
    let Some(first) = value(&keys::record(cursor))? else {
        return Ok(None);
    };
    let chunks = chunk_count(&first);
    if chunks == 1 {
        return Ok(Some(Bytes::from_owner(first)));
    }
    let mut bytes = first.to_vec();
    for number in 1..chunks {
        let Some(chunk) = value(&keys::chunk(cursor, number))? else {
            break;
        };
        bytes.extend_from_slice(&chunk);
    }
    Ok(Some(bytes.into()))
}

/// In how many parts a record is stored, by its first.
pub(super) fn chunk_count(first: &[u8]) -> usize {
    let len = codec::frame::framed_len(first).unwrap_or(first.len());
    len.div_ceil(CHUNK_BYTES).max(1)
}
