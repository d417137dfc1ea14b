//! Which rules a scenario must use, and which no scenario ever can.

use tercet_core::{
    fence::{JobEnd, State as Row},
    operation::{
        Operation::{self, Cancel, Confirm, Try},
        RecordState as R,
    },
    outcome::ReplyMode,
};

use crate::{
    record_states::RECORD_STATES,
    rules::{COMMIT, Heard, Rule, Says},
    scenario::{OPERATIONS, Scenario},
};

/// Each of these has to be used somewhere.
pub(crate) fn rules(scenario: &Scenario) -> Vec<Rule> {
    let mut all = always();
    let remotes = &scenario.remote[..scenario.branches];
    if remotes.contains(&false) {
        all.extend(local());
    }
    if remotes.contains(&true) {
        all.extend(remote());
        if scenario.operator {
            let refused = "a resolution while the participant works";
            all.push(Rule::Refuses(refused));
        }
    }
    if scenario.mode == ReplyMode::TwoState {
        all.extend(["RESTARTED", "TRY_TIMEOUT", "WAIT_ENDED"].map(Rule::Decides));
    }
    if scenario.interactive {
        all.extend(
            [
                "a branch after the decision or the commit request",
                "a branch id with other content",
                "a commit of other branches",
            ]
            .map(Rule::Refuses),
        );
    }
    if scenario.operator {
        all.extend(
            [
                "a resolution before its time",
                "a resolution that the participant does not confirm",
            ]
            .map(Rule::Refuses),
        );
    }
    if scenario.takeover {
        all.extend(OPERATIONS.map(Rule::EpochStale));
    }
    if scenario.copied {
        let rows = Row::ALL.into_iter().map(Some);
        let cells = rows.flat_map(|row| OPERATIONS.map(|it| fence(remotes[0], row, it)));
        let contradictions = cells.filter(|it| is_contradiction(*it));
        all.extend(contradictions.filter(|it| !is_impossible(*it)));
    }
    if scenario.collects {
        all.push(Rule::TryBehindHorizon);
        let ends = [
            JobEnd::Tried,
            JobEnd::TryFailed,
            JobEnd::Confirmed,
            JobEnd::Canceled,
        ];
        if remotes.contains(&true) {
            all.extend(ends.map(|end| Rule::Finish(None, end)));
        }
    }
    if scenario.collects || scenario.restores {
        all.push(fence(remotes[0], None, Confirm));
        all.push(Rule::Query(Confirm, Says::State(R::Unknown)));
    }
    if scenario.lies {
        all.extend(lies(remotes[scenario.branches - 1]));
    }
    all
}

fn local() -> Vec<Rule> {
    let mut all = Vec::new();
    all.extend([None, Some(Row::Tried), Some(Row::Canceled)].map(|row| fence(false, row, Cancel)));
    all.extend([Some(Row::Tried), Some(Row::Confirmed)].map(|row| fence(false, row, Confirm)));
    let rows = [
        None,
        Some(Row::Tried),
        Some(Row::Confirmed),
        Some(Row::Canceled),
    ];
    all.extend(rows.map(|row| fence(false, row, Try)));
    all
}

fn always() -> Vec<Rule> {
    let mut all = vec![Rule::TryExpired];
    let says = [
        (Try, R::Unknown),
        (Try, R::Tried),
        (Confirm, R::Tried),
        (Confirm, R::Confirmed),
        (Cancel, R::Unknown),
        (Cancel, R::Tried),
        (Cancel, R::Canceled),
    ];
    all.extend(says.map(|(operation, state)| Rule::Query(operation, Says::State(state))));
    for operation in OPERATIONS {
        all.push(Rule::Stale(operation));
        let heard = [
            Heard::Success,
            Heard::Failed,
            Heard::NotSent,
            Heard::TooLarge,
            Heard::Nothing,
        ];
        all.extend(heard.map(|heard| Rule::Answered(operation, heard)));
        let says = [Says::Unclear, Says::TooLarge, Says::NoAnswer];
        all.extend(says.map(|says| Rule::Query(operation, says)));
    }
    let causes = [
        COMMIT,
        "REFUSED_BY_REPLY",
        "CLIENT_ROLLBACK",
        "EXPIRED",
        "NOT_SENT",
    ];
    all.extend(causes.map(Rule::Decides));
    all.push(Rule::Refuses("a rollback after the commit decision"));
    all
}

fn remote() -> Vec<Rule> {
    use Row::{Canceled, Canceling, Confirmed, Confirming, Tried, TryFailed, Trying};
    let mut all = vec![Rule::JobNeverStarted];
    for row in Row::ALL {
        all.push(fence(true, Some(row), Try));
        all.push(Rule::Finish(Some(row), JobEnd::Tried));
        all.push(Rule::Finish(Some(row), JobEnd::TryFailed));
    }
    all.extend([fence(true, None, Try), fence(true, None, Cancel)]);
    let confirms = [Tried, Confirming, Confirmed];
    all.extend(confirms.map(|row| fence(true, Some(row), Confirm)));
    let cancels = [Trying, TryFailed, Tried, Canceling, Canceled];
    all.extend(cancels.map(|row| fence(true, Some(row), Cancel)));
    let ends = [
        (Confirming, JobEnd::Confirmed),
        (Confirmed, JobEnd::Confirmed),
        (Canceling, JobEnd::Canceled),
        (Canceled, JobEnd::Canceled),
    ];
    all.extend(ends.map(|(row, end)| Rule::Finish(Some(row), end)));
    all.extend(OPERATIONS.map(|operation| Rule::Answered(operation, Heard::Processing)));
    let says = [
        (Try, R::Trying),
        (Try, R::TryFailed),
        (Confirm, R::Confirming),
        (Cancel, R::Trying),
        (Cancel, R::TryFailed),
        (Cancel, R::Canceling),
    ];
    all.extend(says.map(|(operation, state)| Rule::Query(operation, Says::State(state))));
    all.extend(["REFUSED_BY_REPORT", "REFUSED"].map(Rule::Decides));
    all
}

/// A Query that says anything uses the whole table; says it TRIED too early, a Confirm comes.
fn lies(remote: bool) -> Vec<Rule> {
    let mut all = vec![Rule::Decides("CANCELED_BY_PARTICIPANT")];
    for operation in OPERATIONS {
        let states = RECORD_STATES.map(Says::State);
        all.extend(states.map(|says| Rule::Query(operation, says)));
    }
    let unready = [None, Some(Row::Trying), Some(Row::TryFailed)];
    let unready = unready.map(|row| fence(remote, row, Confirm));
    all.extend(unready.into_iter().filter(|it| !is_impossible(*it)));
    all
}

fn fence(remote: bool, row: Option<Row>, operation: Operation) -> Rule {
    Rule::Fence {
        remote,
        row,
        operation,
    }
}

/// Confirm after a Cancel, and the other way round: what coordinator and fence promise each other
/// never to do. That none is used is an invariant too, but with an older copy of the store.
pub(crate) fn is_contradiction(rule: Rule) -> bool {
    use Row::{Canceled, Canceling, Confirmed, Confirming};
    matches!(
        rule,
        Rule::Fence {
            row: Some(Confirming | Confirmed),
            operation: Cancel,
            ..
        } | Rule::Fence {
            row: Some(Canceling | Canceled),
            operation: Confirm,
            ..
        }
    )
}

/// No scenario uses these. What the fence would do stands in `core/tests/fence.rs`.
pub(crate) fn is_impossible(rule: Rule) -> bool {
    use Row::{Canceled, Canceling, Confirmed, Confirming, TryFailed, Trying};
    match rule {
        // Rows that only work outside the database writes.
        Rule::Fence {
            remote: false,
            row: Some(Trying | TryFailed | Confirming | Canceling),
            ..
        } => true,
        // A job of phase two that finds what only the other phase, or no phase yet, writes.
        Rule::Finish(Some(row), JobEnd::Confirmed) => !matches!(row, Confirming | Confirmed),
        Rule::Finish(Some(row), JobEnd::Canceled) => !matches!(row, Canceling | Canceled),
        _ => false,
    }
}
