//! How often everything occurred. A run in which something never did has shown nothing about it.

use std::{collections::BTreeMap, fmt};

use tercet_core::{operation::Operation, outcome::ReplyMode, transaction::Transaction};

use super::history::{Answer, inside::Sent};

/// By kind, and by what it was.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq)]
pub struct Tally(BTreeMap<(&'static str, String), u64>);

/// What every run of some length meets.
const EXPECTED: [(&str, &[&str]); 14] = [
    (
        "state",
        &["Trying", "Confirming", "Confirmed", "Canceling", "Canceled"],
    ),
    (
        "branch",
        &[
            "Trying",
            "Tried",
            "Confirming",
            "Confirmed",
            "Canceling",
            "Canceled",
        ],
    ),
    (
        "kind",
        &[
            "TwoState submitted",
            "ThreeState submitted",
            "Accepted submitted",
            "TwoState interactive",
            "ThreeState interactive",
            "Accepted interactive",
        ],
    ),
    ("outcome heard", &["Success", "Failed", "Processing"]),
    (
        "heard",
        &[
            "shown",
            "accepted",
            "decided",
            "not taken",
            "not found",
            "nothing definite",
        ],
    ),
    (
        "sent",
        &[
            "Try",
            "Confirm",
            "Cancel",
            "Query for Try",
            "Query for Confirm",
            "Query for Cancel",
        ],
    ),
    (
        "answer",
        &["SUCCESS", "FAILED", "PROCESSING", "indeterminate"],
    ),
    (
        "query",
        &[
            "Unknown",
            "Trying",
            "Tried",
            "Confirming",
            "Confirmed",
            "Canceling",
            "Canceled",
            "unclear",
            "indeterminate",
        ],
    ),
    ("attention", &["RetriesExceeded", "Refused"]),
    ("participant", &["serves", "connects out"]),
    (
        "fault",
        &[
            "crash of the coordinator",
            "crash of the participant",
            "shutdown",
            "store failed a commit",
            "store lost an acknowledgement",
            "partition coordinator–participant",
            "partition participant–coordinator",
            "partition client–coordinator",
            "partition coordinator–client",
            "one way coordinator–participant",
            "one way participant–coordinator",
            "one way client–coordinator",
            "one way coordinator–client",
            "held messages",
            "slow link",
            "coordinator's clock jumped back",
            "coordinator's clock jumped forward",
            "participant's clock jumped back",
            "participant's clock jumped forward",
            "one stuck in the calm",
        ],
    ),
    (
        "call",
        &[
            "stuck",
            "reply lost",
            "error before it was done",
            "error after it was done",
            "query unimplemented",
            "slow",
        ],
    ),
    (
        "refused",
        &[
            "INFLIGHT_LIMIT",
            "TRANSACTION_ID_REUSED",
            "TRANSACTION_NOT_FOUND",
            "TRANSACTION_EXPIRED",
            "DECISION_CONFLICT",
            "STATE_INVALID",
        ],
    ),
    (
        "client",
        &[
            "reused an id",
            "raced for an id",
            "rolled back",
            "listed",
            "saw a change",
        ],
    ),
];

impl Tally {
    pub fn count(&mut self, kind: &'static str, what: impl Into<String>) {
        *self.0.entry((kind, what.into())).or_default() += 1;
    }

    pub fn of(&self, kind: &'static str, what: &str) -> u64 {
        self.0.get(&(kind, what.into())).copied().unwrap_or(0)
    }

    pub fn add(&mut self, other: &Tally) {
        for (key, count) in &other.0 {
            *self.0.entry(key.clone()).or_default() += count;
        }
    }

    /// What should have occurred and never did.
    pub fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        for (kind, whats) in EXPECTED {
            for what in whats.iter() {
                if self.of(kind, what) == 0 {
                    missing.push(format!("{kind}: {what}"));
                }
            }
        }
        missing
    }

    /// A record that became durable.
    pub fn record(&mut self, transaction: &Transaction) {
        self.count("state", format!("{:?}", transaction.state));
        for branch in &transaction.branches {
            self.count("branch", format!("{:?}", branch.state));
        }
        for attention in &transaction.attentions {
            self.count("attention", format!("{:?}", attention.reason));
        }
    }

    /// What a client sends.
    pub fn intent(&mut self, mode: ReplyMode, interactive: bool) {
        let how = if interactive {
            "interactive"
        } else {
            "submitted"
        };
        self.count("kind", format!("{mode:?} {how}"));
    }

    pub fn sent(&mut self, sent: &Sent) {
        let operation = match sent.operation {
            Operation::Try => "Try",
            Operation::Confirm => "Confirm",
            Operation::Cancel => "Cancel",
        };
        let query = if sent.query { "Query for " } else { "" };
        self.count("sent", format!("{query}{operation}"));
    }

    pub fn answer(&mut self, answer: Answer) {
        let what = match answer {
            Answer::Shown(seen) => {
                self.count("outcome heard", format!("{:?}", seen.outcome));
                "shown"
            }
            Answer::Accepted => "accepted",
            Answer::Decided(_) => "decided",
            Answer::NotTaken => "not taken",
            Answer::NotFound => "not found",
            Answer::Merged => "merged",
            Answer::Unknown => "nothing definite",
        };
        self.count("heard", what);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = "";
        for ((kind, what), count) in &self.0 {
            if *kind == last {
                write!(f, ", ")?;
            } else {
                write!(f, "{}{kind}: ", if last.is_empty() { "" } else { "\n" })?;
                last = kind;
            }
            write!(f, "{what} {count}")?;
        }
        Ok(())
    }
}
