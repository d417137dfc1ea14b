//! The gRPC service: reads the request, runs the call in a task of its own, writes the answer.

use std::{future::Future, sync::Arc};

use tercet_core::operation::Operation;
use tonic::{Request, Response, Status};

use super::{
    answer,
    calls::Calls,
    convert::{self, Reply},
    fence::Fence,
    problem::Problem,
};
use crate::proto::participant::v1::{
    BranchContext, CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, Payload,
    QueryRequest, QueryResponse, TryRequest, TryResponse,
    participant_service_server::ParticipantService,
};

/// A participant as a gRPC service. Comes from
/// [`Participant::into_service`](super::Participant::into_service).
pub struct Service<F: Fence> {
    calls: Arc<Calls<F>>,
    /// Ends with the service.
    _collector: AbortOnDrop,
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl<F: Fence> Service<F> {
    pub(crate) fn new(calls: Arc<Calls<F>>, collector: AbortOnDrop) -> Self {
        Self {
            calls,
            _collector: collector,
        }
    }

    async fn perform(
        &self,
        operation: Operation,
        context: Option<BranchContext>,
        payload: Option<Payload>,
    ) -> Result<Reply, Status> {
        let calls = Arc::clone(&self.calls);
        Ok(detached(answer::perform(calls, operation, context, payload)).await?)
    }
}

#[tonic::async_trait]
impl<F: Fence> ParticipantService for Service<F> {
    async fn r#try(&self, request: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        let TryRequest { context, payload } = request.into_inner();
        let reply = self.perform(Operation::Try, context, payload).await?;
        Ok(Response::new(convert::try_response(reply)))
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        let ConfirmRequest {
            context, payload, ..
        } = request.into_inner();
        let reply = self.perform(Operation::Confirm, context, payload).await?;
        Ok(Response::new(convert::confirm_response(reply)))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let CancelRequest {
            context, payload, ..
        } = request.into_inner();
        let reply = self.perform(Operation::Cancel, context, payload).await?;
        Ok(Response::new(convert::cancel_response(reply)))
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        let calls = Arc::clone(&self.calls);
        let recorded = detached(answer::query(calls, request.into_inner().context)).await?;
        Ok(Response::new(convert::query_response(recorded)))
    }
}

/// Runs a call to its end even when the caller hangs up in the middle.
async fn detached<T: Send + 'static>(
    call: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(call).await.unwrap_or(Err(Problem::Panicked))
}
