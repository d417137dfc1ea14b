//! Requests into the domain. What comes out is within every limit; what is wrong is said all at once.
//!
//! 1. Nothing here knows which transactions exist: that is the engine's to say.
//! 2. A fault never ends the parsing; every field is looked at.

mod branch;
mod field;
#[cfg(test)]
mod hostile;
mod interactive;
mod options;
mod read;
mod report;
mod submit;
#[cfg(test)]
mod tests;
mod words;

use prost::Message;
use tercet_core::ids::BranchId;

pub(super) use self::{
    field::is_label_key_char,
    interactive::{commit, into_spec, rollback, try_branch},
    read::{get, list, list_events, transaction_id, wait},
    report::report,
    submit::{begin, submit},
};
use super::{faults::Faults, limits::Limits};
use crate::proto::tercet::v1::ErrorReason;

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

fn duplicate(faults: &mut Faults, at: std::fmt::Arguments<'_>, id: &BranchId) {
    let why = format_args!("branch {id} is named twice; give each branch an id of its own");
    faults.add(ErrorReason::BranchIdDuplicate, at, why);
}
