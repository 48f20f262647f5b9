//! Native clients on the peer port: calls in, replies out as they are ready, many under way.

use std::sync::Arc;

use bytes::Bytes;
use client::Datastore as _;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, SinkExt, StreamExt};
use replication::{Action, Answer, RequestError};
use tokio::io::{AsyncRead, AsyncWrite};
use wire::{
    CallBody, ClientCall, ClientReply, FRAME_BYTES_MAX, FrameError, FrameStream, ReplyBody,
};

use crate::allowance::{Account, Allowance};
use crate::datastore::NodeDatastore;
use crate::shared::Shared;

/// Calls of one connection under way; the next is read once one is answered.
const CALLS_MAX: usize = 256;
/// Requests and bytes of the calls under way after which no further one is read. Guesses; a single
/// call may be more than either.
const REQUESTS_MAX: usize = 1024;
const CALLS_BYTES: usize = 2 * FRAME_BYTES_MAX;
/// What the answers to one call may come to: the rest of the frame is for errors and small ones.
const CALL_ANSWERS_BYTES: usize = FRAME_BYTES_MAX / 4 * 3;
/// Bytes of answers that wait to be written to one connection. A guess.
const ANSWERS_BYTES: usize = 4 * FRAME_BYTES_MAX;

/// What the calls under way take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    calls: usize,
    requests: usize,
    bytes: usize,
}

impl Load {
    fn of(call: &ClientCall, bytes: usize) -> Self {
        let requests =
            if let CallBody::Execute(requests) = &call.body { requests.len() } else { 1 };
        Self { calls: 1, requests, bytes }
    }

    fn add(&mut self, other: Self) {
        self.calls += other.calls;
        self.requests += other.requests;
        self.bytes += other.bytes;
    }

    fn take_away(&mut self, other: Self) {
        self.calls -= other.calls;
        self.requests -= other.requests;
        self.bytes -= other.bytes;
    }

    /// Whether there is room for another call.
    fn has_room(self) -> bool {
        self.calls < CALLS_MAX && self.requests < REQUESTS_MAX && self.bytes < CALLS_BYTES
    }
}

/// A reply to be written, and what is given back once it is.
struct Done {
    reply: ClientReply,
    load: Load,
    /// Held for what the answers take of the connection's account.
    _allowance: Arc<Allowance>,
}

/// Serves a client until it leaves or the node stops, then finishes what it accepted.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite>(
    shared: &Shared,
    datastore: Arc<NodeDatastore>,
    stream: FrameStream<S>,
) -> Result<(), FrameError> {
    let (mut sink, frames) = stream.split();
    let mut frames = frames.fuse();
    let mut under_way = FuturesUnordered::new();
    let account = Account::new(ANSWERS_BYTES);
    let mut load = Load::default();
    let closed = shared.closed();
    tokio::pin!(closed);
    let mut reading = true;
    loop {
        tokio::select! {
            Some(done) = under_way.next() => {
                let mut next: Option<Done> = Some(done);
                while let Some(Done { reply, load: done, .. }) = next {
                    sink.feed(encode(&reply)).await?;
                    load.take_away(done);
                    // What is ready by now leaves in the same write.
                    next = under_way.next().now_or_never().flatten();
                }
                sink.flush().await?;
            }
            frame = frames.next(), if reading && load.has_room() => match frame {
                Some(bytes) => {
                    let bytes = bytes?;
                    let call: ClientCall = clock::decode(&bytes)?;
                    let one = Load::of(&call, bytes.len());
                    load.add(one);
                    // Handed to the loops here and now, so that calls keep their order.
                    let mut answer = Box::pin(answer(
                        Arc::clone(&datastore),
                        account.allowance(CALL_ANSWERS_BYTES),
                        call,
                        one,
                    ));
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
    let error = || too_long(length);
    let body = match &reply.body {
        ReplyBody::Executed(results) => {
            ReplyBody::Executed(results.iter().map(|_| Err(error())).collect())
        }
        ReplyBody::Page(_) => ReplyBody::Page(Err(error())),
        ReplyBody::Count(_) => ReplyBody::Count(Err(error())),
        ReplyBody::Conflicts(_) => ReplyBody::Conflicts(Err(error())),
        ReplyBody::Explanation(_) => ReplyBody::Explanation(Box::new(Err(error()))),
        ReplyBody::Buckets(_) => ReplyBody::Buckets(Box::new(Err(error()))),
        ReplyBody::Repair(_) => ReplyBody::Repair(Err(error())),
        ReplyBody::Comparisons(_) => ReplyBody::Comparisons(Err(error())),
        ReplyBody::Status(_) => ReplyBody::Status(Box::new(Err(error()))),
        ReplyBody::Cluster(_) => ReplyBody::Cluster(Err(error())),
        ReplyBody::Plan(_) => ReplyBody::Plan(Box::new(Err(error()))),
        ReplyBody::Commit(_) => ReplyBody::Commit(Box::new(Err(error()))),
        ReplyBody::Transfers(_) => ReplyBody::Transfers(Box::new(Err(error()))),
        ReplyBody::Drain(_) => ReplyBody::Drain(Err(error())),
        ReplyBody::Backup(_) => ReplyBody::Backup(Box::new(Err(error()))),
        ReplyBody::Links(_) => ReplyBody::Links(Err(error())),
    };
    clock::encode(&ClientReply { id: reply.id, body }).into()
}

/// `results` if they fit into a frame; else what became of them, without answers. A write whose
/// answer cannot be told is of unknown outcome: an error would make its client do it again.
fn fitting(
    results: Vec<Result<Answer, RequestError>>,
    writes: &[bool],
) -> Vec<Result<Answer, RequestError>> {
    let length = clock::encoded_length(&results);
    // The reply's own few bytes come with them.
    if length + 64 <= FRAME_BYTES_MAX {
        return results;
    }
    let told = |(result, &is_write): (Result<Answer, _>, &bool)| match result {
        Ok(answer) if is_write => Err(RequestError::Unknown {
            acked: answer.acks.answered,
            needed: answer.acks.needed,
            disk: None,
        }),
        Ok(_) => Err(too_long(length)),
        error => error,
    };
    results.into_iter().zip(writes).map(told).collect()
}

fn too_long(length: usize) -> RequestError {
    RequestError::Unsupported(format!(
        "an answer of {length} bytes, a frame holds {FRAME_BYTES_MAX}: ask for less at a time"
    ))
}

async fn answer(
    datastore: Arc<NodeDatastore>,
    allowance: Arc<Allowance>,
    ClientCall { id, body }: ClientCall,
    load: Load,
) -> Done {
    let body = match body {
        CallBody::Execute(requests) => {
            let writes: Vec<bool> = requests
                .iter()
                .map(|request| matches!(request.action, Action::Update(_)))
                .collect();
            let results = datastore.execute_within(requests, &allowance).await;
            ReplyBody::Executed(fitting(results, &writes))
        }
        CallBody::Scan(request) => ReplyBody::Page(datastore.scan(request).await),
        CallBody::Count(bucket) => ReplyBody::Count(datastore.count(bucket).await),
        CallBody::Conflicts(request) => ReplyBody::Conflicts(datastore.conflicts(request).await),
        CallBody::Explain(key) => ReplyBody::Explanation(Box::new(datastore.explain(key).await)),
        CallBody::Buckets(call) => ReplyBody::Buckets(Box::new(datastore.buckets(call).await)),
        CallBody::Repair(request) => ReplyBody::Repair(datastore.repair(request).await),
        CallBody::Comparisons => ReplyBody::Comparisons(datastore.comparisons().await),
        CallBody::Status => ReplyBody::Status(Box::new(datastore.status().await)),
        CallBody::Cluster(call) => ReplyBody::Cluster(datastore.cluster(call).await),
        CallBody::Plan(call) => ReplyBody::Plan(Box::new(datastore.plan(call).await)),
        CallBody::Commit(call) => ReplyBody::Commit(Box::new(datastore.commit(call).await)),
        CallBody::Transfers => ReplyBody::Transfers(Box::new(datastore.transfers().await)),
        CallBody::Merge { seed } => ReplyBody::Cluster(datastore.merge(&seed).await),
        CallBody::Drain(call) => ReplyBody::Drain(datastore.drain(call).await),
        CallBody::Backup(call) => ReplyBody::Backup(Box::new(datastore.backup(call).await)),
        CallBody::Links { member, cut } => {
            ReplyBody::Links(datastore.cut_links(&member, cut).await)
        }
    };
    Done { reply: ClientReply { id, body }, load, _allowance: allowance }
}

#[cfg(test)]
mod tests {
    use replication::{Acks, Request};
    use values::{Blob, BytesOp, Key, Limits, Mint, Operation, Scope, View};

    use super::*;

    #[test]
    fn a_write_whose_answer_fits_no_frame_is_unknown_and_not_failed() {
        let long = Operation::Bytes(BytesOp::Put(Blob::from(vec![0; 6 << 20])));
        let mint = Mint {
            actor: clock::Actor::new(clock::NodeId(1), 1, 1),
            stamp: clock::Stamp(1),
            round: None,
        };
        let none = clock::CausalContext::default();
        let made = long.prepare(&View::default(), &none, mint, &Limits::default()).unwrap();
        let acks = Acks { owners: 3, needed: 2, answered: 2, hinted: 0 };
        let answer = Answer {
            view: View::of(made.delta.value),
            changed: 1,
            repeated: false,
            raw: values::Tag::BYTES,
            many_siblings: None,
            acks,
            partly_observed: false,
            contexts: std::collections::BTreeMap::new(),
            time: clock::Stamp(1),
        };
        let refused = Err(RequestError::Overloaded);
        let results = vec![Ok(answer.clone()), refused.clone(), Ok(answer.clone()), Ok(answer)];
        let two = results[..2].to_vec();
        assert_eq!(fitting(two.clone(), &[true, true]), two);
        let told = fitting(results, &[true, true, false, true]);
        let unknown = Err(RequestError::Unknown { acked: 2, needed: 2, disk: None });
        assert_eq!((&told[0], &told[1], &told[3]), (&unknown, &refused, &unknown));
        assert!(matches!(told[2], Err(RequestError::Unsupported(_))), "{:?}", told[2]);
    }

    #[test]
    fn calls_are_read_until_they_are_many_or_long_and_one_is_always() {
        let get = Request::get(Key::new("b", "k").unwrap(), Scope::Whole);
        let call = |count| ClientCall { id: 1, body: CallBody::Execute(vec![get.clone(); count]) };
        let has_room = |one: Load, times| {
            let mut load = Load::default();
            (0..times).for_each(|_| load.add(one));
            let room = load.has_room();
            (0..times).for_each(|_| load.take_away(one));
            assert_eq!(load, Load::default());
            room
        };
        assert!(has_room(Load::of(&call(1), 100), 255));
        assert!(!has_room(Load::of(&call(1), 100), 256));
        assert!(has_room(Load::of(&call(100), 100), 10));
        assert!(!has_room(Load::of(&call(100), 100), 11));
        assert!(has_room(Load::of(&call(1), FRAME_BYTES_MAX), 1));
        assert!(!has_room(Load::of(&call(1), FRAME_BYTES_MAX), 2));
        assert!(has_room(Load::of(&call(100_000), FRAME_BYTES_MAX), 0));
    }
}
