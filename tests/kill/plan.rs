//! What a client wants: one transaction, drawn by lot.

use std::time::Duration;

use fastrand::Rng;
use tercet_core::outcome::ReplyMode;
use tercet_sdk::client::{Options, Submit};

use super::{
    history::{IntendedBranch, Intent},
    participant::{PLENTY, SCARCE, Take},
    processes::Role,
};

/// How long a call waits for its outcome.
pub const WAIT: Duration = Duration::from_secs(3);
/// Faster than a coordinator's own, so that a run that kills every second heals in seconds.
const RETRY_INTERVALS: [Duration; 4] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
];
/// Some Try calls are given up before a slow participant answers, and some transactions expire.
const TRY_TIMEOUT_MS: [u64; 3] = [150, 1_000, 3_000];
const TIMEOUT_S: [u64; 3] = [3, 5, 10];

pub struct Plan {
    pub intent: Intent,
    pub options: Options,
    /// None: it is interactive.
    pub submit: Option<Submit>,
    /// Its client goes away after the first answer: the coordinator has to finish it unasked.
    pub forgotten: bool,
}

impl Plan {
    pub fn draw(number: usize, rng: &mut Rng) -> Self {
        let interactive = rng.u8(..8) == 0;
        let mode = match rng.u8(..3) {
            0 => ReplyMode::TwoState,
            1 => ReplyMode::ThreeState,
            _ => ReplyMode::Accepted,
        };
        let branches = (1..=branch_count(rng)).map(|number| IntendedBranch {
            id: format!("b{number}").into(),
            participant: Role::PARTICIPANTS[rng.usize(..2)].name().into(),
            account: if rng.u8(..5) == 0 { SCARCE } else { PLENTY }.into(),
            amount: rng.i64(1..=5),
        });
        let intent = Intent {
            mode,
            interactive,
            branches: branches.collect(),
            id: format!("t{number:08}").into(),
        };
        let options = options(mode, rng);
        let submit = (!interactive).then(|| submit(&intent, &options));
        Self {
            intent,
            options,
            submit,
            forgotten: rng.u8(..4) == 0,
        }
    }

    pub fn id(&self) -> &str {
        &self.intent.id
    }
}

/// Mostly one: what each branch costs its participant is what a long run spends its time on.
fn branch_count(rng: &mut Rng) -> usize {
    match rng.u8(..10) {
        0..7 => 1,
        7..9 => 2,
        _ => 3,
    }
}

fn options(mode: ReplyMode, rng: &mut Rng) -> Options {
    let options = Options::new()
        .transaction_type("take")
        .timeout(Duration::from_secs(TIMEOUT_S[rng.usize(..TIMEOUT_S.len())]))
        .try_timeout(Duration::from_millis(
            TRY_TIMEOUT_MS[rng.usize(..TRY_TIMEOUT_MS.len())],
        ))
        .retry_intervals(&RETRY_INTERVALS);
    match mode {
        ReplyMode::TwoState => options.two_state(),
        ReplyMode::ThreeState => options.three_state(),
        ReplyMode::Accepted => options.accepted(),
    }
}

fn submit(intent: &Intent, options: &Options) -> Submit {
    let submit = Submit::new(&*intent.id).options(options.clone()).wait(WAIT);
    intent.branches.iter().fold(submit, |submit, branch| {
        submit.branch(&*branch.participant, "take", &take(branch))
    })
}

pub fn take(branch: &IntendedBranch) -> Take {
    Take {
        account: branch.account.to_string(),
        amount: branch.amount,
    }
}
