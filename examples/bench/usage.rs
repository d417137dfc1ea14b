//! What processes use, as Linux counts it.

use std::fs;

use anyhow::Context as _;

/// How much processor time a process has used so far, in seconds, its threads together.
pub fn cpu_s(process: u32) -> anyhow::Result<f64> {
    /// Behind the name, which may have anything in it but is the only part in parentheses.
    const USER: usize = 11;
    const SYSTEM: usize = 12;
    let stat = read(process, "stat")?;
    let (_, fields) = stat.rsplit_once(") ").context("a name in parentheses")?;
    let fields: Vec<&str> = fields.split(' ').collect();
    let mut ticks = 0;
    for field in [USER, SYSTEM] {
        let text = fields.get(field).context("/proc/PID/stat is too short")?;
        ticks += text.parse::<u64>()?;
    }
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// How many bytes a process has sent on their way to a disk.
pub fn written_bytes(process: u32) -> anyhow::Result<u64> {
    number(process, "io", "write_bytes:")
}

/// How much memory a process occupies now, in KiB.
pub fn resident_kib(process: u32) -> anyhow::Result<u64> {
    number(process, "status", "VmRSS:")
}

/// How much it has at most occupied, in KiB.
pub fn resident_peak_kib(process: u32) -> anyhow::Result<u64> {
    number(process, "status", "VmHWM:")
}

fn number(process: u32, file: &str, name: &str) -> anyhow::Result<u64> {
    let text = read(process, file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|rest| rest.split_whitespace().next());
    let number = number.with_context(|| format!("/proc/{process}/{file} has no {name}"))?;
    Ok(number.parse()?)
}

fn read(process: u32, file: &str) -> anyhow::Result<String> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}
