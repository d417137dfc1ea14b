//! What may happen in a scenario.

use std::sync::Arc;

use stateright::{Model, Property};
use tercet_core::{
    fence,
    operation::{Operation, RecordState},
    outcome::{Decision, ReplyMode},
    payload::Failure,
    request::{Report, Request},
    step::{Answer, Input, Timer},
    transaction::{BranchState, Resolution, Transaction},
};

use crate::{
    participant::Reply,
    properties,
    world::{
        BRANCHES, OPERATIONS, RECORD_STATES, TWO_STATE_TIMERS, World, branch_id, is_open, resolve,
        spec,
    },
};

/// One configuration of the world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) mode: ReplyMode,
    /// Branches one by one, and a commit; else all submitted at once.
    pub(crate) interactive: bool,
    /// Which participants work outside their database.
    pub(crate) remote: [bool; BRANCHES],
    /// An operator pauses, resumes and resolves.
    pub(crate) operator: bool,
}

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Open,
    Forbid,
    AddBranch(usize),
    /// Names the branches of this set: bit 0 and bit 1.
    Commit(u8),
    Rollback,
    Due(Timer),
    NotSent(usize),
    Lost(usize, bool),
    Hears(usize, Operation, Reply),
    Learns(usize, Operation, RecordState),
    /// A Query is not implemented, or its state unspecified.
    Unclear(usize),
    Arrives(usize, Operation, bool),
    JobEnds(usize, Operation, bool),
    Reports(usize),
    ClockPasses(usize),
    Flushes,
    Crashes,
    ParticipantCrashes(usize),
    Pause,
    Resume,
    /// With what the participant says just then, or without an answer.
    Resolve(usize, Resolution, bool),
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self.remote)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        self.client_actions(world, actions);
        if let Some(tx) = world.transaction() {
            self.coordinator_actions(world, tx, actions);
        }
        for branch in 0..BRANCHES {
            participant_actions(world, branch, actions);
        }
        if self.operator {
            operator_actions(world, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        if last.broken.is_some() {
            return None;
        }
        let mut world = last.clone();
        self.perform(&mut world, action);
        (world != *last).then_some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl Scenario {
    fn client_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let Some(tx) = world.transaction() else {
            actions.extend([Action::Open, Action::Forbid]);
            return;
        };
        actions.push(Action::Rollback);
        if self.interactive {
            if tx.branches.len() < BRANCHES {
                actions.push(Action::AddBranch(tx.branches.len()));
            }
            actions.extend((0..4).map(Action::Commit));
        }
    }

    fn coordinator_actions(&self, world: &World, tx: &Transaction, actions: &mut Vec<Action>) {
        actions.extend([Action::Crashes, Action::Flushes]);
        actions.push(Action::Due(Timer::Expire));
        if self.mode == ReplyMode::TwoState {
            actions.extend(TWO_STATE_TIMERS.map(Action::Due));
        }
        for (branch, it) in tx.branches.iter().enumerate() {
            if it.state.owes().is_some() {
                actions.push(Action::Due(Timer::Attempt(branch)));
                actions.push(Action::Lost(branch, false));
                actions.push(Action::Lost(branch, true));
                actions.push(Action::Unclear(branch));
            }
            if it.state == BranchState::Trying {
                actions.push(Action::NotSent(branch));
            }
            for operation in OPERATIONS {
                heard(world, branch, operation, actions);
                let stale = it.state.owes() != Some(operation);
                let asked = world.wires[branch].asked;
                for state in RECORD_STATES {
                    if stale || asked && world.participants[branch].has_said(state) {
                        actions.push(Action::Learns(branch, operation, state));
                    }
                }
            }
        }
    }

    fn perform(&self, world: &mut World, action: Action) {
        match action {
            Action::Open => world.opens(self.open()),
            Action::Forbid => world.opens(Transaction::forbid(Failure::default())),
            Action::AddBranch(branch) => {
                world.asked(Request::AddBranch(spec(branch)));
            }
            Action::Commit(set) => commit(world, set),
            Action::Rollback => {
                let cause = Failure::default();
                world.asked(Request::Rollback { cause });
            }
            Action::Due(timer) => world.happens(Input::Due(timer)),
            Action::NotSent(branch) => world.happens(Input::Answered {
                branch,
                operation: Operation::Try,
                answer: Answer::NotSent(Failure::default()),
            }),
            Action::Lost(branch, query) => world.loses(branch, query),
            Action::Hears(branch, operation, reply) => world.hears(branch, operation, reply),
            Action::Learns(branch, operation, state) => world.learns(branch, operation, state),
            Action::Unclear(branch) => world.learns_nothing(branch),
            Action::Arrives(branch, operation, agrees) => {
                world.participants[branch].receives(operation, agrees);
            }
            Action::JobEnds(branch, operation, agrees) => {
                world.participants[branch].job_ends(operation, agrees);
            }
            Action::Reports(branch) => report(world, branch),
            Action::ClockPasses(branch) => world.participants[branch].late = true,
            Action::Flushes => world.flushes(),
            Action::Crashes => world.crashes(),
            Action::ParticipantCrashes(branch) => world.participants[branch].crashes(),
            Action::Pause => {
                world.asked(Request::Pause);
            }
            Action::Resume => {
                world.asked(Request::Resume);
            }
            Action::Resolve(branch, resolution, asked) => {
                let says = asked.then(|| world.participants[branch].says());
                world.asked(resolve(branch, resolution, says));
            }
        }
    }

    /// Each of these must change something somewhere.
    pub(crate) fn expected_actions(&self) -> Vec<Action> {
        use Operation::{Cancel, Confirm, Try};
        use RecordState as R;
        let mut all = vec![
            Action::Open,
            Action::Forbid,
            Action::Rollback,
            Action::Due(Timer::Expire),
            Action::Due(Timer::Attempt(0)),
            Action::NotSent(0),
            Action::Lost(0, false),
            Action::Unclear(0),
            Action::ClockPasses(0),
            Action::Flushes,
            Action::Crashes,
        ];
        all.extend(OPERATIONS.map(|operation| Action::Arrives(0, operation, true)));
        for reply in [Reply::Success, Reply::Failed] {
            all.extend(OPERATIONS.map(|operation| Action::Hears(0, operation, reply)));
        }
        let local = [
            (Try, R::Unknown),
            (Try, R::Tried),
            (Confirm, R::Tried),
            (Confirm, R::Confirmed),
            (Cancel, R::Unknown),
            (Cancel, R::Tried),
            (Cancel, R::Canceled),
        ];
        all.extend(local.map(|(operation, state)| Action::Learns(0, operation, state)));
        if self.mode == ReplyMode::TwoState {
            all.extend(TWO_STATE_TIMERS.map(Action::Due));
        }
        if self.interactive {
            all.extend([Action::AddBranch(1), Action::Commit(0b11)]);
        }
        if self.operator {
            all.extend([Action::Pause, Action::Resume]);
            for resolution in [Resolution::Done, Resolution::Abandoned] {
                all.push(Action::Resolve(1, resolution, true));
            }
        }
        if self.remote[1] {
            all.extend(expected_of_remote(1));
        }
        all
    }

    fn open(&self) -> tercet_core::step::Step {
        if self.interactive {
            Transaction::begin(self.mode, Arc::default())
        } else {
            Transaction::submit(self.mode, Arc::default(), (0..BRANCHES).map(spec).collect())
        }
    }
}

fn expected_of_remote(branch: usize) -> Vec<Action> {
    use Operation::{Cancel, Confirm, Try};
    use RecordState as R;
    let mut all = vec![Action::ParticipantCrashes(branch), Action::Reports(branch)];
    for operation in OPERATIONS {
        all.push(Action::JobEnds(branch, operation, true));
        all.push(Action::JobEnds(branch, operation, false));
        all.push(Action::Hears(branch, operation, Reply::Processing));
    }
    let remote = [
        (Try, R::Trying),
        (Try, R::TryFailed),
        (Confirm, R::Confirming),
        (Cancel, R::Trying),
        (Cancel, R::TryFailed),
        (Cancel, R::Canceling),
    ];
    all.extend(remote.map(|(operation, state)| Action::Learns(branch, operation, state)));
    all
}

/// A commit is accepted if and only if it names exactly what is recorded, or comes too late.
fn commit(world: &mut World, set: u8) {
    let Some(tx) = world.transaction() else {
        return;
    };
    let recorded = (1 << tx.branches.len()) - 1;
    let expected = set == recorded || tx.decision() == Some(Decision::Cancel);
    let branches = (0..BRANCHES)
        .filter(|branch| set & (1 << branch) != 0)
        .map(branch_id)
        .collect();
    let accepted = world.asked(Request::Commit { branches });
    world.ensure(accepted == expected, "COMMIT");
}

fn heard(world: &World, branch: usize, operation: Operation, actions: &mut Vec<Action>) {
    for reply in [Reply::Success, Reply::Failed, Reply::Processing] {
        let participant = &world.participants[branch];
        let sent = world.wires[branch].carries(operation);
        if sent && participant.may_have_replied(operation, reply) {
            actions.push(Action::Hears(branch, operation, reply));
        }
    }
}

/// A participant pushes what it has recorded.
fn report(world: &mut World, branch: usize) {
    let (operation, report) = match world.participants[branch].state() {
        Some(fence::State::Tried) => (Operation::Try, Report::Success(None)),
        Some(fence::State::TryFailed) => (Operation::Try, Report::Failed(Failure::default())),
        Some(fence::State::Confirmed) => (Operation::Confirm, Report::Success(None)),
        Some(fence::State::Canceled) => (Operation::Cancel, Report::Success(None)),
        Some(fence::State::Trying | fence::State::Confirming | fence::State::Canceling) | None => {
            return;
        }
    };
    world.asked(Request::Report {
        branch: branch_id(branch),
        operation,
        report,
    });
}

fn participant_actions(world: &World, branch: usize, actions: &mut Vec<Action>) {
    let wire = world.wires[branch];
    let participant = &world.participants[branch];
    for operation in OPERATIONS {
        if wire.carries(operation) {
            actions.push(Action::Arrives(branch, operation, true));
            if !participant.remote {
                actions.push(Action::Arrives(branch, operation, false));
            }
        }
        if participant.jobs[operation as usize] {
            actions.push(Action::JobEnds(branch, operation, true));
            actions.push(Action::JobEnds(branch, operation, false));
        }
    }
    if participant.remote {
        actions.push(Action::ParticipantCrashes(branch));
        actions.push(Action::Reports(branch));
    }
    if participant.row.is_none() {
        actions.push(Action::ClockPasses(branch));
    }
}

fn operator_actions(world: &World, actions: &mut Vec<Action>) {
    let open = world.transaction().is_some_and(|tx| is_open(tx.state));
    if open {
        actions.extend([Action::Pause, Action::Resume]);
        for branch in 0..BRANCHES {
            for resolution in [Resolution::Done, Resolution::Abandoned] {
                actions.push(Action::Resolve(branch, resolution, true));
                actions.push(Action::Resolve(branch, resolution, false));
            }
        }
    }
}
