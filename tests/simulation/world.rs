//! One world: its hosts, its faults, and what came of it.

use std::{
    cell::RefCell,
    panic,
    sync::{Arc, Once, atomic::Ordering},
    time::Duration,
};

use fastrand::Rng;
use tercet_core::check::Violation;
use turmoil::Sim;

use super::{
    client::{self, Load, Phase},
    clock::WallClock,
    coordinator::{self, Coordinator},
    faults::{Fault, Subject},
    history::{Ended, EndedBranch, Evidence, inside, violations},
    mood::Mood,
    participant::{Host, NAMES},
    parts::Parts,
    plan::Setup,
    store::Disk,
    tally::Tally,
    trace::{Trace, participant},
};

/// What came of one seed.
pub struct Verdict {
    /// Every invariant that doesn't hold.
    pub violations: Vec<Violation>,
    /// The same whenever the same happened in the same order.
    pub hash: u64,
    /// How often everything occurred.
    pub tally: Tally,
    /// Transactions sent.
    pub transactions: u64,
    /// Faults that found something unfinished.
    pub faults: usize,
    /// What became durable and what left, for whoever looks for a difference.
    pub inside: inside::Inside,
}

/// Runs one seed with these parts.
pub fn run_seed(seed: u64, parts: &Arc<Parts>) -> Verdict {
    let told = watch_panics();
    let mut rng = Rng::with_seed(seed);
    // What the product draws by itself: jitter, tokens.
    fastrand::seed(rng.u64(..));
    let (world, mut sim) = World::build(parts, &mut rng);
    let faults = world.live(&mut sim, &mut rng);
    let mut verdict = world.judge(faults);
    drop(sim);
    verdict.violations.extend(told.take());
    verdict
}

pub struct World {
    pub setup: Setup,
    pub coordinator: Arc<Coordinator>,
    pub participants: Vec<Arc<Host>>,
    pub load: Arc<Load>,
    pub trace: Trace,
}

impl World {
    fn build(parts: &Arc<Parts>, rng: &mut Rng) -> (Self, Sim<'static>) {
        let setup = Setup::draw(rng);
        let trace = Trace::default();
        let mut sim = turmoil::Builder::new()
            .rng_seed(rng.u64(..))
            .tick_duration(setup.tick)
            .min_message_latency(Duration::ZERO)
            .max_message_latency(Duration::ZERO)
            .simulation_duration(Duration::MAX)
            .tcp_capacity(1024)
            .build();
        let participants: Vec<_> = NAMES
            .map(|name| Arc::new(Host::new(name, &setup, parts, &trace, rng)))
            .into();
        let clock = WallClock::new(parts.epoch_ms);
        let coordinator = Arc::new(Coordinator {
            disk: Disk::new("simulated", &setup, rng.fork(), trace.clone()),
            clock: clock.clone(),
            trace: trace.clone(),
            setup: setup.clone(),
            stop: parking_lot::Mutex::default(),
        });
        let load = Arc::new(Load {
            phase: Phase::Load.into(),
            setup: setup.clone(),
            trace: trace.clone(),
            clock: WallClock::new(parts.epoch_ms),
            sent: 0.into(),
            calm: 0.into(),
        });

        for host in &participants {
            let host = Arc::clone(host);
            sim.host(host.name, move || {
                let host = Arc::clone(&host);
                async move { host.run().await }
            });
        }
        let (process, parts) = (Arc::clone(&coordinator), Arc::clone(parts));
        sim.host(coordinator::HOST, move || {
            let (process, parts) = (Arc::clone(&process), Arc::clone(&parts));
            async move { process.run(&parts).await }
        });
        for name in client::HOSTS {
            let (load, rng) = (Arc::clone(&load), rng.fork());
            sim.client(name, load.run(name, rng));
        }
        let world = Self {
            setup,
            coordinator,
            participants,
            load,
            trace,
        };
        (world, sim)
    }

    /// From the first transaction to the end of the last. Says how many faults found something
    /// unfinished.
    fn live(&self, sim: &mut Sim<'_>, rng: &mut Rng) -> usize {
        let faults = self.trouble(sim, rng);
        *self.load.phase.lock() = Phase::Quiet;
        self.setup.bad_luck.store(false, Ordering::Relaxed);
        // Connections that a partition has cut are found out by their pings.
        self.run_for(sim, DEAD_CONNECTIONS);

        let without = rng.bool().then(|| NAMES[rng.usize(..NAMES.len())]);
        if let Some(name) = without {
            self.mood(name, Mood::Stuck);
            self.trace.count("fault", "one stuck in the calm");
        }
        let within_ms = CALM_MS_MAX + CALM_TICKS_MAX * self.tick_ms();
        *self.load.phase.lock() = Phase::Calm { without, within_ms };
        // A client may come from a call it has long waited for; what it begins then has its time as well.
        let most = sim.elapsed() + Duration::from_millis(CALM_SPANS_MAX * within_ms);
        while !self.load.is_over() && sim.elapsed() < most {
            step(sim);
        }
        if let Some(name) = without {
            self.mood(name, Mood::Well);
        }

        let within = self.end_within();
        self.trace.healed(elapsed_ms(sim), ms(within));
        let most = sim.elapsed() + within;
        while !self.coordinator.disk.unfinished().is_empty() && sim.elapsed() < most {
            self.run_for(sim, self.setup.tick * 20);
        }
        faults
    }

    /// Load and faults, until there were enough of both.
    fn trouble(&self, sim: &mut Sim<'_>, rng: &mut Rng) -> usize {
        let mut hits = 0;
        let mut under_way: Vec<(Duration, Fault)> = Vec::new();
        let mut next = sim.elapsed() + self.setup.ms(1_000);
        let latest = sim.elapsed() + self.setup.ms(TROUBLE_MS_MAX);
        loop {
            let now = sim.elapsed();
            let (over, rest) = under_way.into_iter().partition(|(end, _)| *end <= now);
            under_way = rest;
            for (_, fault) in over as Vec<(Duration, Fault)> {
                self.trace.fault(ms(now), format!("over: {fault:?}"));
                fault.end(self, sim);
            }
            let enough = now > latest
                || hits >= self.setup.faults
                    && self.load.sent.load(Ordering::Relaxed) >= self.setup.transactions as u64;
            if enough && under_way.is_empty() {
                return hits;
            }
            if !enough && now >= next {
                let fault = Fault::draw(rng);
                let subjects: Vec<Subject> = under_way.iter().map(|(_, it)| it.subject()).collect();
                if !subjects.contains(&fault.subject()) && self.is_hit(&fault) {
                    hits += 1;
                    self.trace.count("fault", fault.to_string());
                    self.trace.fault(ms(now), format!("{fault:?}"));
                    fault.begin(self, sim);
                    let lasts = fault.lasts(rng) * u32::try_from(self.setup.scale).unwrap_or(1);
                    under_way.push((now + lasts, fault));
                    next = now + self.setup.ms(rng.u64(..4_500));
                }
            }
            step(sim);
        }
    }

    /// Whether it finds something unfinished that it can be felt by.
    fn is_hit(&self, fault: &Fault) -> bool {
        let unfinished = self.coordinator.disk.unfinished();
        let Some(name) = fault.participant() else {
            return !unfinished.is_empty();
        };
        let mut branches = unfinished.iter().flat_map(|it| &it.transaction.branches);
        branches.any(|it| participant(&it.spec.target) == name && it.state.owes().is_some())
    }

    fn run_for(&self, sim: &mut Sim<'_>, time: Duration) {
        let end = sim.elapsed() + time;
        while sim.elapsed() < end {
            step(sim);
        }
    }

    /// The longest that anything may take once all is well: a deadline or a provider's work, then
    /// the ladder's longest interval, some attempts that go wrong by chance, and a dead connection.
    fn end_within(&self) -> Duration {
        let interval = if self.setup.scale > 1 {
            Duration::from_secs(330)
        } else {
            self.setup.ms(2_200)
        };
        let deadline = self.setup.ms(25_000).max(self.work());
        deadline
            + LOOKED_AT
            + self.work() * 2
            + interval * 6
            + DEAD_CONNECTIONS
            + self.setup.ms(10_000)
    }

    fn work(&self) -> Duration {
        Duration::from_millis(self.setup.work_ms_max)
    }

    fn tick_ms(&self) -> u64 {
        ms(self.setup.tick)
    }

    pub fn mood(&self, name: &str, mood: Mood) {
        let host = self.participants.iter().find(|it| it.name == name);
        *host.expect("a participant of this name").moods.now.lock() = mood;
    }

    pub fn clock(&self, name: &str) -> &WallClock {
        let host = self.participants.iter().find(|it| it.name == name);
        host.map_or(&self.coordinator.clock, |host| &host.clock)
    }

    fn judge(&self, faults: usize) -> Verdict {
        let seen = self.trace.take();
        let ended = self.ended();
        let ledgers: Vec<_> = self.participants.iter().map(|it| it.ledger()).collect();
        let mut found = violations(&Evidence {
            history: &seen.history,
            intents: &seen.intents,
            ended: &ended,
            ledgers: &ledgers,
        });
        found.extend(inside::violations(&seen.inside));
        found.extend(seen.violations.iter().cloned());
        Verdict {
            violations: found,
            hash: seen.hash(),
            transactions: self.load.sent.load(Ordering::Relaxed),
            tally: seen.tally,
            faults,
            inside: seen.inside,
        }
    }

    /// Every transaction as it is on record.
    fn ended(&self) -> Vec<Ended> {
        let records = self.coordinator.disk.records();
        let ended = records.iter().map(|record| {
            let transaction = &record.transaction;
            let reasons: Vec<_> = transaction.attentions.iter().map(|it| it.reason).collect();
            Ended {
                id: record.id.as_str().into(),
                seen: super::history::Seen {
                    state: transaction.state,
                    outcome: transaction.outcome(),
                    mode: transaction.mode,
                    revision: record.revision,
                },
                branches: transaction
                    .branches
                    .iter()
                    .map(|it| EndedBranch {
                        id: it.spec.id.as_str().into(),
                        participant: participant(&it.spec.target).into(),
                        state: it.state,
                    })
                    .collect(),
                attention: (!reasons.is_empty()).then(|| format!("{reasons:?}")),
            }
        });
        ended.collect()
    }
}

/// The ping's interval and its timeout, and a little more.
const DEAD_CONNECTIONS: Duration = Duration::from_secs(35);
/// A world that takes nothing new has trouble no longer than this, in a fast world.
const TROUBLE_MS_MAX: u64 = 300_000;
/// After a restart with a clock set back, by then everything unfinished is looked at.
const LOOKED_AT: Duration = Duration::from_secs(480);
/// What a transaction may take when nothing is in its way: some time, and some steps of the network.
const CALM_MS_MAX: u64 = 1_500;
const CALM_TICKS_MAX: u64 = 60;
/// For how many times as long the calm lasts at most.
const CALM_SPANS_MAX: u64 = 10;

fn step(sim: &mut Sim<'_>) {
    sim.step().expect("no host of ours returns an error");
}

fn elapsed_ms(sim: &Sim<'_>) -> u64 {
    ms(sim.elapsed())
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

thread_local! {
    static PANICS: RefCell<Vec<Violation>> = const { RefCell::new(Vec::new()) };
}

/// A task that panics takes nothing else with it, and nobody would notice.
struct Panics;

fn watch_panics() -> Panics {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let detail = info.to_string();
            PANICS.with_borrow_mut(|panics| {
                panics.push(Violation {
                    invariant: "no panic",
                    detail,
                });
            });
            print(info);
        }));
    });
    PANICS.with_borrow_mut(Vec::clear);
    Panics
}

impl Panics {
    fn take(self) -> Vec<Violation> {
        PANICS.with_borrow_mut(std::mem::take)
    }
}
