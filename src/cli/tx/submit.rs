//! `tercet tx submit`: a request read from a file.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use prost::Message as _;
use prost_reflect::{DeserializeOptions, DynamicMessage, Value};
use tercet_sdk::client::Submit;

use super::{Common, conclude};
use crate::cli::{Problem, output};

/// The request's name in the API.
const REQUEST: &str = "tercet.v1.SubmitTransactionRequest";

/// The file is a `tercet.v1.SubmitTransactionRequest` as protobuf JSON.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The request; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    file: PathBuf,
    /// The transaction's id, when the file has none. The same id again is the same transaction.
    #[arg(long, conflicts_with = "assign_id")]
    id: Option<String>,
    /// Makes up an id and prints it first. Who repeats this command starts another transaction.
    #[arg(long)]
    assign_id: bool,
    /// Only asks whether the coordinator would take it.
    #[arg(long)]
    validate_only: bool,
    #[command(flatten)]
    common: Common,
}

impl Args {
    pub(super) async fn run(self) -> Result<ExitCode, Problem> {
        let mut request = read(&self.file)?;
        self.name(&mut request)?;
        let validate_only = self.validate_only || flag(&request, "validate_only");
        let submit = Submit::decode(&request.encode_to_vec()).map_err(|error| {
            Problem::new(
                format!("the request can't be read: {error}"),
                "report this as a fault",
            )
        })?;
        let client = self.common.client().await?;
        if validate_only {
            client.validate(&submit).await?;
            eprintln!("the coordinator would take it");
            return Ok(ExitCode::SUCCESS);
        }
        conclude(client.submit(&submit).await?, self.common.output)
    }

    /// Sees to it that the request has an id, and only one.
    fn name(&self, request: &mut DynamicMessage) -> Result<(), Problem> {
        let in_file = text(request, "transaction_id");
        let id = match (&self.id, self.assign_id) {
            (Some(id), _) if in_file.is_empty() || in_file == *id => id.clone(),
            (Some(id), _) => {
                let what = format!("--id is {id:?}, but the file's transactionId is {in_file:?}");
                return Err(Problem::new(what, "leave one of them out"));
            }
            (None, true) if in_file.is_empty() => {
                let id = uuid::Uuid::now_v7().to_string();
                eprintln!("transaction id: {id}");
                id
            }
            (None, true) => {
                let what = format!("--assign-id, but the file's transactionId is {in_file:?}");
                return Err(Problem::new(what, "leave one of them out"));
            }
            (None, false) if in_file.is_empty() => {
                let help =
                    "give --id, so that a repeated command is the same transaction, or --assign-id";
                return Err(Problem::new("the transaction has no id", help));
            }
            (None, false) => in_file,
        };
        request.set_field_by_name("transaction_id", Value::String(id));
        Ok(())
    }
}

fn read(file: &Path) -> Result<DynamicMessage, Problem> {
    let name = if file == Path::new("-") {
        "standard input".into()
    } else {
        file.display().to_string()
    };
    let read = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let json = read.map_err(|error| {
        Problem::new(
            format!("{name} can't be read: {error}"),
            "give a file with --file, or - for standard input",
        )
    })?;
    parse(&json).map_err(|error| {
        let help = format!(
            "it must be a {REQUEST} as protobuf JSON; see proto/tercet/v1/coordinator.proto"
        );
        Problem::new(format!("{name}: {error}"), help)
    })
}

fn parse(json: &str) -> Result<DynamicMessage, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_str(json);
    let options = DeserializeOptions::new().deny_unknown_fields(true);
    let request =
        DynamicMessage::deserialize_with_options(output::descriptor(REQUEST), &mut json, &options)?;
    json.end()?;
    Ok(request)
}

fn text(request: &DynamicMessage, field: &str) -> String {
    let value = request.get_field_by_name(field);
    value
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}

fn flag(request: &DynamicMessage, field: &str) -> bool {
    let value = request.get_field_by_name(field);
    value.and_then(|value| value.as_bool()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read_in_both_spellings_of_its_fields() {
        for json in [
            r#"{"transactionId": "order-7", "waitTimeout": "5s"}"#,
            r#"{"transaction_id": "order-7", "wait_timeout": "5s"}"#,
        ] {
            let request = parse(json).expect("it is valid");
            let submit = Submit::decode(&request.encode_to_vec()).expect("it is valid");
            assert_eq!(submit.id(), "order-7");
        }
    }

    #[test]
    fn a_field_nobody_knows_is_an_error_with_its_place() {
        let error = parse("{\"transactionId\": \"order-7\",\n \"brnches\": []}")
            .expect_err("it is refused");
        assert!(error.to_string().contains("brnches"), "{error}");
        assert_eq!(error.line(), 2);
    }

    #[test]
    fn something_behind_the_request_is_an_error() {
        parse("{} {}").expect_err("it is refused");
    }
}
