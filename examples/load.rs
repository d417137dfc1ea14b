//! A small benchmark: how many durable transactions a second, and how long each takes.
//!
//! `cargo run --release --example load -- [TRANSACTIONS] [CONCURRENCY]`. One process holds the
//! coordinator on sled, two participants in memory and the clients; every call goes over TCP on the
//! loopback. On a noisy machine only ratios within one run count.

use std::{
    future::pending,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hdrhistogram::Histogram;
use tercet::{
    config::{FlagValue, Sources},
    server::{Connector, Server, SystemClock},
    store::{SledStore, Store},
};
use tercet_sdk::{
    client::{Client, Outcome, Submit},
    participant::{Branch, Later, MemoryFence, Participant, Resource, TryError},
};
use tokio::net::TcpListener;
use tonic::transport::server::TcpIncoming;

/// Transactions before the clock starts, so that connections are open and code is warm.
const WARM_UP: u64 = 200;

#[derive(Clone, PartialEq, prost::Message)]
struct Take {
    #[prost(bytes = "vec", tag = "1")]
    filler: Vec<u8>,
}

/// Does nothing but remember how much is held.
struct Taker;

impl Resource<i64> for Taker {
    const NAME: &'static str = "take";
    type Request = Take;
    type Held = ();

    async fn on_try(&self, held: &mut i64, _: &Branch, _: Take) -> Result<(), TryError> {
        *held += 1;
        Ok(())
    }

    async fn on_confirm(&self, held: &mut i64, _: &Branch, (): ()) -> Result<(), Later> {
        *held -= 1;
        Ok(())
    }

    async fn on_cancel(&self, held: &mut i64, _: &Branch, (): ()) -> Result<(), Later> {
        *held -= 1;
        Ok(())
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let transactions = number(arguments.next(), 5_000)?;
    let concurrency = number(arguments.next(), 64)?;
    let folder = std::env::temp_dir().join(format!("tercet-load-{}", std::process::id()));
    let result = measure(&folder, transactions, concurrency).await;
    std::fs::remove_dir_all(&folder).context("removing the store")?;
    result
}

fn number(given: Option<String>, default: u64) -> anyhow::Result<u64> {
    let Some(given) = given else {
        return Ok(default);
    };
    let number = given
        .parse()
        .with_context(|| format!("{given:?} is no number"))?;
    ensure!(number > 0, "it takes at least one");
    Ok(number)
}

async fn measure(folder: &Path, transactions: u64, concurrency: u64) -> anyhow::Result<()> {
    let store = Arc::new(SledStore::open(folder)?);
    let url = coordinator(Arc::clone(&store)).await?;
    submit_many(&url, "warm-up", WARM_UP, concurrency.min(WARM_UP)).await?;

    let before = store.counters();
    let start = Instant::now();
    let latencies = submit_many(&url, "load", transactions, concurrency).await?;
    let took = start.elapsed();
    let after = store.counters();

    let per_transaction = |count: u64| count as f64 / transactions as f64;
    println!("transactions        {transactions}, {concurrency} at a time");
    println!(
        "transactions/s      {:.0}",
        transactions as f64 / took.as_secs_f64()
    );
    for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
        let latency = Duration::from_micros(latencies.value_at_quantile(quantile));
        println!("{name:<20}{latency:.2?}");
    }
    println!(
        "commits/transaction {:.2}",
        per_transaction(after.commits - before.commits)
    );
    println!(
        "syncs/transaction   {:.2}",
        per_transaction(after.syncs - before.syncs)
    );
    Ok(())
}

/// Starts the coordinator and both participants, and says where the coordinator is.
async fn coordinator(store: Arc<SledStore>) -> anyhow::Result<String> {
    let mut participants = Vec::new();
    for name in ["stock", "money"] {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let value = format!("{name}=http://{}", listener.local_addr()?);
        participants.push(FlagValue {
            key: "participant".into(),
            value,
            flag: "--participant".into(),
        });
        let participant = Participant::new(name, MemoryFence::new(0)).resource(Taker);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tokio::spawn(participant.serve_with_incoming(incoming, pending::<()>()));
    }
    let config = Sources {
        flags: participants,
        ..Sources::default()
    }
    .load()?;
    let server = Server::new(&config, store, Connector::tcp(), Arc::new(SystemClock))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    tokio::spawn(async move { server.run(incoming, pending::<()>()).await });
    Ok(url)
}

/// Submits this many, so many at a time, and says how long each took, in microseconds.
async fn submit_many(
    url: &str,
    name: &'static str,
    transactions: u64,
    concurrency: u64,
) -> anyhow::Result<Histogram<u64>> {
    let client = Client::new(url)?;
    let next = Arc::new(AtomicU64::new(0));
    let mut workers = Vec::new();
    for _ in 0..concurrency {
        let (client, next) = (client.clone(), Arc::clone(&next));
        workers.push(tokio::spawn(async move {
            let mut latencies = Histogram::<u64>::new(3)?;
            loop {
                let nth = next.fetch_add(1, Ordering::Relaxed);
                if nth >= transactions {
                    return anyhow::Ok(latencies);
                }
                let start = Instant::now();
                submit(&client, format!("{name}-{nth}")).await?;
                latencies.record(u64::try_from(start.elapsed().as_micros())?)?;
            }
        }));
    }
    let mut latencies = Histogram::<u64>::new(3)?;
    for worker in workers {
        latencies.add(worker.await??)?;
    }
    Ok(latencies)
}

async fn submit(client: &Client, id: String) -> anyhow::Result<()> {
    let take = Take {
        filler: vec![0; 128],
    };
    let order = Submit::new(id)
        .branch("stock", "take", &take)
        .branch("money", "take", &take);
    let outcome = client.submit(&order).await?;
    ensure!(
        matches!(outcome, Outcome::Success(_)),
        "expected SUCCESS, got {outcome:?}"
    );
    Ok(())
}
