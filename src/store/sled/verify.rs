//! `tercet store verify`: reads everything there is and holds it against itself.

use std::path::Path;

use sled::{Db, IVec};
use tercet_core::ids::{Realm, TransactionId};

use super::{
    entry::Entry,
    ids::Ids,
    keys::{self, Place},
    meta::entry_digest,
    open::{self, Missing, OpenError, SledOptions, damaged},
    pack::Pack,
    readable,
    sidecar::FORMAT,
    view::gather,
};
/// How many problems are described; all are counted.
pub const PROBLEMS_MAX: usize = 100;

/// What was found in a store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Whose transactions they are.
    pub realm: Realm,
    /// Of what the store writes.
    pub epoch: u64,
    /// How often it has been opened.
    pub boot: u64,
    /// Of its files.
    pub format: u32,
    /// Records that can be read.
    pub records: u64,
    /// Those among them that are not finished.
    pub unfinished: u64,
    /// What its files take on the disk, in bytes.
    pub disk_bytes: u64,
    /// How much is wrong with it.
    pub problem_count: u64,
    /// What is wrong with it, at most [`PROBLEMS_MAX`] sentences.
    pub problems: Vec<String>,
}

impl Verified {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }
}

/// Reads the whole store in this directory, which no coordinator may be using. `progress` is told,
/// after each record, how many there were.
///
/// # Errors
/// When it can't be opened, or can't be read any further. What is wrong with single records is in the
/// answer instead.
pub fn verify(dir: &Path, progress: &mut dyn FnMut(u64)) -> Result<Verified, OpenError> {
    let opened = open::open(dir, &SledOptions::default(), Missing::Refuse)?;
    let unreadable =
        |error: sled::Error| damaged(&dir.join("db"))(format!("it can't be read: {error}"));
    let mut verified = Verified {
        realm: opened.realm,
        epoch: opened.sidecar.epoch,
        boot: opened.meta.boot,
        format: FORMAT,
        records: 0,
        unfinished: 0,
        disk_bytes: opened.db.size_on_disk().map_err(unreadable)?,
        problem_count: 0,
        problems: Vec::new(),
    };
    let mut belonging = verified
        .records(&opened.ids, progress)
        .map_err(unreadable)?;
    belonging += verified.packs(&opened.ids).map_err(unreadable)?;
    belonging += verified.filters(&opened.ids).map_err(unreadable)?;
    let (entries, digest) = digest(&opened.db).map_err(unreadable)?;
    verified.compare("records", verified.records, opened.meta.records);
    verified.compare(
        "entries that belong to a readable record",
        belonging,
        entries,
    );
    if digest != opened.meta.digest {
        verified.problem(
            "the database is not what was written: entries were lost, changed or brought back"
                .into(),
        );
    }
    Ok(verified)
}

impl Verified {
    /// Looks at each record and what has to stand in the tree because of it; says how many entries
    /// that are.
    fn records(&mut self, ids: &Ids, progress: &mut dyn FnMut(u64)) -> sled::Result<u64> {
        let (db, mut belonging) = (ids.db(), 0);
        for entry in db.range(keys::ids()) {
            let (key, value) = entry?;
            let (Some((_, id)), Some(place)) = (keys::read_id_key(&key), Place::of_value(&value))
            else {
                self.problem(format!("the entry {key:?} names no transaction"));
                continue;
            };
            if ids.find(&id)?.is_none_or(|(found, _)| key != found) {
                self.problem(format!("transaction {id} is not where it is looked for"));
            }
            let bytes = gather(place, |key| db.get(key))?;
            match readable(&id, bytes.clone()) {
                Ok(record) => {
                    let entry = Entry::with(&record, bytes.unwrap_or_default());
                    belonging += self.present(db, &id, entry.indexes(key.to_vec(), place))?;
                    if place.pack.is_none() {
                        let entries = entry.by_itself(place.cursor);
                        belonging += self.present(db, &id, entries)?;
                    }
                    self.records += 1;
                    self.unfinished += u64::from(entry.due_ms.is_some());
                }
                Err(reason) => self.problem(format!("the record of transaction {id}: {reason}")),
            }
            progress(self.records);
        }
        Ok(belonging)
    }

    /// Looks at each pack, and whether each of its records is known to be there; says how many entries
    /// belong to them.
    fn packs(&mut self, ids: &Ids) -> sled::Result<u64> {
        let (db, mut belonging) = (ids.db(), 0);
        for entry in db.scan_prefix(b"P") {
            let (key, value) = entry?;
            let first = keys::cursor(&key);
            let (Some(first), Ok(pack)) = (first, Pack::of_value(value)) else {
                self.problem(format!("the records in the pack {key:?} can't be read"));
                continue;
            };
            belonging += 1;
            if let Some(earliest_ms) = pack.earliest_ms() {
                if db.contains_key(keys::keep_until(earliest_ms, first))? {
                    belonging += 1;
                } else {
                    self.problem(format!(
                        "the pack at {first} is missing among the finished transactions"
                    ));
                }
            }
            for (cursor, head) in pack.heads() {
                let pack = Some(first);
                let place = Place { cursor, pack }.to_value();
                let id = &head.id;
                let found = match TransactionId::parse(id) {
                    Ok(id) => ids.find(&id)?,
                    Err(_) => None,
                };
                if found.is_none_or(|(_, found)| found != place) {
                    self.problem(format!(
                        "transaction {id} is in a pack where nobody finds it"
                    ));
                }
            }
        }
        Ok(belonging)
    }

    /// Looks at what spares looking for ids; says how many entries that are.
    fn filters(&mut self, ids: &Ids) -> sled::Result<u64> {
        let mut belonging = 0;
        for (number, filtered) in ids.generations() {
            let parts = ids.db().scan_prefix(keys::filter(number)).keys();
            let parts = parts.collect::<sled::Result<Vec<_>>>()?.len() as u64;
            if filtered {
                belonging += parts;
            } else if parts > 0 {
                self.problem(format!(
                    "the filter of the ids' generation {number} can't be read"
                ));
            }
        }
        Ok(belonging)
    }

    /// How many of these entries are there.
    fn present(
        &mut self,
        db: &Db,
        id: &TransactionId,
        entries: impl Iterator<Item = (Vec<u8>, IVec)>,
    ) -> sled::Result<u64> {
        let mut right = 0;
        for (key, value) in entries {
            let stored = db.get(&key)?;
            if stored.is_some_and(|stored| agrees(&key, &stored, &value)) {
                right += 1;
            } else {
                self.misplaced(id, key[0]);
            }
        }
        Ok(right)
    }

    fn misplaced(&mut self, id: &TransactionId, prefix: u8) {
        let index = match prefix {
            b'U' => "unfinished transactions",
            b'B' => "business keys",
            b'K' => "finished transactions",
            _ => "records",
        };
        self.problem(format!("transaction {id} is missing among the {index}"));
    }

    fn compare(&mut self, what: &str, found: u64, said: u64) {
        if found != said {
            self.problem(format!(
                "{found} {what} were found, but there should be {said}"
            ));
        }
    }

    fn problem(&mut self, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(problem);
        }
    }
}

/// A due time is what its writer made of the record; another program may make something else of it.
fn agrees(key: &[u8], stored: &[u8], expected: &[u8]) -> bool {
    match (
        keys::read_unfinished(stored),
        keys::read_unfinished(expected),
    ) {
        (Some((_, stored)), Some((_, expected))) if key[0] == b'U' => stored == expected,
        _ => stored == expected,
    }
}

/// How many entries there are, and all of them folded.
fn digest(db: &Db) -> sled::Result<(u64, u64)> {
    let (mut entries, mut digest) = (0, 0);
    for entry in db.iter() {
        let (key, value) = entry?;
        if &key[..] != keys::META {
            entries += 1;
            digest ^= entry_digest(&key, &value);
        }
    }
    Ok((entries, digest))
}
