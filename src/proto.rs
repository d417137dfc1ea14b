//! Code generated from `proto/`. Only `rpc/` and `participants/` touch it, and turn it into the domain. What
//! participants are asked is written without it (`message.rs`).
#![allow(missing_docs, unreachable_pub, clippy::all, rustdoc::all)]

mod codec;
mod session_calls;

/// What the services' messages are read and written with.
pub(crate) use codec::{Counted, decoded};
pub use session_calls::SessionCalls;

/// The descriptor set of all files, for reflection and for mapping JSON to messages.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

pub mod tercet {
    pub mod v1 {
        tonic::include_proto!("tercet.v1");
    }
    pub mod participant {
        pub mod v1 {
            tonic::include_proto!("tercet.participant.v1");
        }
    }
}
