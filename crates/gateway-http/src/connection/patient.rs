//! A stream that waits for its client so long and no longer: to take what is sent, and, at the end,
//! to learn why it was refused.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How long a client that was refused may go on sending, for it to read why: as long as one for
/// whom there is no connection left.
const LINGER_LIMIT: Duration = Duration::from_secs(1);
/// How much of what it sends meanwhile is read: twice the longest body that is taken by default.
const LINGER_BYTES: usize = 16 << 20;

pub(super) struct Patient<S> {
    stream: S,
    send_limit: Duration,
    /// Since nothing is taken, or how long there is still to linger.
    waiting: Option<Pin<Box<Sleep>>>,
    /// Whether the last request was refused while its body may have been on its way.
    refused: Arc<AtomicBool>,
    /// How much was read since the client was told that nothing more comes, if it was.
    lingered: Option<usize>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Patient<S> {
    pub(super) fn new(stream: S, send_limit: Duration, refused: Arc<AtomicBool>) -> Self {
        Self { stream, send_limit, waiting: None, refused, lingered: None }
    }

    /// What came of a try to send, unless the client takes nothing for too long.
    fn sent(
        &mut self,
        tried: Poll<io::Result<usize>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if tried.is_ready() {
            self.waiting = None;
            return tried;
        }
        let limit = self.send_limit;
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Reads what the client still sends. Closed with something of it unread, the connection would
    /// be reset, and the answer lost with it.
    fn linger(&mut self, context: &mut Context<'_>, mut count: usize) -> Poll<()> {
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(LINGER_LIMIT)));
        if waiting.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let mut unread = [0; 4096];
        while count < LINGER_BYTES {
            let mut buffer = ReadBuf::new(&mut unread);
            let polled = Pin::new(&mut self.stream).poll_read(context, &mut buffer);
            self.lingered = Some(count);
            match polled {
                // More may be under way only where something was left unread.
                Poll::Pending if count == 0 && !self.refused.load(Ordering::Relaxed) => break,
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    count += buffer.filled().len();
                }
                // The client is done, or gone.
                Poll::Ready(_) => break,
            }
        }
        Poll::Ready(())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.sent(tried, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let tried = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.sent(tried, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let count = match self.lingered {
            Some(count) => count,
            None => {
                ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
                self.waiting = None;
                0
            }
        };
        ready!(self.linger(context, count));
        Poll::Ready(Ok(()))
    }
}
