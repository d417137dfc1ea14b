//! What the kills have met, and whether that was enough to prove anything.

use std::{
    collections::BTreeMap,
    fmt,
    path::Path,
    time::{Duration, Instant},
};

use super::{
    books::Unfinished,
    heard::Operations,
    history::Ended,
    round::{Met, Round},
};

/// Transactions that no kill may find less of.
pub const UNFINISHED_MIN: usize = 10;
/// Each state must be found in so much of the restarts, and be so much of what they find.
const STATE_SHARE_MIN: f64 = 0.05;

pub struct Tally {
    begun: Instant,
    /// Rounds that killed somebody while enough was unfinished.
    pub kills: u32,
    pub rounds: usize,
    /// By how the round went: how often, how many of them count as kills, and what they found.
    kinds: BTreeMap<String, (usize, u32, Unfinished)>,
    /// What each dead coordinator had left.
    left: Vec<Unfinished>,
    restarts: Vec<Restart>,
}

struct Restart {
    /// Transactions accepted by then: does a start take longer, the more is in the store?
    accepted: usize,
    opened_in: Duration,
    served_in: Duration,
}

impl Tally {
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            kills: 0,
            rounds: 0,
            kinds: BTreeMap::new(),
            left: Vec::new(),
            restarts: Vec::new(),
        }
    }

    pub fn met(&mut self, round: &Round, met: &Met, accepted: usize) {
        self.rounds += 1;
        let (times, kills, sum) = self.kinds.entry(round.to_string()).or_default();
        *times += 1;
        if let Some(unfinished) = met.unfinished {
            *sum += unfinished;
            if unfinished.sum() >= UNFINISHED_MIN {
                *kills += 1;
                self.kills += 1;
            }
        }
        if let (Some(opened_in), Some(served_in)) = (met.opened_in, met.restarted_in) {
            self.left.extend(met.unfinished);
            self.restarts.push(Restart {
                accepted,
                opened_in,
                served_in,
            });
        }
    }

    pub fn progress(&self, kills: u32, accepted: usize, folder: &Path) {
        let last = self.restarts.last();
        println!(
            "{:7.1?}: {} of {kills} kills, {accepted} transactions; {} MiB on disk; {}",
            self.begun.elapsed(),
            self.kills,
            bytes(folder) >> 20,
            last.map_or("no restart yet".to_owned(), Restart::to_string)
        );
    }

    /// Prints all of it, and panics when a run like this proves too little.
    pub fn report(&self, ended: &[Ended], operations: Operations) {
        for (kind, (times, kills, found)) in &self.kinds {
            println!("{times:4} × {kind}: {kills} kills found {found}");
        }
        let mut ends = BTreeMap::new();
        for it in ended {
            let end = format!("{:?} {:?}", it.seen.mode, it.seen.outcome);
            *ends.entry(end).or_insert(0) += 1;
        }
        println!(
            "{} kills in {} rounds, {} transactions, in {:.0?}",
            self.kills,
            self.rounds,
            ended.len(),
            self.begun.elapsed()
        );
        println!("outcomes: {ends:?}");
        println!("{operations}");
        self.restarts();
        let is_stopped = |it: &&Ended| !it.seen.state.is_terminal();
        let stopped = ended.iter().filter(is_stopped).count();
        assert_eq!(stopped, 0, "nobody here refuses a Confirm or a Cancel");
        assert!(
            operations.ok * 2 >= operations.sum(),
            "too few definite answers to judge by"
        );
        self.states();
    }

    /// Start-up times, by how much was in the store.
    fn restarts(&self) {
        let Some(last) = self.restarts.last() else {
            return;
        };
        let fifth = last.accepted / 5 + 1;
        for part in self
            .restarts
            .chunk_by(|a, b| a.accepted / fifth == b.accepted / fifth)
        {
            let upto = part.last().map_or(0, |it| it.accepted);
            println!(
                "{:4} restarts with up to {upto} transactions: the store opened in {}, served in {}",
                part.len(),
                spread(part.iter().map(|it| it.opened_in)),
                spread(part.iter().map(|it| it.served_in)),
            );
        }
        println!(
            "{:4} restarts in all: the store opened in {}, served in {}",
            self.restarts.len(),
            spread(self.restarts.iter().map(|it| it.opened_in)),
            spread(self.restarts.iter().map(|it| it.served_in)),
        );
    }

    fn states(&self) {
        let enough = [
            self.is_found_enough("TRYING", |it| it.trying),
            self.is_found_enough("CONFIRMING", |it| it.confirming),
            self.is_found_enough("CANCELING", |it| it.canceling),
        ];
        assert_eq!(enough, [true; 3], "too few restarts find each state");
    }

    /// By how many restarts, and how much of all that they found.
    fn is_found_enough(&self, state: &str, count: impl Fn(&Unfinished) -> usize) -> bool {
        let restarts = self.left.iter().filter(|it| count(it) > 0).count();
        let found: usize = self.left.iter().map(&count).sum();
        let found_in_all: usize = self.left.iter().map(|it| it.sum()).sum();
        let of_restarts = restarts as f64 / self.left.len().max(1) as f64;
        let of_found = found as f64 / found_in_all.max(1) as f64;
        println!(
            "{state}: found by {restarts} of {} restarts ({:.1} %), {found} of {found_in_all} \
             unfinished ({:.1} %)",
            self.left.len(),
            100.0 * of_restarts,
            100.0 * of_found
        );
        // How much of all depends on how fast each state is left, not on what is covered.
        of_restarts >= STATE_SHARE_MIN
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (opened_in, served_in) = (self.opened_in, self.served_in);
        write!(
            f,
            "store opened in {opened_in:.0?}, served in {served_in:.0?}"
        )
    }
}

fn spread(times: impl Iterator<Item = Duration>) -> String {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    let (Some(p50), Some(max)) = (times.get(times.len() / 2), times.last()) else {
        return "never".into();
    };
    format!("{p50:.0?} (max {max:.0?})")
}

/// What the files below a folder take.
fn bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        // One that is gone meanwhile takes nothing.
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, it)| if it.is_dir() { bytes(&path) } else { it.len() })
        .sum()
}
