//! One record to be written, encoded where it came from, so that the writer's thread need not.

use std::sync::Arc;

use prost::bytes::Bytes;
use sled::IVec;
use tercet_core::ids::TransactionId;

use super::keys::{self, CHUNK_BYTES, Place};
use crate::store::{Cursor, Record, UnixMs, codec};

/// A record's bytes, and what stands in the indexes because of it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: TransactionId,
    pub(super) revision: u64,
    pub(super) epoch: u64,
    pub(super) due_ms: Option<UnixMs>,
    pub(super) keep_until_ms: Option<UnixMs>,
    pub(super) business_key: Arc<str>,
    pub(super) bytes: Bytes,
}

impl Entry {
    /// What is to be written of a record.
    pub(super) fn of(record: &Record) -> Self {
        Self::with(record, codec::encode(record).into())
    }

    /// The same for a record that comes encoded.
    pub(super) fn with(record: &Record, bytes: Bytes) -> Self {
        let finished = record.transaction.state.is_terminal();
        Self {
            id: record.id.clone(),
            revision: record.revision,
            epoch: record.epoch,
            due_ms: record.due_ms(),
            keep_until_ms: record.keep_until_ms.filter(|_| finished),
            business_key: record.origin.business_key.clone(),
            bytes,
        }
    }

    /// Until when it is kept, if it is finished.
    pub(super) fn kept_until_ms(&self) -> Option<UnixMs> {
        self.keep_until_ms.filter(|_| self.due_ms.is_none())
    }

    /// What stands in the tree for it wherever it is; `id` is the key of its id.
    pub(super) fn indexes(
        &self,
        id: Vec<u8>,
        place: Place,
    ) -> impl Iterator<Item = (Vec<u8>, IVec)> {
        let id = (id, place.to_value());
        let business_key = (!self.business_key.is_empty()).then(|| {
            let key = keys::business_key(&self.business_key, place.cursor);
            (key, keys::pack_value(place.pack))
        });
        [id].into_iter().chain(business_key)
    }

    /// What stands in the tree besides, when it stands by itself.
    pub(super) fn by_itself(&self, cursor: Cursor) -> impl Iterator<Item = (Vec<u8>, IVec)> {
        let chunks = self.bytes.chunks(CHUNK_BYTES).enumerate();
        let chunks = chunks.map(move |(number, it)| (keys::chunk(cursor, number), it.into()));
        let unfinished = self.due_ms.map(|due_ms| {
            let value = keys::unfinished_value(due_ms, &self.id);
            (keys::unfinished(cursor), value.into())
        });
        let kept = self.kept_until_ms().map(|keep_until_ms| {
            let key = keys::keep_until(keep_until_ms, cursor);
            (key, self.id.as_str().into())
        });
        chunks.chain(unfinished).chain(kept)
    }
}
