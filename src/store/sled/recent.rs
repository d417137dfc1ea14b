//! Records that are in the journal, and whose last word is not in the database yet. They cover what the
//! database has of the same places.

use std::{
    collections::{
        BTreeMap, BTreeSet, HashMap,
        btree_map::Entry::{Occupied, Vacant},
    },
    ops::Range,
    sync::Arc,
};

use tercet_core::ids::TransactionId;

use super::entry::Entry;
use crate::store::{Cursor, Listing, UnixMs};

/// All of them, by their places.
#[derive(Debug, Default)]
pub(super) struct Recent {
    items: BTreeMap<Cursor, Item>,
    places: HashMap<TransactionId, Cursor>,
    unfinished: BTreeSet<Cursor>,
    business_keys: BTreeSet<(Arc<str>, Cursor)>,
}

/// What is said of one record.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) id: TransactionId,
    /// None when it is purged.
    pub(super) entry: Option<Arc<Entry>>,
    /// Whether the database may have anything at this place.
    pub(super) in_tree: bool,
}

/// The last word on one record.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) id: TransactionId,
    /// None when it was purged.
    pub(super) entry: Option<Arc<Entry>>,
    /// In which it was said.
    pub(super) batch: u64,
    /// Whether the database may have anything at this place.
    pub(super) in_tree: bool,
}

impl Recent {
    /// What the journal has just got. Whether the database may have something there is known better by
    /// what it takes the place of, which may have been settled since it was compared.
    pub(super) fn put(&mut self, cursor: Cursor, mut item: Item) {
        let entry = item.entry.clone();
        let old = match self.items.entry(cursor) {
            Vacant(place) => {
                self.places.insert(item.id.clone(), cursor);
                place.insert(item);
                None
            }
            Occupied(mut place) => {
                item.in_tree = place.get().in_tree;
                place.insert(item).entry
            }
        };
        let (old, new) = (old.as_deref(), entry.as_deref());
        if listings(old) != listings(new) {
            self.unlist(cursor, old);
            self.list(cursor, new);
        }
    }

    /// Takes over what a batch has, in its order, now that it is durable.
    pub(super) fn absorb(&mut self, batch: u64, words: &[(Cursor, Word)]) {
        for (cursor, word) in words {
            let item = Item {
                id: word.id.clone(),
                entry: word.entry.clone(),
                batch,
                in_tree: word.in_tree,
            };
            self.put(*cursor, item);
        }
    }

    /// What the journal has up to this batch and nothing newer, in the order of places.
    pub(super) fn up_to(&self, batch: u64) -> Vec<(Cursor, Item)> {
        let settled = self.items.iter().filter(|(_, item)| item.batch <= batch);
        settled
            .map(|(cursor, item)| (*cursor, item.clone()))
            .collect()
    }

    /// The database has these, durably. What has moved on meanwhile stays.
    pub(super) fn settled(&mut self, items: &[(Cursor, Item)]) {
        for (cursor, settled) in items {
            let Some(item) = self.items.get_mut(cursor) else {
                continue;
            };
            if item.batch > settled.batch {
                item.in_tree = settled.entry.is_some();
                continue;
            }
            self.items.remove(cursor);
            self.unlist(*cursor, settled.entry.as_deref());
            // The id may have come again, at another place.
            if self.places.get(&settled.id) == Some(cursor) {
                self.places.remove(&settled.id);
            }
        }
    }

    /// The last word on this transaction, and its place.
    pub(super) fn find(&self, id: &TransactionId) -> Option<(Cursor, &Item)> {
        let cursor = *self.places.get(id)?;
        Some((cursor, self.items.get(&cursor)?))
    }

    /// The last word on the record at this place.
    pub(super) fn at(&self, cursor: Cursor) -> Option<&Item> {
        self.items.get(&cursor)
    }

    /// The places of a listing, in order.
    pub(super) fn places(
        &self,
        listing: &Listing,
        range: Range<Cursor>,
    ) -> Box<dyn DoubleEndedIterator<Item = Cursor> + '_> {
        match listing {
            Listing::All => {
                let items = self.items.range(range);
                let there = items.filter(|(_, item)| item.entry.is_some());
                Box::new(there.map(|(cursor, _)| *cursor))
            }
            Listing::Unfinished => Box::new(self.unfinished.range(range).copied()),
            Listing::BusinessKey(key) => {
                let range = (key.clone(), range.start)..(key.clone(), range.end);
                let keys = self.business_keys.range(range);
                Box::new(keys.map(|(_, cursor)| *cursor))
            }
        }
    }

    /// Finished ones that are kept until this time or a shorter one, in no order.
    pub(super) fn outlived(
        &self,
        now_ms: UnixMs,
    ) -> impl Iterator<Item = (UnixMs, Cursor, &TransactionId)> {
        self.items.iter().filter_map(move |(cursor, item)| {
            let keep_until_ms = item.entry.as_ref()?.kept_until_ms()?;
            (keep_until_ms <= now_ms).then_some((keep_until_ms, *cursor, &item.id))
        })
    }

    fn list(&mut self, cursor: Cursor, entry: Option<&Entry>) {
        let Some(entry) = entry else { return };
        if entry.due_ms.is_some() {
            self.unfinished.insert(cursor);
        }
        if !entry.business_key.is_empty() {
            let key = entry.business_key.clone();
            self.business_keys.insert((key, cursor));
        }
    }

    fn unlist(&mut self, cursor: Cursor, entry: Option<&Entry>) {
        let Some(entry) = entry else { return };
        self.unfinished.remove(&cursor);
        if !entry.business_key.is_empty() {
            let key = entry.business_key.clone();
            self.business_keys.remove(&(key, cursor));
        }
    }
}

/// What says in which listings a record stands.
fn listings(entry: Option<&Entry>) -> Option<(bool, &str)> {
    entry.map(|entry| (entry.due_ms.is_some(), &*entry.business_key))
}
