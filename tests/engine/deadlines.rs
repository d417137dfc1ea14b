//! Deadlines are counted by a clock that nobody can set, wait for participants to be heard after a
//! restart, and race commit through one decision.

use std::{sync::Arc, time::Duration};

use tercet::{
    engine::{EngineConfig, NewTransaction},
    store::Store as _,
};
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    transaction::State,
};
use tokio::time::Instant;

use crate::{
    common::{WAIT, id, ledger::Fault},
    support::{
        World, branch, branch_id, interactive, millis, order, outcome, patient, reason, secs,
    },
};

const MODE: ReplyMode = ReplyMode::ThreeState;
const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// After a restart every record has been looked at by then, whatever it says is due when.
const LOOKED_AT: Duration = Duration::from_secs(481);

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_moves_no_deadline_of_a_live_transaction() {
    for jump_ms in [DAY_MS, -DAY_MS] {
        let world = World::new();
        world.ledger.down("money");
        world
            .engine
            .submit(order("o", MODE), millis(100))
            .await
            .unwrap();
        let follow = world.engine.follow(&id("o")).unwrap(); // keeps it live
        world.clock.jump(jump_ms);
        tokio::time::sleep_until(world.start + millis(29_999)).await;
        assert_eq!(world.state("o"), State::Trying, "{jump_ms}");
        assert_eq!(world.engine.load().1, 0);
        tokio::time::sleep_until(world.start + millis(30_001)).await;
        assert_eq!(reason(&world.record("o")), "EXPIRED", "{jump_ms}");
        drop(follow);
    }
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_moves_no_deadline_of_a_parked_transaction() {
    for jump_ms in [DAY_MS, -DAY_MS] {
        let world = World::new();
        world.ledger.down("money");
        world
            .engine
            .submit(order("o", MODE), millis(100))
            .await
            .unwrap();
        tokio::time::sleep_until(world.start + secs(10)).await;
        assert_eq!(world.engine.load(), (0, 1), "it is parked");
        world.clock.jump(jump_ms);
        tokio::time::sleep_until(world.start + millis(29_999)).await;
        assert_eq!(world.state("o"), State::Trying, "{jump_ms}");
        tokio::time::sleep_until(world.start + millis(30_001)).await;
        assert_eq!(reason(&world.record("o")), "EXPIRED", "{jump_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_jump_of_the_wall_clock_moves_no_attempt_of_a_parked_transaction() {
    for jump_ms in [DAY_MS, -DAY_MS] {
        let world = World::new();
        world.ledger.down_from(2, "money");
        world
            .engine
            .submit(order("o", ReplyMode::Accepted), WAIT)
            .await
            .unwrap();
        tokio::time::sleep_until(world.start + secs(6)).await;
        assert_eq!(world.engine.load(), (0, 1), "it is parked");
        world.clock.jump(jump_ms);
        tokio::time::sleep_until(world.start + secs(40)).await;
        let confirms = world
            .calls("money")
            .into_iter()
            .filter(|it| it.1 == Operation::Confirm);
        let at: Vec<_> = confirms.map(|it| it.0).collect();
        assert_eq!(at, [0, 5_000, 15_000, 35_000], "{jump_ms}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_over_a_restart_holds_nothing_up() {
    let world = World::new();
    world.ledger.down_from(2, "money");
    world
        .engine
        .submit(order("o", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    world
        .engine
        .submit(order("p", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    tokio::time::sleep(secs(100)).await;
    let found = Arc::new(world.store.crash());
    world.engine.shutdown().await;
    let after = World::over(found, world.ledger, EngineConfig::default());
    after.clock.jump(-DAY_MS);
    after.ledger.up("money");
    // Nobody asks about them, and nobody waits.
    tokio::time::sleep(LOOKED_AT + secs(88)).await;
    for id_text in ["o", "p"] {
        let state = after.state(id_text);
        assert!(state.is_terminal(), "{id_text} is held up: {state:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_over_a_restart_holds_up_no_deadline() {
    let world = World::new();
    world.engine.begin(interactive("o", MODE)).await.unwrap();
    let found = Arc::new(world.store.crash());
    world.engine.shutdown().await;
    let after = World::over(found, world.ledger, EngineConfig::default());
    after.clock.jump(-DAY_MS);
    tokio::time::sleep(LOOKED_AT + secs(30)).await;
    assert_eq!(after.state("o"), State::Canceled, "it is held up");
}

/// A restart that finds the deadline long past.
async fn restarted_past_its_deadline(prepare: impl FnOnce(&World)) -> World {
    let world = World::new();
    prepare(&world);
    let mut new = order("o", MODE);
    for branch in &mut new.branches {
        branch.try_timeout_ms = 20_000;
    }
    world.submit(new, WAIT);
    tokio::time::sleep(millis(50)).await;
    let store = Arc::new(world.store.crash());
    world.engine.shutdown().await;
    tokio::time::sleep(secs(100)).await;
    World::over(store, world.ledger, EngineConfig::default())
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_transaction_past_its_deadline_asks_before_it_expires() {
    let world = restarted_past_its_deadline(|world| world.ledger.fault(1, Fault::ReplyLost)).await;
    let record = world.end_of("o").await;
    assert_eq!(
        outcome(&record),
        Outcome::Success,
        "its Try had succeeded all along"
    );
    assert_eq!(world.start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_silence_holds_a_deadline_back_for_ten_seconds() {
    let world = restarted_past_its_deadline(|world| world.ledger.black_hole("money")).await;
    tokio::time::sleep_until(world.start + millis(9_999)).await;
    assert_eq!(world.state("o"), State::Trying);
    tokio::time::sleep_until(world.start + millis(10_001)).await;
    assert_eq!(reason(&world.record("o")), "EXPIRED");
    world.ledger.up("money");
    world.end_of("o").await;
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_one_round_without_success_is_enough_to_expire() {
    let world = restarted_past_its_deadline(|world| world.ledger.down("money")).await;
    tokio::time::sleep_until(world.start + millis(1)).await;
    assert_eq!(reason(&world.record("o")), "EXPIRED");
    let asked = world.calls("money");
    assert!(asked.iter().any(|it| it.2), "it was asked: {asked:?}");
    world.ledger.up("money");
    world.end_of("o").await;
}

#[tokio::test(start_paused = true)]
async fn commit_races_expiry_and_one_wins() {
    for early_ms in [1, 0, -1] {
        let world = World::new();
        let (engine, o) = (&world.engine, id("o"));
        engine.begin(interactive("o", MODE)).await.unwrap();
        engine
            .try_branch(&o, branch("b1", "stock", 5), WAIT)
            .await
            .unwrap();
        let at = u64::try_from(30_000 - early_ms).unwrap();
        tokio::time::sleep_until(world.start + millis(at)).await;
        let said = engine
            .commit(&o, vec![branch_id("b1")], WAIT)
            .await
            .unwrap();
        match early_ms {
            1 => assert_eq!(outcome(&said), Outcome::Success),
            0 => assert_ne!(outcome(&said), Outcome::Processing),
            _ => assert_eq!(
                (outcome(&said), reason(&said)),
                (Outcome::Failed, "EXPIRED")
            ),
        }
        let end = world.end_of("o").await;
        assert_eq!(outcome(&end), outcome(&said), "the loser sees the winner");
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_passes_while_the_commit_is_being_synced_comes_too_late() {
    let world = World::new();
    world.ledger.down("money");
    let caller = world.submit(order("o", MODE), WAIT);
    tokio::time::sleep(secs(10)).await;
    world.ledger.up("money"); // the next attempt is at 16.2 s
    world.store.hold();
    let held = world.store.held(1).await;
    assert_eq!(held[0].transaction.state, State::Confirming);
    tokio::time::sleep_until(world.start + secs(40)).await;
    world.store.release();
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
    caller.await.unwrap().unwrap();
    assert_eq!(world.store.counters().quarantined, 0);
}

#[tokio::test(start_paused = true)]
async fn an_interactive_transaction_that_nobody_commits_expires() {
    let world = World::new();
    let o = id("o");
    world.engine.begin(interactive("o", MODE)).await.unwrap();
    world
        .engine
        .try_branch(&o, branch("b1", "stock", 5), WAIT)
        .await
        .unwrap();
    tokio::time::sleep_until(world.start + secs(29)).await;
    assert_eq!(world.ledger.available("stock"), 995);
    let end = world.end_of("o").await;
    assert_eq!(world.start.elapsed(), secs(30));
    assert_eq!((outcome(&end), reason(&end)), (Outcome::Failed, "EXPIRED"));
}

#[tokio::test(start_paused = true)]
async fn a_try_timeout_leaves_a_three_state_transaction_undecided() {
    let world = World::new();
    world.ledger.black_hole("money");
    let new = NewTransaction {
        timeout_ms: 600_000,
        ..patient("o", MODE)
    };
    let said = world.engine.submit(new, secs(5)).await.unwrap();
    assert_eq!(
        (outcome(&said), said.transaction.state),
        (Outcome::Processing, State::Trying)
    );
    assert_eq!(Instant::now() - world.start, secs(5));
    world.ledger.up("money");
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
}
