//! Servers to call and calls to make.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Future, Ready, ready},
    marker::PhantomData,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use prost::bytes::{Buf, BufMut, Bytes};
use tercet::{
    participants::{Connector, GrpcParticipants, Outgoing, ParticipantConfig, ParticipantsConfig},
    proto::tercet::participant::v1::{
        CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, Outcome, QueryRequest,
        QueryResponse, TryRequest, TryResponse,
        participant_service_server::{ParticipantService, ParticipantServiceServer},
    },
    store::Origin,
};
use tercet_core::{
    ids::{BranchId, ParticipantName, Realm, TransactionId},
    operation::Operation,
    payload::{Failure, Payload},
    step::Call,
    transaction::{BranchSpec, Methods, Target},
};
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Service, http},
    server::{NamedService, UnaryService},
    transport::{Server, server::TcpIncoming},
};

/// What a call is made of, unless a test says otherwise.
pub(crate) fn outgoing(operation: Operation, target: Target) -> Outgoing {
    Outgoing {
        realm: Realm::parse("realm-1").unwrap(),
        epoch: 7,
        id: TransactionId::parse("order-1").unwrap(),
        origin: Arc::new(Origin {
            labels: BTreeMap::from([("team".into(), "blue".into())]),
            switches: BTreeMap::from([("new-stock".into(), "on".into())]),
            create_ms: 1_700_000_000_001,
            expire_ms: 1_700_000_030_250,
            report_token: 0xfeed,
            traceparent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            ..Origin::default()
        }),
        spec: Arc::new(BranchSpec {
            id: BranchId::parse("b1").unwrap(),
            target,
            payload: payload(b"reserve-me"),
            try_timeout_ms: 10_000,
        }),
        call: Call {
            branch: 0,
            operation,
            query: false,
            attempt: 1,
        },
        try_result: Some(payload(b"held")),
        cause: Some(Failure::new("OUT_OF_STOCK", "none left")),
    }
}

pub(crate) fn payload(value: &[u8]) -> Payload {
    Payload {
        type_url: "shop.v1.Reserve".into(),
        value: value.into(),
    }
}

pub(crate) fn stock() -> Target {
    Target::Contract {
        participant: ParticipantName::parse("stock").unwrap(),
        resource: "reserve".into(),
    }
}

pub(crate) fn shop_methods(endpoint: &str) -> Methods {
    Methods {
        endpoint: endpoint.into(),
        try_method: "/shop.Stock/Reserve".into(),
        confirm_method: "/shop.Stock/Take".into(),
        cancel_method: "/shop.Stock/Release".into(),
        query_method: Some("/shop.Stock/Look".into()),
        confirm_payload: None,
        cancel_payload: None,
    }
}

pub(crate) fn url(address: SocketAddr) -> String {
    format!("http://{address}")
}

/// `stock` at these endpoints.
pub(crate) fn config(endpoints: &[SocketAddr]) -> ParticipantsConfig {
    let endpoints = endpoints.iter().copied().map(url).collect();
    let stock = ParticipantConfig {
        call_timeout_ms: 10_000,
        ..ParticipantConfig::new(endpoints)
    };
    ParticipantsConfig {
        participants: BTreeMap::from([(ParticipantName::parse("stock").unwrap(), stock)]),
        ..ParticipantsConfig::default()
    }
}

pub(crate) fn participants(endpoints: &[SocketAddr]) -> GrpcParticipants {
    GrpcParticipants::new(&config(endpoints), Connector::tcp()).unwrap()
}

pub(crate) async fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// An address at which nobody listens.
pub(crate) async fn closed_port() -> SocketAddr {
    listener().await.1
}

/// A server that does this with its first connection and then keeps it, unless it drops it.
pub(crate) async fn socket<F>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream).await;
        let _open = listener;
        std::future::pending::<()>().await;
    });
    address
}

/// Reads until the request's payload has come.
pub(crate) async fn read_request(stream: &mut TcpStream) {
    let (mut seen, wanted) = (Vec::new(), b"reserve-me");
    while !seen.windows(wanted.len()).any(|at| at == wanted) {
        let read = stream.read_buf(&mut seen).await.unwrap();
        assert_ne!(read, 0, "the request did not come");
    }
}

type Answer<Q, R> = Box<dyn Fn(Request<Q>) -> Result<R, Status> + Send + Sync>;

/// A participant that answers SUCCESS and counts, unless told otherwise.
pub(crate) struct Stub {
    pub(crate) calls: AtomicUsize,
    pub(crate) on_try: Answer<TryRequest, TryResponse>,
    pub(crate) on_confirm: Answer<ConfirmRequest, ConfirmResponse>,
    pub(crate) on_cancel: Answer<CancelRequest, CancelResponse>,
    pub(crate) on_query: Answer<QueryRequest, QueryResponse>,
}

impl Default for Stub {
    fn default() -> Self {
        let outcome = Outcome::Success.into();
        Self {
            calls: AtomicUsize::new(0),
            on_try: Box::new(move |_| {
                Ok(TryResponse {
                    outcome,
                    ..TryResponse::default()
                })
            }),
            on_confirm: Box::new(move |_| {
                Ok(ConfirmResponse {
                    outcome,
                    ..ConfirmResponse::default()
                })
            }),
            on_cancel: Box::new(move |_| {
                Ok(CancelResponse {
                    outcome,
                    ..CancelResponse::default()
                })
            }),
            on_query: Box::new(|_| Ok(QueryResponse::default())),
        }
    }
}

impl Stub {
    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Serves until the test ends.
    pub(crate) async fn serve(self) -> (Arc<Self>, SocketAddr) {
        let (listener, address) = listener().await;
        let stub = Arc::new(self);
        let service = ParticipantServiceServer::from_arc(Arc::clone(&stub));
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        (stub, address)
    }

    fn called(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

#[tonic::async_trait]
impl ParticipantService for Stub {
    async fn r#try(&self, request: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        self.called();
        (self.on_try)(request).map(Response::new)
    }

    async fn confirm(
        &self,
        request: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        self.called();
        (self.on_confirm)(request).map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<CancelRequest>,
    ) -> Result<Response<CancelResponse>, Status> {
        self.called();
        (self.on_cancel)(request).map(Response::new)
    }

    async fn query(
        &self,
        request: Request<QueryRequest>,
    ) -> Result<Response<QueryResponse>, Status> {
        self.called();
        (self.on_query)(request).map(Response::new)
    }
}

/// Which service an [`Existing`] one is.
pub(crate) trait Named: Send + Sync + 'static {
    const NAME: &'static str;
}

pub(crate) struct Shop;
impl Named for Shop {
    const NAME: &'static str = "shop.Stock";
}

pub(crate) struct Contract;
impl Named for Contract {
    const NAME: &'static str = "tercet.participant.v1.ParticipantService";
}

type Handler = dyn Fn(&str, Request<Bytes>) -> Result<Response<Bytes>, Status> + Send + Sync;

/// A service that knows nothing of the protos: method name and bytes in, bytes out.
pub(crate) struct Existing<N> {
    handler: Arc<Handler>,
    named: PhantomData<fn() -> N>,
}

impl<N: Named> Existing<N> {
    /// Serves until the test ends.
    pub(crate) async fn serve(
        handler: impl Fn(&str, Request<Bytes>) -> Result<Response<Bytes>, Status>
        + Send
        + Sync
        + 'static,
    ) -> SocketAddr {
        let (listener, address) = listener().await;
        let service = Self {
            handler: Arc::new(handler),
            named: PhantomData,
        };
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }
}

impl<N> Clone for Existing<N> {
    fn clone(&self) -> Self {
        Self {
            handler: Arc::clone(&self.handler),
            named: PhantomData,
        }
    }
}

impl<N: Named> NamedService for Existing<N> {
    const NAME: &'static str = N::NAME;
}

impl<N: Named> Service<http::Request<Body>> for Existing<N> {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let method = request.uri().path().rsplit('/').next().unwrap().to_owned();
        let one = One(Arc::clone(&self.handler), method);
        Box::pin(async move { Ok(tonic::server::Grpc::new(Raw).unary(one, request).await) })
    }
}

struct One(Arc<Handler>, String);

impl UnaryService<Bytes> for One {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        ready((self.0)(&self.1, request))
    }
}

/// Bytes for messages, whatever they are.
#[derive(Clone, Default)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
