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
