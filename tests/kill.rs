//! kill -9, at any moment, of anything: the real binary on a real disk, participants with real
//! databases, clients that never stop.
//!
//! Each kill finds at least [`UNFINISHED_MIN`] transactions unfinished. When all has healed, every
//! answer that any client ever heard, the coordinator's own list and the participants' databases
//! have to agree; `history` holds them against the protocol's invariants.
//!
//! `TERCET_KILLS=1000 cargo test --test kill -- --nocapture` runs longer. `TERCET_SEED=…` draws the
//! same transactions and the same kills again; what the processes are doing at that moment differs.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tercet_core::outcome::Outcome;
use tercet_sdk::client::Client;
use tokio::time::timeout;

use books::Unfinished;
use heard::Heard;
use history::{Ended, Evidence, violations};
use load::Load;
use processes::{Manner, Processes, Role};

#[path = "kill/books.rs"]
mod books;
#[path = "kill/heard.rs"]
mod heard;
mod history;
#[path = "kill/load.rs"]
mod load;
#[path = "kill/participant.rs"]
mod participant;
#[path = "kill/plan.rs"]
mod plan;
#[path = "kill/processes.rs"]
mod processes;

const KILLS_DEFAULT: u32 = 30;
/// Transactions that no kill may find less of.
const UNFINISHED_MIN: usize = 10;
/// Answers that clients hear between one restart and the next kill, at most.
const ANSWERS_BETWEEN_MAX: usize = 120;
/// Answers that clients hear while a participant is away, at most, and how long that may take.
const ANSWERS_AWAY_MAX: usize = 20;
const AWAY_MAX: Duration = Duration::from_secs(1);
/// The whole test, before it counts as hanging.
const TIME_FIXED: Duration = Duration::from_secs(180);
const TIME_FOR_EACH_KILL: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_or_done_twice_whoever_is_killed() {
    let kills = setting("TERCET_KILLS").map_or(KILLS_DEFAULT, |it| it.try_into().unwrap());
    let seed = setting("TERCET_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("TERCET_SEED={seed} TERCET_KILLS={kills}");
    let folder = tempfile::tempdir().unwrap();
    let time = TIME_FIXED + TIME_FOR_EACH_KILL * kills;
    let test = run(folder.path(), kills, Rng::with_seed(seed));
    assert!(timeout(time, test).await.is_ok(), "not over after {time:?}");
}

/// No test by itself: the test above starts it, in processes of their own.
#[tokio::test]
async fn a_participant_when_asked_to_be_one() {
    if let Ok(role) = std::env::var(participant::ROLE) {
        participant::serve(&role).await;
    }
}

async fn run(folder: &Path, kills: u32, mut rng: Rng) {
    let mut processes = Processes::start(folder, &mut rng).await;
    let client = Client::new(processes.url()).unwrap();
    let heard = Heard::new();
    let load = Load::start(heard.clone(), client.clone(), &mut rng);

    let mut tally = Tally::new();
    for number in 1..=kills {
        let line = kill(&mut processes, &heard, &mut rng, &mut tally).await;
        if number % 5 == 0 || number == kills {
            println!("{number:4} of {kills}: {line}");
        }
    }
    load.stop().await;
    println!("healed after {:?}", tally.started.elapsed());

    let ended = books::listed(&client).await;
    let count = client.count("").await.unwrap();
    if count.is_exact {
        assert_eq!(count.count, ended.len() as u64, "counted and listed");
    }
    processes.close(&mut rng).await;
    judge(&processes, &heard, &ended).await;
    tally.report(&ended, kills);
}

/// Waits for a moment with enough unfinished work, ends somebody, and starts them again.
async fn kill(
    processes: &mut Processes,
    heard: &Heard,
    rng: &mut Rng,
    tally: &mut Tally,
) -> String {
    let (victims, manner) = draw(rng);
    let answers = heard.progress().answers + rng.usize(..ANSWERS_BETWEEN_MAX);
    let moment = heard.until("moment for a kill", |it| {
        it.answers >= answers && it.unfinished >= UNFINISHED_MIN
    });
    let unfinished = moment.await.unfinished;
    for role in &victims {
        processes.end(*role, manner, rng).await;
    }
    let mut line = format!(
        "{victims:?} by {manner}, {} sent, {unfinished} unfinished",
        heard.sent()
    );
    for role in victims {
        if role == Role::Coordinator {
            let store = processes.store();
            let left = tokio::task::spawn_blocking(|| books::left_unfinished(store));
            let left = left.await.unwrap();
            line += &format!(" ({left})");
            tally.left(left);
        } else {
            let answers = heard.progress().answers + rng.usize(..ANSWERS_AWAY_MAX);
            let _in_time =
                timeout(AWAY_MAX, heard.until("answer", |it| it.answers >= answers)).await;
        }
        processes.start_again(role).await;
    }
    line
}

fn draw(rng: &mut Rng) -> (Vec<Role>, Manner) {
    let participant = Role::PARTICIPANTS[rng.usize(..2)];
    let victims = match rng.u8(..20) {
        0..12 => vec![Role::Coordinator],
        12..16 => vec![participant],
        16..18 => vec![Role::Coordinator, participant],
        _ => vec![participant, Role::Coordinator],
    };
    let manner = match rng.u8(..20) {
        0..14 => Manner::Kill,
        14..17 => Manner::HangAndKill,
        _ => Manner::Ask,
    };
    (victims, manner)
}

async fn judge(processes: &Processes, heard: &Heard, ended: &[Ended]) {
    let mut ledgers = Vec::new();
    for role in Role::PARTICIPANTS {
        ledgers.push(books::ledger(role.name(), &processes.database(role)).await);
    }
    let (history, intents) = heard.take();
    let found = violations(&Evidence {
        history: &history,
        intents: &intents,
        ended,
        ledgers: &ledgers,
    });
    let effects: usize = ledgers.iter().map(|it| it.effects.len()).sum();
    println!("{} calls and answers, {effects} effects", history.len());
    for violation in &found {
        println!("{violation}");
    }
    if !found.is_empty() {
        let log = fs::read_to_string(processes.log(Role::Coordinator)).unwrap();
        println!("the coordinator's last words:");
        for line in log.lines().rev().take(20) {
            println!("{line}");
        }
    }
    assert!(found.is_empty(), "{} violations", found.len());
}

/// What the kills have met.
struct Tally {
    started: Instant,
    restarts: usize,
    left: Unfinished,
    left_min: usize,
}

impl Tally {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            restarts: 0,
            left: Unfinished::default(),
            left_min: usize::MAX,
        }
    }

    fn left(&mut self, left: Unfinished) {
        self.restarts += 1;
        self.left_min = self.left_min.min(left.sum());
        self.left += left;
    }

    fn report(&self, ended: &[Ended], kills: u32) {
        let Self {
            started,
            restarts,
            left,
            left_min,
        } = self;
        let mut outcomes = BTreeMap::new();
        for it in ended {
            let name = match it.seen.outcome {
                Outcome::Success => "SUCCESS",
                Outcome::Failed => "FAILED",
                Outcome::Processing => "PROCESSING",
            };
            *outcomes.entry(name).or_insert(0) += 1;
        }
        println!(
            "{kills} kills in {:?}: {} transactions, {outcomes:?}",
            started.elapsed(),
            ended.len()
        );
        println!(
            "{restarts} restarts of the coordinator found unfinished: {left}; {left_min} at least"
        );
        if kills >= KILLS_DEFAULT {
            assert!(
                left.trying > 0 && left.confirming > 0 && left.canceling > 0,
                "the kills met only {left}"
            );
        }
    }
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is no number")),
    )
}
