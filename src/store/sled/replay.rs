//! What a start finds in the journal: the last word on each record that the database has not got.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use tercet_core::ids::TransactionId;

use super::{
    entry::Entry,
    journal::{self, JournalError, To},
    meta::Meta,
    open::{OpenError, damaged, io_error},
    recent::Item,
};
use crate::store::{Cursor, codec};

/// What stands in the journal and not in the database.
pub(super) struct Replayed {
    pub(super) items: Vec<(Cursor, Item)>,
    /// The last batch.
    pub(super) reached: u64,
}

impl Replayed {
    pub(super) fn read(dir: &Path, meta: &Meta) -> Result<Self, OpenError> {
        let mut last = BTreeMap::new();
        let replayed = journal::replay(dir, &meta.store, meta.settled, |batch| {
            for change in batch.changes {
                last.insert(change.cursor, (batch.number, change.to));
            }
        });
        let reached = replayed.map_err(|error| match error {
            JournalError::Io(error) => io_error("reading the journal in", dir)(error),
            JournalError::Gap { ref path, .. } => damaged(path)(error.to_string()),
        })?;
        let items = last.into_iter().map(|(cursor, (batch, to))| {
            let item = Item::replayed(batch, to);
            let item = item.map_err(|reason| {
                damaged(&journal::newest(dir))(format!("batch {batch}: {reason}"))
            });
            Ok((cursor, item?))
        });
        let items = items.collect::<Result<_, OpenError>>()?;
        Ok(Self { items, reached })
    }
}

impl Item {
    /// What a batch of the journal has said.
    fn replayed(batch: u64, to: Option<To>) -> Result<Self, String> {
        let (id, entry) = match to.ok_or("a change says nothing")? {
            To::Record(bytes) => {
                let record = codec::decode(bytes.clone()).map_err(|error| error.to_string())?;
                let entry = Entry::with(&record, bytes);
                (record.id, Some(Arc::new(entry)))
            }
            To::Purged(id) => {
                let id = TransactionId::parse(&id).map_err(|error| error.to_string())?;
                (id, None)
            }
        };
        Ok(Self {
            id,
            entry,
            batch,
            // A start that was cut off may have got as far.
            in_tree: true,
        })
    }
}
