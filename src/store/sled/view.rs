//! Reads that show only what is durable: what is [`Recent`], over what the database has.
//!
//! A batch becomes recent when it is durable in the journal. The database is changed only at places that
//! are covered by something recent, and these are uncovered only when it is durable there.
//!
//! Who reads the database waits for what is being put into it, and the writer waits for who looks at what is
//! recent. So nobody does both at once for one transaction: [`View::find`] looks, reads, and looks again.

use std::{
    cmp::Reverse,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use prost::bytes::Bytes;
use sled::{Db, IVec};
use tercet_core::ids::TransactionId;

use super::{
    entry::Entry,
    ids::Ids,
    keys::{self, CHUNK_BYTES, Place},
    pack::Pack,
    recent::{Item, Recent},
};
use crate::store::{Cursor, Listing, Unfinished, codec};

/// The database, and what covers it.
#[derive(Debug)]
pub(super) struct View {
    ids: Ids,
    recent: RwLock<Recent>,
    /// How often some of it was settled, and covers nothing any more.
    uncovered: AtomicU64,
}

/// So many records are uncovered before others get at what is recent: some 0.1 ms.
const UNCOVER_RECORDS: usize = 64;

/// The durable state at one moment; nothing new becomes visible while this lives, so it should not live
/// long.
pub(super) struct Durable<'a> {
    pub(super) ids: &'a Ids,
    pub(super) recent: RwLockReadGuard<'a, Recent>,
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
    pub(super) fn new(ids: Ids) -> Self {
        Self {
            ids,
            recent: RwLock::default(),
            uncovered: AtomicU64::new(0),
        }
    }

    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    pub(super) fn db(&self) -> &Db {
        self.ids.db()
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
            ids: &self.ids,
            recent: self.recent.read(),
        }
    }

    /// The database has these, durably.
    pub(super) fn uncover(&self, items: &[(Cursor, Item)]) {
        let mut recent = self.recent_mut();
        for piece in items.chunks(UNCOVER_RECORDS) {
            recent.settled(piece);
            self.uncovered.fetch_add(1, Ordering::SeqCst);
            RwLockWriteGuard::bump(&mut recent);
        }
    }

    /// How often something was uncovered. What is read of the database between two looks at what is recent, neither
    /// of which finds anything, is durable if this is the same before the first and after the last.
    pub(super) fn uncovered(&self) -> u64 {
        self.uncovered.load(Ordering::SeqCst)
    }

    /// The last word on a transaction.
    pub(super) fn find(&self, id: &TransactionId) -> sled::Result<Found> {
        self.find_by(id, |key| self.db().get(key))
    }

    /// The same, with values from wherever they are read.
    fn find_by(
        &self,
        id: &TransactionId,
        mut value: impl FnMut(&[u8]) -> sled::Result<Option<IVec>>,
    ) -> sled::Result<Found> {
        loop {
            let uncovered = self.uncovered();
            if let Some(recent) = self.find_recent(id) {
                return Ok(recent);
            }
            let stored = self.find_stored(id, &mut value)?;
            if let Some(recent) = self.find_recent(id) {
                return Ok(recent);
            }
            if self.uncovered() == uncovered {
                return Ok(stored);
            }
        }
    }

    /// The last word, if it is recent.
    pub(super) fn find_recent(&self, id: &TransactionId) -> Option<Found> {
        let recent = self.recent();
        let (cursor, item) = recent.find(id)?;
        let entry = item.entry.clone();
        Some(entry.map_or(Found::Nothing, |entry| Found::Recent(cursor, entry)))
    }

    fn find_stored(
        &self,
        id: &TransactionId,
        mut value: impl FnMut(&[u8]) -> sled::Result<Option<IVec>>,
    ) -> sled::Result<Found> {
        let Some((_, found)) = self.ids.find_by(id, &mut value)? else {
            return Ok(Found::Nothing);
        };
        let place = Place::of_value(&found).unwrap_or(Place::alone(0));
        Ok(Found::InTree(place.cursor, gather(place, value)?))
    }
}

impl Durable<'_> {
    /// At most `limit` records of a listing below a place, newest first.
    pub(super) fn records(
        &self,
        listing: &Listing,
        before: Cursor,
        limit: usize,
    ) -> sled::Result<Vec<(Cursor, Option<Bytes>)>> {
        let stored = self.ids.db().range(listing.keys(0..before)).rev();
        let stored = self.uncovered(stored).map(|entry| {
            let (cursor, key, value) = entry?;
            let named = key.starts_with(b"B");
            let pack = named.then(|| keys::read_pack_value(&value)).flatten();
            let pack = pack.flatten();
            Ok(Place { cursor, pack })
        });
        let mut places = stored.take(limit).collect::<sled::Result<Vec<_>>>()?;
        if *listing == Listing::All {
            let packed = self.packed(before).take(limit);
            places.extend(packed.collect::<sled::Result<Vec<_>>>()?);
        }
        let recent = self.recent.places(listing, 0..before).rev();
        places.extend(recent.take(limit).map(Place::alone));
        places.sort_unstable_by_key(|place| Reverse(place.cursor));
        places.truncate(limit);
        let records = places.into_iter();
        records
            .map(|place| Ok((place.cursor, self.record(place)?)))
            .collect()
    }

    /// At most `limit` unfinished ones from a place on, oldest first.
    pub(super) fn unfinished(&self, from: Cursor, limit: usize) -> sled::Result<Vec<Unfinished>> {
        let range = from..Cursor::MAX;
        let stored = self.ids.db().range(keys::unfinished_in(range.clone()));
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

    /// The places in packs below this one that nothing recent covers, newest first. A pack that can't be
    /// read counts as one place.
    fn packed(&self, before: Cursor) -> impl Iterator<Item = sled::Result<Place>> {
        let packs = self.ids.db().range(keys::packs(0..before)).rev();
        packs.flat_map(move |entry| match entry {
            Ok((key, value)) => {
                let mut places = places_in(&key, value);
                places.retain(|it| it.cursor < before && self.is_uncovered(it.cursor));
                places.into_iter().rev().map(Ok).collect()
            }
            Err(error) => vec![Err(error)],
        })
    }

    fn record(&self, place: Place) -> sled::Result<Option<Bytes>> {
        match self.recent.at(place.cursor) {
            Some(item) => Ok(item.entry.as_ref().map(|entry| entry.bytes.clone())),
            None => gather(place, |key| self.ids.db().get(key)),
        }
    }

    pub(super) fn is_uncovered(&self, cursor: Cursor) -> bool {
        self.recent.at(cursor).is_none()
    }

    /// Index entries of the database that nothing recent covers, with their places. What is no entry of
    /// an index is left out.
    fn uncovered(
        &self,
        entries: impl Iterator<Item = sled::Result<(IVec, IVec)>>,
    ) -> impl Iterator<Item = sled::Result<(Cursor, IVec, IVec)>> {
        let uncovered = |(key, value): (IVec, IVec)| {
            let cursor = keys::cursor(&key).filter(|cursor| self.is_uncovered(*cursor))?;
            Some((cursor, key, value))
        };
        entries.filter_map(move |entry| entry.map(uncovered).transpose())
    }
}

/// The places in a pack, oldest first; its own when it can't be read.
pub(super) fn places_in(key: &[u8], value: IVec) -> Vec<Place> {
    let first = keys::cursor(key).unwrap_or_default();
    let place = |cursor| Place {
        cursor,
        pack: Some(first),
    };
    match Pack::of_value(value) {
        Ok(pack) => pack.members().map(|(cursor, _)| place(cursor)).collect(),
        Err(_) => vec![place(first)],
    }
}

/// A record, from wherever what it stands in is read.
pub(super) fn gather(
    place: Place,
    mut value: impl FnMut(&[u8]) -> sled::Result<Option<IVec>>,
) -> sled::Result<Option<Bytes>> {
    let Some(pack) = place.pack else {
        return alone(place.cursor, value);
    };
    let pack = value(&keys::pack(pack))?.map(Pack::of_value);
    Ok(pack.and_then(|pack| pack.ok()?.find(place.cursor).cloned()))
}

/// Puts a record together that stands by itself.
pub(super) fn alone(
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
    use tempfile::TempDir;

    use super::*;
    use crate::store::{
        codec::tests::smallest,
        sled::{
            Workers,
            tests::{opened, say, settle},
        },
    };

    /// A database that has one record's first revision, which nothing covers.
    fn settled() -> (TempDir, Workers) {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut workers = Workers::of(opened(dir.path()));
        say(&mut workers, 1);
        settle(&mut workers);
        (dir, workers)
    }

    /// Finds that record, while this happens once, after where it is and what it is were read.
    fn revision_while(mut workers: Workers, happens: impl FnOnce(&mut Workers)) -> u64 {
        let shared = Arc::clone(&workers.writer.shared);
        let view = &shared.view;
        let (mut happens, mut reads) = (Some(happens), 0);
        let found = view.find_by(&smallest().id, |key| {
            let value = view.db().get(key);
            reads += 1;
            if reads == 2 {
                happens.take().expect("it is once")(&mut workers);
            }
            value
        });
        assert!(happens.is_none(), "nothing was read");
        match found.expect("it is read") {
            Found::Nothing => 0,
            Found::Recent(_, entry) => entry.revision,
            Found::InTree(_, bytes) => {
                let head = codec::decode_head(bytes.expect("it is there"));
                head.expect("it is readable").revision
            }
        }
    }

    #[test]
    fn nobody_waits_for_who_reads_the_database() {
        let (_dir, workers) = settled();
        let found = revision_while(workers, |workers| {
            let view = &workers.writer.shared.view;
            assert!(view.recent.try_write().is_some(), "the writer waits");
        });
        assert_eq!(found, 1);
    }

    #[test]
    fn what_is_covered_while_the_database_is_read_is_found_where_it_covers() {
        let (_dir, workers) = settled();
        assert_eq!(revision_while(workers, |it| say(it, 2)), 2);
    }

    #[test]
    fn what_is_settled_while_the_database_is_read_is_read_again() {
        let (_dir, workers) = settled();
        let found = revision_while(workers, |it| {
            say(it, 2);
            settle(it);
        });
        assert_eq!(found, 2);
    }
}
