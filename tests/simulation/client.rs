//! Clients: each sends one transaction after another, asks about it in some way or other, and gives
//! up whenever it feels like it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use fastrand::Rng;
use parking_lot::Mutex;
use tercet_core::{outcome::Decision, transaction::State};
use tercet_sdk::client::{Change, Client, Tried};
use tokio::{task::JoinSet, time::timeout};
use tonic::transport::Endpoint;

use super::{
    clock::WallClock,
    coordinator,
    history::Answer,
    participant::NAMES,
    plan::{Plan, Setup, resource, take},
    told,
    trace::Trace,
    wires::Wires,
};

pub const HOSTS: [&str; 2] = ["near", "far"];
/// Clients on each host.
const CLIENTS: usize = 4;
/// More than all clients together have in flight.
const CROWD: usize = 100;
/// How long one waits for who is stuck.
const VICTIM: Duration = Duration::from_secs(5);
/// How long an id protects, as the clients have it: clocks that jump may pass it, but not in the calm.
const PROTECTION: Duration = Duration::from_secs(30 * 60);
const PROTECTION_CALM: Duration = Duration::from_secs(24 * 60 * 60);

/// What the clients are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// One transaction after another.
    Load,
    /// Nothing new.
    Quiet,
    /// One transaction each that nothing is in the way of, at these participants only.
    Calm {
        without: Option<&'static str>,
        within_ms: u64,
    },
}

/// What all clients share.
pub struct Load {
    pub phase: Mutex<Phase>,
    pub setup: Setup,
    pub trace: Trace,
    pub clock: WallClock,
    /// Transactions sent.
    pub sent: AtomicU64,
    /// Clients that have done what they were to do in the calm.
    pub calm: AtomicUsize,
}

impl Load {
    /// Whether every client is through with the calm.
    pub fn is_over(&self) -> bool {
        self.calm.load(Ordering::Relaxed) == HOSTS.len() * CLIENTS
    }

    /// The clients of one host.
    pub async fn run(self: Arc<Self>, host: &'static str, mut rng: Rng) -> turmoil::Result {
        let url = format!("http://{}:{}", coordinator::HOST, coordinator::PORT);
        let endpoint = Endpoint::from_shared(url)?
            .connect_timeout(Duration::from_secs(5))
            .http2_keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(10))
            .keep_alive_while_idle(true);
        let wires = Wires::new(host, &self.setup);
        let client = || {
            let clock = self.clock.clone();
            Client::from_channel(wires.channel(&endpoint)).clock(move || clock.now())
        };
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let one = One {
                number,
                load: Arc::clone(&self),
                client: client(),
                rival: client(),
                rng: rng.fork(),
            };
            clients.spawn(one.run());
        }
        while let Some(client) = clients.join_next().await {
            client?;
        }
        Ok(())
    }

    fn next_id(&self) -> String {
        format!("t{}", self.sent.fetch_add(1, Ordering::Relaxed))
    }

    fn intend(&self, plan: &Plan) {
        self.trace.intend(plan.intent.clone());
    }
}

struct One {
    number: usize,
    load: Arc<Load>,
    client: Client,
    /// Another connection, so that no two calls are out on one.
    rival: Client,
    rng: Rng,
}

impl One {
    async fn run(mut self) {
        while self.phase() == Phase::Load {
            self.transaction().await;
            let pause = self.ms(0..3_000);
            tokio::time::sleep(pause).await;
        }
        let (without, within_ms) = loop {
            if let Phase::Calm { without, within_ms } = self.phase() {
                break (without, within_ms);
            }
            let pause = self.ms(10..500);
            tokio::time::sleep(pause).await;
        };
        match without {
            // Enough of them would keep everybody out where little may be in flight.
            Some(stuck) if self.number % 2 == 1 && self.load.setup.inflight_max > CROWD => {
                self.victim(stuck).await;
            }
            _ => self.calm(without, within_ms).await,
        }
        self.load.calm.fetch_add(1, Ordering::Relaxed);
    }

    fn phase(&self) -> Phase {
        *self.load.phase.lock()
    }

    fn ms(&mut self, range: std::ops::Range<u64>) -> Duration {
        let ms = self.rng.u64(range);
        self.load.setup.ms(ms)
    }

    async fn transaction(&mut self) {
        let plan = Plan::draw(self.load.next_id(), &self.load.setup, &mut self.rng);
        self.load.intend(&plan);
        if self.rng.u8(..20) == 0 {
            self.rollback(&plan).await; // before it is known
        }
        let answer = match (plan.intent.interactive, self.rng.u8(..12)) {
            (true, _) => self.interact(&plan).await,
            (false, 0) => self.race(&plan).await,
            (false, _) => self.submit(&plan).await,
        };
        for _ in 0..self.rng.u8(..4) {
            let pause = self.ms(0..1_500);
            tokio::time::sleep(pause).await;
            self.ask(&plan, answer).await;
        }
    }

    async fn ask(&mut self, plan: &Plan, answer: Answer) {
        let submitted = !plan.intent.interactive;
        let is_known = matches!(answer, Answer::Shown(_) | Answer::Accepted);
        match self.rng.u8(..16) {
            0..4 => drop(self.get(plan).await),
            4..6 => drop(self.wait(plan).await),
            6..8 => self.watch(plan).await,
            8..10 => self.list(plan).await,
            10..13 if submitted => drop(self.submit(plan).await),
            13 if submitted && is_known => self.submit_other(plan).await,
            14 => self.rollback(plan).await,
            _ => {}
        }
    }

    /// Waits for a call, but not for ever.
    async fn call(&mut self, id: &str, call: impl Future<Output = Answer>) -> Answer {
        let patience = match self.rng.u8(..6) {
            0 => self.ms(20..3_000),
            _ => self.load.setup.ms(20_000),
        };
        let call = async { timeout(patience, call).await.unwrap_or(Answer::Unknown) };
        self.load.trace.call(id, call).await
    }

    fn expires_in(&self, protection: Duration) -> SystemTime {
        self.load.clock.now() + protection
    }

    async fn submit(&mut self, plan: &Plan) -> Answer {
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        trace.kind(plan);
        let (client, submit) = (
            self.client.clone(),
            plan.submit(self.expires_in(PROTECTION)),
        );
        let call = async { told::outcome_of(trace, plan, client.submit(&submit).await) };
        self.call(plan.id(), call).await
    }

    /// Something else, under an id that is taken.
    async fn submit_other(&mut self, plan: &Plan) {
        let other = plan.other(&mut self.rng);
        self.load.trace.count("client", "reused an id");
        self.submit(&other).await;
    }

    /// Two at the same time, under one id.
    async fn race(&mut self, plan: &Plan) -> Answer {
        let other = plan.other(&mut self.rng);
        self.load.intend(&other);
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        trace.count("client", "raced for an id");
        let client = self.rival.clone();
        let rival = other.submit(self.expires_in(PROTECTION));
        let rival = async {
            let told = async { told::outcome_of(trace, &other, client.submit(&rival).await) };
            trace.call(other.id(), told).await
        };
        let (answer, _) = tokio::join!(biased; self.submit(plan), rival);
        answer
    }

    async fn get(&mut self, plan: &Plan) -> Answer {
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        let client = self.client.clone();
        let call = async { told::shown(trace, client.get(plan.id()).await) };
        self.call(plan.id(), call).await
    }

    async fn wait(&mut self, plan: &Plan) -> Answer {
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        let client = self.client.clone();
        let call = async { told::outcome(trace, client.wait(plan.id(), plan.wait).await) };
        self.call(plan.id(), call).await
    }

    /// What a watch shows may be older than what others know by then. But it never goes back.
    async fn watch(&mut self, plan: &Plan) {
        let mut watch = self.client.watch(plan.id());
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        let call = async {
            let mut last = (0, State::Trying);
            while let Some(change) = watch.next().await {
                let now = match change {
                    Ok(Change::Snapshot(it)) => (it.revision(), told::state(it.state())),
                    Ok(Change::Event(event)) => (event.revision, told::state(event.state())),
                    Err(error) => return told::error(trace, &error),
                };
                trace.count("client", "saw a change");
                trace.watched(plan.id(), last, now);
                last = now;
            }
            match last.1.decision() {
                Some(decision) => Answer::Decided(decision),
                None => Answer::Unknown,
            }
        };
        self.call(plan.id(), call).await;
        self.get(plan).await;
    }

    /// A list has everything in it that was known before.
    async fn list(&mut self, plan: &Plan) {
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        let client = self.client.clone();
        let call = async {
            match client.list("", 500, None).await {
                Ok(page) => {
                    let mut listed = page.transactions.iter();
                    match listed.find(|it| it.id() == plan.id()) {
                        Some(transaction) => Answer::Shown(told::seen(transaction)),
                        None => Answer::NotFound,
                    }
                }
                Err(error) => told::error(trace, &error),
            }
        };
        trace.count("client", "listed");
        self.call(plan.id(), call).await;
    }

    async fn rollback(&mut self, plan: &Plan) {
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        let client = self.client.clone();
        let call = async {
            told::outcome(
                trace,
                client
                    .rollback(plan.id(), "the client says so", plan.wait)
                    .await,
            )
        };
        trace.count("client", "rolled back");
        self.call(plan.id(), call).await;
    }

    async fn interact(&mut self, plan: &Plan) -> Answer {
        let load = Arc::clone(&self.load);
        let trace = &load.trace;
        trace.kind(plan);
        let client = self.client.clone();
        let mut begun = None;
        let begin = async {
            match client.begin_with(plan.id(), &plan.options).await {
                Ok(transaction) => {
                    begun = Some(transaction);
                    Answer::Accepted
                }
                Err(error) => told::error(trace, &error),
            }
        };
        let answer = self.call(plan.id(), begin).await;
        let Some(mut transaction) = begun else {
            return answer;
        };
        transaction.set_wait(plan.wait);
        for branch in &plan.intent.branches {
            let (name, request) = (&branch.participant, take(branch));
            let tried = transaction.try_branch(&branch.id, name, resource(branch), &request);
            let tried = async {
                match tried.await {
                    Ok(Tried::Failed(_)) => Answer::Decided(Decision::Cancel),
                    Ok(Tried::Success(_) | Tried::Processing) => Answer::Accepted,
                    Err(error) => told::error(trace, &error),
                }
            };
            if self.call(plan.id(), tried).await != Answer::Accepted && self.rng.bool() {
                self.rollback(plan).await;
                return answer;
            }
        }
        match self.rng.u8(..10) {
            0 => answer, // left to its deadline
            1 => {
                self.rollback(plan).await;
                answer
            }
            _ => {
                let commit = async { told::outcome(trace, transaction.commit().await) };
                self.call(plan.id(), commit).await
            }
        }
    }

    /// One that has to wait for a participant that is stuck, and not in anybody's way.
    async fn victim(&mut self, stuck: &'static str) {
        let plan = Plan::calm(self.load.next_id(), &[stuck], &mut self.rng);
        self.load.intend(&plan);
        let submit = plan.submit(self.expires_in(PROTECTION_CALM));
        let told =
            async { told::outcome_of(&self.load.trace, &plan, self.client.submit(&submit).await) };
        let told = async { timeout(VICTIM, told).await.unwrap_or(Answer::Unknown) };
        self.load.trace.call(plan.id(), told).await;
    }

    async fn calm(&mut self, without: Option<&'static str>, within_ms: u64) {
        let mut names: Vec<_> = NAMES.into_iter().collect();
        names.retain(|name| Some(*name) != without);
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.usize(1..=names.len()));
        let plan = Plan::calm(self.load.next_id(), &names, &mut self.rng);
        self.load.intend(&plan);
        let invariant = if without.is_some() { "L3" } else { "L4" };
        self.load.trace.expect(plan.id(), within_ms, invariant);
        let submit = plan.submit(self.expires_in(PROTECTION_CALM));
        let told =
            async { told::outcome_of(&self.load.trace, &plan, self.client.submit(&submit).await) };
        self.load.trace.call(plan.id(), told).await;
    }
}
