//! Seeds: dialled when membership has something to say to whoever answers at their addresses.
//!
//! A connection carries gossip both ways and is closed after a moment of quiet: members are spoken to over
//! their links. Names are resolved anew at each dial.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::NodeId;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::{FrameError, FrameStream, HandshakeError, PeerFrame, Purpose, Refusal, connect_peer};

use crate::dial::CONNECT_LIMIT;
use crate::identity::random_bytes;
use crate::links::Chunk;
use crate::members::{ANSWERS_MAX, Notice, Route, next_useful};
use crate::shared::Shared;

/// Quiet after which a connection to a seed is closed; less than after which the other side closes it.
const QUIET_MAX: Duration = Duration::from_millis(1_500);

/// Why nothing could be said to a seed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeedError {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no connection within {} seconds", CONNECT_LIMIT.as_secs())]
    Slow,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The tasks that speak to seeds, one for each address that was spoken to.
#[derive(Debug, Default)]
pub(crate) struct Seeds(BTreeMap<String, mpsc::Sender<Chunk>>);

impl Seeds {
    /// Has a frame said to the seed at `address`, unless too many wait for it. To be called within a `LocalSet`.
    pub(crate) fn say(&mut self, shared: &Arc<Shared>, address: String, frame: Chunk) {
        let sender = self.0.entry(address).or_insert_with_key(|address| {
            let (sender, frames) = mpsc::channel(ANSWERS_MAX);
            let (shared, address) = (Arc::clone(shared), address.clone());
            tokio::task::spawn_local(run(shared, address, sender.clone(), frames));
            sender
        });
        let _ = sender.try_send(frame);
    }
}

/// Says what is to be said to one seed, as long as the node runs.
async fn run(
    shared: Arc<Shared>,
    address: String,
    answers: mpsc::Sender<Chunk>,
    mut frames: mpsc::Receiver<Chunk>,
) {
    // What is too old by now is no reason to dial.
    while let Some(first) = next_useful(&mut frames, shared.clock).await {
        let said = if shared.switch.is_cut() {
            Err(HandshakeError::Refused(Refusal::Cut).into())
        } else {
            say(&shared, &address, first, &answers, &mut frames).await
        };
        let error = said.err().map(|error| error.to_string());
        shared.members.tell(Notice::Seed { address: address.clone(), error });
    }
}

async fn say(
    shared: &Shared,
    address: &str,
    first: Bytes,
    answers: &mpsc::Sender<Chunk>,
    frames: &mut mpsc::Receiver<Chunk>,
) -> Result<(), SeedError> {
    let (node, mut stream) = match open(shared, address).await {
        // The seed is this node, under another name than its own.
        Err(SeedError::Handshake(HandshakeError::Refused(Refusal::OwnNode))) => return Ok(()),
        opened => opened?,
    };
    // However long that took: a seed that is slow to reach would otherwise never be told anything.
    stream.send(first).await.map_err(FrameError::Io)?;
    loop {
        tokio::select! {
            Some(frame) = next_useful(frames, shared.clock) => stream.send(frame).await.map_err(FrameError::Io)?,
            frame = timeout(QUIET_MAX, stream.next()) => {
                let Ok(Some(frame)) = frame else { return Ok(()) };
                let frame = frame.map_err(FrameError::Io)?;
                let PeerFrame::Gossip(message) = clock::decode(&frame).map_err(FrameError::Malformed)? else {
                    return Err(HandshakeError::Broken("no gossip").into());
                };
                let route = Route::Connection(answers.clone());
                shared.members.tell(Notice::Received { from: node, message, route });
            }
            () = shared.switch.wait_for(true) => return Ok(()),
        }
    }
}

/// Makes sure that a node of this one's cluster, as far as name and secret go, answers at an address.
pub(crate) async fn greet(shared: &Shared, address: &str) -> Result<(), SeedError> {
    open(shared, address).await.map(drop)
}

async fn open(
    shared: &Shared,
    address: &str,
) -> Result<(NodeId, FrameStream<TcpStream>), SeedError> {
    let stream = timeout(CONNECT_LIMIT, TcpStream::connect(address))
        .await
        .map_err(|_| SeedError::Slow)?
        .map_err(SeedError::Connect)?;
    stream.set_nodelay(true).map_err(SeedError::Connect)?;
    let (us, secret) = (&shared.identity(), &shared.secret);
    let (stream, welcome) =
        connect_peer(stream, us, secret, Purpose::Gossip, None, random_bytes()).await?;
    Ok((welcome.node, stream))
}
