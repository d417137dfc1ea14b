//! What is compared.

use std::fmt;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A way to do the work of a transaction, or a part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// One Try of one participant: what a call costs.
    Raw,
    /// No coordinator: the client itself makes the four calls, both tries at once, then both confirms.
    Direct,
    /// `direct` once more: its ratio to itself is the noise.
    #[value(skip)]
    Again,
    /// Through the coordinator, which calls its participants.
    Unary,
    /// The same, with participants that have connected to it and are called over their sessions.
    Sessions,
}

impl Mode {
    /// What can be asked for.
    pub const ASKED: [Mode; 4] = [Mode::Raw, Mode::Direct, Mode::Unary, Mode::Sessions];

    pub fn has_coordinator(self) -> bool {
        match self {
            Mode::Raw | Mode::Direct | Mode::Again => false,
            Mode::Unary | Mode::Sessions => true,
        }
    }

    /// The mode whose best number of connections it uses.
    pub fn calibrated_as(self) -> Mode {
        match self {
            Mode::Again => Mode::Direct,
            Mode::Raw | Mode::Direct | Mode::Unary | Mode::Sessions => self,
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mode::Raw => "raw",
            Mode::Direct => "direct",
            Mode::Again => "again",
            Mode::Unary => "unary",
            Mode::Sessions => "sessions",
        })
    }
}
