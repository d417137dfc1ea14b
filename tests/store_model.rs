//! The store on sled against the reference implementation, over random work.

mod support;

use std::sync::Arc;

use support::records::{confirmed, fresh_with, id, tried};
use tempfile::TempDir;
use tercet::store::{
    Listing, MemoryStore, Record, SledOptions, SledStore, Store, StoreError, verify,
};

/// Those that are read and written, many times each.
const NAMES: u32 = 600;

#[tokio::test]
async fn ten_thousand_random_commits_leave_what_the_reference_has() {
    let dir = TempDir::new().expect("a temporary directory");
    let model = MemoryStore::default();
    let mut store = open(&dir);
    let mut random = fastrand::Rng::with_seed(3);
    for round in 0..4 {
        let mut pending = Vec::new();
        for _ in 0..2_500 {
            let next = random_write(&model, &mut random);
            let expected = perform(&model, next.clone());
            pending.push((perform(&store, next), expected));
        }
        for (found, expected) in pending {
            assert_eq!(found.await, expected.await);
        }
        if round % 2 == 1 {
            drop(store);
            store = open(&dir);
        }
        assert_same(&store, &model);
    }
    drop(store);
    let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
    assert_eq!(verified.problems, [""; 0]);
    assert_same(&open(&dir), &model);
}

#[derive(Clone)]
enum Write {
    Commit(Arc<Record>),
    Purge(String, u64),
}

/// Mostly what may follow, sometimes what may not.
fn random_write(model: &MemoryStore, random: &mut fastrand::Rng) -> Write {
    let name = format!("t{}", random.u32(..NAMES));
    let stored = model.read(&id(&name)).expect("it is read");
    let Some(stored) = stored else {
        let key = format!("key-{}", random.u32(..20));
        let payload = vec![1; random.usize(..4_000)];
        let record = fresh_with(model, &name, &key, &payload);
        return Write::Commit(Arc::new(record));
    };
    if stored.transaction.state.is_terminal() && random.bool() {
        let keep_until_ms = Some(random.i64(..100));
        let (revision, cut_down) = (stored.revision + 1, true);
        return Write::Commit(Arc::new(Record {
            revision,
            cut_down,
            keep_until_ms,
            ..(*stored).clone()
        }));
    }
    if stored.transaction.state.is_terminal() {
        return Write::Purge(name, stored.revision - u64::from(random.u8(..8) == 0));
    }
    let next = if stored.transaction.decision().is_none() {
        tried(&stored)
    } else {
        confirmed(&stored, random.i64(..100))
    };
    match random.u8(..20) {
        0 => Write::Commit(stored),
        1 => Write::Purge(name, stored.revision),
        _ => Write::Commit(Arc::new(next)),
    }
}

fn perform(
    store: &dyn Store,
    write: Write,
) -> futures::future::BoxFuture<'static, Result<(), StoreError>> {
    match write {
        Write::Commit(record) => {
            let committed = store.commit(record);
            Box::pin(async move { committed.await.map(drop) })
        }
        Write::Purge(name, revision) => store.purge(&id(&name), revision),
    }
}

fn assert_same(store: &SledStore, model: &MemoryStore) {
    for number in 0..NAMES {
        let id = id(&format!("t{number}"));
        assert_eq!(store.read(&id), model.read(&id));
    }
    let all = |store: &dyn Store, listing: &Listing| -> Vec<Arc<Record>> {
        let found = store.list(listing, None, 100_000).expect("they are read");
        found.into_iter().map(|(_, record)| record).collect()
    };
    assert_eq!(all(store, &Listing::All), all(model, &Listing::All));
    assert_eq!(
        all(store, &Listing::Unfinished),
        all(model, &Listing::Unfinished)
    );
    for key in 0..20 {
        let listing = Listing::BusinessKey(format!("key-{key}").into());
        assert_eq!(all(store, &listing), all(model, &listing));
    }
    assert_eq!(
        store.unfinished(None, 100_000),
        model.unfinished(None, 100_000)
    );
    for limit in [1, 10, 100_000] {
        let times = |store: &dyn Store| {
            let found = store.outlived(50, limit).expect("they are read");
            let until_ms = |id| store.read(id).ok()??.keep_until_ms;
            found.iter().map(until_ms).collect::<Vec<_>>()
        };
        assert_eq!(times(store), times(model));
    }
    assert_eq!(store.outlived(50, 100_000), model.outlived(50, 100_000));
}

fn open(dir: &TempDir) -> SledStore {
    // So few that there are many generations.
    let options = SledOptions {
        generation_ids: 50,
        ..SledOptions::default()
    };
    SledStore::open_with(dir.path(), &options).expect("it is opened")
}
