//! One batch in the making: what its writes see of each other, and what they change.

use std::{collections::BTreeMap, sync::Arc};

use prost::bytes::Bytes;
use sled::{Batch, Db, IVec};
use tercet_core::ids::TransactionId;

use super::{
    keys::{self, CHUNK_BYTES},
    meta::{Meta, entry_digest},
    view::{chunk_count, gather},
};
use crate::store::{
    Cursor, Record, StoreError, UnixMs,
    codec::{self, Head},
};

/// One record to be written, encoded where it came from, so that the writer's thread need not.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: TransactionId,
    pub(super) revision: u64,
    pub(super) epoch: u64,
    pub(super) due_ms: Option<UnixMs>,
    pub(super) keep_until_ms: Option<UnixMs>,
    pub(super) business_key: Arc<str>,
    pub(super) bytes: Vec<u8>,
}

impl Entry {
    /// What is to be written of a record.
    pub(super) fn of(record: &Record) -> Self {
        Self::with(record, codec::encode(record))
    }

    /// The same for a record that comes encoded.
    pub(super) fn with(record: &Record, bytes: Vec<u8>) -> Self {
        let finished = record.transaction.state.is_terminal();
        Self {
            id: record.id.clone(),
            revision: record.revision,
            epoch: record.epoch,
            due_ms: record.due_ms(),
            keep_until_ms: record.keep_until_ms.filter(|_| finished),
            business_key: record.origin.business_key.clone(),
            bytes,
        }
    }

    /// All that stands in the tree for it, once it has this place.
    pub(super) fn in_tree(&self, cursor: Cursor) -> impl Iterator<Item = (Vec<u8>, IVec)> {
        let id = (keys::id(&self.id), IVec::from(&cursor.to_be_bytes()));
        let chunks = self.bytes.chunks(CHUNK_BYTES).enumerate();
        let chunks = chunks.map(move |(number, it)| (keys::chunk(cursor, number), it.into()));
        let unfinished = self.due_ms.map(|due_ms| {
            let value = keys::unfinished_value(due_ms, &self.id);
            (keys::unfinished(cursor), value.into())
        });
        let kept = self.keep_until_ms.filter(|_| self.due_ms.is_none());
        let kept = kept.map(|keep_until_ms| {
            let key = keys::keep_until(keep_until_ms, cursor);
            (key, self.id.as_str().into())
        });
        let business_key = (!self.business_key.is_empty()).then(|| {
            (
                keys::business_key(&self.business_key, cursor),
                IVec::default(),
            )
        });
        let indexes = unfinished.into_iter().chain(kept).chain(business_key);
        [id].into_iter().chain(chunks).chain(indexes)
    }
}

/// Why one write was not staged.
pub(super) enum Refused {
    /// Only this one: it changes nothing, the others go on.
    Write(StoreError),
    /// The record stored there can't be read; this one, too, changes nothing.
    Corrupt(Cursor, StoreError),
    /// The database has failed.
    Medium(sled::Error),
}

impl From<sled::Error> for Refused {
    fn from(error: sled::Error) -> Self {
        Refused::Medium(error)
    }
}

/// A batch in the making.
pub(super) struct Stage<'a> {
    db: &'a Db,
    meta: Meta,
    changes: BTreeMap<Vec<u8>, Change>,
}

/// One key; what was only read has the same value twice.
struct Change {
    before: Option<IVec>,
    after: Option<IVec>,
}

impl<'a> Stage<'a> {
    /// On top of everything applied so far, of which `meta` is the account.
    pub(super) fn new(db: &'a Db, meta: Meta) -> Self {
        let changes = BTreeMap::new();
        Self { db, meta, changes }
    }

    /// Puts a record, if it follows the one stored or staged.
    pub(super) fn commit(&mut self, entry: Entry) -> Result<(), Refused> {
        let stored = self.stored(&entry.id)?;
        let found = stored.as_ref().map_or(0, |(_, head, _)| head.revision);
        let epoch = stored.as_ref().map_or(0, |(_, head, _)| head.epoch);
        if found.checked_add(1) != Some(entry.revision) || epoch > entry.epoch {
            return Err(conflict(&entry.id, found));
        }
        let cursor = match stored {
            Some((cursor, head, chunks)) => {
                self.unlink(cursor, &head, &entry)?;
                for number in entry.bytes.len().div_ceil(CHUNK_BYTES)..chunks {
                    self.put(keys::chunk(cursor, number), None)?;
                }
                cursor
            }
            None => self.arrive(),
        };
        self.put_all(cursor, &entry)?;
        Ok(())
    }

    /// Puts a record that another store has had, whatever its revision; says false if its id is
    /// taken.
    pub(super) fn adopt(&mut self, entry: &Entry) -> sled::Result<bool> {
        if self.value(&keys::id(&entry.id))?.is_some() {
            return Ok(false);
        }
        let cursor = self.arrive();
        self.put_all(cursor, entry)?;
        Ok(true)
    }

    /// Removes a finished record, if it has this revision.
    pub(super) fn purge(&mut self, id: &TransactionId, revision: u64) -> Result<(), Refused> {
        let Some((cursor, head, chunks)) = self.stored(id)? else {
            return Err(conflict(id, 0));
        };
        if head.revision != revision || !head.finished {
            return Err(conflict(id, head.revision));
        }
        self.put(keys::id(id), None)?;
        for number in 0..chunks {
            self.put(keys::chunk(cursor, number), None)?;
        }
        self.put(keys::unfinished(cursor), None)?;
        if let Some(key) = head.keep_until_key(cursor) {
            self.put(key, None)?;
        }
        if let Some(key) = head.business_key_key(cursor) {
            self.put(key, None)?;
        }
        // Were the account too low, `verify` would say so; nothing else rests on it.
        self.meta.records = self.meta.records.saturating_sub(1);
        Ok(())
    }

    /// The batch, what it replaces, and the account that stands in it; none when nothing changes.
    pub(super) fn finish(mut self) -> Option<Staged> {
        self.changes
            .retain(|_, change| change.before != change.after);
        if self.changes.is_empty() {
            return None;
        }
        let mut batch = Batch::default();
        let mut before = BTreeMap::new();
        self.meta.batch += 1;
        for (key, change) in self.changes {
            for value in [&change.before, &change.after].into_iter().flatten() {
                self.meta.digest ^= entry_digest(&key, value);
            }
            match change.after {
                Some(after) => batch.insert(&key[..], after),
                None => batch.remove(&key[..]),
            }
            before.insert(key, change.before);
        }
        batch.insert(keys::META, self.meta.to_bytes());
        let meta = self.meta;
        Some(Staged {
            batch,
            before,
            meta,
        })
    }

    /// Where a record is, its head, and in how many chunks it is.
    fn stored(&mut self, id: &TransactionId) -> Result<Option<(Cursor, Head, usize)>, Refused> {
        let Some(value) = self.value(&keys::id(id))? else {
            return Ok(None);
        };
        let cursor = keys::cursor_value(&value).unwrap_or_default();
        let corrupt = |reason: String| {
            let (id, reason) = (id.clone(), reason.into());
            Refused::Corrupt(cursor, StoreError::Corrupt { id, reason })
        };
        let Some(bytes) = self.record(cursor)? else {
            return Err(corrupt("it is missing, but its id is there".into()));
        };
        let chunks = chunk_count(&bytes);
        let head = codec::decode_head(bytes).map_err(|error| corrupt(error.to_string()))?;
        Ok(Some((cursor, head, chunks)))
    }

    fn record(&mut self, cursor: Cursor) -> sled::Result<Option<Bytes>> {
        gather(cursor, |key| self.value(key))
    }

    fn arrive(&mut self) -> Cursor {
        self.meta.arrived += 1;
        self.meta.records += 1;
        self.meta.arrived
    }

    /// Removes the index entries that the new record doesn't have.
    fn unlink(&mut self, cursor: Cursor, head: &Head, entry: &Entry) -> sled::Result<()> {
        if entry.due_ms.is_none() {
            self.put(keys::unfinished(cursor), None)?;
        }
        if let Some(key) = head.keep_until_key(cursor) {
            self.put(key, None)?;
        }
        if *entry.business_key != *head.business_key
            && let Some(key) = head.business_key_key(cursor)
        {
            self.put(key, None)?;
        }
        Ok(())
    }

    fn put_all(&mut self, cursor: Cursor, entry: &Entry) -> sled::Result<()> {
        for (key, value) in entry.in_tree(cursor) {
            self.put(key, Some(value))?;
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

    fn put(&mut self, key: Vec<u8>, after: Option<IVec>) -> sled::Result<()> {
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

/// A batch ready to be applied.
pub(super) struct Staged {
    pub(super) batch: Batch,
    pub(super) before: BTreeMap<Vec<u8>, Option<IVec>>,
    pub(super) meta: Meta,
}

impl Head {
    fn keep_until_key(&self, cursor: Cursor) -> Option<Vec<u8>> {
        let kept = self.keep_until_ms.filter(|_| self.finished);
        kept.map(|keep_until_ms| keys::keep_until(keep_until_ms, cursor))
    }

    fn business_key_key(&self, cursor: Cursor) -> Option<Vec<u8>> {
        let key = &self.business_key;
        (!key.is_empty()).then(|| keys::business_key(key, cursor))
    }
}

fn conflict(id: &TransactionId, found: u64) -> Refused {
    let id = id.clone();
    Refused::Write(StoreError::Conflict { id, found })
}
