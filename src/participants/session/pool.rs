//! All sessions of one participant, and the calls that go over them.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tonic::Status;

pub(crate) use super::state::{Heard, Order};
use super::{
    Hello, Outbox, SessionRefused,
    link::Link,
    state::{Next, State, Unsent},
};
use crate::{
    participants::{fault::Fault, measure},
    proto::tercet::participant::v1::SessionReply,
};

/// The sessions of one participant.
pub(crate) struct Pool {
    participant: Arc<str>,
    state: Mutex<State>,
}

/// The half of a session that hears the participant. Dropped, it ends the session.
pub struct Session {
    pool: Arc<Pool>,
    link: Arc<Link>,
    heartbeat: Duration,
}

impl Pool {
    pub(crate) fn new(participant: Arc<str>) -> Self {
        Self {
            participant,
            state: Mutex::default(),
        }
    }

    /// Opens a session: what hears the participant, and what speaks to it.
    pub(crate) fn open(
        self: &Arc<Self>,
        hello: &Hello,
        heartbeat: Duration,
    ) -> Result<(Session, Outbox), SessionRefused> {
        let link = {
            let mut state = self.state.lock();
            let link = state.open(hello)?;
            measure::sessions(&self.participant, state.len());
            link
        };
        let Hello {
            instance,
            sdk_version,
            ..
        } = hello;
        tracing::info!(participant = %self.participant, session = %link.id, %instance, %sdk_version,
            "a session is open");
        let outbox = Outbox::new(Arc::clone(self), Arc::clone(&link), heartbeat);
        let session = Session {
            pool: Arc::clone(self),
            link,
            heartbeat,
        };
        Ok((session, outbox))
    }

    /// Makes a call, and waits for its reply until its deadline. It is on its way at once, so that the
    /// future need not carry it.
    pub(crate) fn call(&self, order: Order) -> impl Future<Output = Heard> + Send {
        let deadline = order.deadline;
        let (reply_to, reply) = oneshot::channel();
        let taken = self.state.lock().take(Unsent { order, reply_to });
        let taken = taken.map(|number| Ticket {
            pool: self,
            number: Some(number),
        });
        async move {
            match taken {
                Ok(ticket) => ticket.heard(deadline, reply).await,
                Err(fault) => Heard::nothing(None, fault),
            }
        }
    }

    /// No new sessions; those that are open are told that the coordinator is going away.
    pub(crate) fn say_farewell(&self) {
        self.state.lock().say_farewell();
    }

    /// Ends every session, and opens none any more.
    pub(crate) fn close(&self, refusing: SessionRefused, how: &Result<(), Status>) {
        let mut state = self.state.lock();
        state.close(refusing, how);
        measure::sessions(&self.participant, state.len());
    }

    pub(super) fn next(&self, link: &Arc<Link>) -> Next {
        self.state.lock().next(link)
    }

    pub(super) fn end(&self, link: &Arc<Link>, how: Result<(), Status>) {
        let why = how.as_ref().err().map(|it| it.message().to_owned());
        let mut state = self.state.lock();
        if !state.end(link, how) {
            return;
        }
        measure::sessions(&self.participant, state.len());
        drop(state);
        let (participant, session) = (&self.participant, &link.id);
        match why {
            None => tracing::info!(%participant, %session, "a session has ended"),
            Some(why) => tracing::warn!(%participant, %session, why, "a session has broken"),
        }
    }
}

impl Session {
    /// How often both sides say that they are there.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        self.heartbeat
    }

    /// Takes in a frame of replies.
    pub fn replied(&self, replies: Vec<SessionReply>) {
        let replies = replies.into_iter().map(|reply| {
            let unreadable = "the reply holds nothing that this version knows";
            let response = reply.response;
            let response = response.ok_or_else(|| Fault::Status(Status::internal(unreadable)));
            (reply.call_id, response)
        });
        let heard = self.pool.state.lock().replied(&self.link, replies);
        for (reply_to, heard) in heard {
            let _ = reply_to.send(heard); // it may just have given up
        }
    }

    /// The participant wants no new Try over this session.
    pub fn drain(&self) {
        self.pool.state.lock().drain(&self.link);
    }

    /// Ends it; an error is told to the participant. What it was sent is indeterminate.
    pub fn end(&self, how: Result<(), Status>) {
        self.pool.end(&self.link, how);
    }

    /// Resolves once it has ended.
    pub async fn ended(&self) {
        self.link.ended().await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.end(Err(Status::internal("nobody hears the session any more")));
    }
}

impl Heard {
    fn nothing(session: Option<Arc<Link>>, fault: Fault) -> Self {
        Self {
            session,
            reply: Err(fault),
        }
    }

    /// Where the call was, for messages.
    pub(crate) fn place(&self) -> Arc<str> {
        let session = self.session.as_ref();
        session.map_or_else(|| "its sessions".into(), |it| Arc::clone(&it.name))
    }
}

/// A call that somebody waits for.
struct Ticket<'a> {
    pool: &'a Pool,
    number: Option<u64>,
}

impl Ticket<'_> {
    async fn heard(mut self, deadline: Instant, reply: oneshot::Receiver<Heard>) -> Heard {
        match timeout_at(deadline, reply).await {
            Ok(Ok(heard)) => {
                self.number = None;
                heard
            }
            Ok(Err(_)) => {
                let fault = Fault::Status(Status::internal("the call was lost in the coordinator"));
                Heard::nothing(None, fault)
            }
            Err(_) => match self.give_up() {
                Some(session) => Heard::nothing(Some(session), Fault::Deadline),
                None => {
                    let why = "no session could take it before its deadline";
                    Heard::nothing(None, Fault::NeverLeft(Status::deadline_exceeded(why)))
                }
            },
        }
    }

    /// The session it was sent over, if it was.
    fn give_up(&mut self) -> Option<Arc<Link>> {
        let number = self.number.take()?;
        self.pool.state.lock().give_up(number)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.give_up();
    }
}
