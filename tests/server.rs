//! The server as a whole, in this process: how it shows its health, and how it ends.

mod support;

use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use futures::FutureExt as _;
use support::records::fresh;
use tercet::{
    config::Config,
    server::{self, Connector, ServeError},
    store::{MemoryStore, Store},
};
use tercet_core::ids::Realm;
use tercet_sdk::client::{Client, Submit};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::http,
    transport::{Channel, Endpoint, server::TcpIncoming},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Only a test that fails waits as long.
const END_TIMEOUT: Duration = Duration::from_secs(30);

struct Running {
    url: String,
    shutdown: CancellationToken,
    served: JoinHandle<Result<(), ServeError>>,
}

impl Running {
    async fn start(store: MemoryStore) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let shutdown = CancellationToken::new();
        let asked = shutdown.clone().cancelled_owned();
        let store: Arc<dyn Store> = Arc::new(store);
        let served = tokio::spawn(async move {
            let incoming = TcpIncoming::from(listener);
            let config = Config::defaults();
            server::run(&config, store, incoming, Connector::tcp(), asked).await
        });
        Self {
            url,
            shutdown,
            served,
        }
    }

    async fn channel(&self) -> Channel {
        let endpoint = Endpoint::from_shared(self.url.clone()).expect("a URL");
        endpoint.connect().await.expect("it listens")
    }

    async fn end(self) -> Result<(), ServeError> {
        let ended = tokio::time::timeout(END_TIMEOUT, self.served).await;
        ended.expect("it ends in time").expect("it doesn't panic")
    }
}

fn store() -> MemoryStore {
    MemoryStore::new(Realm::parse("test").expect("a name"))
}

fn about(service: &str) -> HealthCheckRequest {
    HealthCheckRequest {
        service: service.into(),
    }
}

#[tokio::test]
async fn a_watch_of_its_health_sees_the_end_coming_and_does_not_hold_it_up() {
    let running = Running::start(store()).await;
    let mut health = HealthClient::new(running.channel().await);
    for service in ["", "tercet.v1.CoordinatorService"] {
        let answer = health.check(about(service)).await.expect("it is served");
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving);
    }
    let mut watch = health
        .watch(about(""))
        .await
        .expect("it is served")
        .into_inner();
    let first = watch
        .message()
        .await
        .expect("it goes on")
        .expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);

    running.shutdown.cancel();
    let next = watch
        .message()
        .await
        .expect("it goes on")
        .expect("a status");
    assert_eq!(next.status(), ServingStatus::NotServing);
    assert!(watch.message().await.expect("it ends well").is_none());
    running.end().await.expect("it was asked to end");
}

#[tokio::test]
async fn a_broken_store_ends_it_with_the_reason() {
    let store = store();
    store.fail_commit(1);
    let running = Running::start(store).await;
    let client = Client::new(&running.url).expect("a URL");
    let order = Submit::new("order-1").wait(Duration::ZERO);
    let order = order.branch_raw("nobody", "reserve", Vec::new());
    // Unknown to everybody, so nothing is committed: the store is still whole.
    client.submit(&order).await.expect_err("it is refused");
    // An id that nobody knows is recorded as canceled, which is the first commit.
    let rollback = client.rollback("order-2", "a test", Duration::ZERO).await;
    drop(rollback);
    match running.end().await {
        Err(ServeError::StoreBroken(reason)) => assert!(!reason.is_empty()),
        other => panic!("{other:?}"),
    }
}

/// Both may be ready at the same moment, and which is seen first is up to chance.
#[tokio::test]
async fn a_store_that_breaks_while_it_is_asked_to_end_is_told_all_the_same() {
    for _ in 0..20 {
        let store = store();
        store.fail_commit(1);
        let commit = store.commit(Arc::new(fresh(&store, "order-1"))).await;
        commit.expect_err("it is broken now");
        let running = Running::start(store).await;
        running.shutdown.cancel();
        let ended = running.end().await;
        assert!(
            matches!(ended, Err(ServeError::StoreBroken(_))),
            "{ended:?}"
        );
    }
}

#[tokio::test]
async fn it_ends_when_no_more_connections_can_come() {
    let incoming = futures::stream::empty::<Result<tokio::net::TcpStream, std::io::Error>>();
    let store: Arc<dyn Store> = Arc::new(store());
    let config = Config::defaults();
    let served = server::run(&config, store, incoming, Connector::tcp(), pending());
    let served = tokio::time::timeout(END_TIMEOUT, served).await;
    served
        .expect("it ends in time")
        .expect("nothing went wrong");
}

/// An HTTP/2 server may take calls that are reset before it has looked at them for an attack, and close the
/// connection with all that is on it.
#[tokio::test]
async fn a_client_that_gives_up_on_all_its_calls_keeps_its_connection() {
    let running = Running::start(store()).await;
    let address = running.url.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (requests, connection) = h2::client::handshake(stream)
        .await
        .expect("it speaks HTTP/2");
    let mut connection = pin!(connection);
    let call = || {
        let method = format!("{}/grpc.health.v1.Health/Check", running.url);
        let call = http::Request::post(method).header("content-type", "application/grpc");
        call.body(()).expect("a request")
    };
    // Here nothing else runs in between, so that the server finds both at once.
    let mut requests = requests.ready().await.expect("it is open");
    let calls: Vec<_> = (0..100)
        .map(|_| requests.send_request(call(), false).expect("a place"))
        .collect();
    assert!(connection.as_mut().now_or_never().is_none());
    drop(calls);
    assert!(connection.as_mut().now_or_never().is_none());
    let (answer, _body) = requests.send_request(call(), true).expect("a place");
    let answer = tokio::select! {
        answer = answer => answer,
        ended = connection => panic!("the connection ended: {ended:?}"),
    };
    assert!(answer.is_ok(), "{answer:?}");
}
