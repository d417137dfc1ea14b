//! The participants and the coordinator: started, asked, killed.

use std::{
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::participant::{ROLE, Sums};

/// The participants by name; a transaction has a branch with each.
pub const NAMES: [&str; 2] = ["stock", "money"];
/// How long a process may take to say that it listens; a coordinator opens its store first.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Below the ports that systems give to outgoing connections: while the coordinator is away, nobody may
/// take its port.
const PORTS: Range<u16> = 10_000..32_000;
/// Said by both when they listen.
const READY: &str = "listening on ";

/// A participant that runs. Ends with this program.
pub struct Participant {
    process: Process,
    /// Its URL, or that it opens sessions.
    pub place: String,
}

impl Participant {
    /// One that serves, or that connects to the coordinator at this URL.
    pub async fn start(name: &str, coordinator: Option<&str>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, name]).args(coordinator);
        command.stdin(Stdio::piped());
        let (process, place) = Process::start(name, command).await?;
        Ok(Self { process, place })
    }

    pub fn id(&self) -> u32 {
        self.process.id
    }

    /// Ends it, and says what it has counted.
    pub async fn end(mut self) -> anyhow::Result<Sums> {
        drop(self.process.child.stdin.take());
        let last = timeout(READY_TIMEOUT, self.process.output.next_line()).await;
        let last = last.context("a participant does not end")??;
        Sums::parse(&last.unwrap_or_default())
    }
}

/// The coordinator, as it is shipped, with everything by default.
pub struct Coordinator {
    process: Process,
    pub url: String,
    metrics: String,
}

impl Coordinator {
    /// Starts it at this address, on the store in this folder.
    pub async fn start(
        program: &Path,
        folder: &Path,
        address: &str,
        participants: &[Participant],
    ) -> anyhow::Result<Self> {
        let metrics = free_address()?;
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("TERCET_") || text == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.args(["serve", "--listen", address]);
        command.arg(format!("--metrics-listen={metrics}"));
        command.arg(format!("--store=sled:{}", folder.join("store").display()));
        for (name, participant) in NAMES.iter().zip(participants) {
            command.arg(format!("--participant={name}={}", participant.place));
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_in(folder))?;
        command.stdin(Stdio::null()).stderr(log);
        let (process, _) = Process::start("the coordinator", command).await?;
        let url = format!("http://{address}");
        Ok(Self {
            process,
            url,
            metrics,
        })
    }

    pub fn id(&self) -> u32 {
        self.process.id
    }

    /// As a power cut of its own would: no warning, no last words.
    pub async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.process.child.kill().await?)
    }

    /// Waits until every participant has opened a session.
    pub async fn connected(&self) -> anyhow::Result<()> {
        for name in NAMES {
            let sessions = format!("tercet_participant_sessions{{participant=\"{name}\"}}");
            self.metric(&sessions, |open| open > 0).await?;
        }
        Ok(())
    }

    /// One of its numbers, as its metrics tell it, once it is right: they begin with its first look.
    pub async fn metric(&self, name: &str, is_right: impl Fn(u64) -> bool) -> anyhow::Result<u64> {
        let metric = async {
            loop {
                let value = self.find_metric(name).await?;
                if let Some(value) = value.filter(|value| is_right(*value)) {
                    return Ok(value);
                }
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let metric = timeout(READY_TIMEOUT, metric).await;
        metric.with_context(|| format!("the coordinator's metrics never had {name}"))?
    }

    async fn find_metric(&self, name: &str) -> anyhow::Result<Option<u64>> {
        let mut connection = TcpStream::connect(&self.metrics).await?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            self.metrics
        );
        connection.write_all(request.as_bytes()).await?;
        let mut page = String::new();
        connection.read_to_string(&mut page).await?;
        let mut lines = page.lines().filter_map(|line| line.strip_prefix(name));
        Ok(lines.find_map(|rest| rest.trim().parse().ok()))
    }
}

/// An address that is free now, for a process to keep over its restarts.
pub fn free_address() -> anyhow::Result<String> {
    let addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", fastrand::u16(PORTS)));
    let mut free = addresses
        .take(PORTS.len())
        .filter(|address| TcpListener::bind(address).is_ok());
    free.next().context("no port is free")
}

/// The last lines that a coordinator wrote to its log.
pub fn last_words(folder: &Path) -> String {
    let log = fs::read_to_string(log_in(folder)).unwrap_or_default();
    let mut lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.reverse();
    lines.join("\n")
}

fn log_in(folder: &Path) -> PathBuf {
    folder.join("coordinator.log")
}

struct Process {
    child: Child,
    id: u32,
    /// Held open: a process whose output is closed can't write to it.
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it, and returns what it says behind [`READY`].
    async fn start(name: &str, mut command: Command) -> anyhow::Result<(Self, String)> {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let id = child.id().context("it runs")?;
        let output = child.stdout.take().context("it is piped")?;
        let mut output = BufReader::new(output).lines();
        let line = timeout(READY_TIMEOUT, output.next_line()).await;
        let line = line.with_context(|| format!("{name} does not listen"))??;
        let Some(ready) = line.as_deref().and_then(|line| line.strip_prefix(READY)) else {
            bail!("{name} ended before it listened: {}", child.wait().await?);
        };
        let ready = ready.to_owned();
        Ok((Self { child, id, output }, ready))
    }
}
