//! Write participants and clients of the Tercet transaction coordinator.
//!
//! | feature | module | for |
//! |---|---|---|
//! | `client` (default) | [`client`] | whoever starts transactions and wants to know what came of them |
//! | `participant` (default) | [`participant`] | whoever has something to reserve |
//! | `sqlite`, `postgres` | | the participant's fence in its own database, through sqlx |
//! | `testing` | `testing` | checking any participant against the contract |
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
mod codec;
#[cfg(feature = "participant")]
pub mod participant;
#[cfg(any(feature = "client", feature = "testing"))]
mod payload;
#[cfg(feature = "testing")]
pub mod testing;
#[cfg(any(feature = "client", feature = "testing"))]
mod times;

/// The API's generated messages, clients and servers. Everything an author needs is re-exported
/// or wrapped elsewhere; these may change with the protobuf compiler.
#[doc(hidden)]
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    rustdoc::all
)]
pub mod proto {
    pub mod v1 {
        include!("generated/tercet.v1.rs");
    }
    pub mod participant {
        pub mod v1 {
            include!("generated/tercet.participant.v1.rs");
        }
    }
}
