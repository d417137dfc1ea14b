//! A request's body as tonic's services read it.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use h2::{Reason, RecvStream};
use http_body::{Body, Frame};
use prost::bytes::Bytes;

/// What has been read of it already, then what comes.
pub(super) struct RequestBody {
    begun: Bytes,
    stream: RecvStream,
    /// Only trailers may come.
    is_over: bool,
}

impl RequestBody {
    pub(super) fn new(stream: RecvStream) -> Self {
        Self::begun(Bytes::new(), stream)
    }

    pub(super) fn begun(begun: Bytes, stream: RecvStream) -> Self {
        Self {
            begun,
            stream,
            is_over: false,
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.begun.is_empty() {
            let begun = std::mem::take(&mut self.begun);
            return Poll::Ready(Some(Ok(Frame::data(begun))));
        }
        if !self.is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    // It fails only for more than has come.
                    let _ = self.stream.flow_control().release_capacity(piece.len());
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                Some(Err(error)) if is_goodbye(&error) => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => self.is_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|it| Ok(Frame::trailers(it)))),
            Err(error) if is_goodbye(&error) => Poll::Ready(None),
            Err(error) => Poll::Ready(Some(Err(error))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_empty() && self.stream.is_end_stream()
    }
}

/// A caller that has lost its interest, which is no fault.
fn is_goodbye(error: &h2::Error) -> bool {
    matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL))
}
