//! Another endpoint is tried at once only when the request provably never left: each test has a bad
//! endpoint whose turn is first and a good one that counts.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tercet::participants::{GrpcParticipants, Participants as _};
use tercet_core::{
    answer::Answer, operation::Operation, payload::Failure, transaction::BranchSpec,
};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    sync::{mpsc, oneshot},
};

use crate::support::{
    Stub, closed_port, config, listener, outgoing, participants, read_request, socket, stock,
};

async fn try_at(bad: SocketAddr, good: SocketAddr) -> Answer {
    let calls = participants(&[bad, good]);
    calls.perform(outgoing(Operation::Try, stock())).await
}

/// Waits until the request's payload has come, and leaves it where it is.
async fn peek_request(stream: &mut TcpStream) {
    let (mut seen, wanted) = ([0; 4096], b"reserve-me");
    loop {
        let len = stream.peek(&mut seen).await.unwrap();
        if seen[..len].windows(wanted.len()).any(|at| at == wanted) {
            return;
        }
        tokio::task::yield_now().await;
    }
}

fn indeterminate(answer: Answer) -> Failure {
    match answer {
        Answer::Indeterminate(failure) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_refused_connection_goes_to_the_next_endpoint_at_once() {
    let (good, address) = Stub::default().serve().await;
    let calls = participants(&[closed_port().await, closed_port().await, address]);
    for _ in 0..6 {
        let answer = calls.perform(outgoing(Operation::Try, stock())).await;
        assert_eq!(answer, Answer::Success(None));
    }
    assert_eq!(good.calls(), 6);
}

#[tokio::test]
async fn when_every_endpoint_refuses_the_answer_names_the_last_one_and_why() {
    let closed = [closed_port().await, closed_port().await];
    let calls = participants(&closed);
    let answer = calls.perform(outgoing(Operation::Confirm, stock())).await;
    let failure = indeterminate(answer);
    assert_eq!(&*failure.reason, "UNAVAILABLE");
    assert_eq!(failure.code, 14);
    let wanted = format!("participant stock at http://{}: UNAVAILABLE", closed[1]);
    assert!(failure.message.starts_with(&wanted), "{}", failure.message);
    assert!(failure.message.contains("refused"), "{}", failure.message);
    assert_eq!(
        failure.metadata["endpoint"].to_string(),
        format!("http://{}", closed[1])
    );
}

#[tokio::test]
async fn a_server_that_reads_the_request_and_closes_may_have_done_it() {
    let (good, address) = Stub::default().serve().await;
    let bad = socket(|mut stream| async move { read_request(&mut stream).await }).await;
    indeterminate(try_at(bad, address).await);
    assert_eq!(good.calls(), 0);
}

#[tokio::test]
async fn a_server_that_reads_the_request_and_resets_may_have_done_it() {
    let (good, address) = Stub::default().serve().await;
    let reset = |mut stream: TcpStream| async move {
        read_request(&mut stream).await;
        stream.set_zero_linger().unwrap();
    };
    indeterminate(try_at(socket(reset).await, address).await);
    assert_eq!(good.calls(), 0);
}

#[tokio::test]
async fn a_server_that_closes_without_reading_may_have_done_it() {
    let (good, address) = Stub::default().serve().await;
    let bad = socket(|mut stream| async move { peek_request(&mut stream).await }).await;
    indeterminate(try_at(bad, address).await);
    assert_eq!(good.calls(), 0);
}

#[tokio::test]
async fn a_server_that_speaks_another_protocol_may_have_done_it() {
    let (good, address) = Stub::default().serve().await;
    let bad = socket(|stream| async move {
        stream.writable().await.unwrap();
        stream
            .try_write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            .unwrap();
        std::future::pending::<()>().await;
    });
    indeterminate(try_at(bad.await, address).await);
    assert_eq!(good.calls(), 0);
}

#[tokio::test]
async fn a_black_hole_ends_at_the_deadline_and_may_have_done_it() {
    let (good, address) = Stub::default().serve().await;
    let hole = socket(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    });
    let calls = participants(&[hole.await, address]);
    let mut call = outgoing(Operation::Try, stock());
    call.spec = Arc::new(BranchSpec {
        try_timeout_ms: 200,
        ..(*call.spec).clone()
    });
    let began = Instant::now();
    let failure = indeterminate(calls.perform(call).await);
    assert_eq!((&*failure.reason, failure.code), ("DEADLINE_EXCEEDED", 4));
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(good.calls(), 0);
}

#[tokio::test]
async fn confirm_cancel_and_query_have_the_participants_deadline() {
    let (hole, address) = listener().await; // accepts by its backlog, never reads
    let mut config = config(&[address]);
    for stock in config.participants.values_mut() {
        stock.call_timeout_ms = 100;
    }
    let calls = GrpcParticipants::new(&config, tercet::participants::Connector::tcp()).unwrap();
    for operation in [Operation::Confirm, Operation::Cancel] {
        let answer = calls.perform(outgoing(operation, stock())).await;
        assert_eq!(&*indeterminate(answer).reason, "DEADLINE_EXCEEDED");
    }
    let answer = calls.query(outgoing(Operation::Confirm, stock())).await;
    let tercet_core::answer::QueryAnswer::Indeterminate(failure) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(&*failure.reason, "DEADLINE_EXCEEDED");
    drop(hole);
}

#[tokio::test]
async fn endpoints_take_turns() {
    let (one, first) = Stub::default().serve().await;
    let (other, second) = Stub::default().serve().await;
    let calls = participants(&[first, second]);
    for _ in 0..10 {
        calls.perform(outgoing(Operation::Cancel, stock())).await;
    }
    assert_eq!((one.calls(), other.calls()), (5, 5));
}

#[tokio::test]
async fn a_call_that_is_dropped_is_reset_at_the_participant() {
    let (came, mut coming) = mpsc::channel(1);
    let (gone, going) = oneshot::channel();
    let address = socket(|mut stream| async move {
        read_request(&mut stream).await;
        came.send(()).await.unwrap();
        // RST_STREAM, 4 bytes long, on stream 1, with CANCEL.
        let wanted = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
        let mut seen = Vec::new();
        while !seen.windows(wanted.len()).any(|at| at == wanted) {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{seen:?}");
        }
        gone.send(()).unwrap();
    });
    let calls = participants(&[address.await]);
    let call = tokio::spawn(calls.perform(outgoing(Operation::Try, stock())));
    coming.recv().await.unwrap();
    call.abort();
    going.await.unwrap();
}
