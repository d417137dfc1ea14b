//! The power goes at any call to the system, again and again: nothing acknowledged is lost, nothing
//! said is taken back, and everything unfinished goes on.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tercet_sdk::client::Client;
use tokio::time::timeout;

use super::{
    coordinator::{Coordinator, verify},
    history::Answer,
    image::Image,
    load::Load,
    participant,
    power::{Disk, Unsynced},
    recording::Recording,
    records, setting,
    shim::Shim,
    world::{Past, World},
};

const CUTS_DEFAULT: usize = 20;
const ACKNOWLEDGED_DEFAULT: usize = 4_000;
/// The long form's measure: answers for each cut.
const ACKNOWLEDGED_FOR_EACH_CUT: usize = 500;
/// A store is cut so often, and goes on from what a cut has left; then comes a new one.
const RECORDINGS_OF_A_STORE: usize = 2;
const CUTS_OF_A_RECORDING: usize = 5;
/// How long a sync takes.
const SYNC: Duration = Duration::from_millis(1);
/// Only a test that fails waits as long.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_every_power_cut() {
    let cuts = setting("TERCET_CUTS").map_or(CUTS_DEFAULT, |it| it.try_into().unwrap());
    let seed = setting("TERCET_SEED").unwrap_or_else(|| fastrand::u64(..));
    let mut rng = Rng::with_seed(seed);
    let started = Instant::now();
    let mut folder = tempfile::Builder::new().prefix("tercet-disk-").tempdir().unwrap();
    println!("TERCET_SEED={seed} TERCET_CUTS={cuts} in {}", folder.path().display());
    folder.disable_cleanup(true); // a failure leaves its evidence
    let world = Arc::new(World::default());
    let participants = participant::start_all(&world).await;
    let mut place = Place::new(folder.path(), world, participants);
    let mut tally = Tally::default();
    let answers = match cuts {
        CUTS_DEFAULT => ACKNOWLEDGED_DEFAULT,
        _ => cuts * ACKNOWLEDGED_FOR_EACH_CUT,
    };
    let answers = answers * CUTS_OF_A_RECORDING / cuts;
    while tally.cuts < cuts {
        place.new_store();
        for number in 0..RECORDINGS_OF_A_STORE {
            let name = format!("r{number}");
            let recorded = place.record(&name, answers, &mut rng).await;
            place.cut(&recorded, &mut tally, &mut rng).await;
        }
        println!("{tally} after {:?}", started.elapsed());
    }
    folder.disable_cleanup(false);
    folder.close().unwrap();
}

/// What has been cut, and how much was at stake.
#[derive(Default)]
struct Tally {
    cuts: usize,
    /// Answers heard in all recordings.
    answers: usize,
    /// Answers that were checked, over all cuts.
    checked: usize,
    calls: usize,
    unfinished: usize,
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { cuts, answers, checked, calls, unfinished } = self;
        write!(
            f,
            "{cuts} cuts in {calls} calls: {answers} answers, held against what was left {checked} times; \
             {unfinished} transactions were found unfinished"
        )
    }
}

/// Where it all happens.
struct Place {
    /// What the library watches.
    folder: PathBuf,
    /// Some levels below it: the names of directories, too, have to outlive the power.
    store: PathBuf,
    journal: PathBuf,
    /// A copy, for looking at it without a start.
    copy: PathBuf,
    world: Arc<World>,
    participants: Vec<String>,
    /// What the next recording starts from.
    image: Image,
    past: Past,
}

/// A recording, and what it means.
struct Recorded {
    recording: Recording,
    past: Past,
    /// How many calls had been made when it listened, and when it was asked to end.
    listening: usize,
    ending: usize,
}

const STORE: &str = "a/b/store";

impl Place {
    fn new(folder: &Path, world: Arc<World>, participants: Vec<String>) -> Self {
        let watched = folder.join("disk").canonicalize().unwrap_or_else(|_| folder.join("disk"));
        Self {
            store: watched.join(STORE),
            folder: watched,
            journal: folder.join("journal"),
            copy: folder.join("copy"),
            world,
            participants,
            image: Image::default(),
            past: Past::new(),
        }
    }

    fn new_store(&mut self) {
        self.image = Image::default();
        self.past = Past::new();
    }

    /// Lets a coordinator work until clients have heard so many answers more.
    async fn record(&mut self, name: &str, answers: usize, rng: &mut Rng) -> Recorded {
        self.image.write(&self.folder);
        drop(fs::remove_file(&self.journal));
        self.world.take_back(self.past.clone());
        self.world.record_in(&self.journal);
        let before = Disk::of(&self.folder);
        let shim = Shim {
            folder: self.folder.clone(),
            journal: self.journal.clone(),
            sync: SYNC,
            fault: None,
        };
        let length = || fs::metadata(&self.journal).unwrap().len();
        let coordinator = Coordinator::start(&self.store, &self.participants, Some(&shim)).await;
        let coordinator = coordinator.expect("a store that was cut off goes on");
        let listening = length();
        let load = Load::start(&self.world, &coordinator.client, name, rng);
        let until = self.world.answers() + answers;
        let enough = timeout(PATIENCE, self.world.until_answers(until)).await;
        enough.unwrap_or_else(|_| panic!("{} of {until} answers", self.world.answers()));
        let ending = length();
        coordinator.terminate();
        let ended = coordinator.ended().await;
        assert_eq!(ended.code, Some(0), "{}", ended.said);
        load.stop().await;
        let past = self.world.stop_recording();
        let recording = Recording::finish(before, &self.folder, &self.journal);
        Recorded {
            listening: recording.calls(listening),
            ending: recording.calls(ending),
            recording,
            past,
        }
    }

    /// Cuts a recording some times; the last of these is what the next one starts from.
    async fn cut(&mut self, recorded: &Recorded, tally: &mut Tally, rng: &mut Rng) {
        tally.calls += recorded.recording.len();
        tally.answers += self.world.answers();
        let mut cuts = draw(recorded, rng);
        cuts.sort_by_key(|(calls, _)| *calls);
        let images = recorded.recording.images(&cuts);
        let last = rng.usize(..cuts.len());
        for (number, (image, (calls, unsynced))) in images.into_iter().zip(cuts).enumerate() {
            let past = World::before(&recorded.past, recorded.recording.place(calls));
            let cut = format!("cut {unsynced:?} after {calls} of {} calls", recorded.recording.len());
            self.world.take_back(past.clone());
            tally.checked += self.world.answers();
            tally.cuts += 1;
            tally.unfinished += self.survive(&image, &past, &cut).await;
            if number == last {
                self.image = image;
                self.past = past;
            }
        }
    }

    /// Starts the coordinator on what a cut has left, and holds all it says, and has, against what was
    /// said before. Returns how many transactions it found unfinished.
    async fn survive(&self, image: &Image, past: &Past, cut: &str) -> usize {
        image.write(&self.copy);
        let found = self.look(past).await;
        image.write(&self.folder);
        let coordinator = Coordinator::start(&self.store, &self.participants, None).await;
        let coordinator = coordinator.unwrap_or_else(|it| panic!("{cut}: no start: {}", it.said));
        until_all_ended(&coordinator.client, cut).await;
        coordinator.stop().await;
        let verified = verify(&self.store).await;
        assert_eq!(verified.code, Some(0), "{cut}: {}", verified.said);
        let ended = records::read(&self.store).unwrap();
        let violations = self.world.judge(&ended);
        assert!(violations.is_empty(), "{cut}: {violations:#?}");
        found
    }

    /// Notes what is on record, of each transaction that was ever sent, before anybody works on it.
    async fn look(&self, past: &Past) -> usize {
        let store = self.copy.join(STORE);
        let records = tokio::task::spawn_blocking(move || records::read(&store)).await.unwrap();
        let records = records.expect("a store that was cut off goes on");
        let found: std::collections::HashMap<_, _> =
            records.iter().map(|it| (&*it.id, it.seen)).collect();
        for intent in World::intents(past) {
            let answer = match found.get(&*intent.id) {
                Some(seen) => Answer::Shown(*seen),
                None => Answer::NotFound,
            };
            self.world.call(&intent.id, async { answer }).await;
        }
        records.iter().filter(|it| !it.seen.state.is_terminal()).count()
    }
}

/// One while it starts, one while it ends, the others in between.
fn draw(recorded: &Recorded, rng: &mut Rng) -> Vec<(usize, Unsynced)> {
    let Recorded { listening, ending, recording, .. } = recorded;
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

async fn until_all_ended(client: &Client, cut: &str) {
    let over = timeout(PATIENCE, async {
        while unfinished(client).await > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await; // no event says how many there are
        }
    });
    if over.await.is_err() {
        panic!("{cut}: {} transactions stand still", unfinished(client).await);
    }
}

async fn unfinished(client: &Client) -> u64 {
    let mut sum = 0;
    for state in ["TRYING", "CONFIRMING", "CANCELING"] {
        sum += client.count(&format!("state = {state}")).await.unwrap().count;
    }
    sum
}
