//! What the coordinator is told: flags over environment over file over defaults.
//!
//! ```text
//! --listen ADDR            a flag, or --set KEY=VALUE for any key
//! TERCET_LISTEN=ADDR       the key in capitals, dots as underscores
//! listen = "ADDR"          the file, TOML
//! ```
//!
//! 1. It is read once, at the start; [`Config`] holds parsed values only, each within its limits.
//! 2. Every value knows where it came from ([`Origin`]).
//! 3. What is wrong is told all at once, each fault with its place and what to do about it.
//! 4. A key nobody knows is a fault: a limit that silently isn't set is worse than no start.
//!
//! The one thing that may change while running is where participants are ([`Sources::load`] again).

mod error;
mod file;
mod layers;
mod parse;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    ops::Deref,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tercet_core::ids::ParticipantName;

pub use self::error::{ConfigError, Fault};
use self::layers::Layers;

/// Where the settings are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file, if there is one. One that can't be read is an error.
    pub file: Option<PathBuf>,
    /// Environment variables; those whose names don't begin with `TERCET_` are left out, but for
    /// `RUST_LOG`.
    pub environment: Vec<(String, String)>,
    /// What the command line says.
    pub flags: Vec<FlagValue>,
}

/// One setting of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagValue {
    /// The key it sets, `participant` for one participant.
    pub key: String,
    /// The value's text.
    pub value: String,
    /// The flag, as the user writes it.
    pub flag: String,
}

impl Sources {
    /// Reads and checks them all.
    ///
    /// # Errors
    /// [`ConfigError`] lists everything that is wrong.
    pub fn load(&self) -> Result<Config, ConfigError> {
        Config::read(Layers::new(self)?)
    }
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of the file.
    File {
        /// Which file.
        path: Arc<Path>,
        /// Which line, counted from 1.
        line: usize,
    },
    /// An environment variable of this name.
    Environment(Arc<str>),
    /// A flag of this name.
    Flag(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// A value, and where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub origin: Origin,
}

impl<T> Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// Everything the coordinator is told, checked. `tercet.toml` explains each key.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where clients come in; port 0 takes any free one.
    pub listen: Setting<SocketAddr>,
    /// Where transactions are kept.
    pub store: Setting<StoreLocation>,
    /// The participants by name.
    pub participants: BTreeMap<ParticipantName, Participant>,
    /// Endpoints that a request may name itself.
    pub allowed_endpoints: Setting<Vec<String>>,
    /// How long one Confirm, Cancel or Query may take, where the participant says nothing else.
    pub call_timeout: Setting<Duration>,
    /// How often both sides of a session say that they are there.
    pub session_heartbeat: Setting<Duration>,
    /// New transactions in flight, past which more are refused.
    pub inflight_max: Setting<usize>,
    /// Transactions that recovery drives at the same time.
    pub recovery_inflight_max: Setting<usize>,
    /// How long a finished transaction is kept whole.
    pub retention: Setting<Duration>,
    /// How much longer its id is kept from running again.
    pub id_retention: Setting<Duration>,
    /// How long calls in flight may take to end at shutdown.
    pub drain: Setting<Duration>,
    /// Where metrics are served; none: they aren't.
    pub metrics_listen: Setting<Option<SocketAddr>>,
    /// Which log lines are written, as `RUST_LOG` has it.
    pub log: Setting<String>,
    /// How log lines look.
    pub log_format: Setting<LogFormat>,
    /// What a request may be.
    pub limits: Limits,
    shown: Vec<Shown>,
}

/// What a request may be; enforced at the door.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Branches of one transaction.
    pub branches: Setting<usize>,
    /// One payload, in bytes; a participant's result too.
    pub payload_bytes: Setting<usize>,
    /// One request in all, in bytes.
    pub request_bytes: Setting<usize>,
    /// Labels of one transaction, and switches.
    pub labels: Setting<usize>,
    /// A label's key, in bytes.
    pub label_key_bytes: Setting<usize>,
    /// A label's value, in bytes.
    pub label_value_bytes: Setting<usize>,
    /// The shortest time to decision that may be asked for.
    pub timeout_min: Setting<Duration>,
    /// The longest time to decision that may be asked for.
    pub timeout_max: Setting<Duration>,
    /// The time to decision when none is asked for.
    pub timeout_default: Setting<Duration>,
    /// The time for one Try when none is asked for.
    pub try_timeout_default: Setting<Duration>,
    /// The longest a caller is kept waiting.
    pub wait_max: Setting<Duration>,
    /// Transactions on a page when no number is asked for.
    pub page_default: Setting<usize>,
    /// Transactions on a page at most.
    pub page_max: Setting<usize>,
    /// Calls at the same time on one connection.
    pub connection_calls: Setting<u32>,
}

/// Where transactions are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreLocation {
    /// Nowhere: for trials only, everything is lost at the end.
    Memory,
    /// The embedded store in this directory.
    Sled(PathBuf),
}

impl fmt::Display for StoreLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Sled(directory) => write!(f, "sled:{}", directory.display()),
        }
    }
}

impl std::str::FromStr for StoreLocation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        parse::store(text)
    }
}

/// Where one participant is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Participant {
    /// Its endpoints, `http://host:port` each; one at least, unless it opens sessions.
    pub endpoints: Setting<Vec<String>>,
    /// Whether it may connect by itself, and be called over that connection.
    pub sessions: Setting<bool>,
    /// How long one Confirm, Cancel or Query may take.
    pub call_timeout: Setting<Duration>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// One value, as `tercet config show` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its full key, for example `limits.branches`.
    pub key: String,
    /// Its text, as it was given.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

impl Config {
    /// All defaults: no participant, and nothing to say about it.
    #[must_use]
    pub fn defaults() -> Self {
        let layers = Layers::new(&Sources::default()).expect("nothing is read");
        Self::read(layers).expect("the defaults are valid, which a test shows")
    }

    /// Every value with where it came from, in the order of `tercet.toml`.
    #[must_use]
    pub fn shown(&self) -> &[Shown] {
        &self.shown
    }

    /// The only list of keys there is: each with its default and how it is read.
    fn read(mut layers: Layers) -> Result<Self, ConfigError> {
        let it = &mut layers;
        let listen = it.take("listen", "127.0.0.1:7070", parse::address);
        let store = it.take("store", "sled:./tercet-data", parse::store);
        let allowed_endpoints = it.take("allowed_endpoints", "", parse::endpoints);
        let call_timeout = it.take("call_timeout", "3s", parse::timeout);
        let session_heartbeat = it.take("session_heartbeat", "5s", parse::heartbeat);
        let inflight_max = it.take("inflight_max", "4096", parse::number(1, 1_000_000));
        let recovery_inflight_max =
            it.take("recovery_inflight_max", "1024", parse::number(1, 1_000_000));
        let retention = it.take("retention", "7days", parse::retention);
        let id_retention = it.take("id_retention", "30days", parse::retention);
        let drain = it.take("drain", "5s", parse::duration);
        let metrics_listen = it.take("metrics_listen", "off", parse::optional_address);
        let log = it.take("log", "info", parse::log);
        let log_format = it.take("log_format", "auto", parse::log_format);
        let limits = Limits::read(it);
        let participants = it.take_participants(&call_timeout);
        let shown = layers.finish()?;
        Ok(Self {
            listen,
            store,
            participants,
            allowed_endpoints,
            call_timeout,
            session_heartbeat,
            inflight_max,
            recovery_inflight_max,
            retention,
            id_retention,
            drain,
            metrics_listen,
            log,
            log_format,
            limits,
            shown,
        })
    }
}

impl Limits {
    fn read(it: &mut Layers) -> Self {
        // The store's own limit on a payload is 64 KiB: larger ones would be refused too late.
        const PAYLOAD_BYTES_MAX: usize = 64 * 1024;
        const REQUEST_BYTES_MAX: usize = 64 * 1024 * 1024;
        let limits = Self {
            branches: it.take("limits.branches", "64", parse::number(1, 64)),
            payload_bytes: it.take(
                "limits.payload_bytes",
                "65536",
                parse::number(1, PAYLOAD_BYTES_MAX),
            ),
            request_bytes: it.take(
                "limits.request_bytes",
                "1048576",
                parse::number(1, REQUEST_BYTES_MAX),
            ),
            labels: it.take("limits.labels", "16", parse::number(0, 64)),
            label_key_bytes: it.take("limits.label_key_bytes", "63", parse::number(1, 256)),
            label_value_bytes: it.take("limits.label_value_bytes", "256", parse::number(1, 1024)),
            timeout_min: it.take("limits.timeout_min", "1s", parse::timeout),
            timeout_max: it.take("limits.timeout_max", "24h", parse::timeout),
            timeout_default: it.take("limits.timeout_default", "30s", parse::timeout),
            try_timeout_default: it.take("limits.try_timeout_default", "3s", parse::timeout),
            wait_max: it.take("limits.wait_max", "60s", parse::timeout),
            page_default: it.take("limits.page_default", "50", parse::number(1, 10_000)),
            page_max: it.take("limits.page_max", "500", parse::number(1, 10_000)),
            connection_calls: it.take("limits.connection_calls", "200", parse::number(1, 100_000)),
        };
        it.in_order(
            "limits.timeout_min",
            &limits.timeout_min,
            "limits.timeout_default",
            &limits.timeout_default,
        );
        it.in_order(
            "limits.timeout_default",
            &limits.timeout_default,
            "limits.timeout_max",
            &limits.timeout_max,
        );
        it.in_order(
            "limits.page_default",
            &limits.page_default,
            "limits.page_max",
            &limits.page_max,
        );
        limits
    }
}

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
