//! How far the store has come, written after each batch and never synced.
//!
//! The sidecar's mark costs two syncs and so stays behind. This one costs a few microseconds: it is exact
//! for as long as the operating system lives, however the process ends, and some seconds old after a
//! power loss, as the system writes it out when it likes. It is never ahead of the journal, whose batch
//! is durable before it is written. So a journal whose tail was cut off or damaged shows; a trace that
//! is missing, torn or another store's says nothing, and the sidecar's mark remains.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use prost::{Message, bytes::Bytes};

use crate::store::codec::frame;

const FILE: &str = "tercet.trace";

/// The file's content; of the same length each time, and small enough for one sector.
#[derive(Clone, PartialEq, Message)]
struct Reached {
    #[prost(string, tag = "1")]
    store: String,
    #[prost(fixed64, tag = "2")]
    batch: u64,
}

/// The open file.
#[derive(Debug)]
pub(super) struct Trace(File);

impl Trace {
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true);
        Ok(Self(options.open(dir.join(FILE))?))
    }

    /// Says that this batch is durable.
    pub(super) fn reached(&self, store: &str, batch: u64) -> io::Result<()> {
        let store = store.to_owned();
        let reached = Reached { store, batch };
        self.0.write_all_at(&frame::seal(&reached), 0)
    }

    /// The batch that a database had reached, if that is known.
    pub(super) fn last(dir: &Path, store: &str) -> Option<u64> {
        let body = frame::open(Bytes::from(fs::read(dir.join(FILE)).ok()?)).ok()?;
        let reached = <Reached as Message>::decode(body).ok()?;
        (reached.store == store).then_some(reached.batch)
    }
}
