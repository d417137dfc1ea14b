//! A participant made with the SDK: it holds an amount of something, in memory, behind its fence.

use std::{net::SocketAddr, sync::Arc};

use tercet_sdk::participant::{
    Branch, Later, MemoryFence, Participant, Resource, TryError, refuse,
};
use tonic::transport::{Server, server::TcpIncoming};

use crate::{services, wire::Wire};

/// What each account holds at the start.
pub const HELD: i64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amounts {
    pub free: i64,
    pub reserved: i64,
    pub used: i64,
}

/// The account and the wire to it.
pub struct Account {
    fence: MemoryFence<Amounts>,
    pub wire: Arc<Wire>,
    pub address: SocketAddr,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Amount {
    #[prost(int64, tag = "1")]
    pub count: i64,
}

struct Take;

impl Resource<Amounts> for Take {
    const NAME: &'static str = "take";
    type Request = Amount;
    type Held = Amount;

    async fn on_try(&self, it: &mut Amounts, _: &Branch, ask: Amount) -> Result<Amount, TryError> {
        if it.free < ask.count {
            return Err(refuse("OUT_OF_STOCK").with("free", it.free));
        }
        it.free -= ask.count;
        it.reserved += ask.count;
        Ok(ask)
    }

    async fn on_confirm(&self, it: &mut Amounts, _: &Branch, held: Amount) -> Result<(), Later> {
        it.reserved -= held.count;
        it.used += held.count;
        Ok(())
    }

    async fn on_cancel(&self, it: &mut Amounts, _: &Branch, held: Amount) -> Result<(), Later> {
        it.reserved -= held.count;
        it.free += held.count;
        Ok(())
    }
}

impl Account {
    /// Serves until the test ends.
    pub async fn serve(name: &str) -> Self {
        let fence = MemoryFence::new(Amounts {
            free: HELD,
            reserved: 0,
            used: 0,
        });
        let real = served(name, fence.clone()).await;
        let (wire, address) = Wire::to(name, real).await;
        Self {
            fence,
            wire,
            address,
        }
    }

    pub async fn amounts(&self) -> Amounts {
        self.fence.read(|it| *it).await
    }

    /// Nothing is lost, nothing is left reserved, and so much is used.
    #[track_caller]
    pub fn expect_used(&self, used: i64) -> impl Future<Output = ()> {
        let at = std::panic::Location::caller();
        async move {
            let expected = Amounts {
                free: HELD - used,
                reserved: 0,
                used,
            };
            assert_eq!(self.amounts().await, expected, "at {at}");
        }
    }
}

/// An account that has seen nothing yet, by itself.
pub async fn served(name: &str, fence: MemoryFence<Amounts>) -> SocketAddr {
    let (listener, address) = services::listener().await;
    let participant = Participant::new(name, fence).resource(Take);
    let server = Server::builder().add_service(participant.into_service().unwrap());
    tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
    address
}
