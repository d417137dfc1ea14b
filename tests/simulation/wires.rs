//! Connections over the simulated network, whose bytes leave at times and in an order that only the
//! seed decides.
//!
//! Two things below us aren't the seed's. Tokio wakes those who watch one value in an order it draws
//! by itself, and no stable setting seeds it: a server that says goodbye on all its connections does
//! so in that order. So what a process writes within a millisecond is collected, and its delay comes
//! from the connection and the time alone, not from how often somebody has drawn before. And HTTP/2
//! forgets a stream that it has reset after a second of the machine's time, after which it answers
//! late frames; so whoever calls here forgets none by time, only by number. The network itself delays
//! nothing, but for its faults.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hasher as _},
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

use super::{clock::elapsed_ms, plan::Setup};

/// All connections of one process.
#[derive(Clone)]
pub struct Wires {
    shared: Arc<Shared>,
}

struct Shared {
    inner: Mutex<Inner>,
    written: Notify,
    seed: u64,
    delay_ms_max: u64,
}

#[derive(Default)]
struct Inner {
    next: u64,
    open: BTreeMap<u64, Outgoing>,
    /// When something leaves, and on which connection.
    due: BTreeSet<(u64, u64)>,
    bytes_written: u64,
}

/// One connection's way out.
struct Outgoing {
    stream: OwnedWriteHalf,
    waiting: VecDeque<Segment>,
}

/// What is written within one millisecond.
struct Segment {
    written_ms: u64,
    leaves_ms: u64,
    bytes: Vec<u8>,
    /// Nothing more will be written.
    closing: Option<Closing>,
}

enum Closing {
    Shutdown,
    /// The connection is gone, and with it whatever was not read.
    Dropped(OwnedReadHalf),
}

impl Wires {
    /// Must be called on the host, once for each process.
    pub fn new(host: &str, setup: &Setup) -> Self {
        let shared = Arc::new(Shared {
            inner: Mutex::default(),
            written: Notify::new(),
            seed: hash((host, setup.network)),
            delay_ms_max: setup.delay_ms_max,
        });
        tokio::spawn(send(Arc::clone(&shared)));
        Self { shared }
    }

    /// A connection to wherever this endpoint is, when it is needed.
    pub fn channel(&self, endpoint: &Endpoint) -> Channel {
        let wires = self.clone();
        let endpoint = endpoint.clone().http2_reset_stream_duration(Duration::MAX);
        endpoint.connect_with_connector_lazy(service_fn(move |uri: Uri| {
            let wires = wires.clone();
            async move { wires.connect(&uri).await.map(TokioIo::new) }
        }))
    }

    /// A connection to there, now.
    pub async fn connect(&self, uri: &Uri) -> io::Result<Wire> {
        let host = uri.host().expect("every endpoint names a host");
        let port = uri.port_u16().expect("and a port");
        let stream = TcpStream::connect((host, port)).await?;
        Ok(self.wire(stream))
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

    /// On all connections so far.
    pub fn bytes_written(&self) -> u64 {
        self.shared.inner.lock().bytes_written
    }

    fn wire(&self, stream: TcpStream) -> Wire {
        let (read, write) = stream.into_split();
        let mut inner = self.shared.inner.lock();
        let number = inner.next;
        inner.next += 1;
        let outgoing = Outgoing {
            stream: write,
            waiting: VecDeque::new(),
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

/// Sends what is due.
async fn send(shared: Arc<Shared>) {
    loop {
        let first = shared.inner.lock().due.first().copied();
        let Some((leaves_ms, number)) = first else {
            shared.written.notified().await;
            continue;
        };
        let left_ms = leaves_ms.saturating_sub(elapsed_ms());
        if left_ms > 0 {
            let left = tokio::time::sleep(Duration::from_millis(left_ms));
            tokio::select! {
                biased;
                () = left => {}
                () = shared.written.notified() => {} // by an earlier one, perhaps
            }
            continue;
        }
        let mut inner = shared.inner.lock();
        inner.due.pop_first();
        if let Some(outgoing) = inner.open.get_mut(&number)
            && !outgoing.send(leaves_ms)
        {
            inner.open.remove(&number);
        }
    }
}

impl Outgoing {
    /// Where to put what is written now, and when it leaves.
    fn segment(&mut self, now_ms: u64, delay_ms: u64) -> &mut Segment {
        let last = self.waiting.back();
        if last.is_none_or(|it| it.written_ms != now_ms) {
            let after_ms = last.map_or(0, |it| it.leaves_ms);
            self.waiting.push_back(Segment {
                written_ms: now_ms,
                leaves_ms: (now_ms + 1 + delay_ms).max(after_ms),
                bytes: Vec::new(),
                closing: None,
            });
        }
        self.waiting.back_mut().expect("there is one now")
    }

    /// Sends what has waited until this time. False: the connection is over.
    fn send(&mut self, leaves_ms: u64) -> bool {
        let is_due = |segment: &Segment| segment.leaves_ms <= leaves_ms;
        while self.waiting.front().is_some_and(is_due) {
            let segment = self.waiting.pop_front().expect("it was looked at");
            if !segment.bytes.is_empty() {
                let sent = self.stream.write_all(&segment.bytes).now_or_never();
                if !matches!(sent, Some(Ok(()))) {
                    return false; // the peer has reset it, or has not read for far too long
                }
            }
            match segment.closing {
                None => {}
                Some(Closing::Shutdown) => {
                    let _ = self.stream.shutdown().now_or_never(); // it may be gone already
                }
                Some(Closing::Dropped(_read)) => return false,
            }
        }
        true
    }
}

fn hash(of: impl std::hash::Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// One connection.
pub struct Wire {
    number: u64,
    /// Taken when it is dropped.
    read: Option<OwnedReadHalf>,
    shared: Arc<Shared>,
}

impl Wire {
    fn with<R>(&self, act: impl FnOnce(&mut Segment) -> R) -> io::Result<R> {
        let shared = &self.shared;
        let mut inner = shared.inner.lock();
        let outgoing = inner.open.get_mut(&self.number);
        let now_ms = elapsed_ms();
        let delay_ms = hash((shared.seed, self.number, now_ms)) % shared.delay_ms_max;
        let segment = outgoing
            .ok_or(io::ErrorKind::BrokenPipe)?
            .segment(now_ms, delay_ms);
        let done = act(segment);
        let leaves_ms = segment.leaves_ms;
        inner.due.insert((leaves_ms, self.number));
        shared.written.notify_one();
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
        self.shared.inner.lock().bytes_written += bytes.len() as u64;
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
