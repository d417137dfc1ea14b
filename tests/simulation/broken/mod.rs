//! Controls: a check that can't fail shows nothing.
//!
//! Each [`Control`] puts one broken part into the simulated world, at one of its seams, and names the
//! invariant that this part breaks. It runs seed after seed until the checker reports that invariant.
//! On every one of these seeds the honest parts break nothing, so what is found is the part's fault.
//! Nothing here is reachable in what ships.
//!
//! ```text
//! cargo test --test simulation broken -- --nocapture      what caught each, and after how long
//! TERCET_CONTROL="finishes blindly"                       this one control
//! TERCET_SEED=1000                                        from this seed on, instead of from 0
//! ```

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

use crate::{long_run::setting, parts::Parts, world::run_seed};

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

/// The seams, and what takes the place of the honest part there.
const SEAMS: [(&str, &[Control]); 4] = [
    ("store", store::CONTROLS),
    ("transport", transport::CONTROLS),
    ("fence", fence::CONTROLS),
    ("clock", clock::CONTROLS),
];

/// One broken part.
struct Control {
    /// What it does wrong.
    what: &'static str,
    invariant: &'static str,
    /// What it can't help breaking too; its row says why.
    besides: &'static [&'static str],
    parts: fn() -> Parts,
}

#[test]
fn every_invariant_is_broken_by_some_part() {
    for invariant in INVARIANTS {
        let controls = SEAMS.iter().flat_map(|(_, controls)| *controls);
        let mut broken = controls.map(|it| it.invariant);
        assert!(broken.any(|it| it == invariant), "{invariant} never is");
    }
}

#[test]
fn every_broken_part_is_caught_by_the_invariant_it_breaks() {
    let only = std::env::var("TERCET_CONTROL").ok();
    let controls = SEAMS.iter().flat_map(|(_, controls)| *controls);
    let controls: Vec<_> = controls
        .filter(|it| only.as_ref().is_none_or(|only| it.what == only))
        .collect();
    assert!(!controls.is_empty(), "no control is called {only:?}");
    let mut results = run(&controls);
    let mut escaped = Vec::new();
    for (seam, controls) in SEAMS {
        println!("{seam}");
        for control in controls {
            match results.remove(control.what) {
                Some(Ok(caught)) => println!("  {control} {caught}"),
                Some(Err(why)) => escaped.push(format!("{control} {why}")),
                None => {}
            }
        }
    }
    assert!(escaped.is_empty(), "{}", escaped.join("\n"));
}

/// By what they do wrong, how each was caught, or why it was not.
fn run(controls: &[&Control]) -> BTreeMap<&'static str, Result<Caught, String>> {
    let twins: [OnceLock<Broken>; SEEDS_MAX] = [const { OnceLock::new() }; SEEDS_MAX];
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some(control) = controls.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = control.run(&twins);
            results.lock().insert(control.what, result);
        }
    };
    let threads = thread::available_parallelism().map_or(1, |it| it.get());
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    results.into_inner()
}

/// Invariants that don't hold, each with what shows it.
type Broken = BTreeMap<&'static str, String>;

/// How a control was caught.
struct Caught {
    seeds: u64,
    took: Duration,
    besides: BTreeSet<&'static str>,
}

impl Control {
    /// `twins`: what the honest parts break on each seed.
    fn run(&self, twins: &[OnceLock<Broken>]) -> Result<Caught, String> {
        let first = setting("TERCET_SEED").unwrap_or(0);
        let mut took = Duration::ZERO;
        let mut besides = BTreeSet::new();
        for (seed, twin) in (first..).zip(twins) {
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
                    seeds: seed + 1 - first,
                    took,
                    besides,
                });
            }
        }
        Err(format!("was not caught in {SEEDS_MAX} seeds"))
    }
}

/// What these parts break on this seed, each invariant with one detail.
fn broken(seed: u64, parts: Parts) -> Broken {
    let verdict = run_seed(seed, &Arc::new(parts));
    let found = verdict.violations.into_iter();
    found.map(|it| (it.invariant, it.detail)).collect()
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what, invariant, ..
        } = self;
        write!(f, "{what:<42} {invariant:<3}")
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
