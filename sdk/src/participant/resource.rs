//! What an author writes: a [`Resource`] in the fence's database, or [`Remote`] work outside of it.

use std::{future::Future, time::Duration};

use prost::Message;

use super::{
    branch::Branch,
    error::{Later, TryError},
};

/// Something that can be reserved, used and released, in the fence's own database.
///
/// Every method works on the connection of the transaction in which the fence row is written: the
/// business change and the row commit together or not at all. So no method needs to look for
/// duplicates, for a Cancel that came first, or for a late Try: it is called when, and only when,
/// its effect is due. Don't commit, roll back or leave the transaction; savepoints are fine.
///
/// `C` is the connection type of the fence, for example `sqlx::SqliteConnection`.
pub trait Resource<C>: Send + Sync + 'static {
    /// What clients call it, for example `reserve`. Unique within a participant.
    const NAME: &'static str;
    /// The payload of the branch.
    type Request: Message + Default;
    /// What Confirm and Cancel need to know of Try. Kept in the fence row and given to the client
    /// as the result of Try, even when Try's reply was lost. At most 64 KiB encoded.
    type Held: Message + Default;

    /// Reserves.
    ///
    /// # Errors
    /// [`refuse`](super::refuse) rolls back and answers FAILED; any other error rolls back and is
    /// indeterminate: the coordinator tries again.
    fn on_try(
        &self,
        db: &mut C,
        branch: &Branch,
        request: Self::Request,
    ) -> impl Future<Output = Result<Self::Held, TryError>> + Send;

    /// Uses what Try reserved.
    ///
    /// # Errors
    /// Any error rolls back, and Confirm is called again. [`Later::refused`] also calls a person.
    fn on_confirm(
        &self,
        db: &mut C,
        branch: &Branch,
        held: Self::Held,
    ) -> impl Future<Output = Result<(), Later>> + Send;

    /// Releases what Try reserved. Not called when nothing was.
    ///
    /// # Errors
    /// Any error rolls back, and Cancel is called again. [`Later::refused`] also calls a person.
    fn on_cancel(
        &self,
        db: &mut C,
        branch: &Branch,
        held: Self::Held,
    ) -> impl Future<Output = Result<(), Later>> + Send;
}

/// How far remote work came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress<T> {
    /// It is done.
    Done(T),
    /// Another system owns it now, durably, and will finish it. The same method is called again,
    /// at the earliest after `retry_after`, and finds out how it went.
    Processing {
        /// When to ask again.
        retry_after: Duration,
    },
}

/// Something that can be reserved, used and released outside of the fence's database: a payment
/// provider, another service, a device.
///
/// The fence can't commit together with such work. It writes down that the work is owned, commits,
/// and then runs it, detached from the call: a caller that has to wait too long reads PROCESSING.
/// Whatever a crash interrupts is called **again**, so
///
/// - every method must be idempotent by [`Branch::idempotency_key`], also against a copy of itself
///   that another process of this participant still runs;
/// - [`on_cancel`](Remote::on_cancel) must cope with a Try that reserved, that did not, and that
///   was cut off in the middle. After it, no request that the Try had on its way may reserve any
///   more: cancel by the key there, or find out that it can't arrive.
///
/// Within one process, at most one method runs for a branch at a time.
pub trait Remote: Send + Sync + 'static {
    /// What clients call it, for example `charge`. Unique within a participant.
    const NAME: &'static str;
    /// The payload of the branch.
    type Request: Message + Default;
    /// What Confirm and Cancel need to know of Try, and the result of Try to the client. At most
    /// 64 KiB encoded.
    type Held: Message + Default;

    /// Reserves.
    ///
    /// # Errors
    /// [`refuse`](super::refuse) answers FAILED and must leave nothing reserved; any other error is
    /// indeterminate: it is tried again.
    fn on_try(
        &self,
        branch: &Branch,
        request: Self::Request,
    ) -> impl Future<Output = Result<Progress<Self::Held>, TryError>> + Send;

    /// Uses what Try reserved.
    ///
    /// # Errors
    /// It is called again after any error. [`Later::refused`] also calls a person.
    fn on_confirm(
        &self,
        branch: &Branch,
        held: Self::Held,
    ) -> impl Future<Output = Result<Progress<()>, Later>> + Send;

    /// Releases whatever Try reserved. `held` is there only when the end of Try was recorded.
    ///
    /// # Errors
    /// It is called again after any error. [`Later::refused`] also calls a person.
    fn on_cancel(
        &self,
        branch: &Branch,
        request: Self::Request,
        held: Option<Self::Held>,
    ) -> impl Future<Output = Result<Progress<()>, Later>> + Send;
}
