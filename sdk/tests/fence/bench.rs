//! A participant on the bench: its service called in process, with a clock that can be set.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use prost::Message;
use tercet_sdk::{
    participant::{
        Branch, Fence, Later, Participant, ParticipantServiceServer, Resource, Service, TryError,
        refuse,
    },
    proto::participant::v1::{
        BranchContext, CancelRequest, ConfirmRequest, Failure, Outcome, Payload, QueryRequest,
        QueryResponse, RecordState, TryRequest,
        participant_service_client::ParticipantServiceClient,
    },
};
use tonic::Status;

use crate::databases::{Database, Shelved};

pub const NOW_MS: i64 = 1_800_000_000_000;
pub const EXPIRE_MS: i64 = NOW_MS + 30_000;

/// The payload of every test.
#[derive(Clone, PartialEq, Message)]
pub struct Reserve {
    #[prost(int64, tag = "1")]
    pub count: i64,
    #[prost(string, tag = "2")]
    pub fault: String,
}

/// So many, and nothing goes wrong.
pub fn reserve(count: i64) -> Reserve {
    Reserve {
        count,
        fault: String::new(),
    }
}

/// One, and this goes wrong after the shelf was changed.
pub fn faulty(fault: &str) -> Reserve {
    Reserve {
        count: 1,
        fault: fault.to_owned(),
    }
}

/// Moves stock from free to held to used, or back.
struct Stock;

impl<C: Shelved + Send> Resource<C> for Stock {
    const NAME: &'static str = "stock";
    type Request = Reserve;
    type Held = Reserve;

    async fn on_try(&self, db: &mut C, _: &Branch, r: Reserve) -> Result<Reserve, TryError> {
        if !db.shift(-r.count, r.count, 0).await? {
            return Err(refuse("OUT_OF_STOCK").with("count", r.count));
        }
        match &*r.fault {
            "refuse" => Err(refuse("UNWANTED")),
            "break" => db.break_it().await.map(|()| r).map_err(Into::into),
            "panic" => panic!("as the request asked"),
            "large" => Ok(Reserve {
                fault: "x".repeat(65_536),
                ..r
            }),
            _ => Ok(r),
        }
    }

    async fn on_confirm(&self, db: &mut C, _: &Branch, r: Reserve) -> Result<(), Later> {
        if !db.shift(0, -r.count, r.count).await? {
            return Err(Later::indeterminate("less is held than was"));
        }
        if r.fault == "refuse-confirm" {
            return Err(Later::refused("FROZEN"));
        }
        Ok(())
    }

    async fn on_cancel(&self, db: &mut C, _: &Branch, r: Reserve) -> Result<(), Later> {
        if !db.shift(r.count, -r.count, 0).await? {
            return Err(Later::indeterminate("less is held than was"));
        }
        Ok(())
    }
}

pub struct Bench<F: Fence> {
    client: ParticipantServiceClient<ParticipantServiceServer<Service<F>>>,
    now_ms: Arc<AtomicI64>,
}

impl<F: Fence> Clone for Bench<F> {
    fn clone(&self) -> Self {
        let now_ms = Arc::clone(&self.now_ms);
        Self {
            client: self.client.clone(),
            now_ms,
        }
    }
}

/// A participant with [`Stock`] in this database.
pub fn bench<D: Database>(database: &D) -> Bench<D::Fence> {
    Bench::of(Participant::new("bench", database.fence()).resource(Stock))
}

impl<F: Fence> Bench<F> {
    pub fn of(participant: Participant<F>) -> Self {
        let now_ms = Arc::new(AtomicI64::new(NOW_MS));
        let clock = Arc::clone(&now_ms);
        let participant = participant.clock(move || clock.load(Ordering::SeqCst));
        let client = ParticipantServiceClient::new(participant.into_service().unwrap());
        Self { client, now_ms }
    }

    pub fn set_clock(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }

    pub async fn r#try(
        &self,
        context: &BranchContext,
        reserve: &Reserve,
    ) -> Result<Answer, Status> {
        let payload = Some(Payload {
            type_url: String::new(),
            value: reserve.encode_to_vec().into(),
        });
        let request = TryRequest {
            context: Some(context.clone()),
            payload,
        };
        let reply = self.client.clone().r#try(request).await?.into_inner();
        let answer = answer(reply.outcome(), reply.failure.clone());
        let held = reply.result;
        Ok(Answer {
            result: held.map(|held| Reserve::decode(held.value).unwrap()),
            ..answer
        })
    }

    pub async fn confirm(&self, context: &BranchContext) -> Result<Answer, Status> {
        let request = ConfirmRequest {
            context: Some(context.clone()),
            ..Default::default()
        };
        let reply = self.client.clone().confirm(request).await?.into_inner();
        Ok(answer(reply.outcome(), reply.failure.clone()))
    }

    pub async fn cancel(&self, context: &BranchContext) -> Result<Answer, Status> {
        let request = CancelRequest {
            context: Some(context.clone()),
            ..Default::default()
        };
        let reply = self.client.clone().cancel(request).await?.into_inner();
        Ok(answer(reply.outcome(), reply.failure.clone()))
    }

    pub async fn query(&self, context: &BranchContext) -> Result<QueryResponse, Status> {
        let request = QueryRequest {
            context: Some(context.clone()),
        };
        Ok(self.client.clone().query(request).await?.into_inner())
    }

    /// What Query says the participant has recorded.
    pub async fn state(&self, context: &BranchContext) -> RecordState {
        self.query(context).await.unwrap().state()
    }
}

/// The answer to a Try, Confirm or Cancel.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub outcome: Outcome,
    pub reason: String,
    pub result: Option<Reserve>,
}

fn answer(outcome: Outcome, failure: Option<Failure>) -> Answer {
    let reason = failure.map(|failure| failure.reason).unwrap_or_default();
    Answer {
        outcome,
        reason,
        result: None,
    }
}

impl Answer {
    pub fn is_success(&self) -> bool {
        self.outcome == Outcome::Success
    }

    /// FAILED, for this reason.
    pub fn failed_for(&self, reason: &str) -> bool {
        self.outcome == Outcome::Failed && self.reason == reason
    }
}

/// The context of a branch of this transaction.
pub fn branch(transaction_id: &str) -> BranchContext {
    context("stock", transaction_id)
}

pub fn context(resource: &str, transaction_id: &str) -> BranchContext {
    BranchContext {
        transaction_id: transaction_id.to_owned(),
        branch_id: "b1".to_owned(),
        resource: resource.to_owned(),
        attempt: 1,
        expire_time: Some(timestamp(EXPIRE_MS)),
        epoch: 1,
        realm: "realm-1".to_owned(),
        ..Default::default()
    }
}

pub fn timestamp(ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: ms.div_euclid(1000),
        nanos: i32::try_from(ms.rem_euclid(1000)).unwrap() * 1_000_000,
    }
}
