//! Sessions: participants that connect out and receive their calls over a stream, many per frame.
//!
//! ```text
//! a call ─▶ Pool ─▶ the session with the fewest calls out ─▶ Outbox ─▶ one frame of all that waits
//!             ▲                                                             │
//!             └──────── one reply frame, many replies ◀──── rpc/session ◀───┘ participant
//! ```
//!
//! 1. One lock for each participant, taken once for a call, once for a frame of replies, once for a
//!    frame of calls. No task and no queue between a call and the stream that carries it.
//! 2. A session never has more calls out than its credit ([`Hello::max_in_flight`]). A call whose
//!    deadline has passed keeps its credit until its reply comes, because the participant is still
//!    at work on it.
//! 3. A call that no session has room for waits for its turn, first come, first served, within its own
//!    deadline; unless the participant has endpoints too, then it goes there.
//! 4. Until a call is put into a frame it has certainly not left: another session may take it, and
//!    when there is none it is as a refused connection. Once it is in a frame, the end of its session
//!    leaves it indeterminate.

mod link;
mod outbox;
mod pool;
mod state;

use std::{sync::Arc, time::Duration};

use tercet_core::ids::ParticipantName;

pub(super) use self::pool::{Order, Pool};
pub use self::{outbox::Outbox, pool::Session};

/// The most calls that a session may ask to have out: far above what one process works on at once.
pub const MAX_IN_FLIGHT_MAX: usize = 65_536;
/// Sessions of one participant at the same time; each call looks at all of them.
pub const SESSIONS_MAX: usize = 128;
/// How often both sides say that they are there, where nothing else is configured.
pub const HEARTBEAT_DEFAULT: Duration = Duration::from_secs(5);
/// Heartbeats in which nothing is heard until a peer counts as gone.
pub const HEARTBEATS_MISSED_MAX: u32 = 3;

/// What a participant says of itself when it opens a session, within its limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Which participant.
    pub participant: ParticipantName,
    /// Which process of it; a second session of it takes the place of the first.
    pub instance: Arc<str>,
    /// Calls without a reply, 1 to [`MAX_IN_FLIGHT_MAX`].
    pub max_in_flight: usize,
    /// What it was made with, for logs.
    pub sdk_version: Arc<str>,
}

/// Why no session is opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionRefused {
    /// No participant of this name is configured.
    #[error("no participant is named {name:?}; configured are: {known}")]
    Unknown {
        /// The name asked for.
        name: Arc<str>,
        /// The names there are.
        known: String,
    },
    /// The participant is to be called at its endpoints only.
    #[error(
        "participant {name} is configured without sessions; set participants.{name}.sessions to true"
    )]
    Disabled {
        /// Which one.
        name: Arc<str>,
    },
    /// There are enough already.
    #[error("participant {name} has {SESSIONS_MAX} sessions open, and no more are allowed")]
    TooMany {
        /// Which one.
        name: Arc<str>,
    },
    /// The coordinator is about to end.
    #[error("the coordinator is shutting down; open a session again in a moment")]
    ShuttingDown,
}

#[cfg(test)]
mod tests;
