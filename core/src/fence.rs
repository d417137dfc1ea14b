//! The participant's side of the protocol, as one pure rule.
//!
//! A participant keeps one row per (realm, transaction, branch), written in the same local
//! transaction as the business change. [`rule`] says what a call may do to it:
//!
//! | row | Try | Confirm | Cancel |
//! |---|---|---|---|
//! | none | `EXPIRED` at or before the horizon, or 5 min past `expire_time`; else business, TRIED | error | tombstone CANCELED, success |
//! | TRYING (remote) | processing; restarts a lost job | error | CANCELED if the job certainly never started; else CANCELING, processing |
//! | TRY_FAILED (remote) | the stored refusal | error | CANCELED, success |
//! | TRIED | the stored result | business, CONFIRMED | business, CANCELED |
//! | CONFIRMING (remote) | the stored result | processing; restarts a lost job | error |
//! | CONFIRMED | the stored result | success | error |
//! | CANCELING (remote) | `BRANCH_FENCED` | error | processing; restarts a lost job |
//! | CANCELED | `BRANCH_FENCED` | error | success |
//!
//! A lower epoch than the row's is an error whatever the row says. An error is never FAILED: the
//! coordinator reads it as indeterminate.
//!
//! Work outside the participant's database ([`Work::Remote`]) commits TRYING, CONFIRMING or
//! CANCELING before it starts; [`finish`] says what its end may write. Nothing is ever canceled by
//! time: `expire_time` only refuses a Try that has no row. [`may_collect`] says when a row may go.

use crate::operation::{Operation, RecordState};

/// How far the clocks of coordinator and participant may be apart before an unexpired Try would be
/// refused, in milliseconds.
pub const EXPIRY_SKEW_MS: i64 = 5 * 60 * 1000;
/// The horizon of a fence that has not removed a row yet.
pub const HORIZON_NONE_MS: i64 = i64::MIN;

/// What the fence has recorded about a branch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// A remote Try is owned and not known to have ended.
    Trying,
    /// A remote Try was refused; kept, because nothing rolled it back.
    TryFailed,
    /// Reserved.
    Tried,
    /// A remote Confirm is owned and not known to have ended.
    Confirming,
    /// Used; terminal.
    Confirmed,
    /// A remote Cancel is owned and not known to have ended.
    Canceling,
    /// Released, or fenced before anything was reserved; terminal.
    Canceled,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Trying,
        Self::TryFailed,
        Self::Tried,
        Self::Confirming,
        Self::Confirmed,
        Self::Canceling,
        Self::Canceled,
    ];

    /// Its name, as it stands in databases and messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trying => "TRYING",
            Self::TryFailed => "TRY_FAILED",
            Self::Tried => "TRIED",
            Self::Confirming => "CONFIRMING",
            Self::Confirmed => "CONFIRMED",
            Self::Canceling => "CANCELING",
            Self::Canceled => "CANCELED",
        }
    }

    /// Reads what [`State::as_str`] wrote.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }

    /// No call changes it any more.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Confirmed | Self::Canceled)
    }
}

/// One row of the fence, as far as the rule looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Row {
    /// What is recorded.
    pub state: State,
    /// The highest epoch whose call was taken.
    pub epoch: i64,
    /// The transaction's deadline, Unix milliseconds.
    pub expire_time_ms: i64,
}

/// Where a resource's effects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Work {
    /// In the fence's own database: they commit with the row.
    Local,
    /// Outside of it: the row is committed before they start.
    Remote(Job),
}

/// What is known about a remote Try whose row says TRYING.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Job {
    /// It certainly never started and never will: nothing has to be undone.
    NeverStarted,
    /// It may have; the safe thing to say.
    MayHaveStarted,
}

/// One call of a branch, as far as the rule looks at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Call {
    /// Which of the three.
    pub operation: Operation,
    /// Grows whenever another coordinator takes the transaction over.
    pub epoch: i64,
    /// The transaction's deadline, Unix milliseconds; the same on every call.
    pub expire_time_ms: i64,
    /// Where the effects are.
    pub work: Work,
}

/// What to do with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Run the business change and write this state, in one transaction; then answer SUCCESS. A
    /// Try that the business refuses rolls back both and is answered FAILED.
    Run(State),
    /// Write this state and commit; then see to it that a job runs, and answer PROCESSING until it
    /// has ended. When the row says so already, the job may have been lost: restart it.
    Own(State),
    /// Write CANCELED without any business, and answer SUCCESS: nothing was reserved.
    Tombstone,
    /// Nothing runs; answer what was answered before.
    Stored(Stored),
    /// Nothing runs; answer FAILED.
    Refuse(Refusal),
    /// Nothing runs; answer an error, never SUCCESS and never FAILED.
    Alarm(Alarm),
}

/// An answer the row holds already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stored {
    /// SUCCESS with the stored try result.
    TryResult,
    /// FAILED with the stored refusal.
    TryFailure,
    /// SUCCESS: this Confirm or Cancel was done before.
    Done,
}

/// Why the fence itself refuses a Try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// The transaction is over, and its row may have been removed.
    #[error("the transaction's expire_time has passed, and no Try of this branch is recorded")]
    Expired,
    /// Cancel came first.
    #[error("this branch was canceled before; a Try may not take effect any more")]
    BranchFenced,
}

impl Refusal {
    /// The reason that goes over the wire.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Expired => "EXPIRED",
            Self::BranchFenced => "BRANCH_FENCED",
        }
    }
}

/// Why a call is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Alarm {
    /// Another coordinator has taken the transaction over.
    #[error("epoch {epoch} is lower than {row_epoch}, which this branch was called with before")]
    EpochStale {
        /// The call's.
        epoch: i64,
        /// The row's.
        row_epoch: i64,
    },
    /// Confirm of a branch that was never tried here, or whose row is long gone.
    #[error("there is no Try of this branch to confirm")]
    NotTried,
    /// The row says the opposite of the call.
    #[error("the branch is {}, which this operation contradicts", .0.as_str())]
    Contradiction(State),
    /// A resource that works in the fence's database found a row that only remote work writes.
    #[error("the branch is {}, which only work outside the database can be", .0.as_str())]
    NotLocal(State),
}

/// Decides one call. `horizon_ms` is the newest `expire_time` whose row was removed
/// ([`HORIZON_NONE_MS`] when none was), `now_ms` the wall clock, both Unix milliseconds.
#[must_use]
pub fn rule(row: Option<&Row>, call: &Call, horizon_ms: i64, now_ms: i64) -> Action {
    let Some(row) = row else {
        return without_row(call, horizon_ms, now_ms);
    };
    if call.epoch < row.epoch {
        return Action::Alarm(Alarm::EpochStale {
            epoch: call.epoch,
            row_epoch: row.epoch,
        });
    }
    match call.work {
        Work::Local if is_remote_only(row.state) => Action::Alarm(Alarm::NotLocal(row.state)),
        Work::Local | Work::Remote(_) => match call.operation {
            Operation::Try => on_try(row.state),
            Operation::Confirm => on_confirm(row.state, call.work),
            Operation::Cancel => on_cancel(row.state, call.work),
        },
    }
}

impl Action {
    /// The row once the action is done and committed; `row` is what it was before. Try, Confirm
    /// and Cancel raise the epoch even where they change nothing else.
    #[must_use]
    pub fn row_after(self, row: Option<&Row>, call: &Call) -> Option<Row> {
        let written = match self {
            Self::Run(state) | Self::Own(state) => Some(state),
            Self::Tombstone => Some(State::Canceled),
            Self::Stored(_) | Self::Refuse(_) | Self::Alarm(_) => row.map(|row| row.state),
        };
        written.map(|state| Row {
            state,
            epoch: row.map_or(call.epoch, |row| row.epoch.max(call.epoch)),
            expire_time_ms: row.map_or(call.expire_time_ms, |row| row.expire_time_ms),
        })
    }
}

/// How a remote job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobEnd {
    /// Try reserved.
    Tried,
    /// Try was refused; nothing is reserved.
    TryFailed,
    /// Confirm is done.
    Confirmed,
    /// Cancel is done.
    Canceled,
}

/// What the end of a remote job may do to the row it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Finish {
    /// Write this state, in the transaction that read the row.
    Write(State),
    /// Leave the state. Undo the work; then, if the row says CANCELING, finish that Cancel.
    Undo,
    /// Leave everything: another has finished it.
    Leave,
}

/// Decides the end of a remote job by the row it finds. A Try changes the row only from TRYING: a
/// blind finisher would reserve after the Cancel.
#[must_use]
pub fn finish(row: Option<State>, end: JobEnd) -> Finish {
    match (end, row) {
        (JobEnd::Tried, Some(State::Trying)) => Finish::Write(State::Tried),
        (JobEnd::Tried, Some(State::Tried | State::Confirming | State::Confirmed)) => Finish::Leave,
        // Canceled or refused meanwhile, by a job elsewhere too: what this one reserved must go.
        (JobEnd::Tried, Some(State::Canceling | State::Canceled | State::TryFailed) | None) => {
            Finish::Undo
        }
        (JobEnd::TryFailed, Some(State::Trying)) => Finish::Write(State::TryFailed),
        (JobEnd::TryFailed, Some(State::Canceling)) => Finish::Undo,
        (JobEnd::TryFailed, _) => Finish::Leave,
        (JobEnd::Confirmed, Some(State::Confirming)) => Finish::Write(State::Confirmed),
        (JobEnd::Canceled, Some(State::Canceling)) => Finish::Write(State::Canceled),
        (JobEnd::Confirmed | JobEnd::Canceled, _) => Finish::Leave,
    }
}

/// What Query answers. It never changes a row.
#[must_use]
pub fn record_state(row: Option<&Row>) -> RecordState {
    match row.map(|row| row.state) {
        None => RecordState::Unknown,
        Some(State::Trying) => RecordState::Trying,
        Some(State::TryFailed) => RecordState::TryFailed,
        Some(State::Tried) => RecordState::Tried,
        Some(State::Confirming) => RecordState::Confirming,
        Some(State::Confirmed) => RecordState::Confirmed,
        Some(State::Canceling) => RecordState::Canceling,
        Some(State::Canceled) => RecordState::Canceled,
    }
}

/// How long a terminal row outlives its `expire_time`: at least a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Retention(i64);

/// The retention is shorter than a late call may be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fence retention of {ms} ms is too short; use at least {min} ms (1 day)", min = Retention::MIN.0)]
pub struct RetentionTooShort {
    /// What was asked for, milliseconds.
    pub ms: i64,
}

impl Retention {
    /// 1 day.
    pub const MIN: Self = Self(24 * 60 * 60 * 1000);
    /// 30 days.
    pub const DEFAULT: Self = Self(30 * Self::MIN.0);

    /// A retention of so many milliseconds.
    ///
    /// # Errors
    /// [`RetentionTooShort`] below a day.
    pub fn new(ms: i64) -> Result<Self, RetentionTooShort> {
        if ms < Self::MIN.0 {
            return Err(RetentionTooShort { ms });
        }
        Ok(Self(ms))
    }

    /// In milliseconds.
    #[must_use]
    pub fn as_ms(self) -> i64 {
        self.0
    }
}

/// Whether the row may be removed: terminal, and past its `expire_time` by more than `retention`.
///
/// Whoever removes it raises the horizon to [`horizon_after`] in the same transaction, so that a
/// clock set back can't reopen what was removed.
#[must_use]
pub fn may_collect(row: &Row, now_ms: i64, retention: Retention) -> bool {
    row.state.is_terminal() && row.expire_time_ms < now_ms.saturating_sub(retention.0)
}

/// The horizon after this row was removed.
#[must_use]
pub fn horizon_after(removed: &Row, horizon_ms: i64) -> i64 {
    horizon_ms.max(removed.expire_time_ms)
}

fn without_row(call: &Call, horizon_ms: i64, now_ms: i64) -> Action {
    match call.operation {
        Operation::Try => {
            let late = now_ms > call.expire_time_ms.saturating_add(EXPIRY_SKEW_MS);
            if call.expire_time_ms <= horizon_ms || late {
                Action::Refuse(Refusal::Expired)
            } else {
                match call.work {
                    Work::Local => Action::Run(State::Tried),
                    Work::Remote(_) => Action::Own(State::Trying),
                }
            }
        }
        Operation::Confirm => Action::Alarm(Alarm::NotTried),
        Operation::Cancel => Action::Tombstone,
    }
}

fn is_remote_only(state: State) -> bool {
    matches!(state, State::Trying | State::Confirming | State::Canceling)
}

fn on_try(state: State) -> Action {
    match state {
        State::Trying => Action::Own(State::Trying),
        State::TryFailed => Action::Stored(Stored::TryFailure),
        State::Tried | State::Confirming | State::Confirmed => Action::Stored(Stored::TryResult),
        State::Canceling | State::Canceled => Action::Refuse(Refusal::BranchFenced),
    }
}

fn on_confirm(state: State, work: Work) -> Action {
    match (state, work) {
        (State::Tried, Work::Local) => Action::Run(State::Confirmed),
        (State::Tried | State::Confirming, _) => Action::Own(State::Confirming),
        (State::Confirmed, _) => Action::Stored(Stored::Done),
        (State::Trying | State::TryFailed | State::Canceling | State::Canceled, _) => {
            Action::Alarm(Alarm::Contradiction(state))
        }
    }
}

fn on_cancel(state: State, work: Work) -> Action {
    match (state, work) {
        (State::Tried, Work::Local) => Action::Run(State::Canceled),
        (State::Trying, Work::Remote(Job::NeverStarted)) | (State::TryFailed, _) => {
            Action::Tombstone
        }
        (State::Trying | State::Tried | State::Canceling, _) => Action::Own(State::Canceling),
        (State::Canceled, _) => Action::Stored(Stored::Done),
        (State::Confirming | State::Confirmed, _) => Action::Alarm(Alarm::Contradiction(state)),
    }
}
