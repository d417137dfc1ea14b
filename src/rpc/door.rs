//! Requests that the transport can't read get our own answers too.
//!
//! tonic answers a request over the decode limit with OUT_OF_RANGE, and one that is cut short or is no
//! protobuf with INTERNAL: codes that clients take for the server's fault, without a reason. Every
//! error of ours carries details, so one without is tonic's, and is put into our words here.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use futures::{FutureExt as _, future::BoxFuture};
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Service, http},
    server::NamedService,
};

use super::faults::Faults;
use crate::proto::tercet::v1::ErrorReason;

/// A service behind the door.
#[derive(Clone, Debug)]
pub struct Door<S> {
    inner: S,
    request_bytes_max: usize,
}

impl<S> Door<S> {
    /// Puts a service behind it. `request_bytes_max`: the limit to name.
    pub(super) fn new(inner: S, request_bytes_max: usize) -> Self {
        Self {
            inner,
            request_bytes_max,
        }
    }
}

impl<S: NamedService> NamedService for Door<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<B>> for Door<S>
where
    S: Service<http::Request<B>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let request_bytes_max = self.request_bytes_max;
        let answer = self.inner.call(request);
        answer
            .map(move |answer| answer.map(|it| in_our_words(it, request_bytes_max)))
            .boxed()
    }
}

fn in_our_words(answer: http::Response<Body>, request_bytes_max: usize) -> http::Response<Body> {
    let status = answer.extensions().get::<Status>();
    match status.and_then(|status| translated(status, request_bytes_max)) {
        Some(ours) => ours.into_http(),
        None => answer,
    }
}

/// The status in our words, if it is not in them already.
pub(super) fn translated(status: &Status, request_bytes_max: usize) -> Option<Status> {
    if !status.details().is_empty() {
        return None;
    }
    let found = status.message();
    match status.code() {
        Code::OutOfRange => {
            let why = format_args!(
                "the request is too large: at most {request_bytes_max} bytes are allowed ({found})"
            );
            Some(Faults::one(ErrorReason::LimitExceeded, "", why).into())
        }
        Code::Internal => {
            let why = format_args!("the request can't be read as its message: {found}");
            Some(Faults::one(ErrorReason::FieldInvalid, "", why).into())
        }
        _ => None,
    }
}
