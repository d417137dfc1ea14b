//! Reads that show only what is durable: what is [`Recent`], over what the database has.
//!
//! A batch becomes recent when it is durable in the journal. The database is changed only at places that
//! are covered by something recent, and these are uncovered only when it is durable there.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use prost::bytes::Bytes;
use sled::{Db, IVec};
use tercet_core::ids::TransactionId;

use super::{
    entry::Entry,
    keys::{self, CHUNK_BYTES},
    recent::Recent,
};
use crate::store::{Cursor, Listing, Unfinished, UnixMs, codec};

/// The database, and what covers it.
#[derive(Debug)]
pub(super) struct View {
    db: Db,
    recent: RwLock<Recent>,
}

/// The durable state at one moment; nothing new becomes visible while this lives, so it should not live
/// long.
pub(super) struct Durable<'a> {
    db: &'a Db,
    recent: RwLockReadGuard<'a, Recent>,
}

/// Where a transaction's record is.
pub(super) enum Found {
    Nothing,
    Recent(Cursor, Arc<Entry>),
    /// In the database, or its bytes ought to be. Missing parts show as a wrong length.
    InTree(Cursor, Option<Bytes>),
}

/// What is wrong with a record without bytes.
pub(super) const MISSING: &str = "it is missing, but its id is there";

impl View {
    pub(super) fn new(db: Db) -> Self {
        let recent = RwLock::default();
        Self { db, recent }
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    pub(super) fn recent(&self) -> RwLockReadGuard<'_, Recent> {
        self.recent.read()
    }

    /// Waits for readers.
    pub(super) fn recent_mut(&self) -> RwLockWriteGuard<'_, Recent> {
        self.recent.write()
    }

    pub(super) fn durable(&self) -> Durable<'_> {
        Durable {
            db: &self.db,
            recent: self.recent.read(),
        }
    }
}

impl Durable<'_> {
    /// The last word on a transaction.
    pub(super) fn find(&self, id: &TransactionId) -> sled::Result<Found> {
        if let Some((cursor, item)) = self.recent.find(id) {
            let entry = item.entry.clone();
            return Ok(entry.map_or(Found::Nothing, |entry| Found::Recent(cursor, entry)));
        }
        let Some(value) = self.db.get(keys::id(id))? else {
            return Ok(Found::Nothing);
        };
        let cursor = keys::cursor_value(&value).unwrap_or_default();
        Ok(Found::InTree(cursor, self.record(cursor)?))
    }

    /// At most `limit` records of a listing below a place, newest first.
    pub(super) fn records(
        &self,
        listing: &Listing,
        before: Cursor,
        limit: usize,
    ) -> sled::Result<Vec<(Cursor, Option<Bytes>)>> {
        let stored = self.db.range(listing.keys(0..before)).rev();
        let stored = self.uncovered(stored).map(|it| Ok(it?.0));
        let mut places = stored.take(limit).collect::<sled::Result<Vec<_>>>()?;
        let recent = self.recent.places(listing, 0..before);
        places.extend(recent.rev().take(limit));
        places.sort_unstable_by(|a, b| b.cmp(a));
        places.truncate(limit);
        let records = places.into_iter();
        records
            .map(|cursor| Ok((cursor, self.record(cursor)?)))
            .collect()
    }

    /// At most `limit` unfinished ones from a place on, oldest first.
    pub(super) fn unfinished(&self, from: Cursor, limit: usize) -> sled::Result<Vec<Unfinished>> {
        let range = from..Cursor::MAX;
        let stored = self.db.range(keys::unfinished_in(range.clone()));
        let stored = self.uncovered(stored).filter_map(|entry| {
            let read = |(cursor, _, value): (Cursor, IVec, IVec)| {
                let (due_ms, id) = keys::read_unfinished(&value)?;
                Some(Unfinished { cursor, id, due_ms })
            };
            entry.map(read).transpose()
        });
        let mut found = stored.take(limit).collect::<sled::Result<Vec<_>>>()?;
        let recent = self.recent.places(&Listing::Unfinished, range).take(limit);
        found.extend(recent.filter_map(|cursor| {
            let item = self.recent.at(cursor)?;
            let (id, due_ms) = (item.id.clone(), item.entry.as_ref()?.due_ms?);
            Some(Unfinished { cursor, id, due_ms })
        }));
        found.sort_unstable_by_key(|it| it.cursor);
        found.truncate(limit);
        Ok(found)
    }

    /// At most `limit` finished ones that are kept until this time or a shorter one, earliest first.
    pub(super) fn outlived(
        &self,
        now_ms: UnixMs,
        limit: usize,
    ) -> sled::Result<Vec<(Cursor, TransactionId)>> {
        let stored = self.db.range(keys::kept_until(now_ms));
        let stored = self.uncovered(stored).filter_map(|entry| {
            let read = |(cursor, key, id): (Cursor, IVec, IVec)| {
                Some((keys::read_keep_until(&key)?, cursor, keys::read_id(&id)?))
            };
            entry.map(read).transpose()
        });
        let mut found = stored.take(limit).collect::<sled::Result<Vec<_>>>()?;
        let recent = self.recent.outlived(now_ms);
        found.extend(recent.map(|(until_ms, cursor, id)| (until_ms, cursor, id.clone())));
        found.sort_unstable_by_key(|(until_ms, cursor, _)| (*until_ms, *cursor));
        found.truncate(limit);
        let found = found.into_iter().map(|(_, cursor, id)| (cursor, id));
        Ok(found.collect())
    }

    fn record(&self, cursor: Cursor) -> sled::Result<Option<Bytes>> {
        match self.recent.at(cursor) {
            Some(item) => Ok(item.entry.as_ref().map(|entry| entry.bytes.clone())),
            None => gather(cursor, |key| self.db.get(key)),
        }
    }

    /// Index entries of the database that nothing recent covers, with their places. What is no entry of
    /// an index is left out.
    fn uncovered(
        &self,
        entries: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
    ) -> impl Iterator<Item = sled::Result<(Cursor, IVec, IVec)>> {
        let uncovered = |(key, value): (IVec, IVec)| {
            let cursor = keys::cursor(&key)?;
            let covered = self.recent.at(cursor).is_some();
            (!covered).then_some((cursor, key, value))
        };
        entries.filter_map(move |entry| entry.map(uncovered).transpose())
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
