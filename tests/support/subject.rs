//! The stores under test, and what a test may do to them.
#![allow(
    dead_code,
    reason = "each test file that includes this uses its own part of it"
)]

use std::path::Path;

use tempfile::TempDir;
use tercet::store::{MemoryStore, SledStore, Store};
use tercet_core::ids::TransactionId;

/// sled's own configuration, as the store chooses it: for tests that go behind its back.
pub(crate) const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// One store, opened.
pub(crate) enum Subject {
    Memory(Box<MemoryStore>),
    Sled(Box<SledStore>, TempDir),
}

impl Subject {
    pub(crate) fn all() -> [Subject; 2] {
        let dir = TempDir::new().expect("a temporary directory");
        let store = SledStore::open(dir.path()).expect("an empty directory is opened");
        [
            Subject::Memory(Box::default()),
            Subject::Sled(Box::new(store), dir),
        ]
    }

    pub(crate) fn store(&self) -> &dyn Store {
        match self {
            Subject::Memory(store) => &**store,
            Subject::Sled(store, _) => &**store,
        }
    }

    /// The next process.
    pub(crate) fn restart(self) -> Subject {
        self.restart_after(|_| {})
    }

    /// The next process, after a record has become unreadable.
    pub(crate) fn restart_with_corrupt(self, id: &TransactionId) -> Subject {
        match self {
            Subject::Memory(store) => {
                let store = store.crash();
                assert!(store.corrupt(id));
                Subject::Memory(Box::new(store))
            }
            sled @ Subject::Sled(..) => sled.restart_after(|dir| corrupt(dir, id)),
        }
    }

    fn restart_after(self, meddle: impl FnOnce(&Path)) -> Subject {
        match self {
            Subject::Memory(store) => Subject::Memory(Box::new(store.crash())),
            Subject::Sled(store, dir) => {
                drop(store);
                meddle(dir.path());
                let store = SledStore::open(dir.path()).expect("what was closed is opened again");
                Subject::Sled(Box::new(store), dir)
            }
        }
    }
}

/// Flips one bit of a record, behind the store's back.
pub(crate) fn corrupt(dir: &Path, id: &TransactionId) {
    meddle(dir, |db| {
        let key = [b"I", id.as_str().as_bytes()].concat();
        let place = db.get(key).expect("it is read").expect("the id is there");
        let (cursor, pack) = place.split_at(8);
        let key = match pack {
            [] => [b"R", cursor].concat(),
            pack => [b"P", pack].concat(),
        };
        let mut value = db
            .get(&key)
            .expect("it is read")
            .expect("it is there")
            .to_vec();
        // Other records may stand in the same value: this one has its id in it.
        let name = [&[id.as_str().len() as u8], id.as_str().as_bytes()].concat();
        let mut places = value.windows(name.len());
        let at = places.position(|place| place == name);
        value[at.expect("it has its id in it") + 1] ^= 1;
        db.insert(key, value).expect("it is written");
    });
}

/// Opens the closed database without the store.
pub(crate) fn meddle(dir: &Path, change: impl FnOnce(&sled::Db)) {
    let config = sled::Config::new().path(dir).segment_size(SEGMENT_BYTES);
    let db = config.open().expect("the database is opened");
    change(&db);
    db.flush().expect("it is flushed");
}
