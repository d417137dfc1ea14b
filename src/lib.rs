//! Tercet, a transaction coordinator for services that talk gRPC: a client hands it a set of branches; it
//! runs Try on every participant, decides once, durably, then Confirm on all or Cancel on all.
//!
//! The modules stand in the order in which a request meets them. It comes in through [`http2`] and [`rpc`],
//! which parses it; the [`engine`] steps the transaction by the rules of [`tercet_core`], commits each
//! decision to the [`store`], and calls the [`participants`]; the reply goes back the way it came.
//! [`server`] alone puts the parts together.
#![forbid(unsafe_code)]

pub mod http2;

pub mod rpc;

pub mod engine;

pub mod store;

pub mod participants;

pub mod server;

pub mod config;
pub mod proto;
pub mod telemetry;

mod fields;
mod gate;
mod message;
mod turn;

/// What tests share with those in `tests/`, which know this crate by its name.
#[cfg(test)]
extern crate self as tercet;
#[cfg(test)]
#[path = "../tests/support/arbitrary.rs"]
mod arbitrary;
#[cfg(test)]
#[path = "../tests/support/mangle.rs"]
mod mangle;
