//! What leaves, and when.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures::FutureExt as _;
use h2::{
    Reason, RecvStream,
    server::{self, SendResponse},
};
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex},
    sync::mpsc,
    time::timeout,
};
use tonic::codegen::http;

use super::{
    BYTES_MAX, Connector, PIPE_BYTES, Wire, answer_ok, at_stock, call, held, request, serve, wire,
};

/// Counts what is written at once.
pub(super) struct Counting(pub(super) DuplexStream, pub(super) Arc<Mutex<Vec<usize>>>);

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.1.lock().unwrap().push(bytes.len());
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

#[tokio::test]
async fn headers_and_message_leave_in_one_write() {
    let writes = Arc::new(Mutex::new(Vec::new()));
    let counted = Arc::clone(&writes);
    let wire = at_stock(Connector::new(move |_| {
        let (ours, theirs) = duplex(PIPE_BYTES);
        tokio::spawn(serve(theirs, server::Builder::new(), |_, to| answer_ok(to)));
        let ours = Counting(ours, Arc::clone(&counted));
        async { Ok(ours) }
    }));
    for _ in 0..3 {
        held(call(&wire).await); // with its settings and pings out of the way
    }
    writes.lock().unwrap().clear();
    held(call(&wire).await);
    assert_eq!(writes.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_larger_than_the_window_goes_as_room_comes() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (wire, _) = wire(move |bytes| {
        let mut settings = server::Builder::new();
        settings.initial_window_size(1_000);
        let told = told.clone();
        serve(bytes, settings, move |request, to| {
            let told = told.clone();
            tokio::spawn(async move {
                let bytes = read_all(request).await;
                told.send(bytes).expect("the test listens");
                answer_ok(to);
            });
        })
    });
    let message: Vec<u8> = (0..=255).cycle().take(BYTES_MAX).collect();
    held(wire.call(request(&message), BYTES_MAX).await);
    let came = heard.recv().await.expect("it came");
    assert_eq!(came[5..], message);
}

async fn read_all(request: http::Request<RecvStream>) -> Vec<u8> {
    let (mut body, mut all) = (request.into_body(), Vec::new());
    while let Some(piece) = body.data().await {
        let piece = piece.expect("it comes whole");
        all.extend_from_slice(&piece);
        body.flow_control()
            .release_capacity(piece.len())
            .expect("it came");
    }
    all
}

/// A participant that takes no bytes of a message can't make us keep it.
#[tokio::test(start_paused = true)]
async fn a_message_there_is_no_room_for_is_let_go_at_the_deadline() {
    let (told, mut heard) = mpsc::unbounded_channel();
    let (wire, _) = wire(move |bytes| {
        let mut settings = server::Builder::new();
        settings.initial_window_size(0);
        let told = told.clone();
        serve(bytes, settings, move |_, mut to| {
            let told = told.clone();
            tokio::spawn(async move {
                let reset = std::future::poll_fn(|cx| to.poll_reset(cx)).await;
                told.send(reset.expect("it is reset"))
                    .expect("the test listens");
            });
        })
    });
    for _ in 0..20 {
        let second = Duration::from_secs(1);
        assert!(timeout(second, call(&wire)).await.is_err());
        assert_eq!(heard.recv().await, Some(Reason::CANCEL));
    }
}

/// The endpoint that allows so many streams at once, how many connections it had, and who is to be answered. The
/// first call finds no settings yet; it has been made.
async fn allowing(
    streams: u32,
) -> (
    Wire,
    Arc<AtomicUsize>,
    mpsc::UnboundedReceiver<SendResponse<Bytes>>,
) {
    let (told, mut came) = mpsc::unbounded_channel();
    let (wire, made) = wire(move |bytes| {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(streams);
        let told = told.clone();
        serve(bytes, settings, move |_, to| {
            told.send(to).expect("the test listens")
        })
    });
    let (reply, ()) = tokio::join!(call(&wire), async { answer_ok(came.recv().await.unwrap()) });
    held(reply);
    (wire, made, came)
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_a_free_stream_in_their_order_and_until_their_deadline() {
    let (wire, made, mut came) = allowing(1).await;

    let mut first = pin!(call(&wire));
    assert!(first.as_mut().now_or_never().is_none());
    let first_to = tokio::select! {
        to = came.recv() => to.unwrap(),
        _ = &mut first => unreachable!("nobody has answered"),
    };
    let mut next = pin!(call(&wire));
    assert!(next.as_mut().now_or_never().is_none());
    assert!(timeout(Duration::from_secs(1), call(&wire)).await.is_err());
    let mut last = pin!(call(&wire));
    assert!(last.as_mut().now_or_never().is_none());
    assert!(came.try_recv().is_err());

    answer_ok(first_to);
    held(first.await);
    for waiting in [&mut next, &mut last] {
        let to = tokio::select! {
            to = came.recv() => to.unwrap(),
            _ = waiting.as_mut() => unreachable!("nobody has answered"),
        };
        answer_ok(to);
        held(waiting.as_mut().await);
    }
    assert_eq!(made.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn streams_that_get_free_together_are_taken_together() {
    const STREAMS: u32 = 4;
    let (wire, _, mut came) = allowing(STREAMS).await;

    let calls = (0..2 * STREAMS).map(|_| Box::pin(call(&wire)));
    let mut calls: Vec<_> = calls.collect();
    let mut waiting = calls.split_off(STREAMS as usize);
    let mut under_way = Vec::new();
    for call in &mut calls {
        assert!(call.now_or_never().is_none());
        under_way.push(came.recv().await.unwrap());
    }
    for call in &mut waiting {
        assert!(call.now_or_never().is_none());
    }
    under_way.into_iter().for_each(answer_ok);
    for call in calls {
        held(call.await);
    }
    assert!(came.try_recv().is_err());
    // None of them has to wait for another's turn.
    for call in waiting.iter_mut().rev() {
        assert!(call.now_or_never().is_none());
    }
    for _ in 0..STREAMS {
        let to = timeout(Duration::from_secs(1), came.recv()).await;
        answer_ok(to.expect("it was sent").unwrap());
    }
    for call in waiting {
        held(call.await);
    }
}

/// A participant that allows no stream at all.
#[tokio::test(start_paused = true)]
async fn who_waits_for_a_stream_learns_that_the_connection_ended() {
    let (wire, made) = wire(|bytes| async {
        let mut settings = server::Builder::new();
        settings.max_concurrent_streams(0);
        let served = serve(bytes, settings, |_, _| {});
        let _ = timeout(Duration::from_secs(2), served).await;
    });
    // It finds no settings yet.
    let early = timeout(Duration::from_secs(1), call(&wire)).await;
    assert!(early.is_err());

    let mut waiting = pin!(call(&wire));
    assert!(waiting.as_mut().now_or_never().is_none());
    assert_eq!(made.load(SeqCst), 1);
    // It is sent on the next connection, before its settings come.
    let reply = timeout(Duration::from_secs(9), waiting).await;
    assert!(reply.expect("it waits no more").is_err());
    assert_eq!(made.load(SeqCst), 2);
}
