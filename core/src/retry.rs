//! When an indeterminate call is repeated.
//!
//! While a caller waits: 0.2 s and 1 s after the last attempt ended. After that, or with nobody
//! waiting, the ladder: 5, 10, 20, 40, 80, 160, 320 s, then every 300 s for ever. A participant's
//! `retry_after` replaces the interval, within 100 ms to 300 s.

use std::sync::Arc;

/// The intervals of the first attempts while a caller waits, in milliseconds.
pub const EARLY_INTERVALS_MS: [u64; 2] = [200, 1_000];
/// The shortest and the longest `retry_after` that is honoured, in milliseconds.
pub const RETRY_AFTER_MS: std::ops::RangeInclusive<u64> = 100..=300_000;

const LADDER_MS: [u64; 8] = [
    5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 300_000,
];

/// The ladder of one transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RetryPolicy {
    /// Intervals in order, then the last one for ever; never empty, each at least 1 ms.
    pub intervals_ms: Arc<[u64]>,
    /// How far an interval may be stretched or shortened, 0 to 500 per mille.
    pub jitter_permille: u16,
    /// Failed attempts of one operation until a person is asked to look; at least 1.
    pub attention_after_attempts: u32,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            intervals_ms: LADDER_MS.into(),
            jitter_permille: 100,
            attention_after_attempts: 8,
        }
    }
}

/// How far one branch has come on its way through the intervals.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pace {
    /// Early intervals used up.
    pub early: u8,
    /// Rungs of the ladder used up.
    pub ladder: u32,
}

impl RetryPolicy {
    /// The next interval in milliseconds, and the pace after it. `attended`: a caller waits.
    /// `jitter`: −1000 to 1000, drawn by the caller, as a share of `jitter_permille`.
    #[must_use]
    pub fn next(&self, pace: Pace, attended: bool, jitter: i16) -> (u64, Pace) {
        if attended && let Some(&early_ms) = EARLY_INTERVALS_MS.get(usize::from(pace.early)) {
            let early = pace.early + 1;
            return (early_ms, Pace { early, ..pace });
        }
        let last = self.intervals_ms.len().saturating_sub(1);
        let rung = usize::try_from(pace.ladder).map_or(last, |rung| rung.min(last));
        let ladder = pace.ladder.saturating_add(1);
        (self.jittered(rung, jitter), Pace { ladder, ..pace })
    }

    /// The last interval in milliseconds: the one a refused Confirm or Cancel is repeated at.
    #[must_use]
    pub fn last(&self, jitter: i16) -> u64 {
        self.jittered(self.intervals_ms.len().saturating_sub(1), jitter)
    }

    fn jittered(&self, rung: usize, jitter: i16) -> u64 {
        let base = self.intervals_ms.get(rung).copied().unwrap_or(300_000);
        let stretch = i128::from(self.jitter_permille) * i128::from(jitter.clamp(-1000, 1000));
        let scaled = i128::from(base) * (1_000_000 + stretch) / 1_000_000;
        u64::try_from(scaled).unwrap_or(base).max(1)
    }
}

/// A participant's `retry_after`, brought within its limits.
#[must_use]
pub fn retry_after(asked_ms: u64) -> u64 {
    asked_ms.clamp(*RETRY_AFTER_MS.start(), *RETRY_AFTER_MS.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn intervals(policy: &RetryPolicy, attended: bool, jitter: i16, count: usize) -> Vec<u64> {
        let mut pace = Pace::default();
        let mut seen = Vec::new();
        for _ in 0..count {
            let (interval_ms, next) = policy.next(pace, attended, jitter);
            seen.push(interval_ms);
            pace = next;
        }
        seen
    }

    #[test]
    fn nobody_waiting_climbs_the_ladder_and_stays_on_its_last_rung() {
        assert_eq!(
            intervals(&RetryPolicy::default(), false, 0, 10),
            [
                5_000, 10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 300_000, 300_000, 300_000
            ]
        );
    }

    #[test]
    fn a_waiting_caller_gets_two_early_attempts_that_use_up_no_rung() {
        assert_eq!(
            intervals(&RetryPolicy::default(), true, 0, 4),
            [200, 1_000, 5_000, 10_000]
        );
    }

    #[test]
    fn jitter_stays_within_its_per_mille() {
        let policy = RetryPolicy::default();
        assert_eq!(intervals(&policy, false, 1000, 2), [5_500, 11_000]);
        assert_eq!(intervals(&policy, false, -1000, 2), [4_500, 9_000]);
        assert_eq!(policy.last(500), 315_000);
    }

    #[test]
    fn a_hint_is_kept_within_its_limits() {
        assert_eq!(retry_after(0), 100);
        assert_eq!(retry_after(2_000), 2_000);
        assert_eq!(retry_after(u64::MAX), 300_000);
    }

    #[test]
    fn the_ladder_never_overflows() {
        let policy = RetryPolicy::default();
        let pace = Pace {
            early: 2,
            ladder: u32::MAX,
        };
        assert_eq!(policy.next(pace, true, 0), (300_000, pace));
    }
}
