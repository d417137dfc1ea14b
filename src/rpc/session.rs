//! SessionService: participants that connect out come in here.
//!
//! 1. The first frame is SessionHello, within [`HELLO_TIMEOUT`]; until it has been accepted nothing is
//!    sent. Whatever is wrong with it is a gRPC error, never a session.
//! 2. A frame out of turn or one that can't be read ends the session with an error that says so. A
//!    frame of a kind that this version doesn't know is ignored.
//! 3. A participant that isn't heard for [`HEARTBEATS_MISSED_MAX`] heartbeats is gone.
//! 4. There is no authentication yet: who reaches this port may be any participant that is configured
//!    with sessions.

use std::{pin::pin, sync::Arc, time::Duration};

use tercet_core::ids::ParticipantName;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tonic::{Code, Request, Response, Status, Streaming};

use super::faults::Faults;
use crate::{
    participants::{
        GrpcParticipants,
        session::{HEARTBEATS_MISSED_MAX, Hello, MAX_IN_FLIGHT_MAX, Outbox, Session},
    },
    proto::tercet::{
        participant::v1::{
            OpenSessionRequest, SessionHello, open_session_request::Frame,
            session_service_server::SessionService,
        },
        v1::ErrorReason,
    },
};

/// How long a participant may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of each text in a hello, and how many resources it may list.
const TEXT_BYTES_MAX: usize = 256;
const RESOURCES_MAX: usize = 1024;

/// The most bytes that a frame may have: what is asked of participants, and the largest reply beyond it.
pub(super) fn frame_bytes_max(payload_bytes_max: usize) -> usize {
    const FRAME_BYTES: usize = 1024 * 1024;
    const REPLY_OVERHEAD_BYTES: usize = 64 * 1024;
    FRAME_BYTES + REPLY_OVERHEAD_BYTES + 2 * payload_bytes_max
}

/// The service.
pub struct Sessions {
    participants: Arc<GrpcParticipants>,
}

impl Sessions {
    pub(super) fn new(participants: Arc<GrpcParticipants>) -> Self {
        Self { participants }
    }
}

#[tonic::async_trait]
impl SessionService for Sessions {
    type OpenSessionStream = Outbox;

    async fn open_session(
        &self,
        request: Request<Streaming<OpenSessionRequest>>,
    ) -> Result<Response<Outbox>, Status> {
        let mut frames = request.into_inner();
        let hello = timeout(HELLO_TIMEOUT, frames.message()).await;
        let hello = hello.map_err(|_| {
            let why = format!("no SessionHello came within {HELLO_TIMEOUT:?}");
            Status::new(Code::DeadlineExceeded, why)
        })?;
        let Some(Frame::Hello(hello)) = hello?.and_then(|it| it.frame) else {
            return Err(out_of_turn("the first frame must be SessionHello"));
        };
        let (session, outbox) = self.participants.open_session(&parse(hello)?)?;
        tokio::spawn(hear(frames, session));
        Ok(Response::new(outbox))
    }
}

fn parse(hello: SessionHello) -> Result<Hello, Faults> {
    let mut faults = Faults::default();
    let participant = ParticipantName::parse(&hello.participant)
        .map_err(|error| faults.invalid("hello.participant", error));
    if hello.instance_id.is_empty() {
        faults.invalid("hello.instance_id", "it is empty; send a random number");
    }
    let texts = [
        ("hello.instance_id", &hello.instance_id),
        ("hello.sdk_version", &hello.sdk_version),
    ];
    let resources = hello.resources.iter().map(|it| ("hello.resources", it));
    for (field, text) in texts.into_iter().chain(resources) {
        if text.len() > TEXT_BYTES_MAX {
            let found = text.len();
            faults.exceeded(
                field,
                format_args!("it has {found} bytes; at most {TEXT_BYTES_MAX} are allowed"),
            );
        } else if text.chars().any(char::is_control) {
            faults.invalid(field, "it has control characters; leave them out");
        }
    }
    let resources = hello.resources.len();
    if resources > RESOURCES_MAX {
        let why = format_args!("there are {resources}; at most {RESOURCES_MAX} are allowed");
        faults.exceeded("hello.resources", why);
    }
    let max_in_flight = usize::try_from(hello.max_in_flight).unwrap_or(0);
    if !(1..=MAX_IN_FLIGHT_MAX).contains(&max_in_flight) {
        let found = hello.max_in_flight;
        let why = format_args!("it is {found}; it must be 1 to {MAX_IN_FLIGHT_MAX}");
        faults.invalid("hello.max_in_flight", why);
    }
    let parsed = participant.ok().map(|participant| Hello {
        participant,
        instance: hello.instance_id.into(),
        max_in_flight,
        sdk_version: hello.sdk_version.into(),
    });
    faults.finish(parsed)
}

/// Takes in what the participant says until the session ends.
async fn hear(mut frames: Streaming<OpenSessionRequest>, session: Session) {
    let heartbeat = session.heartbeat();
    let mut beats = interval_at(Instant::now() + heartbeat, heartbeat);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut missed = 0;
    let mut ended = pin!(session.ended());
    loop {
        tokio::select! {
            biased;
            () = &mut ended => return,
            frame = frames.message() => {
                missed = 0;
                if let Some(end) = took(frame, &session) {
                    return session.end(end);
                }
            }
            _ = beats.tick() => {
                missed += 1;
                if missed > HEARTBEATS_MISSED_MAX {
                    let silence = heartbeat * HEARTBEATS_MISSED_MAX;
                    let why = format!("the participant was not heard for {silence:?}");
                    return session.end(Err(Status::unavailable(why)));
                }
            }
        }
    }
}

/// One frame; how the session ends, if it does.
fn took(
    frame: Result<Option<OpenSessionRequest>, Status>,
    session: &Session,
) -> Option<Result<(), Status>> {
    let request = match frame {
        Ok(Some(request)) => request,
        Ok(None) => return Some(Ok(())),
        Err(status) => return Some(Err(status)),
    };
    match request.frame {
        Some(Frame::Replies(replies)) => session.replied(replies.replies),
        Some(Frame::Drain(_)) => session.drain(),
        Some(Frame::Heartbeat(_)) | None => {}
        Some(Frame::Hello(_)) => {
            return Some(Err(out_of_turn("SessionHello is sent once")));
        }
    }
    None
}

fn out_of_turn(why: &str) -> Status {
    Faults::one(ErrorReason::FieldInvalid, "frame", why).into()
}
