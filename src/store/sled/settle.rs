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
};

use sled::Db;

use super::{Shared, medium::Medium, meta::Meta, recent::Item, stage::Stage};
use crate::store::Cursor;

/// A piece that has this many bytes takes no more: sled copies it, and holds up readers of the same pages.
const PIECE_BYTES: usize = 1024 * 1024;

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
        for batch in named {
            let done = catch_unwind(AssertUnwindSafe(|| self.settle(batch)));
            let reason = match done {
                Ok(Ok(())) => {
                    // The writer may have ended.
                    let _ = settled.send(batch);
                    continue;
                }
                Ok(Err(reason)) => reason,
                Err(panic) => format!("settling panicked: {}", panic_text(&*panic)),
            };
            self.shared.breaker.trip(reason);
            return;
        }
    }

    fn settle(&mut self, batch: u64) -> Result<(), String> {
        let view = &self.shared.view;
        let items = view.recent().up_to(batch);
        self.meta = put(view.db(), &self.medium, self.meta.clone(), &items, batch)?;
        self.shared.syncs.fetch_add(1, Ordering::Relaxed);
        view.recent_mut().settled(&items);
        Ok(())
    }
}

/// Puts these into the database, durably, and says in its account that it has everything up to this batch.
pub(super) fn put(
    db: &Db,
    medium: &Medium,
    mut meta: Meta,
    items: &[(Cursor, Item)],
    batch: u64,
) -> Result<Meta, String> {
    let unreadable = |error: sled::Error| format!("reading before a write: {error}");
    let mut stage = Stage::new(db, meta.clone());
    for (cursor, item) in items {
        match &item.entry {
            Some(entry) if item.in_tree => stage.put(*cursor, entry).map_err(unreadable)?,
            Some(entry) => stage.put_first(*cursor, entry),
            None => stage.remove(*cursor, &item.id).map_err(unreadable)?,
        }
        if stage.bytes() >= PIECE_BYTES {
            let (piece, account) = stage.finish(meta.settled);
            medium.apply(db, piece)?;
            meta = account;
            stage = Stage::new(db, meta.clone());
        }
    }
    let (piece, meta) = stage.finish(batch);
    medium.apply(db, piece)?;
    medium.sync(db)?;
    Ok(meta)
}

/// What a panic said.
pub(super) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message")
}
