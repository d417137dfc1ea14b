//! All other calls: both ways at once, as slowly as the other side wants.

use std::future::poll_fn;

use h2::{RecvStream, SendStream};

use super::*;

/// Opens a stream that brings back what is sent.
async fn echo(it: &Running) -> (SendStream<Bytes>, RecvStream) {
    let mut requests = it.requests.clone().ready().await.expect("it is open");
    let sent = requests.send_request(request("/test.Calls/Echo"), false);
    let (answer, up) = sent.expect("a stream");
    (up, answer.await.expect("told").into_body())
}

async fn next(down: &mut RecvStream) -> Bytes {
    let piece = down.data().await.expect("it goes on").expect("a piece");
    let released = down.flow_control().release_capacity(piece.len());
    released.expect("it has come");
    piece
}

#[tokio::test]
async fn a_stream_goes_both_ways_until_its_trailers() {
    let it = Running::start().await;
    let (mut up, mut down) = echo(&it).await;
    for piece in ["one", "two"] {
        up.send_data(piece.into(), false).expect("it is open");
        assert_eq!(next(&mut down).await, piece);
    }
    let mut trailers = HeaderMap::new();
    trailers.insert("last", "word".parse().expect("a value"));
    up.send_trailers(trailers.clone()).expect("it is open");
    assert!(down.data().await.is_none());
    assert_eq!(down.trailers().await.expect("its end"), Some(trailers));
}

#[tokio::test]
async fn a_stream_without_trailers_ends_as_well() {
    let it = Running::start().await;
    let (mut up, mut down) = echo(&it).await;
    up.send_data("one".into(), true).expect("it is open");
    assert_eq!(next(&mut down).await, "one");
    while let Some(piece) = down.data().await {
        assert_eq!(piece.expect("its end"), "");
    }
    assert_eq!(down.trailers().await.expect("its end"), None);
}

/// Many times what the windows have room for, in both directions.
#[tokio::test]
async fn a_long_stream_goes_through_windows_that_are_given_back() {
    const BYTES: usize = 3 * 1024 * 1024;
    let it = Running::start().await;
    let (mut up, mut down) = echo(&it).await;
    up.send_data(vec![7; BYTES].into(), true)
        .expect("it is open");
    let mut bytes = 0;
    while bytes < BYTES {
        bytes += next(&mut down).await.len();
    }
}

/// What a slow reader has no room for stays with the one that sends it.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_holds_back_the_sender() {
    const PIECE: usize = 16 * 1024;
    let it = Running::start().await;
    let (mut up, down) = echo(&it).await;
    let mut sent = 0;
    let sending = async {
        loop {
            up.reserve_capacity(PIECE);
            let room = poll_fn(|cx| up.poll_capacity(cx)).await;
            let room = room.expect("it is open").expect("room");
            sent += room;
            up.send_data(vec![7; room].into(), false)
                .expect("it is open");
        }
    };
    // Ends when nothing moves any more.
    let ended = tokio::time::timeout(std::time::Duration::from_secs(1), sending).await;
    let ended: Result<std::convert::Infallible, _> = ended;
    ended.expect_err("it is held back");
    assert!(sent < 2 * 1024 * 1024, "{sent} bytes were taken");
    drop(down);
}

#[tokio::test]
async fn a_panic_is_a_fault_and_the_connection_goes_on() {
    let it = Running::start().await;
    it.call("/test.Calls/Panic", &[]).await.is_fault();
    let told = it.call("/test.Calls/Count", &[b"abc"]).await;
    assert_eq!(told.status().1, "Ok(3) bytes for others");
}

#[tokio::test]
async fn a_method_that_nobody_has_is_unimplemented() {
    let it = Running::start().await;
    let told = it.call("/test.Nobody/Call", &[]).await;
    assert_eq!(told.status().0, Code::Unimplemented);
}

#[tokio::test]
async fn a_caller_that_resets_its_stream_takes_the_handler_with_it() {
    let mut it = Running::start().await;
    let waiting = it.send(request("/test.Calls/Wait"), &[]).await;
    it.began.recv().await.expect("it began");
    drop(waiting);
    it.gone.recv().await.expect("it is gone");
}
