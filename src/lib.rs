//! Tercet, a transaction coordinator for services that talk gRPC.
#![forbid(unsafe_code)]

pub mod proto;
