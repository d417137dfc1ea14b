//! A participant's report of how an operation ended.

use tercet_core::{
    ids::{BranchId, TransactionId},
    operation::Operation,
    request::Report,
};

use super::{
    super::{faults::Faults, limits::Limits},
    field, within_request_limit,
};
use crate::{
    participants::report_token,
    proto::tercet::{participant::v1 as participant, v1 as pb},
};

/// A ReportBranchRequest.
#[derive(Debug)]
pub(in super::super) struct BranchReport {
    pub(in super::super) id: TransactionId,
    pub(in super::super) branch: BranchId,
    pub(in super::super) operation: Operation,
    pub(in super::super) report: Report,
    pub(in super::super) token: u128,
}

pub(in super::super) fn report(
    request: pb::ReportBranchRequest,
    limits: &Limits,
) -> Result<BranchReport, Faults> {
    within_request_limit(&request, limits)?;
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let branch = field::branch_id(&mut faults, "branch_id", &request.branch_id);
    let operation = operation(&mut faults, request.operation);
    let token = token(&mut faults, &request.report_token);
    let result = request.result;
    let result = result.map(|given| field::payload(&mut faults, "result", given, limits));
    let failure = request.failure.unwrap_or_default();
    let report = match participant::Outcome::try_from(request.outcome) {
        Ok(participant::Outcome::Success) => Some(Report::Success(result.flatten())),
        Ok(participant::Outcome::Failed) => {
            field::failure(&mut faults, failure, limits).map(Report::Failed)
        }
        _ => {
            let why = "report SUCCESS or FAILED, once the operation has ended";
            faults.invalid("outcome", why);
            None
        }
    };
    let names = id.zip(branch).zip(operation);
    let parsed = names.zip(report).zip(token);
    let parsed = parsed.map(
        |((((id, branch), operation), report), token)| BranchReport {
            id,
            branch,
            operation,
            report,
            token,
        },
    );
    faults.finish(parsed)
}

fn operation(faults: &mut Faults, given: i32) -> Option<Operation> {
    match participant::Operation::try_from(given) {
        Ok(participant::Operation::Try) => Some(Operation::Try),
        Ok(participant::Operation::Confirm) => Some(Operation::Confirm),
        Ok(participant::Operation::Cancel) => Some(Operation::Cancel),
        Ok(participant::Operation::Unspecified | participant::Operation::Query) | Err(_) => {
            faults.invalid("operation", "report TRY, CONFIRM or CANCEL");
            None
        }
    }
}

/// The token is a secret, so it is not repeated in the answer.
fn token(faults: &mut Faults, text: &str) -> Option<u128> {
    let token = report_token::parse(text);
    if token.is_none() {
        let why = "it is not the 32 hexadecimal digits that came as BranchContext.report_token";
        faults.invalid("report_token", why);
    }
    token
}
