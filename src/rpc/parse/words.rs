//! How long all that a transaction names is, in bytes: what its record holds beside payloads, failures
//! and timeline.

use std::{collections::BTreeMap, sync::Arc};

use tercet_core::transaction::{BranchSpec, Target};

use crate::{
    engine::NewTransaction,
    store::{Origin, Record},
};

pub(super) fn of_new(new: &NewTransaction) -> usize {
    new.transaction_type.len()
        + new.business_key.len()
        + of_map(&new.labels)
        + of_map(&new.switches)
        + new.branches.iter().map(of_branch).sum::<usize>()
}

pub(super) fn of_record(record: &Record) -> usize {
    let branches = record.transaction.branches.iter();
    of_origin(&record.origin) + branches.map(|it| of_branch(&it.spec)).sum::<usize>()
}

pub(super) fn of_branch(spec: &BranchSpec) -> usize {
    let target = match &spec.target {
        Target::Contract {
            participant,
            resource,
        } => participant.as_str().len() + resource.len(),
        Target::Methods(methods) => {
            methods.endpoint.len()
                + methods.try_method.len()
                + methods.confirm_method.len()
                + methods.cancel_method.len()
                + methods.query_method.as_ref().map_or(0, |it| it.len())
        }
    };
    spec.id.as_str().len() + target
}

fn of_origin(origin: &Origin) -> usize {
    origin.transaction_type.len()
        + origin.business_key.len()
        + of_map(&origin.labels)
        + of_map(&origin.switches)
}

fn of_map(map: &BTreeMap<Arc<str>, Arc<str>>) -> usize {
    map.iter().map(|(key, value)| key.len() + value.len()).sum()
}
