//! Requests into the domain. What comes out is within every limit; what is wrong is said all at once.
//!
//! 1. Nothing here knows which transactions exist: that is the engine's to say.
//! 2. A fault never ends the parsing; every field is looked at.

mod branch;
mod field;
mod options;
mod read;
mod words;

use std::{collections::BTreeMap, collections::BTreeSet, sync::Arc, time::Duration};

use prost::Message;
use tercet_core::{
    ids::{BranchId, TransactionId},
    operation::Operation,
    payload::Failure,
    request::Report,
    transaction::BranchSpec,
};

use self::options::Options;
pub(super) use self::{
    branch::BranchDraft,
    field::is_label_key_char,
    read::{get, list, list_events, transaction_id, wait},
};
use super::{arrival::Arrival, digest, faults::Faults, limits::Limits};
use crate::{
    engine::NewTransaction,
    proto::tercet::{
        participant::v1 as participant,
        v1::{self as pb, ErrorReason},
    },
    store::{Record, UnixMs},
};

/// A SubmitTransactionRequest.
#[derive(Debug)]
pub(super) struct Submit {
    pub(super) new: NewTransaction,
    pub(super) wait: Option<Duration>,
    pub(super) validate_only: bool,
}

/// A TryBranchRequest.
#[derive(Debug)]
pub(super) struct TryBranch {
    pub(super) id: TransactionId,
    pub(super) branch_id: BranchId,
    pub(super) draft: BranchDraft,
    pub(super) wait: Option<Duration>,
}

/// A CommitTransactionRequest.
#[derive(Debug)]
pub(super) struct Commit {
    pub(super) id: TransactionId,
    pub(super) branches: Vec<BranchId>,
    pub(super) wait: Option<Duration>,
}

/// A RollbackTransactionRequest.
#[derive(Debug)]
pub(super) struct Rollback {
    pub(super) id: TransactionId,
    pub(super) cause: Failure,
    pub(super) wait: Option<Duration>,
}

/// A ReportBranchRequest.
#[derive(Debug)]
pub(super) struct BranchReport {
    pub(super) id: TransactionId,
    pub(super) branch: BranchId,
    pub(super) operation: Operation,
    pub(super) report: Report,
    pub(super) token: u128,
}

/// Why rolled back, when its client gives no reason or its own words.
const ROLLED_BACK: &str = "ROLLED_BACK_BY_CLIENT";

pub(super) fn submit(
    request: pb::SubmitTransactionRequest,
    arrival: &Arrival,
    limits: &Limits,
) -> Result<Submit, Faults> {
    within_request_limit(&request, limits)?;
    let digest = digest::submit(&request);
    let mut faults = Faults::default();
    let head = Head {
        id: &request.transaction_id,
        options: request.options.unwrap_or_default(),
        submit_expire_time: request.submit_expire_time,
        digest,
    };
    let new = head.parse(&mut faults, arrival, limits);
    let timeout_ms = new.as_ref().map(|it| it.timeout_ms);
    let drafts = drafts(&mut faults, request.branches, timeout_ms, limits);
    let specs = drafts.and_then(|drafts| name_branches(&mut faults, drafts));
    let wait = field::wait(&mut faults, "wait_timeout", request.wait_timeout.as_ref());
    let parsed = new.zip(specs).zip(wait).map(|((mut new, named), wait)| {
        let spec = |(id, draft): (_, BranchDraft)| draft.into_spec(id, new.try_timeout_ms);
        new.branches = named.into_iter().map(spec).collect();
        Submit {
            new,
            wait,
            validate_only: request.validate_only,
        }
    });
    if let Some(parsed) = &parsed {
        let found = words::of_new(&parsed.new);
        within_words_limit(&mut faults, "branches", found, limits);
    }
    faults.finish(parsed)
}

pub(super) fn begin(
    request: pb::BeginTransactionRequest,
    arrival: &Arrival,
    limits: &Limits,
) -> Result<NewTransaction, Faults> {
    within_request_limit(&request, limits)?;
    let digest = digest::begin(&request);
    let mut faults = Faults::default();
    let head = Head {
        id: &request.transaction_id,
        options: request.options.unwrap_or_default(),
        submit_expire_time: request.submit_expire_time,
        digest,
    };
    let new = head.parse(&mut faults, arrival, limits);
    if let Some(new) = &new {
        within_words_limit(&mut faults, "options", words::of_new(new), limits);
    }
    faults.finish(new)
}

pub(super) fn try_branch(
    request: pb::TryBranchRequest,
    limits: &Limits,
) -> Result<TryBranch, Faults> {
    within_request_limit(&request, limits)?;
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let wait = field::wait(&mut faults, "wait_timeout", request.wait_timeout.as_ref());
    let given = request.branch.unwrap_or_default();
    if given.branch_id.is_empty() {
        let why = "it is empty; give the branch an id, so that the call can be repeated";
        faults.invalid("branch.branch_id", why);
    }
    let timeout_ms = *limits.timeout_ms.end();
    let draft = branch::branch(&mut faults, "branch", given, timeout_ms, limits);
    let parsed = id.zip(wait).zip(draft).and_then(|((id, wait), draft)| {
        Some(TryBranch {
            id,
            branch_id: draft.id.clone()?,
            draft,
            wait,
        })
    });
    faults.finish(parsed)
}

/// The branch as its transaction takes it: with its Try timeout, and if there is room for it.
pub(super) fn into_spec(
    request: TryBranch,
    record: &Record,
    limits: &Limits,
) -> Result<BranchSpec, Faults> {
    let mut faults = Faults::default();
    let origin = &record.origin;
    let timeout_ms = u64::try_from(origin.expire_ms - origin.create_ms).unwrap_or(0);
    if let Some(asked_ms) = request.draft.try_timeout_ms.filter(|it| *it > timeout_ms) {
        let why = format_args!(
            "{asked_ms} ms is longer than the transaction's timeout of {timeout_ms} ms"
        );
        faults.invalid("branch.try_timeout", why);
    }
    let try_timeout_ms = origin.try_timeout_ms;
    let spec = request.draft.into_spec(request.branch_id, try_timeout_ms);
    let branches = &record.transaction.branches;
    if record.transaction.position(&spec.id).is_none() {
        let (found, max) = (branches.len(), limits.branches_max);
        if found >= max {
            let why =
                format_args!("the transaction has {found} branches; at most {max} are allowed");
            faults.exceeded("branch", why);
        }
        let found = words::of_record(record) + words::of_branch(&spec);
        within_words_limit(&mut faults, "branch", found, limits);
    }
    faults.finish(Some(spec))
}

pub(super) fn commit(
    request: &pb::CommitTransactionRequest,
    limits: &Limits,
) -> Result<Commit, Faults> {
    within_request_limit(request, limits)?;
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let wait = field::wait(&mut faults, "wait_timeout", request.wait_timeout.as_ref());
    within_branches_limit(&mut faults, "branch_ids", request.branch_ids.len(), limits);
    let mut branches = Vec::new();
    let mut seen = BTreeSet::new();
    for (at, text) in request
        .branch_ids
        .iter()
        .take(limits.branches_max)
        .enumerate()
    {
        let at = format_args!("branch_ids[{at}]");
        let Some(branch) = field::branch_id(&mut faults, at, text) else {
            continue;
        };
        if seen.insert(branch.clone()) {
            branches.push(branch);
        } else {
            duplicate(&mut faults, at, &branch);
        }
    }
    let parsed = id.zip(wait).map(|(id, wait)| Commit { id, branches, wait });
    faults.finish(parsed)
}

pub(super) fn rollback(
    request: &pb::RollbackTransactionRequest,
    limits: &Limits,
) -> Result<Rollback, Faults> {
    within_request_limit(request, limits)?;
    let mut faults = Faults::default();
    let id = field::transaction_id(&mut faults, &request.transaction_id);
    let wait = field::wait(&mut faults, "wait_timeout", request.wait_timeout.as_ref());
    let (found, max) = (request.reason.len(), limits.message_bytes_max);
    if found > max {
        let why = format_args!("it has {found} bytes; at most {max} are allowed");
        faults.exceeded("reason", why);
    }
    let message = match request.reason.as_str() {
        "" => "the client asked for it",
        reason => reason,
    };
    let cause = Failure::new(ROLLED_BACK, message);
    let parsed = id.zip(wait).map(|(id, wait)| Rollback { id, cause, wait });
    faults.finish(parsed)
}

pub(super) fn report(
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

/// What SubmitTransactionRequest and BeginTransactionRequest have in common.
struct Head<'a> {
    id: &'a str,
    options: pb::TransactionOptions,
    submit_expire_time: Option<prost_types::Timestamp>,
    digest: [u8; 32],
}

impl Head<'_> {
    fn parse(
        self,
        faults: &mut Faults,
        arrival: &Arrival,
        limits: &Limits,
    ) -> Option<NewTransaction> {
        let id = match self.id {
            "" => Some(assigned_id()),
            text => field::transaction_id(faults, text),
        };
        let options = options::options(faults, &self.options, limits);
        let submit_expire_ms = match self.submit_expire_time {
            None => Some(None),
            Some(given) => submit_expire_ms(faults, &given, arrival, limits).map(Some),
        };
        let (id, options) = (id?, options?);
        let Options {
            transaction_type,
            business_key,
            labels,
            switches,
            mode,
            policy,
            timeout_ms,
            try_timeout_ms,
        } = options;
        Some(NewTransaction {
            id,
            digest: self.digest,
            mode,
            policy,
            branches: Vec::new(),
            transaction_type,
            business_key,
            labels,
            switches,
            timeout_ms,
            try_timeout_ms,
            traceparent: Arc::clone(&arrival.traceparent),
            submit_expire_ms: submit_expire_ms?,
        })
    }
}

fn assigned_id() -> TransactionId {
    let id = uuid::Uuid::now_v7().hyphenated().to_string();
    TransactionId::parse(&id).expect("a UUID is made of hexadecimal digits and hyphens")
}

fn submit_expire_ms(
    faults: &mut Faults,
    given: &prost_types::Timestamp,
    arrival: &Arrival,
    limits: &Limits,
) -> Option<UnixMs> {
    const AT: &str = "submit_expire_time";
    let expire_ms = field::timestamp_ms(faults, AT, given)?;
    let ahead_ms = u64::try_from(expire_ms - arrival.now_ms).unwrap_or(0);
    let max_ms = limits.submit_expire_ahead_max_ms;
    if ahead_ms > max_ms {
        let why = format_args!(
            "it lies {ahead_ms} ms ahead; at most {max_ms} ms are allowed, for longer an id is not sure to be known"
        );
        faults.invalid(AT, why);
        return None;
    }
    Some(expire_ms)
}

fn drafts(
    faults: &mut Faults,
    given: Vec<pb::BranchSpec>,
    timeout_ms: Option<u64>,
    limits: &Limits,
) -> Option<Vec<BranchDraft>> {
    if given.is_empty() {
        let why = "a submitted transaction needs at least one branch";
        faults.invalid("branches", why);
    }
    within_branches_limit(faults, "branches", given.len(), limits);
    let timeout_ms = timeout_ms.unwrap_or(*limits.timeout_ms.end());
    let drafts: Vec<_> = given
        .into_iter()
        .take(limits.branches_max)
        .enumerate()
        .map(|(at, given)| {
            branch::branch(
                faults,
                &format!("branches[{at}]"),
                given,
                timeout_ms,
                limits,
            )
        })
        .collect();
    drafts.into_iter().collect()
}

/// Names the branches that name themselves not: "b1", "b2", … by their place.
fn name_branches(
    faults: &mut Faults,
    drafts: Vec<BranchDraft>,
) -> Option<Vec<(BranchId, BranchDraft)>> {
    let mut seen = BTreeMap::new();
    let mut named = Vec::with_capacity(drafts.len());
    for (at, draft) in drafts.into_iter().enumerate() {
        let assigned = || {
            let id = format!("b{}", at + 1);
            BranchId::parse(&id).expect("a letter and digits are an id")
        };
        let id = draft.id.clone().unwrap_or_else(assigned);
        if seen.insert(id.clone(), at).is_some() {
            duplicate(faults, format_args!("branches[{at}].branch_id"), &id);
        }
        named.push((id, draft));
    }
    Some(named)
}

fn duplicate(faults: &mut Faults, at: std::fmt::Arguments<'_>, id: &BranchId) {
    let why = format_args!("branch {id} is named twice; give each branch an id of its own");
    faults.add(ErrorReason::BranchIdDuplicate, at, why);
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

/// 32 hexadecimal digits. The token is a secret, so it is not repeated in the answer.
fn token(faults: &mut Faults, text: &str) -> Option<u128> {
    let token = crate::participants::report_token::parse(text);
    if token.is_none() {
        let why = "it is not the 32 hexadecimal digits that came as BranchContext.report_token";
        faults.invalid("report_token", why);
    }
    token
}

fn within_request_limit(request: &impl Message, limits: &Limits) -> Result<(), Faults> {
    let (found, max) = (request.encoded_len(), limits.request_bytes_max);
    if found <= max {
        return Ok(());
    }
    let why = format_args!("the request has {found} bytes; at most {max} are allowed");
    Err(Faults::one(ErrorReason::LimitExceeded, "", why))
}

fn within_branches_limit(faults: &mut Faults, at: &str, found: usize, limits: &Limits) {
    let max = limits.branches_max;
    if found > max {
        let why = format_args!("there are {found} branches; at most {max} are allowed");
        faults.exceeded(at, why);
    }
}

fn within_words_limit(faults: &mut Faults, at: &str, found: usize, limits: &Limits) {
    let max = limits.words_bytes_max;
    if found > max {
        let why = format_args!(
            "the transaction's names, labels and switches have {found} bytes; at most {max} are allowed"
        );
        faults.exceeded(at, why);
    }
}
