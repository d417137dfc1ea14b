//! Participants in this process, with the pure rule of the fence over the world's rows.

use std::{sync::Arc, time::Duration};

use tercet_core::{
    fence::{self, Action, Call, HORIZON_NONE_MS, Row, Stored, Work},
    operation::{Operation, RecordState},
};
use tercet_sdk::{
    participant::ParticipantServiceServer,
    proto::participant::v1::{
        BranchContext, CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, Failure,
        Outcome, Payload, QueryRequest, QueryResponse, RecordState as Wire, TryRequest,
        TryResponse, participant_service_server::ParticipantService,
    },
};
use tokio::net::TcpListener;
use tonic::{
    Request, Response, Status,
    transport::{Server, server::TcpIncoming},
};

use super::{
    history::LedgerEffect,
    world::{Branch, PARTICIPANTS, World},
};

/// Some calls take as long, so that every moment finds transactions in every state.
const DELAY_MS_MAX: u64 = 20;
pub const ACCOUNT: &str = "plenty";

/// The one resource of every participant.
pub const RESOURCE: &str = "take";

/// What a client asks of a participant.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Take {
    #[prost(int64, tag = "1")]
    pub amount: i64,
    /// The participant says no.
    #[prost(bool, tag = "2")]
    pub refused: bool,
    /// As [`filling`] says, of any length.
    #[prost(bytes = "vec", tag = "3")]
    pub filling: Vec<u8>,
}

/// Bytes that only this branch has, so that a payload that is cut, changed or another's shows.
pub fn filling(transaction: &str, branch: &str, len: usize) -> Vec<u8> {
    let seed = crc32c::crc32c(format!("{transaction}/{branch}").as_bytes());
    let mut rng = fastrand::Rng::with_seed(seed.into());
    std::iter::repeat_with(|| rng.u8(..)).take(len).collect()
}

/// Starts all of them. Returns what the coordinator has to be told: NAME=URL.
pub async fn start_all(world: &Arc<World>) -> Vec<String> {
    let mut addresses = Vec::new();
    for name in PARTICIPANTS {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.push(format!("{name}=http://{}", listener.local_addr().unwrap()));
        let world = Arc::clone(world);
        let service = ParticipantServiceServer::new(Desk { name, world });
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming),
        );
    }
    addresses
}

struct Desk {
    name: &'static str,
    world: Arc<World>,
}

/// What came of a call that is not an error.
enum Reply {
    Success,
    Failed(&'static str),
}

impl Desk {
    fn branch(&self, context: &BranchContext) -> Branch {
        (
            self.name,
            context.transaction_id.as_str().into(),
            context.branch_id.as_str().into(),
        )
    }

    async fn perform(
        &self,
        operation: Operation,
        context: Option<BranchContext>,
        payload: Option<Payload>,
    ) -> Result<Reply, Status> {
        let age = self.world.age();
        let context = context.expect("a coordinator sends it");
        let branch = self.branch(&context);
        let take = read(&branch, payload);
        if fastrand::bool() {
            let delay = Duration::from_millis(fastrand::u64(..DELAY_MS_MAX));
            tokio::time::sleep(delay).await;
        }
        let call = Call {
            operation,
            epoch: context.epoch,
            expire_time_ms: ms(context.expire_time.unwrap()),
            work: Work::Local,
        };
        let act = |row: Option<&Row>| decide(&branch, &take, row, &call);
        let acted = self.world.participate(age, &branch, act);
        acted.unwrap_or_else(|| Err(Status::unavailable("of another time")))
    }
}

type Decided = (Option<Row>, Option<LedgerEffect>, Result<Reply, Status>);

fn decide(branch: &Branch, take: &Take, row: Option<&Row>, call: &Call) -> Decided {
    let now = std::time::SystemTime::now();
    let action = fence::rule(row, call, HORIZON_NONE_MS, ms(now.into()));
    let after = action.row_after(row, call);
    match action {
        Action::Run(fence::State::Tried) if take.refused => {
            (row.copied(), None, Ok(Reply::Failed("NOTHING_LEFT")))
        }
        Action::Run(_) => {
            let effect = LedgerEffect {
                transaction: branch.1.clone(),
                branch: branch.2.clone(),
                operation: call.operation,
                account: ACCOUNT.into(),
                amount: take.amount,
            };
            (after, Some(effect), Ok(Reply::Success))
        }
        Action::Tombstone | Action::Stored(Stored::TryResult | Stored::Done) => {
            (after, None, Ok(Reply::Success))
        }
        Action::Refuse(refusal) => (after, None, Ok(Reply::Failed(refusal.reason()))),
        Action::Alarm(alarm) => {
            let status = Status::failed_precondition(alarm.to_string());
            (after, None, Err(status))
        }
        Action::Own(_) | Action::Stored(Stored::TryFailure) => {
            unreachable!("no work here is remote")
        }
    }
}

fn read((_, transaction, branch): &Branch, payload: Option<Payload>) -> Take {
    let take: Take = prost::Message::decode(payload.unwrap_or_default().value).unwrap();
    let sent = filling(transaction, branch, take.filling.len());
    assert!(
        take.filling == sent,
        "the payload of {transaction}/{branch} is not what was sent"
    );
    take
}

fn ms(time: prost_types::Timestamp) -> i64 {
    time.seconds * 1_000 + i64::from(time.nanos) / 1_000_000
}

fn failure(reason: &str) -> Option<Failure> {
    Some(Failure {
        reason: reason.into(),
        ..Failure::default()
    })
}

#[tonic::async_trait]
impl ParticipantService for Desk {
    async fn r#try(&self, request: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        let TryRequest { context, payload } = request.into_inner();
        let mut response = TryResponse::default();
        match self.perform(Operation::Try, context, payload).await? {
            Reply::Success => response.set_outcome(Outcome::Success),
            Reply::Failed(reason) => {
                response.set_outcome(Outcome::Failed);
                response.failure = failure(reason);
            }
        }
        Ok(Response::new(response))
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        let ConfirmRequest {
            context, payload, ..
        } = request.into_inner();
        let mut response = ConfirmResponse::default();
        match self.perform(Operation::Confirm, context, payload).await? {
            Reply::Success => response.set_outcome(Outcome::Success),
            Reply::Failed(reason) => panic!("a Confirm is never refused: {reason}"),
        }
        Ok(Response::new(response))
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        let CancelRequest {
            context, payload, ..
        } = request.into_inner();
        let mut response = CancelResponse::default();
        match self.perform(Operation::Cancel, context, payload).await? {
            Reply::Success => response.set_outcome(Outcome::Success),
            Reply::Failed(reason) => panic!("a Cancel is never refused: {reason}"),
        }
        Ok(Response::new(response))
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        let context = request
            .into_inner()
            .context
            .expect("a coordinator sends it");
        let row = self.world.row(&self.branch(&context));
        let mut response = QueryResponse::default();
        response.set_state(match fence::record_state(row.as_ref()) {
            RecordState::Unknown => Wire::Unknown,
            RecordState::Tried => Wire::Tried,
            RecordState::Confirmed => Wire::Confirmed,
            RecordState::Canceled => Wire::Canceled,
            other => unreachable!("no work here is remote: {other:?}"),
        });
        Ok(Response::new(response))
    }
}
