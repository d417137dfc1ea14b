//! Clients at work, until they are stopped.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tercet_core::outcome::ReplyMode;
use tercet_sdk::client::{Client, Options, Refused, Submit};
use tokio::task::JoinSet;

use super::{
    history::{Answer, IntendedBranch, Intent, told},
    participant::{ACCOUNT, RESOURCE, Take, filling},
    world::{PARTICIPANTS, World},
};

const SENDERS: usize = 48;
/// How long a call waits for its outcome.
const WAIT: Duration = Duration::from_secs(3);
/// Faster than a coordinator's own: each cut is followed to the end of all that was unfinished.
const RETRY_INTERVALS: [Duration; 3] = [
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
];

/// Clients that send one transaction after the other. They stop when this is dropped, in the middle of
/// what they do.
pub struct Load(JoinSet<()>);

impl Load {
    /// `name` sets the ids of this load apart from those of others.
    pub fn start(world: &Arc<World>, client: &Client, name: &str, rng: &mut Rng) -> Self {
        let mut senders = JoinSet::new();
        for number in 0..SENDERS {
            let (world, client) = (Arc::clone(world), client.clone());
            let (name, mut rng) = (format!("{name}-{number}"), rng.fork());
            senders.spawn(async move { send(&world, &client, &name, usize::MAX, &mut rng).await });
        }
        Self(senders)
    }

    /// Panics if a client has.
    pub async fn stop(mut self) {
        self.0.abort_all();
        while let Some(ended) = self.0.join_next().await {
            assert!(
                ended.is_err_and(|it| it.is_cancelled()),
                "a client has failed"
            );
        }
    }
}

/// Sends so many transactions, one after the other.
pub async fn send(world: &World, client: &Client, name: &str, count: usize, rng: &mut Rng) {
    for number in 0..count {
        let (intent, submit) = draw(format!("{name}-{number}"), rng);
        world.intend(&intent);
        let submitted = async { told::outcome(client.submit(&submit).await, refused) };
        let answer = world.call(&intent.id, submitted).await;
        let ended = matches!(answer, Answer::Shown(seen) if seen.state.is_terminal());
        if !ended && rng.bool() {
            let waited = async { told::outcome(client.wait(&intent.id, WAIT).await, refused) };
            world.call(&intent.id, waited).await;
        }
    }
}

fn draw(id: String, rng: &mut Rng) -> (Intent, Submit) {
    let options = Options::new()
        .transaction_type("take")
        .business_key(format!("key-{}", rng.u8(..)))
        .retry_intervals(&RETRY_INTERVALS);
    let (mode, options) = match rng.u8(..3) {
        0 => (ReplyMode::TwoState, options.two_state()),
        1 => (ReplyMode::ThreeState, options.three_state()),
        _ => (ReplyMode::Accepted, options.accepted()),
    };
    let mut submit = Submit::new(&id).options(options).wait(WAIT);
    let mut branches = Vec::new();
    for number in 1..=rng.usize(1..=2) {
        let branch = IntendedBranch {
            id: format!("b{number}").into(),
            participant: PARTICIPANTS[rng.usize(..2)].into(),
            account: ACCOUNT.into(),
            amount: rng.i64(1..=5),
        };
        let take = Take {
            amount: branch.amount,
            refused: rng.u8(..10) == 0,
            filling: filling(&id, &branch.id, payload_bytes(rng)),
        };
        submit = submit.branch(&*branch.participant, RESOURCE, &take);
        branches.push(branch);
    }
    let intent = Intent {
        id: id.into(),
        mode,
        interactive: false,
        branches,
    };
    (intent, submit)
}

/// Mostly small, up to just below the largest payload that is taken.
fn payload_bytes(rng: &mut Rng) -> usize {
    match rng.u8(..20) {
        0..4 => 0,
        4..16 => rng.usize(..300),
        16..19 => rng.usize(..8 * 1024),
        _ => rng.usize(..=64 * 1024 - 32),
    }
}

/// What a refusal means: only that of an id that nobody knows is one for these clients.
pub fn refused(refused: &Refused) -> Answer {
    match &*refused.reason {
        "TRANSACTION_NOT_FOUND" => Answer::NotFound,
        _ => panic!("refused: {refused}"),
    }
}
