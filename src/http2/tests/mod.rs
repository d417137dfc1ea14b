//! A client of its own at the other end of a pipe, and services that do what they are told.

mod connections;
mod hot;
mod others;

use std::{
    convert::Infallible,
    future::Future,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use h2::client::{self, SendRequest};
use http_body_util::BodyExt as _;
use prost::bytes::Bytes;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc::{self, UnboundedReceiver, UnboundedSender},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{
        Service,
        http::{HeaderMap, Request, Response, StatusCode},
    },
    server::NamedService,
    service::Routes,
};

use super::{Calls, HotCall, Refusal, connection, frame::framed_bytes};

const HOT: &str = Handlers::PATH;
const BYTES_MAX: usize = 100;
const STREAMS_MAX: u32 = 40;
const PIPE_BYTES: usize = 64 * 1024;

/// Both kinds of handlers.
#[derive(Clone)]
struct Handlers {
    /// Lets those go on that wait.
    release: CancellationToken,
    began: UnboundedSender<()>,
    /// Told when a handler that waited is gone.
    gone: UnboundedSender<()>,
}

impl Handlers {
    async fn wait(self) {
        struct Gone(UnboundedSender<()>);
        impl Drop for Gone {
            fn drop(&mut self) {
                let _ = self.0.send(());
            }
        }
        let _gone = Gone(self.gone);
        let _ = self.began.send(());
        self.release.cancelled().await;
    }
}

impl HotCall for Handlers {
    const PATH: &'static str = "/test.Calls/Hot";

    fn message_bytes_max(&self) -> usize {
        BYTES_MAX
    }

    async fn answer(self, headers: HeaderMap, message: Bytes) -> Result<Bytes, Refusal> {
        match &*message {
            b"panic" => panic!("a fault of ours"),
            b"refuse" => return Err(Status::resource_exhausted("full").into()),
            b"wait" => self.wait().await,
            b"late" => return Ok(framed_bytes(headers["late"].as_bytes())),
            _ => {}
        }
        Ok(framed_bytes(&message))
    }
}

impl NamedService for Handlers {
    const NAME: &'static str = "test.Calls";
}

impl Service<Request<Body>> for Handlers {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let handlers = self.clone();
        let path = request.uri().path().to_owned();
        async move {
            let body = request.into_body();
            match &*path {
                "/test.Calls/Echo" => return Ok(Response::new(body)),
                "/test.Calls/Wait" => handlers.wait().await,
                "/test.Calls/Panic" => panic!("a fault of ours"),
                _ => {}
            }
            let bytes = body.collect().await.map(|it| it.to_bytes().len());
            let told = Status::invalid_argument(format!("{bytes:?} bytes for others"));
            Ok(told.into_http())
        }
        .boxed()
    }
}

/// A connection to the handlers.
struct Running {
    requests: SendRequest<Bytes>,
    /// The client's side, which moves its bytes.
    client: JoinHandle<Result<(), h2::Error>>,
    served: JoinHandle<()>,
    close: CancellationToken,
    release: CancellationToken,
    began: UnboundedReceiver<()>,
    gone: UnboundedReceiver<()>,
}

impl Running {
    async fn start() -> Self {
        let (handlers, began, gone) = handlers();
        let release = handlers.release.clone();
        let it = Self::serving(calls(&handlers)).await;
        Self {
            release,
            began,
            gone,
            ..it
        }
    }

    /// Serves other calls, of which nothing is told.
    async fn serving<H: HotCall>(calls: Calls<H>) -> Self {
        let (ours, theirs) = duplex(PIPE_BYTES);
        let close = CancellationToken::new();
        let served = tokio::spawn(run(theirs, calls, &close));
        let (requests, connection) = client::handshake(ours).await.expect("it speaks HTTP/2");
        Self {
            requests,
            client: tokio::spawn(connection),
            served,
            close,
            release: CancellationToken::new(),
            began: mpsc::unbounded_channel().1,
            gone: mpsc::unbounded_channel().1,
        }
    }

    /// One call, whose body comes in these pieces.
    async fn call(&self, path: &str, pieces: &[&[u8]]) -> Told {
        self.send(request(path), pieces).await.await.expect("told")
    }

    /// Resolves to what is told once the request is on its way.
    async fn send(
        &self,
        request: Request<()>,
        pieces: &[&[u8]],
    ) -> impl Future<Output = Result<Told, h2::Error>> + use<> {
        let mut requests = self.requests.clone().ready().await.expect("it is open");
        let (answer, mut body) = requests.send_request(request, false).expect("a stream");
        for piece in pieces {
            let piece = Bytes::copy_from_slice(piece);
            body.send_data(piece, false).expect("it is open");
        }
        body.send_data(Bytes::new(), true).expect("it is open");
        async move {
            let (head, mut body) = answer.await?.into_parts();
            let mut told = Told {
                http: head.status,
                is_short: body.is_end_stream(),
                status: Status::from_header_map(&head.headers),
                body: Vec::new(),
            };
            while let Some(piece) = body.data().await {
                told.body.extend_from_slice(&piece?);
            }
            if let Some(trailers) = body.trailers().await? {
                told.status = Status::from_header_map(&trailers);
            }
            Ok(told)
        }
    }
}

/// What came back.
struct Told {
    http: StatusCode,
    /// There was nothing but headers.
    is_short: bool,
    status: Option<Status>,
    body: Vec<u8>,
}

impl Told {
    fn status(&self) -> (Code, &str) {
        let status = self.status.as_ref().expect("there is one");
        (status.code(), status.message())
    }

    #[track_caller]
    fn is_echo(&self, message: &[u8]) {
        assert_eq!(self.status(), (Code::Ok, ""));
        assert_eq!(self.body, framed_bytes(message));
    }

    #[track_caller]
    fn is_fault(&self) {
        let (code, message) = self.status();
        assert_eq!(code, Code::Internal);
        assert!(message.contains("repeat it with the same id"), "{message}");
    }
}

fn handlers() -> (Handlers, UnboundedReceiver<()>, UnboundedReceiver<()>) {
    let ((began, beginnings), (gone, ends)) =
        (mpsc::unbounded_channel(), mpsc::unbounded_channel());
    let handlers = Handlers {
        release: CancellationToken::new(),
        began,
        gone,
    };
    (handlers, beginnings, ends)
}

fn calls(handlers: &Handlers) -> Calls<Handlers> {
    Calls {
        hot: handlers.clone(),
        others: Routes::new(handlers.clone()),
    }
}

fn run<H: HotCall>(
    bytes: DuplexStream,
    calls: Calls<H>,
    close: &CancellationToken,
) -> impl Future<Output = ()> + use<H> {
    connection::run(bytes, Arc::new(calls), STREAMS_MAX, close.clone())
}

fn request(path: &str) -> Request<()> {
    let request = Request::post(format!("http://test{path}"));
    let request = request.header("content-type", "application/grpc");
    request.body(()).expect("a request")
}
