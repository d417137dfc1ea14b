//! The participants and the coordinator: started, asked, killed.

use std::{
    ffi::OsString,
    fs::{self, File},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use crate::participant::{ROLE, SILENT, Sums};

/// The participants by name; a transaction has a branch with each.
pub const NAMES: [&str; 2] = ["stock", "money"];
/// How long a process may take to say that it listens.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a coordinator may take to end in good order.
const END_TIMEOUT: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Below the ports that systems give to outgoing connections: while the coordinator is away, nobody may
/// take its port.
const PORTS: Range<u16> = 10_000..32_000;
/// Said by both when they listen.
const READY: &str = "listening on ";

/// A participant that runs. Ends with this program.
pub struct Participant {
    name: String,
    process: Process,
    /// Its URL, or that it opens sessions.
    pub place: String,
}

impl Participant {
    /// One that serves, or that connects to the coordinator at this URL.
    pub async fn start(name: &str, coordinator: Option<&str>) -> anyhow::Result<Self> {
        Self::start_with(name, coordinator).await
    }

    /// One that answers nothing.
    pub async fn start_silent(name: &str) -> anyhow::Result<Self> {
        Self::start_with(name, Some(SILENT)).await
    }

    async fn start_with(name: &str, argument: Option<&str>) -> anyhow::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args([ROLE, name]).args(argument);
        command.stdin(Stdio::piped());
        let (process, place) = Process::start(name, command, READY_TIMEOUT).await?;
        let name = name.to_owned();
        Ok(Self {
            name,
            process,
            place,
        })
    }

    pub fn id(&self) -> u32 {
        self.process.id
    }

    /// From now on it answers nothing; what is sent to it waits.
    pub fn stop(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::STOP)
    }

    /// It goes on where it was stopped.
    pub fn go_on(&self) -> anyhow::Result<()> {
        self.process.signal(Signal::CONT)
    }

    /// Ends it, and says what it has counted.
    pub async fn end(mut self) -> anyhow::Result<Sums> {
        drop(self.process.child.stdin.take());
        let last = timeout(READY_TIMEOUT, self.process.output.next_line()).await;
        let last = last.context("a participant does not end")??;
        Sums::parse(&last.unwrap_or_default())
    }
}

/// How the coordinator is started: as it is shipped, with everything by default, but for what is said here.
#[derive(Clone)]
pub struct Launch {
    pub program: PathBuf,
    /// A program that runs it, with that one's arguments.
    pub under: Vec<OsString>,
    pub variables: Vec<(&'static str, &'static str)>,
    /// Each `KEY=VALUE`.
    pub settings: Vec<String>,
    /// It opens its store first.
    pub ready_timeout: Duration,
}

impl Launch {
    pub fn of(program: &Path) -> Self {
        Self {
            program: program.to_owned(),
            under: Vec::new(),
            variables: Vec::new(),
            settings: Vec::new(),
            ready_timeout: READY_TIMEOUT,
        }
    }

    fn command(&self) -> Command {
        let mut words = self
            .under
            .iter()
            .cloned()
            .chain([self.program.clone().into()]);
        let mut command = Command::new(words.next().unwrap_or_default());
        command.args(words);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("TERCET_") || text == "RUST_LOG" {
                command.env_remove(name);
            }
        }
        command.envs(self.variables.iter().copied());
        command.arg("serve");
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }
}

/// The coordinator.
pub struct Coordinator {
    process: Process,
    pub url: String,
    metrics: String,
}

impl Coordinator {
    /// Starts it at this address, on the store in this folder.
    pub async fn start(
        launch: &Launch,
        folder: &Path,
        address: &str,
        participants: &[Participant],
    ) -> anyhow::Result<Self> {
        let metrics = free_address()?;
        let mut command = launch.command();
        command.args(["--listen", address]);
        command.arg(format!("--metrics-listen={metrics}"));
        command.arg(format!("--store=sled:{}", store_in(folder).display()));
        for Participant { name, place, .. } in participants {
            command.arg(format!("--participant={name}={place}"));
        }
        let log = File::options()
            .create(true)
            .append(true)
            .open(log_in(folder))?;
        command.stdin(Stdio::null()).stderr(log);
        let started = Process::start("the coordinator", command, launch.ready_timeout);
        let (process, _) = started.await?;
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

    /// Tells it to end, and waits until it has.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::TERM)?;
        let ended = timeout(END_TIMEOUT, self.process.child.wait()).await;
        let status = ended.context("the coordinator does not end")??;
        if !status.success() {
            bail!("the coordinator ended with {status}");
        }
        Ok(())
    }

    /// Waits until each of these has opened a session.
    pub async fn connected(&self, participants: &[Participant]) -> anyhow::Result<()> {
        for Participant { name, .. } in participants {
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

/// Whether the coordinator that works in this folder has logged this.
pub fn logged(folder: &Path, text: &str) -> anyhow::Result<bool> {
    Ok(fs::read_to_string(log_in(folder))?.contains(text))
}

/// The last lines that a coordinator wrote to its log.
pub fn last_words(folder: &Path) -> String {
    let log = fs::read_to_string(log_in(folder)).unwrap_or_default();
    let mut lines: Vec<&str> = log.lines().rev().take(5).collect();
    lines.reverse();
    lines.join("\n")
}

/// Where the coordinator that works in this folder has its store.
pub fn store_in(folder: &Path) -> PathBuf {
    folder.join("store")
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
    async fn start(
        name: &str,
        mut command: Command,
        ready_timeout: Duration,
    ) -> anyhow::Result<(Self, String)> {
        let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let id = child.id().context("it runs")?;
        let output = child.stdout.take().context("it is piped")?;
        let mut output = BufReader::new(output).lines();
        let line = timeout(ready_timeout, output.next_line()).await;
        let line = line.with_context(|| format!("{name} does not listen"))??;
        let Some(ready) = line.as_deref().and_then(|line| line.strip_prefix(READY)) else {
            bail!("{name} ended before it listened: {}", child.wait().await?);
        };
        let ready = ready.to_owned();
        Ok((Self { child, id, output }, ready))
    }
    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let id = Pid::from_raw(i32::try_from(self.id)?).context("a process has an id")?;
        Ok(kill_process(id, signal)?)
    }
}
