//! Clients that work side by side, each with a transaction after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use clap::ValueEnum;
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

/// Where the ids of those that come one after the other lie in the order of ids.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
pub enum Ids {
    /// Anywhere, as random ones do.
    #[default]
    Scattered,
    /// At its end, as a clock's and a counter's do.
    Rising,
}

/// Clients at work.
pub struct Load {
    prefix: Arc<str>,
    ids: Ids,
    clients: Vec<JoinHandle<Client>>,
}

/// What all clients together came to.
pub struct Done {
    prefix: Arc<str>,
    ids: Ids,
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
    /// Starts so many clients, which share these connections. Ids are told from those of others by `prefix`.
    pub fn start(
        ids: Ids,
        calls: &[Calls],
        concurrency: u32,
        prefix: &str,
        window: Window,
    ) -> Self {
        let prefix: Arc<str> = prefix.into();
        let connections = calls.iter().cycle().cloned();
        let clients = connections
            .zip(0..concurrency)
            .map(|(calls, nth)| tokio::spawn(work(calls, ids, Arc::clone(&prefix), nth, window)));
        let clients = clients.collect();
        Self {
            prefix,
            ids,
            clients,
        }
    }

    /// Waits until all of them have stopped.
    pub async fn done(self) -> anyhow::Result<Done> {
        let mut clients = Vec::with_capacity(self.clients.len());
        for client in self.clients {
            clients.push(client.await?);
        }
        let Self { prefix, ids, .. } = self;
        Ok(Done {
            prefix,
            ids,
            clients,
        })
    }
}

async fn work(mut calls: Calls, ids: Ids, prefix: Arc<str>, nth: u32, window: Window) -> Client {
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
        let id = ids.of_client(&prefix, nth, client.acknowledged);
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
            (0..client.acknowledged).map(move |count| self.ids.of_client(&self.prefix, nth, count))
        };
        (0..).zip(&self.clients).flat_map(of)
    }

    /// The ids of those that got an error instead of an answer.
    pub fn unanswered_ids(&self) -> impl Iterator<Item = String> {
        let clients = (0..).zip(&self.clients);
        clients
            .filter(|(_, client)| client.fault.is_some())
            .map(|(nth, client)| self.ids.of_client(&self.prefix, nth, client.acknowledged))
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

impl Ids {
    /// What a client gives its transaction after so many.
    fn of_client(self, prefix: &str, nth: u32, count: u64) -> String {
        let nth = u64::from(nth);
        match self {
            Self::Scattered => scattered_id(prefix, (nth << 40) + count),
            Self::Rising => self.of(prefix, (count << 16) + nth),
        }
    }

    /// A transaction's id. A later prefix is a later one in the order of letters.
    pub fn of(self, prefix: &str, number: u64) -> String {
        match self {
            Self::Scattered => scattered_id(prefix, number),
            Self::Rising => format!("{prefix}-{number:016x}"),
        }
    }
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
