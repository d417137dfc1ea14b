//! How many instructions the coordinator executes for a transaction: what a slowdown shows in, on machines
//! whose clocks say nothing.
//!
//! The shipped `tercet serve` runs under callgrind, with one worker thread; participants and clients are
//! processes of their own, as in every other measurement. What a run of seven times as many transactions
//! needs beyond a short one is theirs alone: start and end fall out.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::{
    calls::Calls,
    disk, json,
    load::{Ids, Load, Window},
    mode::Mode,
    processes::Launch,
    program,
    stage::{Stage, with_last_words},
};

/// Checks the coordinator's instructions per transaction against the recorded ones (valgrind; a minute).
///
/// They hardly depend on the machine or on what else it does. The exit code is 0 only if no mode needs more
/// than is recorded and the margin.
#[derive(Debug, Args)]
pub struct Options {
    /// Writes what is found into the record instead.
    #[arg(long)]
    record: bool,
    /// The record.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "examples/bench/instructions.json"
    )]
    file: PathBuf,
    /// How many transactions the short run has; the long one has seven times as many.
    #[arg(long, value_name = "COUNT", default_value_t = 320, value_parser = clap::value_parser!(u32).range(CONCURRENCY as i64..))]
    transactions: u32,
    /// Leaves callgrind's files of the long runs there, for callgrind_annotate.
    #[arg(long, value_name = "DIR")]
    profiles: Option<PathBuf>,
    /// Where the coordinator's store is made, and removed again; not on tmpfs.
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    dir: PathBuf,
}

pub const MODES: [Mode; 2] = [Mode::Unary, Mode::Sessions];
const CONCURRENCY: u32 = 16;
const CONNECTIONS: usize = 1;
/// How many times as long the long run is.
const LONG: u64 = 7;
/// How much more than recorded is let pass: five times as much as runs beside other work, up to five others on
/// each core, lay above or below their middle.
const MARGIN: f64 = 0.05;
const LOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// What is committed.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// The compiler, whose versions differ too.
    rustc: String,
    /// For each transaction, by mode.
    instructions: BTreeMap<String, u64>,
}

/// Succeeds if nothing has become slower.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    disk::make(&options.dir)?;
    disk::file_system(&options.dir)?;
    let program = program::tercet()?;
    check_valgrind()?;
    let mut found = Record {
        rustc: rustc()?,
        instructions: BTreeMap::new(),
    };
    for mode in MODES {
        let instructions = instructions(mode, &program, options).await?;
        println!("{mode:<8} {instructions} instructions per transaction");
        found.instructions.insert(mode.to_string(), instructions);
    }
    if options.record {
        json::write(&found, &options.file)?;
        println!("recorded in {}", options.file.display());
        return Ok(ExitCode::SUCCESS);
    }
    let recorded = Record::read(&options.file)?;
    compare(&recorded, &found)
}

/// Of one transaction.
async fn instructions(mode: Mode, program: &Path, options: &Options) -> anyhow::Result<u64> {
    let each = u64::from(options.transactions / CONCURRENCY);
    let short = count(mode, program, &options.dir, each, None).await?;
    let profile = options.profiles.as_ref();
    let profile = profile.map(|dir| dir.join(format!("callgrind.{mode}")));
    let long = count(mode, program, &options.dir, LONG * each, profile).await?;
    let more = long
        .checked_sub(short)
        .context("the long run was shorter")?;
    Ok(more / ((LONG - 1) * each * u64::from(CONCURRENCY)))
}

/// Of a whole life of the coordinator in which every client does so many transactions. Leaves the profile there.
async fn count(
    mode: Mode,
    program: &Path,
    dir: &Path,
    each: u64,
    keep: Option<PathBuf>,
) -> anyhow::Result<u64> {
    let folder = TempDir::with_prefix_in("guard-", dir)?;
    let profile = folder.path().join("callgrind");
    let launch = launch(program, &profile);
    let lived = live(mode, launch, folder.path(), CONCURRENCY, each).await;
    with_last_words(lived, folder.path())?;
    if let Some(keep) = keep {
        let copied = fs::copy(&profile, &keep);
        copied.with_context(|| format!("writing {}", keep.display()))?;
    }
    total(&profile)
}

/// A life of the coordinator in which so many clients do so many transactions each, up to its end in good order.
pub async fn live(
    mode: Mode,
    launch: Launch,
    folder: &Path,
    concurrency: u32,
    each: u64,
) -> anyhow::Result<()> {
    let stage = Stage::set(mode, launch, folder).await?;
    let coordinator = stage.coordinator().await?;
    let calls = Calls::to(&coordinator, CONNECTIONS).await?;
    let window = Window::of_each(each, LOAD_TIMEOUT);
    let done = Load::start(Ids::default(), &calls, concurrency, "done", window)
        .done()
        .await?;
    let acknowledged = done.acknowledged();
    if let Some(fault) = done.into_fault() {
        return Err(fault.context("a client met an error"));
    }
    if acknowledged != each * u64::from(concurrency) {
        bail!("only {acknowledged} transactions were done within {LOAD_TIMEOUT:?}");
    }
    drop(calls);
    coordinator.end().await
}

/// Under callgrind everything takes fifty times as long; no call may be repeated for that.
fn launch(program: &Path, profile: &Path) -> Launch {
    let settings = ["call_timeout=60s", "limits.try_timeout_default=25s"];
    Launch {
        under: vec![
            "valgrind".into(),
            "--tool=callgrind".into(),
            // Else a thread that spins for another's lock, as sled's do, may do so for a long time.
            "--fair-sched=yes".into(),
            format!("--callgrind-out-file={}", profile.display()).into(),
        ],
        variables: vec![("TOKIO_WORKER_THREADS", "1")],
        settings: settings.map(str::to_owned).into(),
        ..Launch::of(program)
    }
}

/// What callgrind counted, of all threads.
fn total(profile: &Path) -> anyhow::Result<u64> {
    let text = fs::read_to_string(profile)
        .with_context(|| format!("reading callgrind's {}", profile.display()))?;
    let totals = text
        .lines()
        .rev()
        .find_map(|line| line.strip_prefix("totals: "));
    let totals = totals.context("callgrind's file has no totals")?;
    Ok(totals.trim().parse()?)
}

fn check_valgrind() -> anyhow::Result<()> {
    let mut valgrind = Command::new("valgrind");
    let status = valgrind.arg("--version").stdout(Stdio::null()).status();
    if !status.is_ok_and(|status| status.success()) {
        bail!("valgrind does not run; install it, for example: apt-get install valgrind");
    }
    Ok(())
}

fn rustc() -> anyhow::Result<String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(rustc).arg("--version").output();
    let output = output.context("asking rustc for its version")?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn compare(recorded: &Record, found: &Record) -> anyhow::Result<ExitCode> {
    const RECORD: &str = "cargo run --release --example bench -- guard --record";
    let mut code = ExitCode::SUCCESS;
    for (mode, found) in &found.instructions {
        let recorded = recorded.instructions.get(mode);
        let recorded =
            *recorded.with_context(|| format!("nothing is recorded for {mode}; {RECORD}"))?;
        let change = *found as f64 / recorded as f64 - 1.0;
        let (percent, margin) = (100.0 * change, 100.0 * MARGIN);
        print!("{mode:<8} {percent:+.1} % against the recorded {recorded}, margin {margin} %: ");
        if change > MARGIN {
            println!(
                "TOO MANY. `guard --profiles DIR` shows what they are spent on; if they are worth it: {RECORD}"
            );
            code = ExitCode::FAILURE;
        } else if change < -MARGIN {
            println!("fine. So that it stays like that: {RECORD}");
        } else {
            println!("fine");
        }
    }
    if recorded.rustc != found.rustc {
        println!("recorded with {}, this is {}", recorded.rustc, found.rustc);
    }
    Ok(code)
}

impl Record {
    fn read(file: &Path) -> anyhow::Result<Self> {
        let text =
            fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record", file.display()))
    }
}
