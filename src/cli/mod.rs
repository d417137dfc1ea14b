//! The command line: a noun, then a verb.
//!
//! Data goes to standard output, prose to standard error. Exit codes: SUCCESS 0, FAILED 2,
//! PROCESSING 3, any error 1.

mod config;
mod output;
mod participant;
mod problem;
mod serve;
mod settings;
mod store;
mod tx;

use std::{future::Future, process::ExitCode, sync::OnceLock};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::problem::Problem;

/// A transaction coordinator for services that talk gRPC: Try, then Confirm or Cancel.
#[derive(Debug, Parser)]
#[command(name = "tercet", version = version(), arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    noun: Noun,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Run the coordinator.
    Serve(serve::Serve),
    /// Submit transactions, and look at them.
    #[command(subcommand)]
    Tx(tx::Tx),
    /// Put participants to the test.
    #[command(subcommand)]
    Participant(participant::Participant),
    /// Look after a store whose coordinator is stopped.
    #[command(subcommand)]
    Store(store::Store),
    /// Check the settings, and see where each comes from.
    #[command(subcommand)]
    Config(config::Config),
    /// Print a completion script for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
}

/// Does what the process's arguments say.
pub(crate) fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap would exit with 2, which is FAILED here.
            let code = u8::from(error.use_stderr());
            drop(error.print());
            return ExitCode::from(code);
        }
    };
    let done = match cli.noun {
        Noun::Serve(serve) => serve.run(),
        Noun::Tx(tx) => tx.run(),
        Noun::Participant(participant) => participant.run(),
        Noun::Store(store) => store.run(),
        Noun::Config(config) => config.run(),
        Noun::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "tercet", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
    };
    done.unwrap_or_else(|problem| {
        eprintln!("error: {problem}");
        ExitCode::FAILURE
    })
}

fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let format = tercet::store::FORMAT;
        format!("{} (store format {format})", env!("CARGO_PKG_VERSION"))
    })
}

/// Runs one command of a client to its end.
fn block_on<T>(work: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| {
        Problem::new(
            format!("no runtime can be started: {error}"),
            "check the limits on this process",
        )
    })?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_declared_without_contradiction() {
        Cli::command().debug_assert();
    }
}
