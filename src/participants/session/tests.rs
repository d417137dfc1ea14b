//! Which session gets a call, and what becomes of a call whose session ends: without a connection, on
//! the state alone.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::oneshot::{self, error::TryRecvError},
    time::Instant,
};
use tonic::{Code, Status};

use super::{
    Hello, SESSIONS_MAX, SessionRefused,
    link::Link,
    state::{Heard, Next, Order, State, Unsent},
};
use crate::{
    participants::{fault::Fault, write::SessionCall},
    proto::tercet::participant::v1::{TryResponse, session_reply::Response},
};

type Reply = oneshot::Receiver<Heard>;

fn hello(instance: &str, max_in_flight: usize) -> Hello {
    Hello {
        participant: tercet_core::ids::ParticipantName::parse("stock").unwrap(),
        instance: instance.into(),
        max_in_flight,
        sdk_version: "test".into(),
    }
}

fn open(state: &mut State, instance: &str, max_in_flight: usize) -> Arc<Link> {
    state.open(&hello(instance, max_in_flight)).unwrap()
}

fn call(state: &mut State, order: Order) -> (Result<u64, Fault>, Reply) {
    let (reply_to, reply) = oneshot::channel();
    (state.take(Unsent { order, reply_to }), reply)
}

fn a_try() -> Order {
    Order {
        call: SessionCall::of_bytes(1),
        is_try: true,
        deadline: Instant::now() + Duration::from_secs(1),
        may_wait: true,
    }
}

fn a_confirm() -> Order {
    Order {
        is_try: false,
        ..a_try()
    }
}

fn a_try_that_does_not_wait() -> Order {
    Order {
        may_wait: false,
        ..a_try()
    }
}

/// A Try that is taken.
fn taken(state: &mut State) -> (u64, Reply) {
    let (number, reply) = call(state, a_try());
    (number.unwrap(), reply)
}

/// The numbers of the calls in the session's next frame.
fn frame(state: &mut State, link: &Arc<Link>) -> Vec<u64> {
    match state.next(link) {
        Next::Calls(calls) => calls.into_iter().map(|(number, _)| number).collect(),
        Next::Nothing => Vec::new(),
        Next::Farewell => panic!("nobody leaves"),
    }
}

fn answer(state: &mut State, link: &Arc<Link>, number: u64) {
    let reply = Response::TryReply(TryResponse::default());
    for (reply_to, heard) in state.replied(link, [(number, Ok(reply))]) {
        reply_to.send(heard).map_err(drop).unwrap();
    }
}

fn never_left(mut reply: Reply) -> Status {
    match reply.try_recv().unwrap().reply {
        Err(Fault::NeverLeft(status)) => status,
        other => panic!("{other:?}"),
    }
}

fn indeterminate(mut reply: Reply) -> Status {
    match reply.try_recv().unwrap().reply {
        Err(Fault::Status(status)) => status,
        other => panic!("{other:?}"),
    }
}

fn waits(reply: &mut Reply) -> bool {
    matches!(reply.try_recv(), Err(TryRecvError::Empty))
}

fn broken() -> Result<(), Status> {
    Err(Status::unavailable("the wire was cut"))
}

#[test]
fn equals_take_turns_and_who_has_fewer_calls_out_comes_first() {
    let mut state = State::default();
    let (a, b) = (open(&mut state, "a", 10), open(&mut state, "b", 10));
    let replies: Vec<_> = (0..6).map(|_| taken(&mut state).1).collect();
    assert_eq!(frame(&mut state, &a), [1, 3, 5]);
    assert_eq!(frame(&mut state, &b), [2, 4, 6]);
    for number in [1, 3, 5] {
        answer(&mut state, &a, number);
    }
    let more: Vec<_> = (0..3).map(|_| taken(&mut state).1).collect();
    assert_eq!(frame(&mut state, &a), [7, 8, 9]);
    drop((replies, more));
}

#[test]
fn no_session_ever_has_more_calls_out_than_its_credit() {
    let mut state = State::default();
    let a = open(&mut state, "a", 2);
    let replies: Vec<_> = (0..5).map(|_| taken(&mut state).1).collect();
    assert_eq!(frame(&mut state, &a), [1, 2]);
    assert!(frame(&mut state, &a).is_empty());
    answer(&mut state, &a, 2);
    assert_eq!(frame(&mut state, &a), [3]);

    // Nobody waits for the first any more, but the participant is still at work on it.
    assert!(state.give_up(1).is_some());
    assert!(frame(&mut state, &a).is_empty());
    answer(&mut state, &a, 1);
    assert_eq!(frame(&mut state, &a), [4]);
    drop(replies);
}

#[test]
fn a_call_that_is_given_up_before_it_left_is_never_sent_and_costs_no_credit() {
    let mut state = State::default();
    let a = open(&mut state, "a", 1);
    let (first, _reply) = taken(&mut state);
    let (second, _reply) = taken(&mut state);
    let (third, _reply) = taken(&mut state);
    assert!(state.give_up(first).is_none(), "given to the session");
    assert!(state.give_up(third).is_none(), "waiting");
    assert_eq!(frame(&mut state, &a), [second]);
    answer(&mut state, &a, second);
    assert!(frame(&mut state, &a).is_empty());
}

#[test]
fn what_was_sent_over_a_broken_session_is_indeterminate_and_the_rest_goes_elsewhere_first() {
    let mut state = State::default();
    let a = open(&mut state, "a", 2);
    let (first, sent) = taken(&mut state);
    assert_eq!(frame(&mut state, &a), [first]);
    let (second, mut unsent) = taken(&mut state);
    let b = open(&mut state, "b", 1);
    let (third, _reply) = taken(&mut state);
    assert_eq!(frame(&mut state, &b), [third]);
    let (_, mut fourth) = call(&mut state, a_try());

    assert!(state.end(&a, broken()));
    let status = indeterminate(sent);
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.message().contains("the wire was cut"), "{status:?}");
    assert!(waits(&mut unsent) && waits(&mut fourth));
    answer(&mut state, &b, third);
    assert_eq!(frame(&mut state, &b), [second]);
    assert!(!state.end(&a, broken()), "it has ended already");
}

#[test]
fn when_the_last_session_ends_what_never_left_is_as_a_refused_connection() {
    let mut state = State::default();
    let a = open(&mut state, "a", 1);
    let (_, given) = taken(&mut state);
    let (_, waiting) = taken(&mut state);
    state.end(&a, Ok(()));
    for reply in [given, waiting] {
        assert_eq!(never_left(reply).message(), "no session is open");
    }
    assert!(call(&mut state, a_try()).0.is_err());
}

#[test]
fn who_has_another_way_does_not_wait_for_credit() {
    let mut state = State::default();
    let _a = open(&mut state, "a", 1);
    let (given, mut reply) = call(&mut state, a_try_that_does_not_wait());
    given.unwrap();
    assert!(waits(&mut reply));
    let (refused, _reply) = call(&mut state, a_try_that_does_not_wait());
    match refused.unwrap_err() {
        Fault::NeverLeft(status) => assert!(status.message().contains("max_in_flight")),
        other => panic!("{other:?}"),
    }
    // Nor does it when its session breaks.
    let a = open(&mut state, "a", 1);
    never_left(reply);
    state.end(&a, broken());
}

#[test]
fn a_session_that_drains_gets_no_try_and_the_rest_only_when_nobody_else_is_there() {
    let mut state = State::default();
    let a = open(&mut state, "a", 2);
    let (first, _reply) = taken(&mut state);
    let (second, _reply) = taken(&mut state);
    let (_, waiting) = taken(&mut state);
    assert_eq!(frame(&mut state, &a), [first, second]);
    state.drain(&a);
    assert!(never_left(waiting).message().contains("no new Try"));
    assert!(call(&mut state, a_try()).0.is_err());

    let (confirm, mut reply) = call(&mut state, a_confirm());
    assert!(waits(&mut reply));
    answer(&mut state, &a, first);
    assert_eq!(frame(&mut state, &a), [confirm.unwrap()]);

    let b = open(&mut state, "b", 1);
    let (to_b, _reply) = call(&mut state, a_confirm());
    let (_, mut for_b) = call(&mut state, a_confirm());
    answer(&mut state, &a, second);
    assert_eq!(frame(&mut state, &b), [to_b.unwrap()]);
    assert!(frame(&mut state, &a).is_empty());
    assert!(waits(&mut for_b), "it waits for b, which doesn't drain");
}

#[test]
fn what_nobody_asked_for_is_ignored() {
    let mut state = State::default();
    let (a, b) = (open(&mut state, "a", 9), open(&mut state, "b", 9));
    let (first, mut reply) = taken(&mut state);
    answer(&mut state, &a, first); // not sent yet
    answer(&mut state, &a, 77);
    assert_eq!(frame(&mut state, &a), [first]);
    answer(&mut state, &b, first); // not its call
    assert!(waits(&mut reply));
    answer(&mut state, &a, first);
    assert!(reply.try_recv().unwrap().reply.is_ok());
    answer(&mut state, &a, first); // a second time
}

#[test]
fn a_second_session_of_an_instance_takes_the_place_of_the_first() {
    let mut state = State::default();
    let old = open(&mut state, "a", 1);
    let (first, sent) = taken(&mut state);
    assert_eq!(frame(&mut state, &old), [first]);
    let new = open(&mut state, "a", 1);
    assert!(indeterminate(sent).message().contains("a newer session"));
    assert_eq!(state.len(), 1);
    let (second, _reply) = taken(&mut state);
    assert_eq!(frame(&mut state, &new), [second]);
    let told = old.how_it_ended().unwrap().clone().unwrap_err();
    assert_eq!(told.code(), Code::Aborted);
}

#[test]
fn sessions_are_bounded_and_who_is_told_to_go_leaves_room() {
    let mut state = State::default();
    for at in 0..SESSIONS_MAX {
        open(&mut state, &format!("i{at}"), 1);
    }
    assert!(matches!(
        state.open(&hello("one-more", 1)),
        Err(SessionRefused::TooMany { .. })
    ));
    open(&mut state, "i0", 1);
    state.say_farewell();
    assert_eq!(
        state.open(&hello("i1", 1)).err(),
        Some(SessionRefused::ShuttingDown)
    );
    state.close(SessionRefused::ShuttingDown, &Ok(()));
    assert_eq!(state.len(), 0);
}

#[test]
fn a_frame_ends_at_its_limits_and_a_larger_call_goes_alone() {
    let mut state = State::default();
    let a = open(&mut state, "a", 2_000);
    let of = |bytes| Order {
        call: SessionCall::of_bytes(bytes),
        ..a_try()
    };
    let mut replies = Vec::new();
    for bytes in [2 << 20, 600_000, 400_000, 400_000] {
        replies.push(call(&mut state, of(bytes)).1);
    }
    assert_eq!(frame(&mut state, &a), [1]);
    assert_eq!(frame(&mut state, &a), [2, 3]);
    assert_eq!(frame(&mut state, &a), [4]);
    for _ in 0..600 {
        replies.push(taken(&mut state).1);
    }
    assert_eq!(frame(&mut state, &a).len(), 512);
    assert_eq!(frame(&mut state, &a).len(), 88);
}
