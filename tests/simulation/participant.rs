//! A participant: the SDK's, over a database that survives it, on a host that has its moods.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use parking_lot::Mutex;
use tercet::engine::Clock as _;
use tercet_sdk::participant::{
    Branch, Later, Participant, Progress, Remote, Resource, TryError, refuse,
};
use tower::layer::layer_fn;

use super::{
    books::{Books, OUTSIDE, PLENTY, Provider, Reply, SCARCE, Take},
    clock::WallClock,
    fence::SimFence,
    history::Ledger,
    mood::{Mood, Moods, Moody},
    parts::Parts,
    plan::Setup,
    session,
    trace::Trace,
    wires::Wires,
};

pub const NAMES: [&str; 3] = ["stock", "money", "depot"];
pub const PORT: u16 = 9000;
/// Resources: one in the database, one with the provider.
pub const TAKE: &str = "take";
pub const CHARGE: &str = "charge";
/// The least that a participant asks for when it answers PROCESSING; the SDK's own default.
pub const RETRY_AFTER_MS_MIN: u64 = 1_000;

const PLENTY_OPENING: i64 = 1_000_000;
const SCARCE_OPENING: i64 = 12;

/// What a participant runs with, over its restarts.
pub struct Host {
    pub name: &'static str,
    pub fence: SimFence,
    pub provider: Provider,
    pub clock: WallClock,
    pub moods: Moods,
    pub setup: Setup,
}

impl Host {
    pub fn new(
        name: &'static str,
        setup: &Setup,
        parts: &Parts,
        trace: &Trace,
        rng: &mut Rng,
    ) -> Self {
        let books = Books::open(&[(PLENTY, PLENTY_OPENING), (SCARCE, SCARCE_OPENING)]);
        Self {
            name,
            fence: SimFence::new(books, Arc::clone(&parts.fence), setup, rng.fork()),
            provider: Provider::new(PLENTY_OPENING, setup.work_ms_max, rng.fork()),
            clock: WallClock::new(parts.epoch_ms),
            moods: Moods {
                now: Arc::default(),
                rng: Arc::new(Mutex::new(rng.fork())),
                slow_ms_max: setup.slow_ms_max,
                trace: trace.clone(),
            },
            setup: setup.clone(),
        }
    }

    /// One process, until somebody ends it.
    pub async fn run(&self) -> turmoil::Result {
        let clock = self.clock.clone();
        let participant = Participant::new(self.name, self.fence.clone())
            .clock(move || clock.unix_ms())
            .resource(Shelf {
                mood: Arc::clone(&self.moods.now),
            })
            .remote(Charge {
                provider: self.provider.clone(),
                mood: Arc::clone(&self.moods.now),
            });
        let (wires, moods) = (Wires::new(self.name, &self.setup), self.moods.clone());
        if self.setup.connects_out(self.name) {
            moods.trace.count("participant", "connects out");
            let channel = session::channel(&wires, moods);
            let never = std::future::pending();
            return Ok(participant.connect_with_channel(channel, never).await?);
        }
        moods.trace.count("participant", "serves");
        let moody = move |inner| Moody {
            inner,
            moods: moods.clone(),
        };
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .layer(layer_fn(moody))
            .add_service(participant.into_service()?)
            .serve_with_incoming(wires.incoming(PORT).await);
        Ok(served.await?)
    }

    /// What it holds in the end.
    pub fn ledger(&self) -> Ledger {
        let (books, rows) = self.fence.contents();
        let outside = self.provider.books();
        let accounts = books.accounts.values().chain(outside.accounts.values());
        let effects = books.effects.iter().chain(&outside.effects);
        Ledger {
            participant: self.name.into(),
            accounts: accounts.cloned().collect(),
            effects: effects.map(|effect| (**effect).clone()).collect(),
            rows,
        }
    }
}

/// Accounts in the fence's own database.
struct Shelf {
    mood: Arc<Mutex<Mood>>,
}

impl Resource<Books> for Shelf {
    const NAME: &'static str = TAKE;
    type Request = Take;
    type Held = Take;

    async fn on_try(&self, db: &mut Books, branch: &Branch, take: Take) -> Result<Take, TryError> {
        if db.reserve(branch, &take) {
            Ok(take)
        } else {
            Err(refuse("NOTHING_LEFT").with("account", &take.account))
        }
    }

    async fn on_confirm(&self, db: &mut Books, branch: &Branch, held: Take) -> Result<(), Later> {
        willing(&self.mood)?;
        db.consume(branch, &held);
        Ok(())
    }

    async fn on_cancel(&self, db: &mut Books, branch: &Branch, held: Take) -> Result<(), Later> {
        willing(&self.mood)?;
        db.release(branch, &held);
        Ok(())
    }
}

fn willing(mood: &Mutex<Mood>) -> Result<(), Later> {
    match *mood.lock() {
        Mood::RefusesToEnd => Err(Later::refused("NOT_TODAY")),
        _ => Ok(()),
    }
}

/// An account with the provider.
struct Charge {
    provider: Provider,
    mood: Arc<Mutex<Mood>>,
}

impl Remote for Charge {
    const NAME: &'static str = CHARGE;
    type Request = Take;
    type Held = Take;

    async fn on_try(&self, branch: &Branch, take: Take) -> Result<Progress<Take>, TryError> {
        match self.provider.reserve(branch, &take) {
            Reply::Progress(Progress::Done(())) => Ok(Progress::Done(take)),
            Reply::Progress(Progress::Processing { retry_after }) => {
                Ok(Progress::Processing { retry_after })
            }
            Reply::Refused => Err(refuse("NOTHING_LEFT").with("account", OUTSIDE)),
            Reply::Unknown => Err(TryError::indeterminate("the provider is confused")),
        }
    }

    async fn on_confirm(&self, branch: &Branch, held: Take) -> Result<Progress<()>, Later> {
        willing(&self.mood)?;
        ended(self.provider.consume(branch, &held))
    }

    async fn on_cancel(
        &self,
        branch: &Branch,
        take: Take,
        _held: Option<Take>,
    ) -> Result<Progress<()>, Later> {
        willing(&self.mood)?;
        ended(self.provider.release(branch, &take))
    }
}

fn ended(reply: Reply) -> Result<Progress<()>, Later> {
    match reply {
        Reply::Progress(progress) => Ok(progress),
        Reply::Refused => Err(Later::refused("NOT_TODAY")),
        Reply::Unknown => Err(Later::indeterminate("the provider doesn't know of it")),
    }
}
