//! Connections that don't come about, end, break or fall silent: which requests never left, and which
//! may have been seen.

use std::{
    future::pending,
    io,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::FutureExt as _;
use h2::{Reason, server};
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    sync::{Notify, mpsc},
    time::Instant,
};

use super::{
    Connector, PIPE_BYTES, answer_ok, answering, at_stock, call, held, indeterminate, never_left,
    sending::Counting, serve, wire,
};
use crate::participants::wire::CONNECT_TIMEOUT;

type Server = server::Connection<DuplexStream, Bytes>;

async fn handshake(bytes: DuplexStream) -> Server {
    server::handshake(bytes).await.expect("it speaks HTTP/2")
}

#[tokio::test]
async fn nobody_listens_and_all_who_wait_hear_of_it() {
    let refused = Arc::new(Notify::new());
    let when = Arc::clone(&refused);
    let wire = at_stock(Connector::new(move |_| {
        let when = Arc::clone(&when);
        async move {
            when.notified().await;
            Err::<DuplexStream, _>(io::Error::from(io::ErrorKind::ConnectionRefused))
        }
    }));
    let (one, other) = (call(&wire), call(&wire));
    let (one, other, ()) = tokio::join!(one, other, async { refused.notify_one() });
    assert_eq!(never_left(one), "connection refused");
    assert_eq!(never_left(other), "connection refused");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_takes_too_long_never_took_the_request() {
    let wire = at_stock(Connector::new(|_| pending::<io::Result<DuplexStream>>()));
    let began = Instant::now();
    never_left(call(&wire).await);
    assert_eq!(began.elapsed(), CONNECT_TIMEOUT);
    never_left(call(&wire).await);
    assert_eq!(began.elapsed(), 2 * CONNECT_TIMEOUT);
}

#[tokio::test]
async fn who_gives_up_does_not_take_the_connection_from_those_who_wait() {
    let (connected, made) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (when, begun) = (Arc::clone(&connected), Arc::clone(&made));
    let wire = at_stock(Connector::new(move |_| {
        begun.notify_one();
        let when = Arc::clone(&when);
        async move {
            when.notified().await;
            let (ours, theirs) = duplex(PIPE_BYTES);
            tokio::spawn(serve(theirs, server::Builder::new(), |_, to| answer_ok(to)));
            Ok(ours)
        }
    }));
    let mut first = Box::pin(call(&wire));
    let mut second = pin!(call(&wire));
    assert!(first.as_mut().now_or_never().is_none());
    assert!(second.as_mut().now_or_never().is_none());
    drop(first);
    connected.notify_one();
    held(second.await);
    made.notified().await;
    assert!(
        made.notified().now_or_never().is_none(),
        "it was made twice"
    );
}

#[tokio::test]
async fn a_refused_stream_was_not_looked_at() {
    let wire = answering(|mut to| to.send_reset(Reason::REFUSED_STREAM));
    assert!(never_left(call(&wire).await).contains("refused"));
}

#[tokio::test]
async fn a_stream_that_is_reset_otherwise_may_have_been() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR, Reason::INTERNAL_ERROR] {
        let wire = answering(move |mut to| to.send_reset(reason));
        indeterminate(call(&wire).await);
    }
}

/// It says that it never looked, and has begun to answer: nobody knows.
#[tokio::test]
async fn a_reply_that_has_begun_was_looked_at_whatever_its_end_says() {
    for end in [reset(1, REFUSED_STREAM), go_away_after(0)] {
        let (wire, _) = wire(move |mut bytes| {
            let end = end.clone();
            async move {
                read_requests(&mut bytes, 1).await;
                let begun = [settings(), headers_ok(1), end].concat();
                bytes.write_all(&begun).await.expect("it is open");
                pending::<()>().await;
            }
        });
        indeterminate(call(&wire).await);
    }
}

#[tokio::test]
async fn who_goes_away_ends_what_it_saw_and_a_new_connection_takes_the_next() {
    let connections = AtomicUsize::new(0);
    let (wire, made) = wire(move |mut bytes| {
        let is_first = connections.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            let requests = if is_first { 2 } else { 1 };
            read_requests(&mut bytes, requests).await;
            let farewell = if is_first {
                go_away_after(1)
            } else {
                Vec::new()
            };
            let said = [settings(), farewell, answer_held(1)].concat();
            bytes.write_all(&said).await.expect("it is open");
            pending::<()>().await;
        }
    });
    let (seen, unseen) = tokio::join!(call(&wire), call(&wire));
    held(seen);
    never_left(unseen);
    held(call(&wire).await);
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_lost_during_a_call_may_have_carried_it() {
    let (wire, made) = wire(|bytes| async {
        let mut server = handshake(bytes).await;
        server.accept().await.expect("a stream").expect("a call");
    });
    indeterminate(call(&wire).await);
    indeterminate(call(&wire).await);
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_connection_that_ended_between_calls_is_made_again() {
    let ended = Arc::new(Notify::new());
    let told = Arc::clone(&ended);
    let (wire, made) = wire(move |bytes| {
        let told = Arc::clone(&told);
        async move {
            let mut server = handshake(bytes).await;
            let (_, to) = server.accept().await.expect("a stream").expect("a call");
            answer_ok(to);
            server.graceful_shutdown();
            while let Some(Ok(_)) = server.accept().await {}
            drop(server);
            told.notify_one();
        }
    });
    for _ in 0..3 {
        held(call(&wire).await);
        ended.notified().await;
        tokio::task::yield_now().await;
    }
    assert_eq!(made.load(Ordering::SeqCst), 3);
}

#[tokio::test(start_paused = true)]
async fn a_participant_that_falls_silent_is_noticed_by_a_ping() {
    // It reads, and says nothing more.
    let (wire, made) = wire(|bytes| async {
        let mut server = handshake(bytes).await;
        server.accept().await.expect("a stream").expect("a call");
        pending::<()>().await;
    });
    let began = Instant::now();
    let message = indeterminate(call(&wire).await);
    assert_eq!(message, "a ping had no answer within 10s");
    assert_eq!(began.elapsed(), Duration::from_secs(30));
    indeterminate(call(&wire).await);
    assert_eq!(made.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_answers_pings_stays() {
    let (wire, made) = wire(|bytes| serve(bytes, server::Builder::new(), |_, to| answer_ok(to)));
    held(call(&wire).await);
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    held(call(&wire).await);
    assert_eq!(made.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_needs_ends_even_if_its_farewell_is_never_read() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let (by_stream, (theirs, mut at_peer)) = (Arc::clone(&held), mpsc::channel(1));
    let wire = at_stock(Connector::new(move |_| {
        let (ours, unread) = duplex(32); // too small for the first frames
        theirs.try_send(unread).expect("it is made once");
        let ours = Counting(ours, Arc::clone(&by_stream));
        async { Ok(ours) }
    }));
    let mut call = Box::pin(call(&wire));
    assert!(call.as_mut().now_or_never().is_none());
    let _unread = at_peer.recv().await.expect("it was made");
    drop(call);
    drop(wire);
    assert_eq!(Arc::strong_count(&held), 2);
    tokio::time::sleep(Duration::from_secs(31)).await;
    assert_eq!(Arc::strong_count(&held), 1);
}

/// Until this many have come whole.
async fn read_requests(bytes: &mut DuplexStream, requests: usize) {
    let (mut seen, wanted) = (Vec::new(), b"reserve-me");
    let came = |seen: &[u8]| seen.windows(wanted.len()).filter(|at| at == wanted).count();
    while came(&seen) < requests {
        assert_ne!(bytes.read_buf(&mut seen).await.expect("it is open"), 0);
    }
}

const REFUSED_STREAM: u8 = 7;

fn settings() -> Vec<u8> {
    frame(4, 0, 0, &[])
}

fn go_away_after(last_stream: u8) -> Vec<u8> {
    frame(7, 0, 0, &[0, 0, 0, last_stream, 0, 0, 0, 0])
}

fn reset(stream: u8, code: u8) -> Vec<u8> {
    frame(3, 0, stream, &[0, 0, 0, code])
}

/// `:status: 200` has a number of its own.
fn headers_ok(stream: u8) -> Vec<u8> {
    frame(1, 4, stream, &[0x88])
}

fn answer_held(stream: u8) -> Vec<u8> {
    let message = frame(0, 0, stream, b"\0\0\0\0\x04held");
    let trailers = frame(1, 5, stream, b"\0\x0bgrpc-status\x010");
    [headers_ok(stream), message, trailers].concat()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let len = payload.len() as u8;
    let mut frame = vec![0, 0, len, kind, flags, 0, 0, 0, stream];
    frame.extend_from_slice(payload);
    frame
}
