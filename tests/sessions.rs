//! The whole coordinator with participants that connect out: made with the SDK, over TCP, several
//! instances on one fence. What goes over a session frame by frame is in `tests/participants/sessions`,
//! what the SDK does about its sessions in `sdk/tests/session`.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tercet::{
    config::{Config, FlagValue, Sources},
    proto::tercet::participant::v1::{
        OpenSessionRequest, SessionHello, open_session_request::Frame as Said,
        open_session_response::Frame as Heard, session_service_client::SessionServiceClient,
    },
    server::{Connector, ServeError, Server, SystemClock},
    store::MemoryStore,
};
use tercet_sdk::{
    client::{Client, Options, Outcome, Submit, TransactionState},
    participant::{
        Branch, Later, MemoryFence, Participant, Resource, ServeError as NotServed, TryError,
    },
};
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
    task::JoinHandle,
};
use tokio_stream::wrappers::{TcpListenerStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes on a busy machine; what is awaited comes at once.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seats {
    held: i64,
    sold: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Ask {
    #[prost(int64, tag = "1")]
    count: i64,
}

/// Holds and sells seats; when it has a gate, each Try waits there.
#[derive(Clone, Default)]
struct Booking {
    gate: Option<Arc<Notify>>,
    begun: Arc<Notify>,
}

impl Booking {
    /// One with a gate, what opens it, and what tells that a Try waits there.
    fn gated() -> (Self, Arc<Notify>, Arc<Notify>) {
        let (gate, begun) = (Arc::<Notify>::default(), Arc::<Notify>::default());
        let booking = Self {
            gate: Some(Arc::clone(&gate)),
            begun: Arc::clone(&begun),
        };
        (booking, gate, begun)
    }
}

impl Resource<Seats> for Booking {
    const NAME: &'static str = "seat";
    type Request = Ask;
    type Held = Ask;

    async fn on_try(&self, it: &mut Seats, _: &Branch, ask: Ask) -> Result<Ask, TryError> {
        self.begun.notify_one();
        if let Some(gate) = &self.gate {
            gate.notified().await;
        }
        it.held += ask.count;
        Ok(ask)
    }

    async fn on_confirm(&self, it: &mut Seats, _: &Branch, held: Ask) -> Result<(), Later> {
        it.held -= held.count;
        it.sold += held.count;
        Ok(())
    }

    async fn on_cancel(&self, it: &mut Seats, _: &Branch, held: Ask) -> Result<(), Later> {
        it.held -= held.count;
        Ok(())
    }
}

/// The coordinator's process.
struct Coordinator {
    server: Arc<Server>,
    address: SocketAddr,
    stop: CancellationToken,
    ended: JoinHandle<Result<(), ServeError>>,
}

/// A participant's process.
struct Process {
    stop: CancellationToken,
    ended: JoinHandle<Result<(), NotServed>>,
}

/// The settings of a coordinator whose participants are named so.
fn config(participants: &[&str]) -> Config {
    let participant = |value: &&str| FlagValue {
        key: "participant".into(),
        value: (*value).to_owned(),
        flag: "--participant".into(),
    };
    let flags = participants.iter().map(participant).collect();
    let sources = Sources {
        flags,
        ..Sources::default()
    };
    sources.load().expect("it is valid")
}

impl Coordinator {
    async fn start(address: &str, config: &Config, store: &Arc<MemoryStore>) -> Self {
        let listener = TcpListener::bind(address).await.expect("it is free");
        let address = listener.local_addr().expect("it is bound");
        let store = Arc::clone(store) as _;
        let server = Server::new(config, store, Connector::tcp(), Arc::new(SystemClock));
        let server = Arc::new(server.expect("it is valid"));
        let stop = CancellationToken::new();
        let (running, stopped) = (Arc::clone(&server), stop.clone().cancelled_owned());
        let incoming = TcpListenerStream::new(listener);
        let ended = tokio::spawn(async move { running.run(incoming, stopped).await });
        Self {
            server,
            address,
            stop,
            ended,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn client(&self) -> Client {
        Client::new(self.url()).expect("a URL")
    }

    fn submit(&self, order: Submit) -> JoinHandle<Outcome> {
        let client = self.client();
        tokio::spawn(async move { client.submit(&order).await.expect("it is accepted") })
    }

    async fn stop(self) {
        self.stop.cancel();
        let ended = within(self.ended).await.expect("it doesn't panic");
        ended.expect("it was asked to end");
    }
}

impl Process {
    fn start(url: String, fence: &MemoryFence<Seats>, booking: Booking) -> Self {
        let participant = Participant::new("airline", fence.clone()).resource(booking);
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let ended = tokio::spawn(participant.connect(url, stopped));
        Self { stop, ended }
    }

    async fn stop(self) {
        self.stop.cancel();
        let ended = within(self.ended).await.expect("it doesn't panic");
        ended.expect("it was asked to end");
    }
}

fn order(id: &str) -> Submit {
    let options = Options::new()
        .transaction_type("trip")
        .try_timeout(Duration::from_secs(10))
        .retry_intervals(&[Duration::from_millis(100)])
        .retry_jitter_permille(0);
    Submit::new(id)
        .options(options)
        .branch("airline", "seat", &Ask { count: 2 })
}

fn fence() -> MemoryFence<Seats> {
    MemoryFence::new(Seats::default())
}

async fn expect_sold(fence: &MemoryFence<Seats>, sold: i64) {
    assert_eq!(fence.read(|it| *it).await, Seats { held: 0, sold });
}

async fn success(outcome: JoinHandle<Outcome>) {
    let outcome = within(outcome).await.expect("it doesn't panic");
    assert!(matches!(outcome, Outcome::Success(_)), "{outcome:?}");
}

async fn within<T>(what: impl Future<Output = T>) -> T {
    let what = tokio::time::timeout(PATIENCE, what).await;
    what.expect("it comes in time")
}

#[tokio::test]
async fn a_participant_without_an_address_takes_part() {
    let store = Arc::new(MemoryStore::default());
    let coordinator =
        Coordinator::start("127.0.0.1:0", &config(&["airline=sessions"]), &store).await;
    let fence = fence();
    // The order may come before the participant.
    let early = coordinator.submit(order("early"));
    let process = Process::start(coordinator.url(), &fence, Booking::default());
    success(early).await;
    for id in ["o1", "o2"] {
        success(coordinator.submit(order(id))).await;
    }
    expect_sold(&fence, 6).await;
    process.stop().await;
    coordinator.stop().await;
}

/// An instance that takes its calls, and dies before it has answered any.
#[tokio::test]
async fn what_an_instance_leaves_undone_is_found_out_and_done_by_another() {
    let store = Arc::new(MemoryStore::default());
    let coordinator =
        Coordinator::start("127.0.0.1:0", &config(&["airline=sessions"]), &store).await;
    let mut client = SessionServiceClient::connect(coordinator.url())
        .await
        .unwrap();
    let (says, said) = mpsc::unbounded_channel();
    let hello = SessionHello {
        participant: "airline".into(),
        instance_id: "doomed".into(),
        max_in_flight: 10,
        ..SessionHello::default()
    };
    let frame = Some(Said::Hello(hello));
    says.send(OpenSessionRequest { frame }).unwrap();
    let doomed = client
        .open_session(UnboundedReceiverStream::new(said))
        .await;
    let mut doomed = doomed.unwrap().into_inner();

    let outcome = coordinator.submit(order("o1"));
    while !matches!(
        within(doomed.message()).await.unwrap().unwrap().frame,
        Some(Heard::Calls(_))
    ) {}
    let fence = fence();
    let process = Process::start(coordinator.url(), &fence, Booking::default());
    drop((doomed, says, client));
    success(outcome).await;
    expect_sold(&fence, 2).await;

    let events = coordinator.client().events("o1").await.unwrap();
    let told: Vec<_> = events.iter().map(|it| format!("{it:?}")).collect();
    let told = told.join("\n");
    assert!(
        told.contains("the session ended before the reply"),
        "{told}"
    );
    process.stop().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_comes_back_finds_its_participants_again() {
    let store = Arc::new(MemoryStore::default());
    let mut config = config(&["airline=sessions"]);
    config.drain.value = Duration::ZERO;
    let coordinator = Coordinator::start("127.0.0.1:0", &config, &store).await;
    let fence = fence();
    let (booking, gate, begun) = Booking::gated();
    let process = Process::start(coordinator.url(), &fence, booking);
    let caller = coordinator.submit(order("o1"));
    within(begun.notified()).await;

    // It ends with the Try under way. Another process takes its place on the same address.
    let address = coordinator.address.to_string();
    coordinator.stop().await;
    caller.abort();
    gate.notify_one();
    let coordinator = Coordinator::start(&address, &config, &store).await;
    let client = coordinator.client();
    let ended = within(async {
        loop {
            let outcome = client.wait("o1", PATIENCE).await.unwrap();
            if let Outcome::Success(ended) = outcome {
                return ended;
            }
        }
    });
    assert_eq!(ended.await.state(), TransactionState::Confirmed);
    expect_sold(&fence, 2).await;
    process.stop().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_participant_that_shuts_down_ends_what_it_has_and_the_next_one_goes_on() {
    let store = Arc::new(MemoryStore::default());
    let coordinator =
        Coordinator::start("127.0.0.1:0", &config(&["airline=sessions"]), &store).await;
    let fence = fence();
    let (booking, gate, begun) = Booking::gated();
    let old = Process::start(coordinator.url(), &fence, booking);
    let first = coordinator.submit(order("o1"));
    within(begun.notified()).await;
    old.stop.cancel();
    let new = Process::start(coordinator.url(), &fence, Booking::default());
    gate.notify_one();
    success(first).await;
    within(old.ended).await.unwrap().unwrap();
    success(coordinator.submit(order("o2"))).await;
    expect_sold(&fence, 4).await;
    new.stop().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn a_coordinator_that_shuts_down_takes_the_last_replies_and_does_not_wait_for_streams() {
    let store = Arc::new(MemoryStore::default());
    let coordinator =
        Coordinator::start("127.0.0.1:0", &config(&["airline=sessions"]), &store).await;
    let fence = fence();
    let (booking, gate, begun) = Booking::gated();
    let process = Process::start(coordinator.url(), &fence, booking);
    let caller = coordinator.submit(order("o1"));
    within(begun.notified()).await;
    coordinator.stop.cancel();
    gate.notify_one();
    coordinator.stop().await;
    drop(caller.await);
    expect_sold(&fence, 2).await;
    process.stop().await;
}

#[tokio::test]
async fn who_is_not_configured_yet_gets_in_once_it_is() {
    let store = Arc::new(MemoryStore::default());
    let coordinator = Coordinator::start("127.0.0.1:0", &config(&[]), &store).await;
    let mut client = SessionServiceClient::connect(coordinator.url())
        .await
        .unwrap();
    let hello = SessionHello {
        participant: "airline".into(),
        instance_id: "a".into(),
        max_in_flight: 10,
        ..SessionHello::default()
    };
    let frame = Some(Said::Hello(hello));
    let hello = || {
        tokio_stream::iter([OpenSessionRequest {
            frame: frame.clone(),
        }])
    };
    let refused = client.open_session(hello()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert!(
        refused.message().contains("configured are: none"),
        "{refused:?}"
    );

    let with = config(&["airline=sessions"]);
    coordinator.server.reload_participants(&with).unwrap();
    let opened = client
        .open_session(hello())
        .await
        .unwrap()
        .into_inner()
        .message()
        .await;
    assert!(matches!(
        opened.unwrap().unwrap().frame,
        Some(Heard::Welcome(_))
    ));
    coordinator.stop().await;
}
