//! kill -9, at any moment, of anything: the real binary on a real disk, participants with real
//! databases, clients that never stop.
//!
//! A kill counts only if it found at least [`UNFINISHED_MIN`] transactions unfinished, on record. When
//! all has healed, every answer that any client ever heard, the coordinator's own list and the
//! participants' databases have to agree; `history` holds them against the protocol's invariants.
//!
//! `TERCET_KILLS=1000 cargo test --test kill -- --nocapture` runs longer. With `TERCET_SEED=…` the same
//! lots are drawn again, for the kills and by each client; how far everybody is at that moment differs.

use std::{
    collections::BTreeMap,
    fmt, fs,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
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
const ANSWERS_BETWEEN_MAX: usize = 80;
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
    let mut folder = tempfile::Builder::new()
        .prefix("tercet-kill-")
        .tempdir()
        .unwrap();
    println!(
        "TERCET_SEED={seed} TERCET_KILLS={kills} in {}",
        folder.path().display()
    );
    folder.disable_cleanup(true); // a failure leaves its evidence
    let time = TIME_FIXED + TIME_FOR_EACH_KILL * kills;
    let test = run(folder.path(), kills, Rng::with_seed(seed));
    assert!(timeout(time, test).await.is_ok(), "not over after {time:?}");
    folder.disable_cleanup(false);
    folder.close().unwrap();
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
    while tally.kills < kills {
        let round = Round::draw(&mut rng);
        let found = kill(&round, &mut processes, &heard, &client, &mut rng).await;
        tally.found(&round, found);
        if tally.rounds.is_multiple_of(5) {
            let sent = heard.sent();
            println!(
                "{:4} of {kills} kills, {sent} sent; {round} found {found}",
                tally.kills
            );
        }
    }
    load.stop().await;
    println!("all over after {:?}", tally.started.elapsed());

    let ended = books::listed(&client).await;
    let count = client.count("").await.unwrap();
    if count.is_exact {
        assert_eq!(count.count, ended.len() as u64, "counted and listed");
    }
    processes.close(&mut rng).await;
    judge(&processes, &heard, &ended).await;
    tally.report(&ended, kills);
}

/// Waits for its moment, ends somebody, and starts them again. Says what was unfinished meanwhile.
async fn kill(
    round: &Round,
    processes: &mut Processes,
    heard: &Heard,
    client: &Client,
    rng: &mut Rng,
) -> Unfinished {
    let answers = heard.progress().answers + rng.usize(..ANSWERS_BETWEEN_MAX);
    let moment = heard.until(|it| it.answers >= answers && it.unfinished >= UNFINISHED_MIN);
    if moment.await.is_none() {
        panic!("the load stands still: {}", heard.describe());
    }
    for role in &round.victims {
        processes.end(*role, round.manner, rng).await;
    }
    let found = if round.victims.contains(&Role::Coordinator) {
        let store = processes.store();
        let left = tokio::task::spawn_blocking(|| books::left_unfinished(store));
        left.await.unwrap()
    } else {
        books::unfinished(client).await
    };
    for role in &round.victims {
        if *role != Role::Coordinator {
            let answers = heard.progress().answers + rng.usize(..ANSWERS_AWAY_MAX);
            let _in_time = timeout(AWAY_MAX, heard.until(|it| it.answers >= answers)).await;
        }
        processes.start_again(*role).await;
    }
    found
}

/// Who is to end next, in this order, and how.
struct Round {
    victims: Vec<Role>,
    manner: Manner,
}

impl Round {
    fn draw(rng: &mut Rng) -> Self {
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
        Self { victims, manner }
    }
}

impl fmt::Display for Round {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let victims: Vec<_> = self.victims.iter().map(|role| role.name()).collect();
        write!(f, "{} of {}", self.manner, victims.join(" and "))
    }
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
    rounds: usize,
    kills: u32,
    /// By how the round went: how often, and what it found.
    found: BTreeMap<String, (usize, Unfinished)>,
}

impl Tally {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            rounds: 0,
            kills: 0,
            found: BTreeMap::new(),
        }
    }

    fn found(&mut self, round: &Round, found: Unfinished) {
        self.rounds += 1;
        if round.manner != Manner::Ask && found.sum() >= UNFINISHED_MIN {
            self.kills += 1;
        }
        let (times, sum) = self.found.entry(round.to_string()).or_default();
        *times += 1;
        *sum += found;
    }

    fn report(&self, ended: &[Ended], kills: u32) {
        let mut sum = Unfinished::default();
        for (round, (times, found)) in &self.found {
            println!("{times:4} × {round} found {found}");
            sum += *found;
        }
        let mut outcomes = BTreeMap::new();
        for it in ended {
            *outcomes
                .entry(format!("{:?}", it.seen.outcome))
                .or_insert(0) += 1;
        }
        println!(
            "{} kills in {:?}, {} rounds found {sum}; {} transactions: {outcomes:?}",
            self.kills,
            self.started.elapsed(),
            self.rounds,
            ended.len(),
        );
        let stopped = ended.iter().filter(|it| !it.seen.state.is_terminal());
        assert_eq!(
            stopped.count(),
            0,
            "nobody here refuses a Confirm or a Cancel"
        );
        if kills >= KILLS_DEFAULT {
            let all_met = sum.trying > 0 && sum.confirming > 0 && sum.canceling > 0;
            assert!(all_met, "the kills met only {sum}");
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
