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

#[cfg(test)]
mod tests {
    use super::*;

    fn view() -> View {
        let config = sled::Config::new().temporary(true);
        View::new(config.open().expect("a temporary database is opened"))
    }

    fn entries(view: &View, order: Order, limit: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let range = b"a".to_vec()..b"z".to_vec();
        let found = view.durable().entries(range, order, limit);
        let found = found.expect("they are read").into_iter();
        found
            .map(|(key, value)| (key.to_vec(), value.to_vec()))
            .collect()
    }

    fn expected(text: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let pairs = text.split_whitespace().filter_map(|it| it.split_once('='));
        pairs
            .map(|(key, value)| (key.into(), value.into()))
            .collect()
    }

    #[test]
    fn between_a_write_and_its_sync_readers_see_what_was_before() {
        let view = view();
        for (key, value) in [("b", "1"), ("d", "1"), ("f", "1")] {
            view.db().insert(key, value).expect("it is written");
        }
        // A batch adds c, changes d, removes f.
        let before = [
            (b"c".to_vec(), None),
            (b"d".to_vec(), Some("1".into())),
            (b"f".to_vec(), Some("1".into())),
        ];
        view.cover(before.into());
        view.db().insert("c", "2").expect("it is written");
        view.db().insert("d", "2").expect("it is written");
        view.db().remove("f").expect("it is removed");

        let value = |key: &str| view.durable().value(key.as_bytes()).expect("it is read");
        assert_eq!(value("b"), Some("1".into()));
        assert_eq!(value("c"), None);
        assert_eq!(value("d"), Some("1".into()));
        assert_eq!(value("f"), Some("1".into()));
        assert_eq!(entries(&view, Order::Ascending, 9), expected("b=1 d=1 f=1"));
        assert_eq!(
            entries(&view, Order::Descending, 9),
            expected("f=1 d=1 b=1")
        );
        for (limit, ascending, descending) in [(1, "b=1", "f=1"), (2, "b=1 d=1", "f=1 d=1")] {
            assert_eq!(entries(&view, Order::Ascending, limit), expected(ascending));
            assert_eq!(
                entries(&view, Order::Descending, limit),
                expected(descending)
            );
        }

        view.uncover();
        assert_eq!(view.durable().value(b"f"), Ok(None));
        assert_eq!(entries(&view, Order::Ascending, 9), expected("b=1 c=2 d=2"));
        assert_eq!(entries(&view, Order::Descending, 2), expected("d=2 c=2"));
    }

    #[test]
    fn an_empty_range_has_no_entries() {
        let found = view()
            .durable()
            .entries(b"z".to_vec()..b"a".to_vec(), Order::Ascending, 9);
        assert_eq!(found, Ok(vec![]));
    }
}
