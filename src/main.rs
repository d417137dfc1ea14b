//! The program: the coordinator, and the command line for people who use or run one.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
