//! A handler that panics.

use std::{any::Any, future::Future, panic::AssertUnwindSafe};

use futures::FutureExt as _;
use tonic::Status;

/// Makes a panic an error. It is our fault and says nothing about the transaction.
pub(super) fn caught<T>(
    handler: impl Future<Output = T>,
) -> impl Future<Output = Result<T, Status>> {
    // What a handler shares is consistent whenever it can be dropped, which it may be at any time.
    let ended = AssertUnwindSafe(handler).catch_unwind();
    ended.map(|ended| ended.map_err(|panic| told(&*panic)))
}

fn told(panic: &(dyn Any + Send)) -> Status {
    let message = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(message, "a handler panicked");
    Status::internal(
        "a fault in the coordinator; what was asked may have happened: repeat it with the same id",
    )
}
