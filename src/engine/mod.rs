//! The shell around the protocol: it loads, steps, commits, and performs what the step wants done.
//!
//! ```text
//!            submit, commit, …            due
//!  rpc ────────────▶ live ──▶ drive ◀──── recover
//!                              │  ▲
//!          step: core ◀────────┤  └── answers: participants
//!          commit: store ◀─────┘
//! ```
//!
//! 1. A transaction that moves has one driver, which alone changes its record; it begins with the
//!    first command or when an attempt is due, and ends when there is nothing to do right now.
//! 2. Live work and recovery are the same path: load the record, then do what it owes.
//! 3. What a caller, a watcher or a reader is shown has been acknowledged durable by the store.
//! 4. A caller that goes away changes nothing: drivers are tasks of their own.

mod admission;
mod callers;
mod clock;
mod draft;
mod drive;
mod error;
mod given;
mod live;
mod loading;
mod pace;
mod recover;
mod retention;
mod timers;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use tercet_core::{
    ids::{BranchId, TransactionId},
    operation::Operation,
    outcome::ReplyMode,
    payload::Failure,
    request::{Report, Request},
    transaction::{BranchSpec, BranchState},
};
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    admission::Admission,
    callers::is_definitive,
    live::{Command, Live, Submission},
    recover::Schedule,
};
pub use self::{
    admission::Room,
    clock::{AnchoredClock, Clock, SystemClock},
    error::EngineError,
    given::{EngineConfig, NewTransaction},
    live::Follow,
};
use crate::{
    participants::Participants,
    store::{Cursor, Listing, Record, Store, StoreError, UnixMs},
};

/// The engine. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    store: Arc<dyn Store>,
    participants: Arc<dyn Participants>,
    clock: Arc<dyn Clock>,
    config: EngineConfig,
    live: Live,
    admission: Admission,
    schedule: Schedule,
    /// Takes no new transactions; recovery stops; waits end.
    draining: CancellationToken,
    /// Drivers stop at once.
    stopped: CancellationToken,
    drivers: TaskTracker,
    background: TaskTracker,
    /// Why the store has stopped taking work, once it has.
    broken: OnceLock<StoreError>,
}

impl Engine {
    /// An engine over these parts. It serves at once; [`Engine::recover`] starts the background work.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        participants: Arc<dyn Participants>,
        clock: Arc<dyn Clock>,
        config: EngineConfig,
    ) -> Self {
        let inner = Inner {
            store,
            participants,
            clock,
            live: Live::default(),
            admission: Admission::new(&config),
            schedule: Schedule::default(),
            config,
            draining: CancellationToken::new(),
            stopped: CancellationToken::new(),
            drivers: TaskTracker::new(),
            background: TaskTracker::new(),
            broken: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Starts what runs by itself: finding unfinished work, driving what is due, retention, and
    /// stopping when the store does.
    pub fn recover(&self) {
        let inner = &self.inner;
        inner.background.spawn(stop_with_store(Arc::clone(inner)));
        inner
            .background
            .spawn(recover::load_unfinished(Arc::clone(inner)));
        inner
            .background
            .spawn(recover::drive_due(Arc::clone(inner)));
        inner
            .background
            .spawn(retention::sweep_for_ever(Arc::clone(inner)));
        inner
            .background
            .spawn(admission::fit_for_ever(Arc::clone(inner)));
    }

    /// Records all branches, tries them, decides and finishes. Returns when the outcome is definitive,
    /// or, unless TWO_STATE, when the wait has ended; ACCEPTED as soon as the record is durable.
    ///
    /// The same id and content again attaches to the same work.
    ///
    /// # Errors
    /// [`EngineError`]; whatever it is, a transaction that was accepted goes on.
    pub async fn submit(
        &self,
        new: NewTransaction,
        wait: Duration,
    ) -> Result<Arc<Record>, EngineError> {
        self.submit_in(None, new, wait).await
    }

    /// As [`submit`](Self::submit), for a caller that has been given room before; the wait counts from when
    /// it came for that.
    ///
    /// # Errors
    /// As it.
    pub async fn submit_in(
        &self,
        room: Option<Room>,
        new: NewTransaction,
        wait: Duration,
    ) -> Result<Arc<Record>, EngineError> {
        let waited = room.as_ref().map_or(Duration::ZERO, |it| it.waited);
        let wait = wait.saturating_sub(waited);
        let deadline = Instant::now() + wait;
        let id = new.id.clone();
        let accepted = new.mode == ReplyMode::Accepted;
        let submission = Submission {
            new,
            interactive: false,
            wait,
            room,
        };
        let command = |reply| Command::Submit(Box::new(submission), reply);
        if accepted {
            return self.tell(&id, command).await;
        }
        self.settle(&id, deadline, command).await
    }

    /// Whether every branch can be called, without starting anything: what a new transaction with
    /// these branches would be told.
    ///
    /// # Errors
    /// `Target` names the first branch that can't.
    pub fn check(&self, branches: &[BranchSpec]) -> Result<(), EngineError> {
        let mut branches = branches.iter();
        branches.try_for_each(|branch| self.inner.check_target(branch))
    }

    /// Opens an interactive transaction, or finds the one that is open under this id.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn begin(&self, new: NewTransaction) -> Result<Arc<Record>, EngineError> {
        self.begin_in(None, new).await
    }

    /// As [`begin`](Self::begin), for a caller that has been given room before.
    ///
    /// # Errors
    /// As it.
    pub async fn begin_in(
        &self,
        room: Option<Room>,
        new: NewTransaction,
    ) -> Result<Arc<Record>, EngineError> {
        let id = new.id.clone();
        let submission = Submission {
            new,
            interactive: true,
            wait: Duration::ZERO,
            room,
        };
        self.tell(&id, |reply| Command::Submit(Box::new(submission), reply))
            .await
    }

    /// Records one branch and runs its Try. Returns when the Try is definitive, the transaction is
    /// decided, or the wait has ended.
    ///
    /// # Errors
    /// [`EngineError`]. A wait that ends first is none, in TWO_STATE neither: the record shows the
    /// branch TRYING.
    pub async fn try_branch(
        &self,
        id: &TransactionId,
        branch: BranchSpec,
        wait: Duration,
    ) -> Result<Arc<Record>, EngineError> {
        let deadline = Instant::now() + wait;
        let branch_id = branch.id.clone();
        let request = Request::AddBranch(Arc::new(branch));
        let mut follow = self.ask(id, request).await?;
        let tried = |record: &Record| {
            let transaction = &record.transaction;
            let at = transaction.position(&branch_id);
            transaction.decision().is_some()
                || at.is_some_and(|at| transaction.branches[at].state != BranchState::Trying)
        };
        self.reach(&mut follow, deadline, tried).await;
        Ok(follow.record())
    }

    /// Commits exactly these branches of an interactive transaction.
    ///
    /// # Errors
    /// [`EngineError`]; on a canceled transaction it is OK, and the record says FAILED.
    pub async fn commit(
        &self,
        id: &TransactionId,
        branches: Vec<BranchId>,
        wait: Duration,
    ) -> Result<Arc<Record>, EngineError> {
        let deadline = Instant::now() + wait;
        let request = Box::new(Request::Commit { branches });
        self.settle(id, deadline, |reply| {
            Command::Ask(request, Some(wait), reply)
        })
        .await
    }

    /// Rolls back, and waits for the end of it. An unknown id is recorded as canceled, so that a
    /// Submit still on its way is answered FAILED.
    ///
    /// # Errors
    /// [`EngineError`]; `Refused` with a decision conflict once commit is decided.
    pub async fn rollback(
        &self,
        id: &TransactionId,
        cause: Failure,
        wait: Duration,
    ) -> Result<Arc<Record>, EngineError> {
        let deadline = Instant::now() + wait;
        let mut follow = self
            .send(id, |reply| Command::Rollback(cause, reply))
            .await?;
        let ended = |record: &Record| record.transaction.state.is_terminal();
        self.reach(&mut follow, deadline, ended).await;
        Ok(follow.record())
    }

    /// Takes in the end of an operation that a participant had answered PROCESSING. Durable when it
    /// returns.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn report(
        &self,
        id: &TransactionId,
        token: u128,
        branch: BranchId,
        operation: Operation,
        report: Report,
    ) -> Result<(), EngineError> {
        let record = self.record(id)?;
        if record.origin.report_token != token {
            return Err(EngineError::ReportToken(id.clone()));
        }
        let request = Request::Report {
            branch,
            operation,
            report,
        };
        self.tell(id, |reply| Command::Ask(Box::new(request), None, reply))
            .await?;
        Ok(())
    }

    /// Pauses, resumes or resolves, in an operator's name.
    ///
    /// # Errors
    /// [`EngineError`].
    pub async fn operate(
        &self,
        id: &TransactionId,
        request: Request,
    ) -> Result<Arc<Record>, EngineError> {
        self.tell(id, |reply| Command::Ask(Box::new(request), None, reply))
            .await
    }

    /// The transaction as it is stored.
    ///
    /// # Errors
    /// `NotFound`, or what the store says.
    pub fn record(&self, id: &TransactionId) -> Result<Arc<Record>, EngineError> {
        let record = self.inner.store.read(id)?;
        record.ok_or_else(|| EngineError::NotFound(id.clone()))
    }

    /// The transaction as it is when its outcome is definitive, or when the wait has ended.
    ///
    /// # Errors
    /// `NotFound`, or what the store says.
    pub async fn wait(
        &self,
        id: &TransactionId,
        wait: Duration,
    ) -> Result<Arc<Record>, EngineError> {
        let deadline = Instant::now() + wait;
        let mut follow = self.follow(id)?;
        self.reach(&mut follow, deadline, is_definitive).await;
        Ok(follow.record())
    }

    /// The transaction as it is, and every later state of it.
    ///
    /// # Errors
    /// `NotFound`, or what the store says.
    pub fn follow(&self, id: &TransactionId) -> Result<Follow, EngineError> {
        let record = self.record(id)?;
        if record.transaction.state.is_terminal() {
            return Ok(Follow::ended(record));
        }
        self.inner.attach(id, record)
    }

    /// A page of records, newest first, before a cursor.
    ///
    /// # Errors
    /// What the store says.
    pub async fn list(
        &self,
        listing: Listing,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Arc<Record>)>, EngineError> {
        let page = move |store: &dyn Store| store.list(&listing, before, limit);
        Ok(self.inner.with_store(page).await?)
    }

    /// The store, for what only it can say.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The wall clock the engine stamps records with.
    #[must_use]
    pub fn now_ms(&self) -> UnixMs {
        self.inner.clock.unix_ms()
    }

    /// New transactions in flight, and transactions waiting for their next attempt.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.inner.admission.inflight(), self.inner.schedule.len())
    }

    /// How many new transactions may be in flight right now: fewer than configured while the process is
    /// late with those it has.
    #[must_use]
    pub fn inflight_limit(&self) -> usize {
        self.inner.admission.inflight_limit()
    }

    /// Resolves once no new work is taken: streams should end.
    pub async fn draining(&self) {
        self.inner.draining.cancelled().await;
    }

    /// Takes no new transactions from now on; waits end as if their time had passed.
    pub fn drain(&self) {
        self.inner.drain();
    }

    /// Drains, lets calls in flight end within `drain_ms`, hands the rest back to the store. What is
    /// unfinished goes on with the next start.
    pub async fn shutdown(&self) {
        self.drain();
        self.inner.drivers.close();
        self.inner.background.close();
        let drain = Duration::from_millis(self.inner.config.drain_ms);
        if tokio::time::timeout(drain, self.inner.drivers.wait())
            .await
            .is_err()
        {
            self.inner.stop();
            self.inner.drivers.wait().await;
        }
        self.inner.stop();
        self.inner.background.wait().await;
    }
}

/// A call may follow from what is in memory alone, so nobody may wait for a commit to learn that the
/// store has failed.
async fn stop_with_store(engine: Arc<Inner>) {
    tokio::select! {
        biased;
        reason = engine.store.broken() => engine.fail(&StoreError::Broken(reason)),
        () = engine.stopped.cancelled() => {}
    }
}

impl Inner {
    /// Does what the store has to be read a lot for, on a thread of its own if that may take a while.
    async fn with_store<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Store) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        if self.store.is_in_memory() {
            return work(&*self.store);
        }
        let store = Arc::clone(&self.store);
        let done = tokio::task::spawn_blocking(move || work(&*store)).await;
        done.unwrap_or_else(|error| Err(StoreError::Broken(error.to_string().into())))
    }

    fn check_target(&self, branch: &BranchSpec) -> Result<(), EngineError> {
        let checked = self.participants.check(&branch.target);
        checked.map_err(|error| EngineError::Target {
            branch: branch.id.clone(),
            error,
        })
    }

    /// Why a driver went away without an answer.
    fn gone(&self) -> EngineError {
        match self.broken.get() {
            Some(error) => error.clone().into(),
            None => EngineError::ShuttingDown,
        }
    }

    /// The store has failed: nothing more is taken on, said or sent.
    fn fail(&self, error: &StoreError) {
        tracing::error!(%error, "the store has failed; stopping");
        let _ = self.broken.set(error.clone()); // the first reason is the one that counts
        self.drain();
        self.stop();
    }

    /// Drivers are told, instead of each waiting for the tokens: that would cost every one of their steps
    /// a registration in a place that all share.
    fn drain(&self) {
        self.draining.cancel();
        self.live.look();
    }

    fn stop(&self) {
        self.stopped.cancel();
        self.live.look();
    }
}
