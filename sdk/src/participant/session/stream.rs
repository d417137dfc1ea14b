//! One session: calls come in, each runs in a task of its own, replies go out in the order in which
//! they are done.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tercet_core::operation::Operation;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};
use tonic::{Status, Streaming, transport::Channel};

use super::{outbox::Outbox, running::Running};
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
            Some(Frame::Calls(calls)) => {
                calls.calls.into_iter().for_each(|it| self.call(it, outbox))
            }
            Some(Frame::Drain(_)) => {
                let participant = &self.hello.participant;
                tracing::info!(participant, "the coordinator is going away");
            }
            Some(Frame::Welcome(_) | Frame::Heartbeat(_)) | None => {}
        }
        Ok(())
    }

    /// Runs a call to its end, whatever becomes of the session.
    fn call(&self, call: SessionCall, outbox: &Outbox) {
        let running = self.running.begin();
        let (calls, outbox) = (Arc::clone(&self.calls), outbox.clone());
        tokio::spawn(async move {
            let response = response(calls, call.request).await;
            outbox.reply(SessionReply {
                call_id: call.call_id,
                response: Some(response),
            });
            drop(running);
        });
    }
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

async fn response<F: Fence>(calls: Arc<Calls<F>>, request: Option<Request>) -> Response {
    let performed = match request {
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
    performed.unwrap_or_else(|problem| Response::Indeterminate(problem.into_failure()))
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
