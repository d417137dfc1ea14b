//! Durable before performed, in types: what a step wants done stays sealed until a store has
//! acknowledged the record that justifies it.
//!
//! ```
//! # use tercet_core::{outcome::ReplyMode, receipt::Receipt, transaction::Transaction};
//! let step = Transaction::begin(ReplyMode::ThreeState, Default::default());
//! let durable = Receipt::acknowledge(); // the store, after its sync
//! let effects = step.effects.open(durable);
//! # assert!(effects.is_empty());
//! ```
//!
//! Nothing opens without a receipt:
//!
//! ```compile_fail,E0061
//! # use tercet_core::{outcome::ReplyMode, receipt::Receipt, transaction::Transaction};
//! let step = Transaction::begin(ReplyMode::ThreeState, Default::default());
//! let effects = step.effects.open();
//! ```
//!
//! a receipt can't be made up:
//!
//! ```compile_fail,E0423
//! # use tercet_core::{outcome::ReplyMode, receipt::Receipt, transaction::Transaction};
//! let step = Transaction::begin(ReplyMode::ThreeState, Default::default());
//! let effects = step.effects.open(Receipt(()));
//! ```
//!
//! it opens one step only:
//!
//! ```compile_fail,E0382
//! # use tercet_core::{outcome::ReplyMode, receipt::Receipt, transaction::Transaction};
//! let first = Transaction::begin(ReplyMode::ThreeState, Default::default());
//! let second = Transaction::begin(ReplyMode::ThreeState, Default::default());
//! let durable = Receipt::acknowledge();
//! let effects = first.effects.open(durable);
//! let effects = second.effects.open(durable);
//! ```
//!
//! and no step opens twice:
//!
//! ```compile_fail,E0382
//! # use tercet_core::{outcome::ReplyMode, receipt::Receipt, transaction::Transaction};
//! let step = Transaction::begin(ReplyMode::ThreeState, Default::default());
//! let effects = step.effects.open(Receipt::acknowledge());
//! let effects = step.effects.open(Receipt::acknowledge());
//! ```

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
