//! What all rounds together say: medians, ratios, and whether the targets are met.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    mode::Mode,
    report::Turn,
    table::{FIGURES, figures, headings},
};

#[derive(Debug, Serialize)]
pub struct Summary {
    pub medians: Vec<Medians>,
    pub targets: Vec<Target>,
}

/// One mode at one concurrency.
#[derive(Debug, Serialize)]
pub struct Medians {
    pub concurrency: u32,
    pub mode: Mode,
    /// How many rounds they are of, and in how many more it failed.
    pub rounds: usize,
    pub failed: usize,
    pub figures: BTreeMap<&'static str, f64>,
    /// Its transactions/s to those of `direct`.
    pub ratio: Option<Spread>,
}

/// Of the ratios of each round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Target {
    /// With the bound's direction.
    what: String,
    target: f64,
    measured: f64,
    met: bool,
}

impl Target {
    pub fn at_least(target: f64, what: &str, measured: f64) -> Self {
        Self {
            what: format!("{what}, at least"),
            target,
            measured,
            met: measured >= target,
        }
    }

    pub fn at_most(target: f64, what: &str, measured: f64) -> Self {
        Self {
            what: format!("{what}, at most"),
            target,
            measured,
            met: measured <= target,
        }
    }

    pub fn print(&self) {
        let met = if self.met { "met" } else { "NOT MET" };
        let (what, measured, target) = (&self.what, self.measured, self.target);
        println!("{what} {target:.2}: {measured:.2}, {met}");
    }
}

/// At least so much of what `direct` does.
const RATIOS: [(Mode, u32, f64); 4] = [
    (Mode::Unary, 256, 0.60),
    (Mode::Unary, 32, 0.45),
    (Mode::Sessions, 256, 1.5),
    (Mode::Sessions, 32, 1.0),
];
/// How much longer a transaction on its own may take than the calls and syncs that it consists of.
const LATENCY_FACTOR: f64 = 1.25;
/// It waits for the client's call, both tries and both confirms, which are made at once, and for three syncs.
const CALLS: f64 = 3.0;
const SYNCS: f64 = 3.0;

impl Summary {
    pub fn of(turns: &[Turn]) -> Self {
        let mut medians: Vec<Medians> = Vec::new();
        for turn in turns {
            let (concurrency, mode) = (turn.concurrency, turn.mode);
            let known = |it: &Medians| it.concurrency == concurrency && it.mode == mode;
            if !medians.iter().any(known) {
                medians.push(Medians::of(turns, concurrency, mode));
            }
        }
        medians.sort_by_key(|it| (it.concurrency, it.mode));
        let targets = targets(&medians);
        Self { medians, targets }
    }

    pub fn print(&self) {
        println!("\nMedians; the ratio is to direct, and that of `again` is the noise.\n");
        println!(
            "{:>11} {:<8} {:>6} {} {:>6} {:>13}",
            "concurrency",
            "mode",
            "rounds",
            headings(),
            "ratio",
            "from to"
        );
        for it in &self.medians {
            let ratio = it.ratio.map_or_else(String::new, |ratio| {
                let Spread { median, min, max } = ratio;
                format!("{median:>6.3} {min:>6.3} {max:>6.3}")
            });
            let Medians {
                concurrency,
                mode,
                rounds,
                ..
            } = it;
            let cells = figures(|figure| it.figures.get(figure.name).copied());
            println!("{concurrency:>11} {mode:<8} {rounds:>6} {cells} {ratio}");
            if it.failed > 0 {
                println!("{:>11} {mode:<8} FAILED in {} more", "", it.failed);
            }
        }
        println!();
        for target in &self.targets {
            target.print();
        }
    }
}

impl Medians {
    fn of(turns: &[Turn], concurrency: u32, mode: Mode) -> Self {
        let of_mode = |mode| {
            turns
                .iter()
                .filter(move |turn| turn.concurrency == concurrency && turn.mode == mode)
        };
        let measured: Vec<_> = of_mode(mode).filter_map(Turn::measured).collect();
        let medians = FIGURES.iter().filter_map(|figure| {
            let values: Vec<f64> = measured.iter().copied().filter_map(figure.of).collect();
            Some((figure.name, median(values)?))
        });
        let figures = medians.collect();
        let rate = |round, mode| {
            let turn = of_mode(mode).find(|turn| turn.round == round)?;
            Some(turn.measured()?.transactions_per_s)
        };
        let ratios = of_mode(mode).filter_map(|turn| {
            let (direct, again) = (
                rate(turn.round, Mode::Direct)?,
                rate(turn.round, Mode::Again)?,
            );
            let own = rate(turn.round, mode)?;
            match mode {
                Mode::Raw | Mode::Direct => None,
                Mode::Again => Some(again / direct),
                Mode::Unary | Mode::Sessions => Some(own / f64::midpoint(direct, again)),
            }
        });
        Self {
            concurrency,
            mode,
            rounds: measured.len(),
            failed: of_mode(mode).count() - measured.len(),
            figures,
            ratio: Spread::of(ratios.collect()),
        }
    }
}

impl Spread {
    fn of(values: Vec<f64>) -> Option<Self> {
        let min = values.iter().copied().reduce(f64::min)?;
        let max = values.iter().copied().reduce(f64::max)?;
        let median = median(values)?;
        Some(Self { median, min, max })
    }
}

/// Only those for which everything was measured.
fn targets(medians: &[Medians]) -> Vec<Target> {
    let find = |mode, concurrency| {
        medians
            .iter()
            .find(|it| it.mode == mode && it.concurrency == concurrency)
    };
    let mut targets = Vec::new();
    for (mode, concurrency, target) in RATIOS {
        let Some(ratio) = find(mode, concurrency).and_then(|it| it.ratio) else {
            continue;
        };
        let what = format!("{mode} to direct at {concurrency} concurrent");
        targets.push(Target::at_least(target, &what, ratio.median));
    }
    targets.extend(latency(find(Mode::Raw, 1), find(Mode::Unary, 1)));
    targets
}

fn latency(raw: Option<&Medians>, unary: Option<&Medians>) -> Option<Target> {
    let call_us = raw?.figures.get("p50_us")?;
    let sync_us = unary?.figures.get("fdatasync_us")?;
    let measured = *unary?.figures.get("p50_us")?;
    let bound_us = CALLS * call_us + SYNCS * sync_us;
    let what = format!(
        "unary p50 at 1 concurrent, in us, where 3 calls of {call_us:.0} and 3 syncs of {sync_us:.0} are \
         {bound_us:.0}, {LATENCY_FACTOR} x that"
    );
    Some(Target::at_most(LATENCY_FACTOR * bound_us, &what, measured))
}

/// Of an even number of values, the middle between the two in the middle.
pub fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = values.get(values.len() / 2)?;
    let lower = values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(*lower, *upper))
}
