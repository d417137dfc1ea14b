//! What is drawn for a seed: how fast its world runs, and what its clients want.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tercet_core::outcome::ReplyMode;
use tercet_sdk::client::{Branch, Options, Payload, Submit};

use super::{
    books::{OUTSIDE, PLENTY, SCARCE, Take},
    history::{IntendedBranch, Intent},
    participant::{CHARGE, NAMES, TAKE},
};

/// A world, as far as it doesn't change. Most worlds run in seconds; in some, everything takes far
/// longer, and participants work for hours.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Times are so much longer than in a fast world.
    pub scale: u64,
    /// The network's and every host's smallest step.
    pub tick: Duration,
    /// Decides how long each message takes, at most so long.
    pub network: u64,
    pub delay_ms_max: u64,
    pub inflight_max: usize,
    pub recovery_inflight_max: usize,
    pub call_timeout_ms: u64,
    /// The longest that a slow call takes before it is done.
    pub slow_ms_max: u64,
    /// The longest that a provider works.
    pub work_ms_max: u64,
    /// The participants that connect out, a bit for each.
    pub connecting: u8,
    /// Transactions to send, at least.
    pub transactions: usize,
    /// Faults that have to find something unfinished, at least.
    pub faults: usize,
    /// Whether stores are slow and databases fail now and then.
    pub bad_luck: Arc<AtomicBool>,
}

const SLOW_SCALE: u64 = 25;
const HOUR_MS: u64 = 60 * 60 * 1000;

impl Setup {
    pub fn draw(rng: &mut Rng) -> Self {
        let slow = rng.u8(..10) == 0;
        let scale = if slow { SLOW_SCALE } else { 1 };
        Self {
            scale,
            tick: Duration::from_millis(20 * scale),
            network: rng.u64(..),
            delay_ms_max: 30 * scale,
            inflight_max: [4, 8, 4096][rng.usize(..3)],
            recovery_inflight_max: [4, 64][rng.usize(..2)],
            call_timeout_ms: [300, 1_000, 3_000][rng.usize(..3)] * scale,
            slow_ms_max: 2_000 * scale,
            work_ms_max: if slow { 2 * HOUR_MS } else { 15_000 },
            connecting: rng.u8(..1 << NAMES.len()),
            transactions: 50,
            faults: rng.usize(6..=10),
            bad_luck: Arc::new(AtomicBool::new(true)),
        }
    }

    /// Whether this participant opens sessions, or is called at its address.
    pub fn connects_out(&self, participant: &str) -> bool {
        let number = NAMES.iter().position(|name| *name == participant);
        number.is_some_and(|number| self.connecting >> number & 1 == 1)
    }

    pub fn has_bad_luck(&self) -> bool {
        self.bad_luck.load(Ordering::Relaxed)
    }

    pub fn ms(&self, fast_ms: u64) -> Duration {
        Duration::from_millis(fast_ms * self.scale)
    }
}

/// What a client wants: one transaction.
#[derive(Clone)]
pub struct Plan {
    pub intent: Intent,
    pub options: Options,
    /// How long a call waits for its outcome.
    pub wait: Duration,
}

const RETRY_MS: [u64; 5] = [100, 200, 500, 1_000, 2_000];
/// Some Try calls are given up before a slow participant answers, and some transactions expire.
const TRY_TIMEOUT_MS: [u64; 3] = [200, 1_000, 3_000];
const TIMEOUT_MS: [u64; 3] = [3_000, 10_000, 25_000];
const WAIT_MS: [u64; 3] = [500, 3_000, 10_000];

impl Plan {
    pub fn draw(id: String, setup: &Setup, rng: &mut Rng) -> Self {
        let mode = [
            ReplyMode::TwoState,
            ReplyMode::ThreeState,
            ReplyMode::Accepted,
        ][rng.usize(..3)];
        let interactive = rng.u8(..4) == 0;
        let branches = (1..=rng.usize(1..=3))
            .map(|number| branch(format!("b{number}"), NAMES[rng.usize(..NAMES.len())], rng));
        let intent = Intent {
            id: id.into(),
            mode,
            interactive,
            branches: branches.collect(),
        };
        let mut pick = |choices: [u64; 3]| setup.ms(choices[rng.usize(..3)]);
        // A provider's work takes longer than usual transactions have time.
        let timeout = pick(TIMEOUT_MS).max(Duration::from_millis(setup.work_ms_max / 4));
        let options = Options::new()
            .transaction_type("take")
            .timeout(timeout)
            .try_timeout(pick(TRY_TIMEOUT_MS));
        let wait = pick(WAIT_MS);
        let options = if setup.scale > 1 && rng.bool() {
            options // the ladder that comes with the product
        } else {
            options
                .retry_intervals(&RETRY_MS.map(|ms| setup.ms(ms)))
                .attention_after_attempts(4)
        };
        Self {
            intent,
            options: of_mode(options, mode),
            wait,
        }
    }

    /// One that nothing is in the way of, at these participants.
    pub fn calm(id: String, participants: &[&'static str], rng: &mut Rng) -> Self {
        let branches = participants.iter().enumerate();
        let branches = branches.map(|(number, name)| IntendedBranch {
            account: PLENTY.into(),
            ..branch(format!("b{number}"), name, rng)
        });
        let branches = branches.collect();
        let mode = [ReplyMode::TwoState, ReplyMode::ThreeState][rng.usize(..2)];
        let intent = Intent {
            id: id.into(),
            mode,
            interactive: false,
            branches,
        };
        Self {
            intent,
            options: of_mode(Options::new().transaction_type("take"), mode),
            wait: Duration::from_secs(30),
        }
    }

    /// Something else under the same id.
    pub fn other(&self, rng: &mut Rng) -> Self {
        let mut other = self.clone();
        other.intent.branches = vec![branch("x1".into(), NAMES[rng.usize(..NAMES.len())], rng)];
        other
    }

    pub fn id(&self) -> &str {
        &self.intent.id
    }

    pub fn submit(&self, expires_at: std::time::SystemTime) -> Submit {
        let submit = Submit::new(self.id())
            .options(self.options.clone())
            .wait(self.wait)
            .expires_at(expires_at);
        self.intent.branches.iter().fold(submit, |submit, it| {
            let branch = Branch::new(&*it.participant, resource(it), Payload::message(&take(it)));
            submit.with_branch(branch.id(&*it.id))
        })
    }
}

fn branch(id: String, participant: &str, rng: &mut Rng) -> IntendedBranch {
    let account = match rng.u8(..10) {
        0 => SCARCE,
        1..4 => OUTSIDE,
        _ => PLENTY,
    };
    IntendedBranch {
        id: id.into(),
        participant: participant.into(),
        account: account.into(),
        amount: rng.i64(1..=5),
    }
}

fn of_mode(options: Options, mode: ReplyMode) -> Options {
    match mode {
        ReplyMode::TwoState => options.two_state(),
        ReplyMode::ThreeState => options.three_state(),
        ReplyMode::Accepted => options.accepted(),
    }
}

pub fn resource(branch: &IntendedBranch) -> &'static str {
    if *branch.account == *OUTSIDE {
        CHARGE
    } else {
        TAKE
    }
}

pub fn take(branch: &IntendedBranch) -> Take {
    Take {
        account: branch.account.to_string(),
        amount: branch.amount,
    }
}
