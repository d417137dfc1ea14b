//! Calls a participant in the way a coordinator does, on a branch that exists for one check.

use std::{fmt, sync::Arc, time::Duration, time::SystemTime};

use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

use super::CheckOptions;
use crate::proto::participant::v1::{
    BranchContext, CancelRequest, ConfirmRequest, Failure, Operation, Outcome, Payload,
    QueryRequest, QueryResponse, RecordState, TryRequest,
    participant_service_server::ParticipantService,
};

/// A participant may be a moment away, or its database busy.
const ERRORS_MAX: u32 = 5;
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What a participant answered to Try, Confirm or Cancel.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Success(Option<Payload>),
    Failed(Failure),
    Processing(Option<Duration>),
    Error(Status),
}

impl Answer {
    fn new(
        outcome: i32,
        result: Option<Payload>,
        failure: Option<Failure>,
        retry_after: Option<prost_types::Duration>,
    ) -> Self {
        match Outcome::try_from(outcome) {
            Ok(Outcome::Success) => Self::Success(result.filter(is_something)),
            Ok(Outcome::Failed) => Self::Failed(failure.unwrap_or_default()),
            Ok(Outcome::Processing | Outcome::Unspecified) | Err(_) => {
                Self::Processing(retry_after.and_then(crate::times::span))
            }
        }
    }

    pub(super) fn is_success(&self) -> bool {
        matches!(self, Self::Success(_))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Success(None) => write!(f, "SUCCESS"),
            Self::Success(Some(result)) => {
                write!(f, "SUCCESS with the result {:?}", result.value)
            }
            Self::Failed(failure) => write!(f, "FAILED {}: {}", failure.reason, failure.message),
            Self::Processing(_) => write!(f, "PROCESSING"),
            Self::Error(status) => write!(f, "{:?}: {}", status.code(), status.message()),
        }
    }
}

/// One branch at the participant.
#[derive(Clone)]
pub(super) struct Branch {
    participant: Arc<dyn ParticipantService>,
    options: Arc<CheckOptions>,
    context: BranchContext,
}

impl Branch {
    pub(super) fn new(
        participant: Arc<dyn ParticipantService>,
        options: Arc<CheckOptions>,
        realm: &str,
    ) -> Self {
        let now = SystemTime::now();
        let context = BranchContext {
            transaction_id: format!("check-{}", uuid::Uuid::now_v7()),
            branch_id: "b1".to_owned(),
            resource: options.resource.clone(),
            attempt: 1,
            create_time: Some(now.into()),
            expire_time: Some((now + Duration::from_secs(60 * 60)).into()),
            epoch: 5,
            realm: realm.to_owned(),
            ..BranchContext::default()
        };
        Self {
            participant,
            options,
            context,
        }
    }

    /// The same branch, with something of its context changed.
    pub(super) fn with(&self, change: impl FnOnce(&mut BranchContext)) -> Self {
        let mut other = self.clone();
        change(&mut other.context);
        other
    }

    /// Makes one call.
    pub(super) async fn call(&self, operation: Operation) -> Answer {
        let limit = self.options.call_timeout;
        timeout(limit, self.send(operation))
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no reply in {limit:?}"))))
            .unwrap_or_else(Answer::Error)
    }

    async fn send(&self, operation: Operation) -> Result<Answer, Status> {
        let context = Some(self.context.clone());
        let payload = Some(self.options.payload.clone());
        match operation {
            Operation::Try => {
                let request = self.request(TryRequest { context, payload });
                let it = self.participant.r#try(request).await?.into_inner();
                Ok(Answer::new(
                    it.outcome,
                    it.result,
                    it.failure,
                    it.retry_after,
                ))
            }
            Operation::Confirm => {
                // As when Try's reply was never seen: the participant's own record must do.
                let request = self.request(ConfirmRequest {
                    context,
                    payload,
                    try_result: None,
                });
                let it = self.participant.confirm(request).await?.into_inner();
                Ok(Answer::new(
                    it.outcome,
                    it.result,
                    it.failure,
                    it.retry_after,
                ))
            }
            Operation::Cancel | Operation::Query | Operation::Unspecified => {
                let request = self.request(CancelRequest {
                    context,
                    payload,
                    try_result: None,
                    cause: None,
                });
                let it = self.participant.cancel(request).await?.into_inner();
                Ok(Answer::new(it.outcome, None, it.failure, it.retry_after))
            }
        }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.options.call_timeout);
        request
    }

    /// Asks for the record, more than once if need be.
    pub(super) async fn query(&self) -> Result<QueryResponse, Status> {
        let mut errors = 0;
        loop {
            match self.query_once().await {
                Err(_) if errors < ERRORS_MAX => errors += 1,
                reply => return reply,
            }
            sleep(PAUSE_MIN * (1 << errors)).await;
        }
    }

    async fn query_once(&self) -> Result<QueryResponse, Status> {
        let limit = self.options.call_timeout;
        let request = self.request(QueryRequest {
            context: Some(self.context.clone()),
        });
        let reply = timeout(limit, self.participant.query(request)).await;
        reply
            .unwrap_or_else(|_| Err(Status::deadline_exceeded(format!("no reply in {limit:?}"))))
            .map(Response::into_inner)
    }

    /// Calls as a coordinator would until there is a definite answer, or no more hope of one: what
    /// is answered PROCESSING is queried in a while and, if it hasn't ended, called again, which
    /// restarts work that was lost.
    pub(super) async fn settle(&self, operation: Operation) -> Answer {
        let until = Instant::now() + self.options.settle_timeout;
        let mut errors = 0;
        while Instant::now() < until {
            match self.call(operation).await {
                Answer::Processing(pause) => {
                    sleep(pause.unwrap_or_default().clamp(PAUSE_MIN, PAUSE_MAX)).await;
                    let record = self.query().await;
                    if let Some(answer) = record.ok().and_then(|it| settled(operation, &it)) {
                        return answer;
                    }
                }
                // Only repeated: that Query knows better doesn't excuse it.
                Answer::Error(status) => {
                    errors += 1;
                    if errors == ERRORS_MAX {
                        return Answer::Error(status);
                    }
                    sleep(PAUSE_MIN * (1 << errors)).await;
                }
                definite @ (Answer::Success(_) | Answer::Failed(_)) => return definite,
            }
        }
        Answer::Processing(None)
    }

    /// Sends a call and gives up on its reply after a while, as when a connection is lost.
    pub(super) async fn lose_reply(&self, operation: Operation, after: Duration) {
        // Whether the reply made it is all the same to the check.
        let _ = timeout(after, self.send(operation)).await;
    }
}

/// What a record says of a call that was answered PROCESSING.
fn settled(operation: Operation, record: &QueryResponse) -> Option<Answer> {
    let failed = || Answer::Failed(record.failure.clone().unwrap_or_default());
    match (operation, record.state()) {
        (Operation::Try, RecordState::Tried) => Some(Answer::Success(try_result(record))),
        (Operation::Try, RecordState::TryFailed) => Some(failed()),
        (Operation::Confirm, RecordState::Confirmed) => {
            Some(Answer::Success(confirm_result(record)))
        }
        (Operation::Confirm, RecordState::ConfirmFailed) => Some(failed()),
        (Operation::Cancel, RecordState::Canceled) => Some(Answer::Success(None)),
        (Operation::Cancel, RecordState::CancelFailed) => Some(failed()),
        _ => None,
    }
}

/// The result of Try in a record; an empty one is none.
pub(super) fn try_result(record: &QueryResponse) -> Option<Payload> {
    record.try_result.clone().filter(is_something)
}

/// The result of Confirm in a record; an empty one is none.
pub(super) fn confirm_result(record: &QueryResponse) -> Option<Payload> {
    record.confirm_result.clone().filter(is_something)
}

fn is_something(payload: &Payload) -> bool {
    *payload != Payload::default()
}
