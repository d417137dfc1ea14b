//! Each text once, however often it is said: a million transactions name the same ids and accounts in
//! what was meant, asked, heard, listed and done.

use std::{collections::HashSet, sync::Arc};

use super::history::{IntendedBranch, Intent};

#[derive(Default)]
pub struct Names(HashSet<Arc<str>>);

impl Names {
    /// The one copy of this text.
    pub fn name(&mut self, text: &str) -> Arc<str> {
        if let Some(known) = self.0.get(text) {
            return Arc::clone(known);
        }
        let name: Arc<str> = text.into();
        self.0.insert(Arc::clone(&name));
        name
    }

    /// A copy of an intent that takes as little room as can be.
    pub fn intent(&mut self, intent: &Intent) -> Intent {
        let branches = intent.branches.iter().map(|branch| IntendedBranch {
            id: self.name(&branch.id),
            participant: self.name(&branch.participant),
            account: self.name(&branch.account),
            amount: branch.amount,
        });
        let branches = branches.collect();
        Intent {
            id: self.name(&intent.id),
            mode: intent.mode,
            interactive: intent.interactive,
            branches,
        }
    }
}
