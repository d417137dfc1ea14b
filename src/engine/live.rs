//! Who is being driven right now, and how to talk to them.
//!
//! Each live transaction has one entry: the inbox of its driver, and the last record that the store
//! has acknowledged. The entry is made with the first command and removed by the driver itself when it
//! has nothing left to do; both happen under one lock, so that no command falls in between.

use std::{
    collections::{HashMap, hash_map::Entry},
    convert::Infallible,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tercet_core::{ids::TransactionId, payload::Failure, request::Request};
use tokio::sync::{mpsc, oneshot, watch};

use super::{EngineError, Inner, NewTransaction, admission::Room, drive};
use crate::{gate::Permit, store::Record};

/// Commands waiting for one driver. It takes them one by one, each at most one commit long; more
/// than this many callers of one transaction at once are told to come back.
const INBOX_COMMANDS_MAX: usize = 256;

/// The last acknowledged record; none until the driver has one.
pub(super) type Seen = Option<Arc<Record>>;

/// Where a command's caller is answered.
pub(super) struct Reply {
    to: oneshot::Sender<Result<Done, EngineError>>,
    hold: Option<Hold>,
}

/// While it exists its caller waits for the outcome.
pub(super) type Hold = oneshot::Sender<Infallible>;

/// A command that was carried out.
pub(super) struct Done {
    /// The caller is the one whose wait counts in TWO_STATE.
    pub(super) first: bool,
    /// The last acknowledged record, all that came of the command in it.
    pub(super) record: Arc<Record>,
}

/// What a driver is told.
pub(super) enum Command {
    /// Create it, or attach to it.
    Submit(Box<Submission>, Reply),
    /// Ask something of it; the wait is that of a commit's caller.
    Ask(Box<Request>, Option<Duration>, Reply),
    /// Roll it back, known or not.
    Rollback(Failure, Reply),
    /// Somebody follows it.
    Follow,
    /// The engine drains or stops: it shall look again.
    Look,
    /// Something is due.
    Wake(Permit),
}

/// A new transaction, and how its caller waits.
pub(super) struct Submission {
    pub(super) new: NewTransaction,
    pub(super) interactive: bool,
    pub(super) wait: Duration,
    /// Given to its caller before anything was read.
    pub(super) room: Option<Room>,
}

impl Reply {
    /// To a caller who wants to know how the command ended.
    pub(super) fn of(to: oneshot::Sender<Result<Done, EngineError>>) -> Self {
        Self { to, hold: None }
    }

    /// To one who wants to know what the transaction comes to.
    pub(super) fn at_the_end(to: oneshot::Sender<Result<Done, EngineError>>, hold: Hold) -> Self {
        let hold = Some(hold);
        Self { to, hold }
    }

    /// The command was carried out. Gives back what its caller waits for further, if it does.
    pub(super) fn done(self, done: Done) -> Option<Hold> {
        let _ = self.to.send(Ok(done)); // a caller that went away changes nothing
        self.hold
    }

    /// The command will not be carried out.
    pub(super) fn refuse(self, error: EngineError) {
        let _ = self.to.send(Err(error)); // a caller that went away needs no answer
    }
}

impl Command {
    /// Answers a command that will not be carried out.
    pub(super) fn refuse(self, error: EngineError) {
        match self {
            Command::Submit(_, reply) | Command::Ask(_, _, reply) | Command::Rollback(_, reply) => {
                reply.refuse(error);
            }
            Command::Follow | Command::Look | Command::Wake(_) => {}
        }
    }
}

/// All live transactions.
#[derive(Default)]
pub(super) struct Live {
    entries: Mutex<HashMap<TransactionId, Handle>>,
}

struct Handle {
    inbox: mpsc::Sender<Command>,
    seen: watch::Sender<Seen>,
}

impl Live {
    /// Whether this one is being driven.
    pub(super) fn contains(&self, id: &TransactionId) -> bool {
        self.entries.lock().contains_key(id)
    }

    /// Has every driver look again, in the order of ids, so that a simulation is the same each time. One
    /// whose inbox is full looks anyway.
    pub(super) fn look(&self) {
        let entries = self.entries.lock();
        let mut live: Vec<_> = entries.iter().collect();
        live.sort_unstable_by_key(|(id, _)| *id);
        for (_, handle) in live {
            let _ = handle.inbox.try_send(Command::Look);
        }
    }

    /// Removes the entry of a driver that wants to end, unless a command has come in or somebody
    /// still follows. `last` runs under the lock.
    pub(super) fn retire(
        &self,
        id: &TransactionId,
        inbox: &mpsc::Receiver<Command>,
        even_if_followed: bool,
        last: impl FnOnce(),
    ) -> bool {
        let mut entries = self.entries.lock();
        let Some(handle) = entries.get(id) else {
            return true;
        };
        let followed = handle.seen.receiver_count() > 0;
        if !inbox.is_empty() || (followed && !even_if_followed) {
            return false;
        }
        last();
        entries.remove(id);
        true
    }
}

impl Inner {
    /// Hands a command to the transaction's driver, and starts one if there is none.
    pub(super) fn send(
        self: &Arc<Self>,
        id: &TransactionId,
        command: Command,
    ) -> Result<watch::Receiver<Seen>, EngineError> {
        if self.stopped.is_cancelled() {
            return Err(self.gone());
        }
        let mut entries = self.live.entries.lock();
        let handle = match entries.entry(id.clone()) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let (inbox, commands) = mpsc::channel(INBOX_COMMANDS_MAX);
                let (seen, _) = watch::channel(None);
                drive::spawn(Arc::clone(self), id.clone(), commands, seen.clone());
                entry.insert(Handle { inbox, seen })
            }
        };
        let follower = handle.seen.subscribe();
        if handle.inbox.try_send(command).is_err() {
            let retry_after = Duration::from_millis(100);
            return Err(EngineError::Busy {
                id: id.clone(),
                waiting: INBOX_COMMANDS_MAX,
                retry_after,
            });
        }
        Ok(follower)
    }

    /// Follows a transaction of which `record` is known.
    pub(super) fn attach(
        self: &Arc<Self>,
        id: &TransactionId,
        record: Arc<Record>,
    ) -> Result<Follow, EngineError> {
        let seen = self.send(id, Command::Follow)?;
        Ok(Follow::live(record, seen))
    }
}

/// One transaction, followed: its last acknowledged record, and every later one.
///
/// While it exists, the transaction counts as attended: indeterminate calls are repeated early.
#[derive(Debug)]
pub struct Follow {
    record: Arc<Record>,
    seen: Option<watch::Receiver<Seen>>,
}

impl Follow {
    /// A transaction that won't change any more.
    pub(super) fn ended(record: Arc<Record>) -> Self {
        Self { record, seen: None }
    }

    /// A transaction that has a driver.
    pub(super) fn live(record: Arc<Record>, seen: watch::Receiver<Seen>) -> Self {
        Self {
            record,
            seen: Some(seen),
        }
    }

    /// The last record seen. Never an older one than before.
    #[must_use]
    pub fn record(&self) -> Arc<Record> {
        Arc::clone(&self.record)
    }

    /// Waits for a newer record. False: there will be none from here.
    pub async fn changed(&mut self) -> bool {
        loop {
            let Some(seen) = &mut self.seen else {
                return false;
            };
            let more = seen.changed().await.is_ok();
            let newer = seen.borrow_and_update().clone();
            if !more {
                self.seen = None;
            }
            if let Some(record) = newer.filter(|it| it.revision > self.record.revision) {
                self.record = record;
                return true;
            }
            if !more {
                return false;
            }
        }
    }

    /// Waits until the record is as wanted, or won't change any more.
    pub(super) async fn until(&mut self, wanted: impl Fn(&Record) -> bool) {
        while !wanted(&self.record) {
            if !self.changed().await {
                return;
            }
        }
    }
}
