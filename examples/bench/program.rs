//! The `tercet` binary of the same build.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};

/// Has cargo bring the binary up to date, when cargo started this program, and says where it is: never an
/// old one is measured, nor one built with what only tests need.
pub fn tercet() -> anyhow::Result<PathBuf> {
    let this = std::env::current_exe()?;
    let build = this.parent().and_then(Path::parent);
    let build = build.context("this program is not where cargo puts examples")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        build_with(&cargo, build)?;
    }
    let program = build.join("tercet");
    if !program.is_file() {
        let program = program.display();
        bail!("{program} is missing; build it first: cargo build --release");
    }
    Ok(program)
}

fn build_with(cargo: &std::ffi::OsStr, build: &Path) -> anyhow::Result<()> {
    let profile = build.file_name().context("a build has a folder")?;
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--bin", "tercet", "--profile"]);
    let status = command.arg(profile).status()?;
    if !status.success() {
        bail!("the coordinator can't be built; see above");
    }
    Ok(())
}
