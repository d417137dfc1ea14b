//! The API as a client sees it: a whole coordinator over gRPC on 127.0.0.1, participants made with the
//! SDK behind a wire that can fail, and participants that follow a script. Over unary calls and, once more,
//! over sessions.

mod account;
mod coordinator;
mod door;
mod ending;
mod failures;
mod later;
mod modes;
mod reading;
#[path = "../participants/support.rs"]
#[allow(dead_code, reason = "its services that know nothing of the protos")]
mod services;
mod session;
mod targets;
mod transport;
mod watching;
mod wire;
