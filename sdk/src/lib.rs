//! Write participants and clients of the Tercet transaction coordinator.
#![forbid(unsafe_code)]

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "participant")]
pub mod participant;
#[cfg(any(feature = "client", feature = "testing"))]
mod payload;
#[cfg(feature = "testing")]
pub mod testing;

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
