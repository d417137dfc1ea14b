//! One live transaction: take in what happens, step, commit, perform.
//!
//! Everything that moves a transaction goes through here, one thing at a time: commands, answers of
//! participants, timers. A step that must be durable is committed before its effects are opened; any
//! other step is committed soon, or with the next one. At most one commit is under way.

mod calls;
mod commands;
mod held;
mod lifecycle;
mod saving;

use std::{future::poll_fn, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tercet_core::{
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

use self::{
    calls::{Calls, End, Ended},
    held::Held,
};
use super::{
    Inner,
    draft::{Draft, Stamp},
    live::{Command, Seen},
    loading::Grace,
    timers::{Alarm, Timers},
};
use crate::{
    gate::Permit,
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
    let mut drive = Drive {
        engine,
        id,
        inbox,
        seen,
        held: Held::default(),
        draft: None,
        timers: Timers::default(),
        alarm: Alarm::default(),
        grace: None,
        calls: Calls::default(),
        saving: None,
        save_again: false,
        leaving: false,
        permit: None,
    };
    drivers.spawn(async move {
        if let Err(error) = drive.drive().await {
            drive.give_up(&error);
        }
    });
}

struct Drive {
    engine: Arc<Inner>,
    id: TransactionId,
    inbox: mpsc::Receiver<Command>,
    /// The last acknowledged record, for whoever follows.
    seen: watch::Sender<Seen>,
    /// Whoever waits for the outcome.
    held: Held,
    /// None as long as nothing is known of this id.
    draft: Option<Draft>,
    timers: Timers,
    /// Set to the earliest of them.
    alarm: Alarm,
    /// After a restart: how long the deadline waits for participants to be heard.
    grace: Option<Grace>,
    calls: Calls,
    saving: Option<Saving>,
    /// Something has to be saved as soon as the commit under way has ended.
    save_again: bool,
    /// The engine drains, and this driver knows.
    leaving: bool,
    permit: Option<Permit>,
}

type Saving = BoxFuture<'static, (Arc<Record>, Result<Receipt, StoreError>)>;

/// What a driver waits for.
enum Happened {
    Command(Command),
    Ended(Ended),
    Saved(Arc<Record>, Result<Receipt, StoreError>),
    Due,
    Unfollowed,
    Draining,
    Stopped,
}

impl Drive {
    async fn drive(&mut self) -> Result<(), StoreError> {
        self.load().await?;
        loop {
            let idle = self.is_idle();
            if idle && self.retire() {
                return Ok(());
            }
            match self.next(idle).await {
                Happened::Command(command) => self.command(command).await?,
                Happened::Ended(ended) => self.call_ended(ended).await?,
                Happened::Saved(record, result) => self.saved(record, result)?,
                Happened::Due => self.due().await?,
                Happened::Draining => self.prepare_to_leave().await?,
                Happened::Unfollowed => {}
                Happened::Stopped => return self.hand_back().await,
            }
        }
    }

    /// Waits for the next thing to happen. Who drains or stops the engine says so with a command, so that
    /// it need not be waited for here; it drains before it stops.
    async fn next(&mut self, idle: bool) -> Happened {
        let draining = self.engine.draining.is_cancelled();
        if draining && self.engine.stopped.is_cancelled() {
            return Happened::Stopped;
        }
        let due = self.timers.next();
        let followed = self.seen.receiver_count() > 0;
        let heeds_draining = !self.leaving || (self.is_undecided_two_state() && followed);
        let draining = heeds_draining && draining;
        tokio::select! {
            biased;
            (record, result) = async { self.saving.as_mut().expect("guarded").await },
                if self.saving.is_some() => Happened::Saved(record, result),
            ended = self.calls.next() => Happened::Ended(ended),
            Some(command) = self.inbox.recv() => Happened::Command(command),
            () = poll_fn(|context| self.alarm.poll(due, context)) => Happened::Due,
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
        let Ended { call, begun, end } = ended;
        let Call {
            branch, operation, ..
        } = call;
        let input = match end {
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

    /// Carries a step out, in the order that its durability asks for. It is taken in at once, so that the
    /// future has only what is still to be done.
    fn apply(
        &mut self,
        step: Step,
        actor: &'static str,
        latency: Option<Duration>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send {
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
        async move {
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

    fn call(&mut self, call: Call) {
        self.timers.cancel(Timer::Attempt(call.branch));
        let Some(draft) = &mut self.draft else { return };
        draft.call_begins(call, self.engine.clock.unix_ms());
        self.calls.begin(call, &self.engine, draft.record());
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
