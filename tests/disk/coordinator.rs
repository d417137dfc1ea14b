//! The shipped binary as a process, with or without the preloaded library.

use std::{
    path::Path,
    process::Stdio,
    time::{Duration, SystemTime},
};

use rustix::process::{Pid, Signal, kill_process};
use tercet_sdk::client::Client;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
    task::JoinHandle,
    time::timeout,
};

use super::{program::tercet, shim::Shim};

/// Only a test that fails waits as long.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that listens. Killed when dropped.
pub struct Coordinator {
    pub client: Client,
    child: Child,
    said: JoinHandle<String>,
    /// Held open: a process whose output is closed can't write its last words.
    _output: Lines<BufReader<ChildStdout>>,
}

/// One that has ended by itself.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
    /// When it was asked to, if it was.
    pub asked: Option<SystemTime>,
}

impl Coordinator {
    /// Returns when it listens, or has ended.
    ///
    /// # Errors
    /// When it ended.
    pub async fn start(
        store: &Path,
        participants: &[String],
        shim: Option<&Shim>,
    ) -> Result<Self, Ended> {
        let mut command = tercet();
        command.args([
            "serve",
            "--log=warn",
            "--set=drain=1s",
            "--listen=127.0.0.1:0",
        ]);
        command.arg(format!("--store=sled:{}", store.display()));
        command.args(participants.iter().map(|it| format!("--participant={it}")));
        if let Some(shim) = shim {
            shim.preload(&mut command);
        }
        let mut child = Command::from(command)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = tokio::spawn(async move {
            let mut said = String::new();
            stderr.read_to_string(&mut said).await.unwrap();
            said
        });
        let mut output = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = timeout(PATIENCE, output.next_line()).await;
        let line = line.expect("it starts or ends, and never hangs").unwrap();
        let Some(line) = line else {
            return Err(ended(child, said).await);
        };
        let address = line
            .strip_prefix("listening on ")
            .and_then(|it| it.split(',').next());
        let address = address.unwrap_or_else(|| panic!("{line:?} names no address"));
        let client = Client::new(format!("http://{address}")).unwrap();
        Ok(Self {
            client,
            child,
            said,
            _output: output,
        })
    }

    /// Returns when it has ended by itself.
    pub async fn until_ended(&mut self) {
        self.child.wait().await.unwrap();
    }

    /// Asks it to end, if it hasn't, and returns when it has.
    pub async fn end(mut self) -> Ended {
        let mut asked = None;
        if self.child.try_wait().unwrap().is_none() {
            asked = Some(SystemTime::now());
            let id = self.child.id().expect("it has not ended").cast_signed();
            kill_process(Pid::from_raw(id).unwrap(), Signal::TERM).unwrap();
        }
        Ended {
            asked,
            ..ended(self.child, self.said).await
        }
    }

    /// Asks it to end, and sees that it does so in good order.
    pub async fn stop(self) {
        let ended = self.end().await;
        assert_eq!(ended.code, Some(0), "{}", ended.said);
    }
}

async fn ended(mut child: Child, said: JoinHandle<String>) -> Ended {
    let status = timeout(PATIENCE, child.wait()).await;
    let status = status.expect("it ends, and never hangs").unwrap();
    let said = said.await.unwrap();
    Ended {
        code: status.code(),
        said,
        asked: None,
    }
}

/// Has the binary look at a store that nobody uses.
pub async fn verify(store: &Path) -> Ended {
    let mut command = tercet();
    command.args(["store", "verify"]);
    command.arg(format!("--store=sled:{}", store.display()));
    let mut command = Command::from(command);
    let output = timeout(PATIENCE, command.kill_on_drop(true).output()).await;
    let output = output.expect("it ends, and never hangs").unwrap();
    let said = [output.stdout, output.stderr].concat();
    Ended {
        code: output.status.code(),
        said: String::from_utf8_lossy(&said).into(),
        asked: None,
    }
}
