//! Controls: a check that can't fail shows nothing.
//!
//! Each [`Control`] puts one broken part into the simulated world, at one of its seams, and names the
//! invariant that this part breaks. It runs seed after seed until the checker reports that invariant.
//! On every one of these seeds the honest parts break nothing, so what is found is the part's fault.
//! Nothing here is reachable in what ships.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tercet_core::fence::State;

use crate::{parts::Parts, world::run_seed};

mod clock;
mod fence;
mod store;
mod transport;

/// The most seeds that a control may take to be caught.
const SEEDS_MAX: usize = 50;

/// The protocol's invariants; each is broken by some control.
const INVARIANTS: [&str; 16] = [
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "S11", "L1", "L2", "L3", "L4",
    "L5",
];

/// One broken part.
struct Control {
    what: &'static str,
    seam: &'static str,
    invariant: &'static str,
    /// What it can't help breaking too; the table says why.
    besides: &'static [&'static str],
    parts: fn() -> Parts,
}

/// All of them, by seam.
fn controls() -> Vec<Control> {
    let mut controls = Vec::new();
    let mut add = |seam, what, invariant, besides, parts| {
        controls.push(Control {
            what,
            seam,
            invariant,
            besides,
            parts,
        });
    };

    let mut store = |what, invariant, besides, parts| add("store", what, invariant, besides, parts);
    // Whatever rests on a record that was lost goes with it.
    store(
        "acknowledges before durable",
        "S7",
        &["S1", "S2", "S3", "S4", "S8", "L2"],
        || store::with(store::AcknowledgesBeforeDurable::default()),
    );
    store("shows what is not synced", "S8", &[], || {
        store::with(store::ShowsWhatIsNotSynced::default())
    });
    // What is lost justifies no call any more, and its id begins anew.
    store("loses a record at a restart", "S1", &["S7", "S8"], || {
        store::with(store::LosesARecordAtARestart)
    });
    // Until it runs again, a purged transaction is one that is lost.
    store("runs a purged id again", "S8", &["S1", "S3", "S7"], || {
        store::with(store::RunsAPurgedIdAgain)
    });
    // Some branches were confirmed before, and the others are canceled; some clients know.
    store(
        "lets a second decision through",
        "S3",
        &["S2", "S4", "S7", "S8", "L1"],
        || store::with(store::LetsASecondDecisionThrough),
    );
    store("merges other content", "S11", &[], || {
        store::with(store::MergesOtherContent)
    });
    store("lists what is outdated", "S8", &[], || {
        store::with(store::ListsWhatIsOutdated::default())
    });
    store("loses a due entry", "L1", &[], || {
        store::with(store::LosesADueEntry)
    });

    let mut transport =
        |what, invariant, besides, parts| add("transport", what, invariant, besides, parts);
    // The Try that was not heard of finds no tombstone either.
    transport("reads a timeout as FAILED", "L2", &["S5"], || {
        transport::with(transport::ReadsATimeoutAsFailed::default())
    });
    transport("skips Cancel of a refused branch", "S5", &[], || {
        transport::with(transport::SkipsCancelOfARefusedBranch::default())
    });
    transport("takes UNKNOWN for canceled", "S5", &[], || {
        transport::with(transport::TakesUnknownForCanceled)
    });
    // What was never confirmed is held for nobody.
    transport("takes a timeout for confirmed", "S4", &["L2"], || {
        transport::with(transport::TakesATimeoutForConfirmed)
    });
    transport("answers the wrong branch", "S4", &["L2"], || {
        transport::with(transport::AnswersTheWrongBranch::default())
    });
    // No record justifies these calls, and the branch ends as nobody decided.
    transport(
        "cancels what it can't confirm",
        "S2",
        &["S4", "S7", "L1"],
        || transport::with(transport::CancelsWhatItCantConfirm),
    );
    transport(
        "cancels by itself after a while",
        "S2",
        &["S4", "S7", "L1"],
        || transport::with(transport::CancelsByItselfAfterAWhile),
    );
    transport(
        "confirms before the decision",
        "S7",
        &["S2", "S4", "L1"],
        || transport::with(transport::ConfirmsBeforeTheDecision),
    );
    transport("calls in an old epoch", "S9", &[], || {
        transport::with(transport::CallsInAnOldEpoch::default())
    });
    transport("retries without a ladder", "L5", &[], || {
        transport::with(transport::RetriesWithoutALadder)
    });
    transport("shares two calls among all", "L3", &[], || {
        transport::with(transport::SharesTwoCallsAmongAll::default())
    });
    // In a calm with a participant that is stuck, what is late is late because of that.
    transport("recovers before anything new", "L4", &["L3"], || {
        transport::with(transport::RecoversBeforeAnythingNew::default())
    });

    let mut fence = |what, invariant, besides, parts| add("fence", what, invariant, besides, parts);
    fence("forgets the tombstone", "S5", &[], || {
        fence::with(fence::ForgetsTheTombstone::default())
    });
    fence("finishes blindly", "S5", &[], || {
        fence::with(fence::FinishesBlindly::default())
    });
    // The late Try reserves, a second time where the first came through, for nobody.
    fence(
        "collects rows without a horizon",
        "S5",
        &["S6", "L2"],
        || fence::with(fence::CollectsRowsWithoutAHorizon),
    );
    // Only one of the two reservations is ever released or used.
    fence(
        "repeats a duplicate Try",
        "S6",
        &["L2"],
        fence::repeats_a_duplicate_try,
    );
    // What is used twice is not there; less than nothing is held then.
    fence("repeats a duplicate Confirm", "S6", &["S10", "L2"], || {
        fence::with(fence::RepeatsADuplicateConfirm::default())
    });
    fence(
        "answers Confirm without Try with success",
        "S4",
        &[],
        || fence::confirms_without_a_try(State::Confirmed),
    );
    // That its Try is missing is seen from both sides.
    fence("confirms without a Try", "S10", &["S4"], || {
        fence::confirms_without_a_try(State::Tried)
    });

    // What is cut down justifies no call, and what is due is looked for in another year.
    add(
        "clock",
        "is years ahead now and then",
        "S1",
        &["S7", "L1"],
        clock::is_years_ahead_now_and_then,
    );
    controls
}

#[test]
fn every_broken_part_is_caught_by_the_invariant_it_breaks() {
    let mut controls = controls();
    for invariant in INVARIANTS {
        let is_broken = controls.iter().any(|it| it.invariant == invariant);
        assert!(is_broken, "no control breaks {invariant}");
    }
    if let Ok(only) = std::env::var("TERCET_CONTROL") {
        controls.retain(|it| it.what == only);
    }
    let twins: [OnceLock<Broken>; SEEDS_MAX] = [const { OnceLock::new() }; SEEDS_MAX];
    let next = AtomicUsize::new(0);
    let escaped = Mutex::new(Vec::new());
    let threads = thread::available_parallelism().map_or(1, |it| it.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(control) = controls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match control.run(&twins) {
                        Ok(caught) => println!("{control} {caught}"),
                        Err(why) => {
                            println!("{control} {why}");
                            escaped.lock().push(control.what);
                        }
                    }
                }
            });
        }
    });
    let escaped = escaped.into_inner();
    assert!(escaped.is_empty(), "not caught as they should: {escaped:?}");
}

/// Invariants that don't hold, each with what shows it.
type Broken = BTreeMap<&'static str, String>;

/// How a control was caught.
struct Caught {
    seeds: usize,
    took: Duration,
    besides: BTreeSet<&'static str>,
}

impl Control {
    /// `twins`: what the honest parts break on each seed.
    fn run(&self, twins: &[OnceLock<Broken>]) -> Result<Caught, String> {
        let mut took = Duration::ZERO;
        let mut besides = BTreeSet::new();
        for (seed, twin) in twins.iter().enumerate() {
            let twin = twin.get_or_init(|| broken(seed, Parts::honest()));
            if !twin.is_empty() {
                return Err(format!(
                    "and so does its honest twin, seed {seed}: {twin:?}"
                ));
            }
            let started = Instant::now();
            let found = broken(seed, (self.parts)());
            took += started.elapsed();
            for (invariant, detail) in found.iter().filter(|it| *it.0 != self.invariant) {
                if !self.besides.contains(invariant) {
                    return Err(format!("breaks {invariant} too, seed {seed}: {detail}"));
                }
                besides.insert(*invariant);
            }
            if found.contains_key(self.invariant) {
                return Ok(Caught {
                    seeds: seed + 1,
                    took,
                    besides,
                });
            }
        }
        Err(format!("was not caught in {SEEDS_MAX} seeds"))
    }
}

/// What these parts break on this seed, each invariant with one detail.
fn broken(seed: usize, parts: Parts) -> Broken {
    let verdict = run_seed(seed as u64, &Arc::new(parts));
    let found = verdict.violations.into_iter();
    found.map(|it| (it.invariant, it.detail)).collect()
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seam,
            what,
            invariant,
            ..
        } = self;
        write!(f, "{seam:<9} {what:<42} {invariant:<3}")
    }
}

impl fmt::Display for Caught {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seeds,
            took,
            besides,
        } = self;
        write!(f, "{seeds:>2} seeds {:>6.2} s", took.as_secs_f64())?;
        if !besides.is_empty() {
            let besides: Vec<_> = besides.iter().copied().collect();
            write!(f, "  besides {}", besides.join(", "))?;
        }
        Ok(())
    }
}
