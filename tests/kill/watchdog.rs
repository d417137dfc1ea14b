//! Ends what the test has started, when the test itself is killed.
//!
//! A process beside the test reads from a pipe who is running; however the test ends, the pipe does
//! so too, and then it kills whoever is left. One that hangs can't notice that by itself.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, Write as _},
    process::{Child, ChildStdin, Command},
};

use rustix::process::{Pid, Signal, kill_process};

/// Dropping it lets it end.
pub struct Watchdog {
    process: Child,
    /// None only while it is dropped.
    pipe: Option<ChildStdin>,
}

impl Watchdog {
    /// `command` starts a process whose input is piped, and which calls [`watch`].
    pub fn start(mut command: Command) -> Self {
        let mut process = command.spawn().unwrap();
        let pipe = process.stdin.take();
        Self { process, pipe }
    }

    /// This process is to be ended with the test.
    pub fn begun(&mut self, id: u32) {
        self.say(&format!("+ {id}"));
    }

    /// It has ended, and its id may soon be another's.
    pub fn ended(&mut self, id: u32) {
        self.say(&format!("- {id}"));
    }

    fn say(&mut self, line: &str) {
        let pipe = self.pipe.as_mut().expect("it is not dropped");
        writeln!(pipe, "{line}").unwrap();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.pipe = None;
        let _ = self.process.wait(); // it has nobody to tell
    }
}

/// Waits for the end of the test, and kills what still runs.
pub fn watch() {
    let mut running = BTreeSet::new();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.split_once(' ') {
            Some(("+", id)) => running.insert(id.to_owned()),
            Some(("-", id)) => running.remove(id),
            _ => panic!("{line:?} is neither a begin nor an end"),
        };
    }
    for id in running {
        let id = id.parse().ok().and_then(Pid::from_raw);
        let _ = kill_process(id.expect("the test wrote it"), Signal::KILL); // it may have ended
    }
}
