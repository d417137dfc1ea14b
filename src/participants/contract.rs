//! Calls to participants that implement the contract: over a session when one takes the call, else as
//! unary calls to an endpoint. Requests are made and replies are read by the same code.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use tercet_core::{
    answer::{Answer, QueryAnswer},
    operation::Operation,
};
use tokio::time::Instant;
use tonic::{Code, Status, codegen::http::uri::PathAndQuery};

use super::{
    Outgoing, convert,
    fault::{Fault, Unanswered},
    headers,
    route::Route,
    session::Order,
    wire::{Failed, Request, Wire},
    write::{self, Asked, SessionCall},
};
use crate::proto::{
    decoded,
    tercet::participant::v1::{self as proto, session_reply::Response},
};

static TRY: LazyLock<PathAndQuery> = LazyLock::new(|| path("Try"));
static CONFIRM: LazyLock<PathAndQuery> = LazyLock::new(|| path("Confirm"));
static CANCEL: LazyLock<PathAndQuery> = LazyLock::new(|| path("Cancel"));
static QUERY: LazyLock<PathAndQuery> = LazyLock::new(|| path("Query"));

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
    let asked = outgoing.call.operation.into();
    let over_session = over_session(route, asked, outgoing, resource, deadline, |response| {
        let reply = match (outgoing.call.operation, response) {
            (Operation::Try, Response::TryReply(reply)) => reply.into(),
            (Operation::Confirm, Response::ConfirmReply(reply)) => reply.into(),
            (Operation::Cancel, Response::CancelReply(reply)) => reply.into(),
            (_, other) => return Err(no_outcome(other)),
        };
        convert::answer(reply, payload_bytes_max)
    });
    if let Some(answer) = over_session.await {
        return answer;
    }
    let send = |wire: Arc<Wire>, left: Duration| async move {
        let request = request(asked, outgoing, resource, left);
        let bytes = wire.call(request, bytes_max).await?.message;
        let reply = match outgoing.call.operation {
            Operation::Try => decoded::<proto::TryResponse>(bytes).map(Into::into),
            Operation::Confirm => decoded::<proto::ConfirmResponse>(bytes).map(Into::into),
            Operation::Cancel => decoded::<proto::CancelResponse>(bytes).map(Into::into),
        };
        convert::answer(reply.map_err(Fault::Status)?, payload_bytes_max)
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
        Asked::Query,
        outgoing,
        resource,
        deadline,
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
    let send = |wire: Arc<Wire>, left: Duration| async move {
        let request = request(Asked::Query, outgoing, resource, left);
        match wire.call(request, bytes_max).await {
            Ok(reply) => {
                let reply = decoded(reply.message).map_err(Fault::Status)?;
                convert::query_answer(reply, payload_bytes_max)
            }
            Err(Failed::Status(status)) if status.code() == Code::Unimplemented => {
                Ok(QueryAnswer::Unclear)
            }
            Err(failed) => Err(failed.into()),
        }
    };
    route.call(deadline, send).await
}

/// The call over one of the participant's sessions; none when it has to go to an endpoint instead.
async fn over_session<T>(
    route: &Route,
    asked: Asked,
    outgoing: &Outgoing,
    resource: &str,
    deadline: Instant,
    read: impl FnOnce(Response) -> Result<T, Fault>,
) -> Option<Result<T, Unanswered>> {
    let pool = route.sessions.as_ref()?;
    let order = Order {
        call: SessionCall::of(asked, outgoing, resource),
        is_try: asked == Asked::Try,
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

fn path(method: &str) -> PathAndQuery {
    let path = format!("/tercet.participant.v1.ParticipantService/{method}");
    path.parse().expect("a method's name is one of a path")
}

fn request(asked: Asked, outgoing: &Outgoing, resource: &str, left: Duration) -> Request {
    let path = match asked {
        Asked::Try => &*TRY,
        Asked::Confirm => &*CONFIRM,
        Asked::Cancel => &*CANCEL,
        Asked::Query => &*QUERY,
    };
    Request {
        path: path.clone(),
        headers: headers::headers(outgoing, left),
        frame: write::frame(asked, outgoing, resource),
    }
}
