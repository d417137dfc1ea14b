//! A participant of the model: the real fence's rule over one row, and effects that are counted.

use tercet_core::{
    fence::{
        self, Action, Alarm, Call, EXPIRY_SKEW_MS, Finish, HORIZON_NONE_MS, Job, JobEnd, Refusal,
        Retention, Row, State, Work,
    },
    operation::{Operation, RecordState},
};

use crate::{fault::Fault, rules::Rule, world::bit};

const EXPIRE_TIME_MS: i64 = 0;
const IN_TIME_MS: i64 = EXPIRE_TIME_MS + EXPIRY_SKEW_MS;
const LATE_MS: i64 = IN_TIME_MS + 1;

/// One participant and its one branch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Participant {
    pub(crate) kind: Kind,
    pub(crate) row: Option<Row>,
    /// The newest deadline whose row was collected.
    horizon_ms: i64,
    /// Remote: the jobs that run, one bit an operation. A crash loses them.
    jobs: u8,
    /// Effects, by operation.
    pub(crate) effects: [u8; 3],
    /// Operations of which it may have answered SUCCESS, one bit each.
    succeeded: u8,
    /// What Query could have been told since the last decision, besides what it is told now: one
    /// bit a record state.
    said: u16,
}

/// What distinguishes one participant from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    /// Its effects are outside its database: calls start jobs and are answered PROCESSING.
    pub(crate) remote: bool,
    /// Its Query says anything at all.
    pub(crate) lies: bool,
    pub(crate) fault: Option<Fault>,
}

/// How a call reaches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Arrival {
    pub(crate) operation: Operation,
    pub(crate) epoch: u8,
    /// What the business says, if it is asked.
    pub(crate) agrees: bool,
    /// Its clock has passed the deadline and the skew. It may have gone back since.
    pub(crate) late: bool,
    /// It knows that the Try's job never started.
    pub(crate) never_started: bool,
}

/// What a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Success,
    Failed,
    Processing,
}

/// What a call or a job's end did that is to be judged.
#[derive(Debug, Default)]
pub(crate) struct Done {
    pub(crate) rules: Vec<Rule>,
    pub(crate) alarm: Option<Alarm>,
    pub(crate) broken: Option<&'static str>,
}

impl Participant {
    pub(crate) fn new(kind: Kind) -> Self {
        Self {
            kind,
            row: None,
            horizon_ms: HORIZON_NONE_MS,
            jobs: 0,
            effects: [0; 3],
            succeeded: 0,
            said: 0,
        }
    }

    /// A call arrives.
    pub(crate) fn receives(&mut self, arrival: Arrival) -> Done {
        let Arrival { operation, .. } = arrival;
        let call = self.call(arrival);
        let now_ms = if arrival.late { LATE_MS } else { IN_TIME_MS };
        let action = self.rule(&call, now_ms);
        let mut done = Done {
            rules: vec![self.name(&call, action, arrival.late)],
            ..Done::default()
        };
        if matches!(action, Action::Run(_)) && !arrival.agrees {
            return done; // rolled back, row and all
        }
        let before = self.clone();
        match action {
            Action::Run(_) => done.broken = self.takes_effect(operation),
            Action::Own(_) => self.jobs |= bit(operation),
            Action::Tombstone | Action::Stored(_) | Action::Refuse(_) => {}
            Action::Alarm(alarm) => done.alarm = Some(alarm),
        }
        let succeeds = matches!(
            action,
            Action::Run(_) | Action::Tombstone | Action::Stored(_)
        );
        if succeeds && action != Action::Stored(fence::Stored::TryFailure) {
            self.succeeded |= bit(operation);
        }
        if !self.has(Fault::ForgetsTheTombstone) || action != Action::Tombstone {
            self.changes(action.row_after(self.row.as_ref(), &call));
        }
        let stale = before.row.is_some_and(|row| call.epoch < row.epoch);
        if stale && *self != before {
            done.broken = Some("S9");
        }
        done
    }

    fn call(&self, arrival: Arrival) -> Call {
        let work = match (self.kind.remote, arrival.never_started) {
            (false, _) => Work::Local,
            (true, true) => Work::Remote(Job::NeverStarted),
            (true, false) => Work::Remote(Job::MayHaveStarted),
        };
        Call {
            operation: arrival.operation,
            epoch: arrival.epoch.into(),
            expire_time_ms: EXPIRE_TIME_MS,
            work,
        }
    }

    /// The fence's rule, or what a broken fence makes of it.
    fn rule(&self, call: &Call, now_ms: i64) -> Action {
        let mut row = self.row;
        let mut horizon_ms = self.horizon_ms;
        match (self.kind.fault, call.operation) {
            (Some(Fault::ConfirmsWithoutATry), Operation::Confirm) if row.is_none() => {
                return Action::Stored(fence::Stored::Done);
            }
            (Some(Fault::CollectsWithoutAHorizon), _) => horizon_ms = HORIZON_NONE_MS,
            (Some(Fault::IgnoresEpochs), _) => {
                row = row.map(|row| Row { epoch: 0, ..row });
            }
            _ => {}
        }
        fence::rule(row.as_ref(), call, horizon_ms, now_ms)
    }

    fn name(&self, call: &Call, action: Action, late: bool) -> Rule {
        match action {
            Action::Refuse(Refusal::Expired) if late => Rule::TryExpired,
            Action::Refuse(Refusal::Expired) => Rule::TryBehindHorizon,
            Action::Alarm(Alarm::EpochStale { .. }) => Rule::EpochStale(call.operation),
            Action::Tombstone if self.state() == Some(State::Trying) => Rule::JobNeverStarted,
            _ => Rule::Fence {
                remote: self.kind.remote,
                row: self.state(),
                operation: call.operation,
            },
        }
    }

    /// Whether this reply to a call that was sent may be on its way.
    pub(crate) fn may_have_replied(&self, operation: Operation, reply: Reply) -> bool {
        match reply {
            Reply::Success => self.succeeded & bit(operation) != 0,
            // A copy of a Try was refused before there was a row, or the business refused the rest.
            Reply::Failed => true,
            Reply::Processing => self.kind.remote,
        }
    }

    pub(crate) fn works_on(&self, operation: Operation) -> bool {
        self.jobs & bit(operation) != 0
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.jobs == 0
    }

    /// A job of this operation ends; `agrees`: as its business would have it; `last`: no other one
    /// of its kind runs, here or elsewhere.
    pub(crate) fn job_ends(&mut self, operation: Operation, agrees: bool, last: bool) -> Done {
        if last {
            self.jobs &= !bit(operation);
        }
        let end = match (operation, agrees) {
            (Operation::Try, true) => JobEnd::Tried,
            (Operation::Try, false) => JobEnd::TryFailed,
            (Operation::Confirm, true) => JobEnd::Confirmed,
            (Operation::Cancel, true) => JobEnd::Canceled,
            // Fails, and will be restarted.
            (Operation::Confirm | Operation::Cancel, false) => return Done::default(),
        };
        let mut done = Done::default();
        self.finish(operation, end, &mut done);
        done
    }

    fn finish(&mut self, operation: Operation, end: JobEnd, done: &mut Done) {
        let found = self.state();
        done.rules.push(Rule::Finish(found, end));
        let over = matches!(found, Some(State::Canceling | State::Canceled));
        let finish = if self.has(Fault::FinishesBlindly) && over && end == JobEnd::Tried {
            Finish::Write(State::Tried)
        } else {
            fence::finish(found, end)
        };
        match finish {
            Finish::Write(state) => {
                let reserved_nothing = operation == Operation::Cancel && self.reserved() == 0;
                if !reserved_nothing && state != State::TryFailed {
                    done.broken = self.takes_effect(operation);
                }
                if state != State::TryFailed {
                    self.succeeded |= bit(operation);
                }
                self.writes(state);
            }
            Finish::Undo => {
                if found == Some(State::Canceling) {
                    self.finish(Operation::Cancel, JobEnd::Canceled, done);
                }
            }
            Finish::Leave => {}
        }
    }

    /// What is not in its database is lost.
    pub(crate) fn crashes(&mut self) {
        self.jobs = 0;
    }

    /// Its row is removed in due time, if it may be. The clock may go back afterwards.
    pub(crate) fn collects(&mut self) {
        let retention = Retention::DEFAULT;
        let now_ms = EXPIRE_TIME_MS + retention.as_ms() + 1;
        let due = |row: &Row| fence::may_collect(row, now_ms, retention);
        let Some(row) = self.row.filter(due) else {
            return;
        };
        self.horizon_ms = fence::horizon_after(&row, self.horizon_ms);
        self.changes(None);
    }

    /// Its database is restored from before the Try: the reservation and its row are gone.
    pub(crate) fn loses_its_reservation(&mut self) {
        if self.state() == Some(State::Tried) {
            self.effects[Operation::Try as usize] -= 1;
            self.changes(None);
        }
    }

    /// A fault: it releases by itself what nobody has confirmed for long.
    pub(crate) fn cancels_by_time(&mut self) -> Done {
        let mut done = Done::default();
        if self.state() == Some(State::Tried) {
            done.broken = self.takes_effect(Operation::Cancel);
            self.writes(State::Canceled);
        }
        done
    }

    pub(crate) fn says(&self) -> RecordState {
        fence::record_state(self.row.as_ref())
    }

    /// Whether an answer to a Query of this phase may say so.
    pub(crate) fn may_have_said(&self, state: RecordState) -> bool {
        self.kind.lies || self.says() == state || self.said & (1 << state as u8) != 0
    }

    /// Whether an answer of whatever age may say so.
    pub(crate) fn can_say(&self, state: RecordState) -> bool {
        match state {
            RecordState::Unknown
            | RecordState::Tried
            | RecordState::Confirmed
            | RecordState::Canceled => true,
            RecordState::Trying
            | RecordState::TryFailed
            | RecordState::Confirming
            | RecordState::Canceling => self.kind.remote || self.kind.lies,
            RecordState::ConfirmFailed | RecordState::CancelFailed => self.kind.lies,
        }
    }

    /// A decision: Queries of the phase before it no longer count.
    pub(crate) fn forgets_queries(&mut self) {
        self.said = 0;
    }

    pub(crate) fn state(&self) -> Option<State> {
        self.row.map(|row| row.state)
    }

    pub(crate) fn was_collected(&self) -> bool {
        self.horizon_ms != HORIZON_NONE_MS
    }

    pub(crate) fn count(&self, operation: Operation) -> u8 {
        self.effects[operation as usize]
    }

    /// What is held back, neither used nor released.
    pub(crate) fn reserved(&self) -> i8 {
        let [tried, confirmed, canceled] = self.effects.map(u8::cast_signed);
        tried - confirmed - canceled
    }

    fn has(&self, fault: Fault) -> bool {
        self.kind.fault == Some(fault)
    }

    /// S5: a Try takes effect although the row says that it is over.
    fn takes_effect(&mut self, operation: Operation) -> Option<&'static str> {
        let over = matches!(self.state(), Some(State::Canceling | State::Canceled));
        let count = &mut self.effects[operation as usize];
        *count = (*count + 1).min(2);
        (operation == Operation::Try && over).then_some("S5")
    }

    fn writes(&mut self, state: State) {
        self.changes(self.row.map(|row| Row { state, ..row }));
    }

    fn changes(&mut self, row: Option<Row>) {
        let before = self.says();
        self.row = row;
        if self.says() != before {
            self.said |= 1 << before as u8;
        }
    }
}
