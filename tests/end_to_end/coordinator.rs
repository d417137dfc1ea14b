//! A whole coordinator in this process, its store and its two accounts.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tercet::{
    config::{Config, Participant, Setting},
    proto::tercet::v1::{self as pb, coordinator_service_client::CoordinatorServiceClient},
    server::{Connector, ServeError, Server, SystemClock},
    store::MemoryStore,
};
use tercet_core::ids::ParticipantName;
use tercet_sdk::client::{Client, Options, Outcome, Submit, Transaction, TransactionState};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::Channel};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    account::{Account, Amount},
    services,
};

/// Longer than anything here takes on a busy machine; what is awaited comes at once.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub stock: Account,
    pub money: Account,
    pub store: Arc<MemoryStore>,
    pub config: Config,
    pub coordinator: Coordinator,
}

/// A coordinator that serves.
pub struct Coordinator {
    pub client: Client,
    pub raw: CoordinatorServiceClient<Channel>,
    pub channel: Channel,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), ServeError>>,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (stock, money) = (Account::serve("stock").await, Account::serve("money").await);
        let mut config = Config::defaults();
        name(&mut config, "stock", stock.address);
        name(&mut config, "money", money.address);
        change(&mut config);
        let store = Arc::new(MemoryStore::default());
        let coordinator = Coordinator::start(&config, &store).await;
        Self {
            stock,
            money,
            store,
            config,
            coordinator,
        }
    }

    /// The process dies; another one opens what was durable.
    pub async fn crash(&mut self) {
        self.store = Arc::new(self.store.crash());
        self.restart().await;
    }

    /// Another process on the same store.
    pub async fn restart(&mut self) {
        self.coordinator = Coordinator::start(&self.config, &self.store).await;
    }

    pub fn client(&self) -> &Client {
        &self.coordinator.client
    }

    pub fn raw(&self) -> CoordinatorServiceClient<Channel> {
        self.coordinator.raw.clone()
    }

    /// Submits in a task of its own.
    pub fn spawn(&self, order: Submit) -> JoinHandle<Outcome> {
        let client = self.client().clone();
        tokio::spawn(async move { client.submit(&order).await.unwrap() })
    }

    /// Waits until it has ended, and gives it as it is then.
    pub async fn end_of(&self, id: &str) -> Transaction {
        self.until(id, |it| {
            let state = it.state();
            matches!(
                state,
                TransactionState::Confirmed | TransactionState::Canceled | TransactionState::Mixed
            )
        })
        .await
    }

    /// Waits until it is as wanted, by watching it.
    pub async fn until(&self, id: &str, wanted: impl Fn(&Transaction) -> bool) -> Transaction {
        let look = async {
            let mut watch = self.client().watch(id);
            while let Some(change) = watch.next().await {
                change.unwrap();
                let transaction = self.client().get(id).await.unwrap();
                if wanted(&transaction) {
                    return transaction;
                }
            }
            self.client().get(id).await.unwrap()
        };
        let transaction = tokio::time::timeout(PATIENCE, look).await;
        let transaction = transaction.unwrap_or_else(|_| panic!("{id} never came to it"));
        assert!(wanted(&transaction), "{transaction:?}");
        transaction
    }

    /// Nothing is lost or left reserved, and both accounts have used so much.
    pub async fn expect_used(&self, used: i64) {
        self.stock.expect_used(used).await;
        self.money.expect_used(used).await;
    }
}

impl Coordinator {
    pub async fn start(config: &Config, store: &Arc<MemoryStore>) -> Self {
        let (listener, address) = services::listener().await;
        let server = Server::new(
            config,
            Arc::clone(store) as _,
            Connector::tcp(),
            Arc::new(SystemClock),
        )
        .unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let ended = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            server.run(incoming, stopped).await
        });
        let url = services::url(address);
        let channel = Channel::from_shared(url.clone()).unwrap();
        let channel = channel.connect().await.unwrap();
        Self {
            client: Client::new(url).unwrap(),
            raw: CoordinatorServiceClient::new(channel.clone()),
            channel,
            stop,
            ended,
        }
    }

    /// Asks it to shut down.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended, and says how long that took.
    pub async fn ended(&mut self) -> (Result<(), ServeError>, Duration) {
        let since = Instant::now();
        let ended = tokio::time::timeout(PATIENCE, &mut self.ended).await;
        (ended.expect("it ends").unwrap(), since.elapsed())
    }
}

/// Tells the coordinator where a participant is.
pub fn name(config: &mut Config, name: &str, address: SocketAddr) {
    let mut endpoints = config.allowed_endpoints.clone();
    endpoints.value = vec![services::url(address)];
    let sessions = Setting {
        value: false,
        origin: endpoints.origin.clone(),
    };
    let participant = Participant {
        endpoints,
        sessions,
        call_timeout: config.call_timeout.clone(),
    };
    let name = ParticipantName::parse(name).unwrap();
    config.participants.insert(name, participant);
}

/// Five from stock and five from money, with attempts that follow each other quickly.
pub fn order(id: &str) -> Submit {
    let five = Amount { count: 5 };
    Submit::new(id)
        .options(quick())
        .branch("stock", "take", &five)
        .branch("money", "take", &five)
}

pub fn quick() -> Options {
    Options::new()
        .transaction_type("place-order")
        .try_timeout(Duration::from_secs(1))
        .retry_intervals(&[Duration::from_millis(100)])
        .retry_jitter_permille(0)
}

/// The same as a request of the generated client.
pub fn request(id: &str) -> pb::SubmitTransactionRequest {
    let branch = |participant: &str| pb::BranchSpec {
        payload: Some(amount(5)),
        target: Some(pb::branch_spec::Target::Contract(pb::ContractTarget {
            participant: participant.into(),
            resource: "take".into(),
        })),
        ..pb::BranchSpec::default()
    };
    pb::SubmitTransactionRequest {
        transaction_id: id.into(),
        branches: vec![branch("stock"), branch("money")],
        ..pb::SubmitTransactionRequest::default()
    }
}

pub fn amount(count: i64) -> tercet::proto::tercet::participant::v1::Payload {
    tercet::proto::tercet::participant::v1::Payload {
        type_url: String::new(),
        value: prost::Message::encode_to_vec(&Amount { count }).into(),
    }
}

#[track_caller]
pub fn success(outcome: Outcome) -> Transaction {
    match outcome {
        Outcome::Success(transaction) => transaction,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn failed(outcome: Outcome) -> tercet_sdk::client::Failed {
    match outcome {
        Outcome::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
pub fn processing(outcome: Outcome) -> Transaction {
    match outcome {
        Outcome::Processing(processing) => match processing.transaction() {
            Some(transaction) => transaction.clone(),
            None => panic!("{:?}", processing.cause()),
        },
        other => panic!("{other:?}"),
    }
}

/// The details of an error, once its code and reason are as expected.
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
    let said = (status.code(), info.reason.as_str());
    assert_eq!(said, (code, reason), "{status:?}");
    details
}
