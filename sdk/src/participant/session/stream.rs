//! One session: calls come in, run side by side, and replies go out in the order in which they are done.
//!
//! Calls of one frame share tasks, a few each, for as long as they need not wait: a task costs more than
//! what most of them do. One that waits goes on in a task of its own.

use std::{future::Future, pin::Pin, sync::Arc, task::Poll, time::Duration};

use tercet_core::operation::Operation;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tonic::{Status, Streaming, transport::Channel};

use super::{
    outbox::Outbox,
    running::{Running, RunningCall},
};
use crate::{
    participant::{DRAIN_MAX, answer, calls::Calls, convert, fence::Fence, problem::Problem},
    proto::participant::v1::{
        OpenSessionResponse, SessionCall, SessionHello, SessionReply, SessionWelcome,
        open_session_response::Frame, session_call::Request, session_reply::Response,
        session_service_client::SessionServiceClient,
    },
};

/// How long the coordinator may take to say welcome.
const WELCOME_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the coordinator may take to end a stream whose other half has ended.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// What a heartbeat may be; another one is as good as none said.
const HEARTBEAT_MIN: Duration = Duration::from_millis(10);
const HEARTBEAT_MAX: Duration = Duration::from_secs(600);
const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);
/// Heartbeats in which nothing is heard until the coordinator counts as gone.
const HEARTBEATS_MISSED_MAX: u32 = 3;

/// Calls that begin in one task; the more, the longer the last of them waits for the others' first steps.
const CALLS_PER_TASK: usize = 16;

/// Who takes the calls.
pub(super) struct Host<F: Fence> {
    pub(super) calls: Arc<Calls<F>>,
    pub(super) hello: SessionHello,
    pub(super) running: Running,
}

/// How a session ended.
pub(super) enum Ended {
    Shutdown,
    /// Never opened, or lost.
    Broken(Status),
}

impl<F: Fence> Host<F> {
    /// Opens a session and works until it ends or `shutdown` completes.
    pub(super) async fn session(
        &self,
        channel: Channel,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> Ended {
        let (outbox, requests) = Outbox::new(self.hello.clone());
        let _close = outbox.close_at_end();
        let opened = tokio::select! {
            biased;
            () = &mut shutdown => return Ended::Shutdown,
            opened = timeout(WELCOME_TIMEOUT, open(channel, requests)) => opened,
        };
        let too_late = || Status::deadline_exceeded("the coordinator did not say welcome");
        let (welcome, mut frames) = match opened.unwrap_or_else(|_| Err(too_late())) {
            Ok(opened) => opened,
            Err(status) => return Ended::Broken(status),
        };
        let SessionWelcome { session_id, .. } = &welcome;
        tracing::info!(
            participant = self.hello.participant,
            session_id,
            "a session is open"
        );
        let mut silence = Silence::new(heartbeat(&welcome));
        outbox.beat(silence.heartbeat);
        loop {
            let frame = tokio::select! {
                biased;
                () = &mut shutdown => break,
                frame = frames.message() => frame,
                silent = silence.too_long() => return Ended::Broken(silent),
            };
            silence.missed = 0;
            if let Err(status) = self.take(frame, &outbox) {
                return Ended::Broken(status);
            }
        }
        self.leave(&outbox, frames).await;
        Ended::Shutdown
    }

    /// Asks for no new Try, answers what is under way, and ends the session.
    async fn leave(&self, outbox: &Outbox, mut frames: Streaming<OpenSessionResponse>) {
        outbox.drain();
        let idle = async {
            loop {
                let frame = tokio::select! {
                    biased;
                    () = self.running.idle() => return,
                    frame = frames.message() => frame,
                };
                if self.take(frame, outbox).is_err() {
                    return self.running.idle().await;
                }
            }
        };
        let _ = timeout(DRAIN_MAX, idle).await; // who asked for the shutdown waits no longer
        outbox.close();
        let ended = async { while let Ok(Some(_)) = frames.message().await {} };
        let _ = timeout(CLOSE_TIMEOUT, ended).await; // the replies have been sent, at least
    }

    /// One frame of the coordinator; an error when there is none to come.
    fn take(
        &self,
        frame: Result<Option<OpenSessionResponse>, Status>,
        outbox: &Outbox,
    ) -> Result<(), Status> {
        let ended = || Status::unavailable("the coordinator has ended the session");
        match frame?.ok_or_else(ended)?.frame {
            Some(Frame::Calls(calls)) => self.run(calls.calls, outbox),
            Some(Frame::Drain(_)) => {
                let participant = &self.hello.participant;
                tracing::info!(participant, "the coordinator is going away");
            }
            Some(Frame::Welcome(_) | Frame::Heartbeat(_)) | None => {}
        }
        Ok(())
    }

    /// Runs calls to their end, whatever becomes of the session.
    fn run(&self, calls: Vec<SessionCall>, outbox: &Outbox) {
        let mut calls = calls.into_iter().map(|call| (call, self.running.begin()));
        loop {
            let some: Vec<_> = calls.by_ref().take(CALLS_PER_TASK).collect();
            if some.is_empty() {
                return;
            }
            tokio::spawn(begin(Arc::clone(&self.calls), some, outbox.clone()));
        }
    }
}

/// Answers those that need not wait, all at once; the others go on by themselves.
async fn begin<F: Fence>(
    calls: Arc<Calls<F>>,
    some: Vec<(SessionCall, RunningCall)>,
    outbox: Outbox,
) {
    let mut done = Vec::with_capacity(some.len());
    for (call, running) in some {
        let mut reply = Box::pin(reply(Arc::clone(&calls), call));
        match futures::poll!(&mut reply) {
            Poll::Ready(reply) => done.push((reply, running)),
            Poll::Pending => drop(tokio::spawn(go_on(reply, running, outbox.clone()))),
        }
    }
    let (replies, running): (Vec<_>, Vec<_>) = done.into_iter().unzip();
    outbox.reply(replies);
    drop(running);
}

async fn go_on(reply: impl Future<Output = SessionReply>, running: RunningCall, outbox: Outbox) {
    outbox.reply([reply.await]);
    drop(running);
}

async fn open(
    channel: Channel,
    requests: super::outbox::Frames,
) -> Result<(SessionWelcome, Streaming<OpenSessionResponse>), Status> {
    let mut client = SessionServiceClient::new(channel);
    let mut frames = client.open_session(requests).await?.into_inner();
    match frames.message().await?.and_then(|it| it.frame) {
        Some(Frame::Welcome(welcome)) => Ok((welcome, frames)),
        _ => Err(Status::internal(
            "the coordinator's first frame was no welcome",
        )),
    }
}

async fn reply<F: Fence>(calls: Arc<Calls<F>>, call: SessionCall) -> SessionReply {
    let performed = match call.request {
        Some(Request::TryCall(it)) => {
            let reply = answer::perform(calls, Operation::Try, it.context, it.payload).await;
            reply.map(|reply| Response::TryReply(convert::try_response(reply)))
        }
        Some(Request::ConfirmCall(it)) => {
            let reply = answer::perform(calls, Operation::Confirm, it.context, it.payload).await;
            reply.map(|reply| Response::ConfirmReply(convert::confirm_response(reply)))
        }
        Some(Request::CancelCall(it)) => {
            let reply = answer::perform(calls, Operation::Cancel, it.context, it.payload).await;
            reply.map(|reply| Response::CancelReply(convert::cancel_response(reply)))
        }
        Some(Request::QueryCall(it)) => {
            let recorded = answer::query(calls, it.context).await;
            recorded.map(|recorded| Response::QueryReply(convert::query_response(recorded)))
        }
        None => Err(Problem::FieldInvalid {
            field: "request",
            what: "it is none that this version knows".to_owned(),
        }),
    };
    let indeterminate = |problem: Problem| Response::Indeterminate(problem.into_failure());
    SessionReply {
        call_id: call.call_id,
        response: Some(performed.unwrap_or_else(indeterminate)),
    }
}

fn heartbeat(welcome: &SessionWelcome) -> Duration {
    let said = welcome.heartbeat_interval.and_then(|it| it.try_into().ok());
    let usable = said.filter(|it| (HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(it));
    usable.unwrap_or(HEARTBEAT_DEFAULT)
}

/// Notices when nothing is heard any more.
struct Silence {
    heartbeat: Duration,
    beats: Interval,
    missed: u32,
}

impl Silence {
    fn new(heartbeat: Duration) -> Self {
        let mut beats = interval_at(Instant::now() + heartbeat, heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            heartbeat,
            beats,
            missed: 0,
        }
    }

    async fn too_long(&mut self) -> Status {
        while self.missed <= HEARTBEATS_MISSED_MAX {
            self.beats.tick().await;
            self.missed += 1;
        }
        let silence = self.heartbeat * HEARTBEATS_MISSED_MAX;
        Status::unavailable(format!("the coordinator was not heard for {silence:?}"))
    }
}
