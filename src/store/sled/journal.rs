//! What is durable first: every batch of commits, appended to a file and synced, before anybody is told.
//!
//! sled writes a page again for every few values in it, and finds each key's page anew. A commit would pay
//! for that three times in a transaction's life. So a batch goes as a whole to the end of a journal,
//! with one write and one `fdatasync`, and the database gets only what a transaction has come to, in the
//! background, many at once (see [`settle`](super::settle)). What the database has, the journal may
//! forget.
//!
//! ```text
//! tercet.journal.0000000000000007    batches 501 … 930     in the database: used again as number 9
//! tercet.journal.0000000000000008    batches 931 … 1217    being written
//! ```
//!
//! A segment is a sequence of sealed [`Batch`]es, whose numbers follow each other, and then anything:
//! zeros, what is left of an earlier use of the file, or a torn batch that was never acknowledged. So the
//! first thing that is not the next batch is the end. A gap between segments is damage.

use std::{
    collections::VecDeque,
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use prost::{Message, Oneof, bytes::Bytes};

use super::sidecar::sync_dir;
use crate::store::{Cursor, codec::frame};

/// A segment takes no more batches when it has this many bytes. The database is written to once for each;
/// a start has to read what is left of it.
const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// A file grows by so many zeros at once: to sync a write inside of a file costs half of what it costs when
/// the file has grown.
const GROWTH_BYTES: u64 = 1024 * 1024;
/// They are written in pages: the kernel would take a larger piece as a whole from then on, and account for
/// all of it whenever a part is written.
const ZEROS: &[u8] = &[0; 4096];

const PREFIX: &str = "tercet.journal.";

/// One group commit.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Batch {
    /// The store it belongs to.
    #[prost(string, tag = "1")]
    pub(super) store: String,
    /// One more than that of the batch before.
    #[prost(uint64, tag = "2")]
    pub(super) number: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) changes: Vec<Change>,
}

/// What became of one record.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Change {
    #[prost(uint64, tag = "1")]
    pub(super) cursor: Cursor,
    #[prost(oneof = "To", tags = "2, 3")]
    pub(super) to: Option<To>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum To {
    /// It is this one now.
    #[prost(bytes = "bytes", tag = "2")]
    Record(Bytes),
    /// It is gone; this was its id.
    #[prost(string, tag = "3")]
    Purged(String),
}

/// The journal of an open store.
#[derive(Debug)]
pub(super) struct Journal {
    dir: PathBuf,
    /// Oldest first; the last one is being written.
    segments: VecDeque<Segment>,
    file: File,
    /// Where the next batch begins.
    at: u64,
    /// How far the file's blocks are there already.
    end: u64,
    /// A file whose batches are all in the database.
    spare: Option<u64>,
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// The last batch in it.
    last: u64,
}

impl Journal {
    /// Begins a new segment. What stands in the others has to be in the database.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(super) fn begin(dir: &Path) -> io::Result<Self> {
        let mut others = numbers(dir)?;
        let next = others.last().map_or(1, |last| last + 1);
        let spare = others.pop();
        for number in others {
            fs::remove_file(path(dir, number))?;
        }
        let (file, end) = make(dir, next, spare)?;
        Ok(Self {
            dir: dir.to_owned(),
            segments: [Segment::new(next)].into(),
            file,
            at: 0,
            end,
            spare: None,
        })
    }

    /// Appends a batch; durable when it returns.
    ///
    /// # Errors
    /// After an error nothing is known of what is on the medium.
    pub(super) fn append(&mut self, batch: &Batch) -> io::Result<()> {
        let bytes = frame::seal(batch);
        let next = self.at + bytes.len() as u64;
        while self.end < next {
            self.grow()?;
        }
        self.file.write_all_at(&bytes, self.at)?;
        self.file.sync_data()?;
        self.at = next;
        self.writing().last = batch.number;
        Ok(())
    }

    fn grow(&mut self) -> io::Result<()> {
        let end = self.end + GROWTH_BYTES;
        while self.end < end {
            self.file.write_all_at(ZEROS, self.end)?;
            self.end += ZEROS.len() as u64;
        }
        Ok(())
    }

    /// Whether the next batch belongs into another segment.
    pub(super) fn is_full(&self) -> bool {
        self.at >= SEGMENT_BYTES
    }

    /// Segments there are, the one being written among them.
    pub(super) fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The database has everything up to this batch: what is older may be used for something else.
    ///
    /// # Errors
    /// When a file can't be removed.
    pub(super) fn release(&mut self, settled: u64) -> io::Result<()> {
        while self.segments.len() > 1 && self.segments[0].last <= settled {
            let free = self.segments.pop_front().expect("there are two").number;
            if let Some(surplus) = self.spare.replace(free) {
                fs::remove_file(path(&self.dir, surplus))?;
            }
        }
        Ok(())
    }

    /// Begins the next segment.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub(super) fn turn(&mut self) -> io::Result<()> {
        let next = self.writing().number + 1;
        (self.file, self.end) = make(&self.dir, next, self.spare.take())?;
        self.at = 0;
        self.segments.push_back(Segment::new(next));
        Ok(())
    }

    /// One that can't be written to.
    #[cfg(test)]
    pub(super) fn that_fails(mut self) -> Self {
        let number = self.writing().number;
        let path = path(&self.dir, number);
        self.file = File::open(path).expect("it is there");
        self
    }

    fn writing(&mut self) -> &mut Segment {
        self.segments.back_mut().expect("one is being written")
    }
}

impl Segment {
    fn new(number: u64) -> Self {
        let last = 0;
        Self { number, last }
    }
}

/// A segment's file, made from a spare one or anew; durable, as far as its name goes.
fn make(dir: &Path, number: u64, spare: Option<u64>) -> io::Result<(File, u64)> {
    let path_new = path(dir, number);
    if let Some(spare) = spare {
        fs::rename(path(dir, spare), &path_new)?;
    }
    let mut options = File::options();
    let options = options.create(true).truncate(false).write(true);
    let file = options.open(&path_new)?;
    let end = file.metadata()?.len();
    sync_dir(dir)?;
    Ok((file, end))
}

/// Why a journal can't be what was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum JournalError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("batches {after} to {before} are missing before it: the store can't go on from there", after = .after + 1, before = .next - 1)]
    Gap {
        path: PathBuf,
        after: u64,
        next: u64,
    },
}

/// Hands over each batch that follows `settled`, in order, and returns the number of the last one.
///
/// # Errors
/// When a file can't be read, or batches are missing in between.
pub(super) fn replay(
    dir: &Path,
    store: &str,
    settled: u64,
    mut each: impl FnMut(Batch),
) -> Result<u64, JournalError> {
    let mut last = settled;
    for number in numbers(dir)? {
        let path = path(dir, number);
        let mut bytes = Bytes::from(fs::read(&path)?);
        let mut before = None;
        while let Some(batch) = next(&mut bytes, store, before) {
            before = Some(batch.number);
            if batch.number > last + 1 {
                let (after, next) = (last, batch.number);
                return Err(JournalError::Gap { path, after, next });
            }
            if batch.number == last + 1 {
                last = batch.number;
                each(batch);
            }
        }
    }
    Ok(last)
}

/// The file that was written last, for messages.
pub(super) fn newest(dir: &Path) -> PathBuf {
    let numbers = numbers(dir).unwrap_or_default();
    path(dir, numbers.last().copied().unwrap_or(1))
}

/// The next batch of a segment; none at its end.
fn next(bytes: &mut Bytes, store: &str, before: Option<u64>) -> Option<Batch> {
    let len = frame::framed_len(bytes).filter(|len| *len <= bytes.len())?;
    let body = frame::open(bytes.split_to(len)).ok()?;
    let batch = Batch::decode(body).ok()?;
    let follows = before.is_none_or(|before| before.checked_add(1) == Some(batch.number));
    (batch.store == store && follows).then_some(batch)
}

/// Of all segments, oldest first.
fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in dir.read_dir()? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{number:016}"))
}

#[cfg(test)]
mod tests {
    use std::ops::RangeInclusive;

    use super::*;

    const STORE: &str = "5b5b7b1e";

    fn batch(number: u64) -> Batch {
        let to = Some(To::Record(Bytes::from(vec![number as u8; 300])));
        Batch {
            store: STORE.into(),
            number,
            changes: vec![Change { cursor: number, to }],
        }
    }

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary directory")
    }

    /// A journal with these batches in each of its segments.
    fn written(dir: &Path, segments: &[RangeInclusive<u64>]) -> Journal {
        let mut journal = Journal::begin(dir).expect("it is begun");
        for (at, numbers) in segments.iter().enumerate() {
            if at > 0 {
                journal.turn().expect("it goes on");
            }
            for number in numbers.clone() {
                journal.append(&batch(number)).expect("it is written");
            }
        }
        journal
    }

    fn replayed(dir: &Path, settled: u64) -> Result<Vec<u64>, JournalError> {
        let mut numbers = Vec::new();
        let last = replay(dir, STORE, settled, |read| {
            assert_eq!(read, batch(read.number));
            numbers.push(read.number);
        })?;
        assert_eq!(last, numbers.last().copied().unwrap_or(settled));
        Ok(numbers)
    }

    #[test]
    fn what_was_appended_is_replayed_from_where_the_database_ends() {
        let dir = directory();
        drop(written(dir.path(), &[1..=3, 4..=6]));
        let all = [1, 2, 3, 4, 5, 6];
        for settled in 0..=6 {
            let found = replayed(dir.path(), settled).expect("it is whole");
            assert_eq!(found, all[settled as usize..]);
        }
    }

    #[test]
    fn a_torn_batch_is_the_end_wherever_it_is_torn() {
        let dir = directory();
        drop(written(dir.path(), &[1..=3]));
        let path = path(dir.path(), 1);
        let good = fs::read(&path).expect("it is read");
        let len = frame::seal(&batch(3)).len();
        for torn in [1, len / 2, len - 1] {
            let mut bytes = good.clone();
            bytes[2 * len + torn..3 * len].fill(0);
            fs::write(&path, bytes).expect("it is written");
            assert_eq!(replayed(dir.path(), 0).expect("its end is torn"), [1, 2]);
        }
        for cut in [0, 1, len, 3 * len - 1] {
            fs::write(&path, &good[..cut]).expect("it is written");
            let whole = 1..=(cut / len) as u64;
            let found = replayed(dir.path(), 0).expect("it is cut");
            assert!(found.into_iter().eq(whole));
        }
    }

    #[test]
    fn a_file_that_is_used_again_shows_nothing_of_its_first_use() {
        let dir = directory();
        let mut journal = written(dir.path(), &[1..=8, 9..=11]);
        journal.release(8).expect("it is released");
        journal.turn().expect("it goes on");
        assert_eq!(numbers(dir.path()).expect("they are read"), [2, 3]);
        assert_eq!(replayed(dir.path(), 8).expect("it is whole"), [9, 10, 11]);
        journal.append(&batch(12)).expect("it is written");
        let expected = [9, 10, 11, 12];
        assert_eq!(replayed(dir.path(), 8).expect("it is whole"), expected);
    }

    #[test]
    fn what_the_database_has_not_got_is_not_released() {
        let dir = directory();
        let mut journal = written(dir.path(), &[1..=4, 5..=7, 8..=8]);
        journal.release(6).expect("it is released");
        assert_eq!(journal.segments(), 2);
        journal.release(99).expect("it is released");
        assert_eq!(journal.segments(), 1, "one is being written");
    }

    #[test]
    fn missing_batches_are_damage() {
        let dir = directory();
        drop(written(dir.path(), &[1..=3, 4..=6, 7..=8]));
        fs::remove_file(path(dir.path(), 2)).expect("it is removed");
        let error = replayed(dir.path(), 0).expect_err("there is a gap");
        assert_eq!(
            error.to_string(),
            "batches 4 to 6 are missing before it: the store can't go on from there"
        );
        // The database has them.
        assert_eq!(replayed(dir.path(), 6).expect("it is whole"), [7, 8]);
        // A database that is older than the journal.
        fs::remove_file(path(dir.path(), 1)).expect("it is removed");
        assert!(replayed(dir.path(), 0).is_err());
    }

    #[test]
    fn the_journal_of_another_store_is_no_part_of_this_one() {
        let dir = directory();
        drop(written(dir.path(), &[1..=3]));
        let last = replay(dir.path(), "another", 0, |_| panic!("not ours"));
        assert_eq!(last.expect("it is read"), 0);
    }
}
