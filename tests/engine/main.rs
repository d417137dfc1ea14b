//! The engine's own promises, over the reference store and participants with real fences, in
//! paused time: each instant is exact.

#[path = "../common/mod.rs"]
mod common;

mod admission;
mod attempts;
mod broken;
mod deadlines;
mod draining;
mod identity;
mod operators;
mod retention;
mod support;
mod two_state;
mod unsynced;
mod waits;
