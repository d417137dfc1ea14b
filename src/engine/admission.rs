//! How much may be in flight, new work and recovery apart, so that neither starves the other.
//!
//! ```text
//!                    refused                 waits
//! new transaction ─────┴──▶ in flight ───────┴──▶ beginning ──▶ its tries are out ──▶ its end
//! ```
//!
//! 1. The limits that are configured hold when transactions wait for participants. When they wait for this
//!    process instead, each one more makes all others later, until none is done in time.
//! 2. So few begin at once: a place among those is given back when the first calls go out, and whoever
//!    waits for a participant takes up none. How many they may be follows from how late the process is, and so
//!    does how many that are due begin in a second (see [`pace`](super::pace)).
//! 3. Others wait for their turn before anything is done for them. Once somebody has to be refused while the
//!    process is late, less is let in: what more is let in only waits longer.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use tercet_core::ids::TransactionId;
use tokio::time::{Instant, timeout};

use super::{Engine, EngineConfig, EngineError, Inner, pace::Pace};
use crate::gate::{Gate, Permit};

/// What a new caller is told to wait when too much is in flight.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// Who has waited for so long to begin is refused as well: a caller that gives up while its transaction runs has
/// it run for nobody.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// How often the limits are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Later than this in the mean, the process has more to do than is good. One that has time left for others is
/// late by a millisecond or two: its timers are as coarse.
const LATE: Duration = Duration::from_millis(5);
/// Recovery leaves others what it would make them late with: nobody waits for it.
const LATE_BY_RECOVERY: Duration = Duration::from_millis(2);
/// Over so many ticks goes that mean. No tick counts for more than so many times what is too late, so that one
/// pause of the machine does not make it.
const MEAN_OF_TICKS: u64 = 8;
const PAUSE: u32 = 4;
/// New transactions that may be in flight at least. So many don't make anybody late who has a machine to himself,
/// and many at once cost less each: only who keeps others waiting for too long takes on fewer, as few as begin at
/// least.
const INFLIGHT_LEAST: usize = 256;
/// That may begin at once at first, and at least.
const BEGINNING: (usize, usize) = (256, 64);

/// A place in flight for a new transaction, and its turn to begin.
#[derive(Debug)]
pub struct Room {
    pub(super) place: Permit,
    /// To be given back when its first calls go out.
    pub(super) turn: Permit,
    /// For how long its caller has waited.
    pub(super) waited: Duration,
}

pub(super) struct Admission {
    new: Arc<Gate>,
    beginning: Arc<Gate>,
    recovery: Arc<Gate>,
    pace: Pace,
    lateness: Lateness,
    /// Since the last tick there was no room for somebody,
    has_refused: AtomicBool,
    /// or somebody's turn did not come in time.
    has_kept_waiting: AtomicBool,
}

impl Admission {
    pub(super) fn new(config: &EngineConfig) -> Self {
        let (new, recovery) = (config.inflight_max, config.recovery_inflight_max);
        Self {
            new: Gate::new(new, (new, BEGINNING.1)),
            beginning: Gate::new(new, BEGINNING),
            recovery: Gate::new(recovery, (recovery, recovery)),
            pace: Pace::default(),
            lateness: Lateness::default(),
            has_refused: AtomicBool::new(false),
            has_kept_waiting: AtomicBool::new(false),
        }
    }

    /// A place for a new transaction, if there is one right now. Not to get one is not to be refused.
    pub(super) fn place(&self) -> Option<Permit> {
        Gate::try_enter(&self.new)
    }

    /// Waits until it is the turn of one that has a place; none if that takes too long.
    pub(super) async fn turn(&self, place: Permit) -> Option<Room> {
        let since = Instant::now();
        let turn = match Gate::try_enter(&self.beginning) {
            Some(turn) => Ok(turn),
            // Boxed, for those who need not wait have no use for it.
            None => Box::pin(timeout(WAIT_MAX, Gate::enter(&self.beginning))).await,
        };
        let Ok(turn) = turn else {
            self.has_kept_waiting.store(true, Relaxed);
            return None;
        };
        let waited = since.elapsed();
        Some(Room {
            place,
            turn,
            waited,
        })
    }

    /// Room for a transaction that is due; waits for it.
    pub(super) async fn admit_due(&self) -> Permit {
        let place = Gate::enter(&self.recovery).await;
        self.pace.turn().await;
        place
    }

    /// New transactions in flight, those that wait for their turn among them.
    pub(super) fn inflight(&self) -> usize {
        self.new.inside()
    }

    /// How many may be, right now.
    pub(super) fn inflight_limit(&self) -> usize {
        self.new.limit()
    }

    /// What a new transaction is told for which there is no room.
    pub(super) fn refusal(&self) -> EngineError {
        self.has_refused.store(true, Relaxed);
        EngineError::InflightLimit {
            limit: self.inflight_limit(),
            retry_after: RETRY_AFTER,
        }
    }

    fn adapt(&self, lateness: Duration) {
        let is_late = self.lateness.mean_with(lateness) > LATE;
        self.beginning.adapt(is_late);
        self.pace.adapt(lateness > LATE_BY_RECOVERY);
        let has_refused = self.has_refused.swap(false, Relaxed);
        let has_kept_waiting = self.has_kept_waiting.swap(false, Relaxed);
        let least = if has_kept_waiting {
            self.new.least
        } else {
            INFLIGHT_LEAST
        };
        if has_refused && is_late {
            self.new.shrink_slowly(least);
        } else {
            self.new.grow();
        }
    }
}

impl Engine {
    /// Room for a new transaction, if there is any: waits for its turn to begin. It costs next to nothing, so it
    /// can come before anything else is done for a caller.
    pub async fn room(&self) -> Option<Room> {
        let admission = &self.inner.admission;
        let place = admission.place()?;
        admission.turn(place).await
    }

    /// When there is no room: whether a transaction of this id is known all the same.
    ///
    /// # Errors
    /// `InflightLimit` if it is not, or what the store says.
    pub fn refuse_unknown(&self, id: &TransactionId) -> Result<(), EngineError> {
        if self.inner.live.contains(id) || self.inner.store.read(id)?.is_some() {
            return Ok(());
        }
        Err(self.inner.admission.refusal())
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

/// How late the process is in the mean.
#[derive(Debug, Default)]
struct Lateness(AtomicU64);

impl Lateness {
    fn mean_with(&self, tick: Duration) -> Duration {
        let tick_us = tick.min(PAUSE * LATE).as_micros() as u64;
        let mean_us = self.0.load(Relaxed);
        let mean_us = mean_us - mean_us / MEAN_OF_TICKS + tick_us / MEAN_OF_TICKS;
        self.0.store(mean_us, Relaxed);
        Duration::from_micros(mean_us)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures::FutureExt as _;

    use super::*;
    use crate::gate::tests::fill;

    fn admission() -> Admission {
        Admission::new(&EngineConfig {
            inflight_max: 4096,
            recovery_inflight_max: 1024,
            ..EngineConfig::default()
        })
    }

    /// As late as it shall not be in the mean.
    const TOO_LATE: Duration = Duration::from_millis(6);

    fn ticks(admission: &Admission, count: usize, lateness: Duration) {
        (0..count).for_each(|_| admission.adapt(lateness));
    }

    fn refusing_ticks(admission: &Admission, count: usize, lateness: Duration) {
        for _ in 0..count {
            admission.refusal();
            admission.adapt(lateness);
        }
    }

    #[test]
    fn fewer_begin_while_the_process_is_late_and_more_while_there_is_use_for_it() {
        let admission = admission();
        let beginning = &admission.beginning;
        assert_eq!(beginning.limit(), 256);
        ticks(&admission, 10, Duration::ZERO);
        assert_eq!(beginning.limit(), 256, "nobody needs more");
        let mut inside = fill(beginning);
        for _ in 0..100 {
            ticks(&admission, 1, Duration::from_millis(1));
            inside.append(&mut fill(beginning));
        }
        assert_eq!(beginning.limit(), 4096);
        ticks(&admission, 1, Duration::from_secs(1));
        assert_eq!(beginning.limit(), 4096, "that was a pause");
        ticks(&admission, 100, TOO_LATE);
        assert_eq!(beginning.limit(), 64);
        assert_eq!(admission.inflight_limit(), 4096, "nobody is refused");
    }

    #[test]
    fn one_that_refuses_takes_on_less_when_it_is_late() {
        let admission = admission();
        let mut inside = fill(&admission.new);
        refusing_ticks(&admission, 50, Duration::from_millis(1));
        assert_eq!(admission.inflight_limit(), 4096, "that is not late");
        refusing_ticks(&admission, 50, TOO_LATE);
        assert_eq!(admission.inflight_limit(), 3840, "the others have to leave");
        inside.truncate(3840);
        refusing_ticks(&admission, 1, TOO_LATE);
        assert_eq!(admission.inflight_limit(), 3600);
        inside.clear();
        refusing_ticks(&admission, 100, TOO_LATE);
        assert_eq!(admission.inflight_limit(), 256);
        ticks(&admission, 100, TOO_LATE);
        assert_eq!(admission.inflight_limit(), 4096, "nobody is refused");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_does_not_come_is_a_refusal_and_less_is_taken_on() {
        let admission = admission();
        let beginning = fill(&admission.beginning);
        let place = || admission.place().expect("there is room");
        let late = timeout(WAIT_MAX * 2, admission.turn(place())).await;
        assert!(late.expect("it gives up").is_none());
        assert_eq!(admission.inflight(), 0, "it has left");
        for _ in 0..100 {
            refusing_ticks(&admission, 1, TOO_LATE);
            admission.has_kept_waiting.store(true, Relaxed);
        }
        assert_eq!(admission.inflight_limit(), 64);
        refusing_ticks(&admission, 100, TOO_LATE);
        assert_eq!(admission.inflight_limit(), 64, "and it stays so");
        drop(beginning);
        let room = admission.turn(place()).now_or_never().flatten();
        assert_eq!(room.expect("it is free").waited, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_come_in_order() {
        let admission = admission();
        let mut beginning = fill(&admission.beginning);
        let turn = || admission.turn(admission.place().expect("there is room"));
        let (mut first, mut second) = (Box::pin(turn()), Box::pin(turn()));
        assert!((&mut first).now_or_never().is_none());
        assert!((&mut second).now_or_never().is_none());
        tokio::time::advance(TICK).await;
        drop(beginning.pop());
        assert!((&mut second).now_or_never().is_none(), "it came later");
        assert!(turn().now_or_never().is_none(), "so did this one");
        let room = first.now_or_never().flatten().expect("it is its turn");
        assert_eq!(room.waited, TICK);
        drop(room);
        assert!(second.now_or_never().flatten().is_some());
    }

    #[test]
    fn a_refusal_names_the_limit_of_the_moment() {
        let admission = admission();
        ticks(&admission, 100, TOO_LATE);
        refusing_ticks(&admission, 1, TOO_LATE);
        let limit = admission.inflight_limit();
        assert_eq!(limit, 3840);
        let _inside = fill(&admission.new);
        assert!(admission.place().is_none());
        assert!(matches!(
            admission.refusal(),
            EngineError::InflightLimit { limit: 3840, .. }
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_waits_for_room() {
        let admission = admission();
        let mut inside = Vec::new();
        for _ in 0..1024 {
            inside.push(admission.admit_due().await);
        }
        let waits = timeout(TICK, admission.admit_due());
        assert!(waits.await.is_err(), "more than may be");
        let (permit, ()) = tokio::join!(admission.admit_due(), async { drop(inside.pop()) });
        drop(permit);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_due_makes_way_before_anybody_else_does() {
        let admission = admission();
        ticks(&admission, 20, Duration::from_millis(3));
        assert_eq!(admission.beginning.limit(), 256);
        let begun = async {
            for _ in 0..=100 {
                admission.admit_due().await;
            }
        };
        let since = Instant::now();
        begun.await;
        let took = since.elapsed();
        assert!(took >= Duration::from_millis(500), "{took:?}");
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
        let busy = async { std::thread::sleep(TICK + 2 * LATE) };
        let (late, ()) = tokio::join!(lateness(), busy);
        assert!(late > LATE, "{late:?}");
    }
}
