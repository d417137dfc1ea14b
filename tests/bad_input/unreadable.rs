//! Requests that are too large, or no requests at all.

use http_body_util::Full;
use prost::bytes::Bytes;
use tercet::proto::tercet::participant::v1 as participant;
use tonic::{Code, Status, body::Body, codegen::http, transport::Channel};
use tower::ServiceExt as _;

use crate::support::{branch, coordinator, expect, order};

#[tokio::test]
async fn a_request_of_more_than_1_mib() {
    let mut it = coordinator().await;
    let mut bad = order("o");
    let payload = participant::Payload {
        type_url: String::new(),
        value: vec![b'5'; 60 << 10].into(),
    };
    bad.branches = vec![branch("", "stock"); 20];
    bad.branches
        .iter_mut()
        .for_each(|it| it.payload = Some(payload.clone()));
    let answer = it.client.submit_transaction(bad).await;
    let message = answer.as_ref().unwrap_err().message().to_owned();
    expect(answer, Code::InvalidArgument, "LIMIT_EXCEEDED");
    assert!(message.contains("at most 1048576 are allowed"), "{message}");
}

#[tokio::test]
async fn a_request_of_10_mib() {
    let mut it = coordinator().await;
    let mut bad = order("o");
    bad.branches[0].payload.as_mut().unwrap().value = vec![b'5'; 10 << 20].into();
    let answer = it.client.submit_transaction(bad).await;
    let message = answer.as_ref().unwrap_err().message().to_owned();
    expect(answer, Code::InvalidArgument, "LIMIT_EXCEEDED");
    assert!(
        message.contains("at most 1048576 bytes are allowed"),
        "{message}"
    );
    it.client.submit_transaction(order("o")).await.unwrap();
}

/// Sends a body as it is, and reads how it is answered.
pub async fn raw(channel: &Channel, metadata: &[(&str, &str)], body: &[u8]) -> Result<(), Status> {
    let uri = "/tercet.v1.CoordinatorService/SubmitTransaction";
    let mut request = http::Request::post(uri)
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (key, value) in metadata {
        request = request.header(*key, value.as_bytes());
    }
    let body = Full::new(Bytes::copy_from_slice(body));
    let answer = channel
        .clone()
        .oneshot(request.body(Body::new(body)).unwrap());
    let answer = answer
        .await
        .map_err(|error| Status::from_error(error.into()))?;
    match Status::from_header_map(answer.headers()) {
        Some(status) if status.code() != Code::Ok => Err(status),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn bytes_that_are_no_protobuf() {
    let it = coordinator().await;
    // A text of 100 bytes is announced, one follows.
    let answer = raw(&it.channel, &[], b"\0\0\0\0\x03\x0a\x64a").await;
    let message = answer.as_ref().unwrap_err().message().to_owned();
    expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    assert!(
        message.starts_with("the request can't be read as its message"),
        "{message}"
    );
}

#[tokio::test]
async fn a_stream_that_is_cut_short() {
    let mut it = coordinator().await;
    for cut in ["", "\0\0\0", "\0\0\0\0\x64abc"] {
        let answer = raw(&it.channel, &[], cut.as_bytes()).await;
        expect(answer, Code::InvalidArgument, "FIELD_INVALID");
    }
    it.client.submit_transaction(order("o")).await.unwrap();
}
