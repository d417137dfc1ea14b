//! What a client does for one transaction, in each mode.
//!
//! The generated clients everywhere, and the transport that the coordinator uses for its participants
//! (`src/participants/route.rs`): nobody is faster for want of a header or a window.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, bail};
use prost::{Message as _, bytes::Bytes};
use tercet_sdk::proto::{
    participant::v1::{
        BranchContext, ConfirmRequest, Outcome, Payload, TryRequest,
        participant_service_client::ParticipantServiceClient,
    },
    v1::{
        BranchSpec, ContractTarget, ReplyMode, RetryPolicy, SubmitTransactionRequest,
        TransactionOptions, branch_spec, coordinator_service_client::CoordinatorServiceClient,
    },
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    participant::{RESOURCE, Take},
    processes::{Coordinator, NAMES},
};

/// Of each branch's request, encoded.
pub const PAYLOAD_BYTES: usize = 128;
/// As the coordinator has them by default, for participants and for transactions.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a transaction may be undecided.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// One connection to everyone that a mode talks to.
#[derive(Clone)]
pub enum Calls {
    /// Of one participant.
    Raw(ParticipantServiceClient<Channel>, Payload),
    /// Of both.
    Direct([ParticipantServiceClient<Channel>; 2], Payload),
    /// Of the coordinator.
    Submit(CoordinatorServiceClient<Channel>, Arc<Order>),
}

/// What a client submits.
pub struct Order {
    branches: Vec<BranchSpec>,
    options: Option<TransactionOptions>,
    /// What it is to be answered.
    expected: Outcome,
}

impl Order {
    /// One branch with each of these participants.
    pub fn with<'a>(participants: impl IntoIterator<Item = &'a str>) -> Self {
        let payload = payload();
        let branch = |participant: &str| BranchSpec {
            payload: Some(payload.clone()),
            target: Some(branch_spec::Target::Contract(ContractTarget {
                participant: participant.to_owned(),
                resource: RESOURCE.to_owned(),
            })),
            ..BranchSpec::default()
        };
        Self {
            branches: participants.into_iter().map(branch).collect(),
            options: None,
            expected: Outcome::Success,
        }
    }

    /// Answered as soon as it is recorded; what fails is called again after this time.
    pub fn accepted(self, interval: Duration) -> Self {
        let whole = |duration: Duration| prost_types::Duration {
            seconds: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
            nanos: 0,
        };
        let options = TransactionOptions {
            reply_mode: ReplyMode::Accepted.into(),
            timeout: Some(whole(TIMEOUT_MAX)),
            retry_policy: Some(RetryPolicy {
                intervals: vec![whole(interval)],
                ..RetryPolicy::default()
            }),
            ..TransactionOptions::default()
        };
        Self {
            options: Some(options),
            expected: Outcome::Processing,
            ..self
        }
    }

    /// What is sent for the transaction by this id.
    pub fn request(&self, id: &str) -> SubmitTransactionRequest {
        SubmitTransactionRequest {
            transaction_id: id.to_owned(),
            branches: self.branches.clone(),
            options: self.options.clone(),
            ..SubmitTransactionRequest::default()
        }
    }

    /// Whether this is what it should be answered.
    pub fn answered(&self, outcome: Outcome) -> anyhow::Result<()> {
        answered("Submit", outcome, self.expected)
    }
}

impl Calls {
    pub async fn raw(participant: &str) -> anyhow::Result<Self> {
        let client = ParticipantServiceClient::new(connect(participant).await?);
        Ok(Self::Raw(client, payload()))
    }

    pub async fn direct(first: &str, second: &str) -> anyhow::Result<Self> {
        let first = ParticipantServiceClient::new(connect(first).await?);
        let second = ParticipantServiceClient::new(connect(second).await?);
        Ok(Self::Direct([first, second], payload()))
    }

    /// So many connections to a coordinator, for transactions with both participants.
    pub async fn to(coordinator: &Coordinator, connections: usize) -> anyhow::Result<Vec<Self>> {
        Self::ordering(Order::with(NAMES), coordinator, connections).await
    }

    /// The same for transactions like this one.
    pub async fn ordering(
        order: Order,
        coordinator: &Coordinator,
        connections: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let order = Arc::new(order);
        let mut calls = Vec::new();
        for _ in 0..connections {
            let client = CoordinatorServiceClient::new(connect(&coordinator.url).await?);
            calls.push(Self::Submit(client, Arc::clone(&order)));
        }
        Ok(calls)
    }

    /// Does the work of the transaction by this id; all of it has succeeded when this returns.
    pub async fn transact(&mut self, id: &str) -> anyhow::Result<()> {
        match self {
            Self::Raw(participant, payload) => {
                let context = context(id, "b1", SystemTime::now());
                r#try(participant, context, payload).await?;
            }
            Self::Direct([first, second], payload) => {
                let now = SystemTime::now();
                let one = context(id, "b1", now);
                let two = context(id, "b2", now);
                let (held_one, held_two) = tokio::try_join!(
                    r#try(first, one.clone(), payload),
                    r#try(second, two.clone(), payload)
                )?;
                tokio::try_join!(
                    confirm(first, one, payload, held_one),
                    confirm(second, two, payload, held_two)
                )?;
            }
            Self::Submit(coordinator, order) => submit(coordinator, id, order).await?,
        }
        Ok(())
    }
}

/// Whether the coordinator said that too much is in flight.
pub fn is_refused(error: &anyhow::Error) -> bool {
    let status = error.downcast_ref::<Status>();
    status.is_some_and(|status| status.code() == Code::ResourceExhausted)
}

/// A connection, made when this returns.
pub async fn connect(url: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .connect_timeout(Duration::from_millis(1_500))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .http2_max_header_list_size(16 * 1024)
        .http2_max_local_error_reset_streams(1024);
    endpoint
        .connect()
        .await
        .with_context(|| format!("connecting to {url}"))
}

async fn r#try(
    participant: &mut ParticipantServiceClient<Channel>,
    context: BranchContext,
    payload: &Payload,
) -> anyhow::Result<Option<Payload>> {
    let message = TryRequest {
        context: Some(context),
        payload: Some(payload.clone()),
    };
    let reply = participant.r#try(within(CALL_TIMEOUT, message)).await?;
    let reply = reply.into_inner();
    succeeded("Try", reply.outcome())?;
    Ok(reply.result)
}

async fn confirm(
    participant: &mut ParticipantServiceClient<Channel>,
    context: BranchContext,
    payload: &Payload,
    try_result: Option<Payload>,
) -> anyhow::Result<()> {
    let message = ConfirmRequest {
        context: Some(context),
        payload: Some(payload.clone()),
        try_result,
    };
    let reply = participant.confirm(within(CALL_TIMEOUT, message)).await?;
    succeeded("Confirm", reply.into_inner().outcome())
}

async fn submit(
    coordinator: &mut CoordinatorServiceClient<Channel>,
    id: &str,
    order: &Order,
) -> anyhow::Result<()> {
    let message = order.request(id);
    let reply = coordinator.submit_transaction(within(TRANSACTION_TIMEOUT, message));
    let transaction = reply.await?.into_inner().transaction.unwrap_or_default();
    order.answered(transaction.outcome())
}

fn succeeded(what: &str, outcome: Outcome) -> anyhow::Result<()> {
    answered(what, outcome, Outcome::Success)
}

fn answered(what: &str, outcome: Outcome, expected: Outcome) -> anyhow::Result<()> {
    if outcome != expected {
        let (outcome, expected) = (outcome.as_str_name(), expected.as_str_name());
        bail!("{what} was answered {outcome}; it should have been {expected}");
    }
    Ok(())
}

fn within<M>(timeout: Duration, message: M) -> Request<M> {
    let mut request = Request::new(message);
    request.set_timeout(timeout);
    request
}

/// What the coordinator would say about a branch.
fn context(id: &str, branch: &str, now: SystemTime) -> BranchContext {
    BranchContext {
        transaction_id: id.to_owned(),
        branch_id: branch.to_owned(),
        resource: RESOURCE.to_owned(),
        attempt: 1,
        create_time: Some(now.into()),
        expire_time: Some((now + TRANSACTION_TIMEOUT).into()),
        report_token: "0123456789abcdef0123456789abcdef".to_owned(),
        epoch: 1,
        realm: "bench".to_owned(),
        ..BranchContext::default()
    }
}

fn payload() -> Payload {
    /// Of the message around the filler: a tag and a length.
    const AROUND_BYTES: usize = 2;
    let take = Take {
        filler: Bytes::from(vec![7; PAYLOAD_BYTES - AROUND_BYTES]),
    };
    Payload {
        type_url: String::new(),
        value: take.encode_to_vec().into(),
    }
}
