//! What a million keys of 100 bytes take: private memory right after they were written, and disk.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, ensure};
use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::load::VALUE;
use crate::resp::reply;
use crate::systems::System;

const KEYS: u64 = 1_000_000;
/// Requests of a batch.
const BATCH: u64 = 500;

/// Fills one node of each system, and prints what it takes.
pub(crate) async fn compare(merganser: &Path, port: u16) -> anyhow::Result<()> {
    println!("| system | private memory, bytes a key | on disk, bytes a key |");
    println!("| --- | --- | --- |");
    for (system, offset) in [(System::Merganser, 0), (System::Redis, 10)] {
        let directory = tempfile::tempdir()?;
        let cluster = system.start(merganser, 1, port + offset, directory.path()).await?;
        let before = cluster.processes[0].private_bytes()?;
        fill(cluster.addresses[0]).await?;
        let after = cluster.processes[0].private_bytes()?;
        let disk = bytes_in(directory.path())?;
        let memory = after.saturating_sub(before) / KEYS;
        println!("| {} | {memory} | {} |", system.name(), disk / KEYS);
    }
    Ok(())
}

async fn fill(address: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut input = BytesMut::with_capacity(64 << 10);
    let value = std::str::from_utf8(&VALUE).context("the value is text")?;
    for first in (0..KEYS).step_by(BATCH as usize) {
        let set = |number: u64| {
            format!("*3\r\n$3\r\nSET\r\n$16\r\nkey:{number:012}\r\n${}\r\n{value}\r\n", value.len())
        };
        let batch: String = (first..first + BATCH).map(set).collect();
        stream.write_all(batch.as_bytes()).await?;
        let mut replies = BATCH;
        while replies > 0 {
            while let Some(length) = reply(&input)? {
                ensure!(input.starts_with(b"+OK"), "{}", input.escape_ascii());
                input.advance(length);
                replies -= 1;
            }
            if replies > 0 {
                ensure!(stream.read_buf(&mut input).await? > 0, "the server closed the connection");
            }
        }
    }
    Ok(())
}

/// What all files below a directory take on the device.
fn bytes_in(directory: &Path) -> anyhow::Result<u64> {
    use std::os::unix::fs::MetadataExt as _;
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += match metadata.is_dir() {
            true => bytes_in(&entry.path())?,
            false => metadata.blocks() * 512,
        };
    }
    Ok(bytes)
}
