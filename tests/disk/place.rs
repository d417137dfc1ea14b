//! A folder on which a coordinator works, and what has to be true of it after anything that a disk does.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tercet_core::check::Violation;
use tercet_sdk::client::Client;
use tokio::time::timeout;

use super::{
    coordinator::{Coordinator, Ended, verify},
    history::Answer,
    image::Image,
    participant,
    power::Disk,
    records,
    shim::{Fault, Shim},
    world::{Past, World},
};

/// Only a test that fails waits as long.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Some levels below the folder: the names of directories, too, have to outlive the power.
const STORE: &str = "a/b/store";

/// Where it all happens.
pub struct Place {
    pub world: Arc<World>,
    /// What the library watches.
    pub folder: PathBuf,
    pub journal: PathBuf,
    /// For looking at a store without a start.
    copy: PathBuf,
    pub participants: Vec<String>,
    sync: Duration,
}

impl Place {
    /// A world in which nothing has happened yet, its participants, and room for a store in this
    /// folder. `sync` is how long a sync takes.
    pub async fn fresh(folder: &Path, sync: Duration) -> Self {
        let folder = folder.canonicalize().unwrap();
        let world = Arc::new(World::default());
        let participants = participant::start_all(&world).await;
        Self {
            world,
            folder: folder.join("disk"),
            journal: folder.join("journal"),
            copy: folder.join("copy"),
            participants,
            sync,
        }
    }

    pub fn store(&self) -> PathBuf {
        self.folder.join(STORE)
    }

    /// Lays the folder down. From now on all that is done there is written down, and placed.
    pub fn begin(&self, image: &Image, past: Past) -> Disk {
        image.write(&self.folder);
        self.begin_here(past);
        Disk::of(&self.folder)
    }

    /// The same after a kill, which leaves what was not synced, and leaves it unsynced.
    pub fn begin_killed(&self, disk: Disk, past: Past) -> Disk {
        let disk = disk.killed(&self.folder);
        self.begin_here(past);
        disk
    }

    fn begin_here(&self, past: Past) {
        drop(fs::remove_file(&self.journal));
        self.world.take_back(past);
        self.world.record_in(&self.journal);
    }

    /// Starts a coordinator that is watched.
    ///
    /// # Errors
    /// When it ended.
    pub async fn start(&self, fault: Option<Fault>) -> Result<Coordinator, Ended> {
        let shim = Shim {
            folder: self.folder.clone(),
            journal: self.journal.clone(),
            sync: self.sync,
            fault,
        };
        Coordinator::start(&self.store(), &self.participants, Some(&shim)).await
    }

    /// The journal's length.
    pub fn now(&self) -> u64 {
        fs::metadata(&self.journal).unwrap().len()
    }

    /// Starts the coordinator on what a disk has left, and holds all it says, and has, against what was
    /// said before. Returns how many transactions it found unfinished.
    pub async fn goes_on(&self, image: &Image, past: &Past, how: &str) -> usize {
        self.world.take_back(past.clone());
        image.write(&self.copy);
        let found = self.look(past, how).await;
        image.write(&self.folder);
        let store = self.store();
        let coordinator = Coordinator::start(&store, &self.participants, None).await;
        let coordinator = coordinator.unwrap_or_else(|it| panic!("{how}: no start: {}", it.said));
        if timeout(PATIENCE, until_all_ended(&coordinator.client))
            .await
            .is_err()
        {
            panic!(
                "{how}: {} transactions stand still",
                unfinished(&coordinator.client).await
            );
        }
        coordinator.stop().await;
        let verified = verify(&store).await;
        assert_eq!(verified.code, Some(0), "{how}: {}", verified.said);
        let ended = records::read(&store).unwrap();
        none(&self.world.judge(&ended), how);
        found
    }

    /// Holds what is on record, before anybody works on it, against what was said. Returns how many
    /// transactions are unfinished.
    async fn look(&self, past: &Past, how: &str) -> usize {
        let store = self.copy.join(STORE);
        let records = tokio::task::spawn_blocking(move || records::read(&store))
            .await
            .unwrap();
        let records = records.unwrap_or_else(|error| panic!("{how}: {error}"));
        let found: HashMap<_, _> = records.iter().map(|it| (&*it.id, it.seen)).collect();
        for intent in World::intents(past) {
            let answer = match found.get(&*intent.id) {
                Some(seen) => Answer::Shown(*seen),
                None => Answer::NotFound,
            };
            self.world.call(&intent.id, async { answer }).await;
        }
        let mut violations = self.world.judge(&records);
        violations.retain(|it| it.invariant != "L1"); // not all has ended yet
        none(&violations, how);
        records
            .iter()
            .filter(|it| !it.seen.state.is_terminal())
            .count()
    }
}

fn none(violations: &[Violation], how: &str) {
    let list: Vec<_> = violations.iter().map(ToString::to_string).collect();
    assert!(list.is_empty(), "{how}: {list:#?}");
}

/// Returns when no transaction is unfinished.
pub async fn until_all_ended(client: &Client) {
    while unfinished(client).await > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await; // no event says how many there are
    }
}

async fn unfinished(client: &Client) -> u64 {
    let mut sum = 0;
    for state in ["TRYING", "CONFIRMING", "CANCELING"] {
        sum += client
            .count(&format!("state = {state}"))
            .await
            .unwrap()
            .count;
    }
    sum
}
