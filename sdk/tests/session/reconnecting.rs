//! Whatever happens to its session, it opens the next one.

use std::time::Duration;

use tercet_sdk::{
    participant::{MemoryFence, Participant, ServeError, SetupError},
    proto::participant::v1::{
        QueryRequest, RecordState, session_call::Request as Call, session_reply::Response as Reply,
    },
};
use tokio::{sync::Notify, time::Instant};
use tonic::Status;

use crate::coordinator::{Booking, Coordinator, HEARTBEAT, Plane, a_try, context};

#[tokio::test(start_paused = true)]
async fn it_connects_again_soon_at_first_and_then_every_few_seconds() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut asked = coordinator.asked().await;
    let mut pause_ms = 100;
    for _ in 0..8 {
        asked.refuse(Status::unavailable("not yet"));
        let since = Instant::now();
        asked = coordinator.asked().await;
        let pause = since.elapsed().as_millis();
        assert!(
            (pause_ms / 2..=pause_ms + 1).contains(&pause),
            "{pause} of {pause_ms}"
        );
        pause_ms = (pause_ms * 2).min(5_000);
    }
    assert_eq!(pause_ms, 5_000);
}

#[tokio::test(start_paused = true)]
async fn when_its_stream_breaks_the_same_instance_comes_again() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut session = coordinator.session().await;
    let instance = session.hello.instance_id.clone();
    assert!(matches!(
        session.answer(a_try("o1", 1)).await,
        Reply::TryReply(_)
    ));
    drop(session);
    let mut session = coordinator.session().await;
    assert_eq!(session.hello.instance_id, instance);
    assert!(matches!(
        session.answer(a_try("o2", 1)).await,
        Reply::TryReply(_)
    ));
    assert_eq!(coordinator.plane().await.held, 2);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_has_lived_makes_the_next_come_soon() {
    let mut coordinator = Coordinator::start(Booking::default());
    for _ in 0..8 {
        coordinator
            .asked()
            .await
            .refuse(Status::unavailable("not yet"));
    }
    let session = coordinator.session().await;
    for _ in 0..10 {
        tokio::time::sleep(HEARTBEAT).await;
        session.beats();
    }
    session.ends(Status::unavailable("a restart"));
    let ended = Instant::now();
    coordinator.asked().await;
    assert!(
        ended.elapsed() <= Duration::from_millis(101),
        "{:?}",
        ended.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_asked_about_again_later() {
    let mut coordinator = Coordinator::start(Booking::default());
    coordinator
        .asked()
        .await
        .refuse(Status::not_found("no participant is named \"airline\""));
    let refused = Instant::now();
    let mut session = coordinator.session().await;
    let pause = refused.elapsed();
    assert!(
        pause >= Duration::from_secs(5) && pause <= Duration::from_secs(11),
        "{pause:?}"
    );
    assert!(matches!(
        session.answer(a_try("o1", 1)).await,
        Reply::TryReply(_)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_is_not_heard_is_left_and_it_is_heard_itself() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut session = coordinator.session().await;
    let since = Instant::now();
    let beats = tokio::spawn(async move {
        let mut beats = 0;
        while let Ok(Some(_)) = session.hears.message().await {
            beats += 1;
        }
        beats
    });
    coordinator.asked().await;
    let silence = since.elapsed();
    assert!(
        silence >= 3 * HEARTBEAT && silence <= 5 * HEARTBEAT,
        "{silence:?}"
    );
    assert!(beats.await.unwrap() >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_welcome_that_does_not_come_is_not_waited_for() {
    let mut coordinator = Coordinator::start(Booking::default());
    let never_answered = coordinator.asked().await;
    let since = Instant::now();
    coordinator.asked().await;
    let waited = since.elapsed();
    assert!(
        waited >= Duration::from_secs(10) && waited <= Duration::from_secs(11),
        "{waited:?}"
    );
    drop(never_answered);
}

#[tokio::test(start_paused = true)]
async fn work_outlives_its_session_and_is_found_over_the_next() {
    let gate = std::sync::Arc::new(Notify::new());
    let booking = Booking {
        gate: Some(gate.clone()),
        ..Booking::default()
    };
    let begun = booking.begun.clone();
    let mut coordinator = Coordinator::start(booking);
    let session = coordinator.session().await;
    session.calls([(1, a_try("o1", 2))]);
    begun.notified().await;
    drop(session);
    gate.notify_one();
    let query = QueryRequest {
        context: context("o1"),
    };
    let mut session = coordinator.session().await;
    match session.answer(Call::QueryCall(query)).await {
        Reply::QueryReply(reply) => assert_eq!(reply.state(), RecordState::Tried),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_wrong_with_its_setup_is_said_at_once() {
    let participant = || {
        let plane = Plane {
            free: 1,
            held: 0,
            sold: 0,
        };
        Participant::new("airline", MemoryFence::new(plane)).resource(Booking::default())
    };
    let never = std::future::pending::<()>;
    for calls in [0, 65_537] {
        let error = participant()
            .max_in_flight(calls)
            .connect("http://h:1", never())
            .await;
        assert!(matches!(
            error,
            Err(ServeError::Setup(SetupError::MaxInFlight(it))) if it == calls
        ));
    }
    let error = participant()
        .connect("ht tp://", never())
        .await
        .unwrap_err();
    let told = error.to_string();
    assert!(
        told.contains("\"ht tp://\"") && told.contains("write http://HOST:PORT"),
        "{told}"
    );
}
