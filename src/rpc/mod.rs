//! The door in: CoordinatorService over the engine.
//!
//! ```text
//! door ─▶ coordinator ─▶ parse ─▶ engine ─▶ render
//!   │          │           │         │
//!   └──────────┴── status ─┴─────────┘        every error: code, reason, details
//! ```
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
mod status;
mod watch;

pub use self::{coordinator::Coordinator, door::Door, limits::Limits};
use crate::{
    engine::Engine, proto::tercet::v1::coordinator_service_server::CoordinatorServiceServer,
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
