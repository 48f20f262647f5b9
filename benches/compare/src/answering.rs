//! A server that answers `+OK` to every request and does nothing else: what requests cost before anything is done
//! for them, with the client of this comparison on the same processors.

use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::loops;

/// Serves until the process is ended, with an event loop for each processor.
pub(crate) fn serve(address: SocketAddr) -> anyhow::Result<()> {
    loops::serve(address, std::thread::available_parallelism()?.get(), || answer)
}

async fn answer(mut stream: TcpStream) -> anyhow::Result<()> {
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
