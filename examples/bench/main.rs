//! The benchmark: what a durable transaction costs, beside the calls it replaces.
//!
//! `cargo run --release --example bench -- --help`. It starts the coordinator (the `tercet` binary of the
//! same build) and two participants as processes of their own, and is itself the clients. Every mode
//! works in turn, round by round, so that whatever else the machine does meets them all; at the end of
//! each of its turns the coordinator is killed, and everything that was acknowledged is looked up.
//!
//! Its commands measure the same coordinator in other ways: `guard` counts instructions, `growth` shows what
//! size does, `overload` and `stuck` what happens when not all is well.

mod aged;
mod arrivals;
mod calls;
mod check;
mod disk;
mod frames;
mod growth;
mod guard;
mod json;
mod leg;
mod load;
mod machine;
mod measured;
mod mode;
mod options;
mod overload;
mod participant;
mod processes;
mod program;
mod report;
mod run;
mod silent;
mod stage;
mod stuck;
mod summary;
mod table;
mod train;
mod usage;
mod wire;

use std::process::ExitCode;

use anyhow::bail;
use clap::Parser as _;

use options::{Bench, Task};

#[tokio::main]
async fn main() -> ExitCode {
    match act().await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As a participant, when it was started as one.
async fn act() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, rest @ ..] = &arguments[..]
        && role == participant::ROLE
    {
        participant::run(rest).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let bench = Bench::parse();
    if cfg!(debug_assertions) {
        bail!("this is a debug build, whose figures mean nothing; run it with --release");
    }
    match &bench.task {
        None => run::run(&bench.compare).await,
        Some(Task::Growth(options)) => growth::run(options).await,
        Some(Task::Guard(options)) => guard::run(options).await,
        Some(Task::Overload(options)) => overload::run(options).await,
        Some(Task::Stuck(options)) => stuck::run(options).await,
        Some(Task::Train(options)) => train::run(options).await,
    }
}
