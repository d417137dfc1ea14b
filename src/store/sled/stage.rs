//! What the database gets in one go: the last word on some records, and the account that goes with it.

use std::collections::BTreeMap;

use sled::{Batch, Db, IVec};
use tercet_core::ids::TransactionId;

use super::{
    entry::Entry,
    keys,
    meta::{Meta, entry_digest},
    view::{chunk_count, gather},
};
use crate::store::{
    Cursor,
    codec::{self, Head},
};

/// A batch of the database in the making.
pub(super) struct Stage<'a> {
    db: &'a Db,
    meta: Meta,
    changes: BTreeMap<Vec<u8>, Change>,
    bytes: usize,
}

/// One key; what was only read has the same value twice.
struct Change {
    before: Option<IVec>,
    after: Option<IVec>,
}

impl<'a> Stage<'a> {
    /// On top of everything applied so far, of which `meta` is the account.
    pub(super) fn new(db: &'a Db, meta: Meta) -> Self {
        Self {
            db,
            meta,
            changes: BTreeMap::new(),
            bytes: 0,
        }
    }

    /// How much was put into it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a record in its place, whatever is there.
    pub(super) fn put(&mut self, cursor: Cursor, entry: &Entry) -> sled::Result<()> {
        self.clear(cursor)?;
        for (key, value) in entry.in_tree(cursor) {
            self.set(key, Some(value))?;
        }
        self.arrived(cursor, entry);
        Ok(())
    }

    /// The same where there is certainly nothing: spares looking.
    pub(super) fn put_first(&mut self, cursor: Cursor, entry: &Entry) {
        for (key, value) in entry.in_tree(cursor) {
            let change = self.changes.entry(key);
            let empty = Change {
                before: None,
                after: None,
            };
            change.or_insert(empty).after = Some(value);
        }
        self.arrived(cursor, entry);
    }

    /// Puts a record that another store has had into the next place; says false if its id is taken.
    pub(super) fn adopt(&mut self, entry: &Entry) -> sled::Result<bool> {
        if self.value(&keys::id(&entry.id))?.is_some() {
            return Ok(false);
        }
        self.put_first(self.meta.arrived + 1, entry);
        Ok(true)
    }

    /// Takes away the record at this place, if there is one.
    pub(super) fn remove(&mut self, cursor: Cursor, id: &TransactionId) -> sled::Result<()> {
        self.clear(cursor)?;
        let key = keys::id(id);
        // The id may have come again since.
        let here = cursor.to_be_bytes();
        if self.value(&key)?.is_some_and(|value| value == here) {
            self.set(key, None)?;
        }
        self.meta.arrived = self.meta.arrived.max(cursor);
        Ok(())
    }

    /// The batch, and the account that stands in it, which says that all up to the journal's batch
    /// `settled` is in the database.
    pub(super) fn finish(mut self, settled: u64) -> (Batch, Meta) {
        let mut batch = Batch::default();
        self.meta.settled = settled;
        for (key, Change { before, after }) in self.changes {
            if before == after {
                continue;
            }
            for value in [&before, &after].into_iter().flatten() {
                self.meta.digest ^= entry_digest(&key, value);
            }
            if key.starts_with(b"I") {
                // Were the account too low, `verify` would say so; nothing else rests on it.
                let less = self.meta.records - u64::from(before.is_some()).min(self.meta.records);
                self.meta.records = less + u64::from(after.is_some());
            }
            match after {
                Some(after) => batch.insert(&key[..], after),
                None => batch.remove(&key[..]),
            }
        }
        batch.insert(keys::META, self.meta.to_bytes());
        (batch, self.meta)
    }

    fn arrived(&mut self, cursor: Cursor, entry: &Entry) {
        self.meta.arrived = self.meta.arrived.max(cursor);
        self.bytes += entry.bytes.len();
    }

    /// Takes away all that stands there because of the record at this place, but its id's entry. One that
    /// can't be read keeps its indexes: `verify` names them.
    fn clear(&mut self, cursor: Cursor) -> sled::Result<()> {
        let Some(bytes) = gather(cursor, |key| self.value(key))? else {
            return Ok(());
        };
        for number in 0..chunk_count(&bytes) {
            self.set(keys::chunk(cursor, number), None)?;
        }
        self.set(keys::unfinished(cursor), None)?;
        if let Ok(head) = codec::decode_head(bytes) {
            for key in head.index_keys(cursor) {
                self.set(key, None)?;
            }
        }
        Ok(())
    }

    fn value(&mut self, key: &[u8]) -> sled::Result<Option<IVec>> {
        if let Some(change) = self.changes.get(key) {
            return Ok(change.after.clone());
        }
        let before = self.db.get(key)?;
        let after = before.clone();
        let value = before.clone();
        self.changes.insert(key.to_vec(), Change { before, after });
        Ok(value)
    }

    fn set(&mut self, key: Vec<u8>, after: Option<IVec>) -> sled::Result<()> {
        match self.changes.get_mut(&key) {
            Some(change) => change.after = after,
            None => {
                let before = self.db.get(&key)?;
                self.changes.insert(key, Change { before, after });
            }
        }
        Ok(())
    }
}

impl Head {
    fn index_keys(&self, cursor: Cursor) -> impl Iterator<Item = Vec<u8>> {
        let kept = self.keep_until_ms.filter(|_| self.finished);
        let kept = kept.map(|keep_until_ms| keys::keep_until(keep_until_ms, cursor));
        let named = !self.business_key.is_empty();
        let named = named.then(|| keys::business_key(&self.business_key, cursor));
        kept.into_iter().chain(named)
    }
}
