//! Where a call goes: sessions, endpoints that take turns, and the rule by which another one is tried.
//!
//! 1. Every call has one deadline, however many endpoints it tries; the request carries what is
//!    left of it as `grpc-timeout`.
//! 2. Another endpoint is tried only when the request certainly never left ([`Fault::NeverLeft`]),
//!    each at most once.
//! 3. An endpoint that could not be connected to goes to the end of the line for
//!    [`REFUSED_FOR`]; it is still tried when nobody else is left. After that one call at a time
//!    finds out whether it is back, so that a dead host holds up few.
//! 4. Where sessions are allowed, one that has room comes first; see [`session`](super::session).

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tercet_core::{ids::ParticipantName, transaction::Target};
use tokio::time::{Instant, timeout_at};

use super::{
    TargetError,
    config::{
        CALL_TIMEOUT_MS_DEFAULT, CALL_TIMEOUT_MS_MAX, ConfigError, EndpointUri, ParticipantsConfig,
    },
    fault::{Fault, Unanswered},
    measure::Measures,
    session::{Hello, Outbox, Pool, Session, SessionRefused},
    wire::{Connector, Wire},
};

/// How long an endpoint stays at the end of the line after a connection to it failed: longer than
/// connecting may take, so that one call at a time finds out whether it is back.
pub const REFUSED_FOR: Duration = Duration::from_secs(2);

/// Everything that can be called, as of one configuration.
#[derive(Default)]
pub(super) struct Routes {
    participants: BTreeMap<ParticipantName, Arc<Route>>,
    allowed: BTreeMap<EndpointUri, Arc<Route>>,
    peers: BTreeMap<EndpointUri, Arc<Peer>>,
    pub(super) payload_bytes_max: usize,
    session_heartbeat: Duration,
}

impl Routes {
    /// The routes of this configuration. Endpoints that the old one had too keep their connections.
    pub(super) fn build(
        config: &ParticipantsConfig,
        connector: &Connector,
        old: &Routes,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let mut routes = Self {
            payload_bytes_max: config.payload_bytes_max,
            session_heartbeat: config.session_heartbeat,
            ..Self::default()
        };
        for (name, participant) in &config.participants {
            let endpoints = participant.endpoints_of(name)?.into_iter();
            let peers = endpoints.map(|uri| routes.peer(uri, connector, old));
            let peers = peers.collect();
            let timeout_ms = participant.call_timeout_ms;
            let mut route = Route::new(Some(name.as_str().into()), peers, timeout_ms);
            if participant.sessions {
                route.sessions = Some(old.sessions(name).unwrap_or_else(|| {
                    let participant = name.as_str().into();
                    Arc::new(Pool::new(participant))
                }));
            }
            routes.participants.insert(name.clone(), Arc::new(route));
        }
        for uri in config.allowed()? {
            let peer = routes.peer(uri.clone(), connector, old);
            let route = Route::new(None, vec![peer], CALL_TIMEOUT_MS_DEFAULT);
            routes.allowed.insert(uri, Arc::new(route));
        }
        Ok(routes)
    }

    fn peer(&mut self, uri: EndpointUri, connector: &Connector, old: &Routes) -> Arc<Peer> {
        if let Some(known) = self.peers.get(&uri).or_else(|| old.peers.get(&uri)) {
            let peer = Arc::clone(known);
            self.peers.insert(uri, Arc::clone(&peer));
            return peer;
        }
        let wire = Wire::new(uri.authority(), connector.clone());
        let peer = Arc::new(Peer {
            uri: uri.clone(),
            wire: Arc::new(wire),
            refused_until: Mutex::new(None),
        });
        self.peers.insert(uri, Arc::clone(&peer));
        peer
    }

    /// Opens a session, of a participant that may.
    pub(super) fn open(&self, hello: &Hello) -> Result<(Session, Outbox), SessionRefused> {
        let name = &hello.participant;
        let Some(route) = self.participants.get(name) else {
            return Err(SessionRefused::Unknown {
                name: name.as_str().into(),
                known: self.known(),
            });
        };
        match &route.sessions {
            Some(pool) => pool.open(hello, self.session_heartbeat),
            None => Err(SessionRefused::Disabled {
                name: name.as_str().into(),
            }),
        }
    }

    /// The sessions of every participant that may have some.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Arc<Pool>> {
        let routes = self.participants.values();
        routes.filter_map(|route| route.sessions.as_ref())
    }

    /// Ends the sessions that the next configuration has no place for.
    pub(super) fn give_way_to(&self, next: &Routes) {
        for (name, route) in &self.participants {
            let Some(pool) = route
                .sessions
                .as_ref()
                .filter(|_| next.sessions(name).is_none())
            else {
                continue;
            };
            let refusing = SessionRefused::Disabled {
                name: name.as_str().into(),
            };
            let why = tonic::Status::aborted("the configuration has no sessions of it any more");
            pool.close(refusing, &Err(why));
        }
    }

    fn sessions(&self, name: &ParticipantName) -> Option<Arc<Pool>> {
        self.participants.get(name)?.sessions.clone()
    }

    /// Where calls to this target go.
    pub(super) fn find(&self, target: &Target) -> Result<&Arc<Route>, TargetError> {
        match target {
            Target::Contract { participant, .. } => self.participant(participant),
            Target::Methods(methods) => match ParticipantName::parse(&methods.endpoint) {
                Ok(name) => self.participant(&name).and_then(|route| {
                    let name = name.as_str().into();
                    let has_one = route.has_endpoints().then_some(route);
                    has_one.ok_or(TargetError::NoEndpoint { name })
                }),
                Err(_) => EndpointUri::parse(&methods.endpoint)
                    .ok()
                    .and_then(|uri| self.allowed.get(&uri))
                    .ok_or_else(|| TargetError::NotAllowed {
                        endpoint: Arc::clone(&methods.endpoint),
                    }),
            },
        }
    }

    fn participant(&self, name: &ParticipantName) -> Result<&Arc<Route>, TargetError> {
        let route = self.participants.get(name);
        route.ok_or_else(|| TargetError::NotFound {
            name: name.as_str().into(),
            known: self.known(),
        })
    }

    /// The names there are.
    fn known(&self) -> String {
        let known: Vec<_> = self.participants.keys().map(AsRef::as_ref).collect();
        if known.is_empty() {
            "none".into()
        } else {
            known.join(", ")
        }
    }
}

/// One participant, or one endpoint that a target names directly.
pub(super) struct Route {
    /// None for an endpoint that a target names directly.
    pub(super) participant: Option<Arc<str>>,
    pub(super) measures: Measures,
    /// Of Confirm, Cancel and Query.
    pub(super) call_timeout_ms: u64,
    /// Where it is called first.
    pub(super) sessions: Option<Arc<Pool>>,
    /// Never empty, unless there may be sessions.
    peers: Vec<Arc<Peer>>,
    turn: AtomicUsize,
}

/// One endpoint and its connection.
struct Peer {
    uri: EndpointUri,
    wire: Arc<Wire>,
    refused_until: Mutex<Option<Instant>>,
}

impl Route {
    fn new(participant: Option<Arc<str>>, peers: Vec<Arc<Peer>>, call_timeout_ms: u64) -> Self {
        Self {
            measures: Measures::of(participant.as_ref()),
            participant,
            call_timeout_ms,
            sessions: None,
            peers,
            turn: AtomicUsize::new(0),
        }
    }

    pub(super) fn has_endpoints(&self) -> bool {
        !self.peers.is_empty()
    }

    /// When a call that begins now has to have ended.
    pub(super) fn deadline(timeout_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(timeout_ms.clamp(1, CALL_TIMEOUT_MS_MAX))
    }

    /// Sends a request to endpoints until it has left once. `send` gets the connection and what is left
    /// of the deadline.
    pub(super) async fn call<T, F>(
        &self,
        deadline: Instant,
        mut send: impl FnMut(Arc<Wire>, Duration) -> F,
    ) -> Result<T, Unanswered>
    where
        F: Future<Output = Result<T, Fault>> + Send,
    {
        let mut unanswered = None;
        for peer in self.line() {
            let left = deadline.saturating_duration_since(Instant::now());
            let sent = timeout_at(deadline, send(Arc::clone(&peer.wire), left)).await;
            let fault = match sent.unwrap_or(Err(Fault::Deadline)) {
                Ok(answer) => {
                    peer.connected();
                    return Ok(answer);
                }
                Err(fault) => fault,
            };
            let uri = peer.uri.as_str();
            unanswered = Some(Unanswered::new(self.participant.as_ref(), uri, &fault));
            match fault {
                Fault::NeverLeft(_) => peer.refused(),
                Fault::Deadline => break,
                Fault::TooLarge { .. } | Fault::Unspecified { .. } | Fault::Status(_) => {
                    peer.connected();
                    break;
                }
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Err(unanswered.expect("nobody without endpoints is called at one"))
    }

    /// All endpoints, from the one whose turn it is; those that refused lately last.
    fn line(&self) -> Vec<&Peer> {
        let now = Instant::now();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.peers.len();
        let (before, from) = self.peers.split_at(turn);
        let mut line: Vec<&Peer> = from.iter().chain(before).map(AsRef::as_ref).collect();
        line.sort_by_key(|peer| peer.refuses(now));
        if let Some(first) = line.first() {
            first.probe(now);
        }
        line
    }
}

impl Peer {
    fn refuses(&self, now: Instant) -> bool {
        self.refused_until.lock().is_some_and(|until| now < until)
    }

    /// Keeps others away while one call finds out whether an endpoint that refused is back.
    fn probe(&self, now: Instant) {
        if let Some(until) = &mut *self.refused_until.lock() {
            *until = now + REFUSED_FOR;
        }
    }

    fn refused(&self) {
        *self.refused_until.lock() = Some(Instant::now() + REFUSED_FOR);
    }

    fn connected(&self) {
        *self.refused_until.lock() = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::participants::ParticipantConfig;

    fn route() -> Arc<Route> {
        let stock = ParticipantName::parse("stock").unwrap();
        let endpoints = ["http://a:1", "http://b:1", "http://c:1"].map(String::from);
        let config = ParticipantsConfig {
            participants: [(stock.clone(), ParticipantConfig::new(endpoints.into()))].into(),
            ..ParticipantsConfig::default()
        };
        let routes = Routes::build(&config, &Connector::tcp(), &Routes::default()).unwrap();
        Arc::clone(routes.participant(&stock).unwrap())
    }

    /// The hosts of the next `calls` calls, in the order in which each would try them.
    fn lines(route: &Route, calls: usize) -> Vec<String> {
        let host = |peer: &Peer| peer.uri.as_str()[7..8].to_owned();
        let next = |_| route.line().into_iter().map(host).collect();
        (0..calls).map(next).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_refused_is_last_in_line_until_one_call_finds_it_back() {
        let route = route();
        assert_eq!(lines(&route, 3), ["abc", "bca", "cab"]);

        route.peers[0].refused();
        assert_eq!(lines(&route, 3), ["bca", "bca", "cba"]);

        tokio::time::advance(REFUSED_FOR).await;
        let probed_once = ["abc", "bca", "cba", "bca"];
        assert_eq!(lines(&route, 4), probed_once);

        route.peers[0].connected();
        assert_eq!(lines(&route, 3), ["bca", "cab", "abc"]);
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_refuse_all_are_still_tried() {
        let route = route();
        route.peers.iter().for_each(|peer| peer.refused());
        assert_eq!(lines(&route, 3), ["abc", "bca", "cab"]);
    }
}
