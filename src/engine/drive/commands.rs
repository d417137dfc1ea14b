//! What a driver is told to do.

use std::{sync::Arc, time::Duration};

use tercet_core::{
    outcome::ReplyMode,
    payload::Failure,
    request::Request,
    step::{Step, Timer},
    transaction::Transaction,
};
use tokio::time::Instant;

use super::Drive;
use crate::{
    engine::{
        EngineError,
        admission::Room,
        callers::is_settled,
        draft::Draft,
        live::{Command, Done, Reply, Submission},
    },
    gate::Permit,
    store::{Origin, StoreError},
};

impl Drive {
    pub(super) async fn command(&mut self, command: Command) -> Result<(), StoreError> {
        match command {
            Command::Submit(submission, reply) => self.submit(submission, reply).await,
            Command::Ask(request, wait, reply) => self.ask(request, wait, reply).await,
            Command::Rollback(cause, reply) => self.rollback(cause, reply).await,
            Command::Follow | Command::Look => Ok(()),
            Command::Wake(permit) => {
                drop(self.engine.schedule.take(&self.id));
                self.permit.get_or_insert(permit);
                Ok(())
            }
        }
    }

    /// The same id and content attaches; an id forbidden before its Submit came is answered as it
    /// stands, whatever the content.
    async fn submit(
        &mut self,
        mut submission: Box<Submission>,
        reply: Reply,
    ) -> Result<(), StoreError> {
        let room = submission.room.take();
        if let Some(draft) = &self.draft {
            let known = draft.record().origin.digest;
            let same = known.is_none_or(|digest| digest == submission.new.digest);
            if same {
                return self.answer(reply, false, Ok(())).await;
            }
            reply.refuse(EngineError::IdReused(self.id.clone()));
            return Ok(());
        }
        let (place, turn) = match self.admit(&submission, room) {
            Ok(admitted) => admitted,
            Err(error) => {
                reply.refuse(error);
                return Ok(());
            }
        };
        self.permit = Some(place);
        let (origin, step) = self.begin(*submission);
        let created = self.create(origin, step, reply).await;
        drop(turn);
        created
    }

    fn begin(&mut self, submission: Submission) -> (Origin, Step) {
        let Submission {
            new,
            interactive,
            wait,
            room: _,
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
        (origin, step)
    }

    /// Load, drain and deadline refuse only what is not known yet.
    fn admit(
        &self,
        submission: &Submission,
        room: Option<Room>,
    ) -> Result<(Permit, Option<Permit>), EngineError> {
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
            engine.check_target(branch)?;
        }
        if let Some(Room { place, turn, .. }) = room {
            return Ok((place, Some(turn)));
        }
        let place = engine.admission.place();
        let place = place.ok_or_else(|| engine.admission.refusal())?;
        Ok((place, None))
    }

    async fn create(&mut self, origin: Origin, step: Step, reply: Reply) -> Result<(), StoreError> {
        self.draft = Some(Draft::create(&self.id, origin, step.next.clone()));
        let applied = self.apply(step, "client", None).await;
        self.answer(reply, true, applied).await
    }

    async fn ask(
        &mut self,
        request: Box<Request>,
        wait: Option<Duration>,
        reply: Reply,
    ) -> Result<(), StoreError> {
        let step = match self.refusable(&request) {
            Ok(step) => step,
            Err(error) => {
                reply.refuse(error);
                return Ok(());
            }
        };
        let actor = match *request {
            Request::AddBranch(_) | Request::Commit { .. } | Request::Rollback { .. } => "client",
            Request::Report { .. } => "participant",
            Request::Pause | Request::Resume | Request::Resolve { .. } => "operator",
        };
        let asks_commit = step.next.commit_requested && !self.transaction().commit_requested;
        let applied = self.apply(step, actor, None).await;
        if let (true, Some(wait)) = (asks_commit && self.is_undecided_two_state(), wait) {
            self.timers.arm(Timer::FirstWait, Instant::now() + wait);
        }
        self.answer(reply, asks_commit, applied).await
    }

    /// Answers a command, with nothing older than anybody has read by now (S8).
    async fn answer(
        &mut self,
        reply: Reply,
        first: bool,
        applied: Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let applied = match applied {
            Ok(()) => self.catch_up().await,
            failed => failed,
        };
        match &applied {
            Ok(()) => self.done(reply, first),
            Err(error) => reply.refuse(error.clone().into()),
        }
        applied
    }

    /// A command was carried out. Its caller is held until the outcome is known, if it waits for that.
    fn done(&mut self, reply: Reply, first: bool) {
        let seen = self.seen.borrow().clone();
        let record =
            seen.expect("a command is carried out on a record that was loaded or committed");
        let settled = is_settled(&record);
        let hold = reply.done(Done { first, record });
        if let Some(hold) = hold.filter(|_| !settled) {
            self.held.hold(hold);
        }
    }

    fn refusable(&self, request: &Request) -> Result<Step, EngineError> {
        let Some(draft) = &self.draft else {
            return Err(EngineError::NotFound(self.id.clone()));
        };
        let transaction = draft.transaction();
        if let Request::AddBranch(spec) = request
            && transaction.position(&spec.id).is_none()
        {
            self.engine.check_target(spec)?;
        }
        let step = transaction.request(request.clone(), self.context());
        step.map_err(|refusal| EngineError::Refused {
            id: self.id.clone(),
            refusal,
        })
    }

    async fn rollback(&mut self, cause: Failure, reply: Reply) -> Result<(), StoreError> {
        if self.draft.is_some() {
            let request = Box::new(Request::Rollback { cause });
            return self.ask(request, None, reply).await;
        }
        let now_ms = self.engine.clock.unix_ms();
        let origin = Origin {
            create_ms: now_ms,
            expire_ms: now_ms,
            ..Origin::default()
        };
        self.create(origin, Transaction::forbid(cause), reply).await
    }
}
