//! The coordinator and its participants as processes on one machine: started, killed, started again
//! where they were.

use std::{
    fs::OpenOptions,
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    time::timeout,
};

use super::{
    books::{self, Left},
    watchdog::Watchdog,
};

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

/// All of them. Whatever still runs is killed when this is dropped, or when the test is killed.
pub struct Processes {
    folder: PathBuf,
    addresses: [String; 3],
    running: [Option<Running>; 3],
    watchdog: Watchdog,
}

struct Running {
    child: Child,
    id: u32,
    /// Held open: a process whose output is closed can't write its last words.
    output: Lines<BufReader<ChildStdout>>,
}

impl Processes {
    pub async fn start(folder: &Path, rng: &mut Rng) -> Self {
        let mut watchdog = this_test_as("watchdog");
        watchdog.stdin(Stdio::piped()).stdout(Stdio::null());
        let mut processes = Self {
            folder: folder.into(),
            addresses: Role::ALL.map(|_| free_address(rng)),
            running: [None, None, None],
            watchdog: Watchdog::start(watchdog),
        };
        for role in Role::ALL {
            processes.start_again(role, rng).await;
        }
        processes
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.addresses[Role::Coordinator as usize])
    }

    /// Where all of their files are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    pub fn database(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}.db", role.name()))
    }

    pub fn log(&self, role: Role) -> PathBuf {
        self.folder.join(format!("{}.log", role.name()))
    }

    /// Starts what doesn't run, and says how long it took until it listened.
    pub async fn start_again(&mut self, role: Role, rng: &mut Rng) -> Duration {
        let begun = Instant::now();
        let command = self.command(role, rng);
        let mut running = self.spawn(role.name(), command);
        running.until_said("listening on").await;
        self.running[role as usize] = Some(running);
        begun.elapsed()
    }

    fn command(&self, role: Role, rng: &mut Rng) -> std::process::Command {
        let address = &self.addresses[role as usize];
        if role == Role::Coordinator {
            return self.coordinator(address);
        }
        let (name, database, seed) = (role.name(), self.database(role), rng.u64(..));
        let database = database.display();
        // Its calls come to its address, or over a session that it opens.
        let way = if rng.bool() { &self.url() } else { address };
        this_test_as(&format!("participant {name} {way} {database} {seed}"))
    }

    fn coordinator(&self, address: &str) -> std::process::Command {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tercet"));
        without_settings(&mut command);
        command.args(["serve", "--log=warn", "--set=drain=1s", "--listen", address]);
        command.arg(format!("--store=sled:{}", self.store().display()));
        for participant in Role::PARTICIPANTS {
            let (name, address) = (participant.name(), &self.addresses[participant as usize]);
            command.arg(format!("--participant={name}=sessions,http://{address}"));
        }
        command
    }

    fn spawn(&mut self, name: &str, command: std::process::Command) -> Running {
        let log = self.folder.join(format!("{name}.log"));
        let log = OpenOptions::new().create(true).append(true).open(log);
        let mut child = Command::from(command)
            .stdout(Stdio::piped())
            .stderr(log.unwrap())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let id = child.id().expect("it has not been waited for");
        self.watchdog.begun(id);
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Running { child, id, output }
    }

    /// Ends a process. Asked to end, it has to succeed.
    pub async fn end(&mut self, role: Role, manner: Manner, rng: &mut Rng) {
        let mut running = self.running[role as usize].take().expect("it runs");
        match manner {
            Manner::Kill => {}
            Manner::HangAndKill => {
                running.signal(Signal::STOP);
                tokio::time::sleep(Duration::from_millis(rng.u64(HANG_MS))).await;
            }
            Manner::Ask => {
                running.signal(Signal::TERM);
                let status = timeout(END_TIMEOUT, running.child.wait()).await;
                let status = status.unwrap_or_else(|_| panic!("{role:?} does not end"));
                assert!(status.unwrap().success(), "{role:?} ended badly");
            }
        }
        self.kill(running).await;
    }

    async fn kill(&mut self, mut running: Running) {
        running.child.kill().await.unwrap();
        self.watchdog.ended(running.id);
    }

    /// From now on it does nothing, and nobody is told.
    pub fn put_to_sleep(&self, role: Role) {
        self.signal(role, Signal::STOP);
    }

    /// It goes on as if nothing had been.
    pub fn wake(&self, role: Role) {
        self.signal(role, Signal::CONT);
    }

    fn signal(&self, role: Role, signal: Signal) {
        let running = self.running[role as usize].as_ref();
        running.expect("it runs").signal(signal);
    }

    /// While a coordinator lives, even one that sleeps, no other may have its store.
    pub async fn refuse_a_second(&self, rng: &mut Rng) {
        let second = self.coordinator(&free_address(rng));
        let second = Command::from(second).kill_on_drop(true).output();
        let refused = timeout(READY_TIMEOUT, second).await;
        let refused = refused.expect("S9: a second coordinator runs").unwrap();
        let said = String::from_utf8_lossy(&refused.stderr);
        let why = "another coordinator is using";
        assert!(!refused.status.success() && said.contains(why), "{said}");
    }

    /// What a start on a dead coordinator's store finds. The process that looks dies in its turn, so
    /// that the next one, too, starts after a crash.
    pub async fn find_left(&mut self) -> Left {
        let reader = this_test_as(&format!("reader {}", self.store().display()));
        let mut reader = self.spawn("reader", reader);
        let said = reader.until_said(books::LEFT).await;
        self.kill(reader).await;
        Left::parse(&said)
    }

    /// Ends them all in good order, and has the binary check its store.
    pub async fn close(&mut self, rng: &mut Rng) {
        for role in Role::ALL {
            self.end(role, Manner::Ask, rng).await;
        }
        let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_tercet"));
        without_settings(&mut verify);
        verify.args(["store", "verify"]);
        verify.arg(format!("--store=sled:{}", self.store().display()));
        let verified = Command::from(verify).output().await.unwrap();
        let said = String::from_utf8_lossy(&verified.stderr);
        assert!(verified.status.success(), "the store is not sound: {said}");
    }
}

impl Running {
    /// The line that it says once it is ready.
    async fn until_said(&mut self, what: &str) -> String {
        let said = async {
            while let Some(line) = self.output.next_line().await.unwrap() {
                if line.contains(what) {
                    return Some(line);
                }
            }
            None
        };
        match timeout(READY_TIMEOUT, said).await {
            Ok(Some(line)) => line,
            Ok(None) => panic!("{} did not start: {:?}", self.id, self.child.wait().await),
            Err(_) => panic!("{} never said {what:?} in {READY_TIMEOUT:?}", self.id),
        }
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(self.id.cast_signed()).expect("it has an id");
        kill_process(id, signal).unwrap();
    }
}

/// This test starts itself again, to be one of its processes.
pub fn this_test_as(role: &str) -> std::process::Command {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([PROCESS_TEST, "--exact", "--nocapture"]);
    command.env(ROLE, role);
    command
}

/// Set in the environment of such a process: what it is, and what it needs to know, parted by spaces.
pub const ROLE: &str = "KILL_ROLE";
const PROCESS_TEST: &str = "a_process_of_this_test_when_asked_to_be_one";

/// Without the settings of whoever runs the test.
fn without_settings(command: &mut std::process::Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("TERCET_") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
}

/// A port that is free now, for a process to keep over its restarts.
fn free_address(rng: &mut Rng) -> String {
    let addresses = std::iter::repeat_with(|| format!("127.0.0.1:{}", rng.u16(PORTS)));
    let mut free = addresses.filter(|address| TcpListener::bind(address).is_ok());
    free.next().expect("it goes on until one is free")
}
