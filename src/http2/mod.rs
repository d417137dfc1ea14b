//! How calls come in: HTTP/2 over `h2` itself, in as few steps as it takes.
//!
//! ```text
//! serve ─▶ connection ─┬▶ hot     one message in, one out, within the connection's own task
//!                      └▶ others  tonic's services, each call in a task
//! ```
//!
//! 1. One task moves a connection's bytes and answers its hot calls: no task, box, layer or channel lies
//!    between, and what is ready at the same time leaves in one write. A refusal is sent as soon as it
//!    is read.
//! 2. A request that is not plainly one uncompressed message goes to tonic's services with whatever has
//!    been read of it, as all other calls do. So there is one place that says what is wrong with it.
//! 3. A caller that resets its stream, or whose connection ends, takes its handler with it: the future is
//!    dropped.
//! 4. A handler that panics is answered with INTERNAL, and disturbs nobody else.
//! 5. A client that says nothing is let go: before its first frames, and when a ping has no answer.
//! 6. Told to close, a connection takes no more calls, and ends with those under way.
//!
//! What the other side, `participants/wire/`, does alike is shared: how a message is framed, how what is written
//! goes out together, and how a silent peer is found.

mod body;
mod connection;
pub(crate) mod frame;
pub(crate) mod gather;
mod hot;
mod others;
mod panic;
mod serve;
pub(crate) mod silence;

use std::future::Future;

use prost::bytes::Bytes;
use tonic::{Status, codegen::http::HeaderMap, service::Routes};

pub use self::serve::serve;

/// The calls that are served.
#[derive(Clone, Debug)]
pub struct Calls<H> {
    /// The one that must cost little.
    pub hot: H,
    /// tonic's services. They take the hot call's odd requests too.
    pub others: Routes,
}

/// A call of one message that is answered with one, without tonic's services.
pub trait HotCall: Clone + Send + Sync + 'static {
    /// `/package.Service/Method`.
    const PATH: &'static str;

    /// Bytes that a message may have. One that has more goes to the other services, to be
    /// refused there.
    fn message_bytes_max(&self) -> usize;

    /// Answers with a message in its frame. The future is dropped when the caller goes away.
    fn answer(
        self,
        headers: HeaderMap,
        message: Bytes,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}

/// An answer without a message: a status, in the headers that say it. One that many are given can be kept, and
/// copied for each.
#[derive(Clone, Debug)]
pub struct Refusal(HeaderMap);

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self(status.into_http::<()>().into_parts().0.headers)
    }
}

#[cfg(test)]
mod tests;
