//! Calls to participants that implement the contract: over a session when one takes the call, else as
//! unary calls to an endpoint. Requests are made and replies are read by the same code.

use std::time::Duration;

use tercet_core::{
    answer::{Answer, QueryAnswer},
    operation::Operation,
};
use tokio::time::Instant;
use tonic::{Code, Request, Status, transport::Channel};

use super::{
    Outgoing, convert,
    fault::{Fault, Unanswered},
    headers,
    route::Route,
    session::Order,
};
use crate::proto::tercet::participant::v1::{
    participant_service_client::ParticipantServiceClient, session_call, session_reply::Response,
};

/// What a reply may have beside its payloads: type, failure and framing.
const REPLY_OVERHEAD_BYTES: usize = 16 * 1024;

/// Try, Confirm or Cancel.
pub(super) async fn perform(
    route: &Route,
    outgoing: &Outgoing,
    resource: &str,
    payload_bytes_max: usize,
) -> Result<Answer, Unanswered> {
    let bytes_max = payload_bytes_max + REPLY_OVERHEAD_BYTES;
    let timeout_ms = match outgoing.call.operation {
        Operation::Try => outgoing.spec.try_timeout_ms,
        Operation::Confirm | Operation::Cancel => route.call_timeout_ms,
    };
    let deadline = Route::deadline(timeout_ms);
    let over_session = over_session(
        route,
        outgoing,
        deadline,
        || match outgoing.call.operation {
            Operation::Try => {
                session_call::Request::TryCall(convert::try_request(outgoing, resource))
            }
            Operation::Confirm => {
                session_call::Request::ConfirmCall(convert::confirm_request(outgoing, resource))
            }
            Operation::Cancel => {
                session_call::Request::CancelCall(convert::cancel_request(outgoing, resource))
            }
        },
        |response| {
            let reply = match (outgoing.call.operation, response) {
                (Operation::Try, Response::TryReply(reply)) => reply.into(),
                (Operation::Confirm, Response::ConfirmReply(reply)) => reply.into(),
                (Operation::Cancel, Response::CancelReply(reply)) => reply.into(),
                (_, other) => return Err(no_outcome(other)),
            };
            convert::answer(reply, payload_bytes_max)
        },
    );
    if let Some(answer) = over_session.await {
        return answer;
    }
    let send = |channel: Channel, left: Duration| async move {
        let mut client = client(channel, bytes_max);
        let reply = match outgoing.call.operation {
            Operation::Try => {
                let message = convert::try_request(outgoing, resource);
                let reply = client.r#try(request(message, outgoing, left)).await;
                reply.map(|it| it.into_inner().into())
            }
            Operation::Confirm => {
                let message = convert::confirm_request(outgoing, resource);
                let reply = client.confirm(request(message, outgoing, left)).await;
                reply.map(|it| it.into_inner().into())
            }
            Operation::Cancel => {
                let message = convert::cancel_request(outgoing, resource);
                let reply = client.cancel(request(message, outgoing, left)).await;
                reply.map(|it| it.into_inner().into())
            }
        };
        let reply = reply.map_err(|status| Fault::of(status, bytes_max))?;
        convert::answer(reply, payload_bytes_max)
    };
    route.call(deadline, send).await
}

/// Query. A participant that doesn't implement it is [`QueryAnswer::Unclear`].
pub(super) async fn query(
    route: &Route,
    outgoing: &Outgoing,
    resource: &str,
    payload_bytes_max: usize,
) -> Result<QueryAnswer, Unanswered> {
    let bytes_max = 2 * payload_bytes_max + REPLY_OVERHEAD_BYTES;
    let deadline = Route::deadline(route.call_timeout_ms);
    let over_session = over_session(
        route,
        outgoing,
        deadline,
        || session_call::Request::QueryCall(convert::query_request(outgoing, resource)),
        |response| match response {
            Response::QueryReply(reply) => convert::query_answer(reply, payload_bytes_max),
            other => match no_outcome(other) {
                Fault::Status(status) if status.code() == Code::Unimplemented => {
                    Ok(QueryAnswer::Unclear)
                }
                fault => Err(fault),
            },
        },
    );
    if let Some(answer) = over_session.await {
        return answer;
    }
    let send = |channel: Channel, left: Duration| async move {
        let message = convert::query_request(outgoing, resource);
        let reply = client(channel, bytes_max)
            .query(request(message, outgoing, left))
            .await;
        match reply {
            Ok(reply) => convert::query_answer(reply.into_inner(), payload_bytes_max),
            Err(status) if status.code() == Code::Unimplemented => Ok(QueryAnswer::Unclear),
            Err(status) => Err(Fault::of(status, bytes_max)),
        }
    };
    route.call(deadline, send).await
}

/// The call over one of the participant's sessions; none when it has to go to an endpoint instead.
async fn over_session<T>(
    route: &Route,
    outgoing: &Outgoing,
    deadline: Instant,
    request: impl FnOnce() -> session_call::Request,
    read: impl FnOnce(Response) -> Result<T, Fault>,
) -> Option<Result<T, Unanswered>> {
    let pool = route.sessions.as_ref()?;
    let order = Order {
        request: request(),
        traceparent: outgoing.origin.traceparent.to_string(),
        deadline,
        may_wait: !route.has_endpoints(),
    };
    let heard = pool.call(order).await;
    let place = heard.place();
    let fault = match heard.reply.and_then(read) {
        Ok(answer) => return Some(Ok(answer)),
        Err(fault) => fault,
    };
    let never_left = matches!(fault, Fault::NeverLeft(_));
    if never_left && route.has_endpoints() && Instant::now() < deadline {
        return None;
    }
    Some(Err(Unanswered::new(
        route.participant.as_ref(),
        &place,
        &fault,
    )))
}

/// What a reply without an outcome means: the same as a status to a unary call.
fn no_outcome(response: Response) -> Fault {
    let Response::Indeterminate(failure) = response else {
        return Fault::Status(Status::internal("the reply is one to another kind of call"));
    };
    let code = match Code::from(failure.code) {
        Code::Ok => Code::Unknown,
        code => code,
    };
    let message = match failure.reason.as_str() {
        "" => failure.message,
        reason => format!("{reason}: {}", failure.message),
    };
    Fault::Status(Status::new(code, message))
}

fn client(channel: Channel, bytes_max: usize) -> ParticipantServiceClient<Channel> {
    ParticipantServiceClient::new(channel).max_decoding_message_size(bytes_max)
}

fn request<M>(message: M, outgoing: &Outgoing, left: Duration) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(left);
    headers::trace(request.metadata_mut(), outgoing);
    request
}
