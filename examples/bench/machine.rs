//! The machine that figures come from.

use std::{fs, path::Path, process::Command};

use serde::{Deserialize, Serialize};

use crate::disk;

/// What was not to be found out is left out.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: Option<String>,
    pub cores: Option<usize>,
    pub kernel: Option<String>,
    /// How many threads wanted to run, over the last minute: a quiet machine's is below 1.
    pub load_average: Option<f64>,
    /// That the store is on.
    pub file_system: String,
    /// Before anything else was started.
    pub fdatasync_us: u64,
    pub revision: Option<String>,
    pub command: String,
}

impl Machine {
    pub async fn look(dir: &Path) -> anyhow::Result<Self> {
        Ok(Self {
            cpu: cpu(),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .ok()
                .map(|text| text.trim().to_owned()),
            load_average: load_average(),
            file_system: disk::file_system(dir)?,
            fdatasync_us: disk::fdatasync_us(dir).await?,
            revision: revision(),
            command: std::env::args().skip(1).collect::<Vec<_>>().join(" "),
        })
    }

    pub fn print(&self) {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "unknown".into());
        let cores = self.cores.map_or("?".into(), |cores| cores.to_string());
        println!("machine      {}, {cores} cores", text(&self.cpu));
        println!("kernel       {}", text(&self.kernel));
        let load = self
            .load_average
            .map_or("unknown".into(), |load| load.to_string());
        println!("load average {load}");
        println!("store        on {}", self.file_system);
        println!("fdatasync    {} us", self.fdatasync_us);
        println!("revision     {}", text(&self.revision));
        println!("command      bench {}", self.command);
    }
}

fn cpu() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn load_average() -> Option<f64> {
    let text = fs::read_to_string("/proc/loadavg").ok()?;
    text.split(' ').next()?.parse().ok()
}

fn revision() -> Option<String> {
    let mut git = Command::new("git");
    git.args(["describe", "--always", "--dirty", "--abbrev=12"]);
    let output = git.output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
