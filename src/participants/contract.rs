//! Calls to participants that implement ParticipantService.

use std::time::Duration;

use tercet_core::{
    answer::{Answer, QueryAnswer},
    operation::Operation,
};
use tonic::{Code, Request, transport::Channel};

use super::{
    Outgoing, convert,
    fault::{Fault, Unanswered},
    headers,
    route::Route,
};
use crate::proto::tercet::participant::v1::participant_service_client::ParticipantServiceClient;

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
    route.call(timeout_ms, send).await
}

/// Query. A participant that doesn't implement it is [`QueryAnswer::Unclear`].
pub(super) async fn query(
    route: &Route,
    outgoing: &Outgoing,
    resource: &str,
    payload_bytes_max: usize,
) -> Result<QueryAnswer, Unanswered> {
    let bytes_max = 2 * payload_bytes_max + REPLY_OVERHEAD_BYTES;
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
    route.call(route.call_timeout_ms, send).await
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
