//! What a session sends: the replies that wait when the connection has room for more, in one frame.
//!
//! Woken by the first reply, it lets every call have a turn that is ready to run, and then looks. A frame
//! costs both sides more than a reply in it, and with nobody else ready the turn is at once its own again.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, task::AtomicWaker};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::proto::participant::v1::{
    OpenSessionRequest, SessionDrain, SessionHeartbeat, SessionHello, SessionReplies, SessionReply,
    open_session_request::Frame,
};

/// Replies in one frame.
const FRAME_REPLIES_MAX: usize = 512;
/// Bytes of replies in one frame, but for a single one that has more: gRPC libraries read 4 MiB.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// Where replies are put. Cheap to clone; all clones are one.
#[derive(Clone)]
pub(super) struct Outbox(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    stream: AtomicWaker,
}

struct State {
    hello: Option<SessionHello>,
    heartbeat: Option<Duration>,
    drain: bool,
    replies: Vec<SessionReply>,
    closed: bool,
}

/// The stream that sends them.
pub(super) struct Frames {
    outbox: Outbox,
    beats: Option<Interval>,
    /// The others have had their turn since it was woken.
    gave_way: bool,
}

impl Outbox {
    pub(super) fn new(hello: SessionHello) -> (Self, Frames) {
        let state = State {
            hello: Some(hello),
            heartbeat: None,
            drain: false,
            replies: Vec::new(),
            closed: false,
        };
        let outbox = Self(Arc::new(Shared {
            state: Mutex::new(state),
            stream: AtomicWaker::new(),
        }));
        let frames = Frames {
            outbox: outbox.clone(),
            beats: None,
            gave_way: false,
        };
        (outbox, frames)
    }

    /// Of a session that has ended, nobody hears them.
    pub(super) fn reply(&self, replies: impl IntoIterator<Item = SessionReply>) {
        self.change(|state| {
            if !state.closed {
                state.replies.extend(replies);
            }
        });
    }

    /// From now on something is sent this often.
    pub(super) fn beat(&self, heartbeat: Duration) {
        self.change(|state| state.heartbeat = Some(heartbeat));
    }

    /// Asks for no new Try.
    pub(super) fn drain(&self) {
        self.change(|state| state.drain = true);
    }

    /// Sends what waits, and nothing any more.
    pub(super) fn close(&self) {
        self.change(|state| state.closed = true);
    }

    /// Closes it at the end, however that comes. The connection keeps the stream, which would go on
    /// beating, so that the coordinator took the session for alive.
    pub(super) fn close_at_end(&self) -> CloseAtEnd {
        CloseAtEnd(self.clone())
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.0.stream.wake();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Closes an outbox when it is dropped.
pub(super) struct CloseAtEnd(Outbox);

impl Drop for CloseAtEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Stream for Frames {
    type Item = OpenSessionRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !std::mem::replace(&mut self.gave_way, true) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        // Before looking, so that nothing that comes after the look is missed.
        self.outbox.0.stream.register(cx.waker());
        let heartbeat = {
            let mut state = self.outbox.lock();
            if let Some(frame) = state.next() {
                return Poll::Ready(Some(OpenSessionRequest { frame: Some(frame) }));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.heartbeat
        };
        self.gave_way = false;
        let Some(heartbeat) = heartbeat else {
            return Poll::Pending;
        };
        let beats = self.beats.get_or_insert_with(|| {
            let mut beats = interval_at(Instant::now() + heartbeat, heartbeat);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beats
        });
        ready!(beats.poll_tick(cx));
        let frame = Some(Frame::Heartbeat(SessionHeartbeat {}));
        Poll::Ready(Some(OpenSessionRequest { frame }))
    }
}

impl State {
    fn next(&mut self) -> Option<Frame> {
        if let Some(hello) = self.hello.take() {
            return Some(Frame::Hello(hello));
        }
        if std::mem::take(&mut self.drain) {
            return Some(Frame::Drain(SessionDrain {}));
        }
        if self.replies.is_empty() {
            return None;
        }
        let mut room = FRAME_BYTES_MAX;
        let fit = self
            .replies
            .iter()
            .take(FRAME_REPLIES_MAX)
            .take_while(|reply| {
                let bytes = prost::Message::encoded_len(*reply);
                let fits = bytes <= room;
                room = room.saturating_sub(bytes);
                fits
            });
        let later = self.replies.split_off(fit.count().max(1));
        let replies = std::mem::replace(&mut self.replies, later);
        Some(Frame::Replies(SessionReplies { replies }))
    }
}
