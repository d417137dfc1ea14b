//! What is asked over a session is answered as over a unary call.

use std::sync::Arc;

use tercet_sdk::proto::participant::v1::{
    CancelRequest, ConfirmRequest, Outcome, QueryRequest, RecordState,
    open_session_request::Frame as Heard, session_call::Request as Call,
    session_reply::Response as Reply,
};
use tokio::sync::Notify;
use tonic::Code;

use crate::coordinator::{Booking, Coordinator, Plane, a_try, context};

#[tokio::test(start_paused = true)]
async fn it_says_who_it_is() {
    let mut coordinator = Coordinator::start(Booking::default());
    let hello = coordinator.session().await.hello;
    assert_eq!(hello.participant, "airline");
    assert_eq!(hello.resources, ["seat"]);
    assert_eq!(hello.max_in_flight, 7);
    assert_eq!(hello.instance_id.len(), 32);
    assert!(hello.sdk_version.starts_with("tercet-sdk-rust/"));
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_call_is_answered_through_the_fence() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut session = coordinator.session().await;
    for _ in ["the first", "the same again"] {
        match session.answer(a_try("o1", 3)).await {
            Reply::TryReply(reply) => assert_eq!(reply.outcome(), Outcome::Success),
            other => panic!("{other:?}"),
        }
    }
    let query = QueryRequest {
        context: context("o1"),
    };
    match session.answer(Call::QueryCall(query)).await {
        Reply::QueryReply(reply) => assert_eq!(reply.state(), RecordState::Tried),
        other => panic!("{other:?}"),
    }
    let confirm = ConfirmRequest {
        context: context("o1"),
        ..ConfirmRequest::default()
    };
    match session.answer(Call::ConfirmCall(confirm)).await {
        Reply::ConfirmReply(reply) => assert_eq!(reply.outcome(), Outcome::Success),
        other => panic!("{other:?}"),
    }
    let cancel = CancelRequest {
        context: context("o2"),
        ..CancelRequest::default()
    };
    match session.answer(Call::CancelCall(cancel)).await {
        Reply::CancelReply(reply) => assert_eq!(reply.outcome(), Outcome::Success),
        other => panic!("{other:?}"),
    }
    match session.answer(a_try("o2", 1)).await {
        Reply::TryReply(reply) => {
            assert_eq!(reply.outcome(), Outcome::Failed);
            assert_eq!(reply.failure.unwrap().reason, "BRANCH_FENCED");
        }
        other => panic!("{other:?}"),
    }
    let sold = Plane {
        free: 97,
        held: 0,
        sold: 3,
    };
    assert_eq!(coordinator.plane().await, sold);
}

#[tokio::test(start_paused = true)]
async fn what_has_no_outcome_is_indeterminate_with_its_code() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut session = coordinator.session().await;
    let elsewhere = {
        let mut call = a_try("o2", 1);
        if let Call::TryCall(request) = &mut call {
            request.context.as_mut().unwrap().resource = "berth".into();
        }
        call
    };
    let confirm = Call::ConfirmCall(ConfirmRequest {
        context: context("o3"),
        ..ConfirmRequest::default()
    });
    for (call, code, reason) in [
        (a_try("o1", 13), Code::Internal, "RESOURCE_PANICKED"),
        (elsewhere, Code::NotFound, "RESOURCE_UNKNOWN"),
        (confirm, Code::FailedPrecondition, "NOT_TRIED"),
        (
            Call::QueryCall(QueryRequest::default()),
            Code::InvalidArgument,
            "FIELD_INVALID",
        ),
    ] {
        match session.answer(call).await {
            Reply::Indeterminate(it) => {
                assert_eq!((Code::from(it.code), &*it.reason), (code, reason));
            }
            other => panic!("{other:?}"),
        }
    }
    match session.answer(a_try("o4", 1000)).await {
        Reply::TryReply(reply) => assert_eq!(reply.failure.unwrap().reason, "SOLD_OUT"),
        other => panic!("{other:?}"),
    }
}

/// On one thread that runs next what was woken last, as a participant's threads do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn calls_of_one_frame_are_answered_in_one_frame() {
    let mut coordinator = Coordinator::start(Booking::default());
    let mut session = coordinator.session().await;
    session.answer(a_try("first", 1)).await;
    session.calls((0..90).map(|at| (at, a_try(&format!("o{at}"), 1))));
    let Some(Heard::Replies(frame)) = session.hears().await else {
        panic!("no replies");
    };
    let mut replied: Vec<_> = frame.replies.iter().map(|it| it.call_id).collect();
    replied.sort_unstable();
    assert_eq!(replied, (0..90).collect::<Vec<_>>());
    assert_eq!(coordinator.plane().await.held, 91);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_holds_up_no_other_of_its_frame() {
    let gate = Arc::new(Notify::new());
    let mut coordinator = Coordinator::start(Booking {
        gate: Some(Arc::clone(&gate)),
        ..Booking::default()
    });
    let mut session = coordinator.session().await;
    let mut elsewhere = a_try("o2", 1);
    if let Call::TryCall(request) = &mut elsewhere {
        request.context.as_mut().unwrap().resource = "berth".into();
    }
    session.calls([(1, a_try("o1", 1)), (2, elsewhere)]);
    let reply = session.replies(1).await.remove(0);
    assert_eq!(reply.call_id, 2);
    gate.notify_one();
    let reply = session.replies(1).await.remove(0);
    assert_eq!(reply.call_id, 1);
    assert!(matches!(reply.response, Some(Reply::TryReply(_))));
}
