//! The disk fails the shipped binary in every way a disk can: the power goes at any call to the
//! system, calls fail, files are damaged.
//!
//! A library that is preloaded into the binary (`shim.c`) writes down every change to the store's
//! folder and every sync, in order. `power` knows what those syncs promise: from one recording it makes
//! the folder as it may be after a power cut at any place. `world` has what clients and participants saw
//! by then. So one run of the coordinator yields as many power cuts as one likes, each of which the
//! binary has to get over.
//!
//! `TERCET_CUTS=200 TERCET_FAULTS=2000 TERCET_DAMAGES=200 cargo test --test disk -- --nocapture` goes
//! further: 2000 are more calls than there are to fail, so each of them fails once. With
//! `TERCET_SEED=…` the same lots are drawn again.
#![cfg(target_os = "linux")]

mod bare_sled;
mod coordinator;
mod damage;
mod errors;
#[path = "../history/mod.rs"]
mod history;
mod image;
mod journal;
mod load;
#[path = "../support/long_run.rs"]
mod long_run;
mod participant;
mod place;
mod power;
mod power_loss;
#[allow(dead_code, reason = "each test uses its part of it")]
#[path = "../program/mod.rs"]
mod program;
mod recording;
mod records;
mod shim;
mod world;
