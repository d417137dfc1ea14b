//! One id is one transaction: repeating it attaches, other content is refused, and an id rolled back
//! before its Submit came never runs.

use tercet::{
    engine::{EngineConfig, EngineError},
    store::Store as _,
};
use tercet_core::{
    operation::Operation,
    outcome::{Outcome, ReplyMode},
    payload::Failure,
    request::{Refusal, Request},
    transaction::State,
};

use crate::{
    common::{
        START_MS, WAIT, id,
        ledger::{Fault, HELD},
    },
    support::{
        World, branch, branch_id, interactive, millis, order, other_content, outcome, patient,
        reason, secs,
    },
};

const MODES: [ReplyMode; 3] = [
    ReplyMode::TwoState,
    ReplyMode::ThreeState,
    ReplyMode::Accepted,
];

#[tokio::test(start_paused = true)]
async fn many_duplicates_at_once_are_one_effect_and_one_answer() {
    for mode in MODES {
        let world = World::new();
        world.store.hold();
        let callers: Vec<_> = (0..200)
            .map(|_| world.submit(order("o", mode), WAIT))
            .collect();
        world.store.held(1).await;
        world.store.release();
        let mut said = Vec::new();
        for caller in callers {
            said.push(caller.await.unwrap().unwrap());
        }
        let end = world.end_of("o").await;
        assert_eq!(outcome(&end), Outcome::Success);
        assert_eq!(
            (
                world.ledger.consumed("stock"),
                world.ledger.consumed("money")
            ),
            (5, 5)
        );
        assert_eq!(world.ledger.seen().len(), 4);
        assert_eq!(world.store.counters().commits, 3);
        if mode != ReplyMode::Accepted {
            assert!(said.iter().all(|it| outcome(it) == Outcome::Success));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_submit_repeated_after_the_end_gets_the_same_answer_again() {
    let world = World::new();
    let first = world
        .engine
        .submit(order("o", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    let again = world
        .engine
        .submit(order("o", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    assert_eq!(first, again);
    assert_eq!(world.ledger.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_id_with_other_content_is_refused_alive_and_ended() {
    let world = World::new();
    world.ledger.down("money");
    let new = patient("o", ReplyMode::ThreeState);
    world.engine.submit(new.clone(), millis(10)).await.unwrap();
    let reused = Err(EngineError::IdReused(id("o")));
    assert_eq!(
        world.engine.submit(other_content(new.clone()), WAIT).await,
        reused
    );
    world.ledger.up("money");
    world.end_of("o").await;
    assert_eq!(world.engine.submit(other_content(new), WAIT).await, reused);
    assert_eq!(world.ledger.consumed("money"), 5);
}

#[tokio::test(start_paused = true)]
async fn an_id_rolled_back_before_its_submit_came_never_runs() {
    for mode in MODES {
        let world = World::new();
        let cause = Failure::new("ROLLED_BACK", "the client gave up");
        let rolled_back = world
            .engine
            .rollback(&id("o"), cause.clone(), WAIT)
            .await
            .unwrap();
        assert_eq!(rolled_back.transaction.state, State::Canceled);
        let again = world.engine.rollback(&id("o"), cause, WAIT).await.unwrap();
        assert_eq!(again, rolled_back);
        let world = world.restart(EngineConfig::default()).await;
        for new in [order("o", mode), other_content(order("o", mode))] {
            let said = world.engine.submit(new, WAIT).await.unwrap();
            assert_eq!(
                (outcome(&said), reason(&said)),
                (Outcome::Failed, "ROLLED_BACK")
            );
        }
        let begun = world.engine.begin(interactive("o", mode)).await.unwrap();
        assert_eq!(outcome(&begun), Outcome::Failed);
        assert!(world.ledger.seen().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_rollback_cancels_what_is_undecided_and_not_what_is_committed() {
    let world = World::new();
    world.ledger.down("money");
    world
        .engine
        .submit(patient("o", ReplyMode::Accepted), WAIT)
        .await
        .unwrap();
    let cause = || Failure::new("ROLLED_BACK", "changed my mind");
    let said = world
        .engine
        .rollback(&id("o"), cause(), secs(1))
        .await
        .unwrap();
    assert_eq!(
        (said.transaction.state, reason(&said)),
        (State::Canceling, "ROLLED_BACK")
    );
    world.ledger.up("money");
    world.end_of("o").await;

    world
        .engine
        .submit(order("p", ReplyMode::ThreeState), WAIT)
        .await
        .unwrap();
    let refused = world.engine.rollback(&id("p"), cause(), WAIT).await;
    let refusal = Refusal::DecisionConflict;
    assert_eq!(
        refused,
        Err(EngineError::Refused {
            id: id("p"),
            refusal
        })
    );
    world.end_of("p").await;
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_comes_too_late_is_refused_unless_its_id_is_known() {
    let world = World::new();
    let mut late = order("late", ReplyMode::ThreeState);
    late.submit_expire_ms = Some(START_MS + 1_000);
    let mut known = order("known", ReplyMode::ThreeState);
    known.submit_expire_ms = Some(START_MS + 1_000);
    world.engine.submit(known.clone(), WAIT).await.unwrap();
    tokio::time::sleep(millis(1_250)).await;
    let expired = EngineError::SubmitExpired {
        id: id("late"),
        late_ms: 250,
    };
    assert_eq!(world.engine.submit(late.clone(), WAIT).await, Err(expired));
    assert_eq!(
        world.engine.record(&id("late")),
        Err(EngineError::NotFound(id("late")))
    );
    let said = world.engine.submit(known, WAIT).await.unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
    assert_eq!(world.ledger.seen().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_caller_that_goes_away_changes_nothing() {
    for mode in MODES {
        let world = World::new();
        world.ledger.down("money");
        let caller = world.submit(order("o", mode), WAIT);
        tokio::time::sleep(millis(50)).await;
        caller.abort();
        world.ledger.up("money");
        let end = world.end_of("o").await;
        assert_eq!(outcome(&end), Outcome::Success, "{mode:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_try_that_arrives_after_its_cancel_has_no_effect() {
    let world = World::new();
    world.ledger.fault(1, Fault::VeryLate);
    let said = world
        .engine
        .submit(order("o", ReplyMode::TwoState), secs(1))
        .await
        .unwrap();
    assert_eq!(outcome(&said), Outcome::Failed);
    let record = crate::common::end_of(&world.engine, &id("o")).await;
    assert_eq!(record.transaction.state, State::Canceled);
    let canceled = world
        .calls("money")
        .iter()
        .any(|it| it.1 == Operation::Cancel);
    assert!(
        canceled,
        "its Try may be on its way, so its Cancel had to leave"
    );
    world.ledger.deliver_late();
    assert_eq!(world.ledger.available("money"), HELD);
    world.ledger.check(&[record]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_names_exactly_the_recorded_branches() {
    let world = World::new();
    let (engine, o) = (&world.engine, id("o"));
    engine
        .begin(interactive("o", ReplyMode::ThreeState))
        .await
        .unwrap();
    for (name, participant) in [("b1", "stock"), ("b2", "money")] {
        engine
            .try_branch(&o, branch(name, participant, 5), WAIT)
            .await
            .unwrap();
    }
    for named in [vec![], vec!["b1"], vec!["b1", "b2", "b3"]] {
        let named = named.into_iter().map(branch_id).collect();
        let refused = engine.commit(&o, named, WAIT).await;
        let Err(EngineError::Refused {
            refusal: Refusal::BranchSetMismatch { .. },
            ..
        }) = refused
        else {
            panic!("{refused:?}");
        };
    }
    let both = vec![branch_id("b2"), branch_id("b1")];
    let said = engine.commit(&o, both.clone(), WAIT).await.unwrap();
    assert_eq!(outcome(&said), Outcome::Success);
    assert_eq!(engine.commit(&o, both, WAIT).await.unwrap(), said);
    let late = engine.try_branch(&o, branch("b3", "other", 5), WAIT).await;
    assert!(matches!(late, Err(EngineError::Refused { .. })), "{late:?}");
    world.end_of("o").await;
    assert_eq!(world.ledger.consumed("other"), 0);
}

#[tokio::test(start_paused = true)]
async fn asking_something_of_an_unknown_id_leaves_nothing_behind() {
    let world = World::new();
    let o = id("o");
    let unknown = || Err(EngineError::NotFound(id("o")));
    assert_eq!(world.engine.record(&o), unknown());
    assert_eq!(world.engine.wait(&o, WAIT).await, unknown());
    assert_eq!(world.engine.commit(&o, vec![], WAIT).await, unknown());
    assert_eq!(world.engine.operate(&o, Request::Pause).await, unknown());
    assert_eq!(world.store.counters().commits, 0);
    assert_eq!(world.engine.load(), (0, 0));
}
