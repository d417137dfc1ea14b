//! How much may be in flight, new work and recovery apart, so that neither starves the other.
//!
//! The limits that are configured hold when transactions wait for participants. When they wait for this
//! process instead, each that is let in makes all others later, until none is done in time. So both
//! limits shrink while the process is late with what it has, and grow back when it is not. Once somebody has to
//! be refused it need not be late by much: what it does is limited by then, and what more is let in only waits.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{EngineConfig, EngineError, Inner};

/// What a new caller is told to wait when too much is in flight.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How often the limits are looked at.
const TICK: Duration = Duration::from_millis(50);
/// A transaction takes about ten turns on the processors, and each may have to be waited for so long. A
/// machine that pauses for a moment is no reason to refuse anybody.
const FOR_NEW: Tolerance = Tolerance {
    late: Duration::from_millis(50),
    ticks: 10,
    least: 16,
};
/// Recovery makes way long before new work is refused. A few at once are fast where participants are.
const FOR_RECOVERY: Tolerance = Tolerance {
    late: Duration::from_millis(5),
    ticks: 1,
    least: 64,
};

/// Later than this in the mean, a process that refuses work takes on less. One that has time left for others is
/// late by a millisecond or two: its timers are as coarse.
const LATE_REFUSING: Duration = Duration::from_millis(5);
/// Over so many ticks goes that mean. No tick counts for more than so many times what is too late, so that one
/// pause of the machine does not make it.
const MEAN_OF_TICKS: u64 = 8;
const PAUSE: u32 = 4;

/// The right to be in flight; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit(Arc<Gate>);

pub(super) struct Admission {
    new: Arc<Gate>,
    recovery: Arc<Gate>,
}

impl Admission {
    pub(super) fn new(config: &EngineConfig) -> Self {
        Self {
            new: Arc::new(Gate::new(config.inflight_max, FOR_NEW)),
            recovery: Arc::new(Gate::new(config.recovery_inflight_max, FOR_RECOVERY)),
        }
    }

    /// Room for a new transaction, or a refusal at once: new work never queues here.
    pub(super) fn admit_new(&self) -> Result<Permit, EngineError> {
        let permit = Gate::try_enter(&self.new);
        permit.ok_or_else(|| self.refusal())
    }

    /// Whether there is room for a new transaction right now. To ask is not to be refused.
    pub(super) fn has_room(&self) -> bool {
        self.new.has_room()
    }

    /// Room for a transaction that is due; waits for it.
    pub(super) async fn admit_due(&self) -> Permit {
        Gate::enter(&self.recovery).await
    }

    /// New transactions in flight.
    pub(super) fn inflight(&self) -> usize {
        self.new.inside.load(Relaxed)
    }

    /// How many may be, right now.
    pub(super) fn inflight_limit(&self) -> usize {
        self.new.limit()
    }

    /// What a new transaction is told for which there is no room.
    pub(super) fn refusal(&self) -> EngineError {
        self.new.has_refused.store(true, Relaxed);
        EngineError::InflightLimit {
            limit: self.inflight_limit(),
            retry_after: RETRY_AFTER,
        }
    }

    fn adapt(&self, lateness: Duration) {
        self.new.adapt(lateness);
        self.recovery.adapt(lateness);
    }
}

/// Fits the limits to how late the process is, for as long as it runs.
pub(super) async fn fit_for_ever(engine: Arc<Inner>) {
    loop {
        tokio::select! {
            biased;
            () = engine.draining.cancelled() => return,
            lateness = lateness() => engine.admission.adapt(lateness),
        }
    }
}

/// How much later than it should a task gets its turn.
async fn lateness() -> Duration {
    let due = Instant::now() + TICK;
    tokio::time::sleep_until(due).await;
    end_of_the_line().await;
    due.elapsed()
}

/// Returns when everything that is ready now has had a turn. A task that a timer wakes goes first, and one that
/// yields as Tokio has it waits for more; one that wakes itself does this.
async fn end_of_the_line() {
    let mut has_waited = false;
    poll_fn(|context| {
        if has_waited {
            return Poll::Ready(());
        }
        has_waited = true;
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// When a limit shrinks, and how far.
#[derive(Debug)]
struct Tolerance {
    /// The process is later than this,
    late: Duration,
    /// for so many ticks in a row.
    ticks: u32,
    /// Down to this part of what is configured.
    least: usize,
}

/// A limit that moves, and how many are inside it.
#[derive(Debug)]
struct Gate {
    max: usize,
    tolerance: Tolerance,
    /// For how many ticks in a row it was late.
    late: AtomicU32,
    /// How late it is in the mean.
    lateness_us: AtomicU64,
    /// It had no room for somebody, since the last tick.
    has_refused: AtomicBool,
    limit: AtomicUsize,
    inside: AtomicUsize,
    /// Somebody has left, or the limit has moved.
    moved: Notify,
}

impl Gate {
    fn new(max: usize, tolerance: Tolerance) -> Self {
        Self {
            max,
            tolerance,
            late: AtomicU32::new(0),
            lateness_us: AtomicU64::new(0),
            has_refused: AtomicBool::new(false),
            limit: AtomicUsize::new(max),
            inside: AtomicUsize::new(0),
            moved: Notify::new(),
        }
    }

    fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    /// Fewer than the least limit can't be what makes the process late.
    fn adapt(&self, lateness: Duration) {
        let (limit, inside) = (self.limit(), self.inside.load(Relaxed));
        let least = self.max.div_ceil(self.tolerance.least);
        let is_late = lateness > self.tolerance.late && inside > least;
        let late = if is_late {
            self.late.load(Relaxed).saturating_add(1)
        } else {
            0
        };
        self.late.store(late, Relaxed);
        let is_crowded = self.is_crowded(lateness);
        let limit = if late >= self.tolerance.ticks {
            limit.min(inside) / 8 * 7
        } else if is_crowded && inside <= limit {
            limit / 16 * 15
        } else if is_late || is_crowded {
            limit
        } else {
            limit + limit / 16 + 1
        };
        self.limit.store(limit.clamp(least, self.max), Relaxed);
        self.moved.notify_one();
    }

    /// Counts a tick in; whether it refuses, and is late enough for that to take on less.
    fn is_crowded(&self, lateness: Duration) -> bool {
        let tick = lateness.min(PAUSE * LATE_REFUSING).as_micros() as u64;
        let mean = self.lateness_us.load(Relaxed);
        let mean = mean - mean / MEAN_OF_TICKS + tick / MEAN_OF_TICKS;
        self.lateness_us.store(mean, Relaxed);
        let has_refused = self.has_refused.swap(false, Relaxed);
        has_refused && Duration::from_micros(mean) > LATE_REFUSING
    }

    fn has_room(&self) -> bool {
        self.inside.load(Relaxed) < self.limit()
    }

    fn try_enter(gate: &Arc<Self>) -> Option<Permit> {
        let limit = gate.limit();
        let enter = |inside| (inside < limit).then_some(inside + 1);
        let entered = gate.inside.fetch_update(Relaxed, Relaxed, enter);
        entered.is_ok().then(|| Permit(Arc::clone(gate)))
    }

    async fn enter(gate: &Arc<Self>) -> Permit {
        loop {
            let moved = gate.moved.notified();
            match Self::try_enter(gate) {
                Some(permit) => return permit,
                None => moved.await,
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Relaxed);
        self.0.moved.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission() -> Admission {
        Admission::new(&EngineConfig {
            inflight_max: 160,
            recovery_inflight_max: 32,
            ..EngineConfig::default()
        })
    }

    fn fill(admission: &Admission) -> Vec<Permit> {
        std::iter::from_fn(|| Gate::try_enter(&admission.new)).collect()
    }

    /// As late as new work does not put up with.
    const LATE: Duration = Duration::from_millis(51);

    /// Late for so long that new work is refused with the next tick.
    fn late(admission: &Admission) {
        (1..FOR_NEW.ticks).for_each(|_| admission.adapt(LATE));
    }

    #[test]
    fn a_limit_shrinks_while_the_process_is_late_and_grows_back() {
        let admission = admission();
        let mut inside = fill(&admission);
        assert_eq!(inside.len(), 160);
        late(&admission);
        assert_eq!(admission.inflight_limit(), 160, "it may be a pause");
        admission.adapt(LATE);
        assert_eq!(admission.inflight_limit(), 140);
        inside.truncate(100);
        admission.adapt(LATE);
        assert_eq!(
            admission.inflight_limit(),
            84,
            "what is not used is no room"
        );
        inside.truncate(11);
        admission.adapt(LATE);
        assert_eq!(admission.inflight_limit(), 10, "a sixteenth");
        (0..100).for_each(|_| admission.adapt(Duration::ZERO));
        assert_eq!(admission.inflight_limit(), 160);
        inside.append(&mut fill(&admission));
        admission.adapt(LATE);
        assert_eq!(admission.inflight_limit(), 160, "it is counted anew");
    }

    #[test]
    fn one_that_refuses_takes_on_less_when_it_is_a_little_late() {
        let little = LATE_REFUSING + Duration::from_millis(1);
        let ticks = |admission: &Admission, count: usize, lateness| {
            for _ in 0..count {
                admission.refusal();
                admission.adapt(lateness);
            }
        };
        let admission = admission();
        let mut inside = fill(&admission);
        for _ in 0..50 {
            assert!(!admission.has_room());
            admission.adapt(little);
        }
        assert_eq!(admission.inflight_limit(), 160, "nobody is refused");
        (0..50).for_each(|_| admission.adapt(Duration::from_millis(1)));
        ticks(&admission, 50, Duration::from_millis(1));
        assert_eq!(admission.inflight_limit(), 160, "that is not late");
        ticks(&admission, 1, Duration::from_secs(1));
        ticks(&admission, 1, Duration::ZERO);
        assert_eq!(admission.inflight_limit(), 160, "a pause");
        ticks(&admission, 50, little);
        assert_eq!(admission.inflight_limit(), 150, "the others have to leave");
        inside.truncate(150);
        ticks(&admission, 1, little);
        assert_eq!(admission.inflight_limit(), 135);
        inside.clear();
        ticks(&admission, 100, little);
        assert_eq!(admission.inflight_limit(), 10, "a sixteenth");
        ticks(&admission, 100, Duration::from_millis(1));
        assert_eq!(admission.inflight_limit(), 160);
    }

    #[tokio::test]
    async fn recovery_makes_way_first() {
        let admission = admission();
        let _new = fill(&admission);
        let due = async || admission.admit_due().await;
        let _inside = [due().await, due().await, due().await];
        admission.adapt(LATE / 2);
        assert_eq!(admission.recovery.limit(), 1);
        assert_eq!(admission.inflight_limit(), 160);
    }

    #[test]
    fn a_few_in_flight_are_not_why_the_process_is_late() {
        let admission = admission();
        let _inside: Vec<_> = (0..10).map(|_| admission.admit_new()).collect();
        late(&admission);
        admission.adapt(LATE);
        assert_eq!(admission.inflight_limit(), 160);
    }

    #[test]
    fn a_refusal_names_the_limit_of_the_moment() {
        let admission = admission();
        assert!(admission.has_room());
        let _inside = fill(&admission);
        late(&admission);
        admission.adapt(LATE);
        let refused = admission.admit_new().expect_err("there is no room");
        assert!(matches!(
            refused,
            EngineError::InflightLimit { limit: 140, .. }
        ));
        assert!(!admission.has_room());
        assert_eq!(admission.refusal(), refused);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_waits_for_room() {
        let admission = admission();
        let mut inside = Vec::new();
        for _ in 0..32 {
            inside.push(admission.admit_due().await);
        }
        let waits = tokio::time::timeout(TICK, admission.admit_due());
        assert!(waits.await.is_err(), "more than may be");
        let (permit, ()) = tokio::join!(admission.admit_due(), async { drop(inside.pop()) });
        drop(permit);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_is_ready_has_its_turn_first() {
        let on_a_worker = tokio::spawn(async {
            let others = Arc::new(AtomicUsize::new(0));
            for _ in 0..100 {
                let others = Arc::clone(&others);
                tokio::spawn(async move { others.fetch_add(1, Relaxed) });
            }
            end_of_the_line().await;
            others.load(Relaxed)
        });
        assert_eq!(on_a_worker.await.expect("it doesn't panic"), 100);
    }

    #[tokio::test]
    async fn a_task_that_keeps_the_others_from_running_makes_them_late() {
        let busy = async { std::thread::sleep(TICK + 2 * FOR_NEW.late) };
        let (late, ()) = tokio::join!(lateness(), busy);
        assert!(late > FOR_NEW.late, "{late:?}");
    }
}
