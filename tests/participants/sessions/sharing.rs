//! Several instances of one participant, credits, and a participant that has endpoints too.

use std::{sync::Arc, time::Duration};

use tercet::{
    participants::{ParticipantConfig, Participants as _, TargetError},
    proto::tercet::participant::v1::{
        CancelResponse, Outcome, open_session_response::Frame as Heard, session_call::Request,
        session_reply::Response,
    },
};
use tercet_core::{
    answer::Answer,
    operation::Operation,
    transaction::{BranchSpec, Target},
};

use super::{Coordinator, config, hello, indeterminate, within};
use crate::support::{Stub, outgoing, shop_methods, stock};

#[tokio::test]
async fn instances_share_the_load() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut instances = [
        coordinator.instance("a").await,
        coordinator.instance("b").await,
    ];
    let answers: Vec<_> = (0..10).map(|_| coordinator.begin_try()).collect();
    for instance in &mut instances {
        for call in instance.calls(5).await {
            instance.succeeds(&call);
        }
    }
    for answer in answers {
        assert_eq!(within(answer).await.unwrap(), Answer::Success(None));
    }
}

/// On one thread that runs next what was woken last, as every thread of the coordinator does.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_that_are_made_together_go_in_one_frame() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut instance = coordinator.instance("a").await;
    let calls = Arc::clone(&coordinator.calls);
    tokio::spawn(async move {
        for _ in 0..10 {
            tokio::spawn(calls.perform(outgoing(Operation::Try, stock())));
        }
    });
    match instance.hears().await {
        Ok(Some(Heard::Calls(frame))) => assert_eq!(frame.calls.len(), 10),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn an_instance_never_has_more_calls_than_it_asked_for() {
    let mut config = config(&[]);
    config.session_heartbeat = Duration::from_millis(20);
    let coordinator = Coordinator::start(&config).await;
    let mut hello = hello("a");
    hello.max_in_flight = 3;
    let mut stock = coordinator.open(hello).await.unwrap();
    let answers: Vec<_> = (0..8).map(|_| coordinator.begin_try()).collect();
    let mut out = stock.calls(3).await;
    for more in [1, 2, 2] {
        // A heartbeat comes only when there is no call to send.
        stock.beats();
        assert!(matches!(stock.hears().await, Ok(Some(Heard::Heartbeat(_)))));
        stock.replies(
            out.drain(..more)
                .map(|call| (call.call_id, super::success())),
        );
        out.extend(stock.calls(more).await);
        assert_eq!(out.len(), 3);
    }
    for call in out {
        stock.succeeds(&call);
    }
    for answer in answers {
        assert_eq!(within(answer).await.unwrap(), Answer::Success(None));
    }
}

#[tokio::test]
async fn who_waits_for_credit_until_its_deadline_was_not_sent() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut hello = hello("a");
    hello.max_in_flight = 1;
    let mut instance = coordinator.open(hello).await.unwrap();
    let first = coordinator.begin_try();
    let call = instance.call().await;
    let mut short = outgoing(Operation::Try, stock());
    short.spec = Arc::new(BranchSpec {
        try_timeout_ms: 50,
        ..(*short.spec).clone()
    });
    let failure = indeterminate(within(coordinator.begin(short)).await.unwrap());
    assert_eq!(&*failure.reason, "DEADLINE_EXCEEDED");
    assert!(
        failure.message.contains("it was not sent"),
        "{}",
        failure.message
    );

    let third = coordinator.begin(outgoing(Operation::Cancel, stock()));
    instance.succeeds(&call);
    assert_eq!(first.await.unwrap(), Answer::Success(None));
    let call = instance.call().await;
    assert!(
        matches!(call.request, Some(Request::CancelCall(_))),
        "not the one given up"
    );
    let done = CancelResponse {
        outcome: Outcome::Success.into(),
        ..CancelResponse::default()
    };
    instance.replies([(call.call_id, Response::CancelReply(done))]);
    assert_eq!(within(third).await.unwrap(), Answer::Success(None));
}

#[tokio::test]
async fn without_a_session_a_call_is_as_one_whose_connection_is_refused() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let failure = indeterminate(coordinator.perform(Operation::Try).await);
    assert_eq!((&*failure.reason, failure.code), ("UNAVAILABLE", 14));
    assert_eq!(
        &*failure.message,
        "participant stock at its sessions: UNAVAILABLE: it was not sent: no session is open"
    );
}

#[tokio::test]
async fn a_participant_with_endpoints_too_is_called_there_when_no_session_has_room() {
    let (stub, address) = Stub::default().serve().await;
    let coordinator = Coordinator::start(&config(&[address])).await;
    assert_eq!(
        coordinator.perform(Operation::Try).await,
        Answer::Success(None)
    );
    assert_eq!(stub.calls(), 1);

    let mut hello = hello("a");
    hello.max_in_flight = 1;
    let mut instance = coordinator.open(hello).await.unwrap();
    let over_session = coordinator.begin_try();
    instance.call().await;
    assert_eq!(
        coordinator.perform(Operation::Try).await,
        Answer::Success(None)
    );
    assert_eq!(stub.calls(), 2);

    // What was sent over the session isn't sent again to an endpoint.
    drop(instance);
    let failure = indeterminate(within(over_session).await.unwrap());
    assert!(
        failure.message.contains("session stock-1"),
        "{}",
        failure.message
    );
    assert_eq!(stub.calls(), 2);
    assert_eq!(
        coordinator.perform(Operation::Confirm).await,
        Answer::Success(None)
    );
    assert_eq!(stub.calls(), 3);
}

#[tokio::test]
async fn methods_of_their_own_are_not_carried_by_sessions() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let refused = coordinator
        .calls
        .check(&Target::Methods(shop_methods("stock")));
    assert_eq!(
        refused,
        Err(TargetError::NoEndpoint {
            name: "stock".into()
        })
    );
    assert_eq!(coordinator.calls.check(&stock()), Ok(()));
}

#[tokio::test]
async fn a_configuration_without_the_participants_sessions_ends_them() {
    let mut config = config(&[]);
    let coordinator = Coordinator::start(&config).await;
    let mut instance = coordinator.instance("a").await;
    // One that still has them keeps them.
    coordinator.calls.replace(&config).unwrap();
    let answer = coordinator.begin_try();
    instance.call().await;

    let participant = config.participants.values_mut().next().unwrap();
    *participant = ParticipantConfig::new(vec!["http://127.0.0.1:1".into()]);
    coordinator.calls.replace(&config).unwrap();
    let failure = indeterminate(within(answer).await.unwrap());
    assert!(
        failure.message.contains("no sessions of it any more"),
        "{}",
        failure.message
    );
    let status = instance.end().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Aborted);
    let refused = coordinator.open(super::hello("a")).await.err().unwrap();
    assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
}
