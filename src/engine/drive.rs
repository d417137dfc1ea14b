//! One live transaction: take in what happens, step, commit, perform.
//!
//! Everything that moves a transaction goes through here, one thing at a time: commands, answers of
//! participants, timers. A step that must be durable is committed before its effects are opened; any
//! other step is committed soon, or with the next one. At most one commit is under way.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt,
    future::{AbortHandle, BoxFuture, abortable},
    stream::FuturesUnordered,
};
use tercet_core::{
    answer::{Answer, QueryAnswer},
    ids::TransactionId,
    outcome::ReplyMode,
    payload::Failure,
    receipt::Receipt,
    request::Request,
    step::{Call, Context, Durability, Effect, Input, Step, Timer},
    transaction::{State, Transaction},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};
use tracing::Instrument as _;

use super::{
    EngineError, Inner,
    admission::Permit,
    draft::{Draft, Stamp},
    live::{Command, Reply, Seen, Submission},
    loading::{self, Grace},
    timers::Timers,
};
use crate::{
    participants::Outgoing,
    store::{Origin, Record, StoreError},
};

/// A timer this near keeps its transaction in memory: parking and loading it again costs more.
const STAYS_FOR: Duration = Duration::from_secs(2);

/// Starts the driver of one transaction. It ends by itself.
pub(super) fn spawn(
    engine: Arc<Inner>,
    id: TransactionId,
    inbox: mpsc::Receiver<Command>,
    seen: watch::Sender<Seen>,
) {
    let span = tracing::info_span!("transaction", %id);
    let drivers = engine.drivers.clone();
    let drive = Drive {
        engine,
        id,
        inbox,
        seen,
        draft: None,
        timers: Timers::default(),
        grace: None,
        calls: FuturesUnordered::new(),
        flying: Vec::new(),
        calls_begun: 0,
        saving: None,
        save_again: false,
        permit: None,
    };
    drivers.spawn(drive.run().instrument(span));
}

struct Drive {
    engine: Arc<Inner>,
    id: TransactionId,
    inbox: mpsc::Receiver<Command>,
    /// The last acknowledged record, for whoever follows.
    seen: watch::Sender<Seen>,
    /// None as long as nothing is known of this id.
    draft: Option<Draft>,
    timers: Timers,
    /// After a restart: how long the deadline waits for participants to be heard.
    grace: Option<Grace>,
    calls: FuturesUnordered<BoxFuture<'static, Option<Ended>>>,
    flying: Vec<Flying>,
    calls_begun: u64,
    saving: Option<Saving>,
    /// Something has to be saved as soon as the commit under way has ended.
    save_again: bool,
    permit: Option<Permit>,
}

type Saving = BoxFuture<'static, (Arc<Record>, Result<Receipt, StoreError>)>;

/// A call that is out.
struct Flying {
    number: u64,
    call: Call,
    begun: Instant,
    abort: AbortHandle,
}

/// A call that has ended.
struct Ended {
    number: u64,
    end: End,
}

enum End {
    Performed(Answer),
    Queried(QueryAnswer),
}

/// What a driver waits for.
enum Happened {
    Command(Command),
    Ended(Option<Ended>),
    Saved(Arc<Record>, Result<Receipt, StoreError>),
    Due,
    Unfollowed,
    Draining,
    Stopped,
}

impl Drive {
    async fn run(mut self) {
        if let Err(error) = self.drive().await {
            self.give_up(&error);
        }
    }

    async fn drive(&mut self) -> Result<(), StoreError> {
        self.load().await?;
        loop {
            if self.is_idle() && self.retire() {
                return Ok(());
            }
            match self.next().await {
                Happened::Command(command) => self.command(command).await?,
                Happened::Ended(Some(ended)) => self.call_ended(ended).await?,
                Happened::Saved(record, result) => self.saved(record, result)?,
                Happened::Due => self.due().await?,
                Happened::Draining => self.decide_before_leaving().await?,
                Happened::Ended(None) | Happened::Unfollowed => {}
                Happened::Stopped => return self.hand_back().await,
            }
        }
    }

    async fn next(&mut self) -> Happened {
        let due = self.timers.next();
        let followed = self.seen.receiver_count() > 0;
        let heeds_draining = self.is_undecided_two_state() && followed;
        tokio::select! {
            biased;
            () = self.engine.stopped.cancelled() => Happened::Stopped,
            (record, result) = async { self.saving.as_mut().expect("guarded").await },
                if self.saving.is_some() => Happened::Saved(record, result),
            Some(ended) = self.calls.next(), if !self.calls.is_empty() => Happened::Ended(ended),
            Some(command) = self.inbox.recv() => Happened::Command(command),
            () = async { tokio::time::sleep_until(due.expect("guarded")).await },
                if due.is_some() => Happened::Due,
            () = self.engine.draining.cancelled(), if heeds_draining => Happened::Draining,
            () = self.seen.closed(), if followed => Happened::Unfollowed,
        }
    }

    async fn command(&mut self, command: Command) -> Result<(), StoreError> {
        match command {
            Command::Submit(submission, reply) => self.submit(*submission, reply).await,
            Command::Ask(request, wait, reply) => self.ask(*request, wait, reply).await,
            Command::Rollback(cause, reply) => self.rollback(cause, reply).await,
            Command::Follow => Ok(()),
            Command::Wake(permit) => {
                drop(self.engine.schedule.take(&self.id));
                self.permit.get_or_insert(permit);
                Ok(())
            }
        }
    }

    /// The same id and content attaches; an id forbidden before its Submit came is answered as it
    /// stands, whatever the content.
    async fn submit(&mut self, submission: Submission, reply: Reply) -> Result<(), StoreError> {
        if let Some(draft) = &self.draft {
            let known = draft.record().origin.digest;
            let same = known.is_none_or(|digest| digest == submission.new.digest);
            let answer = if same {
                Ok(false)
            } else {
                Err(EngineError::IdReused(self.id.clone()))
            };
            let _ = reply.send(answer); // a caller that went away changes nothing
            return Ok(());
        }
        match self.admit(&submission) {
            Ok(permit) => self.permit = Some(permit),
            Err(error) => {
                let _ = reply.send(Err(error));
                return Ok(());
            }
        }
        let Submission {
            new,
            interactive,
            wait,
        } = submission;
        let origin = new.origin(self.engine.clock.unix_ms(), fastrand::u128(..));
        let timeout = Duration::from_millis(new.timeout_ms);
        let (mode, policy) = (new.mode, Arc::new(new.policy));
        let step = if interactive {
            Transaction::begin(mode, policy)
        } else {
            Transaction::submit(
                mode,
                policy,
                new.branches.into_iter().map(Arc::new).collect(),
            )
        };
        self.timers.arm(Timer::Expire, Instant::now() + timeout);
        if mode == ReplyMode::TwoState && !interactive {
            self.timers.arm(Timer::FirstWait, Instant::now() + wait);
        }
        self.create(origin, step, reply).await
    }

    /// Load, drain and deadline refuse only what is not known yet.
    fn admit(&self, submission: &Submission) -> Result<Permit, EngineError> {
        let engine = &self.engine;
        if engine.draining.is_cancelled() {
            return Err(engine.gone());
        }
        let late_ms = submission
            .new
            .submit_expire_ms
            .map(|until| engine.clock.unix_ms() - until);
        if let Some(late_ms) = late_ms
            .and_then(|late| u64::try_from(late).ok())
            .filter(|late| *late > 0)
        {
            return Err(EngineError::SubmitExpired {
                id: self.id.clone(),
                late_ms,
            });
        }
        for branch in &submission.new.branches {
            engine
                .participants
                .check(&branch.target)
                .map_err(|error| EngineError::Target {
                    branch: branch.id.clone(),
                    error,
                })?;
        }
        engine.admission.admit_new()
    }

    async fn create(&mut self, origin: Origin, step: Step, reply: Reply) -> Result<(), StoreError> {
        self.draft = Some(Draft::create(&self.id, origin, step.next.clone()));
        if let Err(error) = self.apply(step, "client", None).await {
            let _ = reply.send(Err(error.clone().into()));
            return Err(error);
        }
        let _ = reply.send(Ok(true));
        Ok(())
    }

    async fn ask(
        &mut self,
        request: Request,
        wait: Option<Duration>,
        reply: Reply,
    ) -> Result<(), StoreError> {
        let step = match self.refusable(&request) {
            Ok(step) => step,
            Err(error) => {
                let _ = reply.send(Err(error));
                return Ok(());
            }
        };
        let actor = match request {
            Request::AddBranch(_) | Request::Commit { .. } | Request::Rollback { .. } => "client",
            Request::Report { .. } => "participant",
            Request::Pause | Request::Resume | Request::Resolve { .. } => "operator",
        };
        let asks_commit = step.next.commit_requested && !self.transaction().commit_requested;
        let applied = self.apply(step, actor, None).await;
        if let (true, Some(wait)) = (asks_commit && self.is_undecided_two_state(), wait) {
            self.timers.arm(Timer::FirstWait, Instant::now() + wait);
        }
        let _ = reply.send(
            applied
                .clone()
                .map(|()| asks_commit)
                .map_err(EngineError::from),
        );
        applied
    }

    fn refusable(&self, request: &Request) -> Result<Step, EngineError> {
        let Some(draft) = &self.draft else {
            return Err(EngineError::NotFound(self.id.clone()));
        };
        let transaction = draft.transaction();
        if let Request::AddBranch(spec) = request
            && transaction.position(&spec.id).is_none()
        {
            self.engine
                .participants
                .check(&spec.target)
                .map_err(|error| EngineError::Target {
                    branch: spec.id.clone(),
                    error,
                })?;
        }
        let step = transaction.request(request.clone(), self.context());
        step.map_err(|refusal| EngineError::Refused {
            id: self.id.clone(),
            refusal,
        })
    }

    async fn rollback(&mut self, cause: Failure, reply: Reply) -> Result<(), StoreError> {
        if self.draft.is_some() {
            return self.ask(Request::Rollback { cause }, None, reply).await;
        }
        let now_ms = self.engine.clock.unix_ms();
        let origin = Origin {
            create_ms: now_ms,
            expire_ms: now_ms,
            ..Origin::default()
        };
        self.create(origin, Transaction::forbid(cause), reply).await
    }

    async fn due(&mut self) -> Result<(), StoreError> {
        while let Some(timer) = self.timers.take_due(Instant::now()) {
            let step = self.transaction().step(Input::Due(timer), self.context());
            self.apply(step, "recovery", None).await?;
        }
        Ok(())
    }

    /// A TWO_STATE caller gets its decision before the process goes away.
    async fn decide_before_leaving(&mut self) -> Result<(), StoreError> {
        let step = self
            .transaction()
            .step(Input::Due(Timer::FirstWait), self.context());
        self.apply(step, "recovery", None).await
    }

    async fn call_ended(&mut self, ended: Ended) -> Result<(), StoreError> {
        let Some(at) = self.flying.iter().position(|it| it.number == ended.number) else {
            return Ok(()); // replaced by a later call
        };
        let Flying { call, begun, .. } = self.flying.swap_remove(at);
        let Call {
            branch, operation, ..
        } = call;
        let input = match ended.end {
            End::Performed(answer) => Input::Answered {
                branch,
                operation,
                answer,
            },
            End::Queried(answer) => Input::Queried {
                branch,
                operation,
                answer,
            },
        };
        let repeated = call.query || call.attempt > 1;
        let actor = if repeated { "recovery" } else { "client" };
        let step = self.transaction().step(input, self.context());
        self.apply(step, actor, Some(begun.elapsed())).await?;
        if let Some(deadline) = self.grace.as_mut().and_then(|grace| grace.heard(branch)) {
            self.timers.arm(Timer::Expire, deadline);
        }
        Ok(())
    }

    /// Carries a step out, in the order that its durability asks for.
    async fn apply(
        &mut self,
        step: Step,
        actor: &'static str,
        latency: Option<Duration>,
    ) -> Result<(), StoreError> {
        let Step {
            next,
            events,
            durability,
            effects,
        } = step;
        let decided = next.state != State::Trying;
        let stamp = Stamp {
            now_ms: self.engine.clock.unix_ms(),
            actor,
            latency,
        };
        self.draft
            .as_mut()
            .expect("a step is of a known transaction")
            .take_in(next, events, &stamp);
        let effects = match effects.open_unsynced() {
            Ok(effects) => effects,
            Err(sealed) => sealed.open(self.save().await?),
        };
        if decided {
            self.timers.keep_attempts();
        }
        for effect in effects {
            self.perform(effect);
        }
        if durability == Durability::Lazy {
            self.save_soon();
        }
        Ok(())
    }

    fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Call(call) => self.call(call),
            Effect::Arm { timer, delay_ms } => {
                self.timers
                    .arm(timer, Instant::now() + Duration::from_millis(delay_ms));
                if let (Timer::Attempt(branch), Some(draft)) = (timer, &mut self.draft) {
                    draft.call_waits(branch, delay_ms, self.engine.clock.unix_ms());
                }
            }
        }
    }

    /// One call of a branch is out at a time: a new one takes the place of what it overtakes.
    fn call(&mut self, call: Call) {
        self.timers.cancel(Timer::Attempt(call.branch));
        self.flying.retain(|it| {
            let other = it.call.branch != call.branch;
            if !other {
                it.abort.abort();
            }
            other
        });
        let Some(draft) = &mut self.draft else { return };
        draft.call_begins(call, self.engine.clock.unix_ms());
        let outgoing = outgoing(&self.engine, draft.record(), call);
        let participants = Arc::clone(&self.engine.participants);
        self.calls_begun += 1;
        let number = self.calls_begun;
        let (future, abort) = abortable(async move {
            let end = if call.query {
                End::Queried(participants.query(outgoing).await)
            } else {
                End::Performed(participants.perform(outgoing).await)
            };
            Ended { number, end }
        });
        self.calls.push(Box::pin(async move { future.await.ok() }));
        self.flying.push(Flying {
            number,
            call,
            begun: Instant::now(),
            abort,
        });
    }

    /// Commits what is known, and shows it, before anything that follows from it.
    async fn save(&mut self) -> Result<Receipt, StoreError> {
        self.end_saving().await?;
        let record = self.seal();
        let receipt = self.engine.store.commit(Arc::clone(&record)).await?;
        self.show(record, &receipt);
        Ok(receipt)
    }

    /// Commits what is known; nobody waits for it.
    fn save_soon(&mut self) {
        if self.saving.is_some() {
            self.save_again = true;
            return;
        }
        let record = self.seal();
        let commit = self.engine.store.commit(Arc::clone(&record));
        self.saving = Some(Box::pin(async move { (record, commit.await) }));
    }

    fn saved(
        &mut self,
        record: Arc<Record>,
        result: Result<Receipt, StoreError>,
    ) -> Result<(), StoreError> {
        self.saving = None;
        self.show(record, &result?);
        if std::mem::take(&mut self.save_again) {
            self.save_soon();
        }
        Ok(())
    }

    async fn end_saving(&mut self) -> Result<(), StoreError> {
        self.save_again = false;
        if let Some(saving) = self.saving.take() {
            let (record, result) = saving.await;
            self.show(record, &result?);
        }
        Ok(())
    }

    fn seal(&mut self) -> Arc<Record> {
        let engine = &self.engine;
        let draft = self.draft.as_mut().expect("there is something to save");
        draft.seal(
            engine.store.identity(),
            engine.clock.unix_ms(),
            engine.config.retention_ms,
        )
    }

    /// Nothing is shown that the store has not acknowledged.
    fn show(&self, record: Arc<Record>, _receipt: &Receipt) {
        self.seen.send_replace(Some(record));
    }

    async fn load(&mut self) -> Result<(), StoreError> {
        let parked = self.engine.schedule.take(&self.id);
        let Some(record) = self.engine.store.read(&self.id)? else {
            return Ok(());
        };
        self.seen.send_replace(Some(Arc::clone(&record)));
        self.draft = Some(Draft::loaded(&record));
        if record.transaction.state.is_terminal() {
            return Ok(());
        }
        if let Some(timers) = parked {
            self.timers = timers;
            return Ok(());
        }
        self.timers = loading::timers(&record, self.engine.clock.unix_ms());
        self.grace = Grace::hold(&record, &mut self.timers);
        let step = record.transaction.step(Input::Recovered, self.context());
        self.apply(step, "recovery", None).await
    }

    /// True when nothing moves and nothing will very soon, and the store has all of it.
    fn is_idle(&mut self) -> bool {
        let Some(draft) = &self.draft else {
            return true;
        };
        if draft.transaction().state.is_terminal() {
            return self.saving.is_none();
        }
        let near = Instant::now() + STAYS_FOR;
        let soon = self.timers.next().is_some_and(|at| at < near);
        if soon || !self.flying.is_empty() || self.saving.is_some() {
            return false;
        }
        if draft.is_dirty() {
            self.save_soon();
            return false;
        }
        true
    }

    /// Leaves the live ones; what is unfinished stays in the schedule until its next timer.
    fn retire(&mut self) -> bool {
        let unfinished = self
            .draft
            .as_ref()
            .is_some_and(|draft| !draft.transaction().state.is_terminal());
        let Self {
            engine,
            id,
            inbox,
            timers,
            ..
        } = self;
        engine.live.retire(id, inbox, !unfinished, || {
            if unfinished {
                engine.schedule.park(id, std::mem::take(timers));
            }
        })
    }

    /// The process goes away: what is known is saved, the rest is found by the next one.
    async fn hand_back(&mut self) -> Result<(), StoreError> {
        self.end_saving().await?;
        if self.draft.as_ref().is_some_and(Draft::is_dirty) {
            drop(self.save().await?);
        }
        self.leave(&self.engine.gone());
        Ok(())
    }

    fn give_up(&mut self, error: &StoreError) {
        match error {
            StoreError::Broken(_) => self.engine.fail(error),
            StoreError::Corrupt { .. } => tracing::error!(%error, "the record is quarantined"),
            StoreError::Conflict { .. } => tracing::warn!(%error, "reading it again"),
        }
        self.leave(&error.clone().into());
        if let StoreError::Conflict { .. } = error {
            self.engine.schedule.again(&self.id);
        }
    }

    fn leave(&mut self, error: &EngineError) {
        loop {
            while let Ok(command) = self.inbox.try_recv() {
                command.refuse(error.clone());
            }
            if self.engine.live.retire(&self.id, &self.inbox, true, || {}) {
                return;
            }
        }
    }

    fn transaction(&self) -> &Transaction {
        self.draft
            .as_ref()
            .expect("commands and answers are of a known transaction")
            .transaction()
    }

    fn is_undecided_two_state(&self) -> bool {
        self.draft.as_ref().is_some_and(|draft| {
            let transaction = draft.transaction();
            transaction.mode == ReplyMode::TwoState && transaction.state == State::Trying
        })
    }

    fn context(&self) -> Context {
        Context {
            attended: self.seen.receiver_count() > 0,
            jitter: fastrand::i16(-1000..=1000),
        }
    }
}

fn outgoing(engine: &Inner, record: &Record, call: Call) -> Outgoing {
    let branch = &record.transaction.branches[call.branch];
    let identity = engine.store.identity();
    Outgoing {
        realm: identity.realm.clone(),
        epoch: identity.epoch,
        id: record.id.clone(),
        origin: Arc::clone(&record.origin),
        spec: Arc::clone(&branch.spec),
        call,
        try_result: branch.try_result.clone(),
        cause: record.transaction.failure.clone(),
    }
}
