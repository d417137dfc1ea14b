//! One branch as a request describes it.

use std::{fmt::Arguments, sync::Arc};

use tercet_core::{
    ids::{BranchId, ParticipantName},
    payload::Payload,
    transaction::{BranchSpec, Methods, Target},
};

use super::{
    super::{faults::Faults, limits::Limits},
    field,
};
use crate::proto::tercet::v1 as pb;

/// A branch without what its transaction lends it: its Try timeout, and its id when it names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct BranchDraft {
    pub(in super::super) id: Option<BranchId>,
    pub(in super::super) target: Target,
    pub(in super::super) payload: Payload,
    pub(in super::super) try_timeout_ms: Option<u64>,
}

impl BranchDraft {
    /// The branch, with this id and, when it names none, this Try timeout.
    pub(in super::super) fn into_spec(self, id: BranchId, try_timeout_ms: u64) -> BranchSpec {
        BranchSpec {
            id,
            target: self.target,
            payload: self.payload,
            try_timeout_ms: self.try_timeout_ms.unwrap_or(try_timeout_ms),
        }
    }
}

/// Reads a branch that stands at `at` in its request. `timeout_ms`: what its Try timeout may not pass.
pub(super) fn branch(
    faults: &mut Faults,
    at: Arguments<'_>,
    given: pb::BranchSpec,
    timeout_ms: u64,
    limits: &Limits,
) -> Option<BranchDraft> {
    let id = match given.branch_id.as_str() {
        "" => Some(None),
        text => field::branch_id(faults, format_args!("{at}.branch_id"), text).map(Some),
    };
    let payload_at = format_args!("{at}.payload");
    let payload = field::payload(
        faults,
        payload_at,
        given.payload.unwrap_or_default(),
        limits,
    );
    let try_timeout_at = format_args!("{at}.try_timeout");
    let allowed_ms = 1..=timeout_ms;
    let asked = given.try_timeout.as_ref();
    let try_timeout_ms = field::duration_ms(faults, try_timeout_at, asked, &allowed_ms);
    let target = target(faults, at, given.target, limits);
    Some(BranchDraft {
        id: id?,
        target: target?,
        payload: payload?,
        try_timeout_ms: try_timeout_ms?,
    })
}

fn target(
    faults: &mut Faults,
    at: Arguments<'_>,
    given: Option<pb::branch_spec::Target>,
    limits: &Limits,
) -> Option<Target> {
    match given {
        Some(pb::branch_spec::Target::Contract(given)) => contract(faults, at, &given, limits),
        Some(pb::branch_spec::Target::Methods(given)) => {
            methods(faults, at, given, limits).map(Target::Methods)
        }
        None => {
            let why = "it names neither a contract nor methods; name the participant to call";
            faults.invalid(format_args!("{at}.target"), why);
            None
        }
    }
}

fn contract(
    faults: &mut Faults,
    at: Arguments<'_>,
    given: &pb::ContractTarget,
    limits: &Limits,
) -> Option<Target> {
    let participant = ParticipantName::parse(&given.participant);
    let participant = participant
        .map_err(|error| faults.invalid(format_args!("{at}.contract.participant"), error))
        .ok();
    let resource_at = format_args!("{at}.contract.resource");
    let resource = required(faults, resource_at, &given.resource, limits);
    Some(Target::Contract {
        participant: participant?,
        resource: resource?,
    })
}

fn methods(
    faults: &mut Faults,
    at: Arguments<'_>,
    given: pb::MethodTarget,
    limits: &Limits,
) -> Option<Methods> {
    let endpoint_at = format_args!("{at}.methods.endpoint");
    let endpoint = required(faults, endpoint_at, &given.endpoint, limits);
    let mut path =
        |name: &str, text: &str| method(faults, format_args!("{at}.methods.{name}"), text, limits);
    let try_method = path("try_method", &given.try_method);
    let confirm_method = path("confirm_method", &given.confirm_method);
    let cancel_method = path("cancel_method", &given.cancel_method);
    let query_method = match given.query_method.as_str() {
        "" => Some(None),
        text => path("query_method", text).map(Some),
    };
    let mut payload = |name: &str, given: Option<_>| match given {
        None => Some(None),
        Some(given) => {
            field::payload(faults, format_args!("{at}.methods.{name}"), given, limits).map(Some)
        }
    };
    let confirm_payload = payload("confirm_payload", given.confirm_payload);
    let cancel_payload = payload("cancel_payload", given.cancel_payload);
    Some(Methods {
        endpoint: endpoint?,
        try_method: try_method?,
        confirm_method: confirm_method?,
        cancel_method: cancel_method?,
        query_method: query_method?,
        confirm_payload: confirm_payload?,
        cancel_payload: cancel_payload?,
    })
}

fn required(
    faults: &mut Faults,
    at: Arguments<'_>,
    text: &str,
    limits: &Limits,
) -> Option<Arc<str>> {
    if text.is_empty() {
        faults.invalid(at, "it is empty");
        return None;
    }
    field::text(faults, at, text, limits.name_bytes_max)
}

fn method(faults: &mut Faults, at: Arguments<'_>, text: &str, limits: &Limits) -> Option<Arc<str>> {
    let text = required(faults, at, text, limits)?;
    let is_name = |name: &str| {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_');
        !name.is_empty() && name.chars().all(allowed)
    };
    let parts = text.strip_prefix('/').and_then(|path| path.split_once('/'));
    if !parts.is_some_and(|(service, method)| is_name(service) && is_name(method)) {
        faults.invalid(
            at,
            format_args!("{text:?} is not like \"/pkg.Service/Method\""),
        );
        return None;
    }
    Some(text)
}
