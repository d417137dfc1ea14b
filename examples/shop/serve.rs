//! Serves a participant until it is interrupted, and says when it is ready.

use tercet_sdk::participant::{Participant, SqliteFence};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// The address and the database file of a server that runs alone.
#[allow(dead_code, reason = "the shop gives its own")]
pub fn arguments(address: &str, file: &str) -> (String, String) {
    let mut given = std::env::args().skip(1);
    (
        given.next().unwrap_or_else(|| address.into()),
        given.next().unwrap_or_else(|| file.into()),
    )
}

pub async fn serve(participant: Participant<SqliteFence>, address: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    Ok(participant.serve_with_incoming(incoming, shutdown).await?)
}
