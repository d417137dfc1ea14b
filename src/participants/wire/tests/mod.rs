//! One endpoint whose other side does what no usual server lets a test do.

mod ending;
mod reading;
mod sending;

use std::{
    future::{Ready, ready},
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use h2::{
    RecvStream,
    server::{self, SendResponse},
};
use prost::bytes::Bytes;
use tokio::io::{DuplexStream, duplex};
use tonic::codegen::http::{self, HeaderMap, uri::PathAndQuery};

use super::{Connector, Failed, Reply, Request, Wire, framed_bytes};
use crate::participants::fault::Fault;

const BYTES_MAX: usize = 100_000;
/// What fits into a connection while nobody reads it.
const PIPE_BYTES: usize = 1 << 20;

/// The endpoint whose connections are served like this, and how many it had.
fn wire<F>(serve: impl Fn(DuplexStream) -> F + Send + Sync + 'static) -> (Wire, Arc<AtomicUsize>)
where
    F: Future<Output = ()> + Send + 'static,
{
    let made = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&made);
    let connector = Connector::new(move |_| -> Ready<io::Result<_>> {
        counted.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = duplex(PIPE_BYTES);
        tokio::spawn(serve(theirs));
        ready(Ok(ours))
    });
    (at_stock(connector), made)
}

fn at_stock(connector: Connector) -> Wire {
    Wire::new("stock:7070".parse().expect("an authority"), connector)
}

/// The endpoint that does this with each request.
fn answering(answer: impl Fn(SendResponse<Bytes>) + Clone + Send + Sync + 'static) -> Wire {
    let serve = move |bytes| {
        let answer = answer.clone();
        serve(bytes, server::Builder::new(), move |_, to| answer(to))
    };
    wire(serve).0
}

/// Serves until the connection ends.
async fn serve(
    bytes: DuplexStream,
    settings: server::Builder,
    mut answer: impl FnMut(http::Request<RecvStream>, SendResponse<Bytes>),
) {
    let mut connection = settings.handshake(bytes).await.expect("it speaks HTTP/2");
    while let Some(Ok((request, to))) = connection.accept().await {
        answer(request, to);
    }
}

async fn call(wire: &Wire) -> Result<Reply, Failed> {
    wire.call(request(b"reserve-me"), BYTES_MAX).await
}

fn request(message: &[u8]) -> Request {
    Request {
        path: PathAndQuery::from_static("/shop.Stock/Reserve"),
        headers: HeaderMap::new(),
        frame: framed_bytes(message),
    }
}

/// The reply of a server that works.
fn answer_ok(mut to: SendResponse<Bytes>) {
    let mut body = to.send_response(http::Response::new(()), false).unwrap();
    body.send_data(framed_bytes(b"held"), false).unwrap();
    body.send_trailers(status("0")).unwrap();
}

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())])
}

fn held(reply: Result<Reply, Failed>) {
    match reply {
        Ok(reply) => assert_eq!(reply.message, b"held"[..]),
        Err(failed) => panic!("{:?}", Fault::from(failed)),
    }
}

/// The fault that came about on the way; a status of the participant is none.
fn fault(reply: Result<Reply, Failed>) -> Fault {
    match reply {
        Ok(reply) => panic!("a reply came: {:?}", reply.message),
        Err(Failed::Status(status)) => panic!("the participant said {status}"),
        Err(Failed::Fault(fault)) => fault,
    }
}

/// The message of a fault after which nobody knows.
fn indeterminate(reply: Result<Reply, Failed>) -> String {
    match fault(reply) {
        Fault::Status(status) => status.message().to_owned(),
        other => panic!("{other:?}"),
    }
}

fn never_left(reply: Result<Reply, Failed>) -> String {
    match fault(reply) {
        Fault::NeverLeft(status) => status.message().to_owned(),
        other => panic!("{other:?}"),
    }
}
