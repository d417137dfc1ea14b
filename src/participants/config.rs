//! Which participants there are and where they answer, checked before it is used.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use tercet_core::ids::ParticipantName;
use tonic::codegen::http::uri::{Authority, Uri};

use super::session::HEARTBEAT_DEFAULT;

/// Endpoints a participant may have: each may be tried within one call.
pub const ENDPOINTS_MAX: usize = 64;
/// The longest deadline of one call, in milliseconds: no transaction lives longer than a day.
pub const CALL_TIMEOUT_MS_MAX: u64 = 86_400_000;
/// The deadline of a Confirm, Cancel or Query, in milliseconds, where nothing else is configured.
pub const CALL_TIMEOUT_MS_DEFAULT: u64 = 3_000;
/// The largest payload a participant may return, in bytes, where nothing else is configured.
pub const PAYLOAD_BYTES_MAX_DEFAULT: usize = 64 * 1024;
/// The largest payload that can be configured, in bytes: a reply is held in memory whole.
pub const PAYLOAD_BYTES_MAX_MAX: usize = 16 * 1024 * 1024;

/// Everything that calls to participants are configured by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantsConfig {
    /// By the name that transactions use.
    pub participants: BTreeMap<ParticipantName, ParticipantConfig>,
    /// URIs that a method target may name directly.
    pub allowed_endpoints: Vec<String>,
    /// The largest result a participant may return, in bytes; a larger reply is indeterminate.
    pub payload_bytes_max: usize,
    /// How often both sides of a session say that they are there.
    pub session_heartbeat: Duration,
}

impl Default for ParticipantsConfig {
    fn default() -> Self {
        Self {
            participants: BTreeMap::new(),
            allowed_endpoints: Vec::new(),
            payload_bytes_max: PAYLOAD_BYTES_MAX_DEFAULT,
            session_heartbeat: HEARTBEAT_DEFAULT,
        }
    }
}

/// One participant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParticipantConfig {
    /// `http://HOST:PORT` each; calls take turns. All of them share one fence.
    pub endpoints: Vec<String>,
    /// Whether it may open sessions. A call then goes over one that has room, else to an endpoint.
    pub sessions: bool,
    /// The deadline of a Confirm, Cancel or Query, in milliseconds; a Try has its branch's own.
    pub call_timeout_ms: u64,
}

impl ParticipantConfig {
    /// A participant at these endpoints, everything else as usual.
    #[must_use]
    pub fn new(endpoints: Vec<String>) -> Self {
        Self {
            endpoints,
            sessions: false,
            call_timeout_ms: CALL_TIMEOUT_MS_DEFAULT,
        }
    }

    /// A participant that only opens sessions, everything else as usual.
    #[must_use]
    pub fn over_sessions() -> Self {
        Self {
            sessions: true,
            ..Self::new(Vec::new())
        }
    }
}

/// Why a configuration can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A participant that can't be reached.
    #[error(
        "participant {participant} has no endpoint and opens no sessions; give it an endpoint, like \
         http://127.0.0.1:50051, or set its sessions to true"
    )]
    NoEndpoint {
        /// Its name.
        participant: ParticipantName,
    },
    /// More endpoints than one call could try.
    #[error("participant {participant} has {len} endpoints; at most {ENDPOINTS_MAX} are allowed")]
    TooManyEndpoints {
        /// Its name.
        participant: ParticipantName,
        /// How many it has.
        len: usize,
    },
    /// An endpoint that is no usable URI.
    #[error("endpoint {endpoint:?} of {owner} can't be used: {why}")]
    Endpoint {
        /// `participant NAME` or `allowed_endpoints`.
        owner: String,
        /// As given.
        endpoint: String,
        /// What is wrong with it.
        why: EndpointError,
    },
    /// The same endpoint twice in one list.
    #[error("endpoint {endpoint} stands twice in {owner}; remove one of them")]
    Duplicate {
        /// `participant NAME` or `allowed_endpoints`.
        owner: String,
        /// Which one.
        endpoint: EndpointUri,
    },
    /// A deadline that is none.
    #[error(
        "call_timeout_ms of participant {participant} is {call_timeout_ms}; \
         it must be 1 to {CALL_TIMEOUT_MS_MAX}"
    )]
    CallTimeout {
        /// Its name.
        participant: ParticipantName,
        /// As given.
        call_timeout_ms: u64,
    },
    /// A limit that is none.
    #[error("payload_bytes_max is {0}; it must be 1 to {PAYLOAD_BYTES_MAX_MAX}")]
    PayloadBytesMax(usize),
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// Not a URI at all.
    #[error("it is not a URI ({0}); write http://HOST:PORT")]
    Syntax(String),
    /// `host:port` alone.
    #[error("it has no scheme; write http://HOST:PORT")]
    NoScheme,
    /// TLS comes later.
    #[error("https is not supported yet; use http:// within a network you trust")]
    Https,
    /// Another scheme.
    #[error("scheme {0:?} is not supported; use http")]
    Scheme(String),
    /// Credentials, an empty host or a port out of range.
    #[error("{0:?} is no host and port; write http://HOST:PORT")]
    Authority(String),
    /// A path or query: gRPC methods have paths of their own.
    #[error("it must end after the port, without {0:?}")]
    Path(String),
}

/// Where a server listens: `http://host:port`, in lower case, so that equal ones compare equal.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointUri(Arc<str>);

impl EndpointUri {
    /// Reads it from text.
    ///
    /// # Errors
    /// [`EndpointError`] says what is wrong.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let uri: Uri = text
            .parse()
            .map_err(|why| EndpointError::Syntax(format!("{why}")))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(EndpointError::Https),
            Some(other) => return Err(EndpointError::Scheme(other.into())),
            None => return Err(EndpointError::NoScheme),
        }
        let authority = uri.authority().map_or("", |it| it.as_str());
        if !is_host_and_port(&uri, authority) {
            return Err(EndpointError::Authority(authority.into()));
        }
        match uri.path_and_query().map_or("/", |it| it.as_str()) {
            "/" => Ok(Self(
                format!("http://{}", authority.to_ascii_lowercase()).into(),
            )),
            other => Err(EndpointError::Path(other.into())),
        }
    }

    /// `host:port`.
    pub(super) fn authority(&self) -> Authority {
        let (_, authority) = self.0.split_at("http://".len());
        let authority = authority.parse();
        authority.expect("it was one when the whole was parsed")
    }

    /// The text, normalized.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EndpointUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EndpointUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

fn is_host_and_port(uri: &Uri, authority: &str) -> bool {
    let host = uri.host().unwrap_or_default();
    match authority.strip_prefix(host) {
        Some("") => !host.is_empty(),
        Some(_) => !host.is_empty() && uri.port_u16().is_some_and(|port| port > 0),
        None => false,
    }
}

impl ParticipantsConfig {
    /// Whether it can be used.
    ///
    /// # Errors
    /// [`ConfigError`] names the first value that can't be, and what to write instead.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if !(1..=PAYLOAD_BYTES_MAX_MAX).contains(&self.payload_bytes_max) {
            return Err(ConfigError::PayloadBytesMax(self.payload_bytes_max));
        }
        for (name, participant) in &self.participants {
            participant.endpoints_of(name)?;
        }
        self.allowed()?;
        Ok(())
    }

    /// The allow-list, parsed.
    pub(super) fn allowed(&self) -> Result<Vec<EndpointUri>, ConfigError> {
        parse_all("allowed_endpoints", &self.allowed_endpoints)
    }
}

impl ParticipantConfig {
    /// Its endpoints, parsed.
    pub(super) fn endpoints_of(
        &self,
        name: &ParticipantName,
    ) -> Result<Vec<EndpointUri>, ConfigError> {
        let participant = name.clone();
        let call_timeout_ms = self.call_timeout_ms;
        if !(1..=CALL_TIMEOUT_MS_MAX).contains(&call_timeout_ms) {
            return Err(ConfigError::CallTimeout {
                participant,
                call_timeout_ms,
            });
        }
        match self.endpoints.len() {
            0 if !self.sessions => Err(ConfigError::NoEndpoint { participant }),
            len if len > ENDPOINTS_MAX => Err(ConfigError::TooManyEndpoints { participant, len }),
            _ => parse_all(&format!("participant {name}"), &self.endpoints),
        }
    }
}

fn parse_all(owner: &str, texts: &[String]) -> Result<Vec<EndpointUri>, ConfigError> {
    let mut parsed = Vec::with_capacity(texts.len());
    for text in texts {
        let endpoint = EndpointUri::parse(text).map_err(|why| ConfigError::Endpoint {
            owner: owner.into(),
            endpoint: text.clone(),
            why,
        })?;
        if parsed.contains(&endpoint) {
            let owner = owner.into();
            return Err(ConfigError::Duplicate { owner, endpoint });
        }
        parsed.push(endpoint);
    }
    Ok(parsed)
}
