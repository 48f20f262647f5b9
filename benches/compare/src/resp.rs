//! Load over the Redis protocol: connections that each send a batch, wait for its replies, and go on.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use anyhow::{Context, bail};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::{Budget, KEYS, Keys, VALUE};

/// What one request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `SET key value`.
    Set,
    /// `GET key`.
    Get,
    /// `INCR key`, of keys of its own.
    Incr,
    /// `SADD key element`.
    Sadd,
    /// `HSET key field value`.
    Hset,
}

/// After which requests a connection asks how many replicas have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Never.
    None,
    /// `WAIT 1 0` after each request.
    Each,
    /// `WAIT 1 0` after each batch.
    Batch,
}

/// One connection's part of the load; gives the latency of each batch, in microseconds.
pub(crate) async fn drive(
    address: SocketAddr,
    command: Command,
    pipeline: usize,
    wait: Wait,
    seed: u64,
    budget: Rc<Budget>,
) -> anyhow::Result<Vec<u64>> {
    let mut stream = TcpStream::connect(address).await.context("the server closed its port")?;
    stream.set_nodelay(true)?;
    let mut keys = Keys::new(seed);
    let mut latencies = Vec::new();
    let (mut out, mut input) = (Vec::new(), BytesMut::with_capacity(64 << 10));
    while budget.take(pipeline) {
        out.clear();
        let mut replies = pipeline;
        for number in 0..pipeline {
            request(&mut out, command, keys.next());
            if wait == Wait::Each || wait == Wait::Batch && number + 1 == pipeline {
                out.extend_from_slice(b"*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n");
                replies += 1;
            }
        }
        let begun = Instant::now();
        stream.write_all(&out).await?;
        while replies > 0 {
            while let Some(length) = reply(&input)? {
                input.advance(length);
                replies -= 1;
            }
            if replies > 0 && stream.read_buf(&mut input).await? == 0 {
                bail!("the server closed the connection");
            }
        }
        latencies.push(begun.elapsed().as_micros() as u64);
    }
    Ok(latencies)
}

fn request(out: &mut Vec<u8>, command: Command, key: u64) {
    let (name, prefix, rest): (&str, &str, &[&[u8]]) = match command {
        Command::Set => ("SET", "key", &[&VALUE]),
        Command::Get => ("GET", "key", &[]),
        Command::Incr => ("INCR", "counter", &[]),
        Command::Sadd => ("SADD", "set", &[b"element"]),
        Command::Hset => ("HSET", "hash", &[b"field", &VALUE]),
    };
    let key = format!("{prefix}:{:06}", key % KEYS);
    let head = format!("*{}\r\n${}\r\n{name}\r\n", rest.len() + 2, name.len());
    out.extend_from_slice(head.as_bytes());
    for part in std::iter::once(key.as_bytes()).chain(rest.iter().copied()) {
        out.extend_from_slice(format!("${}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
}

/// Length of the first reply, once it is there whole. An error reply ends the comparison: figures of
/// requests that were refused would compare nothing.
pub(crate) fn reply(input: &[u8]) -> anyhow::Result<Option<usize>> {
    let Some(end) = input.windows(2).position(|pair| pair == b"\r\n") else { return Ok(None) };
    let line = std::str::from_utf8(&input[1..end]).context("no line of text")?;
    let head = end + 2;
    match input[0] {
        b'+' | b':' => Ok(Some(head)),
        b'$' => {
            let length: i64 = line.parse().context("no length")?;
            // Nothing follows a length of -1: there is no value.
            let whole = usize::try_from(length).map_or(head, |length| head + length + 2);
            Ok((input.len() >= whole).then_some(whole))
        }
        b'-' => bail!("the server answered an error: {line}"),
        other => bail!("a reply of another kind: {:?}", char::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_counted_once_it_is_whole() {
        for whole in ["+OK\r\n", ":12\r\n", "$-1\r\n", "$5\r\nab\r\nc\r\n", "$0\r\n\r\n"] {
            for end in 1..whole.len() {
                assert_eq!(reply(&whole.as_bytes()[..end]).unwrap(), None, "{whole:?} to {end}");
            }
            assert_eq!(reply(whole.as_bytes()).unwrap(), Some(whole.len()));
            assert_eq!(reply(format!("{whole}+OK\r\n").as_bytes()).unwrap(), Some(whole.len()));
        }
        assert!(reply(b"-ERR no\r\n").is_err());
    }

    #[test]
    fn requests_are_arrays_of_bulk_strings() {
        let mut out = Vec::new();
        request(&mut out, Command::Sadd, 7 + KEYS);
        assert_eq!(out, b"*3\r\n$4\r\nSADD\r\n$10\r\nset:000007\r\n$7\r\nelement\r\n");
    }
}
