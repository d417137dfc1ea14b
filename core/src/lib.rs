//! The protocol of the Tercet transaction coordinator, both sides of it, as pure functions:
//! no clock, no randomness, no I/O, no async, no locks. What is model-checked is what ships.
#![forbid(unsafe_code)]

pub mod answer;
pub mod check;
pub mod fence;
pub mod ids;
pub mod operation;
pub mod outcome;
pub mod payload;
pub mod receipt;
pub mod request;
pub mod retry;
pub mod step;
pub mod transaction;
