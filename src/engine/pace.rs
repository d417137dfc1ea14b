//! How many transactions that are due begin in a second.
//!
//! A limit of how many are recovered at once would not do: each takes a few milliseconds at rest, so that a
//! handful of them takes up all there is, and a hundred times as long under overload, when the handful is next to
//! nothing.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Begun in a second at first, at least, and at most.
const FIRST_PER_S: u64 = 1_000;
const LEAST_PER_S: u64 = 200;
const MOST_PER_S: u64 = 1_000_000;

#[derive(Debug)]
pub(super) struct Pace {
    per_s: AtomicU64,
    /// Since it was adapted, somebody has waited.
    has_held: AtomicBool,
    next: Mutex<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            per_s: AtomicU64::new(FIRST_PER_S),
            has_held: AtomicBool::new(false),
            next: Mutex::new(Instant::now()),
        }
    }
}

impl Pace {
    /// Waits until another may begin. Whoever comes after a rest finds one free, not all that were not asked for.
    pub(super) async fn turn(&self) {
        let now = Instant::now();
        let at = {
            let mut next = self.next.lock();
            let at = now.max(*next);
            *next = at + Duration::from_secs(1) / self.per_s.load(Relaxed) as u32;
            at
        };
        if at > now {
            self.has_held.store(true, Relaxed);
            sleep_until(at).await;
        }
    }

    /// Half as many while the process is late; more when it isn't, and somebody has waited.
    pub(super) fn adapt(&self, is_late: bool) {
        let per_s = self.per_s.load(Relaxed);
        let has_held = self.has_held.swap(false, Relaxed);
        let adapted = match (is_late, has_held) {
            (true, _) => per_s / 2,
            (false, true) => per_s + per_s / 16,
            (false, false) => per_s,
        };
        self.per_s
            .store(adapted.clamp(LEAST_PER_S, MOST_PER_S), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many begin within a second.
    async fn begun(pace: &Pace) -> u64 {
        let until = Instant::now() + Duration::from_secs(1);
        let mut count = 0;
        while tokio::time::timeout_at(until, pace.turn()).await.is_ok() {
            count += 1;
        }
        count
    }

    async fn assert_begun(pace: &Pace, per_s: u64) {
        let count = begun(pace).await;
        assert!(count.abs_diff(per_s) <= per_s / 100, "{count} of {per_s}");
    }

    #[tokio::test(start_paused = true)]
    async fn so_many_begin_in_a_second_and_never_more_after_a_rest() {
        let pace = Pace::default();
        assert_begun(&pace, FIRST_PER_S).await;
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_begun(&pace, FIRST_PER_S).await;
    }

    #[tokio::test(start_paused = true)]
    async fn half_as_many_begin_when_the_process_is_late_but_some_always_do() {
        let pace = Pace::default();
        pace.adapt(true);
        assert_begun(&pace, FIRST_PER_S / 2).await;
        (0..20).for_each(|_| pace.adapt(true));
        assert_begun(&pace, LEAST_PER_S).await;
    }

    #[tokio::test(start_paused = true)]
    async fn more_begin_once_there_is_use_for_it() {
        let pace = Pace::default();
        (0..20).for_each(|_| pace.adapt(false));
        assert_begun(&pace, FIRST_PER_S).await;
        pace.adapt(false);
        assert_begun(&pace, FIRST_PER_S + FIRST_PER_S / 16).await;
        for _ in 0..200 {
            pace.turn().await;
            pace.turn().await;
            pace.adapt(false);
        }
        assert_eq!(pace.per_s.load(Relaxed), MOST_PER_S);
    }
}
