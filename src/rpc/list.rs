//! Pages and counts of transactions: the store's smallest index that fits the filter, and the filter
//! over it, at most so many records at a time.

use super::{filter::Filter, limits::Limits};
use crate::{
    engine::{Engine, EngineError},
    store::{Cursor, Record},
};

/// Records read from the store at once.
const BATCH_RECORDS: usize = 128;

/// What to do after a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// Look at the next.
    More,
    /// It was the last one wanted.
    Last,
    /// It was not taken, and none after it is.
    Not,
}

/// Shows the records that the filter lets through, newest first, until `take` has had enough. Returns
/// where to go on; none when there are no more.
pub(super) async fn search(
    engine: &Engine,
    filter: &Filter,
    before: Option<Cursor>,
    limits: &Limits,
    mut take: impl FnMut(&Record) -> Taken,
) -> Result<Option<Cursor>, EngineError> {
    let mut at = before;
    let mut looked_at = 0;
    let mut enough = false;
    loop {
        let batch = engine.list(filter.listing(), at, BATCH_RECORDS).await?;
        let is_last = batch.len() < BATCH_RECORDS;
        for (cursor, record) in batch {
            if enough || looked_at == limits.page_records_max {
                return Ok(at);
            }
            looked_at += 1;
            if filter.matches(&record) {
                match take(&record) {
                    Taken::More => {}
                    Taken::Last => enough = true,
                    Taken::Not => return Ok(at),
                }
            }
            at = Some(cursor);
        }
        if is_last {
            return Ok(None);
        }
    }
}
