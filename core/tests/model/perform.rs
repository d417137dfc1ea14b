//! What each thing that may happen does to the world, and what it must not do at that very moment.

use tercet_core::{
    fence,
    operation::{Operation, RecordState},
    outcome::{Decision, ReplyMode},
    request::{Refusal, Report, Request},
    step::{Answer, Input, QueryAnswer, Recorded, Timer},
    transaction::{Branch, Next, Resolution, Transaction},
};

use crate::{
    participant::Reply,
    record::{branch_id, other_spec, spec},
    rules::{Heard, Rule, Says, because},
    scenario::{Action, Scenario},
    world::World,
};

pub(crate) fn perform(scenario: &Scenario, world: &mut World, action: Action) {
    match action {
        Action::Open => world.opens(scenario.open()),
        Action::Forbid => world.opens(Transaction::forbid(because("CLIENT_ROLLBACK"))),
        Action::AddBranch(branch) => adds(world, Request::AddBranch(spec(branch))),
        Action::AddOther(branch) => adds(world, Request::AddBranch(other_spec(branch))),
        Action::Commit(set) => commit(scenario, world, set),
        Action::Rollback => rollback(world),
        Action::Due(timer) => due(world, timer),
        Action::NotSent(branch) => not_sent(world, branch),
        Action::Lost(branch, query) => brings_nothing(world, branch, query, false),
        Action::TooLarge(branch, query) => brings_nothing(world, branch, query, true),
        Action::Hears(branch, operation, reply) => hears(world, branch, operation, reply),
        Action::Learns(branch, operation, state) => {
            let recorded = Recorded {
                state,
                try_result: None,
                confirm_result: None,
                failure: None,
                retry_after_ms: None,
            };
            let answer = QueryAnswer::Recorded(Box::new(recorded));
            is_told(world, branch, operation, Says::State(state), answer);
        }
        Action::Unclear(branch) => {
            if let Some(operation) = owed(world, branch) {
                is_told(
                    world,
                    branch,
                    operation,
                    Says::Unclear,
                    QueryAnswer::Unclear,
                );
            }
        }
        Action::Arrives(branch, arrival) => {
            let done = world.participants[branch].receives(arrival);
            world.takes(done);
        }
        Action::JobEnds(branch, operation, agrees, last) => {
            let done = world.participants[branch].job_ends(operation, agrees, last);
            world.takes(done);
        }
        Action::Reports(branch) => reports(world, branch),
        Action::Flushes => world.flushes(),
        Action::Syncs => world.syncs(),
        Action::Crashes => world.crashes(),
        Action::SyncsAndCrashes => {
            world.flushes();
            world.crashes();
        }
        Action::TakesOver => world.is_taken_over(scenario.copied.then(|| scenario.open())),
        Action::ParticipantCrashes(branch) => world.participants[branch].crashes(),
        Action::Collects(branch) => world.participants[branch].collects(),
        Action::Restores(branch) => world.participants[branch].loses_its_reservation(),
        Action::CancelsByTime(branch) => {
            let done = world.participants[branch].cancels_by_time();
            world.takes(done);
        }
        Action::Pause => may_be_refused(world.asked(Request::Pause)),
        Action::Resume => may_be_refused(world.asked(Request::Resume)),
        Action::Resolve(branch, resolution, asked) => {
            let says = asked.then(|| world.participants[branch].says());
            resolve(world, branch, resolution, says);
        }
        Action::ResolveTooEarly(branch) => {
            resolve_too_early(world, branch);
        }
    }
}

fn adds(world: &mut World, request: Request) {
    match world.asked(request) {
        Ok(()) => {}
        Err(Refusal::BranchIdReused(_)) => {
            world.uses(Rule::Refuses("a branch id with other content"));
        }
        Err(_) => world.uses(Rule::Refuses(
            "a branch after the decision or the commit request",
        )),
    }
}

/// A commit is accepted if and only if it names exactly what is recorded, or comes too late.
fn commit(scenario: &Scenario, world: &mut World, set: u8) {
    let Some(tx) = world.transaction() else {
        return;
    };
    let undone = tx.decision() == Some(Decision::Cancel);
    let exact = set == (1 << tx.branches.len()) - 1;
    let branches = (0..scenario.branches)
        .filter(|branch| set & (1 << branch) != 0)
        .map(branch_id)
        .collect();
    let accepted = world.asked(Request::Commit { branches }).is_ok();
    if accepted && !undone {
        world.meant = Some(set);
    } else if !accepted {
        world.uses(Rule::Refuses("a commit of other branches"));
    }
    world.ensure(accepted || !(exact || undone), "COMMIT");
}

/// Accepted unless commit is decided, and then the decision is cancel.
fn rollback(world: &mut World) {
    let committed = decision(world) == Some(Decision::Commit);
    let cause = because("CLIENT_ROLLBACK");
    let accepted = world.asked(Request::Rollback { cause }).is_ok();
    if !accepted {
        world.uses(Rule::Refuses("a rollback after the commit decision"));
    }
    let canceled = decision(world) == Some(Decision::Cancel);
    world.ensure(accepted != committed && canceled != committed, "ROLLBACK");
}

/// The deadline decides what is undecided; TWO_STATE's timers do only there.
fn due(world: &mut World, timer: Timer) {
    let Some(tx) = world.transaction() else {
        return;
    };
    let undecided = tx.decision().is_none();
    let two_state = tx.mode == ReplyMode::TwoState;
    let decides = match timer {
        Timer::Attempt(_) => false,
        Timer::Expire => undecided,
        Timer::FirstWait => undecided && two_state,
        Timer::TryTimeout(branch) => {
            undecided && two_state && owed(world, branch) == Some(Operation::Try)
        }
    };
    world.happens(Input::Due(timer));
    let decided = undecided && decision(world).is_some();
    let invariant = if timer == Timer::Expire {
        "DEADLINE"
    } else {
        "TWO_STATE"
    };
    world.ensure(decided == decides, invariant);
}

/// Only a first Try that was certainly not sent decides.
fn not_sent(world: &mut World, branch: usize) {
    let Some(operation) = owed(world, branch) else {
        return;
    };
    let first = |it: &Branch| operation == Operation::Try && it.attempts.tries == 1;
    let decides = current(world, branch).is_some_and(first);
    let before = decision(world);
    let answer = Answer::NotSent(because("NOT_SENT"));
    answered(world, branch, operation, Heard::NotSent, answer);
    world.ensure((decision(world) != before) == decides, "INDETERMINATE");
}

/// A call is given up on, its reply was lost or could not be read: nothing is known.
fn brings_nothing(world: &mut World, branch: usize, query: bool, too_large: bool) {
    let Some(operation) = owed(world, branch) else {
        return;
    };
    let before = decision(world);
    let failure = because("REFUSED_BY_REPLY"); // as a broken coordinator would have it
    match (query, too_large) {
        (true, true) => {
            let answer = QueryAnswer::TooLarge(failure);
            is_told(world, branch, operation, Says::TooLarge, answer);
        }
        (true, false) => {
            let answer = QueryAnswer::Indeterminate(failure);
            is_told(world, branch, operation, Says::NoAnswer, answer);
        }
        (false, true) => {
            let answer = Answer::TooLarge(failure);
            answered(world, branch, operation, Heard::TooLarge, answer);
        }
        (false, false) => {
            let answer = Answer::Indeterminate(failure);
            answered(world, branch, operation, Heard::Nothing, answer);
        }
    }
    world.ensure(decision(world) == before, "INDETERMINATE");
}

/// A reply reaches the coordinator.
fn hears(world: &mut World, branch: usize, operation: Operation, reply: Reply) {
    let (heard, answer) = match reply {
        Reply::Success => (Heard::Success, Answer::Success(None)),
        Reply::Failed => (Heard::Failed, Answer::Failed(because("REFUSED_BY_REPLY"))),
        Reply::Processing => {
            let retry_after_ms = None;
            (Heard::Processing, Answer::Processing { retry_after_ms })
        }
    };
    answered(world, branch, operation, heard, answer);
}

fn answered(world: &mut World, branch: usize, operation: Operation, heard: Heard, answer: Answer) {
    uses_unless_stale(world, branch, operation, Rule::Answered(operation, heard));
    world.happens(Input::Answered {
        branch,
        operation,
        answer,
    });
}

/// An answer to a Query reaches the coordinator.
fn is_told(
    world: &mut World,
    branch: usize,
    operation: Operation,
    says: Says,
    answer: QueryAnswer,
) {
    uses_unless_stale(world, branch, operation, Rule::Query(operation, says));
    world.happens(Input::Queried {
        branch,
        operation,
        answer,
    });
}

/// What comes of an answer, unless the branch has moved on from what was asked.
fn uses_unless_stale(world: &mut World, branch: usize, operation: Operation, rule: Rule) {
    let is_current = current(world, branch).is_some() && owed(world, branch) == Some(operation);
    world.uses(if is_current {
        rule
    } else {
        Rule::Stale(operation)
    });
}

/// A participant pushes what it has recorded.
fn reports(world: &mut World, branch: usize) {
    let failed = || Report::Failed(because("REFUSED_BY_REPORT"));
    let (operation, report) = match world.participants[branch].state() {
        Some(fence::State::Tried) => (Operation::Try, Report::Success(None)),
        Some(fence::State::TryFailed) => (Operation::Try, failed()),
        Some(fence::State::Confirmed) => (Operation::Confirm, Report::Success(None)),
        Some(fence::State::Canceled) => (Operation::Cancel, Report::Success(None)),
        Some(fence::State::Trying | fence::State::Confirming | fence::State::Canceling) | None => {
            return;
        }
    };
    may_be_refused(world.asked(Request::Report {
        branch: branch_id(branch),
        operation,
        report,
    }));
}

/// Refused or not: whether that was right, the invariants say.
fn may_be_refused(_: Result<(), Refusal>) {}

/// A branch is closed only if its participant does not work on it, as far as it was asked.
fn resolve(world: &mut World, branch: usize, resolution: Resolution, says: Option<RecordState>) {
    let decided = is_decided_and_open(world, branch);
    let accepted = world.asked(Request::Resolve {
        branch: branch_id(branch),
        resolution,
        overdue: true,
        recorded: says,
    });
    let accepted = accepted.is_ok();
    let working = matches!(
        says,
        Some(RecordState::Trying | RecordState::Confirming | RecordState::Canceling)
    );
    if decided && !accepted && working {
        world.uses(Rule::Refuses("a resolution while the participant works"));
    } else if decided && !accepted && resolution == Resolution::Done {
        world.uses(Rule::Refuses(
            "a resolution that the participant does not confirm",
        ));
    }
    world.ensure(!(accepted && working), "OPERATOR");
}

fn resolve_too_early(world: &mut World, branch: usize) {
    if is_decided_and_open(world, branch) {
        world.uses(Rule::Refuses("a resolution before its time"));
    }
    let accepted = world.asked(Request::Resolve {
        branch: branch_id(branch),
        resolution: Resolution::Abandoned,
        overdue: false,
        recorded: None,
    });
    world.ensure(accepted.is_err(), "OPERATOR");
}

fn is_decided_and_open(world: &World, branch: usize) -> bool {
    let owed = owed(world, branch);
    matches!(owed, Some(Operation::Confirm | Operation::Cancel))
}

/// The branch, if it takes answers to what it owes.
fn current(world: &World, branch: usize) -> Option<&Branch> {
    let it = world.transaction()?.branches.get(branch)?;
    (it.state.owes().is_some() && it.next != Next::Stopped).then_some(it)
}

fn owed(world: &World, branch: usize) -> Option<Operation> {
    world.transaction()?.branches.get(branch)?.state.owes()
}

fn decision(world: &World) -> Option<Decision> {
    world.transaction().and_then(Transaction::decision)
}
