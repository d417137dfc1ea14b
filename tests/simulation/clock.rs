//! What time it is: one wall clock for each host, which can jump. None of them is the machine's, whose
//! time goes on while a run lasts.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, SystemTime},
};

use tercet::{engine::Clock, store::UnixMs};

/// When every simulation begins, in 2001: so long ago that whoever asks the machine finds everything
/// expired.
pub const EPOCH_MS: UnixMs = 1_000_000_000_000;

/// A wall clock that runs with the simulation, but for its jumps.
#[derive(Clone)]
pub struct WallClock {
    epoch_ms: UnixMs,
    ahead_ms: Arc<AtomicI64>,
}

impl WallClock {
    pub fn new(epoch_ms: UnixMs) -> Self {
        Self {
            epoch_ms,
            ahead_ms: Arc::default(),
        }
    }

    /// Forward, or back.
    pub fn jump(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }

    /// As the SDK's client reads it.
    pub fn now(&self) -> SystemTime {
        let now_ms = u64::try_from(self.unix_ms()).expect("no clock jumps back to 1970");
        SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms)
    }
}

impl Clock for WallClock {
    fn unix_ms(&self) -> UnixMs {
        let elapsed_ms = UnixMs::try_from(elapsed_ms()).unwrap_or(UnixMs::MAX);
        self.epoch_ms + elapsed_ms + self.ahead_ms.load(Ordering::Relaxed)
    }
}

/// Simulated time, on the host that runs right now.
pub fn elapsed_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
