//! The rules of the protocol, by name: every cell of the fence's table and of the Query table, every
//! end of a job, every way an answer can come and everything that decides. What a step used is
//! compared with what its scenario must use, so that no invariant holds for want of visits.

use std::{cell::RefCell, collections::HashMap};

use tercet_core::{
    fence::{JobEnd, State as Row},
    operation::{Operation, RecordState},
    payload::Failure,
};

use crate::{record_states::RECORD_STATES, scenario::OPERATIONS};

/// One rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Rule {
    /// A call finds this row; `remote`: the work is outside the participant's database.
    Fence {
        remote: bool,
        row: Option<Row>,
        operation: Operation,
    },
    /// A Try without a row comes after its deadline.
    TryExpired,
    /// A Try without a row comes in time, and its row was collected.
    TryBehindHorizon,
    /// A Cancel finds TRYING and knows that the job never started.
    JobNeverStarted,
    /// A call's epoch is lower than the row's.
    EpochStale(Operation),
    /// A remote job ends and finds this row.
    Finish(Option<Row>, JobEnd),
    /// A Query about this operation says so.
    Query(Operation, Says),
    /// An answer, or a Query's, that the branch has moved on from.
    Stale(Operation),
    /// An operation was answered so.
    Answered(Operation, Heard),
    /// This decided, as the transaction's failure says; a commit has none.
    Decides(&'static str),
    /// A request was refused.
    Refuses(&'static str),
}

/// What a Query brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Says {
    State(RecordState),
    Unclear,
    TooLarge,
    NoAnswer,
}

/// What a call brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Heard {
    Success,
    Failed,
    Processing,
    NotSent,
    TooLarge,
    Nothing,
}

/// Everything that decides, by the reason that the record keeps.
const CAUSES: [&str; 11] = [
    COMMIT,
    "REFUSED_BY_REPLY",
    "REFUSED_BY_REPORT",
    "REFUSED",
    "CANCELED_BY_PARTICIPANT",
    "CLIENT_ROLLBACK",
    "EXPIRED",
    "NOT_SENT",
    "RESTARTED",
    "TRY_TIMEOUT",
    "WAIT_ENDED",
];
/// Every Try succeeded.
pub(crate) const COMMIT: &str = "every Try succeeded";

/// Requests that a transaction refuses.
const REFUSALS: [&str; 7] = [
    "a branch after the decision or the commit request",
    "a branch id with other content",
    "a commit of other branches",
    "a rollback after the commit decision",
    "a resolution before its time",
    "a resolution while the participant works",
    "a resolution that the participant does not confirm",
];

/// A failure with a reason that `cause` knows.
pub(crate) fn because(reason: &'static str) -> Failure {
    thread_local! {
        static KNOWN: RefCell<HashMap<&'static str, Failure>> = RefCell::default();
    }
    KNOWN.with_borrow_mut(|known| {
        let failure = known.entry(reason);
        failure.or_insert_with(|| Failure::new(reason, "")).clone()
    })
}

/// The name of what decided.
pub(crate) fn cause(reason: Option<&str>) -> Rule {
    let known = match reason {
        None => Some(COMMIT),
        Some(reason) => CAUSES.into_iter().find(|it| *it == reason),
    };
    Rule::Decides(known.unwrap_or_else(|| panic!("{reason:?} decides and has no name here")))
}

/// The fence's rows, and none.
fn rows() -> impl Iterator<Item = Option<Row>> {
    Row::ALL.into_iter().map(Some).chain([None])
}

const JOB_ENDS: [JobEnd; 4] = [
    JobEnd::Tried,
    JobEnd::TryFailed,
    JobEnd::Confirmed,
    JobEnd::Canceled,
];

/// All rules.
pub(crate) fn all() -> Vec<Rule> {
    let mut all = vec![
        Rule::TryExpired,
        Rule::TryBehindHorizon,
        Rule::JobNeverStarted,
    ];
    for row in rows() {
        all.extend(JOB_ENDS.map(|end| Rule::Finish(row, end)));
        for operation in OPERATIONS {
            all.extend([false, true].map(|remote| Rule::Fence {
                remote,
                row,
                operation,
            }));
        }
    }
    for operation in OPERATIONS {
        all.extend([Rule::EpochStale(operation), Rule::Stale(operation)]);
        let states = RECORD_STATES.map(Says::State);
        let others = [Says::Unclear, Says::TooLarge, Says::NoAnswer];
        let says = states.into_iter().chain(others);
        all.extend(says.map(|says| Rule::Query(operation, says)));
        all.extend(HEARD.map(|heard| Rule::Answered(operation, heard)));
    }
    all.extend(CAUSES.map(Rule::Decides));
    all.extend(REFUSALS.map(Rule::Refuses));
    all
}

const HEARD: [Heard; 6] = [
    Heard::Success,
    Heard::Failed,
    Heard::Processing,
    Heard::NotSent,
    Heard::TooLarge,
    Heard::Nothing,
];
