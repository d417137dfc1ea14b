//! A limit that moves while others are inside it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::sync::Semaphore;

/// The right to be inside; given back when dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Gate>);

/// A limit that moves, and how many are inside it.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) least: usize,
    max: usize,
    limit: AtomicUsize,
    permits: Semaphore,
    /// Inside when the limit shrank: so many of those who leave make no room.
    excess: AtomicUsize,
}

impl Gate {
    /// A limit of `first`, never below `least`; neither is more than `max`, which may be without end.
    pub(crate) fn new(max: usize, (first, least): (usize, usize)) -> Arc<Self> {
        let max = max.min(Semaphore::MAX_PERMITS);
        let limit = first.min(max);
        Arc::new(Self {
            least: least.min(max),
            max,
            limit: AtomicUsize::new(limit),
            permits: Semaphore::new(limit),
            excess: AtomicUsize::new(0),
        })
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Relaxed)
    }

    pub(crate) fn inside(&self) -> usize {
        let room = self.permits.available_permits();
        (self.limit() + self.excess.load(Relaxed)).saturating_sub(room)
    }

    /// Shrinks while the process is late, and grows while it isn't and there is use for more. Room that
    /// nobody has used is none.
    pub(crate) fn adapt(&self, is_late: bool) {
        let (limit, inside) = (self.limit(), self.inside());
        if is_late {
            self.set(limit.min(inside) / 8 * 7);
        } else if inside >= limit / 2 {
            self.grow();
        }
    }

    pub(crate) fn grow(&self) {
        let limit = self.limit();
        self.set(limit + limit / 16 + 1);
    }

    /// But not before those who are too many have left.
    pub(crate) fn shrink_slowly(&self, least: usize) {
        let limit = self.limit();
        if self.inside() <= limit {
            self.set((limit / 16 * 15).max(least.min(limit)));
        }
    }

    /// Only one task moves it.
    pub(crate) fn set(&self, limit: usize) {
        let limit = limit.clamp(self.least, self.max);
        let before = self.limit.swap(limit, Relaxed);
        if limit < before {
            let forgotten = self.permits.forget_permits(before - limit);
            self.excess.fetch_add(before - limit - forgotten, Relaxed);
        } else {
            let forgiven = take(&self.excess, limit - before);
            self.permits.add_permits(limit - before - forgiven);
        }
    }

    pub(crate) fn try_enter(gate: &Arc<Self>) -> Option<Permit> {
        gate.permits.try_acquire().ok()?.forget();
        Some(Permit(Arc::clone(gate)))
    }

    /// In the order of those who come.
    pub(crate) async fn enter(gate: &Arc<Self>) -> Permit {
        let permit = gate.permits.acquire().await;
        permit.expect("it is never closed").forget();
        Permit(Arc::clone(gate))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if take(&self.0.excess, 1) == 0 {
            self.0.permits.add_permits(1);
        }
    }
}

/// Takes up to so many away, and says how many it were.
fn take(from: &AtomicUsize, most: usize) -> usize {
    let rest = |there: usize| (there > 0).then(|| there.saturating_sub(most));
    let there = from.fetch_update(Relaxed, Relaxed, rest);
    there.map_or(0, |there| there.min(most))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Everybody who still finds room.
    pub(crate) fn fill(gate: &Arc<Gate>) -> Vec<Permit> {
        std::iter::from_fn(|| Gate::try_enter(gate)).collect()
    }

    #[test]
    fn those_who_are_too_many_make_no_room_when_they_leave() {
        let gate = Gate::new(100, (100, 1));
        let mut inside = fill(&gate);
        gate.set(40);
        assert_eq!((gate.limit(), gate.inside()), (40, 100));
        inside.truncate(41);
        assert_eq!(gate.inside(), 41);
        assert!(Gate::try_enter(&gate).is_none());
        inside.truncate(39);
        inside.extend(Gate::try_enter(&gate));
        assert_eq!((inside.len(), gate.inside()), (40, 40));
        assert!(Gate::try_enter(&gate).is_none());
        gate.set(20);
        gate.set(50);
        inside.append(&mut fill(&gate));
        assert_eq!((inside.len(), gate.inside()), (50, 50));
        inside.clear();
        assert_eq!(gate.inside(), 0);
        assert_eq!(fill(&gate).len(), 50);
    }
}
