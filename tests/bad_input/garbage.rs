//! Bytes that are no gRPC: answered or cut off, and the next call goes as ever.

use std::{io, net::SocketAddr, time::Duration};

use proptest::{prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use prost::Message as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::Code;

use crate::{
    mangle,
    support::{Coordinator, coordinator, expect, order},
    unreadable::raw,
};

/// Far longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

async fn goes_on(it: &mut Coordinator, id: &str) {
    let answer = tokio::time::timeout(SOON, it.client.submit_transaction(order(id))).await;
    answer.expect("it answers").expect("it is as good as ever");
}

/// A message behind its flag and a length, be it the right one or not.
fn frame(flag: u8, len: u32, message: &[u8]) -> Vec<u8> {
    [&[flag][..], &len.to_be_bytes(), message].concat()
}

#[tokio::test]
async fn frames_that_lie_are_answered_as_the_callers_fault() {
    let mut it = coordinator().await;
    let message = order("o").encode_to_vec();
    let len = message.len() as u32;
    for (body, reason) in [
        (frame(0, len - 1, &message), "FIELD_INVALID"),
        (frame(0, len + 1, &message), "FIELD_INVALID"),
        (frame(1, len, &message), "FIELD_INVALID"),
        (frame(2, len, &message), "FIELD_INVALID"),
        (frame(0xff, u32::MAX, &message), "FIELD_INVALID"),
        (frame(0, u32::MAX, &message), "LIMIT_EXCEEDED"),
        (frame(0, (2 << 20) + 1, &message), "LIMIT_EXCEEDED"),
        (frame(0, 2 << 20, &message), "FIELD_INVALID"),
        (frame(0, 0, b""), "FIELD_INVALID"),
        (frame(0, 0, b"").repeat(1000), "FIELD_INVALID"),
    ] {
        let answer = raw(&it.channel, &[], &body).await;
        expect(answer, Code::InvalidArgument, reason);
    }
    goes_on(&mut it, "o").await;
}

#[tokio::test]
async fn a_request_of_nothing_but_empty_branches_is_not_even_decoded() {
    let mut it = coordinator().await;
    let body = frame(0, 1 << 20, &[0x1a, 0].repeat(1 << 19));
    let answer = raw(&it.channel, &[], &body).await;
    let message = answer.as_ref().unwrap_err().message().to_owned();
    expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert!(message.contains("it has 524288 fields"), "{message}");
    goes_on(&mut it, "o").await;
}

#[tokio::test]
async fn mangled_messages_in_mangled_frames_are_answered() {
    let mut it = coordinator().await;
    let mut runner = TestRunner::deterministic();
    let flags = prop_oneof![8 => Just(0), 1 => any::<u8>()];
    let off_by = prop_oneof![8 => Just(0), 1 => any::<i32>()];
    let frames = (flags, off_by, mangle::manglings()).prop_map(|(flag, off_by, manglings)| {
        let message = mangle::mangled(&order("x").encode_to_vec(), &manglings);
        let len = (message.len() as u32).wrapping_add_signed(off_by);
        frame(flag, len, &message)
    });
    for _ in 0..mangle::cases(100).cases {
        let body = frames.new_tree(&mut runner).expect("a frame").current();
        let answer = tokio::time::timeout(SOON, raw(&it.channel, &[], &body)).await;
        if let Err(status) = answer.expect("it answers") {
            assert_ne!(status.code(), Code::Internal, "{status:?}");
            assert_ne!(status.code(), Code::Unknown, "{status:?}");
        }
    }
    goes_on(&mut it, "o").await;
}

#[tokio::test]
async fn garbage_in_metadata_is_answered() {
    let mut it = coordinator().await;
    let message = order("o").encode_to_vec();
    let body = frame(0, message.len() as u32, &message);
    let long = "9".repeat(4000);
    for (key, value) in [
        ("grpc-timeout", "99999999H"),
        ("grpc-timeout", "18446744073709551615H"),
        ("grpc-timeout", "-1S"),
        ("grpc-timeout", "+1S"),
        ("grpc-timeout", "1"),
        ("grpc-timeout", "S"),
        ("grpc-timeout", "1.5S"),
        ("grpc-timeout", "1é"),
        ("grpc-timeout", "0n"),
        ("grpc-timeout", &long),
        ("grpc-encoding", "gzip"),
        ("grpc-encoding", "é"),
        ("grpc-accept-encoding", "é,,,gzip;q=9"),
        ("traceparent", "00-é"),
        ("traceparent", &long),
        ("tercet-bin", "no base64 at all"),
        ("content-length", "4294967296"),
    ] {
        let metadata = [(key, value)];
        let answer = tokio::time::timeout(SOON, raw(&it.channel, &metadata, &body)).await;
        drop(answer.expect("it answers"));
    }
    goes_on(&mut it, "o").await;
}

#[tokio::test]
async fn connections_that_speak_no_http_2_are_cut_off() {
    let mut it = coordinator().await;
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let with_preface = |frames: &[u8]| [PREFACE, &settings, frames].concat();
    let random: Vec<u8> = {
        let mut random = fastrand::Rng::with_seed(7);
        (0..100_000).map(|_| random.u8(..)).collect()
    };
    for bytes in [
        b"".to_vec(),
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_vec(),
        b"PRI * HTTP/2.0\r\n".to_vec(),
        random.clone(),
        with_preface(&random),
        // A frame of headers that claims to have 16 MiB.
        with_preface(&[0xff, 0xff, 0xff, 1, 4, 0, 0, 0, 1]),
        // Headers that are never complete: each goes on in the next frame.
        with_preface(
            &[
                &[0, 0, 1, 1, 0, 0, 0, 0, 1, 0x82][..],
                &[0, 0, 1, 9, 0, 0, 0, 0, 1, 0x82].repeat(50_000),
            ]
            .concat(),
        ),
        // Streams that are opened and reset at once.
        with_preface(&resets(5_000)),
        // Data for a stream that nobody opened, and a window that overflows.
        with_preface(&[0, 0, 1, 0, 0, 0, 0, 0, 9, b'x']),
        with_preface(&[0, 0, 4, 8, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
    ] {
        let cut_off = tokio::time::timeout(SOON, is_cut_off(it.address, bytes));
        cut_off.await.expect("it is cut off");
    }
    goes_on(&mut it, "o").await;
}

fn resets(count: u32) -> Vec<u8> {
    let streams = (0..count).map(|at| (2 * at + 1).to_be_bytes());
    let frames = streams.flat_map(|stream| {
        // :method POST, :scheme http, :path /, all from HPACK's own table.
        let headers = [&[0, 0, 3, 1, 4][..], &stream, &[0x83, 0x86, 0x84]].concat();
        let reset = [&[0, 0, 4, 3, 0][..], &stream, &[0, 0, 0, 8]].concat();
        [headers, reset]
    });
    frames.flatten().collect()
}

/// Whatever is answered, the end comes.
async fn is_cut_off(address: SocketAddr, bytes: Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let (mut from, mut to) = stream.split();
    let write = async {
        // The other side may have had enough before all is sent.
        let _ = to.write_all(&bytes).await;
        let _ = to.shutdown().await;
    };
    let read = async { io::Result::Ok(from.read_to_end(&mut Vec::new()).await?) };
    drop(tokio::join!(write, read));
}
