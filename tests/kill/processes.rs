//! The coordinator and its participants as processes on one machine: started, killed, started again
//! where they were.

use std::{
    fmt,
    fs::OpenOptions,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::participant;

/// Only a test that fails waits as long.
const READY_TIMEOUT: Duration = Duration::from_secs(60);
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a process hangs before it is killed.
const HANG_MS: Range<u64> = 10..300;
/// Below the ports that systems give to outgoing connections: while a process is down, nobody may
/// take its port, least of all a client's attempt to reach it.
const PORTS: Range<u16> = 10_000..32_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Coordinator,
    Stock,
    Money,
}

impl Role {
    pub const ALL: [Role; 3] = [Role::Coordinator, Role::Stock, Role::Money];
    pub const PARTICIPANTS: [Role; 2] = [Role::Stock, Role::Money];

    pub fn name(self) -> &'static str {
        match self {
            Role::Coordinator => "coordinator",
            Role::Stock => "stock",
            Role::Money => "money",
        }
    }
}

/// How a process is made to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// From one moment to the next.
    Kill,
    /// It hangs for a while, connections open, and is then killed.
    HangAndKill,
    /// It is asked to end, and has to do so in good order.
    Ask,
}

impl fmt::Display for Manner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Manner::Kill => "kill -9",
            Manner::HangAndKill => "kill -STOP, kill -9",
            Manner::Ask => "kill -TERM",
        })
    }
}

/// All of them. Whatever still runs is killed when this is dropped.
pub struct Processes {
    folder: PathBuf,
    addresses: [String; 3],
    running: [Option<Running>; 3],
}

struct Running {
    child: Child,
    /// Held open: a process whose output is closed can't write its last words.
    _output: Lines<BufReader<ChildStdout>>,
}

impl Processes {
    pub async fn start(folder: &Path, rng: &mut Rng) -> Self {
        let mut processes = Self {
            folder: folder.into(),
            addresses: Role::ALL.map(|_| free_address(rng)),
            running: [None, None, None],
        };
        for role in Role::ALL {
            processes.start_again(role).await;
        }
        processes
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addresses[Role::Coordinator as usize])
    }

    pub fn database(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}.db", role.name()))
    }

    /// The coordinator's store.
    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    /// What the processes of this role have logged.
    pub fn log(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}.log", role.name()))
    }

    /// Returns when it listens.
    pub async fn start_again(&mut self, role: Role) {
        let mut log = OpenOptions::new();
        let log = log.create(true).append(true).open(self.log(role)).unwrap();
        let mut child = self
            .command(role)
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = async {
            while let Some(line) = output.next_line().await.unwrap() {
                if line.contains("listening on") {
                    return true;
                }
            }
            false
        };
        match timeout(READY_TIMEOUT, ready).await {
            Ok(true) => {}
            Ok(false) => panic!("{role:?} did not start: {:?}", child.wait().await),
            Err(_) => panic!("{role:?} does not listen after {READY_TIMEOUT:?}"),
        }
        let _output = output;
        self.running[role as usize] = Some(Running { child, _output });
    }

    fn command(&self, role: Role) -> Command {
        let address = &self.addresses[role as usize];
        if role == Role::Coordinator {
            let mut command = Command::new(env!("CARGO_BIN_EXE_tercet"));
            without_settings(&mut command);
            command.args(["serve", "--log=warn", "--set=drain=1s", "--listen", address]);
            command.arg(format!("--store=sled:{}", self.store().display()));
            for participant in Role::PARTICIPANTS {
                let address = &self.addresses[participant as usize];
                command.arg(format!(
                    "--participant={}=http://{address}",
                    participant.name()
                ));
            }
            return command;
        }
        // This test starts itself again; see `a_participant_when_asked_to_be_one`.
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "a_participant_when_asked_to_be_one",
            "--exact",
            "--nocapture",
        ]);
        let database = self.database(role);
        let role = format!("{} {address} {}", role.name(), database.display());
        command.env(participant::ROLE, role).stdin(Stdio::piped());
        command
    }

    /// Ends a process. Asked to end, it has to succeed.
    pub async fn end(&mut self, role: Role, manner: Manner, rng: &mut Rng) {
        let mut running = self.running[role as usize].take().expect("it runs");
        let child = &mut running.child;
        match manner {
            Manner::Kill => child.kill().await.unwrap(),
            Manner::HangAndKill => {
                signal(child, Signal::STOP);
                tokio::time::sleep(Duration::from_millis(rng.u64(HANG_MS))).await;
                child.kill().await.unwrap();
            }
            Manner::Ask => {
                signal(child, Signal::TERM);
                let status = timeout(END_TIMEOUT, child.wait()).await;
                let status = status.unwrap_or_else(|_| panic!("{role:?} does not end"));
                assert!(status.unwrap().success(), "{role:?} ended badly");
            }
        }
    }

    /// Ends them all in good order, and has the binary check its store.
    pub async fn close(&mut self, rng: &mut Rng) {
        for role in Role::ALL {
            self.end(role, Manner::Ask, rng).await;
        }
        let mut verify = Command::new(env!("CARGO_BIN_EXE_tercet"));
        without_settings(&mut verify);
        verify.args(["store", "verify"]);
        verify.arg(format!("--store=sled:{}", self.store().display()));
        let verified = verify.output().await.unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "the store is not sound: {said}");
    }
}

/// Without the settings of whoever runs the test.
fn without_settings(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("TERCET_") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let id = child.id().expect("it has not ended");
    let id = Pid::from_raw(id.cast_signed()).expect("it has an id");
    kill_process(id, signal).unwrap();
}

/// A port that is free now, for a process to keep over its restarts.
fn free_address(rng: &mut Rng) -> String {
    let addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", rng.u16(PORTS)));
    let mut free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    free.next().expect("it goes on until one is free")
}
