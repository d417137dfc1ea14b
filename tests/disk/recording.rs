//! A folder, a program that works in it, and all that it did there.

use std::path::{Path, PathBuf};

use super::{
    image::Image,
    journal::{Entry, Journal},
    power::{Disk, Unsynced},
};

/// What a program did to a folder.
pub struct Recording {
    /// The folder before.
    before: Disk,
    journal: PathBuf,
    /// The journal's length after each entry, and before the first.
    places: Vec<u64>,
    /// How many calls had been made when each sync had ended.
    pub synced: Vec<usize>,
}

impl Recording {
    /// `before` is the folder as it was when the program started; it has ended. Panics when what was
    /// written down is not what happened.
    pub fn finish(before: Disk, folder: &Path, journal: &Path) -> Self {
        let mut disk = before.clone();
        let (mut places, mut synced) = (vec![0], Vec::new());
        for (place, entry) in Journal::open(journal) {
            places.push(place);
            if let Entry::SyncEnded { .. } = entry {
                synced.push(places.len() - 1);
            }
            disk.apply(entry);
        }
        let differences = disk.image(Unsynced::Kept).differences(&Image::read(folder));
        assert!(
            differences.is_empty(),
            "something changed files and was not written down: {differences:?}"
        );
        Self {
            before,
            journal: journal.to_owned(),
            places,
            synced,
        }
    }

    /// How many calls were written down.
    pub fn len(&self) -> usize {
        self.places.len() - 1
    }

    /// The journal's length once this many calls had been made.
    pub fn place(&self, calls: usize) -> u64 {
        self.places[calls]
    }

    /// How many calls had been made when the journal was as long.
    pub fn calls(&self, place: u64) -> usize {
        self.places.partition_point(|it| *it < place)
    }

    /// The disk once this many calls had been made.
    pub fn disk(&self, calls: usize) -> Disk {
        let mut disk = self.before.clone();
        for (_, entry) in Journal::open(&self.journal).take(calls) {
            disk.apply(entry);
        }
        disk
    }

    /// The folder after power cuts, each after so many calls, in ascending order.
    pub fn images(&self, cuts: &[(usize, Unsynced)]) -> Vec<Image> {
        let mut disk = self.before.clone();
        let mut journal = Journal::open(&self.journal);
        let mut done = 0;
        let mut images = Vec::new();
        for (calls, unsynced) in cuts {
            for (_, entry) in journal.by_ref().take(calls - done) {
                disk.apply(entry);
            }
            done = *calls;
            images.push(disk.image(*unsynced));
        }
        images
    }
}
