//! `tercet participant`: the contract, against any participant in any language.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use tercet_sdk::{
    client::Payload,
    testing::{CheckOptions, CheckReport, Finding, check_at},
};

use super::{
    Problem, block_on,
    output::{self, Format},
    tx::reach,
};

/// The request of each Try: one that can succeed some forty times.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(crate) struct Request {
    /// The request of each Try as JSON, for a participant that reads JSON. It must be one that can
    /// succeed some forty times.
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The request of each Try as the bytes of this file, for example an encoded protobuf message.
    #[arg(long, value_name = "FILE")]
    payload_file: Option<PathBuf>,
}

impl Request {
    fn read(self) -> Result<Payload, Problem> {
        if let Some(path) = self.payload_file {
            let bytes = std::fs::read(&path).map_err(|error| {
                let what = format!("{} can't be read: {error}", path.display());
                Problem::new(what, "name a file with --payload-file")
            })?;
            return Ok(Payload::raw("", bytes));
        }
        let json = self.payload.unwrap_or_default();
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&json) {
            let what = format!("--payload is no JSON: {error}");
            let help = r#"for example --payload '{"sku": "tea", "count": 1}'"#;
            return Err(Problem::new(what, help));
        }
        Ok(Payload::json(json))
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Participant {
    /// Call a participant as a coordinator on a bad day would, and print which rules hold.
    ///
    /// Reserves, and confirms some of it: use a participant whose data doesn't matter. Exit code 0:
    /// every rule holds.
    Check {
        /// Where it is, for example http://127.0.0.1:50051.
        #[arg(value_name = "ADDR")]
        address: String,
        /// Which of its resources.
        #[arg(long)]
        resource: String,
        #[command(flatten)]
        payload: Request,
        /// How long one call may take.
        #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = humantime::parse_duration)]
        call_timeout: Duration,
        /// How it is printed.
        #[arg(long, value_enum, default_value_t)]
        output: Format,
    },
}

impl Participant {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let Self::Check {
            address,
            resource,
            payload,
            call_timeout,
            output,
        } = self;
        let url = if address.contains("://") {
            address
        } else {
            format!("http://{address}")
        };
        let mut options = CheckOptions::new(resource, payload.read()?);
        options.call_timeout = call_timeout;
        let report = block_on(async {
            reach(&url, "start the participant, or check its address").await?;
            check_at(&url, options).await.map_err(|error| {
                let what = format!("{url} can't be checked: {error}");
                Problem::new(what, "check the address, written as http://HOST:PORT")
            })
        })?;
        print(&report, output)?;
        let code = if report.holds() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        };
        Ok(code)
    }
}

fn print(report: &CheckReport, format: Format) -> Result<(), Problem> {
    if format == Format::Table {
        return output::text(&report.to_string());
    }
    let checks = report.checks.iter().map(|check| match &check.finding {
        Finding::Holds => json!({"name": check.name, "finding": "holds"}),
        Finding::Broken { expected, seen } => {
            json!({"name": check.name, "finding": "broken", "expected": expected, "seen": seen})
        }
        Finding::Inconclusive { why } => {
            json!({"name": check.name, "finding": "inconclusive", "why": why})
        }
    });
    output::json(&json!({ "holds": report.holds(), "checks": checks.collect::<Vec<_>>() }))
}
