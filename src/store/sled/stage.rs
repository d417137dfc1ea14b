//! What the database gets in one go: the last word on some records, and the account that goes with it.

use std::collections::BTreeMap;

use prost::bytes::Bytes;
use sled::{Batch, IVec};
use tercet_core::ids::TransactionId;

use super::{
    entry::Entry,
    filter::Print,
    ids::Ids,
    keys::{self, Place},
    meta::{Meta, entry_digest},
    pack::Pack,
    view::{alone, chunk_count},
};
use crate::store::{
    Cursor, UnixMs,
    codec::{self, Head},
};

/// What it counts for that there was a record before: others in its pack are written again, its indexes go.
const REPLACED_BYTES: usize = 512;

/// A batch of the database in the making.
pub(super) struct Stage<'a> {
    ids: &'a Ids,
    meta: Meta,
    changes: BTreeMap<Vec<u8>, Change>,
    bytes: usize,
    /// The pack that takes more still, by its place.
    filling: Option<(Cursor, Pack)>,
    /// One of the database that is being changed: records that were there before come in the order of their places.
    edited: Option<Edited>,
}

/// A pack, and until when the first of its records to go was kept as it stands in the database.
struct Edited {
    first: Cursor,
    pack: Pack,
    earliest_before_ms: Option<UnixMs>,
}

/// One key; what was only read has the same value twice.
struct Change {
    before: Option<IVec>,
    after: Option<IVec>,
}

impl<'a> Stage<'a> {
    /// On top of everything applied so far, of which `meta` is the account.
    pub(super) fn new(ids: &'a Ids, meta: Meta) -> Self {
        Self {
            ids,
            meta,
            changes: BTreeMap::new(),
            bytes: 0,
            filling: None,
            edited: None,
        }
    }

    /// How much was put into it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Puts a record in its place, whatever is there. One that is in a pack stays there.
    pub(super) fn put(&mut self, cursor: Cursor, entry: &Entry) -> sled::Result<()> {
        let (id, place) = self.locate(&entry.id)?;
        let pack = match self.packed(cursor, place)? {
            Some(edited) if Pack::takes(entry) => {
                let first = edited.first;
                self.edit(edited, cursor, Some(entry.bytes.clone()))?;
                Some(first)
            }
            packed => {
                self.clear(cursor, packed)?;
                for (key, value) in entry.by_itself(cursor) {
                    self.set(key, Some(value))?;
                }
                None
            }
        };
        for (key, value) in entry.indexes(id, Place { cursor, pack }) {
            self.set(key, Some(value))?;
        }
        self.bytes += REPLACED_BYTES;
        self.arrived(cursor, entry);
        Ok(())
    }

    /// The same where there is certainly nothing: spares looking, and what is finished goes into a pack.
    pub(super) fn put_first(&mut self, cursor: Cursor, entry: &Entry) {
        let fits = Pack::takes(entry) && cursor > self.meta.packed;
        let pack = fits.then(|| self.fill(cursor, entry));
        let id = self.ids.new_key(&entry.id);
        for (key, value) in entry.indexes(id, Place { cursor, pack }) {
            self.set_first(key, value);
        }
        if pack.is_none() {
            for (key, value) in entry.by_itself(cursor) {
                self.set_first(key, value);
            }
        }
        self.arrived(cursor, entry);
    }

    /// Puts a record that another store has had into the next place; says false if its id is taken.
    pub(super) fn adopt(&mut self, entry: &Entry) -> sled::Result<bool> {
        if self.locate(&entry.id)?.1.is_some() {
            return Ok(false);
        }
        self.put_first(self.meta.arrived + 1, entry);
        Ok(true)
    }

    /// Takes away the record at this place, if there is one.
    pub(super) fn remove(&mut self, cursor: Cursor, id: &TransactionId) -> sled::Result<()> {
        let (key, place) = self.locate(id)?;
        let packed = self.packed(cursor, place)?;
        self.clear(cursor, packed)?;
        self.bytes += REPLACED_BYTES;
        // The id may have come again since.
        if place.is_some_and(|place| place.cursor == cursor) {
            self.set(key, None)?;
        }
        self.meta.arrived = self.meta.arrived.max(cursor);
        Ok(())
    }

    /// The batch, and the account that stands in it, which says that all up to the journal's batch
    /// `settled` is in the database.
    pub(super) fn finish(mut self, settled: u64) -> sled::Result<(Batch, Meta)> {
        self.close_edited()?;
        self.close_pack();
        self.expect_ids();
        let mut batch = Batch::default();
        self.meta.settled = settled;
        for (key, Change { before, after }) in self.changes {
            if before == after {
                continue;
            }
            for value in [&before, &after].into_iter().flatten() {
                self.meta.digest ^= entry_digest(&key, value);
            }
            if keys::is_id(&key) {
                self.meta.young += u64::from(before.is_none());
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
        Ok((batch, self.meta))
    }

    /// Says which ids will be found in the youngest generation, before they can be.
    fn expect_ids(&self) {
        let youngest = self.ids.youngest();
        let ids = self.changes.iter().filter_map(|(key, change)| {
            change.after.as_ref()?;
            let (number, id) = keys::read_id_key(key)?;
            (number == youngest).then(|| Print::of(id.as_str()))
        });
        self.ids.expect(&ids.collect::<Vec<_>>());
    }

    /// The ids that come from now on stand in this generation; those so far have this filter.
    pub(super) fn begin_generation(&mut self, number: u32, filter: Vec<IVec>) {
        let mut generations = self.meta.generations();
        if let Some(closed) = generations.last() {
            for (part, value) in filter.into_iter().enumerate() {
                self.set_first(keys::filter_part(*closed, part), value);
            }
        }
        generations.push(number);
        self.meta.generations = generations;
        self.meta.young = 0;
    }

    /// A generation without ids is none any more.
    pub(super) fn forget_generation(&mut self, number: u32) -> sled::Result<()> {
        for key in self.ids.db().scan_prefix(keys::filter(number)).keys() {
            self.set(key?.to_vec(), None)?;
        }
        self.meta.generations = self.meta.generations();
        self.meta.generations.retain(|it| *it != number);
        Ok(())
    }

    fn arrived(&mut self, cursor: Cursor, entry: &Entry) {
        self.meta.arrived = self.meta.arrived.max(cursor);
        self.bytes += entry.bytes.len();
    }

    /// Adds a record to the last pack of all, or to a new one; says to which.
    fn fill(&mut self, cursor: Cursor, entry: &Entry) -> Cursor {
        let (first, pack) = self.filling.get_or_insert((cursor, Pack::default()));
        let first = *first;
        pack.put(cursor, entry.bytes.clone());
        self.meta.packed = cursor;
        if pack.is_full() {
            self.close_pack();
        }
        first
    }

    fn close_pack(&mut self) {
        let Some((first, pack)) = self.filling.take() else {
            return;
        };
        if let Some(earliest_ms) = pack.earliest_ms() {
            self.set_first(keys::keep_until(earliest_ms, first), IVec::default());
        }
        self.set_first(keys::pack(first), pack.to_value());
    }

    /// The pack that the record at this place is in; none when that can't be read.
    fn packed(&mut self, cursor: Cursor, place: Option<Place>) -> sled::Result<Option<Edited>> {
        let place = place.filter(|place| place.cursor == cursor);
        let Some(first) = place.and_then(|place| place.pack) else {
            return Ok(None);
        };
        if self.edited.as_ref().is_some_and(|it| it.first == first) {
            return Ok(self.edited.take());
        }
        self.close_edited()?;
        let value = self.value(&keys::pack(first))?;
        let pack = value.and_then(|value| Pack::of_value(value).ok());
        Ok(pack.map(|pack| Edited {
            first,
            earliest_before_ms: pack.earliest_ms(),
            pack,
        }))
    }

    /// Takes away all that stands there because of the record at this place, but its id's entry. One that
    /// can't be read keeps its indexes: `verify` names them.
    fn clear(&mut self, cursor: Cursor, packed: Option<Edited>) -> sled::Result<()> {
        match packed {
            Some(edited) => self.edit(edited, cursor, None),
            None => self.clear_alone(cursor),
        }
    }

    fn clear_alone(&mut self, cursor: Cursor) -> sled::Result<()> {
        let Some(bytes) = alone(cursor, |key| self.value(key))? else {
            return Ok(());
        };
        for number in 0..chunk_count(&bytes) {
            self.set(keys::chunk(cursor, number), None)?;
        }
        self.set(keys::unfinished(cursor), None)?;
        if let Ok(head) = codec::decode_head(bytes) {
            let kept = head.keep_until_ms.filter(|_| head.finished);
            let kept = kept.map(|keep_until_ms| keys::keep_until(keep_until_ms, cursor));
            for key in kept.into_iter().chain(head.business_key_at(cursor)) {
                self.set(key, None)?;
            }
        }
        Ok(())
    }

    /// Changes or takes away a record in a pack, and what stands there because of it, but its id's entry.
    fn edit(
        &mut self,
        mut edited: Edited,
        cursor: Cursor,
        record: Option<Bytes>,
    ) -> sled::Result<()> {
        let head = edited.pack.find(cursor).cloned().map(codec::decode_head);
        if let Some(Ok(head)) = head
            && let Some(key) = head.business_key_at(cursor)
        {
            self.set(key, None)?;
        }
        match record {
            Some(record) => edited.pack.put(cursor, record),
            None => edited.pack.remove(cursor),
        }
        self.edited = Some(edited);
        Ok(())
    }

    fn close_edited(&mut self) -> sled::Result<()> {
        let Some(Edited {
            first,
            pack,
            earliest_before_ms,
        }) = self.edited.take()
        else {
            return Ok(());
        };
        if let Some(earliest_ms) = earliest_before_ms {
            self.set(keys::keep_until(earliest_ms, first), None)?;
        }
        if let Some(earliest_ms) = pack.earliest_ms() {
            let key = keys::keep_until(earliest_ms, first);
            self.set(key, Some(IVec::default()))?;
        }
        let value = (!pack.is_empty()).then(|| pack.to_value());
        self.set(keys::pack(first), value)
    }

    /// The key of this id, or of one that is new, and the place that stands there.
    fn locate(&mut self, id: &TransactionId) -> sled::Result<(Vec<u8>, Option<Place>)> {
        let found = self.ids.find_by(id, |key| self.value(key))?;
        Ok(match found {
            Some((key, value)) => (key, Place::of_value(&value)),
            None => (self.ids.new_key(id), None),
        })
    }

    fn value(&mut self, key: &[u8]) -> sled::Result<Option<IVec>> {
        if let Some(change) = self.changes.get(key) {
            return Ok(change.after.clone());
        }
        let before = self.ids.db().get(key)?;
        let after = before.clone();
        let value = before.clone();
        self.changes.insert(key.to_vec(), Change { before, after });
        Ok(value)
    }

    fn set(&mut self, key: Vec<u8>, after: Option<IVec>) -> sled::Result<()> {
        match self.changes.get_mut(&key) {
            Some(change) => change.after = after,
            None => {
                let before = self.ids.db().get(&key)?;
                self.changes.insert(key, Change { before, after });
            }
        }
        Ok(())
    }

    /// Where there was nothing.
    fn set_first(&mut self, key: Vec<u8>, value: IVec) {
        let change = self.changes.entry(key);
        let nothing = Change {
            before: None,
            after: None,
        };
        change.or_insert(nothing).after = Some(value);
    }
}

impl Head {
    fn business_key_at(&self, cursor: Cursor) -> Option<Vec<u8>> {
        let named = !self.business_key.is_empty();
        named.then(|| keys::business_key(&self.business_key, cursor))
    }
}
