//! `tercet store verify`, `export` and `import`, as library functions.

mod support;

use std::{io::Cursor as Bytes, path::Path, sync::Arc};

use support::{
    records::{commit, confirmed, fresh, fresh_with, id, tried},
    subject::{corrupt, meddle},
};
use tempfile::TempDir;
use tercet::store::{
    ExportError, ImportError, Imported, Listing, OpenError, Record, SledStore, Store, StoreError,
    Verified, export, import, verify,
};

#[tokio::test]
async fn a_sound_store_is_counted_and_left_as_it_is() {
    let dir = filled().await;
    let mut told = Vec::new();
    let verified = verify(dir.path(), &mut |records| told.push(records)).expect("it is read");
    assert_eq!(verified.problems, [""; 0]);
    assert!(verified.is_sound());
    assert_eq!((verified.records, verified.unfinished), (5, 4));
    assert_eq!((verified.boot, verified.epoch, verified.format), (1, 1, 3));
    assert!(verified.disk_bytes > 0);
    assert_eq!(told, [1, 2, 3, 4, 5]);
    assert_eq!(verify(dir.path(), &mut |_| {}).expect("again"), verified);
    let store = open(dir.path());
    assert_eq!(store.identity().boot, 2, "verifying is no start");
}

#[tokio::test]
async fn what_is_wrong_with_a_store_is_found() {
    type Change = fn(&sled::Db);
    let cases: [(Change, &str); 8] = [
        (
            |db| remove(db, b"U"),
            "is missing among the unfinished transactions",
        ),
        (|db| remove(db, b"B"), "is missing among the business keys"),
        (
            |db| remove(db, b"K"),
            "is missing among the finished transactions",
        ),
        (|db| remove(db, b"R"), "it is missing, but its id is there"),
        (|db| remove(db, b"P"), "it is missing, but its id is there"),
        (|db| remove(db, b"It4"), "in a pack where nobody finds it"),
        (
            |db| remove(db, b"I"),
            "4 records were found, but there should be 5",
        ),
        (
            |db| insert(db, b"U\0\0\0\0\0\0\0\x63"),
            "the database is not what was written",
        ),
    ];
    for (change, expected) in cases {
        let dir = filled().await;
        meddle(dir.path(), change);
        let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
        assert_found(&verified, expected);
        assert_found(&verified, "the database is not what was written");
    }
    let dir = filled().await;
    corrupt(dir.path(), &id("t3"));
    let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
    assert_found(&verified, "the record of transaction t3: its checksum is");
    assert_eq!(verified.records, 4);
}

#[tokio::test]
async fn an_export_imported_is_the_same_store_with_a_higher_epoch_and_boot() {
    let dir = filled().await;
    drop(open(dir.path())); // a second boot
    let mut bytes = Vec::new();
    let mut told = Vec::new();
    let exported = export(dir.path(), &mut bytes, &mut |records| told.push(records));
    let exported = exported.expect("it is exported");
    assert_eq!((exported.records, exported.left_out), (5, vec![]));
    assert_eq!(told, [1, 2, 3, 4, 5]);

    let other = directory();
    let original = open(dir.path());
    let imported = import(other.path(), &mut Bytes::new(&bytes), &mut |_| {});
    let expected = Imported {
        records: 5,
        realm: original.identity().realm.clone(),
        epoch: 2,
    };
    assert_eq!(imported.expect("it is imported"), expected);
    assert!(
        verify(other.path(), &mut |_| {})
            .expect("it is read")
            .is_sound()
    );

    let store = open(other.path());
    assert_eq!(store.identity().realm, original.identity().realm);
    assert_eq!(store.identity().epoch, 2);
    assert!(
        store.identity().boot > 2,
        "the boots in the export were 1 and 2"
    );
    assert_eq!(records(&store), records(&original), "in the same order");
    assert_eq!(store.outlived(99, 9), Ok(vec![id("t4")]));

    // The old store's records are below the new epoch.
    let stored = store
        .read(&id("t0"))
        .expect("it is read")
        .expect("it is there");
    let mut late = tried(&stored);
    late.epoch = 2;
    commit(&store, &late).await;
    let mut later = confirmed(&late, 5);
    later.epoch = 1;
    let refused = store.commit(Arc::new(later)).await;
    assert!(matches!(
        refused,
        Err(StoreError::Conflict { found: 2, .. })
    ));
}

#[tokio::test]
async fn a_boot_of_the_old_store_is_never_used_by_the_new_one() {
    let dir = filled().await;
    for _ in 0..5 {
        drop(open(dir.path()));
    }
    let other = directory();
    imported(&exported(&dir), &other).expect("it is imported");
    assert!(open(other.path()).identity().boot > 6);
}

#[tokio::test]
async fn an_import_goes_only_into_a_store_without_records() {
    let dir = filled().await;
    let bytes = exported(&dir);
    let other = filled().await;
    for used in [&dir, &other] {
        let before = records(&open(used.path()));
        let error = imported(&bytes, used).expect_err("it has records");
        assert!(
            matches!(error, ImportError::NotEmpty { records: 5, .. }),
            "{error}"
        );
        assert_eq!(records(&open(used.path())), before);
    }
    let empty = directory();
    drop(open(empty.path()));
    imported(&bytes, &empty).expect("a store without records takes it");
}

#[tokio::test]
async fn an_export_cut_anywhere_is_refused_and_never_looks_complete() {
    let bytes = exported(&filled().await);
    for cut in (0..bytes.len()).step_by(bytes.len() / 40) {
        let other = directory();
        let error = imported(&bytes[..cut], &other).expect_err("it is cut");
        assert!(matches!(error, ImportError::Damaged { .. }), "{error}");
        never_complete(&other);
    }
    // Between two items: after the last record, before the footer.
    let footer = bytes.len() - 27..bytes.len();
    let texts: Vec<_> = footer
        .map(|cut| {
            let other = directory();
            let error = imported(&bytes[..cut], &other).expect_err("it is cut");
            never_complete(&other);
            error.to_string()
        })
        .collect();
    let without_footer = "the export is damaged at record 6: it ends here, without a footer";
    assert!(
        texts.iter().any(|it| it.starts_with(without_footer)),
        "{texts:?}"
    );
}

#[tokio::test]
async fn an_export_with_a_flipped_bit_is_refused_with_the_record_named() {
    let bytes = exported(&filled().await);
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut bad = bytes.clone();
        bad[at] ^= 4;
        let other = directory();
        let error = imported(&bad, &other).expect_err("it is damaged");
        let ImportError::Damaged { record, .. } = error else {
            panic!("{error}");
        };
        assert!(record <= 6);
        never_complete(&other);
    }
    let mut doubled = bytes.clone();
    doubled.extend_from_slice(&bytes);
    let error = imported(&doubled, &directory()).expect_err("something follows");
    assert!(
        error.to_string().contains("something follows the footer"),
        "{error}"
    );
    let error = imported(b"#!/bin/sh\n", &directory()).expect_err("no export");
    assert!(error.to_string().contains("damaged at record 0"), "{error}");
}

#[tokio::test]
async fn corrupt_records_are_left_out_by_name() {
    let dir = filled().await;
    corrupt(dir.path(), &id("t2"));
    let mut bytes = Vec::new();
    let exported = export(dir.path(), &mut bytes, &mut |_| {}).expect("it is exported");
    assert_eq!(exported.records, 4);
    assert_eq!(exported.left_out.len(), 1);
    assert_eq!(exported.left_out[0].id, Some(id("t2")));
    let other = directory();
    imported(&bytes, &other).expect("the rest is whole");
    assert_eq!(records(&open(other.path())).len(), 4);
}

#[tokio::test]
async fn tools_need_a_store_that_nobody_uses() {
    let dir = filled().await;
    let store = open(dir.path());
    let error = verify(dir.path(), &mut |_| {}).expect_err("it is in use");
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    let error = export(dir.path(), &mut Vec::new(), &mut |_| {}).expect_err("it is in use");
    assert!(
        matches!(error, ExportError::Store(OpenError::InUse(_))),
        "{error}"
    );
    drop(store);

    let nothing = directory().path().join("nothing");
    let error = verify(&nothing, &mut |_| {}).expect_err("there is none");
    assert!(matches!(error, OpenError::Absent(_)), "{error}");
    assert!(!nothing.exists(), "looking makes no store");
}

#[tokio::test]
async fn an_export_that_cannot_be_written_says_so() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let dir = filled().await;
    let error = export(dir.path(), &mut Full, &mut |_| {}).expect_err("it is full");
    assert!(matches!(error, ExportError::Write(_)), "{error}");
}

/// Five records: t4 is finished and kept until 7; t3 has 100 KiB.
async fn filled() -> TempDir {
    let dir = directory();
    let store = open(dir.path());
    for number in 0..4 {
        let payload = vec![7; [1, 10, 100, 100_000][number]];
        commit(
            &store,
            &fresh_with(&store, &format!("t{number}"), "key", &payload),
        )
        .await;
    }
    let first = fresh(&store, "t4");
    commit(&store, &first).await;
    let second = tried(&first);
    commit(&store, &second).await;
    commit(&store, &confirmed(&second, 7)).await;
    dir
}

fn exported(dir: &TempDir) -> Vec<u8> {
    let mut bytes = Vec::new();
    export(dir.path(), &mut bytes, &mut |_| {}).expect("it is exported");
    bytes
}

fn imported(bytes: &[u8], dir: &TempDir) -> Result<Imported, ImportError> {
    import(dir.path(), &mut Bytes::new(bytes), &mut |_| {})
}

/// Either nothing was begun, or the directory is refused.
fn never_complete(dir: &TempDir) {
    if dir.path().join("tercet.store").exists() {
        let error = SledStore::open(dir.path()).expect_err("it is half-imported");
        assert!(matches!(error, OpenError::HalfImported(_)), "{error}");
    }
}

fn records(store: &SledStore) -> Vec<Arc<Record>> {
    let found = store.list(&Listing::All, None, 99).expect("they are read");
    found.into_iter().map(|(_, record)| record).collect()
}

fn remove(db: &sled::Db, prefix: &[u8]) {
    let (key, _) = db
        .scan_prefix(prefix)
        .next()
        .expect("there is one")
        .expect("it is read");
    db.remove(key).expect("it is removed");
}

fn insert(db: &sled::Db, key: &[u8]) {
    db.insert(key, b"12345678stray").expect("it is written");
}

fn assert_found(verified: &Verified, problem: &str) {
    let found = verified.problems.iter().any(|it| it.contains(problem));
    assert!(found, "{problem:?} is not among {:?}", verified.problems);
    assert!(!verified.is_sound());
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn open(dir: &Path) -> SledStore {
    SledStore::open(dir).expect("it is opened")
}
