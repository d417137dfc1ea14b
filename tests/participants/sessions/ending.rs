//! How sessions end, and what that means for the calls in them.

use std::time::Duration;

use tercet::proto::tercet::participant::v1::open_session_response::Frame as Heard;
use tercet_core::{answer::Answer, operation::Operation};
use tonic::Code;

use super::{Coordinator, config, indeterminate, within};
use crate::support::{outgoing, stock};

#[tokio::test]
async fn a_broken_stream_leaves_every_call_in_it_indeterminate_and_no_other() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut a = coordinator.instance("a").await;
    let lost = [coordinator.begin_try(), coordinator.begin_try()];
    a.calls(2).await;
    let mut b = coordinator.instance("b").await;
    let kept = coordinator.begin_try();
    let call = b.call().await;
    drop(a);
    for answer in lost {
        let failure = indeterminate(within(answer).await.unwrap());
        assert_eq!((&*failure.reason, failure.code), ("UNAVAILABLE", 14));
        assert!(
            failure
                .message
                .contains("the session ended before the reply")
        );
    }
    b.succeeds(&call);
    assert_eq!(within(kept).await.unwrap(), Answer::Success(None));
}

#[tokio::test]
async fn a_participant_that_is_not_heard_is_gone_and_one_that_is_stays() {
    let mut config = config(&[]);
    config.session_heartbeat = Duration::from_millis(20);
    let coordinator = Coordinator::start(&config).await;
    let mut alive = coordinator.instance("alive").await;
    let mut silent = coordinator.instance("silent").await;
    let (to_alive, to_silent) = (coordinator.begin_try(), coordinator.begin_try());
    let call = alive.call().await;
    silent.call().await;
    let silent = tokio::spawn(silent.end());
    while !silent.is_finished() {
        assert!(matches!(alive.hears().await, Ok(Some(Heard::Heartbeat(_)))));
        alive.beats();
    }
    let status = silent.await.unwrap().unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    assert!(
        status.message().contains("was not heard for 60ms"),
        "{status:?}"
    );
    let failure = indeterminate(within(to_silent).await.unwrap());
    assert!(
        failure.message.contains("was not heard"),
        "{}",
        failure.message
    );
    alive.succeeds(&call);
    assert_eq!(within(to_alive).await.unwrap(), Answer::Success(None));
}

#[tokio::test]
async fn a_participant_that_leaves_gets_no_new_try_and_its_last_replies_count() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut a = coordinator.instance("a").await;
    let running = coordinator.begin_try();
    let call = a.call().await;
    a.drains();
    // Frames are heard in their order: once this reply has come, the drain has.
    a.succeeds(&call);
    assert_eq!(within(running).await.unwrap(), Answer::Success(None));
    let failure = indeterminate(coordinator.perform(Operation::Try).await);
    assert!(
        failure.message.contains("no new Try"),
        "{}",
        failure.message
    );

    // Nobody else is there for the rest.
    let confirm = coordinator.begin(outgoing(Operation::Confirm, stock()));
    a.call().await;
    let mut b = coordinator.instance("b").await;
    let answers = [coordinator.begin_try(), coordinator.begin_try()];
    for call in b.calls(2).await {
        b.succeeds(&call);
    }
    for answer in answers {
        assert_eq!(within(answer).await.unwrap(), Answer::Success(None));
    }
    a.leave().await;
    indeterminate(within(confirm).await.unwrap());
}

#[tokio::test]
async fn a_coordinator_that_goes_away_says_so_takes_last_replies_and_ends_its_sessions() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut a = coordinator.instance("a").await;
    let running = coordinator.begin_try();
    let call = a.call().await;
    coordinator.calls.say_farewell();
    assert!(matches!(a.hears().await, Ok(Some(Heard::Drain(_)))));
    a.succeeds(&call);
    assert_eq!(within(running).await.unwrap(), Answer::Success(None));
    let refused = coordinator.open(super::hello("b")).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);

    let lost = coordinator.begin_try();
    a.call().await;
    coordinator.calls.close_sessions();
    indeterminate(within(lost).await.unwrap());
    a.end()
        .await
        .expect("it is told nothing worse than the end");
}

#[tokio::test]
async fn an_instance_that_connects_again_takes_the_place_of_what_it_was() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut before = coordinator.instance("a").await;
    let lost = coordinator.begin_try();
    before.call().await;
    let mut again = coordinator.instance("a").await;
    indeterminate(within(lost).await.unwrap());
    assert_eq!(before.end().await.unwrap_err().code(), Code::Aborted);
    let answer = coordinator.begin_try();
    let call = again.call().await;
    again.succeeds(&call);
    assert_eq!(within(answer).await.unwrap(), Answer::Success(None));
}
