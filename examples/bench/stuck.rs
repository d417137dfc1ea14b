//! One participant doesn't answer: what do those transactions see of it that don't need it?

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    arrivals::{Arrival, End, Flow, count, latencies},
    calls::Order,
    disk, json,
    machine::Machine,
    mode::Mode,
    options::seconds,
    overload::peak,
    processes::{Launch, NAMES, Participant},
    program,
    stage::{Stage, with_last_words},
    summary::{Target, median},
    wire::Wire,
};

/// One participant stuck, or slow: the p99 of those that don't need it (7 minutes; --small: one).
///
/// Half of what it can do arrives, a tenth of that with a branch at a third participant. In each round, each in
/// turn: all is well; once more, which shows the noise; that one has stopped; it works a tenth of the time.
#[derive(Debug, Args)]
pub struct Options {
    /// How often each is measured.
    #[arg(long, value_name = "COUNT", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how long, each time, after two seconds.
    #[arg(long, value_name = "SECONDS", default_value = "6", value_parser = seconds)]
    seconds: Duration,
    /// Two rounds of two seconds: whether it works, not what it comes to.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    small: bool,
    /// How participants are reached.
    #[arg(long, value_enum, default_value_t = Mode::Unary)]
    mode: Mode,
    /// Writes every figure there, with the machine it comes from.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where stores are made, and removed again; not on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

/// What the third participant does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Conduct {
    Well,
    /// The same again.
    Again,
    Stuck,
    Slow,
}

const CONDUCTS: [Conduct; 4] = [Conduct::Well, Conduct::Again, Conduct::Stuck, Conduct::Slow];
/// Who gets stuck, beside those that all other transactions need.
const THIRD: &str = "post";
/// Of the peak, what arrives; of that, what needs the third.
const LOAD: f64 = 0.5;
const SHARE: f64 = 0.1;
const CONNECTIONS: usize = 16;
const WARM_UP: Duration = Duration::from_secs(2);
/// A slow one works for so long, then rests nine times as long.
const WORKS: Duration = Duration::from_millis(50);
/// What is let pass where the noise is less.
const RATIO: f64 = 1.1;
const SMALL: (u32, Duration) = (2, Duration::from_secs(2));

#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    peak_per_s: f64,
    rounds: Vec<Round>,
    targets: Vec<Target>,
}

/// Of the transactions that don't need the third participant, in the order of [`CONDUCTS`].
#[derive(Debug, Serialize)]
struct Round {
    legs: Vec<Leg>,
}

#[derive(Debug, Serialize)]
struct Leg {
    conduct: Conduct,
    succeeded: u64,
    /// Refused, given up or failed.
    others: u64,
    p50_us: u64,
    p99_us: u64,
}

/// Succeeds if it could be measured, whether targets are met or not.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    disk::make(&options.dir)?;
    let machine = Machine::look(&options.dir).await?;
    machine.print();
    let (rounds, lasts) = if options.small {
        SMALL
    } else {
        (options.rounds, options.seconds)
    };
    let scene = Scene {
        launch: Launch::of(&program::tercet()?),
        options,
        lasts,
    };
    let peak_per_s = scene.peak().await?;
    println!("peak {peak_per_s:.0}/s\n");
    println!("round conduct  SUCCESS   others    p50 us    p99 us");
    let mut measured = Vec::new();
    for round in 1..=rounds {
        measured.push(scene.round(round, LOAD * peak_per_s).await?);
    }
    let targets = targets(&measured);
    println!();
    for target in &targets {
        target.print();
    }
    let report = Report {
        machine,
        peak_per_s,
        rounds: measured,
        targets,
    };
    if let Some(file) = &options.json {
        json::write(&report, file)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Scene<'a> {
    launch: Launch,
    options: &'a Options,
    lasts: Duration,
}

impl Scene<'_> {
    async fn peak(&self) -> anyhow::Result<f64> {
        let folder = TempDir::with_prefix_in("peak-", &self.options.dir)?;
        let mode = self.options.mode;
        let stage = Stage::set(mode, self.launch.clone(), folder.path()).await?;
        let coordinator = stage.coordinator().await?;
        let peak = peak(&stage, &coordinator, mode).await;
        with_last_words(peak, folder.path())
    }

    async fn round(&self, round: u32, per_s: f64) -> anyhow::Result<Round> {
        let mut conducts = CONDUCTS;
        // Whoever comes first in a round comes last in another.
        conducts.rotate_left(round as usize % CONDUCTS.len());
        let mut legs = Vec::new();
        for conduct in conducts {
            let folder = TempDir::with_prefix_in("stuck-", &self.options.dir)?;
            let leg = self.leg(conduct, per_s, folder.path()).await;
            let leg = with_last_words(leg, folder.path())?;
            let Leg {
                succeeded,
                others,
                p50_us,
                p99_us,
                ..
            } = leg;
            let name = format!("{conduct:?}").to_lowercase();
            println!("{round:>5} {name:<7} {succeeded:>8} {others:>8} {p50_us:>9} {p99_us:>9}");
            legs.push(leg);
        }
        legs.sort_by_key(|leg| CONDUCTS.iter().position(|it| *it == leg.conduct));
        Ok(Round { legs })
    }

    async fn leg(&self, conduct: Conduct, per_s: f64, folder: &Path) -> anyhow::Result<Leg> {
        let names = [NAMES[0], NAMES[1], THIRD];
        let mode = self.options.mode;
        let stage = Stage::with(&names, mode, self.launch.clone(), folder).await?;
        let coordinator = stage.coordinator().await?;
        let unrelated = Wire::to(&coordinator, CONNECTIONS).await?;
        let order = Order::with([NAMES[0], THIRD]);
        let touching = Wire::ordering(order, &coordinator, CONNECTIONS).await?;
        let flow = |wires, prefix, share| Flow {
            wires,
            prefix,
            per_s: share * per_s,
            lasts: WARM_UP + self.lasts,
        };
        let unrelated = flow(&unrelated, "unrelated", 1.0 - SHARE);
        let touching = flow(&touching, "touching", SHARE);
        let disturbed = async {
            let (_, disturbed) =
                tokio::join!(touching.run(), disturb(conduct, &stage.participants[2]));
            disturbed
        };
        let arrivals = tokio::select! {
            arrivals = unrelated.run() => arrivals,
            disturbed = disturbed => disturbed?,
        };
        coordinator.kill().await?;
        measured(conduct, &arrivals)
    }
}

/// For as long as it is waited for; ends only when something goes wrong.
async fn disturb<T>(conduct: Conduct, third: &Participant) -> anyhow::Result<T> {
    match conduct {
        Conduct::Well | Conduct::Again => {}
        Conduct::Stuck => third.stop()?,
        Conduct::Slow => loop {
            third.stop()?;
            tokio::time::sleep(9 * WORKS).await;
            third.go_on()?;
            tokio::time::sleep(WORKS).await;
        },
    }
    std::future::pending().await
}

fn measured(conduct: Conduct, arrivals: &[Arrival]) -> anyhow::Result<Leg> {
    let warm: Vec<Arrival> = arrivals
        .iter()
        .filter(|it| it.at >= WARM_UP)
        .copied()
        .collect();
    let latencies = latencies(&warm, End::Succeeded)?;
    let succeeded = count(&warm, End::Succeeded);
    Ok(Leg {
        conduct,
        succeeded,
        others: warm.len() as u64 - succeeded,
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
    })
}

/// Medians over all rounds, against the larger of what is let pass and the noise.
fn targets(rounds: &[Round]) -> Vec<Target> {
    let p99 = |round: &Round, at: usize| round.legs[at].p99_us as f64;
    let ratio = |at: usize| {
        let ratios = rounds.iter().map(|it| p99(it, at) / p99(it, 0));
        median(ratios.collect()).unwrap_or(f64::NAN)
    };
    let noise = rounds.iter().map(|it| {
        let ratio = p99(it, 1) / p99(it, 0);
        ratio.max(1.0 / ratio)
    });
    let noise = median(noise.collect()).unwrap_or(f64::NAN);
    println!("\nwell to itself, the median of what they differ by: {noise:.2}");
    let bound = RATIO.max(noise);
    let target = |at: usize, what| {
        let what = format!("p99 of others with one participant {what}, to that when all is well");
        Target::at_most(bound, &what, ratio(at))
    };
    vec![target(2, "stuck"), target(3, "slow")]
}
