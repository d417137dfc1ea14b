//! The doors in: CoordinatorService over the engine, SessionService over the participants' sessions.
//!
//! ```text
//! door ─▶ coordinator ─▶ parse ─▶ engine ─▶ render
//!   │          │           │         │
//!   └──────────┴── status ─┴─────────┘        every error: code, reason, details
//! ```
//!
//! SubmitTransaction comes to the coordinator past tonic and the door, through `submits`.
//!
//! 1. Every limit is enforced here, before the engine sees a request, and named in the error.
//! 2. Every error carries `google.rpc.ErrorInfo` with a reason of `error_reason.proto`.
//! 3. A transaction that failed is an OK call.
//! 4. Protobuf ends here: behind this module there are only types that can't be wrong.

mod arrival;
mod coordinator;
mod deadline;
mod digest;
mod door;
mod events;
mod faults;
mod filter;
mod filter_text;
mod limits;
mod list;
mod page;
mod parse;
mod render;
#[cfg(test)]
mod samples;
mod session;
mod status;
mod submits;
mod watch;

use std::sync::Arc;

pub use self::{
    coordinator::Coordinator, door::Door, limits::Limits, session::Sessions, submits::Submits,
};
use crate::{
    engine::Engine,
    participants::GrpcParticipants,
    proto::tercet::{
        participant::v1::session_service_server::SessionServiceServer,
        v1::coordinator_service_server::CoordinatorServiceServer,
    },
};

/// The service to mount in a tonic server.
#[must_use]
pub fn service(engine: Engine, limits: Limits) -> Door<CoordinatorServiceServer<Coordinator>> {
    let decode_bytes_max = limits.decode_bytes_max();
    let request_bytes_max = limits.request_bytes_max;
    let service = CoordinatorServiceServer::new(Coordinator::new(engine, limits))
        .max_decoding_message_size(decode_bytes_max);
    Door::new(service, request_bytes_max)
}

/// The service's hot call, past tonic.
#[must_use]
pub fn submits(engine: Engine, limits: Limits) -> Submits {
    Submits::new(engine, limits)
}

/// The service by which participants connect out, to mount beside it.
#[must_use]
pub fn sessions(
    participants: Arc<GrpcParticipants>,
    payload_bytes_max: usize,
) -> Door<SessionServiceServer<Sessions>> {
    let decode_bytes_max = session::frame_bytes_max(payload_bytes_max);
    let service = SessionServiceServer::new(Sessions::new(participants))
        .max_decoding_message_size(decode_bytes_max);
    Door::new(service, decode_bytes_max)
}
