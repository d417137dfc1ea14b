//! A participant's database: the SDK's fence in memory, which survives its process, with the delays
//! and the errors of a real one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use fastrand::Rng;
use futures::FutureExt as _;
use parking_lot::Mutex;
use tercet_core::fence::Row;
use tercet_sdk::participant::{
    BranchKey, Fence, FenceError, FenceTransaction, MemoryFence, Record,
};

use super::{books::Books, history::FenceRow, parts::FenceRows, plan::Setup};

/// What one transaction waits for its database at most.
const DELAY_MS_MAX: u64 = 6;
/// One in so many commits ends with an error, done or not.
const ERRORS: u16 = 150;

#[derive(Clone)]
pub struct SimFence {
    inner: MemoryFence<Books>,
    rows: Arc<dyn FenceRows>,
    /// Keys that were ever written.
    keys: Arc<Mutex<BTreeSet<BranchKey>>>,
    setup: Setup,
    rng: Arc<Mutex<Rng>>,
}

impl SimFence {
    pub fn new(books: Books, rows: Arc<dyn FenceRows>, setup: &Setup, rng: Rng) -> Self {
        Self {
            inner: MemoryFence::new(books),
            rows,
            keys: Arc::default(),
            setup: setup.clone(),
            rng: Arc::new(Mutex::new(rng)),
        }
    }

    /// What is committed, when no process is there any more.
    pub fn contents(&self) -> (Books, Vec<FenceRow>) {
        let free = "no transaction is under way";
        let books = self.inner.read(Books::clone).now_or_never().expect(free);
        let mut tx = self
            .inner
            .begin()
            .now_or_never()
            .expect(free)
            .expect("a fence in memory has no errors");
        let row = |key: &BranchKey| {
            let record = tx.load_for_update(key).now_or_never()?.ok()??;
            Some(FenceRow {
                transaction: key.transaction_id.as_str().into(),
                branch: key.branch_id.as_str().into(),
                state: record.row.state,
            })
        };
        let rows = self.keys.lock().iter().filter_map(row).collect();
        (books, rows)
    }

    async fn delay(&self) {
        let delay_ms = self.rng.lock().u64(..=DELAY_MS_MAX);
        if delay_ms > DELAY_MS_MAX / 2 {
            tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        }
    }
}

impl Fence for SimFence {
    type Connection = Books;
    type Transaction = SimTransaction;

    async fn begin(&self) -> Result<SimTransaction, FenceError> {
        self.delay().await;
        let inner = self.inner.begin().await?;
        let fence = self.clone();
        let keys = Vec::new();
        Ok(SimTransaction { inner, fence, keys })
    }
}

pub struct SimTransaction {
    inner: <MemoryFence<Books> as Fence>::Transaction,
    fence: SimFence,
    keys: Vec<BranchKey>,
}

impl FenceTransaction for SimTransaction {
    type Connection = Books;

    fn connection(&mut self) -> &mut Books {
        self.inner.connection()
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
        let found = self.inner.load_for_update(key).await?;
        Ok(self.fence.rows.read(key, found))
    }

    async fn update(&mut self, key: &BranchKey, record: &Record) -> Result<(), FenceError> {
        let Some(record) = self.fence.rows.write(key, record.clone()) else {
            return Ok(());
        };
        self.keys.push(key.clone());
        self.inner.update(key, &record).await
    }

    async fn delete(&mut self, key: &BranchKey) -> Result<(), FenceError> {
        self.inner.delete(key).await
    }

    async fn terminal_before(
        &mut self,
        expire_time_ms: i64,
        limit: u32,
    ) -> Result<Vec<(BranchKey, Row)>, FenceError> {
        self.inner.terminal_before(expire_time_ms, limit).await
    }

    async fn horizon_ms(&mut self) -> Result<i64, FenceError> {
        let horizon_ms = self.inner.horizon_ms().await?;
        Ok(self.fence.rows.horizon_ms(horizon_ms))
    }

    async fn raise_horizon(&mut self, horizon_ms: i64) -> Result<(), FenceError> {
        self.inner.raise_horizon(horizon_ms).await
    }

    async fn commit(self) -> Result<(), FenceError> {
        let Self { inner, fence, keys } = self;
        fence.delay().await;
        let drawn = fence.rng.lock().u16(..ERRORS);
        let luck = if fence.setup.has_bad_luck() {
            drawn
        } else {
            ERRORS
        };
        if luck == 0 {
            return Err(FenceError::database(
                "the connection was lost before the commit",
            ));
        }
        fence.keys.lock().extend(keys);
        inner.commit().await?;
        if luck == 1 {
            return Err(FenceError::database(
                "the connection was lost after the commit",
            ));
        }
        Ok(())
    }
}
