//! From a stored record back to running timers: the only place where times of day become delays.

use std::time::Duration;

use tercet_core::{
    step::Timer,
    transaction::{BranchState, State},
};
use tokio::time::Instant;

use super::timers::Timers;
use crate::store::{Record, UnixMs};

/// After a restart no undecided transaction expires before its participants were asked once, or
/// before this long: the coordinator's own outage must not be what fails it.
const GRACE: Duration = Duration::from_secs(10);
/// The longest wait for an attempt, whatever the record's clock said: the ladder's longest interval
/// with its largest jitter.
pub(super) const ATTEMPT_WAIT_MAX: Duration = Duration::from_secs(480);

/// What the record says is due, as delays from now. Stored times are trusted no further than the
/// longest they can mean, so that a wall clock set back holds nothing up.
pub(super) fn timers(record: &Record, now_ms: UnixMs) -> Timers {
    let now = Instant::now();
    let mut timers = Timers::default();
    let transaction = &record.transaction;
    if transaction.state == State::Trying {
        let origin = &record.origin;
        let timeout_ms = delay_ms(origin.expire_ms, origin.create_ms, u64::MAX);
        let left_ms = delay_ms(origin.expire_ms, now_ms, timeout_ms);
        timers.arm(Timer::Expire, now + Duration::from_millis(left_ms));
    }
    for call in transaction.owed() {
        let times = record.branch_times.get(call.branch);
        let next_ms = times.and_then(|it| it.next_attempt_ms).unwrap_or(now_ms);
        let interval_ms = times.and_then(|it| it.interval_ms).unwrap_or(u64::MAX);
        let wait = Duration::from_millis(delay_ms(next_ms, now_ms, interval_ms));
        timers.arm(
            Timer::Attempt(call.branch),
            now + wait.min(ATTEMPT_WAIT_MAX),
        );
    }
    timers
}

fn delay_ms(until_ms: UnixMs, now_ms: UnixMs, max_ms: u64) -> u64 {
    u64::try_from(until_ms.saturating_sub(now_ms))
        .unwrap_or(0)
        .min(max_ms)
}

/// A deadline that waits for participants to be heard.
pub(super) struct Grace {
    deadline: Instant,
    unheard: Vec<usize>,
}

impl Grace {
    /// Holds back a deadline that is closer than the grace period.
    pub(super) fn hold(record: &Record, timers: &mut Timers) -> Option<Self> {
        let deadline = timers.at(Timer::Expire)?;
        let held = Instant::now() + GRACE;
        if deadline >= held {
            return None;
        }
        timers.arm(Timer::Expire, held);
        let branches = record.transaction.branches.iter().enumerate();
        let trying = branches.filter(|(_, it)| it.state == BranchState::Trying);
        Some(Self {
            deadline,
            unheard: trying.map(|(at, _)| at).collect(),
        })
    }

    /// A call of this branch has ended. Some, once: all were heard, and this is the deadline again.
    pub(super) fn heard(&mut self, branch: usize) -> Option<Instant> {
        let before = self.unheard.len();
        self.unheard.retain(|it| *it != branch);
        (before > 0 && self.unheard.is_empty()).then_some(self.deadline)
    }
}
