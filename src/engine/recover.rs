//! What is due by itself: found in the store at start, and kept in memory while the process runs.
//!
//! A parked transaction costs an entry here and nothing else. Its timers are kept on the monotonic
//! clock, so that a jump of the wall clock moves no deadline of a running process.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tercet_core::ids::TransactionId;
use tokio::{sync::Notify, time::Instant};

use super::{Inner, live::Command, loading::ATTEMPT_WAIT_MAX, timers::Timers};
use crate::store::Store;

/// Entries read from the store at once while unfinished work is found.
const PAGE_ENTRIES: usize = 1024;

/// Transactions that nobody drives right now, by the time at which somebody has to.
#[derive(Default)]
pub(super) struct Schedule {
    parked: Mutex<Parked>,
    earlier: Notify,
}

#[derive(Default)]
struct Parked {
    due: BTreeSet<(Instant, TransactionId)>,
    entries: HashMap<TransactionId, Entry>,
}

struct Entry {
    at: Instant,
    /// None when the record, not this process, says what is due when.
    timers: Option<Timers>,
}

impl Schedule {
    /// Keeps a transaction until its earliest timer.
    pub(super) fn park(&self, id: &TransactionId, timers: Timers) {
        if let Some(at) = timers.next() {
            self.insert(id, at, Some(timers));
        }
    }

    fn insert(&self, id: &TransactionId, at: Instant, timers: Option<Timers>) {
        let mut parked = self.parked.lock();
        let earliest = parked.due.first().map(|(first, _)| *first);
        if let Some(old) = parked.entries.insert(id.clone(), Entry { at, timers }) {
            parked.due.remove(&(old.at, id.clone()));
        }
        parked.due.insert((at, id.clone()));
        drop(parked);
        if earliest.is_none_or(|first| at < first) {
            self.earlier.notify_one();
        }
    }

    /// Gives a driver what was kept for its transaction. Some: it was parked by this process.
    pub(super) fn take(&self, id: &TransactionId) -> Option<Timers> {
        let mut parked = self.parked.lock();
        let entry = parked.entries.remove(id)?;
        parked.due.remove(&(entry.at, id.clone()));
        entry.timers
    }

    /// Has it driven again: at once from its record, unless it has been parked meanwhile, whose timers
    /// know better.
    pub(super) fn again(&self, id: &TransactionId) {
        let mut parked = self.parked.lock();
        if let Some(at) = parked.entries.get(id).map(|entry| entry.at) {
            parked.due.insert((at, id.clone()));
            self.earlier.notify_one();
            return;
        }
        drop(parked);
        self.insert(id, Instant::now(), None);
    }

    pub(super) fn len(&self) -> usize {
        self.parked.lock().entries.len()
    }

    /// Waits until something is due, and takes it off the list of what is.
    async fn next_due(&self) -> TransactionId {
        loop {
            let wait = {
                let mut parked = self.parked.lock();
                match parked.due.first() {
                    Some((at, _)) if *at <= Instant::now() => {
                        let (_, id) = parked.due.pop_first().expect("it has a first entry");
                        return id;
                    }
                    Some((at, _)) => Some(*at),
                    None => None,
                }
            };
            let until = async {
                match wait {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = until => {}
                () = self.earlier.notified() => {}
            }
        }
    }
}

/// Finds what an earlier process left unfinished, page by page, while the engine already serves.
///
/// What seems to be due later than any attempt can be is looked at all the same: the wall clock may
/// have been set back. If it was a deadline, the record is parked again until then.
pub(super) async fn load_unfinished(engine: Arc<Inner>) {
    let mut after = None;
    let mut found = 0_usize;
    loop {
        let read = move |store: &dyn Store| store.unfinished(after, PAGE_ENTRIES);
        let page = match engine.with_store(read).await {
            Ok(page) => page,
            Err(error) => return engine.fail(&error),
        };
        let Some(last) = page.last() else { break };
        after = Some(last.cursor);
        found += page.len();
        let (now, now_ms) = (Instant::now(), engine.clock.unix_ms());
        for entry in &page {
            let ahead_ms = u64::try_from(entry.due_ms.saturating_sub(now_ms)).unwrap_or(0);
            let ahead = Duration::from_millis(ahead_ms).min(ATTEMPT_WAIT_MAX);
            engine.schedule.insert_unless_known(&entry.id, now + ahead);
        }
        if engine.draining.is_cancelled() {
            return;
        }
    }
    if found > 0 {
        tracing::info!(
            found,
            "unfinished transactions found; driving them as they are due"
        );
    }
}

impl Schedule {
    /// What this process has parked itself knows better than the store's index.
    fn insert_unless_known(&self, id: &TransactionId, at: Instant) {
        if !self.parked.lock().entries.contains_key(id) {
            self.insert(id, at, None);
        }
    }
}

/// Drives what is due, in order, within its share of what may be in flight.
pub(super) async fn drive_due(engine: Arc<Inner>) {
    loop {
        let due = async {
            let permit = engine.admission.admit_due().await;
            (engine.schedule.next_due().await, permit)
        };
        let (id, permit) = tokio::select! {
            biased;
            () = engine.draining.cancelled() => return,
            due = due => due,
        };
        if engine.send(&id, Command::Wake(permit)).is_err() {
            engine.schedule.again(&id);
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use tercet_core::step::Timer;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_driven_again_keeps_the_timers_it_was_parked_with() {
        let schedule = Schedule::default();
        let id = TransactionId::parse("o").expect("an id");
        let mut timers = Timers::default();
        timers.arm(Timer::Expire, Instant::now());
        schedule.park(&id, timers);
        assert_eq!(schedule.next_due().await, id);
        schedule.again(&id);
        assert_eq!(schedule.next_due().await, id, "it is due again");
        assert!(
            schedule.take(&id).is_some(),
            "its timers were lost, as by a restart"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_parked_is_driven_again_from_its_record() {
        let schedule = Schedule::default();
        let id = TransactionId::parse("o").expect("an id");
        schedule.again(&id);
        assert_eq!(schedule.next_due().await, id);
        assert!(schedule.take(&id).is_none());
    }
}
