//! The hot call: what is answered at once, and what is handed on.

use std::{
    collections::BTreeSet,
    future::poll_fn,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::future::join_all;

use super::*;

/// Answers, or refuses, with what another task has counted to.
#[derive(Clone, Default)]
struct Turn(Arc<AtomicUsize>);

impl HotCall for Turn {
    const PATH: &'static str = HOT;

    fn message_bytes_max(&self) -> usize {
        BYTES_MAX
    }

    async fn answer(self, _: HeaderMap, message: Bytes) -> Result<Bytes, Refusal> {
        let turn = self.0.load(Ordering::SeqCst).to_string();
        match &*message {
            b"refuse" => Err(Status::resource_exhausted(turn).into()),
            _ => Ok(framed_bytes(turn.as_bytes())),
        }
    }
}

/// What is told to as many calls as may come at once, while another task counts its turns.
async fn told_at_once(message: &[u8]) -> Vec<Told> {
    let turn = Turn::default();
    let counting = Arc::clone(&turn.0);
    tokio::spawn(poll_fn(move |cx| {
        counting.fetch_add(1, Ordering::SeqCst);
        cx.waker().wake_by_ref();
        Poll::<()>::Pending
    }));
    let calls = Calls {
        hot: turn,
        others: Routes::default(),
    };
    let it = Running::serving(calls).await;
    let mut calls = Vec::new();
    for _ in 0..STREAMS_MAX {
        // Nothing else runs meanwhile, so that the server finds all of them at once.
        calls.push(it.send(request(HOT), &[&framed_bytes(message)]).await);
    }
    let told = join_all(calls).await.into_iter();
    told.map(|told| told.expect("told")).collect()
}

#[tokio::test]
async fn however_many_calls_come_at_once_other_tasks_get_their_turn() {
    let told = told_at_once(b"").await;
    let turns: BTreeSet<_> = told.into_iter().map(|told| told.body).collect();
    assert!(turns.len() > 1, "all were answered in one turn");
}

#[tokio::test]
async fn many_are_refused_in_one_turn() {
    let told = told_at_once(b"refuse").await;
    let turns: BTreeSet<_> = told.iter().map(|told| told.status().1.to_owned()).collect();
    assert_eq!(turns.len(), 1, "{turns:?}");
}

#[tokio::test]
async fn a_message_is_answered_with_one_and_a_status() {
    let it = Running::start().await;
    let told = it.call(HOT, &[&framed_bytes(b"hello")]).await;
    told.is_echo(b"hello");
    assert_eq!(told.http, StatusCode::OK);
    it.call(HOT, &[&framed_bytes(b"")]).await.is_echo(b"");
}

#[tokio::test]
async fn a_refusal_is_nothing_but_headers() {
    let it = Running::start().await;
    let told = it.call(HOT, &[&framed_bytes(b"refuse")]).await;
    assert_eq!(told.status(), (Code::ResourceExhausted, "full"));
    assert!(told.is_short);
}

#[tokio::test]
async fn a_message_may_come_byte_by_byte() {
    let it = Running::start().await;
    let message = [b'x'; BYTES_MAX];
    let frame = framed_bytes(&message);
    let pieces: Vec<_> = frame.chunks(1).collect();
    it.call(HOT, &pieces).await.is_echo(&message);
}

/// More bytes than the window of a connection has, so they are given back.
#[tokio::test]
async fn a_connection_takes_any_number_of_calls() {
    let it = Running::start().await;
    let frame = framed_bytes(&[b'x'; BYTES_MAX]);
    for _ in 0..2 * 1024 * 1024 / frame.len() {
        it.call(HOT, &[&frame]).await.is_echo(&[b'x'; BYTES_MAX]);
    }
}

#[tokio::test]
async fn what_is_not_plainly_one_message_goes_to_the_others_with_all_its_bytes() {
    let it = Running::start().await;
    let hello = framed_bytes(b"hello");
    let too_large = framed_bytes(&[b'x'; BYTES_MAX + 1]);
    let compressed = [&[1], &hello[1..]].concat();
    let odd = [&[2], &hello[1..]].concat();
    for pieces in [
        vec![],
        vec![&hello[..3]],
        vec![&hello[..7]],
        vec![&hello[..], &hello[..]],
        vec![&hello[..], b"x"],
        vec![&too_large[..5], &too_large[5..]],
        vec![&compressed[..]],
        vec![&odd[..]],
    ] {
        let told = it.call(HOT, &pieces).await;
        let bytes: usize = pieces.iter().map(|it| it.len()).sum();
        let expected = format!("Ok({bytes}) bytes for others");
        assert_eq!(told.status(), (Code::InvalidArgument, &*expected));
    }
}

#[tokio::test]
async fn what_is_said_in_other_words_goes_to_the_others() {
    let it = Running::start().await;
    let hello = framed_bytes(b"hello");
    for (name, value, is_hot) in [
        ("content-type", "application/grpc+proto", true),
        ("content-type", "application/grpc+json", false),
        ("content-type", "text/plain", false),
        ("grpc-encoding", "identity", true),
        ("grpc-encoding", "gzip", false),
    ] {
        let mut request = request(HOT);
        let value = value.parse().expect("a value");
        request.headers_mut().insert(name, value);
        let told = it.send(request, &[&hello]).await.await.expect("told");
        let code = if is_hot {
            Code::Ok
        } else {
            Code::InvalidArgument
        };
        assert_eq!(told.status().0, code, "{name}");
    }
}

#[tokio::test]
async fn trailers_of_a_request_join_its_headers() {
    let it = Running::start().await;
    let mut requests = it.requests.clone().ready().await.expect("it is open");
    let sent = requests.send_request(request(HOT), false);
    let (answer, mut body) = sent.expect("a stream");
    let sent = body.send_data(framed_bytes(b"late"), false);
    sent.expect("it is open");
    let mut trailers = HeaderMap::new();
    trailers.insert("late", "said at last".parse().expect("a value"));
    body.send_trailers(trailers).expect("it is open");
    let mut body = answer.await.expect("told").into_body();
    let told = body.data().await.expect("a message").expect("told");
    assert_eq!(told, framed_bytes(b"said at last"));
}

#[tokio::test]
async fn a_panic_is_a_fault_and_the_connection_goes_on() {
    let mut it = Running::start().await;
    let waiting = it.send(request(HOT), &[&framed_bytes(b"wait")]).await;
    it.began.recv().await.expect("it began");
    it.call(HOT, &[&framed_bytes(b"panic")]).await.is_fault();
    it.release.cancel();
    waiting.await.expect("told").is_echo(b"wait");
}

#[tokio::test]
async fn a_call_that_waits_holds_up_no_other() {
    let mut it = Running::start().await;
    let waiting = it.send(request(HOT), &[&framed_bytes(b"wait")]).await;
    it.began.recv().await.expect("it began");
    it.call(HOT, &[&framed_bytes(b"hello")])
        .await
        .is_echo(b"hello");
    it.release.cancel();
    waiting.await.expect("told").is_echo(b"wait");
}

#[tokio::test]
async fn a_caller_that_resets_its_stream_takes_the_handler_with_it() {
    let mut it = Running::start().await;
    let waiting = it.send(request(HOT), &[&framed_bytes(b"wait")]).await;
    it.began.recv().await.expect("it began");
    drop(waiting);
    it.gone.recv().await.expect("it is gone");
    it.call(HOT, &[&framed_bytes(b"hello")])
        .await
        .is_echo(b"hello");
}
