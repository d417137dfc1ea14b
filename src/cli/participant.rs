//! `tercet participant`: the contract, against any participant in any language.

use std::{process::ExitCode, time::Duration};

use clap::Subcommand;
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
        /// The request of each Try, one that can succeed some forty times.
        #[arg(long, value_name = "JSON")]
        payload: String,
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
        if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(&payload) {
            let what = format!("--payload is no JSON: {error}");
            return Err(Problem::new(
                what,
                r#"for example --payload '{"sku": "tea", "count": 1}'"#,
            ));
        }
        let url = if address.contains("://") {
            address
        } else {
            format!("http://{address}")
        };
        let mut options = CheckOptions::new(resource, Payload::json(payload));
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
