//! A server that answers `+OK` to every request and does nothing else: what requests cost before anything is done
//! for them, with the client of this comparison on the same processors.

use std::net::{SocketAddr, TcpListener, TcpStream};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

/// Serves until the process is ended, with an event loop for each processor; connections are dealt to them in turn.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)?;
    let loops = std::thread::available_parallelism()?.get();
    let loops: Vec<_> = (0..loops).map(|_| start_loop()).collect::<Result<_, _>>()?;
    for to in loops.iter().cycle() {
        to.send(listener.accept()?.0)?;
    }
    Ok(())
}

fn start_loop() -> std::io::Result<UnboundedSender<TcpStream>> {
    let (sender, mut streams) = unbounded_channel::<TcpStream>();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            while let Some(stream) = streams.recv().await {
                // A client that left is no reason to stop.
                tokio::spawn(async move { drop(answer(stream).await) });
            }
        });
    });
    Ok(sender)
}

async fn answer(stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nonblocking(true)?;
    let mut stream = tokio::net::TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let (mut input, mut out) = (BytesMut::with_capacity(64 << 10), Vec::new());
    while stream.read_buf(&mut input).await? > 0 {
        while let Some(length) = request(&input) {
            input.advance(length);
            out.extend_from_slice(b"+OK\r\n");
        }
        stream.write_all(&out).await?;
        out.clear();
    }
    Ok(())
}

/// Length of the first request, an array of bulk strings, once it is there whole.
pub(crate) fn request(input: &[u8]) -> Option<usize> {
    let (parts, mut at) = number(input, 0, b'*')?;
    for _ in 0..parts {
        let (length, begin) = number(input, at, b'$')?;
        at = begin.checked_add(length)?.checked_add(2)?;
    }
    (input.len() >= at).then_some(at)
}

/// The number in the line at `at`, which begins with `kind`, and where the line ends.
fn number(input: &[u8], at: usize, kind: u8) -> Option<(usize, usize)> {
    let line = input.get(at..)?.strip_prefix(&[kind])?;
    let length = line.iter().position(|&byte| byte == b'\r')?;
    let end = at + 1 + length + 2;
    (input.len() >= end).then_some(())?;
    Some((std::str::from_utf8(&line[..length]).ok()?.parse().ok()?, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_answered_once_it_is_whole() {
        let whole = b"*2\r\n$3\r\nGET\r\n$4\r\nk\r\nl\r\n";
        for end in 0..whole.len() {
            assert_eq!(request(&whole[..end]), None, "to {end}");
        }
        let more = [&whole[..], &whole[..5]].concat();
        assert_eq!(request(&more), Some(whole.len()));
    }
}
