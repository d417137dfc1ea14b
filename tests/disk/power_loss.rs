//! The power goes at any call to the system, again and again: nothing acknowledged is lost, nothing
//! said is taken back, and everything unfinished goes on.

use std::{
    fmt,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::time::timeout;

use super::{
    image::Image,
    load::Load,
    long_run::{EvidenceFolder, setting},
    place::{PATIENCE, Place},
    power::Unsynced,
    recording::Recording,
    shim::{Fault, How, What},
    world::{Past, World},
};

const CUTS_DEFAULT: usize = 20;
/// Answers that clients hear, for each cut.
const ANSWERS_DEFAULT: usize = 200;
const ANSWERS_OF_A_LONG_RUN: usize = 500;
/// A store is cut so often, and goes on from what a cut has left; then comes a new one.
const RECORDINGS_OF_A_STORE: usize = 2;
const CUTS_OF_A_RECORDING: usize = 5;
/// How long a sync takes: what is acknowledged before its end is heard of before its end.
const SYNC: Duration = Duration::from_millis(1);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_every_power_cut() {
    let cuts = setting("TERCET_CUTS").map_or(CUTS_DEFAULT, |it| it.try_into().unwrap());
    let seed = setting("TERCET_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    let started = Instant::now();
    let evidence = EvidenceFolder::new("power");
    println!(
        "TERCET_SEED={seed} TERCET_CUTS={cuts} in {}",
        evidence.path().display()
    );
    let place = Place::fresh(evidence.path(), SYNC).await;
    let answers = if cuts > CUTS_DEFAULT {
        ANSWERS_OF_A_LONG_RUN
    } else {
        ANSWERS_DEFAULT
    };
    let mut tally = Tally::default();
    while tally.cuts < cuts {
        let (mut image, mut past) = (Image::default(), Past::new());
        for number in 0..RECORDINGS_OF_A_STORE {
            let name = format!("r{number}");
            let answers = answers * CUTS_OF_A_RECORDING;
            let recorded = record(&place, &image, past, &name, answers, None, &mut rng).await;
            tally.answers += recorded.answers;
            (image, past) = cut(&place, &recorded, &mut tally, &mut rng).await;
        }
        println!("{tally} after {:?}", started.elapsed());
    }
    evidence.remove();
}

/// What a start finds is what an earlier one had left, which was cut off at the same place.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_may_be_cut_off_after_any_sync_and_the_next_one_again() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(folder.path(), Duration::ZERO).await;
    let mut rng = Rng::with_seed(1);
    let none = (Image::default(), Past::new());
    let made = record(&place, &none.0, none.1.clone(), "r", 20, None, &mut rng).await;
    let end = (made.recording.len(), Unsynced::Gone);
    let closed = (made.recording.images(&[end]).remove(0), made.past.clone());
    for (image, past) in [none, closed] {
        for sync in 0.. {
            let (mut left, mut cut_off) = (image.clone(), 0);
            for _ in 0..2 {
                let before = place.begin(&left, past.clone());
                let started = place.start(None).await;
                let listening = place.now();
                let how = format!("cut off after sync {sync}, {cut_off} times");
                started
                    .unwrap_or_else(|it| panic!("{how}: {}", it.said))
                    .stop()
                    .await;
                let recording = Recording::finish(before, &place.folder, &place.journal);
                let calls = recording.synced.get(sync).copied();
                let calls = calls.filter(|calls| *calls < recording.calls(listening));
                if let Some(calls) = calls {
                    left = recording.images(&[(calls, Unsynced::Gone)]).remove(0);
                    cut_off += 1;
                }
            }
            if cut_off == 0 {
                break;
            }
            place
                .goes_on(
                    &left,
                    &past,
                    &format!("two starts cut off after sync {sync}"),
                )
                .await;
        }
    }
}

/// What a process that was killed had written and not synced is there for the next one, and gone when the
/// power goes then.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_after_a_kill_may_be_cut_off_after_any_sync() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(folder.path(), Duration::ZERO).await;
    let mut rng = Rng::with_seed(1);
    let none = (Image::default(), Past::new());
    let worked = record(&place, &none.0, none.1, "r", 20, None, &mut rng).await;
    // Before a sync has ended, most is at stake: while it works, and while it moves all into the database.
    let syncs = worked.recording.synced.iter();
    let (working, closing): (Vec<_>, Vec<_>) = syncs
        .map(|calls| calls - 1)
        .filter(|calls| *calls >= worked.listening)
        .partition(|calls| *calls < worked.ending);
    let kills = working.into_iter().rev().take(1);
    let kills = kills.chain(closing.into_iter().take(2));
    let left = kills.map(|killed| {
        let past = World::before(&worked.past, worked.recording.place(killed));
        (killed, worked.recording.disk(killed), past)
    });
    // Now, because the next recording takes this one's place.
    for (killed, disk, past) in left.collect::<Vec<_>>() {
        let before = place.begin_killed(disk, past.clone());
        let started = place.start(None).await;
        let listening = place.now();
        started.expect("a kill is survived").stop().await;
        let started = Recording::finish(before, &place.folder, &place.journal);
        let listening = started.calls(listening);
        let cuts = started.synced.iter().filter(|calls| **calls < listening);
        let cuts: Vec<_> = cuts.map(|calls| (*calls, Unsynced::Gone)).collect();
        for (image, (calls, _)) in started.images(&cuts).iter().zip(&cuts) {
            let how = format!("killed after {killed} calls, cut off after {calls} of the next");
            place.goes_on(image, &past, &how).await;
        }
    }
}

/// The control: what is acknowledged after the disk has begun to lie is lost, and that is seen.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_lies_about_its_syncs_is_found_out() {
    let folder = tempfile::tempdir().unwrap();
    let place = Place::fresh(folder.path(), SYNC).await;
    let lie = Fault {
        what: What::Sync,
        nth: 60,
        error: 0,
        how: How::FromThenOn,
    };
    let none = (Image::default(), Past::new());
    let mut rng = Rng::with_seed(1);
    let recorded = record(&place, &none.0, none.1, "r", 500, Some(lie), &mut rng).await;
    let cut = (recorded.ending, Unsynced::Gone);
    let image = recorded.recording.images(&[cut]).remove(0);
    let place_of_cut = recorded.recording.place(recorded.ending);
    let past = World::before(&recorded.past, place_of_cut);
    let judged = tokio::spawn(async move { place.goes_on(&image, &past, "a lie").await });
    let panic = judged.await.expect_err("nothing was lost").into_panic();
    let found = panic.downcast::<String>().unwrap();
    assert!(found.contains("S1 is broken"), "{found}");
}

/// A coordinator's life from its start to its end, and what it means.
struct Recorded {
    recording: Recording,
    past: Past,
    answers: usize,
    /// How many calls had been made when it listened, and when it was asked to end.
    listening: usize,
    ending: usize,
}

/// Lets a coordinator work until clients have heard so many answers more.
async fn record(
    place: &Place,
    image: &Image,
    past: Past,
    name: &str,
    answers: usize,
    fault: Option<Fault>,
    rng: &mut Rng,
) -> Recorded {
    let before = place.begin(image, past);
    let coordinator = place
        .start(fault)
        .await
        .expect("a store that was cut off goes on");
    let listening = place.now();
    let had = place.world.answers();
    let load = Load::start(&place.world, &coordinator.client, name, rng);
    let enough = timeout(PATIENCE, place.world.until_answers(had + answers)).await;
    enough.unwrap_or_else(|_| panic!("{} of {answers} answers", place.world.answers() - had));
    let ending = place.now();
    coordinator.stop().await;
    load.stop().await;
    let answers = place.world.answers() - had;
    let past = place.world.stop_recording();
    let recording = Recording::finish(before, &place.folder, &place.journal);
    Recorded {
        past,
        answers,
        listening: recording.calls(listening),
        ending: recording.calls(ending),
        recording,
    }
}

/// Cuts a recording some times. Returns what one of the cuts has left, and what was before it.
async fn cut(
    place: &Place,
    recorded: &Recorded,
    tally: &mut Tally,
    rng: &mut Rng,
) -> (Image, Past) {
    let calls_made = recorded.recording.len();
    tally.calls += calls_made;
    let mut cuts = draw(recorded, rng);
    cuts.sort_by_key(|(calls, _)| *calls);
    let mut images = recorded.recording.images(&cuts);
    let mut pasts = Vec::new();
    for (image, (calls, unsynced)) in images.iter().zip(cuts) {
        let past = World::before(&recorded.past, recorded.recording.place(calls));
        let how = format!("{unsynced:?} after {calls} of {calls_made} calls");
        tally.unfinished += place.goes_on(image, &past, &how).await;
        tally.checked += World::answers_in(&past);
        tally.cuts += 1;
        pasts.push(past);
    }
    let next = rng.usize(..images.len());
    (images.swap_remove(next), pasts.swap_remove(next))
}

/// One while it starts, one while it ends, the others in between.
fn draw(recorded: &Recorded, rng: &mut Rng) -> Vec<(usize, Unsynced)> {
    let Recorded {
        listening,
        ending,
        recording,
        ..
    } = recorded;
    let mut ranges = vec![0..*listening, *ending..recording.len() + 1];
    ranges.resize(CUTS_OF_A_RECORDING, *listening..*ending + 1);
    let draw = |range| {
        let unsynced = match rng.bool() {
            true => Unsynced::Gone,
            false => Unsynced::Partly(rng.u64(..)),
        };
        (rng.usize(range), unsynced)
    };
    ranges.into_iter().map(draw).collect()
}

/// What has been cut, and how much was at stake.
#[derive(Default)]
struct Tally {
    cuts: usize,
    calls: usize,
    answers: usize,
    checked: usize,
    unfinished: usize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cuts,
            calls,
            answers,
            checked,
            unfinished,
        } = self;
        write!(
            f,
            "{cuts} cuts in {calls} calls and {answers} answers; {checked} answers held against what \
             was left, none lost; {unfinished} transactions found unfinished, all ended"
        )
    }
}
