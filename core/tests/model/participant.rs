//! A participant of the model: the real fence's rule over one row, and effects that are counted.

use tercet_core::{
    fence::{
        self, Action, Call, EXPIRY_SKEW_MS, Finish, HORIZON_NONE_MS, Job, JobEnd, Row, State, Work,
    },
    operation::{Operation, RecordState},
};

const EXPIRE_TIME_MS: i64 = 0;

/// One participant and its one branch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Participant {
    /// Its effects are outside its database: calls start jobs and are answered PROCESSING.
    pub(crate) remote: bool,
    /// Its clock has passed `expire_time` and the skew.
    pub(crate) late: bool,
    pub(crate) row: Option<Row>,
    /// Remote: the jobs that run, by operation. A crash loses them.
    pub(crate) jobs: [bool; 3],
    /// Effects, by operation.
    pub(crate) effects: [u8; 3],
    /// A Try took effect after the row said that it is over.
    pub(crate) tried_after_cancel: bool,
    /// The fence had to raise an alarm: a call contradicts the row.
    pub(crate) alarmed: bool,
    /// What Query could have been told since the last decision, besides what it is told now: one
    /// bit a record state.
    pub(crate) said: u16,
}

/// What a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reply {
    Success,
    Failed,
    Processing,
}

impl Participant {
    /// A call arrives; `agrees`: what the business says, if it is asked.
    pub(crate) fn receives(&mut self, operation: Operation, agrees: bool) {
        let work = if self.remote {
            Work::Remote(Job::MayHaveStarted)
        } else {
            Work::Local
        };
        let call = Call {
            operation,
            epoch: 1,
            expire_time_ms: EXPIRE_TIME_MS,
            work,
        };
        let now_ms = if self.late {
            EXPIRE_TIME_MS + EXPIRY_SKEW_MS + 1
        } else {
            EXPIRE_TIME_MS
        };
        let action = fence::rule(self.row.as_ref(), &call, HORIZON_NONE_MS, now_ms);
        if matches!(action, Action::Run(_)) && !agrees {
            return; // rolled back, row and all
        }
        let after = action.row_after(self.row.as_ref(), &call);
        match action {
            Action::Run(_) => self.takes_effect(operation),
            Action::Own(_) => self.jobs[operation as usize] = true,
            Action::Tombstone | Action::Stored(_) | Action::Refuse(_) => {}
            Action::Alarm(_) => self.alarmed = true,
        }
        self.changes(after);
    }

    /// Whether this reply to a call that was sent may be on its way.
    pub(crate) fn may_have_replied(&self, operation: Operation, reply: Reply) -> bool {
        match (operation, reply) {
            (Operation::Try, Reply::Success) => self.count(operation) > 0,
            (Operation::Confirm, Reply::Success) => self.state() == Some(State::Confirmed),
            (Operation::Cancel, Reply::Success) => self.state() == Some(State::Canceled),
            (Operation::Try, Reply::Failed) => true, // a copy was refused before there was a row
            (Operation::Confirm | Operation::Cancel, Reply::Failed) => true, // the business did
            (_, Reply::Processing) => self.remote,
        }
    }

    /// The job of this operation ends; `agrees`: as its business would have it.
    pub(crate) fn job_ends(&mut self, operation: Operation, agrees: bool) {
        self.jobs[operation as usize] = false;
        let end = match (operation, agrees) {
            (Operation::Try, true) => JobEnd::Tried,
            (Operation::Try, false) => JobEnd::TryFailed,
            (Operation::Confirm, true) => JobEnd::Confirmed,
            (Operation::Cancel, true) => JobEnd::Canceled,
            (Operation::Confirm | Operation::Cancel, false) => return, // fails, and will be restarted
        };
        self.finish(operation, end);
    }

    fn finish(&mut self, operation: Operation, end: JobEnd) {
        match fence::finish(self.state(), end) {
            Finish::Write(state) => {
                let reserved_nothing = operation == Operation::Cancel && self.reserved() == 0;
                if !reserved_nothing && state != State::TryFailed {
                    self.takes_effect(operation);
                }
                self.write(state);
            }
            Finish::Undo => {
                if self.state() == Some(State::Canceling) {
                    self.finish(Operation::Cancel, JobEnd::Canceled);
                }
            }
            Finish::Leave => {}
        }
    }

    /// What is not in its database is lost.
    pub(crate) fn crashes(&mut self) {
        self.jobs = [false; 3];
    }

    pub(crate) fn says(&self) -> RecordState {
        fence::record_state(self.row.as_ref())
    }

    /// Whether an answer to a Query of this phase may say so.
    pub(crate) fn has_said(&self, state: RecordState) -> bool {
        self.says() == state || self.said & (1 << state as u8) != 0
    }

    /// A decision: Queries of the phase before it no longer count.
    pub(crate) fn forgets(&mut self) {
        self.said = 0;
    }

    pub(crate) fn state(&self) -> Option<State> {
        self.row.map(|row| row.state)
    }

    pub(crate) fn count(&self, operation: Operation) -> u8 {
        self.effects[operation as usize]
    }

    /// What is held back, neither used nor released.
    pub(crate) fn reserved(&self) -> i8 {
        let [tried, confirmed, canceled] = self.effects.map(u8::cast_signed);
        tried - confirmed - canceled
    }

    fn takes_effect(&mut self, operation: Operation) {
        let over = matches!(self.state(), Some(State::Canceling | State::Canceled));
        self.tried_after_cancel |= operation == Operation::Try && over;
        let count = &mut self.effects[operation as usize];
        *count = (*count + 1).min(2);
    }

    fn write(&mut self, state: State) {
        self.changes(self.row.map(|row| Row { state, ..row }));
    }

    fn changes(&mut self, row: Option<Row>) {
        let before = self.says();
        self.row = row;
        if self.says() != before {
            self.said |= 1 << before as u8;
            self.late = false; // no rule asks any more
        }
    }
}
