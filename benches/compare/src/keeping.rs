//! A server that appends what it is sent to a file, syncs it, has others do the same, and answers `+OK`: what durable
//! copies cost before anything is decided about keys. It can give nothing back.
//!
//! Batches of requests stay together on the whole way, all that waits shares a sync, and one of the others suffices,
//! as for w=2 of three.

use std::fs::File;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;

use anyhow::Context;
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use crate::answering::request;
use crate::process::answers;

/// What the connection of another server begins with; a client's begins with `*`.
const COPIES: u8 = b'C';

/// Bytes to be kept, and who waits for that.
struct Job {
    bytes: Bytes,
    kept: oneshot::Sender<()>,
}

/// Serves until the process is ended, with so many event loops.
pub(crate) fn serve(
    address: SocketAddr,
    file: &Path,
    others: Vec<SocketAddr>,
    loops: usize,
) -> anyhow::Result<()> {
    let mut file = File::create(file).with_context(|| file.display().to_string())?;
    let (log, jobs) = mpsc::channel();
    std::thread::spawn(move || keep(&mut file, &jobs));
    crate::loops::serve(address, loops, move || {
        let others: Rc<[_]> = others.iter().copied().map(copying).collect();
        let log = log.clone();
        move |stream| take(stream, log.clone(), Rc::clone(&others))
    })
}

/// Appends all that waits and syncs it once, again and again.
fn keep(file: &mut File, jobs: &mpsc::Receiver<Job>) {
    let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
    while let Ok(first) = jobs.recv() {
        for job in std::iter::once(first).chain(jobs.try_iter()) {
            bytes.extend_from_slice(&job.bytes);
            waiting.push(job.kept);
        }
        file.write_all(&bytes).and_then(|()| file.sync_data()).expect("the disk takes it");
        bytes.clear();
        for kept in waiting.drain(..) {
            // A client that left no longer waits.
            let _ = kept.send(());
        }
    }
}

/// Keeps what a connection brings.
async fn take(
    mut stream: TcpStream,
    log: mpsc::Sender<Job>,
    others: Rc<[UnboundedSender<Job>]>,
) -> anyhow::Result<()> {
    let mut input = BytesMut::with_capacity(64 << 10);
    stream.read_buf(&mut input).await?;
    if input.first() == Some(&COPIES) {
        input.advance(1);
        return take_copies(stream, input, log).await;
    }
    let mut out = Vec::new();
    while !input.is_empty() {
        let mut length = 0;
        while let Some(next) = request(&input[length..]) {
            length += next;
            out.extend_from_slice(b"+OK\r\n");
        }
        if length > 0 {
            kept(&input.split_to(length).freeze(), &log, &others).await?;
            stream.write_all(&out).await?;
            out.clear();
        }
        if stream.read_buf(&mut input).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Has `bytes` kept here and, where there are others, by one of them.
async fn kept(
    bytes: &Bytes,
    log: &mpsc::Sender<Job>,
    others: &[UnboundedSender<Job>],
) -> anyhow::Result<()> {
    let own = given(bytes, |job| drop(log.send(job)));
    let copies = others.iter().map(|other| given(bytes, |job| drop(other.send(job))));
    let mut copies: Vec<_> = copies.collect();
    own.await?;
    match &mut copies[..] {
        [] => (),
        [one] => one.await?,
        [one, other, ..] => tokio::select! {
            first = one => first?,
            first = other => first?,
        },
    }
    Ok(())
}

fn given(bytes: &Bytes, give: impl FnOnce(Job)) -> oneshot::Receiver<()> {
    let (kept, is_kept) = oneshot::channel();
    give(Job { bytes: bytes.clone(), kept });
    is_kept
}

/// Keeps what another server sends, each piece with its length before it, and answers a byte for each, in order.
async fn take_copies(
    mut stream: TcpStream,
    mut input: BytesMut,
    log: mpsc::Sender<Job>,
) -> anyhow::Result<()> {
    let (mut from, mut to) = stream.split();
    let (waiting, mut waits) = unbounded_channel::<oneshot::Receiver<()>>();
    let read = async {
        loop {
            while let Some(length) = input.first_chunk().map(|&length| u32::from_be_bytes(length))
                && let Some(end) = usize::try_from(length)?.checked_add(4)
                && input.len() >= end
            {
                let bytes = input.split_to(end).freeze().slice(4..);
                waiting.send(given(&bytes, |job| drop(log.send(job))))?;
            }
            if from.read_buf(&mut input).await? == 0 {
                return anyhow::Ok(());
            }
        }
    };
    let answer = async {
        while let Some(first) = waits.recv().await {
            first.await?;
            let mut out = vec![0];
            while let Ok(mut next) = waits.try_recv() {
                if next.try_recv().is_err() {
                    to.write_all(&out).await?;
                    out.clear();
                    next.await?;
                }
                out.push(0);
            }
            to.write_all(&out).await?;
        }
        anyhow::Ok(())
    };
    tokio::try_join!(read, answer)?;
    Ok(())
}

/// Sends what it is given to another server; it waits for that to begin.
fn copying(address: SocketAddr) -> UnboundedSender<Job> {
    let (sender, mut jobs) = unbounded_channel::<Job>();
    spawn_local(async move {
        answers(address).await?;
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (mut from, mut to) = stream.split();
        let (waiting, mut waits) = unbounded_channel::<oneshot::Sender<()>>();
        let send = async {
            let mut out = vec![COPIES];
            while let Some(first) = jobs.recv().await {
                let mut next = Some(first);
                while let Some(Job { bytes, kept }) = next {
                    out.extend_from_slice(&u32::try_from(bytes.len())?.to_be_bytes());
                    out.extend_from_slice(&bytes);
                    waiting.send(kept)?;
                    next = jobs.try_recv().ok();
                }
                to.write_all(&out).await?;
                out.clear();
            }
            anyhow::Ok(())
        };
        let heard = async {
            let mut input = [0; 4096];
            loop {
                let answered = from.read(&mut input).await?;
                anyhow::ensure!(answered > 0, "{address} has ended");
                for _ in 0..answered {
                    let kept = waits.recv().await.context("an answer to nothing")?;
                    // Where the other one was first, nobody waits.
                    let _ = kept.send(());
                }
            }
        };
        let ended: anyhow::Result<((), ())> = tokio::try_join!(send, heard);
        ended
    });
    sender
}
