//! What stands in a store's files, read without the coordinator.

use std::path::Path;

use tercet::store::{Listing, OpenError, Record, SledStore, Store as _};
use tercet_core::{outcome, transaction::Target};

use super::history::{Ended, EndedBranch, Seen};

const PAGE: usize = 500;

/// All records. Opening counts as a start: give it a copy where that matters.
///
/// # Errors
/// When the store can't be opened.
pub fn read(store: &Path) -> Result<Vec<Ended>, OpenError> {
    let store = SledStore::open(store)?;
    let (mut all, mut before) = (Vec::new(), None);
    loop {
        let page = store.list(&Listing::All, before, PAGE).unwrap();
        let Some((cursor, _)) = page.last() else {
            assert_eq!(store.counters().quarantined, 0, "a record can't be read");
            return Ok(all);
        };
        before = Some(*cursor);
        all.extend(page.iter().map(|(_, record)| ended(record)));
    }
}

fn ended(record: &Record) -> Ended {
    let transaction = &record.transaction;
    let branches = transaction.branches.iter().map(|it| {
        let Target::Contract { participant, .. } = &it.spec.target else {
            panic!("no client of this test names another target");
        };
        EndedBranch {
            id: it.spec.id.as_str().into(),
            participant: participant.as_str().into(),
            state: it.state,
        }
    });
    Ended {
        id: record.id.as_str().into(),
        seen: Seen {
            state: transaction.state,
            outcome: outcome::outcome(transaction.state, transaction.mode),
            mode: transaction.mode,
            revision: record.revision,
        },
        branches: branches.collect(),
        attention: None,
    }
}
