//! Requests that open a transaction.

use std::{sync::Arc, time::Duration};

use tercet_core::ids::{BranchId, TransactionId};

use super::{
    super::{arrival::Arrival, digest, faults::Faults, limits::Limits},
    branch::{self, BranchDraft},
    duplicate, field,
    options::{self, Options},
    within_branches_limit, within_request_limit, within_words_limit, words,
};
use crate::{engine::NewTransaction, proto::tercet::v1 as pb, store::UnixMs};

/// A SubmitTransactionRequest.
#[derive(Debug)]
pub(in super::super) struct Submit {
    pub(in super::super) new: NewTransaction,
    pub(in super::super) wait: Option<Duration>,
    pub(in super::super) validate_only: bool,
}

pub(in super::super) fn submit(
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

pub(in super::super) fn begin(
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
                format_args!("branches[{at}]"),
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
    let mut named = Vec::<(BranchId, _)>::with_capacity(drafts.len());
    for (at, draft) in drafts.into_iter().enumerate() {
        let assigned = || {
            let id = format!("b{}", at + 1);
            BranchId::parse(&id).expect("a letter and digits are an id")
        };
        let id = draft.id.clone().unwrap_or_else(assigned);
        if named.iter().any(|(other, _)| *other == id) {
            duplicate(faults, format_args!("branches[{at}].branch_id"), &id);
        }
        named.push((id, draft));
    }
    Some(named)
}
