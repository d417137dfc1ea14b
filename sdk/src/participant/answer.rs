//! One call, from the message that asks to what is told: the same over every transport.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt as _;
use tercet_core::operation::Operation;

use super::{
    branch::Branch,
    calls::Calls,
    convert::{self, Recorded, Reply},
    fence::Fence,
    problem::Problem,
};
use crate::proto::participant::v1::{BranchContext, Payload};

/// Try, Confirm or Cancel. A panic is an error: the transaction it held is dropped, and rolls back.
pub(crate) async fn perform<F: Fence>(
    calls: Arc<Calls<F>>,
    operation: Operation,
    context: Option<BranchContext>,
    payload: Option<Payload>,
) -> Result<Reply, Problem> {
    let branch = convert::branch(context)?;
    let performed = calls.perform(operation, &branch, payload.unwrap_or_default());
    let result = without_panic(performed).await;
    log(operation, &branch, &result);
    result
}

/// Query.
pub(crate) async fn query<F: Fence>(
    calls: Arc<Calls<F>>,
    context: Option<BranchContext>,
) -> Result<Recorded, Problem> {
    let branch = convert::branch(context)?;
    without_panic(calls.query(branch)).await
}

async fn without_panic<T>(call: impl Future<Output = Result<T, Problem>>) -> Result<T, Problem> {
    let ended = AssertUnwindSafe(call).catch_unwind().await;
    ended.unwrap_or(Err(Problem::Panicked))
}

fn log(operation: Operation, branch: &Branch, result: &Result<Reply, Problem>) {
    let Branch { key, resource, .. } = branch;
    match result {
        Ok(reply) => tracing::debug!(?operation, branch = %key, resource, ?reply, "answered"),
        Err(problem) => {
            tracing::warn!(?operation, branch = %key, resource, %problem, "no outcome");
        }
    }
}
