//! Where the ids stand: in generations, of which the youngest alone takes new ones.
//!
//! Ids come in any order, and the more of them share a tree, the fewer of its pages are in memory when one
//! is looked for or put. So those that came at about the same time stand together, few enough that their
//! pages stay in memory while they are written. When they are enough, another generation begins. Each has a
//! [`Filter`], so an id that is new is looked for, by mistake, in one generation of a thousand; that of the
//! youngest grows, and is written when the generation is closed. A generation of which everything was purged
//! is forgotten.
//!
//! An id is in one generation at most.

use parking_lot::RwLock;
use sled::{Db, IVec};
use tercet_core::ids::TransactionId;

use super::{
    filter::{FILTER_IDS_MAX, Filter, Print},
    keys,
    medium::Medium,
    meta::Meta,
    stage::Stage,
};

/// All generations.
#[derive(Debug)]
pub(super) struct Ids {
    db: Db,
    /// How many ids a generation has when the next one begins.
    enough: u64,
    /// The youngest last; there always is one.
    generations: RwLock<Vec<Generation>>,
}

#[derive(Debug)]
struct Generation {
    number: u32,
    /// None when it has to be looked into whatever the id is.
    filter: Option<Filter>,
}

impl Ids {
    /// As this account has them.
    ///
    /// # Errors
    /// When the database can't be read.
    pub(super) fn load(db: Db, enough: u64, meta: &Meta) -> sled::Result<Self> {
        let load = |number| {
            let values = db.scan_prefix(keys::filter(number)).values();
            let values = values.collect::<sled::Result<Vec<_>>>()?;
            let filter = Filter::of_values(&values);
            Ok(Generation { number, filter })
        };
        let generations = meta.generations().into_iter().map(load);
        let generations = generations.collect::<sled::Result<_>>()?;
        Ok(Self {
            db,
            enough,
            generations: RwLock::new(generations),
        })
    }

    pub(super) fn db(&self) -> &Db {
        &self.db
    }

    /// Where this id may stand, the youngest place first.
    fn keys(&self, id: &TransactionId) -> Vec<Vec<u8>> {
        let print = Print::of(id.as_str());
        let generations = self.generations.read();
        let likely = generations.iter().rev().filter(|it| {
            let filter = it.filter.as_ref();
            filter.is_none_or(|filter| filter.may_have(print))
        });
        likely.map(|it| keys::id(it.number, id)).collect()
    }

    /// Where this id stands, and what is there.
    ///
    /// # Errors
    /// When the database can't be read.
    pub(super) fn find(&self, id: &TransactionId) -> sled::Result<Option<(Vec<u8>, IVec)>> {
        self.find_by(id, |key| self.db.get(key))
    }

    /// The same, with values from wherever they are read.
    pub(super) fn find_by(
        &self,
        id: &TransactionId,
        mut value: impl FnMut(&[u8]) -> sled::Result<Option<IVec>>,
    ) -> sled::Result<Option<(Vec<u8>, IVec)>> {
        for key in self.keys(id) {
            if let Some(value) = value(&key)? {
                return Ok(Some((key, value)));
            }
        }
        Ok(None)
    }

    /// Where this id goes if it is new.
    pub(super) fn new_key(&self, id: &TransactionId) -> Vec<u8> {
        keys::id(self.youngest(), id)
    }

    /// Makes the filter of the youngest generation, unless it has one. All of its ids are read for that, and
    /// nothing may be put meanwhile: so a start leaves it to whoever puts. With too many ids there is none.
    ///
    /// # Errors
    /// When the database can't be read.
    pub(super) fn complete(&self) -> sled::Result<()> {
        let youngest_has = |it: &Generation| it.filter.is_some();
        if self.generations.read().last().is_some_and(youngest_has) {
            return Ok(());
        }
        let filter = self.growing(self.youngest())?;
        if let Some(youngest) = self.generations.write().last_mut() {
            youngest.filter = filter;
        }
        Ok(())
    }

    /// A filter for this generation, with those that are in it; none when they are too many.
    fn growing(&self, number: u32) -> sled::Result<Option<Filter>> {
        let mut prints = Vec::new();
        for key in self.db.scan_prefix(keys::ids_of(number)).keys() {
            if let Some((_, id)) = keys::read_id_key(&key?) {
                prints.push(Print::of(id.as_str()));
            }
            if prints.len() > FILTER_IDS_MAX {
                return Ok(None);
            }
        }
        let mut filter = Filter::for_ids(self.room().max(prints.len()));
        prints.into_iter().for_each(|print| filter.add(print));
        Ok(Some(filter))
    }

    /// How many ids a generation's filter is made for.
    fn room(&self) -> usize {
        usize::try_from(self.enough).map_or(FILTER_IDS_MAX, |enough| enough.min(FILTER_IDS_MAX))
    }

    /// These are about to be put into the youngest generation.
    pub(super) fn expect(&self, prints: &[Print]) {
        let mut generations = self.generations.write();
        let youngest = generations.last_mut();
        if let Some(filter) = youngest.and_then(|it| it.filter.as_mut()) {
            prints.iter().for_each(|print| filter.add(*print));
        }
    }

    /// Begins another generation, durably, if this account says that there are enough ids in the youngest.
    ///
    /// # Errors
    /// What failed, for a person. After an error nothing is known of what is on the medium.
    pub(super) fn turn(&self, medium: &Medium, meta: Meta) -> Result<Meta, String> {
        if meta.young < self.enough {
            return Ok(meta);
        }
        let unreadable = |error: sled::Error| format!("reading ids: {error}");
        self.complete().map_err(unreadable)?;
        let (closed, filter) = self.closing();
        let emptied = self.emptied().map_err(unreadable)?;
        let next = closed + 1;
        let settled = meta.settled;
        let mut stage = Stage::new(self, meta);
        for number in &emptied {
            stage.forget_generation(*number).map_err(unreadable)?;
        }
        stage.begin_generation(next, filter);
        let (piece, meta) = stage.finish(settled).map_err(unreadable)?;
        medium.write(&self.db, piece)?;
        let mut generations = self.generations.write();
        generations.retain(|it| !emptied.contains(&it.number));
        generations.push(Generation {
            number: next,
            filter: Some(Filter::for_ids(self.room())),
        });
        Ok(meta)
    }

    /// The youngest generation, and its filter as values of the database.
    fn closing(&self) -> (u32, Vec<IVec>) {
        let generations = self.generations.read();
        let Some(Generation { number, filter }) = generations.last() else {
            return (0, Vec::new());
        };
        let values = filter.as_ref().map(Filter::to_values);
        (*number, values.unwrap_or_default())
    }

    /// The closed generations that have no id any more.
    fn emptied(&self) -> sled::Result<Vec<u32>> {
        let generations = self.generations.read();
        let closed = generations
            .split_last()
            .map_or(&[][..], |(_, closed)| closed);
        let mut emptied = Vec::new();
        for Generation { number, .. } in closed {
            let mut ids = self.db.scan_prefix(keys::ids_of(*number)).keys();
            if ids.next().transpose()?.is_none() {
                emptied.push(*number);
            }
        }
        Ok(emptied)
    }

    /// Their numbers, and whether they have a filter.
    pub(super) fn generations(&self) -> Vec<(u32, bool)> {
        let generations = self.generations.read();
        let generations = generations.iter();
        generations
            .map(|it| (it.number, it.filter.is_some()))
            .collect()
    }

    pub(super) fn youngest(&self) -> u32 {
        let generations = self.generations.read();
        generations.last().map_or(0, |it| it.number)
    }
}

#[cfg(test)]
mod tests {
    use std::{ops::Range, path::Path};

    use super::*;
    use crate::store::sled::{
        open::{self, Missing, Opened, SledOptions},
        settle::put,
        tests::item,
        verify,
    };

    const ENOUGH: u64 = 3;

    fn opened(dir: &Path) -> Opened {
        let options = SledOptions {
            generation_ids: ENOUGH,
            ..SledOptions::default()
        };
        open::open(dir, &options, Missing::Create).expect("it is opened")
    }

    /// Settles these, as many at a time as make a generation full.
    fn settle(opened: &mut Opened, numbers: Range<u64>, purged: bool) {
        let items: Vec<_> = numbers.map(|number| item(number, 1)).collect();
        for piece in items.chunks(ENOUGH as usize) {
            let mut piece = piece.to_vec();
            if purged {
                for (_, item) in &mut piece {
                    item.entry = None;
                }
            }
            let (meta, settled) = (opened.meta.clone(), opened.meta.settled);
            let meta = put(&opened.ids, &opened.medium, meta, &piece, settled, |_| ());
            opened.meta = meta.expect("it is written");
        }
    }

    fn assert_found(opened: &Opened, numbers: Range<u64>) {
        for number in numbers {
            let (_, item) = item(number, 1);
            let found = opened.ids.find(&item.id).expect("it is read");
            assert!(found.is_some(), "{number}");
        }
    }

    fn numbers(opened: &Opened) -> Vec<u32> {
        let generations = opened.ids.generations().into_iter();
        generations.map(|(number, _)| number).collect()
    }

    fn problems(dir: &Path) -> Vec<String> {
        verify(dir, &mut |_| {}).expect("it is read").problems
    }

    #[test]
    fn ids_of_every_generation_are_found_and_new_ones_looked_for_in_hardly_any() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut before = opened(dir.path());
        settle(&mut before, 1..100, false);
        assert_eq!(before.ids.generations().len(), 34);
        drop(before);
        let after = opened(dir.path());
        assert_eq!(after.ids.generations().len(), 34);
        after.ids.complete().expect("it is read");
        assert_found(&after, 1..100);
        let looked_into = (100..200).map(|number| after.ids.keys(&item(number, 1).1.id).len());
        let looked_into: usize = looked_into.sum();
        assert!(looked_into < 100, "{looked_into} of 3400");
        drop(after);
        assert_eq!(problems(dir.path()), [""; 0]);
    }

    #[test]
    fn a_generation_of_which_everything_was_purged_is_forgotten() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut opened = opened(dir.path());
        settle(&mut opened, 1..10, false);
        settle(&mut opened, 1..3, true);
        settle(&mut opened, 4..7, true);
        settle(&mut opened, 10..13, false);
        assert_eq!(numbers(&opened), [0, 2, 3, 4]);
        let has_filter = |number| opened.db.contains_key(keys::filter_part(number, 0));
        assert_eq!([1, 2].map(has_filter), [Ok(false), Ok(true)]);
        assert_found(&opened, 3..4);
        assert_found(&opened, 7..13);
        drop(opened);
        assert_eq!(problems(dir.path()), [""; 0]);
    }

    #[test]
    fn an_id_that_comes_again_is_in_the_youngest_generation_alone() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut opened = opened(dir.path());
        settle(&mut opened, 1..7, false);
        settle(&mut opened, 2..3, true);
        let (_, again) = item(2, 1);
        assert_eq!(opened.ids.find(&again.id), Ok(None));
        let (meta, settled) = (opened.meta.clone(), opened.meta.settled);
        let items = [(7, again.clone())];
        let meta = put(&opened.ids, &opened.medium, meta, &items, settled, |_| ());
        drop(meta.expect("it is written"));
        let found = opened.ids.find(&again.id).expect("it is read");
        assert_eq!(found.map(|(key, _)| key), Some(keys::id(2, &again.id)));
        drop(opened);
        assert_eq!(problems(dir.path()), [""; 0]);
    }

    #[test]
    fn a_damaged_filter_costs_time_and_no_id() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut before = opened(dir.path());
        settle(&mut before, 1..7, false);
        let key = keys::filter_part(0, 0);
        let part = before.db.get(&key).expect("it is read");
        let mut part = part.expect("it is there").to_vec();
        let last = part.len() - 1;
        part[last] ^= 0xff;
        before.db.insert(key, part).expect("it is written");
        drop(before);
        let after = opened(dir.path());
        assert_eq!(after.ids.generations()[..2], [(0, false), (1, true)]);
        assert_found(&after, 1..7);
        drop(after);
        let found = problems(dir.path());
        let named = "the filter of the ids' generation 0 can't be read";
        assert!(found.iter().any(|it| it == named), "{found:?}");
    }
}
