//! The door out: what participants are sent, and what every kind of answer, error and silence means.
//! Real servers and sockets on 127.0.0.1.

mod configuration;
mod contract;
mod failover;
mod measures;
mod methods;
mod sessions;
mod support;
