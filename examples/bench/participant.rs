//! A participant as a process: it counts what it was asked, and says so at its end.

use std::{
    fmt,
    future::{Future, pending},
};

use anyhow::{Context as _, bail};
use prost::bytes::Bytes;
use tercet_sdk::participant::{Branch, Later, MemoryFence, Participant, Resource, TryError};
use tokio::{
    io::{AsyncReadExt as _, stdin},
    net::TcpListener,
};
use tonic::transport::server::TcpIncoming;

use crate::silent;

/// The argument that makes a process of this program a participant; its name follows, and the URL of its
/// coordinator if it is to connect there.
pub const ROLE: &str = "participant";
/// What stands behind the name of one that answers nothing.
pub const SILENT: &str = "silent";
/// What both participants have to reserve.
pub const RESOURCE: &str = "take";

/// What a branch asks for: bytes to carry.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Take {
    #[prost(bytes = "bytes", tag = "1")]
    pub filler: Bytes,
}

/// How many branches have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub held: u64,
    pub confirmed: u64,
    pub canceled: u64,
}

/// Works until its standard input ends, which it does with the process that started it. The arguments are
/// those behind [`ROLE`].
pub async fn run(arguments: &[String]) -> anyhow::Result<()> {
    match arguments {
        [_, silent] if silent == SILENT => silent::run().await,
        [name, coordinator @ ..] => answer(name, coordinator.first()).await,
        [] => bail!("a participant has a name"),
    }
}

async fn answer(name: &str, coordinator: Option<&String>) -> anyhow::Result<()> {
    let fence = MemoryFence::new(Sums::default());
    let participant = Participant::new(name, fence.clone()).resource(Counter);
    until_told(work(participant, coordinator)).await?;
    println!("{}", fence.read(|sums| *sums).await);
    Ok(())
}

/// Works until standard input ends.
pub async fn until_told(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let (mut input, mut rest) = (stdin(), Vec::new());
    tokio::select! {
        ended = work => ended,
        read = input.read_to_end(&mut rest) => Ok(read.map(drop)?),
    }
}

/// Says first where it is, as the coordinator's configuration has it.
async fn work(
    participant: Participant<MemoryFence<Sums>>,
    coordinator: Option<&String>,
) -> anyhow::Result<()> {
    if let Some(coordinator) = coordinator {
        println!("listening on sessions");
        participant.connect(coordinator, pending()).await?;
    } else {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("listening on http://{}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let served = participant.serve_with_incoming(incoming, pending());
        served.await?;
    }
    Ok(())
}

struct Counter;

impl Resource<Sums> for Counter {
    const NAME: &'static str = RESOURCE;
    type Request = Take;
    type Held = ();

    async fn on_try(&self, sums: &mut Sums, _: &Branch, _: Take) -> Result<(), TryError> {
        sums.held += 1;
        Ok(())
    }

    async fn on_confirm(&self, sums: &mut Sums, _: &Branch, (): ()) -> Result<(), Later> {
        sums.held -= 1;
        sums.confirmed += 1;
        Ok(())
    }

    async fn on_cancel(&self, sums: &mut Sums, _: &Branch, (): ()) -> Result<(), Later> {
        sums.held -= 1;
        sums.canceled += 1;
        Ok(())
    }
}

/// As one line, which [`Sums::parse`] reads.
impl fmt::Display for Sums {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            held,
            confirmed,
            canceled,
        } = self;
        write!(f, "{held} held, {confirmed} confirmed, {canceled} canceled")
    }
}

impl Sums {
    pub fn parse(line: &str) -> anyhow::Result<Self> {
        let mut numbers = line.split(", ").map(|part| part.split(' ').next());
        let mut next = || -> anyhow::Result<u64> {
            let number = numbers.next().flatten();
            number
                .and_then(|text| text.parse().ok())
                .with_context(|| format!("a participant ended with {line:?}"))
        };
        Ok(Self {
            held: next()?,
            confirmed: next()?,
            canceled: next()?,
        })
    }
}
