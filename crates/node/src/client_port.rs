//! Native clients on the peer port: calls in, replies out as they are ready, many under way.

use std::sync::Arc;

use bytes::Bytes;
use client::Datastore as _;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use replication::RequestError;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::{
    CallBody, ClientCall, ClientReply, FRAME_BYTES_MAX, FrameError, FrameStream, ReplyBody,
};

use crate::datastore::NodeDatastore;
use crate::shared::Shared;

/// Calls of one connection under way; the next is read once one is answered.
const CALLS_MAX: usize = 256;

/// Serves a client until it leaves or the node stops, then finishes what it accepted.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite>(
    shared: &Shared,
    datastore: Arc<NodeDatastore>,
    stream: FrameStream<S>,
) -> Result<(), FrameError> {
    let (mut sink, frames) = stream.split();
    let mut frames = frames.fuse();
    let mut under_way = FuturesUnordered::new();
    let closed = shared.closed();
    tokio::pin!(closed);
    let mut reading = true;
    loop {
        tokio::select! {
            Some(reply) = under_way.next() => {
                let reply: ClientReply = reply;
                sink.feed(encode(&reply)).await?;
                // What is ready by now leaves in the same write.
                while let Some(Some(reply)) = under_way.next().now_or_never() {
                    sink.feed(encode(&reply)).await?;
                }
                sink.flush().await?;
            }
            frame = frames.next(), if reading && under_way.len() < CALLS_MAX => match frame {
                Some(bytes) => {
                    let call: ClientCall = clock::decode(&bytes?)?;
                    // Handed to the loops here and now, so that calls keep their order.
                    let mut answer = Box::pin(answer(Arc::clone(&datastore), call));
                    match answer.as_mut().now_or_never() {
                        Some(reply) => under_way.push(futures_util::future::ready(reply).boxed_local()),
                        None => under_way.push(answer.boxed_local()),
                    }
                }
                None => reading = false,
            },
            () = &mut closed, if reading => reading = false,
            else => return Ok(()),
        }
    }
}

/// The reply's frame, or that of an error in its place if it is too large for one.
fn encode(reply: &ClientReply) -> Bytes {
    let bytes = clock::encode(reply);
    if bytes.len() <= FRAME_BYTES_MAX {
        return bytes.into();
    }
    let length = bytes.len();
    let error = || {
        RequestError::Unsupported(format!(
            "an answer of {length} bytes, a frame holds {FRAME_BYTES_MAX}: ask for less at a time"
        ))
    };
    let body = match &reply.body {
        ReplyBody::Executed(results) => {
            ReplyBody::Executed(results.iter().map(|_| Err(error())).collect())
        }
        ReplyBody::Page(_) => ReplyBody::Page(Err(error())),
        ReplyBody::Count(_) => ReplyBody::Count(Err(error())),
        ReplyBody::Explanation(_) => ReplyBody::Explanation(Box::new(Err(error()))),
        ReplyBody::Status(_) => ReplyBody::Status(Box::new(Err(error()))),
        ReplyBody::Links(_) => ReplyBody::Links(Err(error())),
    };
    clock::encode(&ClientReply { id: reply.id, body }).into()
}

async fn answer(datastore: Arc<NodeDatastore>, ClientCall { id, body }: ClientCall) -> ClientReply {
    let body = match body {
        CallBody::Execute(requests) => ReplyBody::Executed(datastore.execute(requests).await),
        CallBody::Scan(request) => ReplyBody::Page(datastore.scan(request).await),
        CallBody::Count(bucket) => ReplyBody::Count(datastore.count(bucket).await),
        CallBody::Explain(key) => ReplyBody::Explanation(Box::new(datastore.explain(key).await)),
        CallBody::Status => ReplyBody::Status(Box::new(datastore.status().await)),
        CallBody::Links { member, cut } => {
            ReplyBody::Links(datastore.cut_links(&member, cut).await)
        }
    };
    ClientReply { id, body }
}
