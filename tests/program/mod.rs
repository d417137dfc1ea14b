//! The real binary as a child process, and participants in this one to work with.

use std::{
    future::pending,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::Receiver,
    time::Duration,
};

use tercet_sdk::participant::{
    Branch, Later, MemoryFence, Participant, Resource, TryError, refuse,
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// Only a test that fails waits as long.
const LINE_TIMEOUT: Duration = Duration::from_secs(60);

/// The binary under test, without the settings of whoever runs the test.
pub fn tercet() -> Command {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("tercet"));
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("TERCET_") || name == "RUST_LOG" {
            command.env_remove(&*name);
        }
    }
    command
}

/// What a command that ended by itself has said.
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub fn run(arguments: &[&str]) -> Said {
    let output = tercet()
        .args(arguments)
        .output()
        .expect("the binary starts");
    Said {
        code: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("text"),
        err: String::from_utf8(output.stderr).expect("text"),
    }
}

/// A coordinator that is listening. Killed when dropped.
pub struct Coordinator {
    child: Child,
    log: Receiver<String>,
    pub url: String,
}

impl Coordinator {
    /// Returns when it listens.
    pub fn start(store: &str, arguments: &[&str]) -> Self {
        let mut child = tercet()
            .args(["serve", "--listen", "127.0.0.1:0", "--store", store])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = lines_of(child.stderr.take().expect("it is piped"));
        let mut ready = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        out.read_line(&mut ready).expect("a line");
        let address = ready
            .strip_prefix("listening on ")
            .and_then(|it| it.split(',').next());
        let url = format!("http://{}", address.expect("the line names the address"));
        Self { child, log, url }
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        let status = Command::new("kill")
            .args([name, &pid])
            .status()
            .expect("kill is there");
        assert!(status.success());
    }

    /// Waits for a line of the log that has this in it.
    pub fn log_line_with(&self, text: &str) -> String {
        let line = std::iter::from_fn(|| self.log.recv_timeout(LINE_TIMEOUT).ok());
        let mut found = line.skip_while(|line| !line.contains(text));
        found
            .next()
            .unwrap_or_else(|| panic!("no line of the log has {text:?} in it"))
    }

    /// Returns when it has ended by itself.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("it ends")
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Read as they come, so that the writer never waits.
fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (lines, received) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    received
}

/// A participant with the resources `reserve`, which always succeeds, and `refuse`, which never
/// does. Returns where it is.
pub async fn participant(name: &str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound");
    let participant = Participant::new(name, MemoryFence::new(()))
        .resource(Reserve)
        .resource(Refuse);
    tokio::spawn(participant.serve_with_incoming(TcpIncoming::from(listener), pending()));
    format!("http://{address}")
}

struct Reserve;

impl Resource<()> for Reserve {
    const NAME: &'static str = "reserve";
    type Request = ();
    type Held = ();
    async fn on_try(&self, _: &mut (), _: &Branch, (): ()) -> Result<(), TryError> {
        Ok(())
    }
    async fn on_confirm(&self, _: &mut (), _: &Branch, (): ()) -> Result<(), Later> {
        Ok(())
    }
    async fn on_cancel(&self, _: &mut (), _: &Branch, (): ()) -> Result<(), Later> {
        Ok(())
    }
}

struct Refuse;

impl Resource<()> for Refuse {
    const NAME: &'static str = "refuse";
    type Request = ();
    type Held = ();
    async fn on_try(&self, _: &mut (), _: &Branch, (): ()) -> Result<(), TryError> {
        Err(refuse("OUT_OF_STOCK"))
    }
    async fn on_confirm(&self, _: &mut (), _: &Branch, (): ()) -> Result<(), Later> {
        Ok(())
    }
    async fn on_cancel(&self, _: &mut (), _: &Branch, (): ()) -> Result<(), Later> {
        Ok(())
    }
}

/// A request for one branch of each of these resources of a participant, in a file.
pub fn order(directory: &Path, id: &str, participant: &str, resource: &str) -> String {
    let path = directory.join(format!("{id}.json"));
    let json = format!(
        r#"{{"transactionId": "{id}", "waitTimeout": "5s", "options": {{"transactionType": "place-order"}},
            "branches": [{{"contract": {{"participant": "{participant}", "resource": "{resource}"}}}}]}}"#
    );
    std::fs::write(&path, json).expect("it is written");
    path.to_str().expect("the path is text").to_owned()
}
