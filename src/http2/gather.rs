//! Bytes of a connection that go out together, and come in so many at a time.
//!
//! HTTP/2 writes whenever one of its streams has something to say, and each write is a call of the kernel,
//! and wakes whoever reads. So what is written is kept for a [`Turn`] of all others, or until there is much of it.
//!
//! It reads as long as there is something to read, before it lets anybody look at it. So what it reads in one
//! go is limited.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::turn::Turn;

/// So much goes out without waiting for anybody.
const MUCH_BYTES: usize = 16 * 1024;
/// While there is more than this nothing more is taken.
const FULL_BYTES: usize = 64 * 1024;
/// So much is read before it is the others' turn: some 130 small calls. A client that gives up on calls
/// that wait to be read sends others instead. When more have come and gone unseen than a connection may have
/// at a time, h2 takes that for an attack (RFC 9113, 10.5) and ends the connection.
const READ_BYTES: usize = 64 * 1024;

/// A stream of bytes, whose writes are gathered.
#[derive(Debug)]
pub(crate) struct Gather<IO> {
    inner: IO,
    gathered: Vec<u8>,
    /// How much of that has gone.
    sent: usize,
    turn: Turn,
    /// The others have had their turn, and not everything has gone since.
    is_sending: bool,
    /// How much was read since there was nothing to read, or the others had their turn.
    read: usize,
    reading: Turn,
}

impl<IO> Gather<IO> {
    pub(crate) fn new(inner: IO) -> Self {
        Self {
            inner,
            gathered: Vec::new(),
            sent: 0,
            turn: Turn::default(),
            is_sending: false,
            read: 0,
            reading: Turn::default(),
        }
    }
}

impl<IO: AsyncWrite + Unpin> Gather<IO> {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.gathered.len() {
            let rest = &self.gathered[self.sent..];
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent += sent;
        }
        self.sent = 0;
        self.gathered.clear();
        self.gathered.shrink_to(MUCH_BYTES);
        self.is_sending = false;
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Gather<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.gathered.len() >= FULL_BYTES {
            ready!(self.poll_send(cx))?;
        }
        self.gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let little = (1..MUCH_BYTES).contains(&self.gathered.len());
        if little && !self.is_sending {
            ready!(self.turn.poll(cx));
            self.is_sending = true;
        }
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    /// A writer that could hand over several pieces at once keeps fewer of them together by itself.
    fn is_write_vectored(&self) -> bool {
        false
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Gather<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read >= READ_BYTES {
            ready!(self.reading.poll(cx));
            self.read = 0;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if read.is_pending() {
            self.read = 0;
        }
        self.read += buffer.filled().len() - before;
        read
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, future::join_all};
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
        sync::Mutex,
    };

    use super::*;

    /// Two ends; what `room` bytes of have not been read holds up the writer.
    fn pipe(room: usize) -> (Gather<DuplexStream>, DuplexStream) {
        let (near, far) = duplex(room);
        (Gather::new(near), far)
    }

    #[tokio::test]
    async fn what_tasks_write_in_one_turn_goes_out_together() {
        let (near, mut far) = pipe(1024);
        let near = std::sync::Arc::new(Mutex::new(near));
        let writers = (0..20_u8).map(|number| {
            let near = std::sync::Arc::clone(&near);
            tokio::spawn(async move {
                near.lock().await.write_all(&[number]).await.expect("sent");
            })
        });
        let writers: Vec<_> = writers.collect();
        let flush = async {
            let mut near = near.lock().await;
            near.write_all(b"!").await.expect("it is taken");
            near.flush().await.expect("it is sent");
        };
        // The first of them begins to flush while the others have not had their turn.
        flush.await;
        join_all(writers).await;
        near.lock().await.flush().await.expect("it is sent");
        let mut read = [0; 64];
        let first = far.read(&mut read).await.expect("it is read");
        assert_eq!((first, read[0]), (21, b'!'));
    }

    #[tokio::test]
    async fn nothing_goes_before_the_turn_is_over_unless_there_is_much() {
        let (mut near, mut far) = pipe(2 * MUCH_BYTES);
        near.write_all(&[1; 100]).await.expect("it is taken");
        assert!(near.flush().now_or_never().is_none());
        assert!(far.read_u8().now_or_never().is_none());
        let rest = vec![1; MUCH_BYTES];
        near.write_all(&rest).await.expect("it is taken");
        near.flush().now_or_never().expect("now").expect("sent");
        let mut read = vec![0; MUCH_BYTES + 100];
        far.read_exact(&mut read).await.expect("it is read");
        assert!(read.iter().all(|it| *it == 1));
    }

    #[tokio::test]
    async fn everything_arrives_in_order_however_slow_the_reader() {
        let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
        let (mut near, mut far) = pipe(700);
        let mut read = Vec::new();
        let write = async {
            for piece in sent.chunks(9_001) {
                near.write_all(piece).await.expect("it is taken");
                near.flush().await.expect("it is sent");
            }
            near.write_all(&sent).await.expect("it is taken");
            near.shutdown().await.expect("it ends");
        };
        let (_, ended) = tokio::join!(write, far.read_to_end(&mut read));
        ended.expect("it ends");
        assert!(read == [&sent[..], &sent].concat());
    }

    #[tokio::test]
    async fn no_more_is_kept_than_there_is_room_for() {
        let (mut near, _far) = pipe(1);
        let piece = vec![1; FULL_BYTES];
        near.write_all(&piece).await.expect("it is taken");
        assert!(near.write(&piece).now_or_never().is_none());
    }

    #[tokio::test]
    async fn a_reader_that_has_gone_is_an_error() {
        let (mut near, far) = pipe(1);
        drop(far);
        near.write_all(b"?").await.expect("it is taken");
        let error = near.flush().await.expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
