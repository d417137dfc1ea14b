//! The seams: what a broken stand-in may take the place of, one value for each run of a seed.

use std::sync::Arc;

use tercet::{
    engine::Clock,
    participants::Participants,
    store::{Store, UnixMs},
};
use tercet_sdk::participant::{BranchKey, Record};

use super::clock::EPOCH_MS;

/// The replaceable parts of a simulated world. [`Parts::honest`] replaces none.
///
/// The functions are called once for each start of the coordinator; what a stand-in has to remember
/// beyond a crash it keeps in an `Arc` of its own. Build new parts for each seed.
pub struct Parts {
    /// When the simulation begins.
    pub epoch_ms: UnixMs,
    /// What the engine takes for its store, over the honest one.
    pub store: Wrap<dyn Store>,
    /// What the engine calls its participants through: sees every call before it leaves, and every
    /// answer before the engine does.
    pub transport: Wrap<dyn Participants>,
    /// What the coordinator takes for the wall clock.
    pub clock: Wrap<dyn Clock>,
    /// What stands between every participant's fence and its rows.
    pub fence: Arc<dyn FenceRows>,
}

/// Puts something around a part.
pub type Wrap<T> = Box<dyn Fn(Arc<T>) -> Arc<T> + Send + Sync>;

impl Parts {
    pub fn honest() -> Self {
        Self {
            epoch_ms: EPOCH_MS,
            store: Box::new(|store| store),
            transport: Box::new(|participants| participants),
            clock: Box::new(|clock| clock),
            fence: Arc::new(Honest),
        }
    }
}

/// Sees, and may change, what a fence reads and writes. By default it changes nothing.
pub trait FenceRows: Send + Sync + 'static {
    /// A row is read for update, or found in the way of an insert.
    fn read(&self, _key: &BranchKey, found: Option<Record>) -> Option<Record> {
        found
    }

    /// A row is inserted or updated. None: the write is said to be done, and is not.
    fn write(&self, _key: &BranchKey, record: Record) -> Option<Record> {
        Some(record)
    }

    /// The horizon is read.
    fn horizon_ms(&self, horizon_ms: i64) -> i64 {
        horizon_ms
    }
}

struct Honest;

impl FenceRows for Honest {}
