//! What a participant holds: accounts in its database, and an account with a provider outside of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use fastrand::Rng;
use parking_lot::Mutex;
use tercet_core::operation::Operation;
use tercet_sdk::participant::{Branch, Progress};

use super::{
    clock::elapsed_ms,
    history::{Account, LedgerEffect},
    participant::RETRY_AFTER_MS_MIN,
};

pub const PLENTY: &str = "plenty";
pub const SCARCE: &str = "scarce";
/// Held by the provider.
pub const OUTSIDE: &str = "outside";

#[derive(Clone, PartialEq, prost::Message)]
pub struct Take {
    #[prost(string, tag = "1")]
    pub account: String,
    #[prost(int64, tag = "2")]
    pub amount: i64,
}

/// Accounts, and every change of them.
#[derive(Clone, Debug)]
pub struct Books {
    pub accounts: BTreeMap<&'static str, Account>,
    pub effects: Vec<Arc<LedgerEffect>>,
}

impl Books {
    pub fn open(accounts: &[(&'static str, i64)]) -> Self {
        let account = |(name, opening): &(&'static str, i64)| {
            let account = Account {
                name: (*name).into(),
                opening: *opening,
                free: *opening,
                held: 0,
                used: 0,
            };
            (*name, account)
        };
        Self {
            accounts: accounts.iter().map(account).collect(),
            effects: Vec::new(),
        }
    }

    /// False: there isn't enough, and nothing has changed.
    pub fn reserve(&mut self, branch: &Branch, take: &Take) -> bool {
        let account = self.account(take);
        if account.free < take.amount {
            return false;
        }
        account.free -= take.amount;
        account.held += take.amount;
        self.note(branch, Operation::Try, take);
        true
    }

    pub fn consume(&mut self, branch: &Branch, take: &Take) {
        let account = self.account(take);
        account.held -= take.amount;
        account.used += take.amount;
        self.note(branch, Operation::Confirm, take);
    }

    pub fn release(&mut self, branch: &Branch, take: &Take) {
        let account = self.account(take);
        account.held -= take.amount;
        account.free += take.amount;
        self.note(branch, Operation::Cancel, take);
    }

    fn account(&mut self, take: &Take) -> &mut Account {
        let account = self.accounts.get_mut(&*take.account);
        account.expect("clients name accounts that exist")
    }

    /// Nothing here keeps an effect from being noted twice: that is what the test looks for.
    fn note(&mut self, branch: &Branch, operation: Operation, take: &Take) {
        self.effects.push(Arc::new(LedgerEffect {
            transaction: branch.key.transaction_id.as_str().into(),
            branch: branch.key.branch_id.as_str().into(),
            operation,
            account: take.account.as_str().into(),
            amount: take.amount,
        }));
    }
}

/// Another system, which takes its time, and which no crash of ours touches. It knows each piece of
/// work by its key.
#[derive(Clone)]
pub struct Provider(Arc<Mutex<Outside>>);

struct Outside {
    books: Books,
    works: BTreeMap<String, Work>,
    rng: Rng,
    /// The longest that one piece of work may take.
    work_ms_max: u64,
}

#[derive(Clone, Copy)]
struct Work {
    stage: Stage,
    /// When the stage under way is over.
    done_ms: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Reserving,
    Reserved,
    Refused,
    Consuming,
    Consumed,
    Releasing,
    Released,
}

/// How far the provider is.
pub enum Reply {
    Progress(Progress<()>),
    Refused,
    Unknown,
}

impl Provider {
    pub fn new(opening: i64, work_ms_max: u64, rng: Rng) -> Self {
        let outside = Outside {
            books: Books::open(&[(OUTSIDE, opening)]),
            works: BTreeMap::new(),
            rng,
            work_ms_max,
        };
        Self(Arc::new(Mutex::new(outside)))
    }

    pub fn books(&self) -> Books {
        self.0.lock().books.clone()
    }

    pub fn reserve(&self, branch: &Branch, take: &Take) -> Reply {
        let mut outside = self.0.lock();
        match outside.stage(branch) {
            None => outside.begin(branch, Stage::Reserving),
            Some(Stage::Reserving | Stage::Reserved) => {}
            Some(_) => return Reply::Refused,
        }
        if !outside.is_over(branch) {
            return outside.processing(branch);
        }
        if outside.stage(branch) == Some(Stage::Reserving) {
            let reserved = outside.books.reserve(branch, take);
            let stage = if reserved {
                Stage::Reserved
            } else {
                Stage::Refused
            };
            outside.reach(branch, stage);
        }
        match outside.stage(branch) {
            Some(Stage::Reserved) => Reply::Progress(Progress::Done(())),
            _ => Reply::Refused,
        }
    }

    pub fn consume(&self, branch: &Branch, take: &Take) -> Reply {
        let mut outside = self.0.lock();
        match outside.stage(branch) {
            Some(Stage::Reserved) => outside.begin(branch, Stage::Consuming),
            Some(Stage::Consuming | Stage::Consumed) => {}
            None | Some(_) => return Reply::Unknown,
        }
        if !outside.is_over(branch) {
            return outside.processing(branch);
        }
        if outside.stage(branch) == Some(Stage::Consuming) {
            outside.books.consume(branch, take);
            outside.reach(branch, Stage::Consumed);
        }
        Reply::Progress(Progress::Done(()))
    }

    /// After this, no reservation under this key is ever made.
    pub fn release(&self, branch: &Branch, take: &Take) -> Reply {
        let mut outside = self.0.lock();
        match outside.stage(branch) {
            Some(Stage::Reserved) => outside.begin(branch, Stage::Releasing),
            Some(Stage::Releasing) => {}
            None | Some(Stage::Reserving | Stage::Refused | Stage::Released) => {
                outside.reach(branch, Stage::Released);
            }
            Some(Stage::Consuming | Stage::Consumed) => return Reply::Unknown,
        }
        if !outside.is_over(branch) {
            return outside.processing(branch);
        }
        if outside.stage(branch) == Some(Stage::Releasing) {
            outside.books.release(branch, take);
            outside.reach(branch, Stage::Released);
        }
        Reply::Progress(Progress::Done(()))
    }
}

impl Outside {
    fn stage(&self, branch: &Branch) -> Option<Stage> {
        let work = self.works.get(&branch.idempotency_key());
        work.map(|work| work.stage)
    }

    fn begin(&mut self, branch: &Branch, stage: Stage) {
        let takes_ms = match self.rng.u8(..8) {
            0..4 => 0,
            4..7 => self.rng.u64(..=self.work_ms_max / 8),
            _ => self.rng.u64(..=self.work_ms_max),
        };
        let done_ms = elapsed_ms() + takes_ms;
        let work = Work { stage, done_ms };
        self.works.insert(branch.idempotency_key(), work);
    }

    fn reach(&mut self, branch: &Branch, stage: Stage) {
        let done_ms = elapsed_ms();
        let work = Work { stage, done_ms };
        self.works.insert(branch.idempotency_key(), work);
    }

    fn is_over(&self, branch: &Branch) -> bool {
        let work = self.works.get(&branch.idempotency_key());
        work.is_some_and(|work| work.done_ms <= elapsed_ms())
    }

    fn processing(&mut self, branch: &Branch) -> Reply {
        let work = self.works.get(&branch.idempotency_key());
        let left_ms = work.map_or(0, |work| work.done_ms.saturating_sub(elapsed_ms()));
        // The longer it takes, the less often it wants to be asked.
        let retry_ms = (left_ms / 4).max(RETRY_AFTER_MS_MIN);
        let retry_after = Duration::from_millis(self.rng.u64(retry_ms..=2 * retry_ms));
        Reply::Progress(Progress::Processing { retry_after })
    }
}
