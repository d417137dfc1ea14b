//! A fence in memory: for tests and examples, and the model of what an adapter does.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
    sync::Arc,
};

use tercet_core::fence::{HORIZON_NONE_MS, Row};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::{Fence, FenceError, FenceTransaction, Record};
use crate::participant::branch::BranchKey;

/// A fence in memory, with some data of the participant's beside it: `T` is what its resources
/// work on. It forgets everything when it is dropped, so it protects nobody in production.
///
/// A transaction works on a clone of the data, which takes the place of the original when it
/// commits; one runs at a time. Clones of the fence share everything.
///
/// ```
/// # tokio_test(async {
/// use std::collections::BTreeMap;
/// use tercet_sdk::participant::MemoryFence;
///
/// let fence = MemoryFence::new(BTreeMap::from([("apple", 3)]));
/// assert_eq!(fence.read(|stock| stock["apple"]).await, 3);
/// # });
/// # fn tokio_test(f: impl Future<Output = ()>) {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(f);
/// # }
/// ```
#[derive(Debug)]
pub struct MemoryFence<T = ()> {
    shared: Arc<Mutex<Shared<T>>>,
}

impl<T> MemoryFence<T> {
    /// An empty fence beside this data.
    #[must_use]
    pub fn new(data: T) -> Self {
        let shared = Shared {
            data,
            rows: Rows::new(),
            horizon_ms: HORIZON_NONE_MS,
        };
        Self {
            shared: Arc::new(Mutex::new(shared)),
        }
    }

    /// Looks at the data as last committed. Waits for the transaction under way.
    pub async fn read<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.shared.lock().await.data)
    }
}

impl<T: Default> Default for MemoryFence<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> Clone for MemoryFence<T> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

#[derive(Debug)]
struct Shared<T> {
    data: T,
    rows: Rows,
    horizon_ms: i64,
}

/// Rows, in so many maps that only a few move when one of them grows: hundreds of thousands at once keep all
/// calls waiting for a tenth of a second.
#[derive(Debug)]
struct Rows {
    maps: Vec<HashMap<BranchKey, Record>>,
    /// Which map a row is in.
    choice: RandomState,
}

/// Few enough to cost nothing when they are empty.
const ROW_MAPS: usize = 256;

impl Rows {
    fn new() -> Self {
        Self {
            maps: vec![HashMap::new(); ROW_MAPS],
            choice: RandomState::new(),
        }
    }

    fn map_of(&self, key: &BranchKey) -> usize {
        self.choice.hash_one(key) as usize % ROW_MAPS
    }

    fn get(&self, key: &BranchKey) -> Option<&Record> {
        self.maps[self.map_of(key)].get(key)
    }

    /// Puts this in the place of what is there.
    fn set(&mut self, key: BranchKey, to: Option<Record>) {
        let map = self.map_of(&key);
        let map = &mut self.maps[map];
        match to {
            Some(record) => map.insert(key, record),
            None => map.remove(&key),
        };
    }
}

impl<T: Clone + Send + 'static> Fence for MemoryFence<T> {
    type Connection = T;
    type Transaction = MemoryTransaction<T>;

    async fn begin(&self) -> Result<MemoryTransaction<T>, FenceError> {
        let shared = Arc::clone(&self.shared).lock_owned().await;
        Ok(MemoryTransaction {
            data: shared.data.clone(),
            changes: Vec::new(),
            horizon_ms: shared.horizon_ms,
            shared,
        })
    }
}

/// The changes of one transaction, beside what they will change.
pub struct MemoryTransaction<T> {
    shared: OwnedMutexGuard<Shared<T>>,
    data: T,
    /// In their order; the last one of a row counts.
    changes: Vec<(BranchKey, Option<Record>)>,
    horizon_ms: i64,
}

impl<T: Clone + Send + 'static> FenceTransaction for MemoryTransaction<T> {
    type Connection = T;

    fn connection(&mut self) -> &mut T {
        &mut self.data
    }

    async fn insert_if_absent(
        &mut self,
        key: &BranchKey,
        record: &Record,
    ) -> Result<bool, FenceError> {
        if self.load_for_update(key).await?.is_some() {
            return Ok(false);
        }
        self.update(key, record).await?;
        Ok(true)
    }

    async fn load_for_update(&mut self, key: &BranchKey) -> Result<Option<Record>, FenceError> {
        let changed = self
            .changes
            .iter()
            .rev()
            .find(|(changed, _)| changed == key);
        let record = changed.map_or_else(|| self.shared.rows.get(key), |(_, to)| to.as_ref());
        Ok(record.cloned())
    }

    async fn update(&mut self, key: &BranchKey, record: &Record) -> Result<(), FenceError> {
        self.changes.push((key.clone(), Some(record.clone())));
        Ok(())
    }

    async fn delete(&mut self, key: &BranchKey) -> Result<(), FenceError> {
        self.changes.push((key.clone(), None));
        Ok(())
    }

    async fn terminal_before(
        &mut self,
        expire_time_ms: i64,
        limit: u32,
    ) -> Result<Vec<(BranchKey, Row)>, FenceError> {
        let rows = self
            .shared
            .rows
            .maps
            .iter()
            .flatten()
            .map(|(key, record)| (key, record.row));
        let mut found: Vec<_> = rows
            .filter(|(_, row)| row.state.is_terminal() && row.expire_time_ms < expire_time_ms)
            .map(|(key, row)| (key.clone(), row))
            .collect();
        found.sort_unstable_by(|(a, a_row), (b, b_row)| {
            (a_row.expire_time_ms, a).cmp(&(b_row.expire_time_ms, b))
        });
        found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(found)
    }

    async fn horizon_ms(&mut self) -> Result<i64, FenceError> {
        Ok(self.horizon_ms)
    }

    async fn raise_horizon(&mut self, horizon_ms: i64) -> Result<(), FenceError> {
        self.horizon_ms = self.horizon_ms.max(horizon_ms);
        Ok(())
    }

    async fn commit(mut self) -> Result<(), FenceError> {
        let shared = &mut *self.shared;
        for (key, change) in self.changes {
            shared.rows.set(key, change);
        }
        shared.data = self.data;
        shared.horizon_ms = self.horizon_ms;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tercet_core::{
        fence::State,
        ids::{BranchId, Realm, TransactionId},
    };

    use super::*;

    #[test]
    fn hardly_any_row_moves_when_one_comes() {
        const COUNT: usize = 20_000;
        let record = Record {
            row: Row {
                state: State::Tried,
                epoch: 1,
                expire_time_ms: 0,
            },
            body: Vec::new(),
        };
        let mut rows = Rows::new();
        let mut moved_most = 0;
        for number in 0..COUNT {
            let key = BranchKey {
                realm: Realm::parse("here").expect("a realm"),
                transaction_id: TransactionId::parse(&number.to_string()).expect("an id"),
                branch_id: BranchId::parse("b").expect("an id"),
            };
            let map = rows.map_of(&key);
            let (count, room) = (rows.maps[map].len(), rows.maps[map].capacity());
            rows.set(key, Some(record.clone()));
            if rows.maps[map].capacity() != room {
                moved_most = moved_most.max(count);
            }
        }
        assert_eq!(rows.maps.iter().map(HashMap::len).sum::<usize>(), COUNT);
        assert!((1..COUNT / 100).contains(&moved_most), "{moved_most}");
    }
}
