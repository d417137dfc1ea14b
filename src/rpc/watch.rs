//! One transaction, watched: its snapshot if wanted, then every event, a heartbeat while nothing
//! happens, and the end once it is terminal.
//!
//! Events come from the history inside the record, so a watcher that is slow, or comes back, misses
//! nothing as long as the history reaches back to where it stands; if not, it is told so.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures::{Stream, stream};
use tonic::Status;

use super::{
    faults::Faults,
    render::{self, View},
    status,
};
use crate::{
    engine::{Engine, EngineError, Follow},
    proto::tercet::v1::{self as pb, ErrorReason, watch_transaction_response::Item},
    store::Record,
};

/// How long nothing happens before a heartbeat says that the stream is alive.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a watcher is sent.
pub(super) type Reply = Result<pb::WatchTransactionResponse, Status>;

/// Everything after a revision; with 0, the snapshot and everything after it.
pub(super) fn watch(
    engine: Engine,
    follow: Follow,
    after_revision: i64,
) -> Result<impl Stream<Item = Reply> + Send + 'static, Status> {
    let record = follow.record();
    let after = after(&record, after_revision)?;
    let mut queue = VecDeque::new();
    let seen = match after {
        None => {
            let snapshot = render::transaction(&record, View::Basic);
            queue.push_back(Item::Snapshot(snapshot));
            record.revision
        }
        Some(after) => after,
    };
    let mut watcher = Watcher {
        engine,
        follow,
        queue,
        seen,
        ended: false,
    };
    watcher.take_in(&record)?;
    Ok(stream::unfold(watcher, |mut watcher| async move {
        let reply = watcher.next().await?;
        Some((reply, watcher))
    }))
}

struct Watcher {
    engine: Engine,
    follow: Follow,
    /// What has happened and is not sent yet: at most one history.
    queue: VecDeque<Item>,
    /// The last revision whose events are in the queue or sent.
    seen: u64,
    ended: bool,
}

impl Watcher {
    async fn next(&mut self) -> Option<Reply> {
        loop {
            if let Some(item) = self.queue.pop_front() {
                return Some(Ok(pb::WatchTransactionResponse { item: Some(item) }));
            }
            if self.ended || self.follow.record().transaction.state.is_terminal() {
                return None;
            }
            if let Err(status) = self.wait().await {
                self.ended = true;
                return Some(Err(status));
            }
        }
    }

    /// Waits until there is something to send.
    async fn wait(&mut self) -> Result<(), Status> {
        let changed = tokio::select! {
            biased;
            changed = tokio::time::timeout(HEARTBEAT, self.follow.changed()) => changed,
            () = self.engine.draining() => return Err(EngineError::ShuttingDown.into()),
        };
        match changed {
            Ok(true) => self.take_in(&self.follow.record()),
            Ok(false) => Err(self.abandoned()),
            Err(_) => {
                let revision = render::revision(self.follow.record().revision);
                self.queue
                    .push_back(Item::Heartbeat(pb::Heartbeat { revision }));
                Ok(())
            }
        }
    }

    /// Queues the events that are new in a record.
    fn take_in(&mut self, record: &Arc<Record>) -> Result<(), Status> {
        let dropped = record.history_dropped_revision;
        if self.seen < dropped {
            return Err(status::compacted(&record.id, self.seen, dropped));
        }
        let new = record.history.iter().filter(|it| it.revision > self.seen);
        let events = new.map(|line| Item::Event(render::event(record, line)));
        self.queue.extend(events);
        self.seen = self.seen.max(record.revision);
        Ok(())
    }

    /// Why an unfinished transaction changes no more: the store has failed, or the process goes away.
    fn abandoned(&self) -> Status {
        let error = self.engine.record(&self.follow.record().id).err();
        error.unwrap_or(EngineError::ShuttingDown).into()
    }
}

/// The revision to go on after; none: from the snapshot.
fn after(record: &Record, asked: i64) -> Result<Option<u64>, Faults> {
    let newest = record.revision;
    match u64::try_from(asked) {
        Ok(0) => Ok(None),
        Ok(asked) if asked <= newest => Ok(Some(asked)),
        _ => {
            let why = format_args!(
                "{asked} is no revision of this transaction; give 0 for the snapshot, or 1 to {newest}"
            );
            Err(Faults::one(
                ErrorReason::FieldInvalid,
                "after_revision",
                why,
            ))
        }
    }
}
