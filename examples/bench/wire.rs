//! Submits of clients that don't wait for each other, at little cost: over HTTP/2 itself.
//!
//! Many times what a coordinator can do has to come from the same two cores. The generated client needs more
//! for a refusal than the coordinator does, and would measure itself.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, bail};
use h2::{
    RecvStream,
    client::{Builder, SendRequest},
};
use prost::{
    Message as _,
    bytes::{BufMut as _, Bytes, BytesMut},
};
use tercet_sdk::proto::v1::SubmitTransactionResponse;
use tokio::net::TcpStream;
use tonic::{Code, Status, codegen::http};

use crate::{
    arrivals::PATIENCE,
    calls::Order,
    processes::{Coordinator, NAMES},
};

const METHOD: &str = "/tercet.v1.CoordinatorService/SubmitTransaction";
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 8 * 1024 * 1024;
/// Before every message of gRPC: whether it is compressed, and its length.
const PREFIX_BYTES: usize = 5;

/// One connection to a coordinator.
#[derive(Clone)]
pub struct Wire {
    requests: SendRequest<Bytes>,
    head: http::request::Parts,
    order: Arc<Order>,
}

impl Wire {
    /// So many connections to a coordinator, for transactions with both participants.
    pub async fn to(coordinator: &Coordinator, connections: usize) -> anyhow::Result<Vec<Self>> {
        Self::ordering(Order::with(NAMES), coordinator, connections).await
    }

    /// The same for transactions like this one.
    pub async fn ordering(
        order: Order,
        coordinator: &Coordinator,
        connections: usize,
    ) -> anyhow::Result<Vec<Self>> {
        let order = Arc::new(order);
        let mut wires = Vec::new();
        for _ in 0..connections {
            wires.push(Self::connect(&coordinator.url, Arc::clone(&order)).await?);
        }
        Ok(wires)
    }

    async fn connect(url: &str, order: Arc<Order>) -> anyhow::Result<Self> {
        let uri: http::Uri = format!("{url}{METHOD}").parse()?;
        let authority = uri.authority().context("the coordinator's address")?;
        let stream = TcpStream::connect(authority.as_str()).await?;
        stream.set_nodelay(true)?;
        let (requests, connection) = Builder::new()
            .initial_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(stream)
            .await?;
        // Ends with its connection, of which every call hears by itself.
        tokio::spawn(connection);
        let timeout = format!("{}m", Duration::as_millis(&PATIENCE));
        let head = http::Request::post(uri)
            .header("te", "trailers")
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout);
        let (head, ()) = head.body(())?.into_parts();
        Ok(Self {
            requests,
            head,
            order,
        })
    }

    /// Does the work of the transaction by this id; all of it has succeeded when this returns.
    pub async fn transact(self, id: &str) -> anyhow::Result<()> {
        let message = self.order.request(id);
        let mut frame = BytesMut::with_capacity(PREFIX_BYTES + message.encoded_len());
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.encoded_len())?);
        message.encode(&mut frame)?;
        let request = http::Request::from_parts(self.head, ());
        let mut requests = self.requests.ready().await?;
        let (response, mut body) = requests.send_request(request, false)?;
        body.send_data(frame.freeze(), true)?;
        let response = response.await?;
        succeeded(response.headers())?;
        let transaction = read(response.into_body()).await?.transaction;
        let transaction = transaction.context("an answer without its transaction")?;
        self.order.answered(transaction.outcome())
    }
}

async fn read(mut body: RecvStream) -> anyhow::Result<SubmitTransactionResponse> {
    let mut message = BytesMut::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        message.extend_from_slice(&data);
    }
    let trailers = body
        .trailers()
        .await?
        .context("an answer without its status")?;
    succeeded(&trailers)?;
    if message.len() < PREFIX_BYTES {
        bail!("an answer of {} bytes", message.len());
    }
    Ok(SubmitTransactionResponse::decode(
        message.freeze().slice(PREFIX_BYTES..),
    )?)
}

/// An error is all there is of its answer; its details are left unread.
fn succeeded(headers: &http::HeaderMap) -> anyhow::Result<()> {
    match headers
        .get("grpc-status")
        .map(|it| Code::from_bytes(it.as_bytes()))
    {
        None | Some(Code::Ok) => Ok(()),
        Some(code) => {
            let message = headers.get("grpc-message").and_then(|it| it.to_str().ok());
            Err(Status::new(code, message.unwrap_or_default()).into())
        }
    }
}
