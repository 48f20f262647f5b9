//! Signs of life of a connection: every byte that comes is one, not only a whole frame, so that a
//! long frame on a slow link is not taken for silence.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// When a connection last showed life. Shared with its [`Watched`] stream.
#[derive(Clone, Debug)]
pub(crate) struct Life(Rc<Cell<Instant>>);

impl Life {
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(Instant::now())))
    }

    /// The latest sign.
    pub(crate) fn last(&self) -> Instant {
        self.0.get()
    }

    /// Takes note of a sign, or that nobody was listening until now.
    pub(crate) fn touch(&self) {
        self.0.set(Instant::now());
    }

    /// Wakes once there was no sign for `limit`.
    pub(crate) async fn silence(&self, limit: Duration) {
        while self.last().elapsed() < limit {
            sleep_until(self.last() + limit).await;
        }
    }
}

/// A stream that takes note of the bytes read from it.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    life: Life,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, life: Life) -> Self {
        Self { inner, life }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.life.touch();
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}
