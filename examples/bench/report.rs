//! Everything a run has found, as it is written to a file.

use serde::Serialize;

use crate::{machine::Machine, measured::Measured, mode::Mode, summary::Summary};

#[derive(Debug, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub payload_bytes: usize,
    /// How long each turn was measured.
    pub seconds: f64,
    pub calibrations: Vec<Calibration>,
    pub turns: Vec<Turn>,
    pub summary: Summary,
}

/// How many connections suit a mode best.
#[derive(Debug, Serialize)]
pub struct Calibration {
    pub mode: Mode,
    pub concurrency: u32,
    /// With 1 connection, with 2, and so on; none where it failed.
    pub transactions_per_s: Vec<Option<f64>>,
    pub best: usize,
}

/// What one mode came to in one round.
#[derive(Debug, Serialize)]
pub struct Turn {
    pub round: u32,
    pub concurrency: u32,
    pub mode: Mode,
    pub connections: usize,
    #[serde(flatten)]
    pub result: TurnResult,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TurnResult {
    Measured(Measured),
    Failed(String),
}

impl Turn {
    pub fn is_failed(&self) -> bool {
        self.measured().is_none()
    }

    pub fn measured(&self) -> Option<&Measured> {
        match &self.result {
            TurnResult::Measured(measured) => Some(measured),
            TurnResult::Failed(_) => None,
        }
    }
}
