//! Which finished records have outlived their time, the earliest first.
//!
//! Those that were retired, but are not settled yet, still stand in the index: there may be many more entries than
//! are asked for. So they are looked at in pieces, between which the writer has its turn.

use std::{collections::BTreeSet, ops::Range};

use tercet_core::ids::TransactionId;

use super::{keys, pack::Pack, view::Durable};
use crate::store::{Cursor, UnixMs};

/// Index entries that are looked at with the writer waiting; each may stand for a whole pack.
const PIECE_ENTRIES: usize = 64;

/// What has been found so far, and where to go on.
pub(super) struct Outlived {
    now_ms: UnixMs,
    limit: usize,
    /// Entries that were not looked at yet.
    keys: Range<Vec<u8>>,
    found: BTreeSet<(UnixMs, Cursor, TransactionId)>,
}

impl Outlived {
    /// Those among what is recent that are kept until this time or a shorter one; at most so many will be wanted.
    pub(super) fn recent(durable: &Durable<'_>, now_ms: UnixMs, limit: usize) -> Self {
        let found = durable.recent.outlived(now_ms);
        Self {
            now_ms,
            limit,
            keys: keys::kept_until(now_ms),
            found: found
                .map(|(at_ms, at, id)| (at_ms, at, id.clone()))
                .collect(),
        }
    }

    /// Looks at more of the database; false when there is nothing more to find.
    pub(super) fn look(&mut self, durable: &Durable<'_>) -> sled::Result<bool> {
        let entries = durable.ids.db().range(self.keys.clone());
        let mut looked_at = 0;
        for entry in entries.take(PIECE_ENTRIES) {
            let (key, value) = entry?;
            if !self.look_at(durable, &key, &value)? {
                return Ok(false);
            }
            looked_at += 1;
            self.keys.start = [&key[..], &[0]].concat();
        }
        Ok(looked_at == PIECE_ENTRIES)
    }

    /// Looks at one entry of the index; false when this one and all after it are later than those that are wanted.
    fn look_at(&mut self, durable: &Durable<'_>, key: &[u8], value: &[u8]) -> sled::Result<bool> {
        let (Some(until_ms), Some(cursor)) = (keys::read_keep_until(key), keys::cursor(key)) else {
            return Ok(true);
        };
        while self.found.len() > self.limit {
            self.found.pop_last();
        }
        let later = self.found.last().is_none_or(|last| last.0 < until_ms);
        if self.found.len() == self.limit && later {
            return Ok(false);
        }
        if value.is_empty() {
            self.look_in_pack(durable, cursor)?;
        } else if let Some(id) = keys::read_id(value)
            && durable.is_uncovered(cursor)
        {
            self.found.insert((until_ms, cursor, id));
        }
        Ok(true)
    }

    /// Looks at all of one pack; at nothing when it can't be read.
    fn look_in_pack(&mut self, durable: &Durable<'_>, first: Cursor) -> sled::Result<()> {
        let value = durable.ids.db().get(keys::pack(first))?;
        let Some(Ok(pack)) = value.map(Pack::of_value) else {
            return Ok(());
        };
        for (cursor, head) in pack.heads() {
            if let Some(until_ms) = head.keep_until_ms
                && until_ms <= self.now_ms
                && let Ok(id) = TransactionId::parse(&head.id)
                && durable.is_uncovered(cursor)
            {
                self.found.insert((until_ms, cursor, id));
            }
        }
        Ok(())
    }

    /// What was found, the earliest first.
    pub(super) fn found(self) -> impl Iterator<Item = (Cursor, TransactionId)> {
        let found = self.found.into_iter().take(self.limit);
        found.map(|(_, cursor, id)| (cursor, id))
    }
}
