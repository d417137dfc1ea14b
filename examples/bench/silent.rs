//! A participant that answers nothing, and counts how many calls wait for that.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tercet_sdk::proto::participant::v1::{
    CancelRequest, CancelResponse, ConfirmRequest, ConfirmResponse, QueryRequest, QueryResponse,
    TryRequest, TryResponse,
    participant_service_server::{ParticipantService, ParticipantServiceServer},
};
use tokio::net::TcpListener;
use tonic::{Request, Response, Status, transport::Server, transport::server::TcpIncoming};

use crate::participant::{Sums, until_told};

/// As many calls on a connection as anybody could want.
const STREAMS_MAX: u32 = 1_000_000;

/// Serves until it is told to end; then says, as what is held, how many calls waited at the most.
pub async fn run() -> anyhow::Result<()> {
    let waiting = Arc::new(Waiting::default());
    until_told(serve(Silent(Arc::clone(&waiting)))).await?;
    let held = waiting.most.load(Relaxed);
    let none = Sums::default();
    println!("{}", Sums { held, ..none });
    Ok(())
}

async fn serve(silent: Silent) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on http://{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let mut server = Server::builder().max_concurrent_streams(STREAMS_MAX);
    let service = ParticipantServiceServer::new(silent);
    Ok(server
        .add_service(service)
        .serve_with_incoming(incoming)
        .await?)
}

#[derive(Default)]
struct Waiting {
    now: AtomicU64,
    most: AtomicU64,
}

/// One call; gone when the caller is.
struct Waits(Arc<Waiting>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Relaxed);
    }
}

struct Silent(Arc<Waiting>);

impl Silent {
    async fn wait<T>(&self) -> Result<Response<T>, Status> {
        let now = self.0.now.fetch_add(1, Relaxed) + 1;
        self.0.most.fetch_max(now, Relaxed);
        let _waits = Waits(Arc::clone(&self.0));
        pending().await
    }
}

#[tonic::async_trait]
impl ParticipantService for Silent {
    async fn r#try(&self, _: Request<TryRequest>) -> Result<Response<TryResponse>, Status> {
        self.wait().await
    }

    async fn confirm(
        &self,
        _: Request<ConfirmRequest>,
    ) -> Result<Response<ConfirmResponse>, Status> {
        self.wait().await
    }

    async fn cancel(&self, _: Request<CancelRequest>) -> Result<Response<CancelResponse>, Status> {
        self.wait().await
    }

    async fn query(&self, _: Request<QueryRequest>) -> Result<Response<QueryResponse>, Status> {
        self.wait().await
    }
}
