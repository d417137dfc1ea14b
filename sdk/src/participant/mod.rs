//! Write a participant: something that can be reserved by Try, used by Confirm and released by
//! Cancel.

use std::time::Duration;

mod branch;
mod calls;
mod convert;
mod error;
mod fence;
mod handler;
mod jobs;
mod problem;
mod record;
mod resource;
mod serve;
mod service;

#[cfg(feature = "postgres")]
pub use self::fence::PostgresFence;
#[cfg(feature = "sqlite")]
pub use self::fence::SqliteFence;
pub use self::{
    branch::{Branch, BranchKey},
    error::{Later, MESSAGE_BYTES_MAX, REASON_BYTES_MAX, TryError, refuse},
    fence::{COLLECT_ROWS_MAX, Fence, FenceError, FenceTransaction, MemoryFence, Record, collect},
    handler::RESULT_BYTES_MAX,
    resource::{Progress, Remote, Resource},
    serve::{Participant, ServeError, SetupError},
    service::Service,
};
pub use crate::proto::participant::v1::participant_service_server::ParticipantServiceServer;
pub use tercet_core::fence::{Retention, RetentionTooShort, Row, State};

/// When to ask again about remote work that did not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
