//! What only the store on sled has: files, and everything that may happen to them.

mod support;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use support::{
    records::{commit, confirmed, fresh, fresh_with, id, tried},
    sidecar::{CLOSED, CREATING, IMPORTING, OPEN, Sidecar},
};
use tempfile::TempDir;
use tercet::store::{OpenError, Record, SledOptions, SledStore, Store, StoreError, verify};

const RECORDS: usize = 40;

#[test]
fn a_new_store_has_a_realm_of_its_own_and_keeps_it() {
    let (one, other) = (directory(), directory());
    let first = open(&one).identity().clone();
    assert_eq!((first.epoch, first.boot), (1, 1));
    assert_ne!(open(&other).identity().realm, first.realm);
    let second = open(&one).identity().clone();
    assert_eq!((second.realm, second.boot), (first.realm, 2));
}

#[test]
fn a_directory_is_made_with_its_parents() {
    let dir = directory();
    let nested = dir.path().join("a").join("b");
    drop(SledStore::open(&nested).expect("it is made"));
    assert!(nested.join("db").exists());
}

#[test]
fn a_second_coordinator_on_the_same_directory_is_turned_away() {
    let dir = directory();
    let first = open(&dir);
    let error = refused(&dir);
    assert!(matches!(error, OpenError::InUse(_)), "{error}");
    assert!(
        error
            .to_string()
            .starts_with("another coordinator is using ")
    );
    drop(first);
    drop(open(&dir));
}

#[test]
fn what_is_no_directory_or_cannot_be_written_is_named() {
    let dir = directory();
    let file = dir.path().join("file");
    fs::write(&file, "").expect("it is written");
    for path in [file.clone(), file.join("below")] {
        let error = SledStore::open(&path).expect_err("it is a file");
        let OpenError::Io { path: named, .. } = &error else {
            panic!("{error}");
        };
        assert!(named.starts_with(&file), "{error}");
    }
    let unlockable = directory();
    fs::create_dir(unlockable.path().join("tercet.lock")).expect("it is made");
    let error = refused(&unlockable).to_string();
    assert!(
        error.contains("tercet.lock") && error.contains("writable"),
        "{error}"
    );
}

#[test]
fn a_directory_with_other_files_is_left_alone() {
    let dir = directory();
    fs::write(dir.path().join("thesis.txt"), "years").expect("it is written");
    let error = refused(&dir);
    assert!(matches!(error, OpenError::Foreign(_)), "{error}");
    assert!(!dir.path().join("db").exists());
    assert!(!dir.path().join("tercet.store").exists());
}

#[test]
fn a_newer_format_is_refused_with_both_ways_out() {
    let dir = filled();
    meddle(&dir, |sidecar| sidecar.format = 4);
    let error = refused(&dir).to_string();
    assert!(
        error.contains("has store format 4") && error.contains("export"),
        "{error}"
    );
}

#[test]
fn a_missing_sidecar_is_not_made_anew() {
    let dir = filled();
    fs::remove_file(dir.path().join("tercet.store")).expect("it is removed");
    let error = refused(&dir).to_string();
    assert!(
        error.contains("tercet.store: it is missing beside a database"),
        "{error}"
    );
    assert!(error.contains("import"), "{error}");
}

#[test]
fn any_damage_to_the_sidecar_is_noticed() {
    let dir = filled();
    let path = dir.path().join("tercet.store");
    let good = fs::read(&path).expect("it is read");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, bad).expect("it is written");
        let error = refused(&dir);
        assert!(matches!(&error, OpenError::Damaged { path: named, .. } if *named == path));
    }
    for len in [0, 1, 8, 9, good.len() - 1] {
        fs::write(&path, &good[..len]).expect("it is written");
        assert!(
            matches!(refused(&dir), OpenError::Damaged { .. }),
            "{len} bytes"
        );
    }
    fs::write(&path, good).expect("it is written");
    assert_whole(&dir);
}

#[test]
fn a_lost_emptied_or_truncated_database_is_never_taken_for_a_new_one() {
    for clean in [true, false] {
        let dir = filled();
        if !clean {
            meddle(&dir, |sidecar| sidecar.phase = OPEN);
        }
        let db = dir.path().join("db");
        let good = fs::read(&db).expect("it is read");
        let mut lengths = vec![0, 1, 4096, good.len() / 100, good.len() / 2];
        lengths.push(last_used(&good) - 10);
        for len in lengths {
            let copy = copy(&dir);
            let file = File::options().write(true).open(copy.path().join("db"));
            let file = file.expect("it is opened");
            file.set_len(len as u64).expect("it is cut");
            whole_or_refused(&self::copy(&copy)); // what the journal has makes up for it
            for path in files(&copy, |name| name.starts_with("tercet.journal.")) {
                fs::remove_file(path).expect("it is removed");
            }
            let error = refused(&copy).to_string();
            assert!(
                error.contains(&*copy.path().join("db").to_string_lossy()),
                "{error}"
            );
            assert!(error.contains("bring back the whole directory"), "{error}");
        }
        fs::remove_file(&db).expect("it is removed");
        let error = refused(&dir).to_string();
        assert!(error.contains("db: it is missing"), "{error}");
    }
}

#[test]
fn a_lost_database_is_noticed_without_its_snapshot_too() {
    let dir = filled();
    for path in files(&dir, |name| name.starts_with("snap.") || name == "db") {
        fs::remove_file(path).expect("it is removed");
    }
    File::create(dir.path().join("db")).expect("it is made");
    let error = refused(&dir).to_string();
    assert!(
        error.contains("it is empty, but the store had reached batch"),
        "{error}"
    );
}

#[test]
fn the_database_of_another_store_is_refused() {
    let (dir, other) = (filled(), filled());
    replace_database(&dir, &other);
    let error = refused(&dir).to_string();
    assert!(error.contains("the database belongs to store "), "{error}");
}

#[tokio::test]
async fn an_older_copy_of_the_database_is_refused() {
    // From before the last start, although the last run wrote nothing.
    let dir = filled();
    let old = copy(&dir);
    drop(open(&dir));
    replace_database(&dir, &old);
    let error = refused(&dir).to_string();
    assert!(
        error.contains("an older copy: it was opened 1 times, the store 2"),
        "{error}"
    );

    // From the same run, after a clean shutdown: the journal has what is missing, or it is noticed.
    let dir = directory();
    let store = open(&dir);
    commit(&store, &fresh(&store, "a")).await;
    let old = copy(&dir);
    commit(&store, &fresh(&store, "b")).await;
    drop(store);
    replace_database(&dir, &old);
    let without = copy(&dir);
    let store = open(&dir);
    assert!(store.read(&id("a")).is_ok_and(|it| it.is_some()));
    assert!(store.read(&id("b")).is_ok_and(|it| it.is_some()));
    for path in files(&without, |name| name.starts_with("tercet.journal.")) {
        fs::remove_file(path).expect("it is removed");
    }
    let error = refused(&without).to_string();
    assert!(
        error.contains("end with batch 1, but the store had reached batch 3"),
        "{error}"
    );
}

#[test]
fn an_older_copy_of_the_sidecar_is_refused() {
    let dir = filled();
    let old = copy(&dir);
    drop(open(&dir));
    drop(open(&dir));
    let sidecar = "tercet.store";
    fs::copy(old.path().join(sidecar), dir.path().join(sidecar)).expect("it is copied");
    let error = refused(&dir).to_string();
    assert!(error.contains("the sidecar is an older copy"), "{error}");
}

#[test]
fn a_crash_between_the_two_files_of_a_start_is_survived_and_its_boot_not_used_again() {
    let dir = filled();
    let before = copy(&dir);
    drop(open(&dir));
    let sidecar = "tercet.store";
    fs::copy(before.path().join(sidecar), dir.path().join(sidecar)).expect("it is copied");
    assert_eq!(open(&dir).identity().boot, 3);
    assert_whole(&dir);
}

#[test]
fn an_interrupted_creation_is_finished() {
    let dir = directory();
    drop(open(&dir));
    for path in files(&dir, |name| !name.starts_with("tercet.") && name != "blobs") {
        fs::remove_file(path).expect("it is removed");
    }
    meddle(&dir, |sidecar| {
        sidecar.phase = CREATING;
        sidecar.mark = 0;
        sidecar.boot = 0;
    });
    let realm = Sidecar::load(dir.path()).realm;
    assert_eq!(open(&dir).identity().realm.as_str(), realm);
}

/// A power loss or a full disk may leave any part of what sled writes first, and some of it sled
/// refuses.
#[test]
fn what_an_interrupted_creation_has_left_is_made_anew() {
    let made = directory();
    drop(open(&made));
    meddle(&made, |sidecar| {
        sidecar.phase = CREATING;
        sidecar.mark = 0;
        sidecar.boot = 0;
    });
    for name in ["conf", "db"] {
        let good = fs::read(made.path().join(name)).expect("it is read");
        for len in (0..good.len().min(100)).step_by(9) {
            for torn in [good[..len].to_vec(), vec![0; len]] {
                let dir = copy(&made);
                fs::write(dir.path().join(name), torn).expect("it is written");
                drop(open(&dir));
                drop(open(&dir));
            }
        }
    }
}

#[test]
fn an_interrupted_import_is_refused() {
    let dir = filled();
    meddle(&dir, |sidecar| sidecar.phase = IMPORTING);
    let error = refused(&dir);
    assert!(matches!(error, OpenError::HalfImported(_)), "{error}");
}

#[test]
fn a_snapshot_that_was_never_finished_is_removed() {
    let dir = filled();
    let leftover = dir.path().join("snap.0000000000000042.generating");
    fs::write(&leftover, "half").expect("it is written");
    assert_whole(&dir);
    assert!(!leftover.exists());
}

#[test]
fn a_damaged_snapshot_loses_nothing() {
    for damage in [Vec::new(), b"not a snapshot".to_vec()] {
        let dir = filled();
        for path in files(&dir, |name| name.starts_with("snap.")) {
            fs::write(path, &damage).expect("it is written");
        }
        whole_or_refused(&dir);
    }
}

#[test]
fn a_file_in_blobs_is_a_broken_store() {
    let dir = filled();
    fs::write(dir.path().join("blobs").join("7"), "x").expect("it is written");
    let error = refused(&dir).to_string();
    assert!(error.contains("blobs"), "{error}");
}

#[test]
fn opening_that_takes_too_long_is_given_up() {
    let dir = filled();
    let options = SledOptions {
        open_timeout: Duration::ZERO,
        ..SledOptions::default()
    };
    let error = SledStore::open_with(dir.path(), &options).expect_err("no time");
    assert!(matches!(error, OpenError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_crash_keeps_all_that_was_acknowledged() {
    let dir = directory();
    let store = open(&dir);
    for number in 0..RECORDS {
        commit(&store, &record(&store, number)).await;
    }
    let crashed = copy(&dir);
    assert_eq!(Sidecar::load(crashed.path()).phase, OPEN);
    assert_whole(&crashed);
}

#[tokio::test]
async fn a_tail_that_is_lost_after_a_crash_of_the_process_is_noticed() {
    let dir = directory();
    let store = open(&dir);
    for number in 0..RECORDS {
        commit(&store, &record(&store, number)).await;
    }
    let crashed = copy(&dir);
    assert!(
        Sidecar::load(crashed.path()).mark < RECORDS as u64,
        "far behind"
    );
    let journal = &files(&crashed, |name| name.starts_with("tercet.journal."))[0];
    let mut bytes = fs::read(journal).expect("it is read");
    let used = last_used(&bytes);
    bytes.truncate(used - 10);
    fs::write(journal, &bytes).expect("it is cut");
    let error = refused(&crashed).to_string();
    assert!(error.contains("but had come to"), "{error}");

    // Without the trace, or with a torn one, the sidecar has to do.
    let trace = crashed.path().join("tercet.trace");
    let torn = fs::read(&trace).expect("it is read")[..20].to_vec();
    fs::write(&trace, torn).expect("it is written");
    drop(open(&crashed));
}

#[tokio::test]
async fn the_mark_is_exact_after_a_clean_shutdown_and_soon_when_idle() {
    let dir = directory();
    let store = open(&dir);
    for number in 0..5 {
        commit(&store, &record(&store, number)).await;
    }
    let exact = 1 + 5; // created, committed
    let waiting = std::time::Instant::now();
    while Sidecar::load(dir.path()).mark < exact {
        assert!(
            waiting.elapsed() < Duration::from_secs(30),
            "it stays behind"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    commit(&store, &record(&store, 5)).await;
    drop(store);
    let sidecar = Sidecar::load(dir.path());
    assert_eq!((sidecar.mark, sidecar.phase), (exact + 1, CLOSED));
}

/// Records go on from revision to revision while others, and they themselves, are settled.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_settles_under_load_is_sound() {
    let dir = directory();
    let store = Arc::new(open(&dir));
    let each = |client: usize| {
        let store = Arc::clone(&store);
        async move {
            for number in 0..30 {
                let payload = vec![client as u8; 20_000];
                let name = format!("t{client}-{number}");
                let first = fresh_with(&*store, &name, "key", &payload);
                let second = tried(&first);
                let last = confirmed(&second, number);
                for record in [first, second, last] {
                    commit(&*store, &record).await;
                }
            }
        }
    };
    let clients = (0..64).map(|client| tokio::spawn(each(client)));
    futures::future::try_join_all(clients)
        .await
        .expect("all are acknowledged");
    let journals = files(&dir, |name| {
        name.starts_with("tercet.journal.0000000000000001")
    });
    assert!(journals.is_empty(), "its first segment was settled");
    drop(store);
    let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
    assert_eq!(verified.problems, [""; 0]);
    assert_eq!((verified.records, verified.unfinished), (64 * 30, 0));
}

#[tokio::test]
async fn large_payloads_go_into_no_file_of_their_own() {
    let dir = directory();
    let store = open(&dir);
    let sizes = [1024, 64, 64, 64, 33, 1, 64, 64, 64, 64];
    let records: Vec<_> = (0..150)
        .map(|number| {
            let payload = vec![number as u8; sizes[number % sizes.len()] * 1024];
            fresh_with(&store, &format!("t{number}"), "", &payload)
        })
        .collect();
    let seconds: Vec<_> = records.iter().map(tried).collect();
    for round in [&records, &seconds] {
        let commits = round.iter().map(|it| store.commit(Arc::new(it.clone())));
        futures::future::try_join_all(commits)
            .await
            .expect("all are acknowledged");
    }
    assert!(files_in(&dir.path().join("blobs")).is_empty());
    drop(store);
    let store = open(&dir);
    for record in seconds {
        assert_eq!(store.read(&record.id), Ok(Some(Arc::new(record))));
    }
}

fn directory() -> TempDir {
    TempDir::new().expect("a temporary directory")
}

fn open(dir: &TempDir) -> SledStore {
    SledStore::open(dir.path()).expect("it is opened")
}

fn refused(dir: &TempDir) -> OpenError {
    SledStore::open(dir.path()).expect_err("it is refused")
}

/// A store with [`RECORDS`] records, closed.
fn filled() -> TempDir {
    let dir = directory();
    let store = open(&dir);
    let records = (0..RECORDS).map(|number| record(&store, number));
    let commits: Vec<_> = records.map(|it| store.commit(Arc::new(it))).collect();
    let all = futures::future::try_join_all(commits);
    futures::executor::block_on(all).expect("all are acknowledged");
    dir
}

fn record(store: &dyn Store, number: usize) -> Record {
    let payload = vec![number as u8; number * 100];
    Record {
        boot: 1,
        ..fresh_with(store, &format!("t{number}"), "key", &payload)
    }
}

fn assert_whole(dir: &TempDir) {
    let store = open(dir);
    for number in 0..RECORDS {
        let expected = record(&store, number);
        assert_eq!(store.read(&expected.id), Ok(Some(Arc::new(expected))));
    }
    assert_eq!(
        store.unfinished(None, 999).expect("they are read").len(),
        RECORDS
    );
}

/// Whatever was done to the files: either the store says so, or everything is there.
fn whole_or_refused(dir: &TempDir) {
    let Ok(store) = SledStore::open(dir.path()) else {
        return;
    };
    for number in 0..RECORDS {
        let expected = record(&store, number);
        match store.read(&expected.id) {
            Ok(found) => assert_eq!(found, Some(Arc::new(expected))),
            Err(StoreError::Corrupt { .. } | StoreError::Broken(_)) => return,
            Err(error @ StoreError::Conflict { .. }) => panic!("{error}"),
        }
    }
}

fn meddle(dir: &TempDir, change: impl FnOnce(&mut Sidecar)) {
    let mut sidecar = Sidecar::load(dir.path());
    change(&mut sidecar);
    sidecar.save(dir.path());
}

fn replace_database(dir: &TempDir, with: &TempDir) {
    for path in files(dir, |name| name.starts_with("snap.") || name == "db") {
        fs::remove_file(path).expect("it is removed");
    }
    for path in files(with, |name| name.starts_with("snap.") || name == "db") {
        let name = path.file_name().expect("it has a name");
        fs::copy(&path, dir.path().join(name)).expect("it is copied");
    }
}

/// All files as they are, also of a store that is open: what a crash of its process leaves.
fn copy(dir: &TempDir) -> TempDir {
    let copy = directory();
    fs::create_dir(copy.path().join("blobs")).expect("it is made");
    for path in files(dir, |name| name != "blobs") {
        let name = path.file_name().expect("it has a name");
        fs::copy(&path, copy.path().join(name)).expect("it is copied");
    }
    copy
}

fn files(dir: &TempDir, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut files = files_in(dir.path());
    files.retain(|path| {
        let name = path.file_name().expect("it has a name");
        wanted(&name.to_string_lossy())
    });
    files
}

fn files_in(dir: &Path) -> Vec<PathBuf> {
    let entries = dir.read_dir().expect("it is read");
    entries.map(|it| it.expect("it is read").path()).collect()
}

/// How much of the file holds anything.
fn last_used(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1)
}
