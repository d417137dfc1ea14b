//! How participants treat their calls, whichever way they come.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use fastrand::Rng;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tonic::{
    Code, Status,
    body::Body,
    codegen::http::{Request, Response},
};
use tower::Service;

use super::trace::Trace;

/// What is late is so much later than what is slow.
const LATE_FACTOR: u32 = 4;

/// How a participant treats its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mood {
    /// As it should.
    #[default]
    Well,
    /// Takes calls, and neither does nor answers anything.
    Stuck,
    /// Does what it is asked, and half of its replies are lost.
    LosesReplies,
    /// Half of its calls end with some error, before or after they were done.
    Fails,
    /// Answers UNIMPLEMENTED to Query.
    CantBeAsked,
    /// Refuses every Confirm and Cancel.
    RefusesToEnd,
    /// Takes its time for every call.
    Slow,
    /// Does half of what it is asked when nobody expects it any more.
    Late,
}

/// What becomes of one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Done,
    Stuck,
    /// The error instead of doing it.
    Error(Code),
    /// Done, and told as this error.
    DoneButError(Code),
    ReplyLost,
    Slow(Duration),
    /// Done after so long, without a reply.
    Late(Duration),
}

/// A participant's mood, and its luck.
#[derive(Clone)]
pub struct Moods {
    pub now: Arc<Mutex<Mood>>,
    pub rng: Arc<Mutex<Rng>>,
    pub slow_ms_max: u64,
    pub trace: Trace,
}

impl Moods {
    pub fn fate(&self, is_query: bool) -> Fate {
        let mood = *self.now.lock();
        let (luck, slow) = {
            let mut rng = self.rng.lock();
            (
                rng.u8(..4),
                Duration::from_millis(rng.u64(..self.slow_ms_max)),
            )
        };
        let fate = match (mood, luck) {
            (Mood::Stuck, _) => Fate::Stuck,
            (Mood::Fails, 0) => Fate::Error(Code::Unavailable),
            (Mood::Fails, 1) => Fate::DoneButError(Code::Internal),
            (Mood::LosesReplies, 0..2) => Fate::ReplyLost,
            (Mood::CantBeAsked, _) if is_query => Fate::Error(Code::Unimplemented),
            (Mood::Slow, _) => Fate::Slow(slow),
            (Mood::Late, 0..2) => Fate::Late(LATE_FACTOR * slow),
            _ => Fate::Done,
        };
        let told = match fate {
            Fate::Done => return fate,
            Fate::Stuck => "stuck",
            Fate::Error(Code::Unimplemented) => "query unimplemented",
            Fate::Error(_) => "error before it was done",
            Fate::DoneButError(_) => "error after it was done",
            Fate::ReplyLost => "reply lost",
            Fate::Slow(_) => "slow",
            Fate::Late(_) => "done late",
        };
        self.trace.count("call", told);
        fate
    }
}

/// A participant's service, as its mood has it.
#[derive(Clone)]
pub struct Moody<S> {
    pub inner: S,
    pub moods: Moods,
}

impl<S> Service<Request<Body>> for Moody<S>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let mut inner = self.inner.clone();
        let fate = self.moods.fate(request.uri().path().ends_with("/Query"));
        let error = |code| Ok(Status::new(code, "something went wrong").into_http());
        Box::pin(async move {
            match fate {
                Fate::Done => inner.call(request).await,
                Fate::Stuck => std::future::pending().await,
                Fate::Error(code) => error(code),
                Fate::DoneButError(code) => {
                    inner.call(request).await?;
                    error(code)
                }
                Fate::ReplyLost => {
                    inner.call(request).await?;
                    std::future::pending().await
                }
                Fate::Slow(wait) => {
                    tokio::time::sleep(wait).await;
                    inner.call(request).await
                }
                Fate::Late(wait) => {
                    // Of its own, so that nobody who gives the call up takes it back.
                    tokio::spawn(async move {
                        tokio::time::sleep(wait).await;
                        inner.call(request).await
                    });
                    std::future::pending().await
                }
            }
        })
    }
}
