//! What no participant should send: each is an error that says what was wrong, and none is more than
//! the end of that session.

use tercet::{
    participants::session::SESSIONS_MAX,
    proto::tercet::participant::v1::{
        Failure, SessionHello, SessionReplies, SessionReply, TryResponse,
        open_session_request::Frame as Said, session_reply::Response,
    },
};
use tercet_core::answer::Answer;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Coordinator, config, hello, indeterminate, within};

fn expect(status: &Status, code: Code, reason: &str, told: &str) {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("{status:?}"));
    assert_eq!((status.code(), &*info.reason), (code, reason), "{status:?}");
    assert!(status.message().contains(told), "{status:?}");
}

async fn refused(hello: SessionHello, code: Code, reason: &str, told: &str) {
    let coordinator = Coordinator::start(&config(&[])).await;
    let status = coordinator.open(hello).await.err().expect(told);
    expect(&status, code, reason, told);
}

#[tokio::test]
async fn a_hello_that_cannot_be_used_is_told_what_is_wrong_with_it() {
    let with = |change: fn(&mut SessionHello)| {
        let mut hello = hello("a");
        change(&mut hello);
        hello
    };
    let (bad, invalid, limit) = (Code::InvalidArgument, "FIELD_INVALID", "LIMIT_EXCEEDED");
    let name = with(|it| it.participant = "Stock!".into());
    refused(name, bad, invalid, "hello.participant").await;
    let nobody = with(|it| it.instance_id.clear());
    refused(nobody, bad, invalid, "hello.instance_id: it is empty").await;
    let long = with(|it| it.instance_id = "x".repeat(257));
    refused(
        long,
        bad,
        limit,
        "hello.instance_id: it has 257 bytes; at most 256",
    )
    .await;
    let control = with(|it| it.instance_id = "a\nb".into());
    refused(control, bad, invalid, "control characters").await;
    let version = with(|it| it.sdk_version = "x".repeat(257));
    refused(version, bad, limit, "hello.sdk_version").await;
    let resource = with(|it| it.resources.push("x".repeat(257)));
    refused(resource, bad, limit, "hello.resources").await;
    let resources = with(|it| it.resources = vec!["r".into(); 1025]);
    refused(resources, bad, limit, "there are 1025; at most 1024").await;
    for calls in [0, -1, i32::MIN, 65_537, i32::MAX] {
        let mut hello = hello("a");
        hello.max_in_flight = calls;
        let told = format!("hello.max_in_flight: it is {calls}; it must be 1 to 65536");
        refused(hello, bad, invalid, &told).await;
    }
}

#[tokio::test]
async fn a_participant_that_is_not_configured_or_not_so_is_refused() {
    let unknown = SessionHello {
        participant: "stork".into(),
        ..hello("a")
    };
    let told = "no participant is named \"stork\"; configured are: stock";
    refused(unknown, Code::NotFound, "PARTICIPANT_NOT_FOUND", told).await;

    let (_stub, address) = crate::support::Stub::default().serve().await;
    let unary = crate::support::config(&[address]);
    let coordinator = Coordinator::start(&unary).await;
    let status = coordinator.open(hello("a")).await.err().unwrap();
    let told = "set participants.stock.sessions to true";
    expect(&status, Code::FailedPrecondition, "SESSIONS_DISABLED", told);
}

#[tokio::test]
async fn sessions_of_one_participant_are_bounded() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut open = Vec::new();
    for at in 0..SESSIONS_MAX {
        open.push(coordinator.instance(&format!("i{at}")).await);
    }
    let status = coordinator.open(hello("one-more")).await.err().unwrap();
    expect(
        &status,
        Code::ResourceExhausted,
        "SESSION_LIMIT",
        "has 128 sessions open",
    );
    assert!(status.get_error_details().retry_info().is_some());
    open.pop().unwrap().leave().await;
    coordinator.instance("one-more").await;
}

#[tokio::test]
async fn frames_out_of_turn_end_the_session() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let first = Said::Replies(SessionReplies::default());
    let status = coordinator.say(first).await.err().unwrap();
    let told = "the first frame must be SessionHello";
    expect(&status, Code::InvalidArgument, "FIELD_INVALID", told);

    let mut instance = coordinator.instance("a").await;
    let answer = coordinator.begin_try();
    instance.call().await;
    instance.says(Said::Hello(hello("a")));
    let status = instance.end().await.unwrap_err();
    expect(
        &status,
        Code::InvalidArgument,
        "FIELD_INVALID",
        "SessionHello is sent once",
    );
    indeterminate(within(answer).await.unwrap());
}

#[tokio::test]
async fn a_frame_that_is_too_large_or_too_full_ends_the_session_and_nothing_else() {
    let coordinator = Coordinator::start(&config(&[])).await;
    let mut other = coordinator.instance("other").await;
    let kept = coordinator.begin_try();
    let call = other.call().await;

    let empty = vec![SessionReply::default(); 100_000];
    let large = SessionReply {
        call_id: 1,
        response: Some(Response::TryReply(TryResponse {
            failure: Some(Failure {
                message: "x".repeat(2 << 20),
                ..Failure::default()
            }),
            ..TryResponse::default()
        })),
    };
    for (replies, told) in [(empty, "has 100001 fields"), (vec![large], "too large")] {
        let mut instance = coordinator.instance("a").await;
        let answer = coordinator.begin_try();
        instance.call().await;
        instance.says(Said::Replies(SessionReplies { replies }));
        let status = instance.end().await.unwrap_err();
        assert!(status.message().contains(told), "{status:?}");
        indeterminate(within(answer).await.unwrap());
    }

    other.succeeds(&call);
    assert_eq!(within(kept).await.unwrap(), Answer::Success(None));
}
