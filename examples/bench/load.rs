//! Clients that work side by side, each with a transaction after the other.

use std::time::Instant;

use tokio::task::JoinHandle;

use crate::calls::Calls;

/// When work counts. It begins before, and no transaction is begun after its end.
#[derive(Clone, Copy)]
pub struct Window {
    pub start: Instant,
    pub end: Instant,
}

/// Clients at work.
pub struct Load {
    prefix: &'static str,
    clients: Vec<JoinHandle<Client>>,
}

/// What all clients together came to.
pub struct Done {
    prefix: &'static str,
    clients: Vec<Client>,
}

struct Client {
    acknowledged: u64,
    /// Of those that ended within the window.
    latencies_us: Vec<u64>,
    /// What made it stop early.
    fault: Option<anyhow::Error>,
}

impl Load {
    /// Starts so many clients, which share these connections. Ids begin with `prefix`.
    pub fn start(calls: &[Calls], concurrency: u32, prefix: &'static str, window: Window) -> Self {
        let connections = calls.iter().cycle().cloned();
        let clients = connections
            .zip(0..concurrency)
            .map(|(calls, nth)| tokio::spawn(work(calls, prefix, nth, window)));
        Self {
            prefix,
            clients: clients.collect(),
        }
    }

    /// Waits until all of them have stopped.
    pub async fn done(self) -> anyhow::Result<Done> {
        let mut clients = Vec::with_capacity(self.clients.len());
        for client in self.clients {
            clients.push(client.await?);
        }
        let prefix = self.prefix;
        Ok(Done { prefix, clients })
    }
}

async fn work(mut calls: Calls, prefix: &str, nth: u32, window: Window) -> Client {
    let mut client = Client {
        acknowledged: 0,
        latencies_us: Vec::new(),
        fault: None,
    };
    loop {
        let begun = Instant::now();
        if begun >= window.end {
            return client;
        }
        let id = id(prefix, nth, client.acknowledged);
        if let Err(fault) = calls.transact(&id).await {
            client.fault = Some(fault);
            return client;
        }
        client.acknowledged += 1;
        let ended = Instant::now();
        if (window.start..window.end).contains(&ended) {
            let latency_us = ended.duration_since(begun).as_micros();
            let latency_us = u64::try_from(latency_us).unwrap_or(u64::MAX);
            client.latencies_us.push(latency_us);
        }
    }
}

impl Done {
    pub fn acknowledged(&self) -> u64 {
        self.clients.iter().map(|client| client.acknowledged).sum()
    }

    /// The ids of all that were acknowledged.
    pub fn acknowledged_ids(&self) -> impl Iterator<Item = String> {
        let of = move |(nth, client): (u32, &Client)| {
            (0..client.acknowledged).map(move |count| id(self.prefix, nth, count))
        };
        (0..).zip(&self.clients).flat_map(of)
    }

    /// The ids of those that got an error instead of an answer.
    pub fn unanswered_ids(&self) -> impl Iterator<Item = String> {
        let clients = (0..).zip(&self.clients);
        clients
            .filter(|(_, client)| client.fault.is_some())
            .map(|(nth, client)| id(self.prefix, nth, client.acknowledged))
    }

    pub fn latencies_us(&self) -> impl Iterator<Item = u64> {
        let clients = self.clients.iter();
        clients.flat_map(|client| client.latencies_us.iter().copied())
    }

    /// The first error that a client met.
    pub fn into_fault(self) -> Option<anyhow::Error> {
        self.clients.into_iter().find_map(|client| client.fault)
    }

    /// Whether nobody met any.
    pub fn is_faultless(&self) -> bool {
        self.clients.iter().all(|client| client.fault.is_none())
    }
}

fn id(prefix: &str, nth: u32, count: u64) -> String {
    format!("{prefix}-{nth}-{count}")
}
