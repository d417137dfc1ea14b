//! The flags that stand for settings of the coordinator.

use std::path::PathBuf;

use clap::Args;
use tercet::config::{Config, FlagValue, Sources};

use super::Problem;

/// Settings, stronger than the environment and the file.
#[derive(Debug, Args)]
#[command(next_help_heading = "Settings")]
pub(crate) struct Settings {
    /// A TOML file with settings; `tercet.toml` in the repository explains each.
    #[arg(long, value_name = "FILE", env = "TERCET_CONFIG")]
    config: Option<PathBuf>,
    /// Where clients come in [default: 127.0.0.1:7070].
    #[arg(long, value_name = "ADDR")]
    listen: Option<String>,
    /// Where transactions are kept: sled:DIRECTORY or memory [default: sled:./tercet-data].
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
    /// A participant and where it is, or `sessions` for one that connects by itself; once for each.
    #[arg(long = "participant", value_name = "NAME=URL[,URL]…|sessions")]
    participants: Vec<String>,
    /// Where metrics are served for Prometheus [default: off].
    #[arg(long, value_name = "ADDR")]
    metrics_listen: Option<String>,
    /// Which log lines are written, as RUST_LOG has it [default: info].
    #[arg(long, value_name = "FILTER")]
    log: Option<String>,
    /// How log lines look: auto, text or json [default: auto].
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
    /// Any other setting, for example limits.branches=16.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    others: Vec<String>,
}

impl Settings {
    /// Where the settings are looked for: these flags, this process's environment, the file.
    pub(crate) fn sources(&self) -> Result<Sources, Problem> {
        let mut flags = Vec::new();
        for text in &self.others {
            let (key, value) = text.split_once('=').ok_or_else(|| {
                let what = format!("--set {text:?} has no value");
                Problem::new(
                    what,
                    "write --set KEY=VALUE, for example --set limits.branches=16",
                )
            })?;
            flags.push(FlagValue {
                key: key.into(),
                value: value.into(),
                flag: format!("--set {key}"),
            });
        }
        let participants = self
            .participants
            .iter()
            .map(|text| ("participant", "--participant", text));
        let named = [
            ("listen", "--listen", &self.listen),
            ("store", "--store", &self.store),
            ("metrics_listen", "--metrics-listen", &self.metrics_listen),
            ("log", "--log", &self.log),
            ("log_format", "--log-format", &self.log_format),
        ];
        let named = named
            .into_iter()
            .filter_map(|(key, flag, value)| Some((key, flag, value.as_ref()?)));
        flags.extend(
            named
                .chain(participants)
                .map(|(key, flag, value)| FlagValue {
                    key: key.into(),
                    value: value.clone(),
                    flag: flag.into(),
                }),
        );
        Ok(Sources {
            file: self.config.clone(),
            environment: environment(),
            flags,
        })
    }

    /// The settings, checked by every part that takes them.
    pub(crate) fn load(&self) -> Result<Config, Problem> {
        let config = self.sources()?.load()?;
        tercet::server::check(&config)?;
        Ok(config)
    }
}

/// Variables whose names or values are not Unicode are none of ours.
fn environment() -> Vec<(String, String)> {
    let variables = std::env::vars_os();
    variables
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}
