//! Durable before performed, in types: what a step wants done stays sealed until a store has
//! acknowledged the record that justifies it.

use crate::step::{Durability, Effect};

/// A store's proof that a record is durable. Not `Clone`: one commit opens one step.
#[derive(Debug)]
#[must_use = "a receipt exists to open the effects of the step it stands for"]
pub struct Receipt(());

impl Receipt {
    /// Says that the record is durable. Only a store says so, after its sync; `tests/tidy.rs` of the
    /// coordinator holds everybody else to it.
    pub fn acknowledge() -> Self {
        Self(())
    }
}

/// The effects of one step, closed.
#[derive(Debug)]
#[must_use = "effects that are never opened are calls that are never made"]
pub struct Sealed {
    durability: Durability,
    effects: Vec<Effect>,
}

impl Sealed {
    pub(crate) fn new(durability: Durability, effects: Vec<Effect>) -> Self {
        Self {
            durability,
            effects,
        }
    }

    /// The effects, in exchange for the store's receipt.
    #[must_use]
    pub fn open(self, _receipt: Receipt) -> Vec<Effect> {
        self.effects
    }

    /// The effects of a step that an earlier record already justifies.
    ///
    /// # Errors
    /// The seal itself, unopened, when the step has to be durable first.
    pub fn open_unsynced(self) -> Result<Vec<Effect>, Self> {
        match self.durability {
            Durability::Required => Err(self),
            Durability::Memory | Durability::Lazy => Ok(self.effects),
        }
    }
}
