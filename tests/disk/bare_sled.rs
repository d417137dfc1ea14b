//! The controls: sled as it comes, without what the store does around it, in the same harness. A check
//! that finds no loss here would find none anywhere.
//!
//! The programs are this test, started again in processes of their own. They put one record after the
//! other and say so on their output once each counts as durable; the test notes how long the journal was
//! then.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use fastrand::Rng;

use super::{
    power::{Disk, Unsynced},
    recording::Recording,
    shim::Shim,
};

/// Set in the environment of such a program: the folder, and what it does, parted by a space.
const ROLE: &str = "DISK_BARE_SLED";

const RECORDS: u64 = 400;
const CUTS: usize = 20;

/// How a program makes a record durable, or believes it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    /// `flush`, as sled's documentation has it.
    Flush,
    /// And an `fdatasync` of its file, but with segments of the default size.
    SyncSmallSegments,
    /// With the store's size: what the store relies on.
    Sync,
}

impl Manner {
    const ALL: [Self; 3] = [Self::Flush, Self::SyncSmallSegments, Self::Sync];

    fn config(self, folder: &Path) -> sled::Config {
        let segment_bytes = match self {
            Self::SyncSmallSegments => 512 * 1024,
            Self::Flush | Self::Sync => 8 * 1024 * 1024,
        };
        let config = sled::Config::new().path(folder).flush_every_ms(None);
        config.segment_size(segment_bytes)
    }
}

#[test]
fn sled_with_flush_alone_loses_what_it_acknowledged() {
    assert!(lost(Manner::Flush, 600) > 0, "the harness finds no loss");
}

#[test]
fn sled_with_segments_of_the_default_size_loses_large_values() {
    assert_eq!(lost(Manner::SyncSmallSegments, 600), 0, "only large ones");
    assert!(
        lost(Manner::SyncSmallSegments, 32 * 1024) > 0,
        "the harness finds no loss"
    );
}

#[test]
fn sled_as_the_store_uses_it_loses_nothing() {
    for value_bytes in [600, 32 * 1024] {
        assert_eq!(
            lost(Manner::Sync, value_bytes),
            0,
            "{value_bytes} bytes each"
        );
    }
}

/// No test by itself: those above start it.
#[test]
fn a_program_on_bare_sled_when_asked_to_be_one() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let [folder, manner, value_bytes] = role.split(' ').collect::<Vec<_>>()[..] else {
        panic!("{ROLE}={role}: FOLDER MANNER BYTES");
    };
    let manner = Manner::ALL
        .into_iter()
        .find(|it| format!("{it:?}") == manner);
    put(
        Path::new(folder),
        manner.unwrap(),
        value_bytes.parse().unwrap(),
    );
}

fn put(folder: &Path, manner: Manner, value_bytes: usize) {
    let db = manner.config(folder).open().unwrap();
    let file = std::fs::File::open(folder.join("db")).unwrap();
    db.flush().unwrap();
    for path in [
        folder,
        &folder.join("conf"),
        &folder.join("blobs"),
        &folder.join("db"),
    ] {
        std::fs::File::open(path).unwrap().sync_all().unwrap();
    }
    for number in 0..RECORDS {
        db.insert(number.to_be_bytes(), value(number, value_bytes))
            .unwrap();
        db.flush().unwrap();
        if manner != Manner::Flush {
            file.sync_data().unwrap();
        }
        println!("\nacknowledged {number}");
        std::io::stdout().flush().unwrap();
    }
}

fn value(number: u64, bytes: usize) -> Vec<u8> {
    let mut rng = Rng::with_seed(number);
    std::iter::repeat_with(|| rng.u8(..)).take(bytes).collect()
}

/// How many records were acknowledged before a cut and are gone after it, over some cuts.
fn lost(manner: Manner, value_bytes: usize) -> usize {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("disk");
    std::fs::create_dir(&folder).unwrap();
    let folder = folder.canonicalize().unwrap();
    let journal = temporary.path().join("journal");
    let before = Disk::of(&folder);
    let acknowledged = run(&folder, &journal, manner, value_bytes);
    let recording = Recording::finish(before, &folder, &journal);

    let mut rng = Rng::with_seed(1);
    let first = recording.calls(acknowledged[0]);
    let cuts = std::iter::repeat_with(|| rng.usize(first..=recording.len()));
    let kind = |number: usize| match number % 2 {
        0 => Unsynced::Gone,
        _ => Unsynced::Partly(number as u64),
    };
    let mut cuts: Vec<_> = cuts
        .take(CUTS)
        .enumerate()
        .map(|(number, calls)| (calls, kind(number)))
        .collect();
    cuts.sort_by_key(|(calls, _)| *calls);
    let (mut lost, mut counted) = (0, 0);
    for (image, (calls, _)) in recording.images(&cuts).iter().zip(&cuts) {
        let place = recording.place(*calls);
        let expected = acknowledged.partition_point(|at| *at <= place);
        image.write(&folder);
        counted += expected;
        lost += expected - found(&folder, manner, value_bytes, expected);
    }
    println!("{manner:?} with {value_bytes} bytes each: {lost} of {counted} lost over {CUTS} cuts");
    lost
}

/// The journal's length at each acknowledgement.
fn run(folder: &Path, journal: &Path, manner: Manner, value_bytes: usize) -> Vec<u64> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([
        "bare_sled::a_program_on_bare_sled_when_asked_to_be_one",
        "--exact",
        "--nocapture",
    ]);
    command.env(
        ROLE,
        format!("{} {manner:?} {value_bytes}", folder.display()),
    );
    let shim = Shim {
        folder: folder.to_owned(),
        journal: journal.to_owned(),
        sync: Duration::ZERO,
        fault: None,
    };
    shim.preload(&mut command);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let heard = lines
        .map(Result::unwrap)
        .filter(|line| line.starts_with("acknowledged "));
    let places: Vec<_> = heard
        .map(|_| std::fs::metadata(journal).unwrap().len())
        .collect();
    assert!(child.wait().unwrap().success());
    assert_eq!(places.len() as u64, RECORDS);
    places
}

/// How many of the first records are there. A database that can't be opened, or read, has none.
fn found(folder: &Path, manner: Manner, value_bytes: usize, first: usize) -> usize {
    let read = AssertUnwindSafe(|| {
        let db = manner.config(folder).open().ok()?;
        let whole = |number: &u64| {
            let stored = db.get(number.to_be_bytes()).ok().flatten();
            stored.is_some_and(|stored| stored == value(*number, value_bytes))
        };
        Some((0..first as u64).filter(whole).count())
    });
    catch_unwind(read).ok().flatten().unwrap_or(0)
}
