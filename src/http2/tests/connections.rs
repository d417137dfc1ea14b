//! How connections begin and end.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::{Instant, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::*;
use crate::http2::serve;

/// Longer than anything takes while time is paused.
const LONG: Duration = Duration::from_secs(100);

#[tokio::test(start_paused = true)]
async fn a_client_that_never_says_anything_is_let_go() {
    let (_ours, theirs) = duplex(PIPE_BYTES);
    let (handlers, ..) = handlers();
    let began = Instant::now();
    run(theirs, calls(&handlers), &CancellationToken::new()).await;
    assert_eq!(began.elapsed(), Duration::from_secs(10));
}

#[tokio::test]
async fn a_client_of_http_1_is_let_go_at_once() {
    let (mut ours, theirs) = duplex(PIPE_BYTES);
    let (handlers, ..) = handlers();
    let request = b"GET / HTTP/1.1\r\nHost: test\r\n\r\n";
    ours.write_all(request).await.expect("it is open");
    run(theirs, calls(&handlers), &CancellationToken::new()).await;
    let mut said = Vec::new();
    ours.read_to_end(&mut said).await.expect("it ends");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_falls_silent_is_let_go_with_its_calls() {
    let (ours, theirs) = duplex(PIPE_BYTES);
    let (handlers, mut began, mut gone) = handlers();
    let served = tokio::spawn(run(theirs, calls(&handlers), &CancellationToken::new()));
    let start = Instant::now();
    let (mut requests, mut connection) = client::handshake(ours).await.expect("it speaks HTTP/2");
    let sent = requests.send_request(request(HOT), false);
    let (_answer, mut body) = sent.expect("a stream");
    let sent = body.send_data(framed_bytes(b"wait"), true);
    sent.expect("it is open");
    tokio::select! {
        _ = &mut connection => panic!("it ended"),
        it = began.recv() => it.expect("it began"),
    }
    // From here on nobody moves its bytes, but its end of the pipe stays open.
    served.await.expect("it ends");
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    gone.try_recv().expect("it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_is_kept() {
    let it = Running::start().await;
    tokio::time::sleep(LONG).await;
    it.call(HOT, &[&framed_bytes(b"hello")])
        .await
        .is_echo(b"hello");
}

#[tokio::test]
async fn a_connection_that_is_lost_takes_its_calls_with_it() {
    for path in [HOT, "/test.Calls/Wait"] {
        let mut it = Running::start().await;
        let _waiting = it.send(request(path), &[&framed_bytes(b"wait")]).await;
        it.began.recv().await.expect("it began");
        it.client.abort();
        it.gone.recv().await.expect("it is gone");
        it.served.await.expect("it ends");
    }
}

#[tokio::test]
async fn told_to_close_it_takes_no_more_calls_and_ends_with_those_under_way() {
    for path in [HOT, "/test.Calls/Wait"] {
        let mut it = Running::start().await;
        let waiting = it.send(request(path), &[&framed_bytes(b"wait")]).await;
        it.began.recv().await.expect("it began");
        it.close.cancel();
        // Until the goodbye has come, calls are still taken.
        let mut others = it.requests.clone();
        while let Ok(ready) = others.ready().await {
            others = ready;
            let call = others.send_request(request(HOT), true);
            let Ok((answer, _)) = call else { break };
            if answer.await.is_err() {
                break;
            }
        }
        assert!(!it.served.is_finished());
        it.release.cancel();
        assert!(waiting.await.expect("told").status.is_some());
        it.served.await.expect("it ends");
        it.client.await.expect("it ends").expect("in good order");
    }
}

/// A frame of HTTP/2 (RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame");
    let length = &length.to_be_bytes()[1..];
    [length, &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// What the server finds in one go of a client that nobody has read, and whose patience is at an end.
#[tokio::test]
async fn a_client_that_gives_up_on_calls_before_they_are_read_keeps_its_connection() {
    const HEADERS: u8 = 1;
    const GOAWAY: u8 = 7;
    // POST, http and a path, as HPACK has them (RFC 7541), and 4 KiB of metadata.
    let path = u8::try_from(HOT.len()).expect("a short path");
    let head = [&[0x83, 0x86, 0x04, path], HOT.as_bytes()].concat();
    let long = [&head, &[0x00, 1, b'x', 0x7f, 0x81, 0x1f][..], &[b'x'; 4096]].concat();
    let mut sent = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    sent.extend(frame(4, 0, 0, b"")); // SETTINGS
    let mut stream = 1;
    for _ in 0..2 * STREAMS_MAX {
        sent.extend(frame(HEADERS, 0x4, stream, &long));
        sent.extend(frame(3, 0, stream, &8_u32.to_be_bytes())); // RST_STREAM, CANCEL
        stream += 2;
    }
    sent.extend(frame(HEADERS, 0x4, stream, &head));
    sent.extend(frame(0, 0x1, stream, &framed_bytes(b"hello"))); // DATA
    let (mut ours, theirs) = duplex(2 * sent.len());
    ours.write_all(&sent).await.expect("there is room");
    let (handlers, ..) = handlers();
    let served = tokio::spawn(run(theirs, calls(&handlers), &CancellationToken::new()));
    loop {
        let mut head = [0; 9];
        ours.read_exact(&mut head).await.expect("another frame");
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        ours.read_exact(&mut payload).await.expect("all of it");
        assert_ne!(head[3], GOAWAY, "{}", payload.escape_ascii());
        if head[3] == HEADERS && head[5..] == stream.to_be_bytes() {
            break;
        }
    }
    served.abort();
}

#[tokio::test]
async fn told_to_close_it_does_not_wait_for_a_first_word() {
    let (_ours, theirs) = duplex(PIPE_BYTES);
    let (handlers, ..) = handlers();
    let close = CancellationToken::new();
    let served = tokio::spawn(run(theirs, calls(&handlers), &close));
    tokio::task::yield_now().await;
    close.cancel();
    served.await.expect("it ends");
}

#[tokio::test]
async fn a_header_list_past_the_limit_is_refused_unread() {
    let it = Running::start().await;
    let mut long = request(HOT);
    let value = "x".repeat(17 * 1024).parse().expect("a value");
    long.headers_mut().insert("long", value);
    let told = it.send(long, &[&framed_bytes(b"hello")]).await.await;
    let told = told.expect("told");
    assert_eq!(told.http, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    it.call(HOT, &[&framed_bytes(b"hello")])
        .await
        .is_echo(b"hello");
}

#[tokio::test(start_paused = true)]
async fn a_connection_has_so_many_calls_at_a_time() {
    let mut it = Running::start().await;
    // With its answer the client knows the limit.
    it.call(HOT, &[&framed_bytes(b"hello")])
        .await
        .is_echo(b"hello");
    let mut waiting = Vec::new();
    for _ in 0..STREAMS_MAX {
        waiting.push(it.send(request(HOT), &[&framed_bytes(b"wait")]).await);
        it.began.recv().await.expect("it began");
    }
    let frame = framed_bytes(b"hello");
    let pieces: [&[u8]; 1] = [&frame];
    let mut further = Box::pin(it.call(HOT, &pieces));
    let early = timeout(LONG, further.as_mut()).await;
    assert!(early.is_err(), "it was taken past the limit");
    it.release.cancel();
    further.await.is_echo(b"hello");
}

/// A server whose connections come as the test says.
struct Serving {
    incoming: UnboundedSender<io::Result<DuplexStream>>,
    served: JoinHandle<()>,
    release: CancellationToken,
    began: UnboundedReceiver<()>,
    gone: UnboundedReceiver<()>,
}

impl Serving {
    fn start() -> Self {
        let (incoming, connections) = mpsc::unbounded_channel();
        let (handlers, began, gone) = handlers();
        let connections = UnboundedReceiverStream::new(connections);
        let close = CancellationToken::new();
        let served = serve(calls(&handlers), STREAMS_MAX, connections, close);
        Self {
            incoming,
            served: tokio::spawn(served),
            release: handlers.release,
            began,
            gone,
        }
    }

    /// A call that waits, on a connection of its own, which ends with what the client says of it.
    async fn wait(&mut self) -> JoinHandle<Result<(), h2::Error>> {
        let (ours, theirs) = duplex(PIPE_BYTES);
        self.incoming.send(Ok(theirs)).expect("it serves");
        let (requests, connection) = client::handshake(ours).await.expect("it speaks HTTP/2");
        let client = tokio::spawn(connection);
        let mut requests = requests.ready().await.expect("it is open");
        let sent = requests.send_request(request("/test.Calls/Wait"), true);
        let (answer, _) = sent.expect("a stream");
        self.began.recv().await.expect("it began");
        tokio::spawn(async move {
            answer.await?;
            drop(requests);
            client.await.expect("it does not panic")
        })
    }
}

#[tokio::test(start_paused = true)]
async fn connections_that_fail_do_not_keep_others_away() {
    let mut it = Serving::start();
    let start = Instant::now();
    let of_one = |kind| io::Error::from(kind);
    for error in [
        of_one(io::ErrorKind::ConnectionAborted),
        of_one(io::ErrorKind::ConnectionReset),
        // It concerns all that would come.
        io::Error::other("too many open files"),
    ] {
        it.incoming.send(Err(error)).expect("it serves");
    }
    it.wait().await;
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

#[tokio::test]
async fn when_no_more_connections_can_come_it_ends_with_those_that_are_open() {
    let mut it = Serving::start();
    let waiting = it.wait().await;
    drop(it.incoming);
    tokio::task::yield_now().await;
    assert!(!it.served.is_finished());
    it.release.cancel();
    let told = waiting.await.expect("it does not panic");
    told.expect("the call was answered, and the connection ended in good order");
    it.served.await.expect("it ends");
}

#[tokio::test]
async fn dropped_it_drops_its_connections() {
    let mut it = Serving::start();
    let waiting = it.wait().await;
    it.served.abort();
    it.gone.recv().await.expect("it is gone");
    let told = waiting.await.expect("it does not panic");
    told.expect_err("it was cut off");
}
