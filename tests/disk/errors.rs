//! A call to the system fails, or the disk is full: at each change and at each sync, while a store is
//! made, opened again, at work, and closed. The coordinator ends within a second and says why; what it
//! had acknowledged is there when it is started again on a disk that works.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use super::{
    coordinator::{Coordinator, Ended},
    image::Image,
    journal::{Entry, Journal},
    load,
    long_run::{EvidenceFolder, setting},
    place::Place,
    power::Unsynced,
    recording::Recording,
    shim::{Fault, How, What},
    world::{Past, World},
};

const FAULTS_DEFAULT: usize = 40;
/// In one run.
const TRANSACTIONS: usize = 6;
const END_MAX: Duration = Duration::from_secs(1);

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const KINDS: [(What, i32, How); 8] = [
    (What::Change, EIO, How::Once),
    (What::Change, EIO, How::FromThenOn),
    (What::Change, ENOSPC, How::Once),
    (What::Change, ENOSPC, How::FromThenOn),
    (What::Change, ENOSPC, How::Short),
    (What::Sync, EIO, How::Once),
    (What::Sync, EIO, How::FromThenOn),
    (What::Sync, ENOSPC, How::FromThenOn),
];

#[tokio::test(flavor = "multi_thread")]
async fn the_first_error_of_the_disk_ends_the_coordinator_and_nothing_acknowledged_is_lost() {
    let count = setting("TERCET_FAULTS").map_or(FAULTS_DEFAULT, |it| it.try_into().unwrap());
    let started = Instant::now();
    let evidence = EvidenceFolder::new("errors");
    let place = Place::fresh(evidence.path(), Duration::ZERO).await;

    let none = (Image::default(), Past::new());
    let (first, cut_off) = undisturbed(&place, &none).await;
    let (second, _) = undisturbed(&place, &cut_off).await;
    let mut cases = Vec::new();
    for (image, calls) in [(&none, &first), (&cut_off, &second)] {
        for (what, error, how) in KINDS {
            let calls = if what == What::Sync {
                calls.syncs
            } else {
                calls.changes
            };
            cases.extend((0..calls).map(|nth| {
                let fault = Fault {
                    what,
                    nth,
                    error,
                    how,
                };
                (image, fault)
            }));
        }
    }
    let all = cases.len();
    Rng::with_seed(setting("TERCET_SEED").unwrap_or(1)).shuffle(&mut cases);
    cases.truncate(count);
    let mut slowest = Duration::ZERO;
    for (image, fault) in &cases {
        slowest = slowest.max(fails(&place, image, *fault).await);
    }
    println!(
        "{} of {all} faults in {:?}; the slowest end came after {slowest:?}",
        cases.len(),
        started.elapsed()
    );
    evidence.remove();
}

/// How many calls there are that can fail.
struct Calls {
    changes: u64,
    syncs: u64,
}

/// A whole run without a fault, and then the folder after a power cut while it was at work.
async fn undisturbed(place: &Place, (image, past): &(Image, Past)) -> (Calls, (Image, Past)) {
    let before = place.begin(image, past.clone());
    let mut coordinator = place.start(None).await.expect("it starts");
    work(place, &mut coordinator).await;
    let cut = place.now();
    coordinator.stop().await;
    let past = place.world.stop_recording();
    let mut calls = Calls {
        changes: 0,
        syncs: 0,
    };
    for (_, entry) in Journal::open(&place.journal) {
        match entry {
            Entry::SyncBegins { .. } => calls.syncs += 1,
            Entry::SyncEnded { .. } | Entry::Fault { .. } => {}
            _ => calls.changes += 1,
        }
    }
    let recording = Recording::finish(before, &place.folder, &place.journal);
    let image = recording
        .images(&[(recording.calls(cut), Unsynced::Partly(1))])
        .remove(0);
    (calls, (image, World::before(&past, cut)))
}

/// One run with a fault. Returns how long it took to end after it.
async fn fails(place: &Place, (image, past): &(Image, Past), fault: Fault) -> Duration {
    println!("{fault}"); // should it hang
    place.begin(image, past.clone());
    let ended = match place.start(Some(fault)).await {
        Err(ended) => ended,
        Ok(mut coordinator) => {
            work(place, &mut coordinator).await;
            coordinator.end().await
        }
    };
    let ended_at = SystemTime::now();
    let past = place.world.stop_recording();
    let mut journal = Journal::open(&place.journal);
    let failed = journal.find_map(|(_, entry)| match entry {
        Entry::Fault { unix_ms } => Some(UNIX_EPOCH + Duration::from_millis(unix_ms)),
        _ => None,
    });
    let mut took = Duration::ZERO;
    if let Some(failed_at) = failed {
        took = ended_at.duration_since(failed_at).unwrap_or_default();
        said_why(&ended, fault, failed_at);
        assert!(
            took <= END_MAX,
            "{fault}: it ended only after {took:?}: {}",
            ended.said
        );
    } else {
        assert_eq!(
            ended.code,
            Some(0),
            "{fault} was never reached: {}",
            ended.said
        );
    }
    place
        .goes_on(&Image::read(&place.folder), &past, &fault.to_string())
        .await;
    took
}

fn said_why(ended: &Ended, fault: Fault, failed_at: SystemTime) {
    let why = match fault.error {
        EIO => "Input/output error",
        _ => "No space left on device",
    };
    let said = &ended.said;
    assert!(said.contains(why), "{fault}: it did not say why: {said}");
    let bad_advice = said.contains("from a copy");
    assert!(!bad_advice, "{fault}: there is no damage: {said}");
    // Once all has ended in good order it only has to say so.
    let closing = ended.code == Some(0) && ended.asked.is_some_and(|asked| asked <= failed_at);
    assert!(
        ended.code == Some(1) || closing,
        "{fault}: {:?}: {said}",
        ended.code
    );
}

/// A few transactions, until they are done or the coordinator is.
async fn work(place: &Place, coordinator: &mut Coordinator) {
    let mut rng = Rng::with_seed(7);
    let name = format!("t{}", place.world.answers());
    let client = coordinator.client.clone();
    let sent = load::send(&place.world, &client, &name, TRANSACTIONS, &mut rng);
    tokio::select! {
        () = sent => {}
        () = coordinator.until_ended() => {}
    }
}
