//! Seeds: dialled when membership has something to say to whoever answers at their addresses.
//!
//! A connection carries gossip both ways and is closed after a moment of quiet: members are spoken to over
//! their links. Names are resolved anew at each dial; of a name with several addresses one after the other is
//! tried, each with its own time limit, until another node than this one answers. The next dial begins behind
//! that one: whoever answers may know no more of the cluster than this node.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clock::NodeId;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpStream, lookup_host};
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
/// Addresses of one name that are tried in one dial. A guess; those beyond them are tried by the next dial.
const TRIES_MAX: usize = 8;

/// Why nothing could be said to a seed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SeedError {
    #[error("the name has no address: {0}")]
    Unresolved(std::io::Error),
    #[error("its name was not resolved within {} seconds", CONNECT_LIMIT.as_secs())]
    SlowToResolve,
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no connection within {} seconds", CONNECT_LIMIT.as_secs())]
    Slow,
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Of a name with several addresses: each of those that were tried, with its error.
    #[error("{}", .0.iter().map(|(address, error)| format!("at {address} {error}")).collect::<Vec<_>>().join(", "))]
    Each(Vec<(SocketAddr, Self)>),
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
    let mut turn = 0;
    // What is too old by now is no reason to dial.
    while let Some(first) = next_useful(&mut frames, shared.clock).await {
        let said = if shared.switch.is_cut() {
            Err(HandshakeError::Refused(Refusal::Cut).into())
        } else {
            say(&shared, &address, &mut turn, first, &answers, &mut frames).await
        };
        let error = said.err().map(|error| error.to_string());
        shared.members.tell(Notice::Seed { address: address.clone(), error });
    }
}

async fn say(
    shared: &Shared,
    address: &str,
    turn: &mut usize,
    first: Bytes,
    answers: &mpsc::Sender<Chunk>,
    frames: &mut mpsc::Receiver<Chunk>,
) -> Result<(), SeedError> {
    let open = |address| open(shared, address);
    // The seed is this node alone, under another name than its own.
    let Some((node, mut stream)) = first_other(&resolve(address).await?, turn, open).await? else {
        return Ok(());
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
    let open = |address| open(shared, address);
    let opened = first_other(&resolve(address).await?, &mut 0, open).await?;
    opened.map(drop).ok_or_else(|| HandshakeError::Refused(Refusal::OwnNode).into())
}

async fn resolve(address: &str) -> Result<Vec<SocketAddr>, SeedError> {
    let found = timeout(CONNECT_LIMIT, lookup_host(address)).await;
    let found = found.map_err(|_| SeedError::SlowToResolve)?.map_err(SeedError::Unresolved)?;
    Ok(found.collect())
}

/// What `open` makes at the first of `addresses`, from the one on whose turn it is, that lets it and is not this
/// node. `None` if all are this node.
async fn first_other<T, F: Future<Output = Result<T, SeedError>>>(
    addresses: &[SocketAddr],
    turn: &mut usize,
    open: impl Fn(SocketAddr) -> F,
) -> Result<Option<T>, SeedError> {
    let mut failed = Vec::new();
    for _ in 0..addresses.len().min(TRIES_MAX) {
        let address = addresses[*turn % addresses.len()];
        *turn = (*turn + 1) % addresses.len();
        match open(address).await {
            Ok(opened) => return Ok(Some(opened)),
            Err(SeedError::Handshake(HandshakeError::Refused(Refusal::OwnNode))) => (),
            Err(error) => failed.push((address, error)),
        }
    }
    match failed.pop() {
        None => Ok(None),
        Some((_, error)) if addresses.len() == 1 => Err(error),
        Some(last) => Err(SeedError::Each(failed.into_iter().chain([last]).collect())),
    }
}

async fn open(
    shared: &Shared,
    address: SocketAddr,
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

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn addresses(ports: &[u16]) -> Vec<SocketAddr> {
        ports.iter().map(|port| SocketAddr::from(([127, 0, 0, 1], *port))).collect()
    }

    /// Port 1 is of this node, 2 lets nobody in and 3 is silent; at the others a node answers.
    async fn dial(address: SocketAddr) -> Result<u16, SeedError> {
        match address.port() {
            1 => Err(HandshakeError::Refused(Refusal::OwnNode).into()),
            2 => Err(SeedError::Connect(std::io::ErrorKind::ConnectionRefused.into())),
            3 => Err(SeedError::Slow),
            port => Ok(port),
        }
    }

    #[tokio::test]
    async fn neither_this_node_nor_who_does_not_answer_hides_the_others_of_a_name() {
        let name = addresses(&[1, 2, 3, 4, 5]);
        let mut turn = 0;
        // And each of those that answer has its turn.
        for expected in [4, 5, 4, 5] {
            assert_eq!(first_other(&name, &mut turn, dial).await.unwrap(), Some(expected));
        }
    }

    #[tokio::test]
    async fn what_is_wrong_is_told_of_each_address_unless_all_are_this_node() {
        let error = async |ports: &[u16]| {
            first_other(&addresses(ports), &mut 0, dial).await.unwrap_err().to_string()
        };
        assert_eq!(error(&[2]).await, "cannot connect: connection refused");
        assert_eq!(
            error(&[1, 2, 3]).await,
            "at 127.0.0.1:2 cannot connect: connection refused, at 127.0.0.1:3 no connection within 2 seconds"
        );
        assert_eq!(first_other(&addresses(&[1, 1]), &mut 0, dial).await.unwrap(), None);
    }

    #[tokio::test]
    async fn so_many_addresses_are_tried_in_one_dial_and_the_others_in_the_next() {
        let name = addresses(&[2; 2 * TRIES_MAX + 1]);
        let tried = RefCell::new(0);
        let open = |address| {
            *tried.borrow_mut() += 1;
            dial(address)
        };
        let mut turn = 0;
        assert!(first_other(&name, &mut turn, open).await.is_err());
        assert_eq!((turn, *tried.borrow()), (TRIES_MAX, TRIES_MAX));
    }
}
