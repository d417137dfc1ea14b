//! The timers of one live transaction: a handful, so a plain list.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tercet_core::step::Timer;
use tokio::time::{Instant, Sleep, sleep_until};

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

/// What wakes a driver when the earliest timer is due. It stays set while that doesn't change: a driver
/// looks often, and its timers are seldom what has moved.
#[derive(Default)]
pub(super) struct Alarm(Option<Pin<Box<Sleep>>>);

impl Alarm {
    /// Ready from this instant on; never without one.
    pub(super) fn poll(&mut self, due: Option<Instant>, context: &mut Context<'_>) -> Poll<()> {
        let Some(due) = due else {
            self.0 = None;
            return Poll::Pending;
        };
        let sleep = self.0.get_or_insert_with(|| Box::pin(sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(context)
    }
}
