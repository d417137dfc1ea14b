//! Records and their indexes in memory: what every store has to be indistinguishable from.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tercet_core::ids::TransactionId;

use super::{Cursor, Listing, Record, StoreError, Unfinished, UnixMs};

/// All records of one store, by the sequence in which they arrived.
#[derive(Debug, Default)]
pub(super) struct Table {
    arrived: Cursor,
    records: BTreeMap<Cursor, Slot>,
    by_id: HashMap<TransactionId, Cursor>,
    by_business_key: BTreeMap<Arc<str>, BTreeSet<Cursor>>,
    unfinished: BTreeMap<Cursor, UnixMs>,
    outlived: BTreeSet<(UnixMs, Cursor)>,
}

#[derive(Debug)]
struct Slot {
    record: Arc<Record>,
    /// Stands for a medium that gives back something else than was written.
    corrupt: bool,
}

impl Table {
    /// Puts a record, if it follows the stored one.
    pub(super) fn commit(&mut self, record: Arc<Record>) -> Result<(), StoreError> {
        let stored = self.slot(&record.id)?;
        let found = stored.map_or(0, |it| it.revision);
        let epoch = stored.map_or(0, |it| it.epoch);
        if found.checked_add(1) != Some(record.revision) || epoch > record.epoch {
            return Err(conflict(&record.id, found));
        }
        let cursor = match self.by_id.get(&record.id) {
            Some(&cursor) => {
                self.unlink(cursor);
                cursor
            }
            None => {
                self.arrived += 1;
                self.by_id.insert(record.id.clone(), self.arrived);
                self.arrived
            }
        };
        self.link(cursor, record);
        Ok(())
    }

    /// Removes a finished record, if it has this revision.
    pub(super) fn purge(&mut self, id: &TransactionId, revision: u64) -> Result<(), StoreError> {
        let stored = self.slot(id)?;
        let finished = stored.is_some_and(|it| it.transaction.state.is_terminal());
        let found = stored.map_or(0, |it| it.revision);
        if found != revision || !finished {
            return Err(conflict(id, found));
        }
        if let Some(cursor) = self.by_id.remove(id) {
            self.unlink(cursor);
        }
        Ok(())
    }

    /// One record.
    pub(super) fn read(&self, id: &TransactionId) -> Result<Option<Arc<Record>>, StoreError> {
        self.slot(id).map(Option::<&Arc<Record>>::cloned)
    }

    /// Unfinished ones, oldest first.
    pub(super) fn unfinished(&self, after: Option<Cursor>, limit: usize) -> Vec<Unfinished> {
        let from = after.map_or(0, |cursor| cursor.saturating_add(1));
        let entries = self.unfinished.range(from..);
        let readable = entries.filter_map(|(&cursor, &due_ms)| {
            let id = self.readable(cursor)?.id.clone();
            Some(Unfinished { cursor, id, due_ms })
        });
        readable.take(limit).collect()
    }

    /// Records, newest first.
    pub(super) fn list(
        &self,
        listing: &Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Vec<(Cursor, Arc<Record>)> {
        let to = before.unwrap_or(Cursor::MAX);
        let of_key;
        let cursors: Box<dyn Iterator<Item = Cursor>> = match listing {
            Listing::All => Box::new(self.records.range(..to).rev().map(|(&it, _)| it)),
            Listing::Unfinished => Box::new(self.unfinished.range(..to).rev().map(|(&it, _)| it)),
            Listing::BusinessKey(key) => {
                of_key = self.by_business_key.get(key);
                let cursors = of_key.into_iter().flat_map(|it| it.range(..to).rev());
                Box::new(cursors.copied())
            }
        };
        let readable = cursors.filter_map(|it| Some((it, self.readable(it)?.clone())));
        readable.take(limit).collect()
    }

    /// Finished ones whose time is over, earliest first.
    pub(super) fn outlived(&self, now_ms: UnixMs, limit: usize) -> Vec<TransactionId> {
        let over = self.outlived.range(..=(now_ms, Cursor::MAX));
        let readable = over.filter_map(|&(_, cursor)| Some(self.readable(cursor)?.id.clone()));
        readable.take(limit).collect()
    }

    /// Makes one record unreadable. Says whether there was one.
    pub(super) fn corrupt(&mut self, id: &TransactionId) -> bool {
        let slot = self.by_id.get(id).and_then(|it| self.records.get_mut(it));
        slot.map(|it| it.corrupt = true).is_some()
    }

    fn slot(&self, id: &TransactionId) -> Result<Option<&Arc<Record>>, StoreError> {
        let slot = self.by_id.get(id).and_then(|it| self.records.get(it));
        match slot {
            Some(slot) if slot.corrupt => Err(StoreError::Corrupt {
                id: id.clone(),
                reason: "it was made unreadable by a test".into(),
            }),
            Some(slot) => Ok(Some(&slot.record)),
            None => Ok(None),
        }
    }

    fn readable(&self, cursor: Cursor) -> Option<&Arc<Record>> {
        let slot = self.records.get(&cursor).filter(|it| !it.corrupt)?;
        Some(&slot.record)
    }

    fn link(&mut self, cursor: Cursor, record: Arc<Record>) {
        let key = &record.origin.business_key;
        if !key.is_empty() {
            let cursors = self.by_business_key.entry(key.clone()).or_default();
            cursors.insert(cursor);
        }
        if let Some(due_ms) = record.due_ms() {
            self.unfinished.insert(cursor, due_ms);
        } else if let Some(keep_until_ms) = record.keep_until_ms {
            self.outlived.insert((keep_until_ms, cursor));
        }
        let corrupt = false;
        self.records.insert(cursor, Slot { record, corrupt });
    }

    fn unlink(&mut self, cursor: Cursor) {
        let Some(Slot { record, .. }) = self.records.remove(&cursor) else {
            return;
        };
        let key = &record.origin.business_key;
        if let Some(cursors) = self.by_business_key.get_mut(key) {
            cursors.remove(&cursor);
            if cursors.is_empty() {
                self.by_business_key.remove(key);
            }
        }
        self.unfinished.remove(&cursor);
        if let Some(keep_until_ms) = record.keep_until_ms {
            self.outlived.remove(&(keep_until_ms, cursor));
        }
    }
}

fn conflict(id: &TransactionId, found: u64) -> StoreError {
    let id = id.clone();
    StoreError::Conflict { id, found }
}
