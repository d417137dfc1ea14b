//! Files that were cut, emptied, removed, changed, exchanged with another store's or put back from an
//! older copy while nobody used them: of a store that was closed, and of one whose process was killed.
//! The coordinator refuses to start, or says so when it meets the damage, or has everything that was
//! acknowledged. It never hangs, and never goes on without a word.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::time::timeout;

use super::{
    coordinator::{Coordinator, verify},
    history::{Answer, told},
    image::{Content, Image},
    load::{self, Load},
    long_run::{EvidenceFolder, setting},
    place::{PATIENCE, Place, until_all_ended},
    power::Unsynced,
    recording::Recording,
    records,
    world::{Past, World},
};

const DAMAGES_DEFAULT: usize = 30;
/// So many that the log is several of sled's segments long.
const ANSWERS: usize = 2_500;

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_noticed_or_harmless() {
    let count = setting("TERCET_DAMAGES").map_or(DAMAGES_DEFAULT, |it| it.try_into().unwrap());
    let mut rng = Rng::with_seed(setting("TERCET_SEED").unwrap_or(1));
    let started = Instant::now();
    let evidence = EvidenceFolder::new("damage");
    let place = Place::fresh(evidence.path(), Duration::ZERO).await;

    let ours = Store::make(&place, ANSWERS, &mut rng).await;
    let other = Store::make(&place, ANSWERS / 10, &mut rng).await;
    let (mut found, mut silent) = (BTreeMap::new(), Vec::new());
    for number in 0..count {
        let (state, (image, past)) = match number % 2 {
            0 => ("closed", &ours.closed),
            _ => ("killed", &ours.killed),
        };
        let damage = Damage::draw(number / 2, image, &mut rng);
        let damaged = damage.on(image, &ours.older, &other.closed.0);
        let end = end(&place, &damaged, past).await;
        if let End::Silent(why) = &end {
            silent.push(format!("{damage} of a {state} store: {why}"));
        }
        *found.entry(end.name()).or_insert(0) += 1;
    }
    println!("{count} damages in {:?}: {found:?}", started.elapsed());
    assert!(silent.is_empty(), "{silent:#?}");
    evidence.remove();
}

/// A store at three times of its life, with what was said by then.
struct Store {
    /// In the middle of its work.
    older: Image,
    killed: (Image, Past),
    closed: (Image, Past),
}

impl Store {
    async fn make(place: &Place, answers: usize, rng: &mut Rng) -> Self {
        let before = place.begin(&Image::default(), Past::new());
        let coordinator = place.start(None).await.expect("it starts");
        let load = Load::start(&place.world, &coordinator.client, "t", rng);
        let reached = async |answers| {
            let enough = timeout(PATIENCE, place.world.until_answers(answers)).await;
            enough.expect("the load goes on");
            place.now()
        };
        let older = reached(answers / 2).await;
        let killed = reached(answers).await;
        coordinator.stop().await;
        load.stop().await;
        let past = place.world.stop_recording();
        let recording = Recording::finish(before, &place.folder, &place.journal);
        let at = |place| (recording.calls(place), Unsynced::Kept);
        let end = (recording.len(), Unsynced::Kept);
        let images = recording.images(&[at(older), at(killed), end]);
        let [older, killed_image, closed] = images.try_into().unwrap();
        Self {
            older,
            killed: (killed_image, World::before(&past, killed)),
            closed: (closed, past),
        }
    }
}

/// What is done to one file.
struct Damage {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    CutTo(usize),
    Flipped {
        at: usize,
        bit: u8,
    },
    Removed,
    /// From an older copy of the store.
    Stale,
    /// From another store.
    Swapped,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}", self.kind, self.path.display())
    }
}

impl Damage {
    /// Every kind in turn, and the database as often as all other files together.
    fn draw(number: usize, image: &Image, rng: &mut Rng) -> Self {
        let files = image.0.iter().filter_map(|(path, content)| match content {
            Content::File(bytes) => Some((path, bytes.len())),
            Content::Directory => None,
        });
        let files: Vec<_> = files.collect();
        let database = files.iter().find(|(path, _)| path.ends_with("db")).unwrap();
        let file = if rng.bool() {
            database
        } else {
            rng.choice(&files).unwrap()
        };
        let (path, len) = file;
        let kind = match number % 7 {
            0 | 1 if *len > 0 => Kind::CutTo(rng.usize(..*len)),
            2 => Kind::CutTo(0),
            3 => Kind::Removed,
            4 => Kind::Stale,
            5 => Kind::Swapped,
            _ if *len > 0 => Kind::Flipped {
                at: rng.usize(..*len),
                bit: rng.u8(..8),
            },
            _ => Kind::Removed,
        };
        let path = (*path).clone();
        Self { path, kind }
    }

    fn on(&self, image: &Image, older: &Image, other: &Image) -> Image {
        let mut image = image.clone();
        let from = |source: &Image| source.0.get(&self.path).cloned();
        let replacement = match self.kind {
            Kind::Removed => None,
            Kind::Stale => from(older),
            Kind::Swapped => from(other),
            Kind::CutTo(_) | Kind::Flipped { .. } => from(&image),
        };
        image.0.remove(&self.path);
        if let Some(Content::File(mut bytes)) = replacement {
            match self.kind {
                Kind::CutTo(len) => bytes.truncate(len),
                Kind::Flipped { at, bit } => bytes[at] ^= 1 << bit,
                Kind::Removed | Kind::Stale | Kind::Swapped => {}
            }
            image.0.insert(self.path.clone(), Content::File(bytes));
        }
        image
    }
}

/// What came of it.
enum End {
    /// The coordinator did not start, and said why.
    Refused,
    /// It started, and said so when it met the damage.
    Noticed,
    /// Everything was there.
    Harmless,
    Silent(String),
}

impl End {
    fn name(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Noticed => "noticed while serving",
            Self::Harmless => "harmless",
            Self::Silent(_) => "silent",
        }
    }
}

async fn end(place: &Place, damaged: &Image, past: &Past) -> End {
    damaged.write(&place.folder);
    let verified = verify(&place.store()).await;
    damaged.write(&place.folder);
    place.world.take_back(past.clone());
    let coordinator = match Coordinator::start(&place.store(), &place.participants, None).await {
        Ok(coordinator) => coordinator,
        Err(ended) => {
            let clear = ended.code == Some(1) && names_a_file(&ended.said, &place.folder);
            assert!(clear, "it did not say what is wrong: {}", ended.said);
            assert_eq!(
                verified.code,
                Some(1),
                "verify found nothing: {}",
                ended.said
            );
            return End::Refused;
        }
    };
    if let Some(end) = serves(place, &coordinator, past).await {
        return end;
    }
    coordinator.stop().await;
    let Ok(ended) = records::read(&place.store()) else {
        return End::Noticed;
    };
    let violations = place.world.judge(&ended);
    if violations.is_empty() {
        return End::Harmless;
    }
    End::Silent(format!("{violations:#?}; verify says {}", verified.said))
}

/// Reads everything, and waits until all has ended. None when nothing was noticed.
async fn serves(place: &Place, coordinator: &Coordinator, past: &Past) -> Option<End> {
    let mut noticed = false;
    for intent in World::intents(past) {
        let read = async { told::shown(coordinator.client.get(&intent.id).await, load::refused) };
        noticed |= place.world.call(&intent.id, read).await == Answer::Unknown;
        if noticed {
            return Some(End::Noticed);
        }
    }
    let ended = timeout(PATIENCE, until_all_ended(&coordinator.client)).await;
    if ended.is_err() {
        return Some(End::Silent("transactions stand still".into()));
    }
    None
}

fn names_a_file(said: &str, folder: &Path) -> bool {
    said.contains(&*folder.to_string_lossy())
}
