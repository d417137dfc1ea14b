//! More than it can do: what it gets done, what it refuses, and how soon it is as before.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;
use tempfile::TempDir;

use crate::{
    aged::{Stand, Templates},
    arrivals::{Arrival, End, Flow, count, latencies},
    calls::Calls,
    disk, json,
    leg::Leg,
    load::Ids,
    machine::Machine,
    measured,
    mode::Mode,
    options::seconds,
    processes::{Coordinator, Launch},
    program,
    stage::{Stage, with_last_words},
    summary::Target,
    usage,
    wire::Wire,
};

/// Five times what it can do, with 100,000 transactions to be recovered (3 minutes; --small: one).
///
/// Clients come at a rate and don't wait for each other. First what it can do with 256 clients, and its
/// latency at half of that, both with nothing else to do; then the overload, right after a start with
/// unfinished transactions, all of them due; then half of its peak again, until it is as before.
#[derive(Debug, Args)]
pub struct Options {
    /// How many times its peak arrives.
    #[arg(long, value_name = "FACTOR", default_value_t = 5.0)]
    factor: f64,
    /// For how long.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    seconds: Duration,
    /// How many unfinished transactions the coordinator begins with.
    #[arg(long, value_name = "COUNT", default_value_t = 100_000)]
    recovering: u64,
    /// 5 seconds, and 1,000 to be recovered: whether it works, not what it comes to.
    #[arg(long, conflicts_with_all = ["seconds", "recovering"])]
    small: bool,
    /// How participants are reached.
    #[arg(long, value_enum, default_value_t = Mode::Unary)]
    mode: Mode,
    /// A setting of the coordinator, for example inflight_max=512.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    settings: Vec<String>,
    /// Writes every figure there, second by second, with the machine it comes from.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where stores are made, and removed again; not on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

const GOODPUT: f64 = 0.80;
const BACK_S: f64 = 10.0;
/// As many as it takes: the coordinator lets each have 200 calls.
const CONNECTIONS: usize = 32;
/// What it does at its peak is done by so many clients, on so many connections.
const PEAK_CONCURRENCY: u32 = 256;
const PEAK_CONNECTIONS: usize = 4;
const PEAK: Duration = Duration::from_secs(5);
/// Clients and participants come first on the processors, as if they had machines of their own: what they
/// are late with says nothing of the coordinator.
const LATER: [&str; 3] = ["nice", "-n", "10"];
/// Of its peak, what comes before the overload and after it.
const CALM: f64 = 0.5;
const BEFORE: Duration = Duration::from_secs(10);
const AFTER: Duration = Duration::from_secs(30);
/// A second is as before when its p99 is at most so many times that of the calm before, or what the worst second of
/// that calm had.
const NORMAL: f64 = 2.0;
const SMALL: Duration = Duration::from_secs(5);
const SMALL_RECOVERING: u64 = 1_000;
const WAITING: &str = "tercet_transactions_waiting";

/// All figures.
#[derive(Debug, Serialize)]
struct Report {
    machine: Machine,
    factor: f64,
    seconds: f64,
    recovering: u64,
    peak_per_s: f64,
    calm: Calm,
    /// SUCCESS within the overload, for each second of it.
    goodput_per_s: f64,
    succeeded: u64,
    refused: u64,
    gave_up: u64,
    failed: u64,
    /// Of those that succeeded.
    p50_us: u64,
    p99_us: u64,
    refused_p99_us: u64,
    /// Processor time a second during the overload. What clients need for those refused, others don't have.
    clients_cores: f64,
    coordinator_cores: f64,
    participants_cores: f64,
    /// What was still to be recovered when the overload ended.
    recovering_left: u64,
    /// And when all was over.
    recovering_left_after: u64,
    /// From the end of the overload until every second was as before; none if that never came.
    back_s: Option<f64>,
    overload: Vec<Second>,
    after: Vec<Second>,
    targets: Vec<Target>,
}

/// At half of the peak, with nothing else to do.
#[derive(Clone, Copy, Debug, Serialize)]
struct Calm {
    p99_us: u64,
    /// Of its seconds, the one with the highest.
    worst_p99_us: u64,
}

/// One second of arrivals.
#[derive(Debug, Serialize)]
struct Second {
    arrived: u64,
    succeeded: u64,
    refused: u64,
    /// Of those that succeeded.
    p50_us: Option<u64>,
    p99_us: Option<u64>,
}

/// Succeeds if it could be measured, whether targets are met or not.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    disk::make(&options.dir)?;
    let machine = Machine::look(&options.dir).await?;
    machine.print();
    let program = program::tercet()?;
    let overload = Overload::new(options, &program);
    let (peak_per_s, calm) = overload.at_rest().await?;
    let Calm {
        p99_us,
        worst_p99_us,
    } = calm;
    println!(
        "peak {peak_per_s:.0}/s; at half of it p99 {p99_us} us, {worst_p99_us} us in its worst second"
    );
    let folder = TempDir::with_prefix_in("overload-", &options.dir)?;
    println!(
        "making a store with {} unfinished transactions",
        overload.recovering
    );
    let templates = Templates::made_by(&program, &options.dir).await?;
    let filled = templates.fill(
        folder.path(),
        Stand::Due,
        "due",
        Ids::default(),
        overload.recovering,
    );
    filled.await?;
    let load = overload.load(folder.path(), peak_per_s).await;
    let load = with_last_words(load, folder.path())?;
    let report = overload.report(machine, peak_per_s, calm, load)?;
    report.print();
    if let Some(file) = &options.json {
        json::write(&report, file)?;
    }
    Ok(ExitCode::SUCCESS)
}

struct Overload<'a> {
    options: &'a Options,
    lasts: Duration,
    recovering: u64,
    launch: Launch,
}

struct Load {
    overload: Vec<Arrival>,
    used: Used,
    recovering_left: u64,
    after: Vec<Arrival>,
    recovering_left_after: u64,
}

impl<'a> Overload<'a> {
    fn new(options: &'a Options, program: &Path) -> Self {
        let small = options.small;
        Self {
            options,
            lasts: if small { SMALL } else { options.seconds },
            recovering: if small {
                SMALL_RECOVERING
            } else {
                options.recovering
            },
            launch: Launch {
                settings: options.settings.clone(),
                under: LATER.map(Into::into).into(),
                ..Launch::of(program)
            },
        }
    }

    /// What it can do, and how it is at half of that, with an empty store.
    async fn at_rest(&self) -> anyhow::Result<(f64, Calm)> {
        let folder = TempDir::with_prefix_in("peak-", &self.options.dir)?;
        let rested = self.rest(folder.path()).await;
        with_last_words(rested, folder.path())
    }

    async fn rest(&self, folder: &Path) -> anyhow::Result<(f64, Calm)> {
        let stage = Stage::set(self.options.mode, self.launch.clone(), folder).await?;
        let coordinator = stage.coordinator().await?;
        let peak = peak(&stage, &coordinator, self.options.mode).await?;
        let wires = Wire::to(&coordinator, CONNECTIONS).await?;
        let flow = Flow {
            wires: &wires,
            prefix: "before",
            per_s: CALM * peak,
            lasts: BEFORE,
        };
        let calm = Calm::of(&flow.run().await)?;
        coordinator.kill().await?;
        Ok((peak, calm))
    }

    async fn load(&self, folder: &Path, peak_per_s: f64) -> anyhow::Result<Load> {
        let stage = Stage::set(self.options.mode, self.launch.clone(), folder).await?;
        let coordinator = stage.coordinator().await?;
        let wires = Wire::to(&coordinator, CONNECTIONS).await?;
        println!(
            "{:.0} a second for {:?}",
            self.options.factor * peak_per_s,
            self.lasts
        );
        let overload = Flow {
            wires: &wires,
            prefix: "overload",
            per_s: self.options.factor * peak_per_s,
            lasts: self.lasts,
        };
        let after = Flow {
            wires: &wires,
            prefix: "after",
            per_s: CALM * peak_per_s,
            lasts: AFTER,
        };
        // What has arrived may still wait when the calm begins.
        let before = Used::now(&stage, &coordinator)?;
        let then = async {
            tokio::time::sleep(self.lasts).await;
            let used = Used::now(&stage, &coordinator);
            let (after, left) = tokio::join!(after.run(), waiting(&coordinator));
            (used, after, left)
        };
        let (overload, (used, after, left)) = tokio::join!(overload.run(), then);
        let left_after = waiting(&coordinator).await;
        coordinator.kill().await?;
        Ok(Load {
            overload,
            used: used?.since(&before),
            recovering_left: left?,
            after,
            recovering_left_after: left_after?,
        })
    }

    fn report(
        &self,
        machine: Machine,
        peak_per_s: f64,
        calm: Calm,
        load: Load,
    ) -> anyhow::Result<Report> {
        let all = &load.overload;
        let in_time = all.iter().filter(|it| it.answered <= self.lasts);
        let goodput_per_s = count(in_time, End::Succeeded) as f64 / self.lasts.as_secs_f64();
        let accepted = latencies(all, End::Succeeded)?;
        let refused = latencies(all, End::Refused)?;
        let after = by_second(&load.after, AFTER)?;
        let back_s = back_s(&after, calm);
        let share = goodput_per_s / peak_per_s;
        let cores = |cpu_s: f64| cpu_s / self.lasts.as_secs_f64();
        let targets = vec![
            Target::at_least(GOODPUT, "goodput under overload to the peak", share),
            Target::at_most(
                BACK_S,
                "seconds until it is as before",
                back_s.unwrap_or(f64::INFINITY),
            ),
        ];
        Ok(Report {
            machine,
            factor: self.options.factor,
            seconds: self.lasts.as_secs_f64(),
            recovering: self.recovering,
            peak_per_s,
            calm,
            goodput_per_s,
            succeeded: count(all, End::Succeeded),
            refused: count(all, End::Refused),
            gave_up: count(all, End::GaveUp),
            failed: count(all, End::Failed),
            p50_us: accepted.value_at_quantile(0.5),
            p99_us: accepted.value_at_quantile(0.99),
            refused_p99_us: refused.value_at_quantile(0.99),
            clients_cores: cores(load.used.clients_s),
            coordinator_cores: cores(load.used.coordinator_s),
            participants_cores: cores(load.used.participants_s),
            recovering_left: load.recovering_left,
            recovering_left_after: load.recovering_left_after,
            back_s,
            overload: by_second(all, self.lasts)?,
            after,
            targets,
        })
    }
}

impl Calm {
    fn of(arrivals: &[Arrival]) -> anyhow::Result<Self> {
        let seconds = by_second(arrivals, BEFORE)?;
        let worst = seconds.iter().filter_map(|second| second.p99_us).max();
        Ok(Self {
            p99_us: latencies(arrivals, End::Succeeded)?.value_at_quantile(0.99),
            worst_p99_us: worst.context("nothing succeeded in the calm")?,
        })
    }
}

/// Processor time, so far.
struct Used {
    clients_s: f64,
    coordinator_s: f64,
    participants_s: f64,
}

impl Used {
    fn now(stage: &Stage, coordinator: &Coordinator) -> anyhow::Result<Self> {
        let mut participants_s = 0.0;
        for process in stage.processes() {
            participants_s += usage::cpu_s(process)?;
        }
        Ok(Self {
            clients_s: usage::cpu_s(std::process::id())?,
            coordinator_s: usage::cpu_s(coordinator.id())?,
            participants_s,
        })
    }

    fn since(&self, before: &Self) -> Self {
        Self {
            clients_s: self.clients_s - before.clients_s,
            coordinator_s: self.coordinator_s - before.coordinator_s,
            participants_s: self.participants_s - before.participants_s,
        }
    }
}

/// How many transactions are due, or wait until they are.
async fn waiting(coordinator: &Coordinator) -> anyhow::Result<u64> {
    coordinator.metric(WAITING, |_| true).await
}

/// What it does at most, a second.
pub async fn peak(stage: &Stage, coordinator: &Coordinator, mode: Mode) -> anyhow::Result<f64> {
    let leg = Leg {
        mode,
        concurrency: PEAK_CONCURRENCY,
        connections: PEAK_CONNECTIONS,
        measured: PEAK,
        ids: Ids::default(),
        kill: false,
    };
    let calls = Calls::to(coordinator, PEAK_CONNECTIONS).await?;
    let (others, id) = (stage.processes(), Some(coordinator.id()));
    let (measured, _) = measured::measure(&leg, "peak", &calls, &others, id).await?;
    Ok(measured.transactions_per_s)
}

fn by_second(arrivals: &[Arrival], lasts: Duration) -> anyhow::Result<Vec<Second>> {
    let mut seconds = Vec::new();
    for second in 0..lasts.as_secs() {
        let arrived = arrivals.iter().filter(|it| it.at.as_secs() == second);
        let arrived: Vec<Arrival> = arrived.copied().collect();
        let accepted = latencies(&arrived, End::Succeeded)?;
        let quantile = |it| (!accepted.is_empty()).then(|| accepted.value_at_quantile(it));
        seconds.push(Second {
            arrived: arrived.len() as u64,
            succeeded: count(&arrived, End::Succeeded),
            refused: count(&arrived, End::Refused),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        });
    }
    Ok(seconds)
}

/// The first second since which all were as before.
fn back_s(after: &[Second], calm: Calm) -> Option<f64> {
    let bound_us = f64::max(NORMAL * calm.p99_us as f64, calm.worst_p99_us as f64);
    let normal = |second: &Second| {
        second.succeeded == second.arrived
            && second
                .p99_us
                .is_some_and(|p99_us| p99_us as f64 <= bound_us)
    };
    let since = after.iter().rposition(|second| !normal(second));
    let since = since.map_or(0, |last| last + 1);
    (since < after.len()).then_some(since as f64)
}

impl Report {
    fn print(&self) {
        println!("\n    second  arrived  SUCCESS  refused    p50 us    p99 us");
        let overload = self.overload.iter().map(|it| ("", it));
        let after = self.after.iter().map(|it| ("after", it));
        for (nth, (when, it)) in overload.chain(after).enumerate() {
            let us = |us: Option<u64>| us.map_or("-".into(), |us| us.to_string());
            let Second {
                arrived,
                succeeded,
                refused,
                ..
            } = it;
            let (p50, p99) = (us(it.p50_us), us(it.p99_us));
            println!(
                "{when:>5} {nth:>4} {arrived:>8} {succeeded:>8} {refused:>8} {p50:>9} {p99:>9}"
            );
        }
        let Self {
            peak_per_s,
            goodput_per_s,
            succeeded,
            refused,
            gave_up,
            failed,
            p50_us,
            p99_us,
            refused_p99_us,
            clients_cores,
            coordinator_cores,
            participants_cores,
            recovering,
            recovering_left,
            recovering_left_after,
            ..
        } = self;
        println!("\npeak {peak_per_s:.0}/s, goodput {goodput_per_s:.0}/s");
        println!("{succeeded} succeeded, p50 {p50_us} us, p99 {p99_us} us");
        println!("{refused} refused, p99 {refused_p99_us} us; {gave_up} gave up, {failed} failed");
        println!(
            "cores used: clients {clients_cores:.2}, coordinator {coordinator_cores:.2}, participants \
             {participants_cores:.2}"
        );
        println!(
            "{recovering_left} of {recovering} still to be recovered at its end, {recovering_left_after} after the calm"
        );
        for target in &self.targets {
            target.print();
        }
    }
}
