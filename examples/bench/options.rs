//! What the benchmark can be asked for.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{growth, guard, mode::Mode, overload, stuck, train};

/// More would be refused: the coordinator's own limit is 4096.
const CONCURRENCY_MAX: i64 = 4096;

/// Durable transactions of two branches with 128-byte payloads, measured in every way.
///
/// Without a command: beside the calls they replace (ten minutes).
#[derive(Debug, Parser)]
#[command(name = "bench", args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    pub task: Option<Task>,
    #[command(flatten)]
    pub compare: Options,
}

#[derive(Debug, Subcommand)]
pub enum Task {
    Guard(guard::Options),
    Growth(growth::Options),
    Overload(overload::Options),
    Stuck(stuck::Options),
    Train(train::Options),
}

/// Prints what each mode came to, round by round, then the medians, the ratios and the targets. The exit
/// code is 0 only if every mode worked in every round and nothing that was acknowledged was lost.
#[derive(Debug, Args)]
pub struct Options {
    /// How long each mode is measured in each round, in seconds, after a warm-up of up to one.
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = seconds)]
    pub seconds: Duration,
    /// How often every mode is measured.
    #[arg(long, value_name = "COUNT", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub rounds: u32,
    /// How many clients work at the same time, each with a transaction after the other.
    #[arg(
        long,
        value_name = "COUNT,…",
        value_delimiter = ',',
        default_values_t = [1, 32, 256, 1024],
        value_parser = clap::value_parser!(u32).range(1..=CONCURRENCY_MAX)
    )]
    pub concurrency: Vec<u32>,
    /// What is compared; a mode's ratio needs `direct` beside it.
    #[arg(long, value_name = "MODE,…", value_delimiter = ',', value_enum, default_values_t = Mode::ASKED)]
    pub modes: Vec<Mode>,
    /// Writes every figure there, with the machine it comes from.
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Where the coordinator's store is made, and removed again; not on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    pub dir: PathBuf,
}

pub fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text
        .parse()
        .map_err(|_| "it is no number of seconds".to_owned())?;
    if !(0.1..=600.0).contains(&seconds) {
        return Err("it must be 0.1 to 600 seconds".into());
    }
    Ok(Duration::from_secs_f64(seconds))
}
