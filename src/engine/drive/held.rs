//! The callers who wait for the outcome of one transaction.

use crate::engine::live::Hold;

#[derive(Default)]
pub(super) struct Held(Vec<Hold>);

impl Held {
    /// Holds one more. Those that went away are forgotten: a transaction may be asked after for days.
    pub(super) fn hold(&mut self, caller: Hold) {
        self.0.retain(|other| !other.is_closed());
        self.0.push(caller);
    }

    /// The outcome is known.
    pub(super) fn let_go(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot::{self, error::TryRecvError};

    use super::*;

    #[test]
    fn callers_are_held_until_the_outcome_is_known_or_they_go_away() {
        let mut held = Held::default();
        let (hold, mut stays) = oneshot::channel();
        held.hold(hold);
        for _ in 0..100 {
            let (hold, goes_away) = oneshot::channel();
            held.hold(hold);
            drop(goes_away);
        }
        assert_eq!(held.0.len(), 2, "one stays, and one has just gone");
        assert_eq!(stays.try_recv(), Err(TryRecvError::Empty));
        held.let_go();
        assert_eq!(stays.try_recv(), Err(TryRecvError::Closed));
    }
}
