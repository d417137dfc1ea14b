//! Work for a coordinator that learns from it: a build that counts what it does writes that down at its end, and
//! another build is laid out by it (`.ci/dist`).

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use tempfile::TempDir;

use crate::{
    disk,
    guard::{MODES, live},
    processes::Launch,
    program,
    stage::with_last_words,
};

/// Has the coordinator do all that takes most of its time, and end in good order (a minute).
///
/// Nothing is measured. `.ci/dist` uses it, with a coordinator that counts what it does.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the coordinator's store is made, and removed again; not on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

/// How many clients there are at the same time, and how many transactions each of them does.
const CROWDS: [(u32, u64); 3] = [(1, 2_000), (32, 500), (256, 100)];

/// Succeeds if every transaction did.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    disk::make(&options.dir)?;
    let program = program::tercet()?;
    for mode in MODES {
        for (concurrency, each) in CROWDS {
            println!("{mode}: {concurrency} clients, {each} transactions each");
            let folder = TempDir::with_prefix_in("train-", &options.dir)?;
            let launch = Launch::of(&program);
            let lived = live(mode, launch, folder.path(), concurrency, each).await;
            with_last_words(lived, folder.path())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
