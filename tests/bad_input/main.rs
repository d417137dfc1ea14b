//! Whatever a client sends, it is told clearly: code, reason and the details that help. Each row of the
//! error table that applies to this service, over real gRPC on 127.0.0.1.

#[path = "../common/mod.rs"]
mod common;
mod garbage;
#[path = "../support/mangle.rs"]
mod mangle;
mod request;
mod support;
mod transaction;
mod unreadable;
