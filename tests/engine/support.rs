//! One engine with its surroundings, and short ways to look at what happened.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use tercet::{
    engine::{AnchoredClock, Clock, Engine, EngineConfig, EngineError, NewTransaction},
    store::{MemoryStore, Record, UnixMs},
};
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    transaction::State,
};
use tokio::{task::JoinHandle, time::Instant};

use crate::common::{clock, engine_with, id, ledger::Ledger, store, transaction};

pub use crate::common::{branch, branch_id, order};

pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// An engine, its store and its participants.
pub struct World {
    pub ledger: Arc<Ledger>,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<JumpingClock>,
    pub engine: Engine,
    pub start: Instant,
}

impl World {
    pub fn new() -> Self {
        Self::with(EngineConfig::default())
    }

    pub fn with(config: EngineConfig) -> Self {
        let ledger = Ledger::new(clock());
        Self::over(Arc::new(store()), ledger, config)
    }

    pub fn over(store: Arc<MemoryStore>, ledger: Arc<Ledger>, config: EngineConfig) -> Self {
        let clock = Arc::new(JumpingClock {
            real: ledger.clock,
            jump_ms: AtomicI64::new(0),
        });
        let engine = engine_with(Arc::clone(&store), &ledger, Arc::clone(&clock) as _, config);
        Self {
            ledger,
            store,
            clock,
            engine,
            start: Instant::now(),
        }
    }

    /// The process dies, and another one finds what was durable.
    pub async fn restart(self, config: EngineConfig) -> Self {
        let found = Arc::new(self.store.crash());
        self.engine.shutdown().await;
        Self::over(found, self.ledger, config)
    }

    pub fn record(&self, id_text: &str) -> Arc<Record> {
        self.engine.record(&id(id_text)).unwrap()
    }

    pub fn state(&self, id_text: &str) -> State {
        self.record(id_text).transaction.state
    }

    /// Submits in a task of its own.
    pub fn submit(
        &self,
        new: NewTransaction,
        wait: Duration,
    ) -> JoinHandle<Result<Arc<Record>, EngineError>> {
        let engine = self.engine.clone();
        tokio::spawn(async move { engine.submit(new, wait).await })
    }

    /// Follows a transaction to its end, and checks what it has left behind.
    pub async fn end_of(&self, id_text: &str) -> Arc<Record> {
        let o = id(id_text);
        let end = crate::common::end_of(&self.engine, &o);
        let end = tokio::time::timeout(100 * DAY, end).await;
        let record = end.unwrap_or_else(|_| panic!("{o} never ends"));
        self.ledger.deliver_late();
        self.ledger.check(&[Arc::clone(&record)]);
        record
    }

    /// When this participant was called, in milliseconds since the start, and how.
    pub fn calls(&self, participant: &str) -> Vec<(u64, Operation, bool)> {
        let seen = self.ledger.seen();
        let calls = seen.iter().filter(|it| it.participant == participant);
        calls
            .map(|it| {
                let at = it.at.saturating_duration_since(self.start).as_millis();
                (u64::try_from(at).unwrap(), it.operation, it.query)
            })
            .collect()
    }
}

/// A wall clock that somebody sets.
pub struct JumpingClock {
    real: AnchoredClock,
    jump_ms: AtomicI64,
}

impl JumpingClock {
    pub fn jump(&self, by_ms: UnixMs) {
        self.jump_ms.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for JumpingClock {
    fn unix_ms(&self) -> UnixMs {
        self.real.unix_ms() + self.jump_ms.load(Ordering::SeqCst)
    }
}

/// An order that is given a day to be decided.
pub fn patient(id_text: &str, mode: ReplyMode) -> NewTransaction {
    NewTransaction {
        timeout_ms: u64::try_from(DAY.as_millis()).unwrap(),
        ..order(id_text, mode)
    }
}

/// The same as another request would be read that has other content.
pub fn other_content(new: NewTransaction) -> NewTransaction {
    NewTransaction {
        digest: [8; 32],
        ..new
    }
}

/// An interactive transaction, not begun yet.
pub fn interactive(id_text: &str, mode: ReplyMode) -> NewTransaction {
    transaction(id_text, mode, Vec::new())
}

pub fn outcome(record: &Record) -> Outcome {
    record.transaction.outcome()
}

pub fn reason(record: &Record) -> &str {
    &record
        .transaction
        .failure
        .as_ref()
        .expect("it failed")
        .reason
}

pub fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
