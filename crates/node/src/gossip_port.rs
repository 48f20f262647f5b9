//! Gossip with whoever has this node for a seed: over a connection that carries nothing else and soon ends.

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::time::timeout;
use wire::{FrameError, FrameStream, PeerFrame, PeerHello};

use crate::dial::SILENCE_MAX;
use crate::inbound::InboundError;
use crate::members::{ANSWERS_MAX, Notice, Route, next_useful};
use crate::shared::Shared;

/// Serves the connection until the other side leaves or says nothing for a while.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    shared: &Shared,
    peer: &PeerHello,
    mut stream: FrameStream<S>,
) -> Result<(), InboundError> {
    let (answers, mut answered) = mpsc::channel(ANSWERS_MAX);
    loop {
        let frame = tokio::select! {
            // `answers` keeps the channel open.
            Some(answer) = next_useful(&mut answered, shared.clock) => {
                stream.send(answer).await.map_err(FrameError::Io)?;
                continue;
            }
            frame = timeout(SILENCE_MAX, stream.next()) => match frame {
                Ok(Some(frame)) => frame.map_err(FrameError::Io)?,
                Ok(None) | Err(_) => return Ok(()),
            },
        };
        let frame = clock::decode(&frame).map_err(FrameError::Malformed)?;
        let PeerFrame::Gossip(message) = frame else { return Err(InboundError::Unexpected) };
        let route = Route::Connection(answers.clone());
        shared.members.tell(Notice::Received { from: peer.node, message, route });
    }
}
