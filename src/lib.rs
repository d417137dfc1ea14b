//! Tercet, a transaction coordinator for services that talk gRPC.
#![forbid(unsafe_code)]

pub mod engine;
pub mod participants;
pub mod proto;
pub mod rpc;
pub mod store;
