//! The world of the model: one transaction, its coordinator, its store, a network and its
//! participants. Everything that may happen may happen at any time, and any number of times.
//!
//! - The network loses, repeats and delays without bound: a call that was sent stays, and may
//!   arrive again or never. A reply that was ever possible may be heard at any time, and an answer
//!   to a Query may be as old as the decision before it (older ones arrive too, to be ignored).
//! - The coordinator crashes as often as it likes: its memory becomes what the store holds, and
//!   nobody answers the Queries of the old process any more. With a slow store it crashes between
//!   a write and its sync, and between the sync and what follows from it, too.
//! - Another coordinator may take over, once: calls of the old one are still on their way.
//! - A participant with work outside its database crashes as often as it likes, and loses its jobs.
//! - Timers fire whenever they like, expiry too.
//!
//! Left out of the state, because nothing else depends on them: how far the retry intervals have
//! come, how often something was tried beyond the second Try, results, reasons, and the texts of
//! attentions. So the space is finite without a bound on anything that happens.

use tercet_core::{
    check,
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    request::{Refusal, Request},
    step::{Call, Input, Step},
    transaction::{AttentionReason, BranchState, State, Transaction},
};

use crate::{
    coordinator::{self, Event, Follows},
    fault::{self, Fault},
    participant::{Done, Kind, Participant},
    record::Record,
    rules::Rule,
};

/// As many participants as any scenario has.
pub(crate) const BRANCHES_MAX: usize = 3;

/// Everything that distinguishes one moment from another.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct World {
    pub(crate) setup: Setup,
    /// What is durable.
    pub(crate) store: Option<Record>,
    /// What the process goes by.
    pub(crate) memory: Option<Record>,
    /// A slow store has been given `memory`; these calls wait for its receipt.
    pub(crate) syncing: Option<Vec<Call>>,
    /// What somebody was told last.
    pub(crate) shown: Option<(State, Outcome)>,
    /// Interactive: the branches that the commit named, one bit each.
    pub(crate) meant: Option<u8>,
    /// Which coordinator is at work.
    pub(crate) epoch: u8,
    /// Timers fire. Only a broken coordinator forgets them.
    pub(crate) driven: bool,
    /// Per branch.
    pub(crate) wires: [Wire; BRANCHES_MAX],
    /// Per branch.
    pub(crate) participants: [Participant; BRANCHES_MAX],
    /// The first invariant that did not hold.
    pub(crate) broken: Option<&'static str>,
    /// What the last step used.
    pub(crate) used: Used,
}

/// What never changes within one scenario.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Setup {
    pub(crate) slow_store: bool,
    /// No participant's record is ever lost, collected or a lie.
    pub(crate) faithful: bool,
    pub(crate) fault: Option<Fault>,
}

/// What was sent to one participant; what was sent stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Wire {
    /// One bit an operation, for each of two epochs.
    calls: [u8; 2],
    /// This process has sent a Query since the branch came to owe what it owes.
    pub(crate) asked: bool,
}

impl Wire {
    pub(crate) fn carries(self, operation: Operation) -> bool {
        [1, 2]
            .into_iter()
            .any(|epoch| self.carries_of(epoch, operation))
    }

    pub(crate) fn carries_of(self, epoch: u8, operation: Operation) -> bool {
        self.calls[usize::from(epoch - 1)] & bit(operation) != 0
    }
}

/// Rules; they make no difference between two worlds.
#[derive(Clone, Debug, Default, Eq)]
pub(crate) struct Used(pub(crate) Vec<Rule>);

impl PartialEq for Used {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl std::hash::Hash for Used {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

pub(crate) fn bit(operation: Operation) -> u8 {
    1 << operation as u8
}

impl World {
    /// Nothing has happened.
    pub(crate) fn new(setup: Setup, kinds: [Kind; BRANCHES_MAX]) -> Self {
        Self {
            setup,
            store: None,
            memory: None,
            syncing: None,
            shown: None,
            meant: None,
            epoch: 1,
            driven: true,
            wires: [Wire::default(); BRANCHES_MAX],
            participants: kinds.map(Participant::new),
            broken: None,
            used: Used::default(),
        }
    }

    pub(crate) fn transaction(&self) -> Option<&Transaction> {
        self.memory.as_ref().map(Record::transaction)
    }

    pub(crate) fn durable(&self) -> Option<&Transaction> {
        self.store.as_ref().map(Record::transaction)
    }

    /// A record comes into being.
    pub(crate) fn opens(&mut self, step: Step) {
        let first = Follows::first(step);
        let forbids = first.next.transaction().state == State::Canceled;
        if forbids && self.has(Fault::ForbidsWithoutARecord) {
            self.shown = Some((State::Canceled, Outcome::Failed));
        } else {
            self.perform(&first);
        }
    }

    pub(crate) fn happens(&mut self, input: Input) {
        let _ = self.takes_in(Event::Input(input)); // never refused
    }

    pub(crate) fn asked(&mut self, request: Request) -> Result<(), Refusal> {
        self.takes_in(Event::Request(request))
    }

    fn takes_in(&mut self, event: Event) -> Result<(), Refusal> {
        let Some(memory) = &self.memory else {
            return Ok(());
        };
        match &*coordinator::follows(self.setup.fault, memory, event) {
            Ok(follows) => self.perform(follows),
            Err(refusal) => return Err(refusal.clone()),
        }
        Ok(())
    }

    /// What the engine does with a step: commit when it must be durable, then its effects. A crash
    /// between the two is a network that loses them.
    fn perform(&mut self, it: &Follows) {
        it.decides.into_iter().for_each(|rule| self.uses(rule));
        it.broken.into_iter().for_each(|it| self.ensure(false, it));
        self.forget_queries(it.next.transaction());
        self.memory = Some(it.next.clone());
        let acknowledges_early = self.has(Fault::AcknowledgesBeforeItIsDurable);
        if it.required && self.setup.slow_store {
            self.syncing = Some(it.calls.clone());
            if acknowledges_early {
                self.send(&it.calls);
            }
        } else {
            if it.required {
                self.commit(it.next.clone());
            }
            self.send(&it.calls);
        }
    }

    /// The slow store is done.
    pub(crate) fn syncs(&mut self) {
        if let (Some(calls), Some(memory)) = (self.syncing.take(), self.memory.clone()) {
            self.commit(memory);
            self.send(&calls);
        }
    }

    /// Queries of an operation that is owed no more don't count.
    fn forget_queries(&mut self, next: &Transaction) {
        for (at, branch) in next.branches.iter().enumerate() {
            let before = self.transaction().and_then(|tx| tx.branches.get(at));
            let owed = before.and_then(|it| it.state.owes());
            if owed != branch.state.owes() {
                self.wires[at].asked = false;
                self.participants[at].forgets_queries();
            }
        }
    }

    fn commit(&mut self, next: Record) {
        if let Some(before) = self.store.take() {
            let verdict = check::legal(before.transaction(), next.transaction());
            if let Err(violation) = verdict {
                self.ensure(false, violation.invariant);
            }
        }
        self.store = Some(next.as_loaded());
    }

    /// What the process knows reaches the store, with some other commit.
    pub(crate) fn flushes(&mut self) {
        if let Some(memory) = self.memory.clone() {
            self.commit(memory);
        }
    }

    /// Memory is lost, connections break, and a new process loads the record.
    pub(crate) fn crashes(&mut self) {
        self.memory = self.store.clone();
        self.syncing = None;
        self.driven = !self.has(Fault::LosesWhatIsDue);
        for wire in &mut self.wires {
            wire.asked = false;
        }
        self.happens(Input::Recovered);
        let open = |tx: &Transaction| tx.mode == ReplyMode::TwoState && tx.decision().is_none();
        let open = self.transaction().is_some_and(open);
        self.ensure(!open, "TWO_STATE");
    }

    /// Another coordinator begins with what the store holds, or with a copy from before the first
    /// answer; what the old one sent is on its way.
    pub(crate) fn is_taken_over(&mut self, copy: Option<Step>) {
        self.epoch = 2;
        if let Some(copy) = copy {
            self.store = Some(Follows::first(copy).next.as_loaded());
            self.shown = None; // what the old one told can't be kept
        }
        self.crashes();
    }

    /// S7: no call leaves before the record that justifies it is durable.
    fn send(&mut self, calls: &[Call]) {
        for call in calls {
            let justified = self.durable().is_some_and(|durable| {
                let owed = match durable.decision() {
                    None => Operation::Try,
                    Some(Decision::Commit) => Operation::Confirm,
                    Some(Decision::Cancel) => Operation::Cancel,
                };
                durable.branches.len() > call.branch && owed == call.operation && !durable.paused
            });
            self.ensure(justified, "S7");
            let wire = &mut self.wires[call.branch];
            if call.query {
                wire.asked = true;
            } else {
                wire.calls[usize::from(self.epoch - 1)] |= bit(call.operation);
            }
        }
    }

    /// Somebody reads, and what was said before still has to be true.
    pub(crate) fn is_read(&mut self) {
        let unsynced = self.has(Fault::ShowsWhatIsNotSynced) && self.store.is_some();
        let seen = if unsynced { &self.memory } else { &self.store };
        let fault = self.setup.fault;
        let seen = seen.as_ref().map(Record::transaction);
        let seen = seen.map(|it| (it.state, fault::outcome(fault, it)));
        let holds = match (self.shown, seen) {
            (None, _) => Ok(()),
            (Some(_), None) => Err("S1"),
            (Some((before, told)), Some((now, tells))) => {
                let outcome = told == Outcome::Processing || told == tells;
                let decision = before.decision().is_none() || before.decision() == now.decision();
                let end = !before.is_terminal() || before == now;
                (outcome && decision && end).then_some(()).ok_or("S8")
            }
        };
        if let Err(invariant) = holds {
            self.ensure(false, invariant);
        }
        self.shown = seen;
    }

    /// What a participant has done.
    pub(crate) fn takes(&mut self, done: Done) {
        done.rules.into_iter().for_each(|rule| self.uses(rule));
        if let Some(invariant) = done.broken {
            self.ensure(false, invariant);
        }
        let expected = match done.alarm {
            None | Some(tercet_core::fence::Alarm::EpochStale { .. }) => true,
            Some(_) => !self.setup.faithful,
        };
        self.ensure(expected, "FENCE");
    }

    pub(crate) fn uses(&mut self, rule: Rule) {
        self.used.0.push(rule);
    }

    pub(crate) fn ensure(&mut self, holds: bool, invariant: &'static str) {
        if !holds {
            self.broken.get_or_insert(invariant);
        }
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.setup.fault == Some(fault)
    }

    pub(crate) fn attends(&self, reason: AttentionReason) -> bool {
        self.transaction()
            .is_some_and(|tx| tx.attentions.iter().any(|it| it.reason == reason))
    }

    pub(crate) fn any_branch(&self, state: BranchState) -> bool {
        self.transaction()
            .is_some_and(|tx| tx.branches.iter().any(|it| it.state == state))
    }
}
