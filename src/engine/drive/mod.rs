//! One live transaction: take in what happens, step, commit, perform.
//!
//! Everything that moves a transaction goes through here, one thing at a time: commands, answers of
//! participants, timers. A step that must be durable is committed before its effects are opened; any
//! other step is committed soon, or with the next one. At most one commit is under way.

mod commands;
mod lifecycle;
mod saving;

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
    receipt::Receipt,
    step::{Call, Context, Durability, Effect, Input, Step, Timer},
    transaction::{State, Transaction},
};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    Inner,
    admission::Permit,
    draft::{Draft, Stamp},
    live::{Command, Hold, Seen},
    loading::Grace,
    timers::Timers,
};
use crate::{
    participants::Outgoing,
    store::{Record, StoreError},
};

/// Starts the driver of one transaction. It ends by itself.
pub(super) fn spawn(
    engine: Arc<Inner>,
    id: TransactionId,
    inbox: mpsc::Receiver<Command>,
    seen: watch::Sender<Seen>,
) {
    let drivers = engine.drivers.clone();
    let drive = Drive {
        engine,
        id,
        inbox,
        seen,
        held: Vec::new(),
        draft: None,
        timers: Timers::default(),
        grace: None,
        calls: FuturesUnordered::new(),
        flying: Vec::new(),
        calls_begun: 0,
        saving: None,
        save_again: false,
        leaving: false,
        permit: None,
    };
    drivers.spawn(drive.run());
}

struct Drive {
    engine: Arc<Inner>,
    id: TransactionId,
    inbox: mpsc::Receiver<Command>,
    /// The last acknowledged record, for whoever follows.
    seen: watch::Sender<Seen>,
    /// Whoever waits for the outcome.
    held: Vec<Hold>,
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
    /// The engine drains, and this driver knows.
    leaving: bool,
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
            let idle = self.is_idle();
            if idle && self.retire() {
                return Ok(());
            }
            match self.next(idle).await {
                Happened::Command(command) => self.command(command).await?,
                Happened::Ended(Some(ended)) => self.call_ended(ended).await?,
                Happened::Saved(record, result) => self.saved(record, result)?,
                Happened::Due => self.due().await?,
                Happened::Draining => self.prepare_to_leave().await?,
                Happened::Ended(None) | Happened::Unfollowed => {}
                Happened::Stopped => return self.hand_back().await,
            }
        }
    }

    /// Waits for the next thing to happen. Who drains or stops the engine says so with a command, so that
    /// it need not be waited for here.
    async fn next(&mut self, idle: bool) -> Happened {
        if self.engine.stopped.is_cancelled() {
            return Happened::Stopped;
        }
        let due = self.timers.next();
        let followed = self.seen.receiver_count() > 0;
        let heeds_draining = !self.leaving || (self.is_undecided_two_state() && followed);
        let draining = heeds_draining && self.engine.draining.is_cancelled();
        tokio::select! {
            biased;
            (record, result) = async { self.saving.as_mut().expect("guarded").await },
                if self.saving.is_some() => Happened::Saved(record, result),
            Some(ended) = self.calls.next(), if !self.calls.is_empty() => Happened::Ended(ended),
            Some(command) = self.inbox.recv() => Happened::Command(command),
            () = async { tokio::time::sleep_until(due.expect("guarded")).await },
                if due.is_some() => Happened::Due,
            () = std::future::ready(()), if draining => Happened::Draining,
            // Anything else comes first as long as something moves.
            () = self.seen.closed(), if idle && followed => Happened::Unfollowed,
        }
    }

    async fn due(&mut self) -> Result<(), StoreError> {
        while let Some(timer) = self.timers.take_due(Instant::now()) {
            let step = self.transaction().step(Input::Due(timer), self.context());
            self.apply(step, "recovery", None).await?;
        }
        Ok(())
    }

    /// No attempt is waited for any more, and a TWO_STATE caller gets its decision before the process
    /// goes away.
    async fn prepare_to_leave(&mut self) -> Result<(), StoreError> {
        self.leaving = true;
        if !self.is_undecided_two_state() || self.seen.receiver_count() == 0 {
            return Ok(());
        }
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
