//! A wall clock that is worse than those which jump.

use std::sync::Arc;

use tercet::{engine::Clock, store::UnixMs};

use crate::parts::Parts;

const YEAR_MS: UnixMs = 365 * 24 * 60 * 60 * 1000;

/// Every third second it shows another year: what is kept for weeks has outlived its time.
pub fn is_years_ahead_now_and_then() -> Parts {
    Parts {
        clock: Box::new(|honest| Arc::new(Fickle { honest })),
        ..Parts::honest()
    }
}

struct Fickle {
    honest: Arc<dyn Clock>,
}

impl Clock for Fickle {
    fn unix_ms(&self) -> UnixMs {
        let now_ms = self.honest.unix_ms();
        let is_ahead = now_ms / 1000 % 3 == 0;
        now_ms + if is_ahead { YEAR_MS } else { 0 }
    }
}
