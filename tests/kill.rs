//! SIGKILL and SIGSTOP, at any moment, to anyone: the real binary on a real disk, participants with
//! real databases, clients that never stop.
//!
//! A kill counts only if it found at least ten transactions unfinished, on record. When all has
//! healed, every answer that any client ever heard, the coordinator's own list and the participants'
//! databases have to agree; `history` holds them against the protocol's invariants.
//!
//! The long run: `TERCET_KILLS=1000 TERCET_TRANSACTIONS=1000000 cargo test --release --test kill --
//! --nocapture`. With `TERCET_SEED=…` the same lots are drawn again, for the kills, by each client and
//! by each participant; how far everybody is at that moment differs.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tercet_core::check::Violation;
use tercet_sdk::client::Client;
use tokio::time::timeout;

use heard::{All, Heard};
use history::{Ended, Evidence, violations};
use load::Load;
use long_run::{EvidenceFolder, setting};
use processes::{Processes, Role, this_test_as};
use round::Round;
use tally::{Tally, UNFINISHED_MIN};
use watchdog::Watchdog;

#[path = "kill/books.rs"]
mod books;
#[path = "kill/heard.rs"]
mod heard;
mod history;
#[path = "kill/load.rs"]
mod load;
#[path = "support/long_run.rs"]
mod long_run;
#[path = "kill/names.rs"]
mod names;
#[path = "kill/participant.rs"]
mod participant;
#[path = "kill/plan.rs"]
mod plan;
#[path = "kill/processes.rs"]
mod processes;
#[path = "kill/round.rs"]
mod round;
#[path = "kill/tally.rs"]
mod tally;
#[path = "kill/watchdog.rs"]
mod watchdog;

const KILLS_DEFAULT: u64 = 30;
const TRANSACTIONS_FOR_EACH_KILL: u64 = 50;
/// At work at the same time.
const CLIENTS: usize = 160;
/// The whole test, before it counts as hanging.
const TIME_FIXED: Duration = Duration::from_secs(300);
const TIME_FOR_EACH_KILL: Duration = Duration::from_secs(3);
const TIME_FOR_EACH_TRANSACTION: Duration = Duration::from_millis(4);
/// How often a run says where it is.
const PROGRESS_LINES: u32 = 40;

/// How much there is to do.
#[derive(Clone, Copy)]
struct Size {
    kills: u32,
    transactions: usize,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_accepted_is_lost_or_done_twice_whoever_is_killed() {
    let kills = setting("TERCET_KILLS").unwrap_or(KILLS_DEFAULT);
    let transactions = setting("TERCET_TRANSACTIONS");
    let transactions = transactions.unwrap_or(kills * TRANSACTIONS_FOR_EACH_KILL);
    let seed = setting("TERCET_SEED").unwrap_or_else(|| fastrand::u64(..));
    let evidence = EvidenceFolder::new("kill");
    println!(
        "TERCET_SEED={seed} TERCET_KILLS={kills} TERCET_TRANSACTIONS={transactions} in {}",
        evidence.path().display()
    );
    let size = Size {
        kills: kills.try_into().unwrap(),
        transactions: transactions.try_into().unwrap(),
    };
    let time = TIME_FIXED
        + TIME_FOR_EACH_KILL * size.kills
        + TIME_FOR_EACH_TRANSACTION * size.transactions.try_into().unwrap();
    let test = run(evidence.path(), size, Rng::with_seed(seed));
    assert!(timeout(time, test).await.is_ok(), "not over after {time:?}");
    evidence.remove();
}

#[test]
fn what_the_test_started_ends_with_it_even_asleep() {
    let mut watchdog = this_test_as("watchdog");
    watchdog.stdin(std::process::Stdio::piped());
    let mut watchdog = Watchdog::start(watchdog);
    let mut sleeper = std::process::Command::new("sleep")
        .arg("60")
        .spawn()
        .unwrap();
    let pid = rustix::process::Pid::from_child(&sleeper);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    watchdog.begun(sleeper.id());
    drop(watchdog); // closes the pipe, as the end of the test does
    let ended = sleeper.wait().unwrap();
    assert!(
        !ended.success(),
        "it slept until it woke by itself: {ended}"
    );
}

/// No test by itself: the tests above start it, in processes of their own.
#[tokio::test]
async fn a_process_of_this_test_when_asked_to_be_one() {
    let Ok(role) = std::env::var(processes::ROLE) else {
        return;
    };
    match role.split(' ').collect::<Vec<_>>()[..] {
        ["participant", name, way, database, seed] => {
            participant::run(name, way, Path::new(database), seed.parse().unwrap()).await;
        }
        ["reader", store] => books::find_left(Path::new(store)).await,
        ["watchdog"] => watchdog::watch(),
        _ => panic!("{role:?} is no role"),
    }
}

async fn run(folder: &Path, size: Size, mut rng: Rng) {
    let mut processes = Processes::start(folder, &mut rng).await;
    let client = Client::new(processes.url()).unwrap();
    let heard = Heard::new();
    let load = Load::start(heard.clone(), client.clone(), CLIENTS, &mut rng);

    let tally = kill(size, &mut processes, &heard, &client, &mut rng).await;
    load.stop().await;
    println!("all over; reading what is on record");

    let mut all = heard.take();
    let ended = books::listed(&client, &mut all.names).await;
    processes.close(&mut rng).await;
    judge(&processes, &mut all, &ended).await;
    assert!(ended.len() >= size.transactions, "{} only", ended.len());
    tally.report(&ended, all.operations);
}

/// Kills until it was often enough, and lets the load go on in between, so that both come to their end
/// together.
async fn kill(
    size: Size,
    processes: &mut Processes,
    heard: &Heard,
    client: &Client,
    rng: &mut Rng,
) -> Tally {
    let mut tally = Tally::new();
    let mut said = 0;
    let average = size.transactions / size.kills as usize;
    while tally.kills < size.kills {
        let accepted = heard.progress().accepted;
        let left = size.transactions.saturating_sub(accepted);
        let each = (left / (size.kills - tally.kills) as usize).max(average / 4);
        let moment = accepted + rng.usize(..=2 * each);
        let reached = heard.until(|it| it.accepted >= moment && it.unfinished >= UNFINISHED_MIN);
        if reached.await.is_none() {
            panic!("the load stands still: {}", heard.describe());
        }
        heard.check_refusals();
        let round = Round::draw(rng);
        let met = round.play(processes, heard, client, rng).await;
        let accepted = heard.progress().accepted;
        tally.met(&round, &met, accepted);
        if tally.kills * PROGRESS_LINES / size.kills > said {
            said = tally.kills * PROGRESS_LINES / size.kills;
            tally.progress(size.kills, accepted, processes.folder());
        }
    }
    let all = heard.until(|it| it.accepted >= size.transactions).await;
    assert!(all.is_some(), "the load stands still: {}", heard.describe());
    tally
}

async fn judge(processes: &Processes, all: &mut All, ended: &[Ended]) {
    let mut ledgers = Vec::new();
    for role in Role::PARTICIPANTS {
        let database = processes.database(role);
        ledgers.push(books::ledger(role.name(), &database, &mut all.names).await);
    }
    let begun = Instant::now();
    let found = violations(&Evidence {
        history: &all.history,
        intents: &all.intents,
        ended,
        ledgers: &ledgers,
    });
    let effects: usize = ledgers.iter().map(|it| it.effects.len()).sum();
    println!(
        "{} calls and answers, {effects} effects, judged in {:.1?}: {} violations",
        all.history.len(),
        begun.elapsed(),
        found.len()
    );
    if !found.is_empty() {
        describe(&found, &processes.log(Role::Coordinator));
    }
    assert!(found.is_empty(), "{} violations", found.len());
}

/// Enough of what is wrong to begin with.
fn describe(found: &[Violation], log: &Path) {
    let mut invariants = BTreeMap::new();
    for violation in found {
        *invariants.entry(violation.invariant).or_insert(0) += 1;
    }
    println!("broken, how often: {invariants:?}");
    for violation in found.iter().take(20) {
        println!("{violation}");
    }
    let log = fs::read_to_string(log).unwrap();
    println!("the coordinator's last words:");
    for line in log.lines().rev().take(20) {
        println!("{line}");
    }
}
