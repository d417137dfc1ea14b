//! When calls are repeated: early only while somebody waits, each branch on its own schedule.

use tercet::engine::NewTransaction;
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    transaction::{BranchState, State},
};

use crate::{
    common::{WAIT, id, ledger::Fault, transaction},
    support::{World, branch, interactive, millis, order, outcome, patient, secs},
};

fn times(world: &World, participant: &str) -> Vec<u64> {
    world
        .calls(participant)
        .into_iter()
        .map(|it| it.0)
        .collect()
}

#[tokio::test(start_paused = true)]
async fn with_nobody_waiting_the_ladder_begins_at_once() {
    let world = World::new();
    world.ledger.down("money");
    world
        .engine
        .submit(patient("o", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    tokio::time::sleep(secs(20)).await;
    assert_eq!(times(&world, "money"), [0, 5_000, 15_000]);
}

#[tokio::test(start_paused = true)]
async fn the_early_attempts_end_with_the_callers_wait() {
    let world = World::new();
    world.ledger.down("money");
    world
        .engine
        .submit(patient("o", ReplyMode::ThreeState), millis(100))
        .await
        .unwrap();
    tokio::time::sleep(secs(20)).await;
    let at = times(&world, "money");
    assert_eq!(
        at,
        [0, 200, 5_200, 15_200],
        "200 was due before the caller left"
    );
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_back_to_wait_gets_early_attempts_again() {
    let world = World::new();
    world.ledger.down("money");
    world
        .engine
        .submit(patient("o", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    tokio::time::sleep(secs(1)).await;
    world.engine.wait(&id("o"), secs(10)).await.unwrap();
    assert_eq!(times(&world, "money"), [0, 5_000, 5_200, 6_200]);
}

#[tokio::test(start_paused = true)]
async fn a_participants_own_interval_takes_the_place_of_the_ladder() {
    let world = World::new();
    world.ledger.fault(1, Fault::Processing); // "ask again in 700 ms"
    let said = world
        .engine
        .submit(order("o", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
    assert_eq!(times(&world, "money"), [0, 700, 700]);
    assert_eq!(world.record("o").transaction.branches[1].failed_attempts, 0);
}

#[tokio::test(start_paused = true)]
async fn one_stuck_branch_holds_up_no_other_branch() {
    for (silent, decided) in [(3, State::Confirming), (1, State::Trying)] {
        let world = World::new();
        world.ledger.down_from(silent, "money");
        let branches = ["stock", "money", "other"].into_iter().enumerate();
        let branches = branches
            .map(|(nth, name)| branch(&format!("b{nth}"), name, 5))
            .collect();
        let new = NewTransaction {
            timeout_ms: 3_600_000,
            ..transaction("o", ReplyMode::Accepted, branches)
        };
        world.engine.submit(new, WAIT).await.unwrap();
        tokio::time::sleep(millis(1)).await;
        let record = world.record("o");
        assert_eq!(record.transaction.state, decided);
        let states: Vec<_> = record
            .transaction
            .branches
            .iter()
            .map(|it| it.state)
            .collect();
        let expected = match decided {
            State::Confirming => [
                BranchState::Confirmed,
                BranchState::Confirming,
                BranchState::Confirmed,
            ],
            _ => [BranchState::Tried, BranchState::Trying, BranchState::Tried],
        };
        assert_eq!(states, expected);
        world.ledger.up("money");
        world.end_of("o").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_branch_tried_interactively_is_answered_at_once_whatever_the_others_do() {
    for mode in [ReplyMode::TwoState, ReplyMode::ThreeState] {
        let world = World::new();
        let (engine, o) = (&world.engine, id("o"));
        engine.begin(interactive("o", mode)).await.unwrap();
        world.ledger.black_hole("money");
        let stuck = tokio::spawn({
            let (engine, o) = (engine.clone(), o.clone());
            async move { engine.try_branch(&o, branch("b1", "money", 5), WAIT).await }
        });
        tokio::time::sleep(millis(1)).await;
        let mut hasty = branch("b2", "stock", 5);
        hasty.try_timeout_ms = 500;
        let tried = engine.try_branch(&o, hasty, WAIT).await.unwrap();
        assert_eq!(tried.transaction.branches[1].state, BranchState::Tried);
        assert_eq!(world.start.elapsed(), millis(1), "{mode:?}");
        world.ledger.up("money");
        stuck.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn every_branch_is_canceled_the_stuck_one_later() {
    let world = World::new();
    world.ledger.fault(0, Fault::Refused);
    world.ledger.down_from(2, "money");
    let said = world
        .engine
        .submit(order("o", ReplyMode::ThreeState), secs(1))
        .await
        .unwrap();
    assert_eq!(outcome(&said), Outcome::Failed);
    assert_eq!(said.transaction.state, State::Canceling);
    let record = world.record("o");
    assert_eq!(
        record.transaction.branches[0].state,
        BranchState::Canceled,
        "the refused one, too"
    );
    world.ledger.up("money");
    world.end_of("o").await;
    assert!(
        world
            .calls("stock")
            .iter()
            .any(|it| it.1 == Operation::Cancel)
    );
}
