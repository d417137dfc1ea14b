//! What the contract's tests ask of a store, in few words.
#![allow(
    dead_code,
    reason = "each test file that includes this uses its own part of it"
)]

use std::sync::Arc;

use tercet::store::{Cursor, Listing, Record, Store, StoreError};

use super::records::{commit, confirmed, fresh, id, tried};

pub(crate) async fn finish(store: &dyn Store, name: &str, keep_until_ms: i64) {
    let first = fresh(store, name);
    commit(store, &first).await;
    let second = tried(&first);
    commit(store, &second).await;
    commit(store, &confirmed(&second, keep_until_ms)).await;
}

pub(crate) fn read(store: &dyn Store, name: &str) -> Option<Record> {
    let record = store.read(&id(name)).expect("it is read");
    record.map(|it| (*it).clone())
}

pub(crate) fn names(store: &dyn Store, listing: &Listing) -> Vec<String> {
    let found = store.list(listing, None, 10_000).expect("they are read");
    found
        .iter()
        .map(|(_, it)| it.id.as_str().to_owned())
        .collect()
}

pub(crate) fn paged(store: &dyn Store, listing: &Listing, page: usize) -> Vec<String> {
    let mut names = Vec::new();
    let mut before: Option<Cursor> = None;
    loop {
        let found = store.list(listing, before, page).expect("they are read");
        assert!(found.len() <= page);
        let Some((last, _)) = found.last() else {
            return names;
        };
        before = Some(*last);
        names.extend(found.iter().map(|(_, it)| it.id.as_str().to_owned()));
    }
}

pub(crate) async fn refusal(store: &dyn Store, record: &Record) -> StoreError {
    let result = store.commit(Arc::new(record.clone())).await;
    result.expect_err("it is refused")
}

pub(crate) fn conflict(name: &str, found: u64) -> StoreError {
    StoreError::Conflict {
        id: id(name),
        found,
    }
}
