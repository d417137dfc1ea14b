//! A participant: the SDK's, over a database that survives it, on a host that has its moods.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tercet::engine::Clock as _;
use tercet_sdk::participant::{
    Branch, Later, Participant, Progress, Remote, Resource, TryError, refuse,
};
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::{Service, layer::layer_fn};

use super::{
    books::{Books, OUTSIDE, PLENTY, Provider, Reply, SCARCE, Take},
    clock::WallClock,
    fence::SimFence,
    history::Ledger,
    parts::Parts,
    plan::Setup,
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

/// What is late is so much later than what is slow.
const LATE_FACTOR: u64 = 4;

const PLENTY_OPENING: i64 = 1_000_000;
const SCARCE_OPENING: i64 = 12;

/// How a participant treats its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Takes calls, and neither does nor answers anything.
    Stuck,
    /// Does what it is asked, and half of its replies are lost.
    LosesReplies,
    /// Half of its calls end with some error, before or after they were done.
    Fails,
    /// Answers UNIMPLEMENTED to Query.
    CantBeAsked,
    /// Refuses every Confirm and Cancel.
    RefusesToEnd,
    /// Takes its time for every call.
    Slow,
    /// Does half of what it is asked when nobody expects it any more.
    Late,
}

/// What a participant runs with, over its restarts.
pub struct Host {
    pub name: &'static str,
    pub fence: SimFence,
    pub provider: Provider,
    pub clock: WallClock,
    pub mood: Arc<Mutex<Mood>>,
    pub setup: Setup,
    pub trace: Trace,
    pub rng: Arc<Mutex<Rng>>,
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
            mood: Arc::default(),
            setup: setup.clone(),
            trace: trace.clone(),
            rng: Arc::new(Mutex::new(rng.fork())),
        }
    }

    /// One process, until somebody ends it.
    pub async fn run(&self) -> turmoil::Result {
        let clock = self.clock.clone();
        let participant = Participant::new(self.name, self.fence.clone())
            .clock(move || clock.unix_ms())
            .resource(Shelf {
                mood: Arc::clone(&self.mood),
            })
            .remote(Charge {
                provider: self.provider.clone(),
                mood: Arc::clone(&self.mood),
            });
        let service = participant.into_service()?;
        let moody = |inner| Moody {
            inner,
            mood: Arc::clone(&self.mood),
            rng: Arc::clone(&self.rng),
            slow_ms_max: self.setup.slow_ms_max,
            trace: self.trace.clone(),
        };
        let served = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(Duration::from_secs(20)))
            .http2_keepalive_timeout(Some(Duration::from_secs(10)))
            .layer(layer_fn(moody))
            .add_service(service)
            .serve_with_incoming(Wires::new(self.name, &self.setup).incoming(PORT).await);
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

/// The participant's calls, as its mood has them.
#[derive(Clone)]
struct Moody<S> {
    inner: S,
    mood: Arc<Mutex<Mood>>,
    rng: Arc<Mutex<Rng>>,
    slow_ms_max: u64,
    trace: Trace,
}

impl<S> Service<Request<Body>> for Moody<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut inner = self.inner.clone();
        let mood = *self.mood.lock();
        let (luck, slow_ms) = {
            let mut rng = self.rng.lock();
            (rng.u8(..4), rng.u64(..self.slow_ms_max))
        };
        let is_query = request.uri().path().ends_with("/Query");
        let trace = self.trace.clone();
        Box::pin(async move {
            match (mood, luck) {
                (Mood::Stuck, _) => {
                    trace.count("call", "stuck");
                    std::future::pending().await
                }
                (Mood::Fails, 0) => {
                    trace.count("call", "error before it was done");
                    Ok(Status::unavailable("not now").into_http())
                }
                (Mood::Fails, 1) => {
                    trace.count("call", "error after it was done");
                    inner.call(request).await?;
                    Ok(Status::new(Code::Internal, "something went wrong").into_http())
                }
                (Mood::LosesReplies, 0..2) => {
                    trace.count("call", "reply lost");
                    inner.call(request).await?;
                    std::future::pending().await
                }
                (Mood::CantBeAsked, _) if is_query => {
                    trace.count("call", "query unimplemented");
                    Ok(Status::unimplemented("no such method").into_http())
                }
                (Mood::Slow, _) => {
                    trace.count("call", "slow");
                    tokio::time::sleep(Duration::from_millis(slow_ms)).await;
                    inner.call(request).await
                }
                (Mood::Late, 0..2) => {
                    trace.count("call", "done late");
                    // Of its own, so that nobody who gives the call up takes it back.
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(LATE_FACTOR * slow_ms)).await;
                        inner.call(request).await
                    });
                    std::future::pending().await
                }
                _ => inner.call(request).await,
            }
        })
    }
}
