//! Which call is where: waiting, given to a session, or in a frame. Everything here runs under the
//! participant's lock, and nothing here waits.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use tokio::{sync::oneshot, time::Instant};
use tonic::{Code, Status};

use super::{Hello, SESSIONS_MAX, SessionRefused, link::Link};
use crate::{
    participants::{fault::Fault, write::SessionCall},
    proto::tercet::participant::v1::session_reply::Response,
};

/// Calls in one frame.
const FRAME_CALLS_MAX: usize = 512;
/// Bytes of calls in one frame, but for a single call that has more: gRPC libraries read 4 MiB.
const FRAME_BYTES_MAX: usize = 1024 * 1024;

/// What came of a call, and which session had it.
pub(crate) struct Heard {
    pub(crate) session: Option<Arc<Link>>,
    pub(crate) reply: Result<Response, Fault>,
}

pub(super) type ReplyTo = oneshot::Sender<Heard>;

/// A call to be made.
pub(crate) struct Order {
    pub(crate) call: SessionCall,
    pub(crate) is_try: bool,
    pub(crate) deadline: Instant,
    /// Whether it may wait for a session that has room.
    pub(crate) may_wait: bool,
}

/// A call that has not left yet.
pub(super) struct Unsent {
    pub(super) order: Order,
    pub(super) reply_to: ReplyTo,
}

/// A call that was given to a session; it holds a credit.
enum Given {
    Unsent(Unsent),
    /// Who wants the reply; nobody, when the deadline has passed.
    Sent(Option<ReplyTo>),
}

/// One open session.
pub(super) struct Open {
    pub(super) link: Arc<Link>,
    pub(super) instance: Arc<str>,
    max_in_flight: usize,
    /// The participant wants no new Try.
    draining: bool,
    /// That we are leaving is still to be said.
    farewell: bool,
    calls: BTreeMap<u64, Given>,
    /// Calls that have not left, in their order; some may have been given up meanwhile.
    queue: VecDeque<u64>,
}

/// All sessions of a participant and all calls to it.
#[derive(Default)]
pub(super) struct State {
    /// No new sessions.
    refusing: Option<SessionRefused>,
    calls_begun: u64,
    opened: u64,
    /// Who is looked at first, so that equals take turns.
    turn: usize,
    sessions: Vec<Open>,
    /// By number, so the first has waited longest. While a call waits, no session that would take it
    /// has room.
    waiting: BTreeMap<u64, Unsent>,
}

/// What a session's stream does next.
pub(super) enum Next {
    Farewell,
    Calls(Vec<(u64, Order)>),
    Nothing,
}

impl State {
    pub(super) fn open(&mut self, hello: &Hello) -> Result<Arc<Link>, SessionRefused> {
        if let Some(refused) = &self.refusing {
            return Err(refused.clone());
        }
        if let Some(old) = self
            .sessions
            .iter()
            .find(|it| it.instance == hello.instance)
        {
            let old = Arc::clone(&old.link);
            let why = "a newer session of the same instance takes its place";
            self.end(&old, Err(Status::aborted(why)));
        }
        if self.sessions.len() >= SESSIONS_MAX {
            let name = hello.participant.as_str().into();
            return Err(SessionRefused::TooMany { name });
        }
        self.opened += 1;
        let participant = hello.participant.as_str();
        let link = Arc::new(Link::new(participant, self.opened, &hello.instance));
        self.sessions.push(Open {
            link: Arc::clone(&link),
            instance: Arc::clone(&hello.instance),
            max_in_flight: hello.max_in_flight,
            draining: false,
            farewell: false,
            calls: BTreeMap::new(),
            queue: VecDeque::new(),
        });
        self.give_waiting();
        Ok(link)
    }

    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Takes a call in. Its number, unless it can't be sent.
    pub(super) fn take(&mut self, unsent: Unsent) -> Result<u64, Fault> {
        self.calls_begun += 1;
        let number = self.calls_begun;
        if let Err(unsent) = self.give(number, unsent) {
            if !unsent.order.may_wait || !self.is_served(unsent.order.is_try) {
                return Err(self.never_left(unsent.order.is_try));
            }
            self.waiting.insert(number, unsent);
        }
        Ok(number)
    }

    /// Nobody waits for this call any more. The session it was sent over, if it was.
    pub(super) fn give_up(&mut self, number: u64) -> Option<Arc<Link>> {
        if self.waiting.remove(&number).is_some() {
            return None;
        }
        let mut sessions = self.sessions.iter_mut();
        let session = sessions.find(|it| it.calls.contains_key(&number))?;
        if let Some(Given::Sent(reply_to)) = session.calls.get_mut(&number) {
            *reply_to = None;
            return Some(Arc::clone(&session.link));
        }
        session.calls.remove(&number);
        self.give_waiting();
        None
    }

    /// The calls that go into the session's next frame. From here on they may have left.
    pub(super) fn next(&mut self, link: &Arc<Link>) -> Next {
        let Some(at) = self.position(link) else {
            return Next::Nothing;
        };
        let session = &mut self.sessions[at];
        if std::mem::take(&mut session.farewell) {
            return Next::Farewell;
        }
        let mut frame = Vec::with_capacity(session.queue.len().min(FRAME_CALLS_MAX));
        let mut bytes = 0;
        while let Some(&number) = session.queue.front() {
            let Some(Given::Unsent(unsent)) = session.calls.get(&number) else {
                session.queue.pop_front(); // given up
                continue;
            };
            bytes += unsent.order.call.bytes();
            if !frame.is_empty() && (bytes > FRAME_BYTES_MAX || frame.len() == FRAME_CALLS_MAX) {
                break;
            }
            session.queue.pop_front();
            frame.extend(session.send(number));
        }
        if frame.is_empty() {
            Next::Nothing
        } else {
            Next::Calls(frame)
        }
    }

    /// Who waits for these replies. What is late, or was never asked, is for nobody.
    pub(super) fn replied(
        &mut self,
        link: &Arc<Link>,
        replies: impl IntoIterator<Item = (u64, Result<Response, Fault>)>,
    ) -> Vec<(ReplyTo, Heard)> {
        let Some(at) = self.position(link) else {
            return Vec::new();
        };
        let session = &mut self.sessions[at];
        let replies = replies.into_iter();
        let mut heard = Vec::with_capacity(replies.size_hint().0);
        for (number, reply) in replies {
            let Some(Given::Sent(_)) = session.calls.get(&number) else {
                continue;
            };
            if let Some(Given::Sent(Some(reply_to))) = session.calls.remove(&number) {
                let session = Some(Arc::clone(link));
                heard.push((reply_to, Heard { session, reply }));
            }
        }
        self.give_waiting();
        heard
    }

    /// The participant wants no new Try over this session.
    pub(super) fn drain(&mut self, link: &Arc<Link>) {
        if let Some(at) = self.position(link) {
            self.sessions[at].draining = true;
            self.give_waiting();
        }
    }

    /// Takes no new sessions, and says so to those that are open.
    pub(super) fn say_farewell(&mut self) {
        self.refusing = Some(SessionRefused::ShuttingDown);
        for session in &mut self.sessions {
            session.farewell = true;
            session.link.outbox.wake();
        }
    }

    /// Ends all sessions, and takes no new ones.
    pub(super) fn close(&mut self, refusing: SessionRefused, how: &Result<(), Status>) {
        self.refusing = Some(refusing);
        while let Some(session) = self.sessions.last() {
            let link = Arc::clone(&session.link);
            self.end(&link, how.clone());
        }
    }

    /// Ends a session, unless it has ended. What was sent over it is indeterminate; what was not may
    /// go elsewhere.
    pub(super) fn end(&mut self, link: &Arc<Link>, how: Result<(), Status>) -> bool {
        let Some(at) = self.position(link) else {
            return false;
        };
        let session = self.sessions.remove(at);
        let why = match &how {
            Ok(()) => "it was closed",
            Err(status) => status.message(),
        };
        let lost = Status::unavailable(format!("the session ended before the reply: {why}"));
        for (number, given) in session.calls {
            match given {
                Given::Unsent(unsent) => drop(self.waiting.insert(number, unsent)),
                Given::Sent(Some(reply_to)) => {
                    let (session, reply) =
                        (Some(Arc::clone(link)), Err(Fault::Status(lost.clone())));
                    let _ = reply_to.send(Heard { session, reply }); // it may just have given up
                }
                Given::Sent(None) => {}
            }
        }
        link.end(how);
        self.give_waiting();
        true
    }

    /// Gives waiting calls to whoever has room; turns away those that nobody will ever take.
    fn give_waiting(&mut self) {
        let mut left = BTreeMap::new();
        while let Some((number, unsent)) = self.waiting.pop_first() {
            let Err(unsent) = self.give(number, unsent) else {
                continue;
            };
            if unsent.order.may_wait && self.is_served(unsent.order.is_try) {
                // Whoever waits behind it has no room either.
                left.insert(number, unsent);
                break;
            }
            let (session, reply) = (None, Err(self.never_left(unsent.order.is_try)));
            let _ = unsent.reply_to.send(Heard { session, reply }); // it may just have given up
        }
        left.append(&mut self.waiting);
        self.waiting = left;
    }

    /// Gives a call to the session that should have it, or back.
    fn give(&mut self, number: u64, unsent: Unsent) -> Result<(), Unsent> {
        let Some(at) = self.with_room(unsent.order.is_try) else {
            return Err(unsent);
        };
        self.turn = at + 1;
        let session = &mut self.sessions[at];
        session.calls.insert(number, Given::Unsent(unsent));
        session.queue.push_back(number);
        session.link.outbox.wake();
        Ok(())
    }

    /// Of the sessions with room the one with the fewest calls out; equals take turns. One that drains
    /// gets no Try, and anything else only when all of them do.
    fn with_room(&self, is_try: bool) -> Option<usize> {
        let all_drain = self.sessions.iter().all(|it| it.draining);
        if all_drain && is_try {
            return None;
        }
        let len = self.sessions.len();
        let in_turn = (0..len).map(|step| (self.turn + step) % len);
        let may = |at: &usize| {
            let session = &self.sessions[*at];
            session.draining == all_drain && session.calls.len() < session.max_in_flight
        };
        in_turn
            .filter(may)
            .min_by_key(|at| self.sessions[*at].calls.len())
    }

    /// Whether there is a session that such a call may wait for.
    fn is_served(&self, is_try: bool) -> bool {
        self.sessions.iter().any(|it| !it.draining || !is_try)
    }

    fn never_left(&self, is_try: bool) -> Fault {
        let why = if self.is_served(is_try) {
            "every session has as many calls out as it takes (max_in_flight)"
        } else if self.sessions.is_empty() {
            "no session is open"
        } else {
            "its sessions take no new Try: they are being closed"
        };
        Fault::NeverLeft(Status::new(Code::Unavailable, why))
    }

    fn position(&self, link: &Arc<Link>) -> Option<usize> {
        self.sessions
            .iter()
            .position(|it| Arc::ptr_eq(&it.link, link))
    }
}

impl Open {
    /// Marks a call as sent, and hands it out.
    fn send(&mut self, number: u64) -> Option<(u64, Order)> {
        let given = self.calls.get_mut(&number)?;
        match std::mem::replace(given, Given::Sent(None)) {
            Given::Unsent(Unsent { order, reply_to }) => {
                *given = Given::Sent(Some(reply_to));
                Some((number, order))
            }
            sent @ Given::Sent(_) => {
                *given = sent;
                None
            }
        }
    }
}
