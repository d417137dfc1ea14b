//! From the journal into the database, in the background.
//!
//! When a segment of the journal is full, the last word on every record in it goes into the database, in
//! pieces that are each atomic, and is synced. Only then is the segment free for something else, and
//! what covers those records taken away. A crash in between costs nothing: the next start finds the segment,
//! and puts the same once more.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, Sender},
    },
    time::{Duration, Instant},
};

use super::{
    Shared, ids::Ids, keys::Place, medium::Medium, meta::Meta, recent::Item, stage::Stage,
};
use crate::store::Cursor;

/// A batch of the database that has this many bytes takes no more: nobody can read while one is put there, which
/// takes 10 ms for 1 MiB.
const BATCH_BYTES: usize = 128 * 1024;
/// A piece that has this many bytes takes no more batches. Each is synced, because sled uses segments again that
/// nothing points to any more: were more than two of 8 MiB written without a sync, a power loss could find what
/// was to replace them not there yet. It writes five to six times as much as it is given.
const PIECE_BYTES: usize = 1024 * 1024;

/// It rests so many times as long as it has worked, until another segment is full: all at once, it would make
/// others late for a tenth of a second every few seconds.
const REST: u32 = 3;
/// So much nicer than the others is its thread: what is settled nobody waits for, but the processors are shared.
const NICER: i32 = 10;

/// What the settling thread owns.
pub(super) struct Settler {
    shared: Arc<Shared>,
    medium: Medium,
    meta: Meta,
}

impl Settler {
    pub(super) fn new(shared: Arc<Shared>, medium: Medium, meta: Meta) -> Self {
        Self {
            shared,
            medium,
            meta,
        }
    }

    /// Settles up to each batch that is named, and says so, until nobody names any or the medium fails.
    pub(super) fn run(mut self, named: &Receiver<u64>, settled: &Sender<u64>) {
        give_way();
        let done = catch_unwind(AssertUnwindSafe(|| self.settle_each(named, settled)));
        let reason = match done {
            Ok(Ok(())) => return,
            Ok(Err(reason)) => reason,
            Err(panic) => format!("settling panicked: {}", panic_text(&*panic)),
        };
        self.shared.breaker.trip(reason);
    }

    fn settle_each(&mut self, named: &Receiver<u64>, settled: &Sender<u64>) -> Result<(), String> {
        let completed = self.shared.view.ids().complete();
        completed.map_err(|error| format!("reading ids: {error}"))?;
        let mut next = None;
        while let Some(batch) = next.take().or_else(|| named.recv().ok()) {
            self.settle(batch, |took| {
                if next.is_none() {
                    next = named.recv_timeout(REST * took).ok();
                }
            })?;
            // The writer may have ended.
            let _ = settled.send(batch);
        }
        Ok(())
    }

    /// Settles up to this batch; rests after each piece, which took so long.
    pub(super) fn settle(&mut self, batch: u64, rest: impl FnMut(Duration)) -> Result<(), String> {
        let view = &self.shared.view;
        let items = view.recent().up_to(batch);
        let meta = self.meta.clone();
        self.meta = put(view.ids(), &self.medium, meta, &items, batch, rest)?;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        view.uncover(&items);
        Ok(())
    }
}

/// Puts these into the database, durably, looks whether they are there, and says then in its account that it has
/// everything up to this batch. With that account, the last thing written, what sled wrote while it was read is
/// synced too.
pub(super) fn put(
    ids: &Ids,
    medium: &Medium,
    mut meta: Meta,
    items: &[(Cursor, Item)],
    batch: u64,
    mut rest: impl FnMut(Duration),
) -> Result<Meta, String> {
    let unreadable = |error: sled::Error| format!("reading before a write: {error}");
    let mut stage = Stage::new(ids, meta.clone());
    let (mut begun, mut since, mut bytes) = (0, Instant::now(), 0);
    for (index, (cursor, item)) in items.iter().enumerate() {
        match &item.entry {
            Some(entry) if item.in_tree => stage.put(*cursor, entry).map_err(unreadable)?,
            Some(entry) => stage.put_first(*cursor, entry),
            None => stage.remove(*cursor, &item.id).map_err(unreadable)?,
        }
        let end = index + 1;
        if stage.bytes() < BATCH_BYTES && end < items.len() {
            continue;
        }
        bytes += stage.bytes();
        let changes;
        (changes, meta) = stage.finish(meta.settled).map_err(unreadable)?;
        medium.apply(ids.db(), changes)?;
        if bytes >= PIECE_BYTES || end == items.len() {
            medium.sync(ids.db())?;
            read_back(ids, &items[begun..end])?;
            meta = ids.turn(medium, meta)?;
            rest(since.elapsed());
            (begun, since, bytes) = (end, Instant::now(), 0);
        }
        stage = Stage::new(ids, meta.clone());
    }
    let (account, meta) = stage.finish(batch).map_err(unreadable)?;
    medium.write(ids.db(), account)?;
    Ok(meta)
}

/// Finds each id that was put, where it was put; what comes next rests on that. And sled needs somebody who
/// reads: while nobody does, it keeps what it has replaced in memory, and its file grows by a third more
/// (docs/performance.md).
fn read_back(ids: &Ids, items: &[(Cursor, Item)]) -> Result<(), String> {
    for (cursor, item) in items.iter().filter(|(_, item)| item.entry.is_some()) {
        let found = ids.find(&item.id);
        let found = found.map_err(|error| format!("reading back what was written: {error}"))?;
        let place = found.and_then(|(_, value)| Place::of_value(&value));
        let at = place.map(|place| place.cursor);
        if at != Some(*cursor) {
            let id = &item.id;
            return Err(format!(
                "{id} was put at {cursor}, and is found at {at:?}: the index of ids is wrong"
            ));
        }
    }
    Ok(())
}

/// Makes this thread nicer, where threads have a niceness of their own.
fn give_way() {
    if cfg!(target_os = "linux")
        && let Err(error) = rustix::process::nice(NICER)
    {
        tracing::debug!(%error, "settling does not give way to others");
    }
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        codec::tests::smallest,
        sled::{
            entry::Entry,
            journal::{Batch, Change, To},
            open::Opened,
            recent::Recent,
            tests::{item, opened},
            verify,
            view::gather,
        },
    };

    /// Twenty records, each revision of all of them in a batch of its own.
    fn journaled(opened: &mut Opened, revision: u64) -> Vec<(Cursor, Item)> {
        let items: Vec<_> = (1..=20).map(|number| item(number, revision)).collect();
        let changes = items.iter().map(|(cursor, item)| {
            let entry = item.entry.as_ref().expect("it is a record");
            let to = Some(To::Record(entry.bytes.clone()));
            Change {
                cursor: *cursor,
                to,
            }
        });
        let batch = Batch {
            store: opened.sidecar.store.clone(),
            number: revision + 1,
            changes: changes.collect(),
        };
        opened.journal.append(&batch).expect("it is written");
        items
    }

    #[test]
    fn a_start_after_half_of_it_was_settled_settles_all_of_it_once() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let mut before = opened(dir.path());
        let items = journaled(&mut before, 1);
        let (meta, settled) = (before.meta.clone(), before.meta.settled);
        let half = put(
            &before.ids,
            &before.medium,
            meta,
            &items[..10],
            settled,
            |_| (),
        );
        drop(half.expect("it is written"));
        let items = journaled(&mut before, 2);
        drop(before);

        let after = opened(dir.path());
        assert_eq!((after.meta.settled, after.meta.records), (3, 20));
        for (cursor, item) in items {
            let found = after.ids.find(&item.id).expect("it is read");
            let (_, value) = found.expect("it is there");
            let place = Place::of_value(&value).expect("it is a place");
            assert_eq!((place.cursor, place.pack.is_some()), (cursor, cursor <= 10));
            let stored = gather(place, |key| after.db.get(key)).expect("it is read");
            assert_eq!(stored, item.entry.map(|entry| entry.bytes.clone()));
        }
        drop(after);
        let verified = verify(dir.path(), &mut |_| {}).expect("it is read");
        assert_eq!(verified.problems, [""; 0]);
    }

    #[test]
    fn an_id_that_is_not_found_where_it_was_put_stops_everything() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let opened = opened(dir.path());
        let there: Vec<_> = (1..=3).map(|number| item(number, 1)).collect();
        let (meta, settled) = (opened.meta.clone(), opened.meta.settled);
        let meta = put(&opened.ids, &opened.medium, meta, &there, settled, |_| ());
        assert!(meta.is_ok(), "{meta:?}");
        let elsewhere = (9, there[0].1.clone());
        for (wrong, at) in [(elsewhere, "at Some(1)"), (item(4, 1), "at None")] {
            let error = read_back(&opened.ids, &[wrong]).expect_err("it isn't there");
            assert!(error.contains(at), "{error}");
        }
    }

    /// How often it rests while it puts these.
    fn rests(items: &[(Cursor, Item)]) -> usize {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let opened = opened(dir.path());
        let mut rested = 0;
        let (meta, settled) = (opened.meta.clone(), opened.meta.settled);
        let meta = put(&opened.ids, &opened.medium, meta, items, settled, |took| {
            assert!(took > Duration::ZERO);
            rested += 1;
        });
        assert!(meta.is_ok(), "{meta:?}");
        rested
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn its_thread_gives_way_and_no_other() {
        let niceness = || rustix::process::getpriority_process(None).expect("it is read");
        let before = niceness();
        let gave_way = move || {
            give_way();
            niceness()
        };
        let nicer = std::thread::spawn(gave_way).join();
        let nicer = nicer.expect("it does not panic");
        assert_eq!((nicer, niceness()), ((before + NICER).min(19), before));
    }

    #[test]
    fn it_rests_after_each_piece() {
        let items = (1..=5).map(|number| {
            let (cursor, item) = item(number, 1);
            let entry = Entry {
                id: item.id.clone(),
                bytes: vec![0; PIECE_BYTES / 3 + 1].into(),
                ..Entry::of(&smallest())
            };
            let entry = Some(Arc::new(entry));
            (cursor, Item { entry, ..item })
        });
        let items: Vec<_> = items.collect();
        assert_eq!(rests(&items), 2, "three of them make a piece");
    }

    #[test]
    fn it_rests_from_taking_records_away_too() {
        let purged = (1..=5_000).map(|number| {
            let (cursor, item) = item(number, 1);
            let entry = None;
            (cursor, Item { entry, ..item })
        });
        let purged: Vec<_> = purged.collect();
        assert_eq!(rests(&purged), 3, "2,048 of them make a piece");
    }

    #[test]
    fn it_rests_from_replacing_records_too() {
        let replaced = (1..=5_000).map(|number| {
            let (cursor, item) = item(number, 1);
            let in_tree = true;
            (cursor, Item { in_tree, ..item })
        });
        let replaced: Vec<_> = replaced.collect();
        assert!(rests(&replaced) >= 3, "2,048 of them make a piece at most");
    }

    #[test]
    fn what_has_moved_on_while_it_was_settled_stays_visible() {
        let mut recent = Recent::default();
        let (cursor, first) = item(1, 1);
        recent.put(cursor, first);
        let settled = recent.up_to(2);
        recent.put(cursor, item(1, 2).1);
        assert!(!recent.at(cursor).expect("it is covered").in_tree);
        recent.settled(&settled);
        let kept = recent.at(cursor).expect("it is covered still");
        let revision = kept.entry.as_ref().map(|entry| entry.revision);
        assert_eq!((revision, kept.in_tree), (Some(2), true));
        let settled = recent.up_to(3);
        recent.settled(&settled);
        assert!(recent.at(cursor).is_none());
        assert!(recent.find(&settled[0].1.id).is_none());
    }
}
