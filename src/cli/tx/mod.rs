//! `tercet tx`: transactions, as a client sees them.

mod show;
mod submit;

use std::{process::ExitCode, time::Duration};

use clap::{Args, Subcommand};
use serde_json::json;
use tercet_sdk::client::{Change, Client, Error, Outcome, Transaction, TransactionState};
use tokio::net::TcpStream;
use tonic::transport::Uri;

use super::{
    Problem, block_on,
    output::{self, Format},
};

/// How long a connection to the coordinator may take before the command gives up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const FAILED: u8 = 2;
const PROCESSING: u8 = 3;

/// Exit codes: SUCCESS 0, FAILED 2, PROCESSING 3, any error 1.
#[derive(Debug, Subcommand)]
pub(crate) enum Tx {
    /// Submit a transaction and wait for its outcome.
    Submit(submit::Args),
    /// Print a transaction as it is.
    Get {
        /// Its id.
        id: String,
        /// With its branches' payloads (as JSON).
        #[arg(long)]
        full: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Print transactions, newest first.
    List {
        /// `field (=|!=|<|>) value`, joined by AND; for example "state=TRYING AND type=place-order".
        #[arg(long, default_value = "")]
        filter: String,
        /// How many, at most 500.
        #[arg(long, default_value_t = 50)]
        page_size: u16,
        /// Goes on where the page before ended.
        #[arg(long)]
        page_token: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Count transactions.
    Count {
        /// As for `list`.
        #[arg(long, default_value = "")]
        filter: String,
        #[command(flatten)]
        common: Common,
    },
    /// Follow a transaction to its end.
    Watch {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Wait for a transaction's outcome.
    Wait {
        /// Its id.
        id: String,
        /// How long at most.
        #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = humantime::parse_duration)]
        timeout: Duration,
        #[command(flatten)]
        common: Common,
    },
    /// Print what happened to a transaction, in order.
    Events {
        /// Its id.
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

/// What every one of these commands takes.
#[derive(Debug, Args)]
pub(crate) struct Common {
    /// Where the coordinator is.
    #[arg(
        long,
        value_name = "URL",
        env = "TERCET_SERVER",
        default_value = "http://127.0.0.1:7070"
    )]
    server: String,
    /// How data is printed.
    #[arg(long, value_enum, default_value_t)]
    output: Format,
}

impl Common {
    /// A client of a coordinator that is known to be there.
    async fn client(&self) -> Result<Client, Problem> {
        let client = Client::new(&self.server)?;
        let help = "start one with `tercet serve`, or name another with --server or TERCET_SERVER";
        reach(&self.server, help).await?;
        Ok(client)
    }
}

impl Tx {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        block_on(self.perform())
    }

    async fn perform(self) -> Result<ExitCode, Problem> {
        match self {
            Self::Submit(args) => args.run().await,
            Self::Get { id, full, common } => {
                let client = common.client().await?;
                let transaction = if full {
                    client.get_full(&id).await?
                } else {
                    client.get(&id).await?
                };
                show::transaction(&transaction, common.output)?;
                Ok(code_of(&transaction))
            }
            Self::List {
                filter,
                page_size,
                page_token,
                common,
            } => {
                let client = common.client().await?;
                let page = client
                    .list(&filter, page_size, page_token.as_deref())
                    .await?;
                show::page(&page, common.output)?;
                Ok(ExitCode::SUCCESS)
            }
            Self::Count { filter, common } => {
                let count = common.client().await?.count(&filter).await?;
                match common.output {
                    Format::Json => output::json(
                        &json!({"count": count.count.to_string(), "exact": count.is_exact}),
                    )?,
                    Format::Table if count.is_exact => output::text(&format!("{}\n", count.count))?,
                    Format::Table => output::text(&format!("{} or more\n", count.count))?,
                }
                Ok(ExitCode::SUCCESS)
            }
            Self::Watch { id, common } => watch(&common.client().await?, &id, common.output).await,
            Self::Wait {
                id,
                timeout,
                common,
            } => {
                let outcome = common.client().await?.wait(&id, timeout).await?;
                conclude(outcome, common.output)
            }
            Self::Events { id, common } => {
                let events = common.client().await?.events(&id).await?;
                show::events(&events, common.output)?;
                Ok(ExitCode::SUCCESS)
            }
        }
    }
}

/// Makes sure that somebody listens there. Nothing has been sent when nobody does, so this, unlike
/// most of what can go wrong with a call, is certain.
pub(super) async fn reach(url: &str, help: &str) -> Result<(), Problem> {
    let unreachable = |why: String| Problem::new(format!("nobody answers at {url}: {why}"), help);
    let uri: Uri = url
        .parse()
        .map_err(|error| unreachable(format!("{error}")))?;
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let address = (host, uri.port_u16().unwrap_or(80));
    match tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(unreachable(error.to_string())),
        Err(_) => Err(unreachable(format!(
            "no connection within {CONNECT_TIMEOUT:?}"
        ))),
    }
}

/// Prints what a transaction came to; its exit code.
fn conclude(outcome: Outcome, format: Format) -> Result<ExitCode, Problem> {
    let transaction = match outcome {
        Outcome::Success(transaction) => transaction,
        Outcome::Failed(failed) => failed.transaction,
        Outcome::Processing(processing) => {
            let id = processing.transaction_id();
            eprintln!("not finished yet; `tercet tx wait {id}` waits on");
            match (processing.transaction(), processing.cause()) {
                (Some(transaction), _) => transaction.clone(),
                (None, cause) => return unknown(id, cause, format),
            }
        }
    };
    show::transaction(&transaction, format)?;
    Ok(code_of(&transaction))
}

/// The coordinator's answer is missing, so only the id can be told.
fn unknown(id: &str, cause: Option<&Error>, format: Format) -> Result<ExitCode, Problem> {
    if let Some(cause) = cause {
        eprintln!("{cause}");
    }
    match format {
        Format::Json => {
            output::json(&json!({"transactionId": id, "outcome": "OUTCOME_PROCESSING"}))?
        }
        Format::Table => output::text(&format!("{id}  PROCESSING\n"))?,
    }
    Ok(ExitCode::from(PROCESSING))
}

fn code_of(transaction: &Transaction) -> ExitCode {
    match show::outcome(transaction) {
        "SUCCESS" => ExitCode::SUCCESS,
        "FAILED" => ExitCode::from(FAILED),
        _ => ExitCode::from(PROCESSING),
    }
}

/// Prints every change as it comes, until the end.
async fn watch(client: &Client, id: &str, format: Format) -> Result<ExitCode, Problem> {
    let mut changes = client.watch(id);
    while let Some(change) = changes.next().await {
        match change? {
            Change::Snapshot(transaction) => show::snapshot(&transaction, format)?,
            Change::Event(event) => show::event(&event, format)?,
        }
    }
    let transaction = client.get(id).await?;
    if format == Format::Table && transaction.state() != TransactionState::Unspecified {
        eprintln!("{id}: {}", show::outcome(&transaction));
    }
    Ok(code_of(&transaction))
}
