//! Resources of all types behind one: payloads in, payloads out.

use futures::future::BoxFuture;
use prost::{Message, bytes::Bytes};
use tercet_core::payload::Failure;

use super::{
    branch::Branch,
    error::Verdict,
    problem::Problem,
    resource::{Progress, Remote, Resource},
};
use crate::proto::participant::v1::Payload;

/// The most that Try may hold, in bytes: the coordinator's limit for a payload.
pub const RESULT_BYTES_MAX: usize = 64 * 1024;

/// A resource under its name.
pub(crate) enum Handler<C> {
    Local(Box<dyn LocalHandler<C>>),
    Remote(std::sync::Arc<dyn RemoteHandler>),
}

/// A [`Resource`] whose messages are bytes.
pub(crate) trait LocalHandler<C>: Send + Sync {
    fn on_try<'a>(
        &'a self,
        db: &'a mut C,
        branch: &'a Branch,
        request: &'a Payload,
    ) -> BoxFuture<'a, Result<Bytes, Verdict>>;
    fn on_confirm<'a>(
        &'a self,
        db: &'a mut C,
        branch: &'a Branch,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<(), Verdict>>;
    fn on_cancel<'a>(
        &'a self,
        db: &'a mut C,
        branch: &'a Branch,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<(), Verdict>>;
}

/// A [`Remote`] whose messages are bytes.
pub(crate) trait RemoteHandler: Send + Sync {
    /// Whether the request can be read at all; asked before anything is written.
    fn check(&self, request: &Payload) -> Result<(), Verdict>;
    fn on_try<'a>(
        &'a self,
        branch: &'a Branch,
        request: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Progress<Bytes>, Verdict>>;
    fn on_confirm<'a>(
        &'a self,
        branch: &'a Branch,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Progress<()>, Verdict>>;
    fn on_cancel<'a>(
        &'a self,
        branch: &'a Branch,
        request: Option<Bytes>,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Progress<()>, Verdict>>;
}

/// Gives a resource its bytes.
pub(crate) struct Typed<R>(pub(crate) R);

impl<C: Send, R: Resource<C>> LocalHandler<C> for Typed<R> {
    fn on_try<'a>(
        &'a self,
        db: &'a mut C,
        branch: &'a Branch,
        request: &'a Payload,
    ) -> BoxFuture<'a, Result<Bytes, Verdict>> {
        Box::pin(async move {
            let request = request_of(request)?;
            let held = self.0.on_try(db, branch, request).await;
            encode(&held.map_err(|error| error.into_verdict())?)
        })
    }

    fn on_confirm<'a>(
        &'a self,
        db: &'a mut C,
        branch: &'a Branch,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<(), Verdict>> {
        Box::pin(async move {
            let done = self.0.on_confirm(db, branch, recorded(held)?).await;
            done.map_err(|later| later.into_verdict())
        })
    }

    fn on_cancel<'a>(
        &'a self,
        db: &'a mut C,
        branch: &'a Branch,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<(), Verdict>> {
        Box::pin(async move {
            let done = self.0.on_cancel(db, branch, recorded(held)?).await;
            done.map_err(|later| later.into_verdict())
        })
    }
}

impl<R: Remote> RemoteHandler for Typed<R> {
    fn check(&self, request: &Payload) -> Result<(), Verdict> {
        request_of::<R::Request>(request).map(drop)
    }

    fn on_try<'a>(
        &'a self,
        branch: &'a Branch,
        request: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Progress<Bytes>, Verdict>> {
        Box::pin(async move {
            let progress = self.0.on_try(branch, recorded(request)?).await;
            Ok(match progress.map_err(|error| error.into_verdict())? {
                Progress::Done(held) => Progress::Done(encode(&held)?),
                Progress::Processing { retry_after } => Progress::Processing { retry_after },
            })
        })
    }

    fn on_confirm<'a>(
        &'a self,
        branch: &'a Branch,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Progress<()>, Verdict>> {
        Box::pin(async move {
            let progress = self.0.on_confirm(branch, recorded(held)?).await;
            progress.map_err(|later| later.into_verdict())
        })
    }

    fn on_cancel<'a>(
        &'a self,
        branch: &'a Branch,
        request: Option<Bytes>,
        held: Option<Bytes>,
    ) -> BoxFuture<'a, Result<Progress<()>, Verdict>> {
        Box::pin(async move {
            let held = held.map(|held| recorded(Some(held))).transpose()?;
            let progress = self.0.on_cancel(branch, recorded(request)?, held).await;
            progress.map_err(|later| later.into_verdict())
        })
    }
}

/// Reads what the client sent. What can't be read never will be: a refusal, and nothing to undo.
fn request_of<M: Message + Default>(payload: &Payload) -> Result<M, Verdict> {
    let refused = |what: String| {
        let message = format!("the payload can't be read as this resource's request: {what}");
        Verdict::Refused(Failure::new("PAYLOAD_INVALID", message))
    };
    if payload.type_url == "json" {
        return Err(refused("it is JSON, and must be protobuf".to_owned()));
    }
    M::decode(payload.value.clone()).map_err(|error| refused(error.to_string()))
}

/// Reads what the fence row keeps: a type that changed can't be answered for, either way.
fn recorded<M: Message + Default>(bytes: Option<Bytes>) -> Result<M, Verdict> {
    M::decode(bytes.unwrap_or_default()).map_err(|error| {
        let what = format!("the fence row holds what this release can't read: {error}");
        Verdict::Problem(Problem::Resource(what))
    })
}

fn encode(held: &impl Message) -> Result<Bytes, Verdict> {
    let bytes = held.encoded_len();
    if bytes > RESULT_BYTES_MAX {
        let max = RESULT_BYTES_MAX;
        return Err(Verdict::Problem(Problem::ResultTooLarge { bytes, max }));
    }
    Ok(held.encode_to_vec().into())
}
