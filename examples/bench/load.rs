//! Clients that work side by side, each with a transaction after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use crate::calls::Calls;

/// When work counts. It begins before, and no transaction is begun after its end.
#[derive(Clone, Copy)]
pub struct Window {
    start: Instant,
    end: Instant,
    /// No client begins more than so many.
    each_max: u64,
}

impl Window {
    pub fn within(start: Instant, end: Instant) -> Self {
        let each_max = u64::MAX;
        Self {
            start,
            end,
            each_max,
        }
    }

    /// From now on, until every client has done so many.
    pub fn of_each(each_max: u64, timeout: Duration) -> Self {
        let start = Instant::now();
        let end = start + timeout;
        Self {
            start,
            end,
            each_max,
        }
    }
}

/// Clients at work.
pub struct Load {
    prefix: Arc<str>,
    clients: Vec<JoinHandle<Client>>,
}

/// What all clients together came to.
pub struct Done {
    prefix: Arc<str>,
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
    pub fn start(calls: &[Calls], concurrency: u32, prefix: &str, window: Window) -> Self {
        let prefix: Arc<str> = prefix.into();
        let connections = calls.iter().cycle().cloned();
        let clients = connections
            .zip(0..concurrency)
            .map(|(calls, nth)| tokio::spawn(work(calls, Arc::clone(&prefix), nth, window)));
        let clients = clients.collect();
        Self { prefix, clients }
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

async fn work(mut calls: Calls, prefix: Arc<str>, nth: u32, window: Window) -> Client {
    let mut client = Client {
        acknowledged: 0,
        latencies_us: Vec::new(),
        fault: None,
    };
    loop {
        let begun = Instant::now();
        if begun >= window.end || client.acknowledged == window.each_max {
            return client;
        }
        let id = id(&prefix, nth, client.acknowledged);
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
            (0..client.acknowledged).map(move |count| id(&self.prefix, nth, count))
        };
        (0..).zip(&self.clients).flat_map(of)
    }

    /// The ids of those that got an error instead of an answer.
    pub fn unanswered_ids(&self) -> impl Iterator<Item = String> {
        let clients = (0..).zip(&self.clients);
        clients
            .filter(|(_, client)| client.fault.is_some())
            .map(|(nth, client)| id(&self.prefix, nth, client.acknowledged))
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
    scattered_id(prefix, (u64::from(nth) << 40) + count)
}

/// A transaction's id. What begins with this prefix and comes one after the other lies anywhere in the order of
/// ids, as those that clients make up do.
pub fn scattered_id(prefix: &str, number: u64) -> String {
    // SplitMix64's finish, which no two numbers share.
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    format!("{mixed:016x}-{prefix}")
}
