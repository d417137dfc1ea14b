//! `tercet config`: what the coordinator would be told, and by whom.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use super::{
    Problem,
    output::{self, Format, Table},
    settings::Settings,
};

/// Takes the same flags as `serve`.
#[derive(Debug, Subcommand)]
pub(crate) enum Config {
    /// Say whether `serve` would take these settings, and what is wrong with them.
    Check {
        #[command(flatten)]
        settings: Box<Settings>,
    },
    /// Print every setting with where it comes from.
    Show {
        #[command(flatten)]
        settings: Box<Settings>,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
}

impl Config {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        match self {
            Self::Check { settings } => {
                settings.load()?;
                eprintln!("the settings are valid");
            }
            Self::Show { settings, output } => show(&settings.load()?, output)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn show(config: &tercet::config::Config, format: Format) -> Result<(), Problem> {
    if format == Format::Json {
        let settings = config
            .shown()
            .iter()
            .map(|it| json!({"key": it.key, "value": it.value, "origin": it.origin.to_string()}));
        return output::json(&json!({ "settings": settings.collect::<Vec<_>>() }));
    }
    let mut table = Table::new(&["KEY", "VALUE", "ORIGIN"]);
    for it in config.shown() {
        table.row([it.key.clone(), it.value.clone(), it.origin.to_string()]);
    }
    output::text(&table.to_string())
}
