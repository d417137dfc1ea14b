//! Participants whose fence doesn't hold: each is the honest one but for what it does wrong.

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use prost::Message as _;
use tercet::participants::Outgoing;
use tercet_core::{
    fence::{HORIZON_NONE_MS, Row, State},
    operation::Operation,
    transaction::Target,
};
use tercet_sdk::participant::{BranchKey, Record};

use super::{
    Control,
    transport::{self, Asked, LosesEveryFourthTry},
};
use crate::parts::{FenceRows, Parts};

pub const CONTROLS: &[Control] = &[
    // A late Try may then reserve for nobody.
    Control {
        what: "forgets the tombstone",
        invariant: "S5",
        besides: &["L2"],
        parts: || with(ForgetsTheTombstone::default()),
    },
    Control {
        what: "finishes blindly",
        invariant: "S5",
        besides: &[],
        parts: || with(FinishesBlindly::default()),
    },
    // The late Try reserves for nobody, some for the second time.
    Control {
        what: "collects rows without a horizon",
        invariant: "S5",
        besides: &["S6", "L2"],
        parts: || with(CollectsRowsWithoutAHorizon),
    },
    // Only one of the two reservations is ever released or used.
    Control {
        what: "repeats a duplicate Try",
        invariant: "S6",
        besides: &["L2"],
        parts: repeats_a_duplicate_try,
    },
    // What is used twice is not there; less than nothing is held then.
    Control {
        what: "repeats a duplicate Confirm",
        invariant: "S6",
        besides: &["S10", "L2"],
        parts: || with(RepeatsADuplicateConfirm::default()),
    },
    Control {
        what: "answers Confirm without Try with success",
        invariant: "S4",
        besides: &[],
        parts: || confirms_without_a_try(State::Confirmed),
    },
    // That its Try is missing is seen from both sides; less than nothing is held then.
    Control {
        what: "confirms without a Try",
        invariant: "S10",
        besides: &["S4", "L2"],
        parts: || confirms_without_a_try(State::Tried),
    },
];

fn with(fault: impl FenceRows) -> Parts {
    Parts {
        fence: Arc::new(fault),
        ..Parts::honest()
    }
}

/// Doesn't know a Try again that it has done.
fn repeats_a_duplicate_try() -> Parts {
    let asked = Asked::default();
    Parts {
        fence: Arc::new(RepeatsADuplicateTry(asked.clone())),
        ..transport::with(asked)
    }
}

/// Confirms what was never tried: its row seems to be there, in this state.
fn confirms_without_a_try(found: State) -> Parts {
    let losing = LosesEveryFourthTry::default();
    let asked = losing.asked.clone();
    Parts {
        fence: Arc::new(ConfirmsWithoutATry { asked, found }),
        ..transport::with(losing)
    }
}

#[derive(Default)]
struct Keys(Mutex<BTreeSet<BranchKey>>);

impl Keys {
    fn set(&self, key: &BranchKey, is_in: bool) {
        let mut keys = self.0.lock();
        if is_in {
            keys.insert(key.clone());
        } else {
            keys.remove(key);
        }
    }

    fn has(&self, key: &BranchKey) -> bool {
        self.0.lock().contains(key)
    }
}

/// Writes nothing when a Cancel finds nothing.
#[derive(Default)]
struct ForgetsTheTombstone {
    absent: Keys,
}

impl FenceRows for ForgetsTheTombstone {
    fn read(&self, key: &BranchKey, found: Option<Record>) -> Option<Record> {
        self.absent.set(key, found.is_none());
        found
    }

    fn write(&self, key: &BranchKey, record: Record) -> Option<Record> {
        let is_tombstone = record.row.state == State::Canceled && self.absent.has(key);
        (!is_tombstone).then_some(record)
    }
}

/// A Try outside of the database, in another process, that ends after its Cancel and writes TRIED
/// over whatever is there. This process goes on with what it has seen itself.
#[derive(Default)]
struct FinishesBlindly {
    canceling: Keys,
    overwritten: Keys,
}

impl FenceRows for FinishesBlindly {
    fn read(&self, key: &BranchKey, found: Option<Record>) -> Option<Record> {
        let mut record = found?;
        if self.overwritten.has(key) {
            record.row.state = State::Canceled;
        }
        Some(record)
    }

    fn write(&self, key: &BranchKey, mut record: Record) -> Option<Record> {
        match record.row.state {
            // Only work outside of the database is ever CANCELING.
            State::Canceling => self.canceling.set(key, true),
            State::Canceled if self.canceling.has(key) => {
                self.overwritten.set(key, true);
                record.row.state = State::Tried;
            }
            _ => {}
        }
        Some(record)
    }
}

struct RepeatsADuplicateTry(Asked);

impl FenceRows for RepeatsADuplicateTry {
    fn read(&self, key: &BranchKey, found: Option<Record>) -> Option<Record> {
        let record = found?;
        let asked = self.0.last(&key.transaction_id, &key.branch_id);
        let is_try = asked.is_some_and(|it| it.call.operation == Operation::Try);
        (record.row.state != State::Tried || !is_try).then_some(record)
    }
}

/// Confirms a branch in its database once more when it is told so once more.
#[derive(Default)]
struct RepeatsADuplicateConfirm {
    outside: Keys,
}

impl FenceRows for RepeatsADuplicateConfirm {
    fn read(&self, key: &BranchKey, found: Option<Record>) -> Option<Record> {
        let mut record = found?;
        if record.row.state == State::Confirmed && !self.outside.has(key) {
            record.row.state = State::Tried;
        }
        Some(record)
    }

    fn write(&self, key: &BranchKey, record: Record) -> Option<Record> {
        if record.row.state == State::Confirming {
            self.outside.set(key, true); // and not in its database
        }
        Some(record)
    }
}

struct ConfirmsWithoutATry {
    asked: Asked,
    found: State,
}

impl FenceRows for ConfirmsWithoutATry {
    fn read(&self, key: &BranchKey, found: Option<Record>) -> Option<Record> {
        let asked = self.asked.last(&key.transaction_id, &key.branch_id);
        let made_up = || {
            let asked = asked.filter(|it| it.call.operation == Operation::Confirm)?;
            Some(record(&asked, self.found))
        };
        found.or_else(made_up)
    }
}

/// The row that this call would have found.
fn record(asked: &Outgoing, state: State) -> Record {
    let Target::Contract { resource, .. } = &asked.spec.target else {
        unreachable!("nobody here is called by methods of its own");
    };
    let body = Body {
        resource: resource.to_string(),
        held: Some(asked.spec.payload.value.to_vec()),
    };
    let row = Row {
        state,
        epoch: asked.epoch.cast_signed(),
        expire_time_ms: asked.origin.expire_ms,
    };
    let body = body.encode_to_vec();
    Record { row, body }
}

/// What the SDK keeps beside the state, as far as a Confirm needs it.
#[derive(Clone, PartialEq, prost::Message)]
struct Body {
    #[prost(string, tag = "1")]
    resource: String,
    #[prost(bytes = "vec", optional, tag = "3")]
    held: Option<Vec<u8>>,
}

/// Removes rows as soon as they are canceled, and keeps no horizon that would tell a late Try.
struct CollectsRowsWithoutAHorizon;

impl FenceRows for CollectsRowsWithoutAHorizon {
    fn read(&self, _key: &BranchKey, found: Option<Record>) -> Option<Record> {
        found.filter(|record| record.row.state != State::Canceled)
    }

    fn horizon_ms(&self, _horizon_ms: i64) -> i64 {
        HORIZON_NONE_MS
    }
}
