//! Requests about an interactive transaction, and the end that any transaction may be asked to come to.

use std::{collections::BTreeSet, time::Duration};

use tercet_core::{
    ids::{BranchId, TransactionId},
    payload::Failure,
    transaction::BranchSpec,
};

use super::{
    super::{faults::Faults, limits::Limits},
    branch::{self, BranchDraft},
    duplicate, field, within_branches_limit, within_request_limit, within_words_limit, words,
};
use crate::{proto::tercet::v1 as pb, store::Record};

/// A TryBranchRequest.
#[derive(Debug)]
pub(in super::super) struct TryBranch {
    pub(in super::super) id: TransactionId,
    pub(in super::super) branch_id: BranchId,
    pub(in super::super) draft: BranchDraft,
    pub(in super::super) wait: Option<Duration>,
}

/// A CommitTransactionRequest.
#[derive(Debug)]
pub(in super::super) struct Commit {
    pub(in super::super) id: TransactionId,
    pub(in super::super) branches: Vec<BranchId>,
    pub(in super::super) wait: Option<Duration>,
}

/// A RollbackTransactionRequest.
#[derive(Debug)]
pub(in super::super) struct Rollback {
    pub(in super::super) id: TransactionId,
    pub(in super::super) cause: Failure,
    pub(in super::super) wait: Option<Duration>,
}

/// Why rolled back, when its client gives no reason or its own words.
const ROLLED_BACK: &str = "ROLLED_BACK_BY_CLIENT";

pub(in super::super) fn try_branch(
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
    let draft = branch::branch(
        &mut faults,
        format_args!("branch"),
        given,
        timeout_ms,
        limits,
    );
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
pub(in super::super) fn into_spec(
    request: TryBranch,
    record: &Record,
    limits: &Limits,
) -> Result<BranchSpec, Faults> {
    let mut faults = Faults::default();
    let origin = &record.origin;
    let timeout_ms = u64::try_from(origin.expire_ms.saturating_sub(origin.create_ms)).unwrap_or(0);
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

pub(in super::super) fn commit(
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

pub(in super::super) fn rollback(
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
