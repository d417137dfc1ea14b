//! What a run of the checks found.

use std::fmt;

/// What was found about one rule of the contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It was put to the test, and kept.
    Holds,
    /// It was broken.
    Broken {
        /// What the contract asks for.
        expected: String,
        /// What the participant did.
        seen: String,
    },
    /// It could not be put to the test.
    Inconclusive {
        /// What was in the way.
        why: String,
    },
}

/// One rule of the contract, and what was found about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// Stable, for programs; for example `late-try-after-cancel`.
    pub name: &'static str,
    /// The rule in a line.
    pub meaning: &'static str,
    /// What was found.
    pub finding: Finding,
}

/// Every rule, in the order in which they were checked. Displayed as a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct CheckReport {
    /// One for each rule.
    pub checks: Vec<Checked>,
}

impl CheckReport {
    /// True when every rule was put to the test and kept.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks
            .iter()
            .all(|check| check.finding == Finding::Holds)
    }

    /// Those that were broken.
    pub fn broken(&self) -> impl Iterator<Item = &Checked> {
        self.checks
            .iter()
            .filter(|check| matches!(check.finding, Finding::Broken { .. }))
    }

    /// For a unit test: nothing, if every rule holds.
    ///
    /// # Panics
    /// With the table, when a rule is broken or could not be put to the test.
    pub fn assert_holds(&self) {
        assert!(self.holds(), "the contract isn't kept\n{self}");
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.checks.iter().map(|check| check.name.len()).max();
        let width = width.unwrap_or_default();
        for check in &self.checks {
            let verdict = match check.finding {
                Finding::Holds => "holds",
                Finding::Broken { .. } => "BROKEN",
                Finding::Inconclusive { .. } => "inconclusive",
            };
            writeln!(f, "{:width$}  {verdict:12}  {}", check.name, check.meaning)?;
            match &check.finding {
                Finding::Holds => {}
                Finding::Broken { expected, seen } => {
                    writeln!(f, "{:width$}  expected      {expected}", "")?;
                    writeln!(f, "{:width$}  seen          {seen}", "")?;
                }
                Finding::Inconclusive { why } => {
                    writeln!(f, "{:width$}  because       {why}", "")?;
                }
            }
        }
        Ok(())
    }
}
