//! The program: the coordinator, and the command line for people who use or run one.

mod cli;

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// A fifth of the coordinator's time went into the system's allocator.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
