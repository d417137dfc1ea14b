//! What time it is: one wall clock for each host, which can jump.

use std::sync::{
    Arc, LazyLock,
    atomic::{AtomicI64, Ordering},
};
use std::time::SystemTime;

use tercet::{engine::Clock, store::UnixMs};

/// When every simulation begins. The SDK's client reads the machine's clock for how long an id
/// protects, so the simulated ones have to be near it; no history has a time of day in it.
static EPOCH_MS: LazyLock<UnixMs> = LazyLock::new(|| {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixMs::try_from(since.unwrap_or_default().as_millis()).unwrap_or(UnixMs::MAX)
});

/// A wall clock that runs with the simulation, but for its jumps.
#[derive(Clone, Default)]
pub struct WallClock {
    ahead_ms: Arc<AtomicI64>,
}

impl WallClock {
    /// Forward, or back.
    pub fn jump(&self, by_ms: i64) {
        self.ahead_ms.fetch_add(by_ms, Ordering::Relaxed);
    }
}

impl Clock for WallClock {
    fn unix_ms(&self) -> UnixMs {
        let elapsed_ms = UnixMs::try_from(elapsed_ms()).unwrap_or(UnixMs::MAX);
        *EPOCH_MS + elapsed_ms + self.ahead_ms.load(Ordering::Relaxed)
    }
}

/// Simulated time, on the host that runs right now.
pub fn elapsed_ms() -> u64 {
    let elapsed = turmoil::sim_elapsed().unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
