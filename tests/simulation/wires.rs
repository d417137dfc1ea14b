//! Connections over the simulated network, whose bytes leave in an order that only the seed decides.
//!
//! Tokio wakes those who watch one value in an order it draws by itself, and no stable setting seeds
//! it; a server that says goodbye on all its connections does so in that order. The network draws the
//! delay of each segment in the order of sending. So what a process writes within a millisecond is
//! collected, and leaves connection by connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt as _, Stream, stream};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf},
    sync::Notify,
};
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint, server::Connected},
};
use tower::service_fn;
use turmoil::net::{
    TcpListener, TcpStream,
    tcp::{OwnedReadHalf, OwnedWriteHalf},
};

/// All connections of one process.
#[derive(Clone)]
pub struct Wires {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    inner: Mutex<Inner>,
    written: Notify,
}

#[derive(Default)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, Outgoing>,
    /// Those that have something to do.
    busy: BTreeSet<u64>,
}

/// One connection's way out.
struct Outgoing {
    stream: OwnedWriteHalf,
    bytes: Vec<u8>,
    /// Nothing more will be written; closed once all has left.
    closing: Option<Closing>,
}

enum Closing {
    Shutdown,
    /// The connection is gone, and with it whatever was not read.
    Dropped(OwnedReadHalf),
}

impl Wires {
    /// Must be called on the host, once for each process.
    pub fn new() -> Self {
        let shared = Arc::<Shared>::default();
        tokio::spawn(send(Arc::clone(&shared)));
        Self { shared }
    }

    /// A connection to wherever this endpoint is, when it is needed.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        let wires = self.clone();
        endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
            let wires = wires.clone();
            async move {
                let host = uri.host().expect("every endpoint names a host");
                let port = uri.port_u16().expect("and a port");
                let stream = TcpStream::connect((host, port)).await?;
                Ok::<_, io::Error>(TokioIo::new(wires.wire(stream)))
            }
        }))
    }

    /// Connections that come in on this port.
    pub async fn incoming(
        &self,
        port: u16,
    ) -> impl Stream<Item = io::Result<Wire>> + Send + 'static {
        let listener = TcpListener::bind(("0.0.0.0", port)).await;
        let listener = listener.expect("nobody else listens on this host");
        stream::unfold((self.clone(), listener), |(wires, listener)| async {
            let accepted = listener.accept().await;
            let wire = accepted.map(|(stream, _)| wires.wire(stream));
            Some((wire, (wires, listener)))
        })
    }

    fn wire(&self, stream: TcpStream) -> Wire {
        let (read, write) = stream.into_split();
        let mut inner = self.shared.inner.lock();
        let number = inner.next;
        inner.next += 1;
        let outgoing = Outgoing {
            stream: write,
            bytes: Vec::new(),
            closing: None,
        };
        inner.open.insert(number, outgoing);
        drop(inner);
        Wire {
            number,
            read: Some(read),
            shared: Arc::clone(&self.shared),
        }
    }
}

/// Sends what was collected, a millisecond after the first of it.
async fn send(shared: Arc<Shared>) {
    loop {
        shared.written.notified().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        let mut inner = shared.inner.lock();
        for number in std::mem::take(&mut inner.busy) {
            let Some(outgoing) = inner.open.get_mut(&number) else {
                continue;
            };
            if !outgoing.send() {
                inner.open.remove(&number);
            }
        }
    }
}

impl Outgoing {
    /// False: it is over.
    fn send(&mut self) -> bool {
        if !self.bytes.is_empty() {
            let bytes = std::mem::take(&mut self.bytes);
            let sent = self.stream.write_all(&bytes).now_or_never();
            if !matches!(sent, Some(Ok(()))) {
                return false; // the peer has reset it, or has not read for far too long
            }
        }
        match self.closing.take() {
            None => true,
            Some(Closing::Shutdown) => {
                let _ = self.stream.shutdown().now_or_never(); // it may be gone already
                true
            }
            Some(Closing::Dropped(_read)) => false,
        }
    }
}

/// One connection.
pub struct Wire {
    number: u64,
    /// Taken when it is dropped.
    read: Option<OwnedReadHalf>,
    shared: Arc<Shared>,
}

impl Wire {
    fn with<R>(&self, act: impl FnOnce(&mut Outgoing) -> R) -> io::Result<R> {
        let mut inner = self.shared.inner.lock();
        let outgoing = inner.open.get_mut(&self.number);
        let done = act(outgoing.ok_or(io::ErrorKind::BrokenPipe)?);
        inner.busy.insert(self.number);
        self.shared.written.notify_one();
        Ok(done)
    }
}

impl Connected for Wire {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.read.as_mut().expect("it is there until the drop");
        Pin::new(read).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Poll::Ready(self.with(|it| {
            it.bytes.extend_from_slice(bytes);
            bytes.len()
        }))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _ = self.with(|it| it.closing = Some(Closing::Shutdown)); // it may be gone already
        Poll::Ready(Ok(()))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(read) = self.read.take() {
            let _ = self.with(|it| it.closing = Some(Closing::Dropped(read))); // the same
        }
    }
}
