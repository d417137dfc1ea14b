//! A coordinator behind a socket, requests to send it, and what its errors have to say.

use std::{net::SocketAddr, sync::Arc};

use tercet::{
    engine::{Engine, EngineConfig},
    http2::{Calls, serve},
    participants::Participants,
    proto::tercet::{
        participant::v1 as participant,
        v1::{self as pb, coordinator_service_client::CoordinatorServiceClient},
    },
    rpc::{self, Limits},
    store::MemoryStore,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::common::{clock, ledger::Ledger, store};

/// A coordinator behind a socket.
pub struct Coordinator {
    pub store: Arc<MemoryStore>,
    pub ledger: Arc<Ledger>,
    pub engine: Engine,
    pub client: CoordinatorServiceClient<Channel>,
    pub channel: Channel,
    pub address: SocketAddr,
}

pub async fn coordinator() -> Coordinator {
    let ledger = Ledger::new(clock());
    let participants = Arc::clone(&ledger);
    coordinator_with(ledger, participants, EngineConfig::default()).await
}

pub async fn coordinator_with(
    ledger: Arc<Ledger>,
    participants: Arc<dyn Participants>,
    config: EngineConfig,
) -> Coordinator {
    let store = Arc::new(store());
    let parts = Arc::clone(&store);
    let engine = Engine::new(parts, participants, Arc::new(ledger.clock), config);
    engine.recover();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let calls = Calls {
        hot: rpc::submits(engine.clone(), Limits::default()),
        others: Routes::new(rpc::service(engine.clone(), Limits::default())),
    };
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(serve(calls, 100, incoming, CancellationToken::new()));
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = channel.connect().await.unwrap();
    Coordinator {
        store,
        ledger,
        engine,
        client: CoordinatorServiceClient::new(channel.clone()),
        channel,
        address,
    }
}

/// Five from an account of the ledger.
pub fn branch(id: &str, participant: &str) -> pb::BranchSpec {
    pb::BranchSpec {
        branch_id: id.into(),
        payload: Some(participant::Payload {
            type_url: String::new(),
            value: "5".into(),
        }),
        target: Some(pb::branch_spec::Target::Contract(pb::ContractTarget {
            participant: participant.into(),
            resource: "take".into(),
        })),
        ..pb::BranchSpec::default()
    }
}

pub fn order(id: &str) -> pb::SubmitTransactionRequest {
    pb::SubmitTransactionRequest {
        transaction_id: id.into(),
        branches: vec![branch("b1", "stock"), branch("b2", "money")],
        ..pb::SubmitTransactionRequest::default()
    }
}

pub fn begin(id: &str) -> pb::BeginTransactionRequest {
    pb::BeginTransactionRequest {
        transaction_id: id.into(),
        ..pb::BeginTransactionRequest::default()
    }
}

pub fn commit(id: &str, branches: &[&str]) -> pb::CommitTransactionRequest {
    pb::CommitTransactionRequest {
        transaction_id: id.into(),
        branch_ids: branches.iter().map(ToString::to_string).collect(),
        wait_timeout: None,
    }
}

pub fn rollback(id: &str) -> pb::RollbackTransactionRequest {
    pb::RollbackTransactionRequest {
        transaction_id: id.into(),
        ..pb::RollbackTransactionRequest::default()
    }
}

pub fn get(id: &str) -> pb::GetTransactionRequest {
    pb::GetTransactionRequest {
        transaction_id: id.into(),
        ..pb::GetTransactionRequest::default()
    }
}

pub fn try_branch(id: &str, branch: pb::BranchSpec) -> pb::TryBranchRequest {
    pb::TryBranchRequest {
        transaction_id: id.into(),
        branch: Some(branch),
        wait_timeout: None,
    }
}

/// The details of an error, once its code and its reason are as expected.
#[track_caller]
pub fn expect<T: std::fmt::Debug>(
    answer: Result<T, Status>,
    code: Code,
    reason: &str,
) -> ErrorDetails {
    let status = answer.expect_err(reason);
    let details = status.get_error_details();
    let info = details.error_info();
    let info = info.unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(
        (status.code(), info.reason.as_str()),
        (code, reason),
        "{status:?}"
    );
    assert_eq!(info.domain, "tercet");
    assert!(!status.message().is_empty());
    details
}

pub fn bad_fields(details: &ErrorDetails) -> Vec<&str> {
    let request = details.bad_request().expect("it names the bad fields");
    request
        .field_violations
        .iter()
        .map(|it| it.field.as_str())
        .collect()
}

pub fn resource(details: &ErrorDetails) -> (&str, &str) {
    let info = details.resource_info().expect("it names the resource");
    (&info.resource_type, &info.resource_name)
}

pub fn violated(details: &ErrorDetails) -> &str {
    let failure = details
        .precondition_failure()
        .expect("it names the precondition");
    &failure.violations[0].subject
}
