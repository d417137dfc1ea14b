//! Figures as files.

use std::{fs, path::Path};

use anyhow::Context as _;
use serde::Serialize;

/// Writes it so that people can read it too.
pub fn write(figures: &impl Serialize, file: &Path) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(figures)?;
    text.push('\n');
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
