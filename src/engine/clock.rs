//! Where times of day come from.
//!
//! Deadlines of a running process are counted by tokio's monotonic clock, so that a jump of the wall
//! clock moves none of them. The wall clock stamps what is stored, and turns stored times into
//! delays once, when a record is loaded.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use crate::store::UnixMs;

/// A wall clock.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch, now.
    fn unix_ms(&self) -> UnixMs;
}

/// The machine's own.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn unix_ms(&self) -> UnixMs {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        UnixMs::try_from(since.as_millis()).unwrap_or(UnixMs::MAX)
    }
}

/// A wall clock that advances with tokio's, so that tests with paused time see both move together.
#[derive(Clone, Copy, Debug)]
pub struct AnchoredClock {
    start: Instant,
    start_ms: UnixMs,
}

impl AnchoredClock {
    /// A clock that shows `start_ms` now.
    #[must_use]
    pub fn starting_at(start_ms: UnixMs) -> Self {
        Self {
            start: Instant::now(),
            start_ms,
        }
    }
}

impl Clock for AnchoredClock {
    fn unix_ms(&self) -> UnixMs {
        let passed = UnixMs::try_from(self.start.elapsed().as_millis()).unwrap_or(UnixMs::MAX);
        self.start_ms.saturating_add(passed)
    }
}
