//! Follows one transaction to its end, through broken streams.
//!
//! A stream that breaks is opened again where it broke. Several events may share a revision, and a
//! stream may break between them, so the watch goes back to the revision before and leaves out
//! what it has given already. When the coordinator no longer has that part of the history, it
//! starts over from a snapshot.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{Stream, StreamExt as _, stream::BoxStream};
use tokio::time::{sleep, timeout};
use tonic::{Code, Streaming};

use super::{
    Client, Error,
    outcome::{Transaction, is_terminal},
    resend::backoff,
};
use crate::proto::v1::{
    ErrorReason, Heartbeat, TransactionEvent, WatchTransactionRequest, WatchTransactionResponse,
    watch_transaction_response::Item,
};

/// The coordinator sends something every 15 s; three of them missing is a broken connection.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// With the pauses between them about half a minute.
const FAILURES_IN_A_ROW_MAX: u32 = 10;

/// What a [`Watch`] gives.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// All of it, as it stands: first, and again whenever the history in between is gone.
    Snapshot(Box<Transaction>),
    /// One step of it.
    Event(Box<TransactionEvent>),
}

impl Change {
    fn is_last(&self) -> bool {
        match self {
            Self::Snapshot(transaction) => is_terminal(transaction.state()),
            Self::Event(event) => is_terminal(event.state()),
        }
    }
}

/// Everything that happens to a transaction: a stream that ends after its end.
///
/// It gives an error, and ends, when the coordinator refuses to show the transaction or can't be
/// reached for about half a minute. To go on later, watch again.
pub struct Watch(BoxStream<'static, Result<Change, Error>>);

impl Watch {
    pub(crate) fn new(client: Client, transaction_id: String) -> Self {
        let watching = Watching {
            client,
            transaction_id,
            position: Position::default(),
            stream: None,
            failures: 0,
            progress: Progress::Following,
        };
        Self(futures::stream::unfold(watching, Watching::next).boxed())
    }

    /// The next change; none after the end.
    pub async fn next(&mut self) -> Option<Result<Change, Error>> {
        self.0.next().await
    }
}

impl Stream for Watch {
    type Item = Result<Change, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// How far the transaction was followed: everything before `revision`, and `given` events of it.
/// By default nothing, so that a snapshot comes first.
#[derive(Clone, Copy, Default)]
struct Position {
    revision: i64,
    given: usize,
}

impl Position {
    /// Everything up to this revision is known.
    fn after(revision: i64) -> Self {
        Self {
            revision: revision.saturating_add(1),
            given: 0,
        }
    }

    fn give(&mut self, revision: i64) {
        if self.revision == revision {
            self.given += 1;
        } else {
            *self = Self { revision, given: 1 };
        }
    }

    fn after_revision(self) -> i64 {
        self.revision.saturating_sub(1).max(0)
    }
}

struct Watching {
    client: Client,
    transaction_id: String,
    position: Position,
    stream: Option<Open>,
    failures: u32,
    progress: Progress,
}

/// How far the watch itself has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    Following,
    /// The end was seen; more of its last revision may follow.
    EndSeen,
    Over,
}

/// A stream that was opened at a position.
struct Open {
    messages: Streaming<WatchTransactionResponse>,
    /// How many events of the position's revision come a second time.
    skip: usize,
}

impl Watching {
    async fn next(mut self) -> Option<(Result<Change, Error>, Self)> {
        while self.progress != Progress::Over {
            let error = match self.item().await {
                Ok(Some(item)) => match self.take(item) {
                    Some(change) => return Some((Ok(change), self)),
                    None => continue,
                },
                Ok(None) if self.progress == Progress::EndSeen => return None,
                Ok(None) => Error::indeterminate(Code::Unavailable, "the stream ended early"),
                Err(error) => error,
            };
            if let Some(error) = self.recover(error).await {
                self.progress = Progress::Over;
                return Some((Err(error), self));
            }
        }
        None
    }

    async fn item(&mut self) -> Result<Option<Item>, Error> {
        let silent = |_| Error::indeterminate(Code::Unavailable, "the stream fell silent");
        let open = match &mut self.stream {
            Some(open) => open,
            None => {
                let opened = timeout(SILENCE_MAX, self.client.open_watch(self.request()));
                let messages = opened.await.map_err(silent)??;
                let skip = self.position.given;
                self.stream.insert(Open { messages, skip })
            }
        };
        let message = timeout(SILENCE_MAX, open.messages.message());
        let message = message.await.map_err(silent)??;
        // An item of a kind that this version doesn't know is as good as a heartbeat.
        Ok(message.map(|message| {
            message
                .item
                .unwrap_or(Item::Heartbeat(Heartbeat::default()))
        }))
    }

    fn request(&self) -> WatchTransactionRequest {
        WatchTransactionRequest {
            transaction_id: self.transaction_id.clone(),
            after_revision: self.position.after_revision(),
        }
    }

    fn take(&mut self, item: Item) -> Option<Change> {
        self.failures = 0;
        let change = match item {
            Item::Heartbeat(beat) => {
                if beat.revision >= self.position.revision {
                    self.position = Position::after(beat.revision);
                }
                return None;
            }
            Item::Snapshot(transaction) => {
                self.position = Position::after(transaction.revision);
                Change::Snapshot(Box::new(Transaction(transaction)))
            }
            Item::Event(event) => {
                if event.revision == self.position.revision && self.skip_one() {
                    return None;
                }
                self.position.give(event.revision);
                Change::Event(Box::new(event))
            }
        };
        if change.is_last() {
            self.progress = Progress::EndSeen;
        }
        Some(change)
    }

    fn skip_one(&mut self) -> bool {
        let Some(open) = self.stream.as_mut().filter(|open| open.skip > 0) else {
            return false;
        };
        open.skip -= 1;
        true
    }

    /// Gets ready to open the stream again, or gives the error back when that is no use.
    async fn recover(&mut self, error: Error) -> Option<Error> {
        self.stream = None;
        self.failures += 1;
        let compacted = error.is(ErrorReason::RevisionCompacted);
        if self.failures >= FAILURES_IN_A_ROW_MAX || !(compacted || error.is_passing()) {
            return Some(error);
        }
        if compacted {
            self.position = Position::default();
        }
        sleep(error.retry_delay().unwrap_or_default() + backoff(self.failures)).await;
        None
    }
}
