//! One configuration of the world, and what may happen in it at any moment.

use std::sync::Arc;

use stateright::{Model, Property};
use tercet_core::{
    operation::{Operation, RecordState},
    outcome::{Decision, ReplyMode},
    step::Timer,
    transaction::{Resolution, Transaction},
};

use crate::{
    fault::Fault,
    participant::{Arrival, Kind, Participant, Reply},
    perform, properties,
    record_states::RECORD_STATES,
    rules::Rule,
    world::{BRANCHES_MAX, Setup, World},
};

pub(crate) const OPERATIONS: [Operation; 3] =
    [Operation::Try, Operation::Confirm, Operation::Cancel];

/// One configuration of the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) mode: ReplyMode,
    /// Branches one by one, and a commit; else all submitted at once.
    pub(crate) interactive: bool,
    pub(crate) branches: usize,
    /// Which participants work outside their database.
    pub(crate) remote: [bool; BRANCHES_MAX],
    /// An operator pauses, resumes and resolves.
    pub(crate) operator: bool,
    /// A crash may come between a write and its sync.
    pub(crate) slow_store: bool,
    /// Another coordinator takes over, once.
    pub(crate) takeover: bool,
    /// It begins with a copy of the store from before the first answer.
    pub(crate) copied: bool,
    /// Rows that have ended are collected, and clocks set back.
    pub(crate) collects: bool,
    /// The first participant's database may be restored from before its Try.
    pub(crate) restores: bool,
    /// The last participant's Query says anything.
    pub(crate) lies: bool,
    pub(crate) fault: Option<Fault>,
}

/// Something that may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Action {
    Open,
    Forbid,
    AddBranch(usize),
    /// A recorded id, another content.
    AddOther(usize),
    /// Names the branches of this set, one bit each.
    Commit(u8),
    Rollback,
    Due(Timer),
    NotSent(usize),
    /// A call (or, true, a Query) brought nothing.
    Lost(usize, bool),
    TooLarge(usize, bool),
    Hears(usize, Operation, Reply),
    Learns(usize, Operation, RecordState),
    /// A Query is not implemented, or its state unspecified.
    Unclear(usize),
    Arrives(usize, Arrival),
    /// As its business would have it; the last one of its kind, or another runs elsewhere.
    JobEnds(usize, Operation, bool, bool),
    Reports(usize),
    Flushes,
    Syncs,
    Crashes,
    /// It is durable, and nothing that follows from it has left.
    SyncsAndCrashes,
    TakesOver,
    ParticipantCrashes(usize),
    Collects(usize),
    Restores(usize),
    CancelsByTime(usize),
    Pause,
    Resume,
    /// With what the participant says just then, or without an answer.
    Resolve(usize, Resolution, bool),
    ResolveTooEarly(usize),
}

impl Model for Scenario {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        let setup = Setup {
            slow_store: self.slow_store,
            faithful: self.is_faithful(),
            fault: self.fault,
        };
        let kind = |at| Kind {
            remote: self.remote[at],
            lies: self.is_liar(at),
            fault: self.fault,
        };
        vec![World::new(setup, std::array::from_fn(kind))]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.syncing.is_some() {
            actions.extend([Action::Syncs, Action::Crashes, Action::SyncsAndCrashes]);
        } else {
            self.client_actions(world, actions);
            if let Some(tx) = world.transaction() {
                self.coordinator_actions(world, tx, actions);
            }
            if self.operator {
                self.operator_actions(world, actions);
            }
        }
        for branch in 0..self.branches {
            self.participant_actions(world, branch, actions);
        }
    }

    fn next_state(&self, last: &World, action: Action) -> Option<World> {
        let (next, _) = self.step(last, action);
        next
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

impl Scenario {
    /// The world afterwards, if it is another one, and the rules that were used.
    pub(crate) fn step(&self, last: &World, action: Action) -> (Option<World>, Vec<Rule>) {
        if last.broken.is_some() {
            return (None, Vec::new());
        }
        let mut world = last.clone();
        perform::perform(self, &mut world, action);
        world.is_read();
        let used = std::mem::take(&mut world.used.0);
        ((world != *last).then_some(world), used)
    }

    /// Participants record what happens, say what they have recorded, and keep it.
    pub(crate) fn is_faithful(&self) -> bool {
        !(self.copied || self.collects || self.restores || self.lies)
    }

    pub(crate) fn is_liar(&self, branch: usize) -> bool {
        self.lies && branch + 1 == self.branches
    }

    pub(crate) fn open(&self) -> tercet_core::step::Step {
        if self.interactive {
            Transaction::begin(self.mode, Arc::default())
        } else {
            let specs = (0..self.branches).map(crate::record::spec).collect();
            Transaction::submit(self.mode, Arc::default(), specs)
        }
    }

    fn client_actions(&self, world: &World, actions: &mut Vec<Action>) {
        let Some(tx) = world.transaction() else {
            actions.extend([Action::Open, Action::Forbid]);
            return;
        };
        actions.push(Action::Rollback);
        if self.interactive {
            if tx.branches.len() < self.branches {
                actions.push(Action::AddBranch(tx.branches.len()));
            }
            if !tx.branches.is_empty() {
                actions.extend([Action::AddBranch(0), Action::AddOther(0)]);
            }
            actions.extend((0..1 << self.branches).map(Action::Commit));
        }
    }

    fn coordinator_actions(&self, world: &World, tx: &Transaction, actions: &mut Vec<Action>) {
        actions.extend([Action::Crashes, Action::Flushes]);
        if self.takeover && world.epoch == 1 {
            actions.push(Action::TakesOver);
        }
        if world.driven {
            actions.push(Action::Due(Timer::Expire));
            actions.push(Action::Due(Timer::FirstWait));
        }
        for (branch, it) in tx.branches.iter().enumerate() {
            if world.driven {
                actions.push(Action::Due(Timer::TryTimeout(branch)));
                actions.push(Action::Due(Timer::Attempt(branch)));
            }
            ends_without_an_answer(world, branch, it.state.owes(), actions);
            for operation in OPERATIONS {
                heard(world, branch, operation, actions);
                let participant = &world.participants[branch];
                let says = |state: &RecordState| {
                    if it.state.owes() == Some(operation) {
                        world.wires[branch].asked && participant.may_have_said(*state)
                    } else {
                        was_owed(tx, operation) && participant.can_say(*state)
                    }
                };
                let says = RECORD_STATES.into_iter().filter(says);
                actions.extend(says.map(|state| Action::Learns(branch, operation, state)));
            }
        }
    }

    fn participant_actions(&self, world: &World, branch: usize, actions: &mut Vec<Action>) {
        let wire = world.wires[branch];
        let participant = &world.participants[branch];
        for operation in OPERATIONS {
            for epoch in 1..=world.epoch {
                if wire.carries_of(epoch, operation) {
                    arrivals(participant, operation, epoch, |arrival| {
                        actions.push(Action::Arrives(branch, arrival));
                    });
                }
            }
            if participant.works_on(operation) {
                for (agrees, last) in [(true, true), (true, false), (false, true), (false, false)] {
                    actions.push(Action::JobEnds(branch, operation, agrees, last));
                }
            }
        }
        if participant.kind.remote {
            actions.push(Action::ParticipantCrashes(branch));
            actions.push(Action::Reports(branch));
        }
        if self.collects {
            actions.push(Action::Collects(branch));
        }
        if self.restores && branch == 0 {
            actions.push(Action::Restores(branch));
        }
        if self.fault == Some(Fault::CancelsByTime) {
            actions.push(Action::CancelsByTime(branch));
        }
    }

    fn operator_actions(&self, world: &World, actions: &mut Vec<Action>) {
        if world.transaction().is_none_or(|tx| tx.state.is_terminal()) {
            return;
        }
        actions.extend([Action::Pause, Action::Resume]);
        for branch in 0..self.branches {
            actions.push(Action::ResolveTooEarly(branch));
            for resolution in [Resolution::Done, Resolution::Abandoned] {
                actions.push(Action::Resolve(branch, resolution, true));
                actions.push(Action::Resolve(branch, resolution, false));
            }
        }
    }
}

/// A Query about this operation may have been sent at some time.
fn was_owed(tx: &Transaction, operation: Operation) -> bool {
    match operation {
        Operation::Try => true,
        Operation::Confirm => tx.decision() == Some(Decision::Commit),
        Operation::Cancel => tx.decision() == Some(Decision::Cancel),
    }
}

/// What was sent brings nothing that says anything.
fn ends_without_an_answer(
    world: &World,
    branch: usize,
    owed: Option<Operation>,
    actions: &mut Vec<Action>,
) {
    let wire = world.wires[branch];
    if owed.is_some_and(|it| wire.carries_of(world.epoch, it)) {
        actions.extend([
            Action::Lost(branch, false),
            Action::TooLarge(branch, false),
            Action::NotSent(branch),
        ]);
    }
    if owed.is_some() && wire.asked {
        actions.extend([
            Action::Lost(branch, true),
            Action::TooLarge(branch, true),
            Action::Unclear(branch),
        ]);
    }
}

fn heard(world: &World, branch: usize, operation: Operation, actions: &mut Vec<Action>) {
    for reply in [Reply::Success, Reply::Failed, Reply::Processing] {
        let sent = world.wires[branch].carries_of(world.epoch, operation);
        if sent && world.participants[branch].may_have_replied(operation, reply) {
            actions.push(Action::Hears(branch, operation, reply));
        }
    }
}

/// Every way in which a call can reach its participant just now.
fn arrivals(
    participant: &Participant,
    operation: Operation,
    epoch: u8,
    mut each: impl FnMut(Arrival),
) {
    let arrival = Arrival {
        operation,
        epoch,
        agrees: true,
        late: false,
        never_started: false,
    };
    each(arrival);
    if participant.kind.remote {
        // No effect of a job is seen before its end: one that does not run has never started.
        if operation == Operation::Cancel && !participant.works_on(Operation::Try) {
            each(Arrival {
                never_started: true,
                ..arrival
            });
        }
    } else {
        each(Arrival {
            agrees: false,
            ..arrival
        });
    }
    if operation == Operation::Try && participant.row.is_none() {
        each(Arrival {
            late: true,
            ..arrival
        });
    }
}
