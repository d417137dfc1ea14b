//! The whole run: calibration, then round by round, then the summary.

use std::{cmp::Ordering::Equal, collections::BTreeMap, process::ExitCode, time::Duration};

use crate::{
    calls::PAYLOAD_BYTES,
    disk, json,
    leg::{self, Leg, Place},
    load::Ids,
    machine::Machine,
    mode::Mode,
    options::Options,
    program,
    report::{Calibration, Report, Turn, TurnResult},
    summary::Summary,
    table,
};

/// The most connections that a client may open to each server.
const CONNECTIONS_MAX: u32 = 8;
/// How long each number of connections is tried.
const CALIBRATION: Duration = Duration::from_millis(500);

/// Succeeds if every mode did in every round.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    disk::make(&options.dir)?;
    let machine = Machine::look(&options.dir).await?;
    machine.print();
    let place = Place {
        program: program::tercet()?,
        dir: &options.dir,
    };
    let bench = Bench { options, place };
    let calibrations = bench.calibrate().await;
    let turns = bench.rounds(&calibrations).await;
    let summary = Summary::of(&turns);
    summary.print();
    let untried = |it: &Calibration| it.transactions_per_s.contains(&None);
    let failed = calibrations.iter().any(untried) || turns.iter().any(Turn::is_failed);
    if let Some(file) = &options.json {
        let report = Report {
            machine,
            payload_bytes: PAYLOAD_BYTES,
            seconds: options.seconds.as_secs_f64(),
            calibrations,
            turns,
            summary,
        };
        json::write(&report, file)?;
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

struct Bench<'a> {
    options: &'a Options,
    place: Place<'a>,
}

impl Bench<'_> {
    /// Finds each mode's best number of connections.
    async fn calibrate(&self) -> Vec<Calibration> {
        println!("\ntransactions/s by connections to each server, 1 to {CONNECTIONS_MAX}:");
        let mut calibrations = Vec::new();
        for concurrency in self.options.concurrency.iter().copied() {
            for mode in Mode::ASKED {
                if !self.options.modes.contains(&mode) {
                    continue;
                }
                let calibration = self.calibrate_one(mode, concurrency).await;
                let rates = calibration.transactions_per_s.iter();
                let rates = rates.map(|rate| rate.map_or("-".into(), |it| format!("{it:.0}")));
                let rates = rates.collect::<Vec<_>>().join(" ");
                let best = calibration.best;
                println!("{concurrency:>11} {mode:<8} {rates}, so {best}");
                calibrations.push(calibration);
            }
        }
        calibrations
    }

    async fn calibrate_one(&self, mode: Mode, concurrency: u32) -> Calibration {
        let mut rates = Vec::new();
        for connections in 1..=concurrency.min(CONNECTIONS_MAX) as usize {
            let leg = Leg {
                mode,
                concurrency,
                connections,
                measured: CALIBRATION,
                ids: Ids::default(),
                kill: false,
            };
            let measured = leg::run(&leg, &self.place).await;
            if let Err(why) = &measured {
                println!("{concurrency:>11} {mode:<8} FAILED with {connections}: {why:#}");
            }
            rates.push(measured.ok().map(|it| it.transactions_per_s));
        }
        let best = (1..)
            .zip(&rates)
            .max_by(|(_, a), (_, b)| a.partial_cmp(b).unwrap_or(Equal));
        let best = best.map_or(1, |(connections, _)| connections);
        Calibration {
            mode,
            concurrency,
            transactions_per_s: rates,
            best,
        }
    }

    async fn rounds(&self, calibrations: &[Calibration]) -> Vec<Turn> {
        let best: BTreeMap<(u32, Mode), usize> = calibrations
            .iter()
            .map(|it| ((it.concurrency, it.mode), it.best))
            .collect();
        println!(
            "\nround concurrency mode     conns {} {:>9}",
            table::headings(),
            "checked"
        );
        let mut turns = Vec::new();
        for round in 1..=self.options.rounds {
            for (nth, concurrency) in self.options.concurrency.iter().copied().enumerate() {
                let mut modes = self.modes();
                // Whoever comes first in a round comes last in another.
                let first = (round as usize + nth) % modes.len();
                modes.rotate_left(first);
                for mode in modes {
                    let connections = best[&(concurrency, mode.calibrated_as())];
                    let turn = self.turn(round, concurrency, mode, connections).await;
                    print(&turn);
                    turns.push(turn);
                }
            }
        }
        turns
    }

    /// All that take a turn in each round.
    fn modes(&self) -> Vec<Mode> {
        let asked = |mode: &Mode| self.options.modes.contains(mode);
        let mut modes: Vec<Mode> = Mode::ASKED.into_iter().filter(asked).collect();
        if modes.contains(&Mode::Direct) {
            modes.push(Mode::Again);
        }
        modes
    }

    async fn turn(&self, round: u32, concurrency: u32, mode: Mode, connections: usize) -> Turn {
        let leg = Leg {
            mode,
            concurrency,
            connections,
            measured: self.options.seconds,
            ids: Ids::default(),
            kill: true,
        };
        let result = match leg::run(&leg, &self.place).await {
            Ok(measured) => TurnResult::Measured(measured),
            Err(error) => TurnResult::Failed(format!("{error:#}")),
        };
        Turn {
            round,
            concurrency,
            mode,
            connections,
            result,
        }
    }
}

fn print(turn: &Turn) {
    let Turn {
        round,
        concurrency,
        mode,
        connections,
        result,
    } = turn;
    let result = match result {
        TurnResult::Failed(why) => format!("FAILED: {why}"),
        TurnResult::Measured(measured) => {
            let ended = measured
                .coordinator
                .as_ref()
                .and_then(|it| it.ended.as_ref());
            let checked = ended.map_or("-".into(), |it| it.acknowledged.to_string());
            format!(
                "{} {checked:>9}",
                table::figures(|figure| (figure.of)(measured))
            )
        }
    };
    println!("{round:>5} {concurrency:>11} {mode:<8} {connections:>5} {result}");
}
