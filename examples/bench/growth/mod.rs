//! How the coordinator grows: with what it keeps, with what is unfinished, with what comes and goes, with the
//! branches of a transaction.
//!
//! Each part is measured by itself and has its own place in the report, which keeps those of other runs; the
//! picture shows all that are there.

mod branches;
mod churn;
mod finished;
mod memory;
mod picture;
mod unfinished;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::{
    aged::Templates, disk, json, load::Ids, machine::Machine, options::seconds, program,
    summary::Target,
};

/// Measures how it grows, and draws it (everything: an hour; --small: two minutes).
///
/// The report keeps what earlier runs have found about parts that this one leaves out.
#[derive(Debug, Args)]
pub struct Options {
    /// What is measured.
    #[arg(long, value_name = "PART,…", value_delimiter = ',', value_enum, default_values_t = Part::ALL)]
    parts: Vec<Part>,
    /// A hundredth of each size, one round of a second, no report in docs: whether it works, not what it comes to.
    #[arg(long)]
    small: bool,
    /// Measures nothing, and draws what the report has.
    #[arg(long)]
    draw: bool,
    /// How many finished transactions are kept; 0 is what the others are compared with.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_values_t = [0, 1_000_000, 5_000_000])]
    finished: Vec<u64>,
    /// Where the ids of finished ones, and of those that come then, lie in the order of ids.
    #[arg(long, value_enum, default_value_t)]
    ids: Ids,
    /// How many unfinished ones a start finds.
    #[arg(long, value_name = "COUNT,…", value_delimiter = ',', default_values_t = [1_000, 10_000, 100_000, 1_000_000])]
    unfinished: Vec<u64>,
    /// How often throughput is measured, each size in turn.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// For how long, each time.
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    seconds: Duration,
    /// For how long recovery is watched after a start, if it takes longer.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    recovery: Duration,
    /// The report [default: docs/growth.json].
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The picture [default: docs/growth.svg].
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Where stores are made, and removed again; not on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Throughput and latency with so many finished transactions kept (20 minutes, 15 GB of disk).
    Finished,
    /// Start, memory and recovery with so many unfinished ones (10 minutes).
    Unfinished,
    /// What one costs that waits, with no call outstanding (4 minutes).
    Memory,
    /// The disk's use while transactions come and go (4 minutes).
    Churn,
    /// Throughput by the branches of a transaction (2 minutes).
    Branches,
}

impl Part {
    const ALL: [Part; 5] = [
        Part::Finished,
        Part::Unfinished,
        Part::Memory,
        Part::Churn,
        Part::Branches,
    ];
}

/// Clients at the same time, and their connections, wherever throughput is measured.
const CONCURRENCY: u32 = 256;
const CONNECTIONS: usize = 4;
/// What `--small` divides by.
const SMALL: u64 = 100;
/// A large store takes its time to open.
const READY_TIMEOUT: Duration = Duration::from_secs(900);

/// What was measured, as it is written to the file.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Report {
    #[serde(default)]
    finished: Option<Measured<finished::Point>>,
    #[serde(default)]
    unfinished: Option<Measured<unfinished::Point>>,
    #[serde(default)]
    memory: Option<Measured<memory::Point>>,
    #[serde(default)]
    churn: Option<Measured<churn::Point>>,
    #[serde(default)]
    branches: Option<Measured<branches::Point>>,
}

/// One part, and where its figures come from.
#[derive(Debug, Serialize, Deserialize)]
struct Measured<P> {
    machine: Machine,
    #[serde(flatten)]
    found: Found<P>,
}

/// What one part has come to.
#[derive(Debug, Serialize, Deserialize)]
struct Found<P> {
    points: Vec<P>,
    targets: Vec<Target>,
}

/// What every part is given.
struct Ground<'a> {
    options: &'a Options,
    program: PathBuf,
    templates: Templates,
}

/// Succeeds if everything could be measured, whether targets are met or not.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let file = |given: &Option<PathBuf>, name: &str| {
        let default = if options.small {
            &options.dir
        } else {
            Path::new("docs")
        };
        given.clone().unwrap_or_else(|| default.join(name))
    };
    let (json, svg) = (
        file(&options.json, "growth.json"),
        file(&options.svg, "growth.svg"),
    );
    let mut report = Report::read(&json)?;
    if !options.draw {
        disk::make(&options.dir)?;
        Machine::look(&options.dir).await?.print();
        let program = program::tercet()?;
        let templates = Templates::made_by(&program, &options.dir).await?;
        let ground = Ground {
            options,
            program,
            templates,
        };
        for part in &options.parts {
            ground.measure(*part, &mut report).await?;
            // What is measured is not lost to what comes after it.
            json::write(&report, &json)?;
        }
    }
    picture::draw(&report, &svg)?;
    println!("drawn in {}, from {}", svg.display(), json.display());
    Ok(ExitCode::SUCCESS)
}

impl Ground<'_> {
    async fn measure(&self, part: Part, report: &mut Report) -> anyhow::Result<()> {
        println!("\n{part:?}");
        match part {
            Part::Finished => {
                report.finished = self.on_machine(finished::measure(self).await?).await?
            }
            Part::Unfinished => {
                report.unfinished = self.on_machine(unfinished::measure(self).await?).await?;
            }
            Part::Memory => report.memory = self.on_machine(memory::measure(self).await?).await?,
            Part::Churn => report.churn = self.on_machine(churn::measure(self).await?).await?,
            Part::Branches => {
                report.branches = self.on_machine(branches::measure(self).await?).await?
            }
        }
        Ok(())
    }

    async fn on_machine<P>(&self, found: Found<P>) -> anyhow::Result<Option<Measured<P>>> {
        for target in &found.targets {
            target.print();
        }
        let machine = Machine::look(&self.options.dir).await?;
        Ok(Some(Measured { machine, found }))
    }

    /// This many, or what is left of it when everything is small.
    fn scaled(&self, count: u64) -> u64 {
        if self.options.small {
            count / SMALL
        } else {
            count
        }
    }

    fn rounds(&self) -> u32 {
        if self.options.small {
            1
        } else {
            self.options.rounds
        }
    }

    /// How long throughput is measured each time.
    fn seconds(&self) -> Duration {
        if self.options.small {
            Duration::from_secs(1)
        } else {
            self.options.seconds
        }
    }
}

impl Report {
    /// What earlier runs have found; nothing if there is no such file.
    fn read(file: &Path) -> anyhow::Result<Self> {
        if !file.exists() {
            return Ok(Self::default());
        }
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        let report = serde_json::from_str(&text);
        report.with_context(|| format!("{} is no such report; remove it", file.display()))
    }
}
