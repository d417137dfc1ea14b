//! The timers of one live transaction: a handful, so a plain list.

use tercet_core::step::Timer;
use tokio::time::Instant;

/// When something is due by itself, on the monotonic clock.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers(Vec<(Timer, Instant)>);

impl Timers {
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        self.cancel(timer);
        self.0.push((timer, at));
    }

    pub(super) fn cancel(&mut self, timer: Timer) {
        self.0.retain(|(it, _)| *it != timer);
    }

    /// Once decided, only attempts are left to wait for.
    pub(super) fn keep_attempts(&mut self) {
        self.0.retain(|(it, _)| matches!(it, Timer::Attempt(_)));
    }

    /// When this one is due.
    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0
            .iter()
            .find(|(it, _)| *it == timer)
            .map(|(_, at)| *at)
    }

    /// The earliest instant at which one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().map(|(_, at)| *at).min()
    }

    /// Takes the earliest one that is due, if one is.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<Timer> {
        let (at, _) = self
            .0
            .iter()
            .enumerate()
            .min_by_key(|(_, (timer, at))| (*at, *timer))?;
        (self.0[at].1 <= now).then(|| self.0.swap_remove(at).0)
    }
}
