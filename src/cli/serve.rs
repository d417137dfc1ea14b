//! `tercet serve`: the coordinator as a process.

use std::{net::SocketAddr, process::ExitCode, sync::Arc};

use clap::Args;
use tercet::{
    config::{Config, Sources, StoreLocation},
    server::{Connector, Server, SystemClock},
    store::Store,
    telemetry,
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
};
use tonic::transport::server::TcpIncoming;

use super::{Problem, output, settings::Settings, store::open};

/// A worker looks after so many turns for tasks that another thread has woken: all that wait for the store's
/// are. With more, requests that have just come in keep those waiting that were taken on before.
const TURNS_BETWEEN_WAKES: u32 = 3;

/// Runs until SIGINT or SIGTERM; a second one ends it at once. SIGHUP reads the participants again.
#[derive(Debug, Args)]
pub(crate) struct Serve {
    #[command(flatten)]
    settings: Settings,
}

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode, Problem> {
        let sources = self.settings.sources()?;
        let config = self.settings.load()?;
        telemetry::log(&config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .global_queue_interval(TURNS_BETWEEN_WAKES)
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| {
            let what = format!("no runtime can be started: {error}");
            Problem::new(what, "check the limits on this process's threads")
        })?;
        runtime.block_on(serve(config, sources))?;
        Ok(ExitCode::SUCCESS)
    }
}

async fn serve(config: Config, sources: Sources) -> Result<(), Problem> {
    // Before anything that takes time, so that no signal gets lost.
    let signals = Signals::new()?;
    let store = open_store(&config.store).await?;
    let listener = listen(*config.listen).await?;
    let address = listener.local_addr().map_err(|error| {
        Problem::new(
            format!("the listener has no address: {error}"),
            "start it again",
        )
    })?;
    if let Some(listen) = *config.metrics_listen {
        telemetry::serve_metrics(listen).map_err(|error| {
            let what = format!("metrics can't be served at {listen}: {error}");
            Problem::new(what, "choose another address with --metrics-listen")
        })?;
    }
    let server = Arc::new(Server::new(
        &config,
        store,
        Connector::tcp(),
        Arc::new(SystemClock),
    )?);
    tokio::spawn(reload(Arc::clone(&server), sources, signals.reload));
    output::text(&ready(address, &config))?;
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = server
        .run(incoming, shutdown(signals.interrupt, signals.terminate))
        .await;
    served
        .map_err(|error| Problem::new(error.to_string(), "see the log above, then start it again"))
}

/// Opens the store without holding up the runtime: recovery of a large one takes a while.
async fn open_store(location: &StoreLocation) -> Result<Arc<dyn Store>, Problem> {
    if *location == StoreLocation::Memory {
        tracing::warn!(
            "transactions are kept in memory only: ALL ARE LOST when this process ends; for trials only"
        );
    }
    let location = location.clone();
    let opened = tokio::task::spawn_blocking(move || open(&location)).await;
    opened
        .map_err(|error| Problem::new(format!("opening the store failed: {error}"), "see above"))?
}

async fn listen(address: SocketAddr) -> Result<TcpListener, Problem> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = format!("{address} can't be listened on: {error}");
        Problem::new(
            what,
            "is another coordinator running? choose another address with --listen",
        )
    })
}

/// The line that says that clients may come.
fn ready(address: SocketAddr, config: &Config) -> String {
    let names: Vec<_> = config
        .participants
        .keys()
        .map(ToString::to_string)
        .collect();
    let participants = if names.is_empty() {
        "none".into()
    } else {
        names.join(", ")
    };
    let store = &config.store.value;
    format!("listening on {address}, store {store}, participants: {participants}\n")
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    reload: Signal,
}

impl Signals {
    fn new() -> Result<Self, Problem> {
        let listen = |kind| {
            signal(kind).map_err(|error| {
                let what = format!("signals can't be received: {error}");
                Problem::new(what, "check what this process may do")
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            reload: listen(SignalKind::hangup())?,
        })
    }
}

/// Resolves at the first signal; the second ends the process on the spot.
async fn shutdown(mut interrupt: Signal, mut terminate: Signal) {
    either(&mut interrupt, &mut terminate).await;
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        tracing::warn!("ended by a second signal; what is unfinished goes on with the next start");
        std::process::exit(1);
    });
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// Reads the participants again whenever asked to. A mistake leaves everything as it is.
async fn reload(server: Arc<Server>, sources: Sources, mut signal: Signal) {
    while signal.recv().await.is_some() {
        let reloaded = sources.load().map_err(Problem::from).and_then(|config| {
            server.reload_participants(&config)?;
            Ok(config.participants.len())
        });
        match reloaded {
            Ok(count) => tracing::info!(count, "participants read again"),
            Err(problem) => tracing::error!(%problem, "participants stay as they were"),
        }
    }
}
