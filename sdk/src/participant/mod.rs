//! Write a participant: something that can be reserved by Try, used by Confirm and released by
//! Cancel.
//!
//! A [`Resource`] is the business change alone. It runs on the connection of the transaction in which
//! the fence's row is written, so both commit or neither does, and what is late, repeated or out
//! of order never reaches it: a method is called when, and only when, its effect is due.
//!
//! ```
//! use tercet_sdk::participant::{Branch, Later, MemoryFence, Participant, Resource, TryError, refuse};
//!
//! /// The fence's data here; `sqlx::SqliteConnection` or `sqlx::PgConnection` with a database.
//! type Shelf = i64;
//!
//! #[derive(Clone, PartialEq, prost::Message)]
//! struct Reserve {
//!     #[prost(int64, tag = "1")]
//!     count: i64,
//! }
//!
//! struct Stock;
//!
//! impl Resource<Shelf> for Stock {
//!     const NAME: &'static str = "reserve"; // what clients call it
//!     type Request = Reserve;
//!     type Held = Reserve; // kept with the row, given to Confirm and Cancel
//!
//!     async fn on_try(&self, free: &mut Shelf, _: &Branch, r: Reserve) -> Result<Reserve, TryError> {
//!         if *free < r.count {
//!             return Err(refuse("OUT_OF_STOCK").with("free", *free)); // FAILED, all rolled back
//!         }
//!         *free -= r.count;
//!         Ok(r)
//!     }
//!     async fn on_confirm(&self, _: &mut Shelf, _: &Branch, _: Reserve) -> Result<(), Later> {
//!         Ok(())
//!     }
//!     async fn on_cancel(&self, free: &mut Shelf, _: &Branch, held: Reserve) -> Result<(), Later> {
//!         *free += held.count;
//!         Ok(())
//!     }
//! }
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let fence = MemoryFence::new(10); // loses everything at its end: for trials and tests
//! let participant = Participant::new("inventory", fence).resource(Stock);
//! participant.serve("127.0.0.1:7071", std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! - **What `?` means.** An error of the database, or any other, is *indeterminate*: everything is
//!   rolled back, and the coordinator asks and calls again. Only [`refuse`] is FAILED. A Confirm or
//!   Cancel can't be refused by accident; [`Later::refused`] does it, and calls a person.
//! - **Databases.** `SqliteFence` and `PostgresFence` (features `sqlite` and `postgres`) make their
//!   tables with `migrate()`. All processes of a participant share one database, and so one fence.
//! - **Another driver.** Implement [`Fence`] and [`FenceTransaction`]: begin, read the row for update,
//!   insert it if absent, write it, commit. The adapters in this crate are the examples.
//! - **Work outside of the database** (a payment provider, another service) implements [`Remote`]. It
//!   must be idempotent by [`Branch::idempotency_key`]. It may end later: answer
//!   [`Progress::Processing`] once another system owns it durably, and report the end with
//!   [`Branch::report_token`] only after `on_try` has returned; the coordinator asks by itself too.
//! - **Time.** Never release because time has passed: only the coordinator decides. Fence rows are kept
//!   for 30 days past their transaction's deadline ([`Participant::retention`]).
//! - **Does it keep the contract?** `tercet_sdk::testing::check` (feature `testing`) sends duplicates,
//!   late and early calls in a unit test; `tercet participant check` does it from the command line.

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
