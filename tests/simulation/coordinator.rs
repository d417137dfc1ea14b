//! The coordinator, as it ships, on a simulated host.

use std::{io, sync::Arc, time::Duration};

use futures::{Stream, stream};
use hyper_util::rt::TokioIo;
use tercet::{
    config::{Config, Origin, Participant, Setting},
    server::{Connector, Server},
};
use tercet_core::ids::ParticipantName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;
use tonic::{
    codegen::http::Uri,
    transport::{Channel, Endpoint, server::Connected},
};
use tower::service_fn;
use turmoil::net::{TcpListener, TcpStream};

use super::{clock::WallClock, participant, parts::Parts, plan::Setup, store::Disk, trace::Trace};

pub const HOST: &str = "coordinator";
pub const PORT: u16 = 7070;

/// What a coordinator runs with, over its restarts.
pub struct Coordinator {
    pub disk: Disk,
    pub clock: WallClock,
    pub trace: Trace,
    pub setup: Setup,
    /// Asks the running process to end in good order.
    pub stop: parking_lot::Mutex<CancellationToken>,
}

impl Coordinator {
    /// One process, from its start to its end.
    pub async fn run(&self, parts: &Parts) {
        let stop = CancellationToken::new();
        *self.stop.lock() = stop.clone();
        let store = self.disk.open();
        self.trace
            .booted(tercet::store::Store::identity(&*store).boot);
        let server = Server::through(
            &config(&self.setup),
            (parts.store)(store),
            connector(),
            (parts.clock)(Arc::new(self.clock.clone())),
            |participants| (parts.transport)(self.trace.watch(participants)),
        );
        let server = server.expect("every participant has an endpoint");
        let incoming = incoming(PORT).await;
        let ended = server.run(incoming, stop.cancelled_owned()).await;
        let how = if ended.is_ok() {
            "asked to"
        } else {
            "its store broke"
        };
        self.trace.count("coordinator ended", how);
    }
}

fn config(setup: &Setup) -> Config {
    let mut config = Config::defaults();
    config.inflight_max.value = setup.inflight_max;
    config.recovery_inflight_max.value = setup.recovery_inflight_max;
    config.limits.timeout_min.value = Duration::from_secs(1);
    for name in participant::NAMES {
        let endpoints = Setting {
            value: vec![format!("http://{name}:{}", participant::PORT)],
            origin: Origin::Default,
        };
        let call_timeout = Setting {
            value: Duration::from_millis(setup.call_timeout_ms),
            origin: Origin::Default,
        };
        let name = ParticipantName::parse(name).expect("it obeys the alphabet of names");
        config.participants.insert(
            name,
            Participant {
                endpoints,
                call_timeout,
            },
        );
    }
    config
}

/// Connections over the simulated network.
pub fn connector() -> Connector {
    Connector::new(|endpoint| channel(&endpoint))
}

pub fn channel(endpoint: &Endpoint) -> Channel {
    endpoint.connect_with_connector_lazy(service_fn(|uri: Uri| async move {
        let host = uri.host().expect("every endpoint names a host");
        let port = uri.port_u16().expect("and a port");
        let stream = TcpStream::connect((host, port)).await?;
        Ok::<_, io::Error>(TokioIo::new(stream))
    }))
}

/// Connections from the simulated network.
pub async fn incoming(port: u16) -> impl Stream<Item = io::Result<Incoming>> + Send + 'static {
    let listener = TcpListener::bind(("0.0.0.0", port)).await;
    let listener = listener.expect("nobody else listens on this host");
    stream::unfold(listener, |listener| async {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| Incoming(stream)), listener))
    })
}

/// A connection that tonic can serve.
pub struct Incoming(TcpStream);

impl Connected for Incoming {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Incoming {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Incoming {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
