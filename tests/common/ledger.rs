//! Participants in this process: each holds an amount of something behind a real fence, and answers
//! as a script says.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use parking_lot::Mutex;
use tercet::{
    engine::{AnchoredClock, Clock as _},
    participants::{Outgoing, Participants, TargetError},
    store::Record,
};
use tercet_core::{
    answer::{Answer, QueryAnswer, Recorded},
    fence::{self, Action, Row, Stored, Work},
    ids::{BranchId, ParticipantName, TransactionId},
    operation::Operation,
    outcome::Outcome,
    payload::{Failure, Payload},
    transaction::{BranchState, Target},
};
use tokio::time::Instant;

/// What each participant holds at the start.
pub const HELD: i64 = 1_000;

/// What goes wrong with one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives.
    Lost,
    /// It has its effect; its reply is lost.
    ReplyLost,
    /// It arrives twice.
    Twice,
    /// It arrives only after everything else has ended.
    VeryLate,
    /// The participant says PROCESSING, although it is done.
    Processing,
    /// The participant says FAILED.
    Refused,
}

/// One call, as it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub participant: String,
    pub operation: Operation,
    pub query: bool,
    pub attempt: u32,
    pub at: Instant,
}

pub struct Ledger {
    pub clock: AnchoredClock,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    accounts: BTreeMap<String, Account>,
    faults: HashMap<usize, Fault>,
    refused: HashSet<String>,
    down_from: HashMap<String, usize>,
    silent: HashSet<String>,
    late: Vec<Outgoing>,
    seen: Vec<Seen>,
}

struct Account {
    available: i64,
    reserved: i64,
    consumed: i64,
    rows: HashMap<(TransactionId, BranchId), (Row, i64)>,
}

impl Ledger {
    pub fn new(clock: AnchoredClock) -> Arc<Self> {
        let mut inner = Inner::default();
        for name in ["stock", "money", "other"] {
            let account = Account {
                available: HELD,
                reserved: 0,
                consumed: 0,
                rows: HashMap::new(),
            };
            inner.accounts.insert(name.into(), account);
        }
        Arc::new(Self {
            clock,
            inner: Mutex::new(inner),
        })
    }

    /// The nth call of all, from 0, goes wrong.
    pub fn fault(&self, nth: usize, fault: Fault) {
        self.inner.lock().faults.insert(nth, fault);
    }

    /// Refuses connections until further notice.
    pub fn down(&self, participant: &str) {
        self.inner.lock().refused.insert(participant.into());
    }

    /// Refuses connections from the nth call of all on, until further notice.
    pub fn down_from(&self, nth: usize, participant: &str) {
        self.inner.lock().down_from.insert(participant.into(), nth);
    }

    /// Never answers until further notice.
    pub fn black_hole(&self, participant: &str) {
        self.inner.lock().silent.insert(participant.into());
    }

    pub fn up(&self, participant: &str) {
        let mut inner = self.inner.lock();
        inner.refused.remove(participant);
        inner.down_from.remove(participant);
        inner.silent.remove(participant);
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.inner.lock().seen.clone()
    }

    /// Lets every call that was held back arrive now.
    pub fn deliver_late(&self) {
        let late = std::mem::take(&mut self.inner.lock().late);
        for outgoing in late {
            self.inner.lock().act(&outgoing, self.clock.unix_ms());
        }
    }

    /// Every account is conserved and nothing is negative; what the fences say agrees with the
    /// transactions, and once all have ended nothing is reserved.
    pub fn check(&self, records: &[Arc<Record>]) {
        let inner = self.inner.lock();
        for (name, account) in &inner.accounts {
            let Account {
                available,
                reserved,
                consumed,
                ..
            } = account;
            assert_eq!(
                available + reserved + consumed,
                HELD,
                "{name} is not conserved"
            );
            assert!(
                *available >= 0 && *reserved >= 0 && *consumed >= 0,
                "{name} is negative"
            );
            assert_eq!(*reserved, 0, "{name} has orphaned reservations");
        }
        for record in records {
            for branch in &record.transaction.branches {
                let row = inner.accounts[participant(&branch.spec.target)]
                    .rows
                    .get(&(record.id.clone(), branch.spec.id.clone()));
                let state = row.map(|(row, _)| row.state);
                let expected = match record.transaction.outcome() {
                    Outcome::Success => Some(fence::State::Confirmed),
                    Outcome::Failed => Some(fence::State::Canceled),
                    Outcome::Processing => panic!("{} has not ended", record.id),
                };
                assert_eq!(state, expected, "{} of {}", branch.spec.id, record.id);
                assert!(matches!(
                    branch.state,
                    BranchState::Confirmed | BranchState::Canceled
                ));
            }
        }
    }

    pub fn consumed(&self, participant: &str) -> i64 {
        self.inner.lock().accounts[participant].consumed
    }

    pub fn available(&self, participant: &str) -> i64 {
        self.inner.lock().accounts[participant].available
    }

    fn begin(&self, outgoing: &Outgoing) -> (Option<Fault>, bool, bool) {
        let name = participant(&outgoing.spec.target);
        let mut inner = self.inner.lock();
        let nth = inner.seen.len();
        inner.seen.push(Seen {
            participant: name.into(),
            operation: outgoing.call.operation,
            query: outgoing.call.query,
            attempt: outgoing.call.attempt,
            at: Instant::now(),
        });
        let fault = inner.faults.get(&nth).copied();
        let went_down = inner.down_from.get(name).is_some_and(|from| nth >= *from);
        (
            fault,
            inner.refused.contains(name) || went_down,
            inner.silent.contains(name),
        )
    }
}

impl Participants for Ledger {
    fn check(&self, target: &Target) -> Result<(), TargetError> {
        let name = participant(target);
        let inner = self.inner.lock();
        if inner.accounts.contains_key(name) {
            return Ok(());
        }
        let known = inner
            .accounts
            .keys()
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        Err(TargetError::NotFound {
            name: name.into(),
            known,
        })
    }

    fn perform(&self, outgoing: Outgoing) -> BoxFuture<'static, Answer> {
        let (fault, refused, silent) = self.begin(&outgoing);
        if refused || silent || fault == Some(Fault::Lost) {
            return indeterminate(&outgoing, silent)
                .map(Answer::Indeterminate)
                .boxed();
        }
        let now_ms = self.clock.unix_ms();
        let mut inner = self.inner.lock();
        let answer = match fault {
            Some(Fault::VeryLate) => {
                inner.late.push(outgoing.clone());
                return indeterminate(&outgoing, true)
                    .map(Answer::Indeterminate)
                    .boxed();
            }
            Some(Fault::Refused) => Answer::Failed(Failure::new("OUT_OF_STOCK", "nothing left")),
            Some(Fault::ReplyLost) => {
                inner.act(&outgoing, now_ms);
                Answer::Indeterminate(Failure::new("UNAVAILABLE", "the connection was lost"))
            }
            Some(Fault::Processing) => {
                inner.act(&outgoing, now_ms);
                Answer::Processing {
                    retry_after_ms: Some(700),
                }
            }
            Some(Fault::Twice) => {
                inner.act(&outgoing, now_ms);
                inner.act(&outgoing, now_ms)
            }
            Some(Fault::Lost) | None => inner.act(&outgoing, now_ms),
        };
        async move { answer }.boxed()
    }

    fn query(&self, outgoing: Outgoing) -> BoxFuture<'static, QueryAnswer> {
        let (fault, refused, silent) = self.begin(&outgoing);
        let lost = matches!(
            fault,
            Some(Fault::Lost | Fault::ReplyLost | Fault::VeryLate)
        );
        if refused || silent || lost {
            return indeterminate(&outgoing, silent)
                .map(QueryAnswer::Indeterminate)
                .boxed();
        }
        let inner = self.inner.lock();
        let account = &inner.accounts[participant(&outgoing.spec.target)];
        let row = account
            .rows
            .get(&(outgoing.id.clone(), outgoing.spec.id.clone()));
        let recorded = Recorded {
            state: fence::record_state(row.map(|(row, _)| row)),
            try_result: None,
            confirm_result: None,
            failure: None,
            retry_after_ms: None,
        };
        async move { QueryAnswer::Recorded(Box::new(recorded)) }.boxed()
    }
}

impl Inner {
    /// The participant's own transaction: the rule, the business change and the row together.
    fn act(&mut self, outgoing: &Outgoing, now_ms: i64) -> Answer {
        let account = self
            .accounts
            .get_mut(participant(&outgoing.spec.target))
            .unwrap();
        let key = (outgoing.id.clone(), outgoing.spec.id.clone());
        let row = account.rows.get(&key).map(|(row, _)| *row);
        let call = fence::Call {
            operation: outgoing.call.operation,
            epoch: i64::try_from(outgoing.epoch).unwrap(),
            expire_time_ms: outgoing.origin.expire_ms,
            work: Work::Local,
        };
        let amount = std::str::from_utf8(&outgoing.spec.payload.value).ok();
        let amount = amount.and_then(|text| text.parse::<u32>().ok());
        // What is no amount is more than there is.
        let amount = amount.map_or(i64::MAX, i64::from);
        let action = fence::rule(row.as_ref(), &call, fence::HORIZON_NONE_MS, now_ms);
        let result = Payload {
            type_url: "".into(),
            value: b"held".as_slice().into(),
        };
        let answer = match action {
            Action::Run(_) => match call.operation {
                Operation::Try if account.available < amount => {
                    return Answer::Failed(Failure::new("OUT_OF_STOCK", "nothing left"));
                }
                Operation::Try => {
                    account.available -= amount;
                    account.reserved += amount;
                    Answer::Success(Some(result))
                }
                Operation::Confirm => {
                    account.reserved -= amount;
                    account.consumed += amount;
                    Answer::Success(None)
                }
                Operation::Cancel => {
                    account.reserved -= amount;
                    account.available += amount;
                    Answer::Success(None)
                }
            },
            Action::Tombstone | Action::Stored(Stored::Done) => Answer::Success(None),
            Action::Stored(Stored::TryResult) => Answer::Success(Some(result)),
            Action::Refuse(refusal) => {
                Answer::Failed(Failure::new(refusal.reason(), refusal.to_string()))
            }
            Action::Alarm(alarm) => Answer::Indeterminate(Failure::new("ALARM", alarm.to_string())),
            Action::Own(_) | Action::Stored(Stored::TryFailure) => unreachable!("local work"),
        };
        if let Some(row) = action.row_after(row.as_ref(), &call) {
            account.rows.insert(key, (row, amount));
        }
        answer
    }
}

/// A refused connection is known at once; silence takes the call's whole deadline.
fn indeterminate(outgoing: &Outgoing, silent: bool) -> BoxFuture<'static, Failure> {
    let timeout = Duration::from_millis(outgoing.spec.try_timeout_ms);
    async move {
        if silent {
            tokio::time::sleep(timeout).await;
        }
        Failure::new("UNAVAILABLE", "no answer")
    }
    .boxed()
}

fn participant(target: &Target) -> &str {
    match target {
        Target::Contract { participant, .. } => participant.as_str(),
        Target::Methods(methods) => {
            ParticipantName::parse(&methods.endpoint).expect("tests name their participants");
            &methods.endpoint
        }
    }
}
