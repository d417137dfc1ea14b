//! The shutdown of a participant that has connected out.

use std::{sync::Arc, time::Duration};

use tercet_sdk::proto::participant::v1::{
    SessionDrain, open_session_request::Frame as Heard, open_session_response::Frame as Said,
    session_reply::Response as Reply,
};
use tokio::{sync::Notify, time::Instant};
use tonic::Status;

use crate::coordinator::{Booking, Coordinator, a_try};

fn gated() -> (Booking, Arc<Notify>, Arc<Notify>) {
    let gate = Arc::new(Notify::new());
    let booking = Booking {
        gate: Some(gate.clone()),
        ..Booking::default()
    };
    let begun = booking.begun.clone();
    (booking, gate, begun)
}

#[tokio::test(start_paused = true)]
async fn it_asks_for_no_new_try_answers_what_runs_and_ends() {
    let (booking, gate, begun) = gated();
    let mut coordinator = Coordinator::start(booking);
    let mut session = coordinator.session().await;
    session.calls([(1, a_try("o1", 1))]);
    begun.notified().await;
    coordinator.stop();
    assert!(matches!(session.hears().await, Some(Heard::Drain(_))));
    assert!(!coordinator.participant.is_finished());
    gate.notify_one();
    let reply = session.replies(1).await.remove(0);
    assert!(matches!(reply.response, Some(Reply::TryReply(_))));
    assert!(session.hears().await.is_none(), "it has ended its half");
    drop(session);
    coordinator.participant.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_takes_too_long_is_cut_off() {
    let (booking, _gate, begun) = gated();
    let mut coordinator = Coordinator::start(booking);
    let session = coordinator.session().await;
    session.calls([(1, a_try("o1", 1))]);
    begun.notified().await;
    coordinator.stop();
    let since = Instant::now();
    coordinator.participant.await.unwrap().unwrap();
    let waited = since.elapsed();
    assert!(
        waited >= Duration::from_secs(10) && waited <= Duration::from_secs(30),
        "{waited:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn without_a_session_it_ends_at_once() {
    let mut coordinator = Coordinator::start(Booking::default());
    let unanswered = coordinator.asked().await;
    coordinator.stop();
    let since = Instant::now();
    coordinator.participant.await.unwrap().unwrap();
    assert_eq!(since.elapsed(), Duration::ZERO);
    drop(unanswered);
}

/// The connection may outlive it, and must not keep the session alive.
#[tokio::test(start_paused = true)]
async fn who_drops_it_ends_its_session() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut session = coordinator.session().await;
    coordinator.participant.abort();
    assert!(session.hears().await.is_none());
    coordinator.participant.await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn a_coordinator_that_goes_away_gets_its_replies_and_is_looked_for_again() {
    let (booking, gate, begun) = gated();
    let mut coordinator = Coordinator::start(booking);
    let mut session = coordinator.session().await;
    session.calls([(1, a_try("o1", 1))]);
    begun.notified().await;
    session.says(Said::Drain(SessionDrain {}));
    gate.notify_one();
    session.replies(1).await;
    session.ends(Status::unavailable("a restart"));
    drop(session);
    coordinator.session().await;
}
