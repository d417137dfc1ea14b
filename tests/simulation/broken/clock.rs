//! A wall clock that is worse than those which jump.

use std::{sync::Arc, time::Duration};

use tercet::{engine::Clock, store::UnixMs};
use tokio::time::Instant;

use super::Control;
use crate::parts::Parts;

pub const CONTROLS: &[Control] = &[
    // What is cut down justifies no call any more; what is purged may run again, and never ends.
    Control {
        what: "is a year ahead now and then",
        invariant: "S1",
        besides: &["L3", "S3", "S7", "S8", "S11"],
        parts: is_a_year_ahead_now_and_then,
    },
];

const YEAR_MS: UnixMs = 365 * 24 * 60 * 60 * 1000;
/// Between two looks at what has outlived its time.
const SWEEP: Duration = Duration::from_secs(60);

/// For the second of every minute in which old records are looked for, it shows another year.
fn is_a_year_ahead_now_and_then() -> Parts {
    Parts {
        clock: Box::new(|honest| {
            let started = Instant::now();
            Arc::new(Fickle { honest, started })
        }),
        ..Parts::honest()
    }
}

struct Fickle {
    honest: Arc<dyn Clock>,
    started: Instant,
}

impl Clock for Fickle {
    fn unix_ms(&self) -> UnixMs {
        let (ran, now_ms) = (self.started.elapsed(), self.honest.unix_ms());
        let is_ahead = ran >= SWEEP && ran.as_secs().is_multiple_of(SWEEP.as_secs());
        now_ms + if is_ahead { YEAR_MS } else { 0 }
    }
}
