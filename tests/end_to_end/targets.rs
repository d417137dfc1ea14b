//! Existing unary methods as participants, end to end.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use prost::bytes::Bytes;
use tercet_sdk::client::{Branch, Methods, Payload, Submit, TransactionState};
use tonic::{Code, Request, Response, Status};

use crate::{
    coordinator::{World, failed, name, quick, success},
    services::{Existing, Shop},
};

/// One call, as the service saw it.
#[derive(Clone, Debug, PartialEq)]
struct Called {
    method: String,
    body: Bytes,
    operation: String,
    transaction: String,
}

type Calls = Arc<Mutex<Vec<Called>>>;

/// A service that knows nothing of Tercet, and what it was asked.
async fn shop(
    answer: impl Fn(&str, usize) -> Result<Bytes, Status> + Send + Sync + 'static,
) -> (Calls, SocketAddr) {
    let calls = Calls::default();
    let seen = Arc::clone(&calls);
    let handler = move |method: &str, request: Request<Bytes>| {
        let text = |key: &str| {
            let value = request.metadata().get(key).expect(key);
            value.to_str().unwrap().to_owned()
        };
        let called = Called {
            method: method.to_owned(),
            operation: text("tercet-operation"),
            transaction: text("tercet-transaction-id"),
            body: request.get_ref().clone(),
        };
        let mut calls = seen.lock().unwrap();
        calls.push(called);
        let nth = calls.iter().filter(|it| it.method == method).count();
        answer(method, nth).map(Response::new)
    };
    let address = Existing::<Shop>::serve(handler).await;
    (calls, address)
}

fn order(id: &str) -> Submit {
    let methods = Methods::new(
        "shop",
        "/shop.Stock/Reserve",
        "/shop.Stock/Take",
        "/shop.Stock/Release",
    )
    .confirm_payload(Payload {
        type_url: String::new(),
        value: "take it".into(),
    });
    let branch = Branch::methods(
        methods,
        Payload {
            type_url: String::new(),
            value: "reserve one".into(),
        },
    );
    Submit::new(id).options(quick()).with_branch(branch)
}

fn methods(calls: &Calls) -> Vec<String> {
    calls
        .lock()
        .unwrap()
        .iter()
        .map(|it| it.method.clone())
        .collect()
}

#[tokio::test]
async fn existing_methods_get_their_own_bytes_and_the_context_in_metadata() {
    let (calls, address) = shop(|method, _| Ok(Bytes::from(format!("{method} done")))).await;
    let world = World::start_with(|config| name(config, "shop", address)).await;
    let placed = success(world.client().submit(&order("o")).await.unwrap());
    let result = placed.branch("b1").unwrap().try_result().unwrap();
    assert_eq!(&result.value[..], b"Reserve done");
    let called = |method: &str, body: &'static str, operation: &str| Called {
        method: method.into(),
        body: body.into(),
        operation: operation.into(),
        transaction: "o".into(),
    };
    let seen = calls.lock().unwrap().clone();
    assert_eq!(
        seen,
        [
            called("Reserve", "reserve one", "try"),
            called("Take", "take it", "confirm")
        ]
    );
}

#[tokio::test]
async fn a_code_that_only_the_service_can_have_given_is_a_refusal() {
    let (calls, address) = shop(|method, _| match method {
        "Reserve" => Err(Status::failed_precondition("nothing left")),
        _ => Ok(Bytes::new()),
    })
    .await;
    let world = World::start_with(|config| name(config, "shop", address)).await;
    let refused = failed(world.client().submit(&order("o")).await.unwrap());
    let code = refused.transaction.failure().unwrap().code;
    assert_eq!(Code::from(code), Code::FailedPrecondition);
    assert_eq!(world.end_of("o").await.state(), TransactionState::Canceled);
    assert_eq!(
        methods(&calls),
        ["Reserve", "Release"],
        "the refused branch is released, too"
    );
}

#[tokio::test]
async fn any_other_error_is_indeterminate_and_repeated() {
    let (calls, address) = shop(|method, nth| match (method, nth) {
        ("Reserve" | "Take", 1) => Err(Status::internal("a bad moment")),
        ("Take", 2) => Err(Status::not_found("which one?")),
        _ => Ok(Bytes::new()),
    })
    .await;
    let world = World::start_with(|config| name(config, "shop", address)).await;
    success(world.client().submit(&order("o")).await.unwrap());
    assert_eq!(
        methods(&calls),
        ["Reserve", "Reserve", "Take", "Take", "Take"]
    );
}

#[tokio::test]
async fn an_endpoint_that_is_not_allowed_is_refused() {
    let (calls, address) = shop(|_, _| Ok(Bytes::new())).await;
    let url = crate::services::url(address);
    let methods = Methods::new(
        &url,
        "/shop.Stock/Reserve",
        "/shop.Stock/Take",
        "/shop.Stock/Release",
    );
    let branch = Branch::methods(methods, Payload::default());
    let order = Submit::new("o")
        .wait(Duration::from_secs(5))
        .with_branch(branch);
    let world = World::start().await;
    let refused = world.client().submit(&order).await.unwrap_err();
    assert_eq!(
        (refused.code, refused.reason.as_str()),
        (Code::PermissionDenied, "TARGET_NOT_ALLOWED")
    );
    assert!(calls.lock().unwrap().is_empty());

    let world = World::start_with(|config| config.allowed_endpoints.value.push(url)).await;
    success(world.client().submit(&order).await.unwrap());
}
