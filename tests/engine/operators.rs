//! What is for a person: pausing, resuming, closing a branch for good, and being asked to look.

use tercet::engine::{EngineConfig, EngineError};
use tercet_core::{
    operation::Operation,
    outcome::{Decision, Outcome, ReplyMode},
    request::{Refusal, Request},
    transaction::{AttentionReason, BranchState, Resolution, State},
};

use crate::{
    common::{WAIT, id, ledger::Fault},
    support::{World, branch_id, order, outcome, patient, reason, secs},
};

const MODE: ReplyMode = ReplyMode::ThreeState;

fn resolve(resolution: Resolution, overdue: bool) -> Request {
    Request::Resolve {
        branch: branch_id("b2"),
        resolution,
        overdue,
        recorded: None,
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_calls_through_a_restart_and_a_resume_makes_them_at_once() {
    let world = World::new();
    world.ledger.down_from(2, "money");
    world
        .engine
        .submit(patient("o", MODE), secs(1))
        .await
        .unwrap();
    let paused = world
        .engine
        .operate(&id("o"), Request::Pause)
        .await
        .unwrap();
    assert!(paused.transaction.paused);
    world.ledger.up("money");
    let sent = world.ledger.seen().len();
    tokio::time::sleep(secs(3600)).await;
    let world = world.restart(EngineConfig::default()).await;
    tokio::time::sleep(secs(3600)).await;
    assert_eq!(world.ledger.seen().len(), sent);
    assert!(world.record("o").transaction.paused);

    let resumed = world
        .engine
        .operate(&id("o"), Request::Resume)
        .await
        .unwrap();
    assert!(!resumed.transaction.paused);
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Success);
    assert_eq!(world.start.elapsed(), secs(3600));
}

#[tokio::test(start_paused = true)]
async fn a_pause_stops_no_decision() {
    let world = World::new();
    world.ledger.down("money");
    world
        .engine
        .submit(order("o", MODE), secs(1))
        .await
        .unwrap();
    world
        .engine
        .operate(&id("o"), Request::Pause)
        .await
        .unwrap();
    let sent = world.ledger.seen().len();
    tokio::time::sleep_until(world.start + secs(31)).await;
    let record = world.record("o");
    assert_eq!(
        (record.transaction.state, reason(&record)),
        (State::Canceling, "EXPIRED")
    );
    assert_eq!(world.ledger.seen().len(), sent, "decided, but not sent");
    world.ledger.up("money");
    world
        .engine
        .operate(&id("o"), Request::Resume)
        .await
        .unwrap();
    assert_eq!(outcome(&*world.end_of("o").await), Outcome::Failed);
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_branch_ends_the_transaction_mixed_and_its_decision_stands() {
    for mode in [ReplyMode::TwoState, ReplyMode::ThreeState] {
        let world = World::new();
        world.ledger.down_from(2, "money");
        world
            .engine
            .submit(order("o", mode), secs(1))
            .await
            .unwrap();
        let early = world
            .engine
            .operate(&id("o"), resolve(Resolution::Abandoned, false))
            .await;
        assert!(
            matches!(early, Err(EngineError::Refused { .. })),
            "{early:?}"
        );
        let done = world
            .engine
            .operate(&id("o"), resolve(Resolution::Done, true))
            .await;
        let Err(EngineError::Refused {
            refusal: Refusal::StateInvalid(_),
            ..
        }) = done
        else {
            panic!("DONE without the participant's word: {done:?}");
        };
        let ended = world
            .engine
            .operate(&id("o"), resolve(Resolution::Abandoned, true))
            .await
            .unwrap();
        assert_eq!(ended.transaction.state, State::Mixed(Decision::Commit));
        assert_eq!(
            (outcome(&ended), reason(&ended)),
            (Outcome::Success, "RESOLVED_BY_OPERATOR")
        );
        assert_eq!(ended.transaction.branches[0].state, BranchState::Confirmed);
        world.ledger.up("money");
        let sent = world.ledger.seen().len();
        tokio::time::sleep(secs(3600)).await;
        assert_eq!(world.ledger.seen().len(), sent);
    }
}

#[tokio::test(start_paused = true)]
async fn an_undecided_branch_is_not_resolved() {
    let world = World::new();
    world.ledger.down("money");
    world
        .engine
        .submit(patient("o", MODE), secs(1))
        .await
        .unwrap();
    let refused = world
        .engine
        .operate(&id("o"), resolve(Resolution::Abandoned, true))
        .await;
    assert!(
        matches!(refused, Err(EngineError::Refused { .. })),
        "{refused:?}"
    );
    assert_eq!(world.state("o"), State::Trying);
}

#[tokio::test(start_paused = true)]
async fn a_refused_confirm_changes_no_decision_calls_a_person_and_is_repeated_at_the_last_interval()
{
    for (mode, said) in [
        (ReplyMode::ThreeState, Outcome::Processing),
        (ReplyMode::TwoState, Outcome::Success),
    ] {
        let world = World::new();
        world.ledger.fault(3, Fault::Refused);
        let answer = world
            .engine
            .submit(order("o", mode), secs(2))
            .await
            .unwrap();
        assert_eq!(outcome(&answer), said);
        tokio::time::sleep_until(world.start + secs(299)).await;
        let waiting = world.record("o");
        assert_eq!(waiting.transaction.state, State::Confirming);
        assert_eq!(
            waiting.transaction.attentions[0].reason,
            AttentionReason::Refused
        );
        let end = world.end_of("o").await;
        assert_eq!(world.start.elapsed(), secs(300));
        assert_eq!(outcome(&end), Outcome::Success);
        assert!(
            end.transaction.attentions.is_empty(),
            "nothing is left to look at"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_cancel_is_repeated_too() {
    let world = World::new();
    world.ledger.fault(0, Fault::Refused); // stock's Try
    world.ledger.fault(1, Fault::Refused); // and a Cancel: money's Try has not left yet
    let said = world
        .engine
        .submit(order("o", MODE), secs(1))
        .await
        .unwrap();
    assert_eq!(outcome(&said), Outcome::Failed);
    assert_eq!(world.ledger.seen()[1].operation, Operation::Cancel);
    assert_eq!(world.record("o").transaction.attentions.len(), 1);
    world.end_of("o").await;
    assert_eq!(world.start.elapsed(), secs(300));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_fails_too_often_calls_a_person_and_goes_on() {
    let world = World::new();
    world.ledger.down_from(2, "money");
    world
        .engine
        .submit(order("o", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    // 0, 5, 15, 35, 75, 155, 315, 635: the eighth attempt.
    tokio::time::sleep_until(world.start + secs(634)).await;
    assert!(world.record("o").transaction.attentions.is_empty());
    tokio::time::sleep_until(world.start + secs(636)).await;
    let attention = &world.record("o").transaction.attentions[0];
    assert_eq!(attention.reason, AttentionReason::RetriesExceeded);
    world.ledger.up("money");
    world.end_of("o").await;
}
