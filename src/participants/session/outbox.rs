//! What a session sends: whatever waits when the connection has room for more, in one frame.
//!
//! Woken by the first call, it lets everybody have a [`Turn`] who is ready to run, and then looks: a frame costs
//! both sides more than a call in it.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::Status;

use super::{
    link::Link,
    pool::{Order, Pool},
    state::Next,
};
use crate::{
    proto::{
        SessionCalls,
        tercet::participant::v1::{
            OpenSessionResponse, SessionDrain, SessionHeartbeat, SessionWelcome,
            open_session_response::Frame,
        },
    },
    turn::Turn,
};

/// The frames that go to the participant. Dropped, it ends the session.
pub struct Outbox {
    pool: Arc<Pool>,
    link: Arc<Link>,
    welcome: Option<SessionWelcome>,
    heartbeat: Interval,
    turn: Turn,
    /// The others have had their turn since it was woken.
    gave_way: bool,
    told: bool,
}

impl Outbox {
    pub(super) fn new(pool: Arc<Pool>, link: Arc<Link>, heartbeat: Duration) -> Self {
        let welcome = SessionWelcome {
            session_id: link.id.to_string(),
            heartbeat_interval: heartbeat.try_into().ok(),
        };
        let mut beats = interval_at(Instant::now() + heartbeat, heartbeat);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            pool,
            link,
            welcome: Some(welcome),
            heartbeat: beats,
            turn: Turn::default(),
            gave_way: false,
            told: false,
        }
    }
}

impl Stream for Outbox {
    type Item = Result<OpenSessionResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let it = &mut *self;
        if let Some(welcome) = it.welcome.take() {
            return frame(Frame::Welcome(welcome));
        }
        if !it.gave_way {
            ready!(it.turn.poll(cx));
            it.gave_way = true;
        }
        // Before looking, so that nothing that comes after the look is missed.
        it.link.outbox.register(cx.waker());
        match it.pool.next(&it.link) {
            Next::Farewell => return frame(Frame::Drain(SessionDrain {})),
            Next::Calls(calls) => return frame(Frame::Calls(in_a_frame(calls))),
            Next::Nothing => it.gave_way = false,
        }
        if let Some(how) = it.link.how_it_ended() {
            let is_told = std::mem::replace(&mut it.told, true);
            let error = how.as_ref().err().filter(|_| !is_told);
            return Poll::Ready(error.map(|status| Err(status.clone())));
        }
        ready!(it.heartbeat.poll_tick(cx));
        frame(Frame::Heartbeat(SessionHeartbeat {}))
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let why = "the participant has left without a word";
        self.pool.end(&self.link, Err(Status::cancelled(why)));
    }
}

fn frame(frame: Frame) -> Poll<Option<Result<OpenSessionResponse, Status>>> {
    let response = OpenSessionResponse { frame: Some(frame) };
    Poll::Ready(Some(Ok(response)))
}

fn in_a_frame(calls: Vec<(u64, Order)>) -> SessionCalls {
    let now = Instant::now();
    let call = |(call_id, order): (u64, Order)| {
        let left = order.deadline.saturating_duration_since(now);
        order.call.leaving(call_id, left)
    };
    SessionCalls {
        calls: calls.into_iter().map(call).collect(),
    }
}
