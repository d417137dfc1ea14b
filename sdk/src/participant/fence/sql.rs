//! What the adapters on sqlx share.

use tercet_core::{
    fence::{Row, State},
    ids::{BranchId, IdError, Realm, TransactionId},
};

use super::{FenceError, Record};
use crate::participant::branch::BranchKey;

/// The newest schema known here. Version 1: `tercet_fence` and `tercet_fence_meta`.
pub(super) const SCHEMA_VERSION: i64 = 1;

/// Refuses tables of a later release.
pub(super) fn check_version(found: i64) -> Result<(), FenceError> {
    if found > SCHEMA_VERSION {
        return Err(FenceError::SchemaNewer {
            found,
            known: SCHEMA_VERSION,
        });
    }
    Ok(())
}

/// Tells missing tables from everything else.
pub(super) fn error(error: sqlx::Error) -> FenceError {
    let text = error.to_string();
    let missing = text.contains("no such table") || text.contains("does not exist");
    if missing && text.contains("tercet_fence") {
        FenceError::NotMigrated(error.into())
    } else {
        FenceError::Database(error.into())
    }
}

/// `realm, transaction_id, branch_id, state, epoch, expire_time_ms`.
pub(super) type KeyedColumns = (String, String, String, String, i64, i64);

pub(super) fn keyed_row(columns: KeyedColumns) -> Result<(BranchKey, Row), FenceError> {
    let (realm, transaction, branch, state, epoch, expire_time_ms) = columns;
    let key = key(&realm, &transaction, &branch)?;
    let row = row(&key, &state, epoch, expire_time_ms)?;
    Ok((key, row))
}

/// `state, epoch, expire_time_ms, body`.
pub(super) type RecordColumns = (String, i64, i64, Vec<u8>);

pub(super) fn record(key: &BranchKey, columns: RecordColumns) -> Result<Record, FenceError> {
    let (state, epoch, expire_time_ms, body) = columns;
    let row = row(key, &state, epoch, expire_time_ms)?;
    Ok(Record { row, body })
}

fn row(key: &BranchKey, state: &str, epoch: i64, expire_time_ms: i64) -> Result<Row, FenceError> {
    let Some(state) = State::parse(state) else {
        return Err(FenceError::RowInvalid {
            key: Box::new(key.clone()),
            what: format!("{state:?} is no state"),
        });
    };
    Ok(Row {
        state,
        epoch,
        expire_time_ms,
    })
}

fn key(realm: &str, transaction: &str, branch: &str) -> Result<BranchKey, FenceError> {
    let parse = || -> Result<BranchKey, IdError> {
        Ok(BranchKey {
            realm: Realm::parse(realm)?,
            transaction_id: TransactionId::parse(transaction)?,
            branch_id: BranchId::parse(branch)?,
        })
    };
    parse().map_err(|error| {
        let what = format!("the key {realm}/{transaction}/{branch} is none: {error}");
        FenceError::database(what)
    })
}
