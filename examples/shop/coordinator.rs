//! The coordinator of the shop: what `tercet serve` does, in a process that can be killed.

use std::{path::Path, sync::Arc};

use anyhow::bail;
use tercet::{
    config::{FlagValue, Sources},
    server::{Connector, Server, SystemClock},
    store::SledStore,
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

pub async fn serve(flags: &[&str]) -> anyhow::Result<()> {
    let [address, folder, participants @ ..] = flags else {
        bail!("coordinator ADDRESS FOLDER NAME=URL …");
    };
    let participants = participants.iter().map(|it| FlagValue {
        key: "participant".into(),
        value: (*it).into(),
        flag: "--participant".into(),
    });
    let config = Sources {
        flags: participants.collect(),
        ..Sources::default()
    }
    .load()?;
    let store = Arc::new(SledStore::open(Path::new(folder))?);
    let server = Server::new(&config, store, Connector::tcp(), Arc::new(SystemClock))?;
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let shutdown = async { tokio::signal::ctrl_c().await.unwrap_or_default() };
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    server.run(incoming, shutdown).await?;
    Ok(())
}
