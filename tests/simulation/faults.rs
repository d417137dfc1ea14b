//! What goes wrong in a world: each fault has a beginning and an end, and counts only if it finds
//! something unfinished.

use std::{fmt, time::Duration};

use fastrand::Rng;
use turmoil::Sim;

use super::{client, coordinator, mood::Mood, participant::NAMES, world::World};

/// One fault.
#[derive(Clone, Debug)]
pub enum Fault {
    /// A process is gone from one moment to the next.
    Crash(&'static str),
    /// The coordinator is asked to end.
    Shutdown,
    /// The store fails at one of the next commits, which is durable or not.
    BreakStore { durable: bool },
    /// Nothing gets through between the two; what is under way is lost.
    Partition(&'static str, &'static str),
    /// Nothing gets through from one to the other.
    PartitionOneWay(&'static str, &'static str),
    /// What is under way arrives when it is over.
    Hold(&'static str, &'static str),
    /// What is sent arrives late.
    SlowLink(&'static str, &'static str),
    /// A wall clock jumps.
    ClockJump { host: &'static str, by_ms: i64 },
    /// A participant is not what it should be.
    Mood(&'static str, Mood),
}

impl Fault {
    pub fn draw(rng: &mut Rng) -> Self {
        let name = NAMES[rng.usize(..NAMES.len())];
        let client = client::HOSTS[rng.usize(..client::HOSTS.len())];
        let peer = if rng.u8(..4) == 0 { client } else { name };
        let (from, to) = if rng.bool() {
            (coordinator::HOST, peer)
        } else {
            (peer, coordinator::HOST)
        };
        match rng.u8(..26) {
            0..4 => Fault::Crash(coordinator::HOST),
            4..6 => Fault::Crash(name),
            6 => Fault::Shutdown,
            7..9 => Fault::BreakStore {
                durable: rng.bool(),
            },
            9 => Fault::Partition(from, to),
            10 => Fault::PartitionOneWay(from, to),
            11..13 => Fault::Hold(from, to),
            13 => Fault::SlowLink(from, to),
            14..16 => Fault::ClockJump {
                host: [coordinator::HOST, name][rng.usize(..2)],
                by_ms: rng.i64(-JUMP_MS_MAX..JUMP_MS_MAX),
            },
            16 => Fault::Mood(name, Mood::Stuck),
            17..19 => Fault::Mood(name, Mood::LosesReplies),
            19..21 => Fault::Mood(name, Mood::Fails),
            21 => Fault::Mood(name, Mood::CantBeAsked),
            22 => Fault::Mood(name, Mood::RefusesToEnd),
            23 => Fault::Mood(name, Mood::Slow),
            _ => Fault::Mood(name, Mood::Late),
        }
    }

    /// How long it lasts; nothing at all for what happens once.
    pub fn lasts(&self, rng: &mut Rng) -> Duration {
        let ms = match self {
            Fault::ClockJump { .. } => 0,
            Fault::Crash(_) | Fault::Shutdown | Fault::BreakStore { .. } => rng.u64(100..4_000),
            Fault::Partition(..) | Fault::PartitionOneWay(..) => rng.u64(500..6_000),
            Fault::Hold(..) | Fault::SlowLink(..) => rng.u64(200..5_000),
            Fault::Mood(..) => rng.u64(1_000..8_000),
        };
        Duration::from_millis(ms)
    }

    pub fn begin(&self, world: &World, sim: &mut Sim<'_>) {
        match *self {
            Fault::Crash(host) => sim.crash(host),
            Fault::Shutdown => world.coordinator.stop.lock().cancel(),
            Fault::BreakStore { durable } => world.coordinator.disk.break_soon(1, durable),
            Fault::Partition(a, b) => sim.partition(a, b),
            Fault::PartitionOneWay(from, to) => sim.partition_oneway(from, to),
            Fault::Hold(a, b) => sim.hold(a, b),
            Fault::SlowLink(a, b) => {
                sim.set_link_latency(a, b, world.setup.ms(SLOW_LINK_MS));
            }
            Fault::ClockJump { host, by_ms } => world.clock(host).jump(by_ms),
            Fault::Mood(name, mood) => world.mood(name, mood),
        }
    }

    pub fn end(&self, world: &World, sim: &mut Sim<'_>) {
        match *self {
            Fault::Crash(host) => restart(sim, host),
            Fault::Shutdown | Fault::BreakStore { .. } => restart(sim, coordinator::HOST),
            Fault::Partition(a, b) | Fault::PartitionOneWay(a, b) => sim.repair(a, b),
            Fault::Hold(a, b) => sim.release(a, b),
            Fault::SlowLink(a, b) => {
                sim.set_link_latency(a, b, Duration::ZERO);
            }
            Fault::ClockJump { .. } => {}
            Fault::Mood(name, _) => world.mood(name, Mood::Well),
        }
    }

    /// Whom it is about, so that no two faults are about the same at the same time.
    pub fn subject(&self) -> Subject {
        match *self {
            Fault::Crash(host) | Fault::ClockJump { host, .. } => Subject::Host(host),
            Fault::Shutdown | Fault::BreakStore { .. } => Subject::Host(coordinator::HOST),
            Fault::Partition(a, b)
            | Fault::PartitionOneWay(a, b)
            | Fault::Hold(a, b)
            | Fault::SlowLink(a, b) => Subject::Link(a.min(b), a.max(b)),
            Fault::Mood(name, _) => Subject::Mood(name),
        }
    }

    /// The participant without which it is of no account.
    pub fn participant(&self) -> Option<&'static str> {
        let is_participant = |name: &&'static str| NAMES.contains(name);
        match *self {
            Fault::Crash(host) | Fault::ClockJump { host, .. } => Some(host),
            Fault::Mood(name, _) => Some(name),
            Fault::Partition(a, b)
            | Fault::PartitionOneWay(a, b)
            | Fault::Hold(a, b)
            | Fault::SlowLink(a, b) => Some(if a == coordinator::HOST { b } else { a }),
            Fault::Shutdown | Fault::BreakStore { .. } => None,
        }
        .filter(is_participant)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Host(&'static str),
    Link(&'static str, &'static str),
    Mood(&'static str),
}

/// Far enough to pass every deadline, and not the time for which an id protects.
const JUMP_MS_MAX: i64 = 50 * 60 * 1000;
/// What a message takes on a slow link, in a fast world.
const SLOW_LINK_MS: u64 = 300;

/// Whoever ended meanwhile by themselves is started again just so.
fn restart(sim: &mut Sim<'_>, host: &'static str) {
    sim.crash(host);
    sim.bounce(host);
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = |host: &str| {
            if host == coordinator::HOST {
                "coordinator"
            } else if NAMES.contains(&host) {
                "participant"
            } else {
                "client"
            }
        };
        match *self {
            Fault::Crash(host) => write!(f, "crash of the {}", who(host)),
            Fault::Shutdown => f.write_str("shutdown"),
            Fault::BreakStore { durable: true } => f.write_str("store lost an acknowledgement"),
            Fault::BreakStore { durable: false } => f.write_str("store failed a commit"),
            Fault::Partition(a, b) => write!(f, "partition {}–{}", who(a), who(b)),
            Fault::PartitionOneWay(a, b) => write!(f, "one way {}–{}", who(a), who(b)),
            Fault::Hold(..) => f.write_str("held messages"),
            Fault::SlowLink(..) => f.write_str("slow link"),
            Fault::ClockJump { host, by_ms } => {
                let way = if by_ms < 0 { "back" } else { "forward" };
                write!(f, "{}'s clock jumped {way}", who(host))
            }
            Fault::Mood(_, mood) => write!(f, "participant {mood:?}"),
        }
    }
}
