//! Write a participant: something that can be reserved by Try, used by Confirm and released by
//! Cancel.
//!
//! Implement [`Resource`] on your database's connection, give it to a [`Participant`] over a
//! [`Fence`] in the same database, and [serve](Participant::serve) it, or let it
//! [connect](Participant::connect) to its coordinator:
//!
//! ```
//! use tercet_sdk::participant::{Branch, Later, MemoryFence, Participant, Resource, TryError, refuse};
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Seats {
//!     #[prost(uint32, tag = "1")]
//!     count: u32,
//! }
//!
//! #[derive(Clone)]
//! struct Plane { free: u32, held: u32, sold: u32 }
//!
//! struct Booking;
//!
//! impl Resource<Plane> for Booking {
//!     const NAME: &'static str = "seat";
//!     type Request = Seats;
//!     type Held = Seats; // what Confirm and Cancel get to see of Try
//!
//!     async fn on_try(&self, db: &mut Plane, _: &Branch, ask: Seats) -> Result<Seats, TryError> {
//!         let Some(left) = db.free.checked_sub(ask.count) else {
//!             return Err(refuse("SOLD_OUT").with("free", db.free)); // FAILED, rolled back
//!         };
//!         db.free = left;
//!         db.held += ask.count;
//!         Ok(ask)
//!     }
//!     async fn on_confirm(&self, db: &mut Plane, _: &Branch, held: Seats) -> Result<(), Later> {
//!         db.held -= held.count;
//!         db.sold += held.count;
//!         Ok(())
//!     }
//!     async fn on_cancel(&self, db: &mut Plane, _: &Branch, held: Seats) -> Result<(), Later> {
//!         db.held -= held.count;
//!         db.free += held.count;
//!         Ok(())
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let fence = MemoryFence::new(Plane { free: 200, held: 0, sold: 0 });
//! let shutdown = async { /* tokio::signal::ctrl_c().await, for example */ };
//! Participant::new("airline", fence.clone()).resource(Booking)
//!     .serve("127.0.0.1:0", shutdown).await?;
//!
//! // In a unit test, with the feature `testing`: does it keep the contract?
//! # #[cfg(feature = "testing")] {
//! use tercet_sdk::testing::{CheckOptions, Payload, check};
//! let service = Participant::new("airline", fence.clone()).resource(Booking).into_service()?;
//! let payload = Payload {
//!     value: prost::Message::encode_to_vec(&Seats { count: 1 }).into(),
//!     ..Payload::default()
//! };
//! check(service, CheckOptions::new("seat", payload)).await.assert_holds();
//! assert_eq!(fence.read(|plane| plane.held).await, 0);
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In production the fence is `SqliteFence` (feature `sqlite`; `impl Resource<sqlx::SqliteConnection>`,
//! `SqliteFence::open(path)`) or `PostgresFence` (feature `postgres`; `impl
//! Resource<sqlx::PgConnection>`, `PostgresFence::new(pool)`, then `migrate()` once). The statements of
//! each method run on the connection they are given: they commit with the fence's row or not at
//! all. So no method looks for duplicates, for a Cancel that came first or for a late Try.
//!
//! # What an error means
//!
//! `?` never says no. Whatever error it passes on rolls back and leaves the call **indeterminate**:
//! the coordinator queries and calls again, and the client reads no failure. Only [`refuse`] answers
//! FAILED and cancels the transaction. Confirm and Cancel may be late ([`Later`]) but are due: a
//! [`Later::refused`] calls a person, and changes nothing of the decision.
//!
//! # Work outside of the database
//!
//! What can't commit with the fence's row (a payment provider, another service) implements
//! [`Remote`] and is added with [`Participant::remote`]. The fence first records that the work is
//! owed, then runs it, and after a crash runs it again: its methods must be idempotent by
//! [`Branch::idempotency_key`]. Slow work is answered PROCESSING meanwhile; see
//! [`Participant::answer_within`].
//!
//! # How long the fence remembers
//!
//! Rows of finished branches are removed 30 days after their transaction's deadline
//! ([`Participant::retention`], at least one day), every hour, while the participant lives. No Try
//! as old as a removed row is taken any more, even when the clock is set back. Never remove rows
//! yourself, and never release by time: only the coordinator knows what was decided.
//!
//! # Another database or driver
//!
//! Implement [`Fence`] and [`FenceTransaction`], seven statements beside begin and commit. The
//! suite in `sdk/tests/fence` of the repository runs every promise over every adapter: add yours to
//! its `databases.rs` and to the list at the end of `main.rs`.

use std::time::Duration;

mod answer;
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
mod session;

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

/// How long calls under way are waited for at shutdown.
const DRAIN_MAX: Duration = Duration::from_secs(10);
/// When to ask again about remote work that did not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
