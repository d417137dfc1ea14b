//! The whole coordinator as it ships, in simulated disasters: several hosts on a simulated network,
//! a store that loses what was not synced, participants and clients of the SDK, all out of one seed.
//! Some participants serve, some connect out.
//!
//! Every seed runs at least 50 transactions and meets faults that find some of them unfinished; then
//! all heals, and what everybody heard, did and recorded is held against the protocol's invariants by
//! the checker that `tests/kill.rs` uses (`history`), and by what only a simulation can see
//! (`history::inside`).
//!
//! ```text
//! cargo test --test simulation                               some hundred seeds
//! TERCET_SEEDS=20000 cargo test --release --test simulation  more
//! TERCET_TWICE=1                                             each seed twice: the same history?
//! TERCET_SEED=42                                             this one seed
//! TERCET_SHOW=1                                              and everything that happens in it
//! ```

use std::{
    num::NonZero,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Instant,
};

use parking_lot::Mutex;

use determinism::same;
use long_run::setting;
use parts::Parts;
use tally::Tally;
use world::{Verdict, run_seed};

mod history;

#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/broken/mod.rs"]
mod broken;
#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/clock.rs"]
mod clock;
#[path = "simulation/coordinator.rs"]
mod coordinator;
#[path = "simulation/determinism.rs"]
mod determinism;
#[path = "simulation/faults.rs"]
mod faults;
#[path = "simulation/fence.rs"]
mod fence;
#[allow(dead_code, reason = "nothing is left on a disk here")]
#[path = "support/long_run.rs"]
mod long_run;
#[path = "simulation/mood.rs"]
mod mood;
#[path = "simulation/participant.rs"]
mod participant;
#[path = "simulation/parts.rs"]
mod parts;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/session.rs"]
mod session;
#[path = "simulation/store.rs"]
mod store;
#[path = "simulation/tally.rs"]
mod tally;
#[path = "simulation/told.rs"]
mod told;
#[path = "simulation/trace.rs"]
mod trace;
#[path = "simulation/turns.rs"]
mod turns;
#[path = "simulation/wires.rs"]
mod wires;
#[path = "simulation/world.rs"]
mod world;

const SEEDS_DEFAULT: u64 = 200;
/// From so many seeds on, everything has to have occurred.
const SEEDS_REPRESENTATIVE: u64 = 200;
/// In every run, one in so many runs twice.
const TWICE_EVERY: u64 = 50;
/// What makes a seed worth its while.
const TRANSACTIONS_MIN: u64 = 50;
const FAULTS_MIN: usize = 5;

#[test]
fn whatever_goes_wrong_the_invariants_hold() {
    if let Some(seed) = setting("TERCET_SEED") {
        return show(seed);
    }
    let seeds = setting("TERCET_SEEDS").unwrap_or(SEEDS_DEFAULT);
    let twice = setting("TERCET_TWICE").is_some_and(|it| it > 0);
    let every = if twice { 1 } else { TWICE_EVERY };
    let run = Run::new(seeds, every);
    let threads = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| run.work());
        }
    });
    run.report();
}

/// Everything about one seed.
fn show(seed: u64) {
    let verdict = run_seed(seed, &Arc::new(Parts::honest()));
    if std::env::var("TERCET_SHOW").is_ok() {
        for event in &verdict.inside.events {
            println!("{:8} {:?}", event.at_ms, event.what);
        }
    }
    let Verdict {
        tally,
        hash,
        transactions,
        faults,
        ..
    } = &verdict;
    println!("{tally}");
    println!("hash {hash:016x}, {transactions} transactions, {faults} faults");
    assert!(judge(seed, &verdict), "seed {seed} breaks what must hold");
}

/// All seeds of one run, by several threads.
struct Run {
    seeds: u64,
    twice_every: u64,
    started: Instant,
    next: AtomicU64,
    sum: Mutex<Sum>,
}

#[derive(Default)]
struct Sum {
    done: u64,
    tally: Tally,
    transactions: u64,
    faults: usize,
    twice: u64,
    bad: Vec<u64>,
}

impl Run {
    fn new(seeds: u64, twice_every: u64) -> Self {
        Self {
            seeds,
            twice_every,
            started: Instant::now(),
            next: 0.into(),
            sum: Mutex::default(),
        }
    }

    fn work(&self) {
        loop {
            let seed = self.next.fetch_add(1, Ordering::Relaxed);
            if seed >= self.seeds {
                return;
            }
            let verdict = run_seed(seed, &Arc::new(Parts::honest()));
            let mut good = judge(seed, &verdict);
            let twice = seed.is_multiple_of(self.twice_every);
            if twice {
                let again = run_seed(seed, &Arc::new(Parts::honest()));
                good &= same(seed, &verdict, &again);
            }
            self.add(seed, &verdict, good, twice);
        }
    }

    fn add(&self, seed: u64, verdict: &Verdict, good: bool, twice: bool) {
        let mut sum = self.sum.lock();
        sum.done += 1;
        sum.tally.add(&verdict.tally);
        sum.transactions += verdict.transactions;
        sum.faults += verdict.faults;
        sum.twice += u64::from(twice);
        if !good {
            sum.bad.push(seed);
        }
        if sum.done.is_multiple_of((self.seeds / 20).max(1)) {
            let (done, seeds) = (sum.done, self.seeds);
            println!("{done} of {seeds} seeds after {:?}", self.started.elapsed());
        }
    }

    fn report(&self) {
        let sum = self.sum.lock();
        let Sum {
            done,
            tally,
            transactions,
            faults,
            twice,
            bad,
        } = &*sum;
        println!("{tally}");
        println!(
            "{done} seeds in {:?}, {twice} of them twice: {transactions} transactions, \
             {faults} faults that found some unfinished, {} seeds with violations",
            self.started.elapsed(),
            bad.len()
        );
        assert!(bad.is_empty(), "seeds with violations: {bad:?}");
        if *done >= SEEDS_REPRESENTATIVE {
            let missing = tally.missing();
            assert!(missing.is_empty(), "invalid: never occurred: {missing:?}");
        }
    }
}

/// Prints what is wrong with a seed, and how to see it again.
fn judge(seed: u64, verdict: &Verdict) -> bool {
    let Verdict {
        violations,
        transactions,
        faults,
        ..
    } = verdict;
    assert!(
        *transactions >= TRANSACTIONS_MIN && *faults >= FAULTS_MIN,
        "invalid: seed {seed} has {transactions} transactions and {faults} faults"
    );
    if violations.is_empty() {
        return true;
    }
    println!("seed {seed} breaks what must hold:");
    for violation in violations.iter().take(10) {
        println!("  {violation}");
    }
    println!("  again: TERCET_SEED={seed} cargo test --test simulation -- --nocapture");
    false
}
