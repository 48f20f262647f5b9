//! The native client against nodes that lose connections: what counts is counted once.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails, also in its helpers")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use client::{Bucket, Client, Datastore, MemoryDatastore};
use clock::{ClusterSecret, NodeId};
use futures_util::{Stream, StreamExt};
use membership::Incarnation;
use replication::{
    ConflictCursor, ConflictsRequest, Request, RequestError, RequestName, ScanPage, ScanRequest,
};
use storage::ConflictPosition;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use values::{BytesOp, CounterOp, Key, Operation, Scope, UpdateError};
use wire::{
    Admission, CallBody, ClientCall, ClientReply, Identity, ReplyBody, accept, read_frame,
    write_frame,
};

/// What a node does with a call.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// Does it, and closes the connection instead of answering.
    DoneAndCut,
    /// Closes the connection.
    Cut,
    /// Does it, and never answers.
    DoneAndSilent,
    /// Refuses names.
    Full,
    /// Reaches too few others.
    CutOff,
    /// Hears from no other in time.
    TimedOut,
}

/// Names of the requests that came, in order.
type Seen = Arc<Mutex<Vec<Option<RequestName>>>>;

const START: Incarnation = Incarnation { generation: 1, nonce: 1 };

/// A node of `datastore` that treats its first calls so, and answers all others. Returns its
/// address.
async fn node(datastore: &Arc<MemoryDatastore>, fates: &[Fate], seen: &Seen) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (datastore, seen) = (Arc::clone(datastore), Arc::clone(seen));
    let mut fates: VecDeque<Fate> = fates.iter().copied().collect();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            serve(stream, &datastore, &mut fates, &seen).await;
        }
    });
    address
}

async fn serve(
    stream: TcpStream,
    datastore: &MemoryDatastore,
    fates: &mut VecDeque<Fate>,
    seen: &Seen,
) {
    let (cluster, name) = ("c".to_owned(), "a".to_owned());
    let us = Identity {
        cluster,
        node: NodeId(1),
        name,
        incarnation: START,
        partitions: 16,
        versions: wire::MESSAGE_VERSIONS,
    };
    let secret = ClusterSecret::new(*b"s");
    let admission = Admission { us: &us, secret: &secret };
    let Ok((mut stream, _)) = accept(stream, admission, [1; 32], |_| Ok(())).await else { return };
    while let Ok(ClientCall { id, body }) = read_frame(&mut stream).await {
        let requests = match body {
            CallBody::Execute(requests) => requests,
            CallBody::Count(_) => {
                match fates.pop_front() {
                    None => {}
                    Some(Fate::DoneAndSilent) => return until_it_leaves(stream).await,
                    Some(_) => return,
                }
                let reply = ClientReply { id, body: ReplyBody::Count(Ok(7)) };
                write_frame(&mut stream, &reply).await.unwrap();
                continue;
            }
            CallBody::Conflicts(request) => {
                if fates.pop_front().is_some() {
                    return;
                }
                let body = ReplyBody::Conflicts(datastore.conflicts(request).await);
                write_frame(&mut stream, &ClientReply { id, body }).await.unwrap();
                continue;
            }
            CallBody::Scan(_) => {
                let body = ReplyBody::Page(match fates.pop_front() {
                    None => Ok(ScanPage { keys: Vec::new(), next: None, incomplete: false }),
                    Some(_) => Err(RequestError::Stopping),
                });
                write_frame(&mut stream, &ClientReply { id, body }).await.unwrap();
                continue;
            }
            _ => return,
        };
        seen.lock().unwrap().extend(requests.iter().map(|request| request.name.clone()));
        let results = match fates.pop_front() {
            None => datastore.execute(requests).await,
            Some(Fate::Full) => {
                let error = RequestError::from(UpdateError::TooManyNames { limit: 256 });
                vec![Err(error); requests.len()]
            }
            Some(Fate::CutOff) => {
                vec![Err(RequestError::Unavailable { reachable: 1, needed: 2 }); requests.len()]
            }
            Some(Fate::TimedOut) => vec![Err(RequestError::Timeout); requests.len()],
            Some(Fate::Cut) => return,
            Some(Fate::DoneAndCut) => return drop(datastore.execute(requests).await),
            Some(Fate::DoneAndSilent) => {
                datastore.execute(requests).await;
                return until_it_leaves(stream).await;
            }
        };
        let reply = ClientReply { id, body: ReplyBody::Executed(results) };
        write_frame(&mut stream, &reply).await.unwrap();
    }
}

/// Says nothing more until the client leaves.
async fn until_it_leaves(mut stream: impl Stream + Unpin) {
    while stream.next().await.is_some() {}
}

fn adding(by: i64) -> Request {
    Request::update(Key::new("b", "k").unwrap(), Operation::Counter(CounterOp::Add(by)))
}

async fn total(datastore: &Arc<MemoryDatastore>) -> i128 {
    let datastore: Arc<dyn Datastore> = datastore.clone();
    Bucket::new(datastore, "b").counter("k").unwrap().value().await.unwrap()
}

/// The node takes one message, does what it asks, and is gone.
#[tokio::test]
async fn a_batch_is_one_message() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::DoneAndCut], &seen).await;
    let client = Client::connect(&address).await.unwrap().without_names();
    let results = client.execute((0..100).map(|_| adding(1)).collect()).await;
    assert_eq!(results.len(), 100);
    assert!(results.iter().all(|result| matches!(result, Err(RequestError::Disconnected(_)))));
    assert_eq!(total(&datastore).await, 100);
    assert_eq!(seen.lock().unwrap().len(), 100);
}

#[tokio::test]
async fn an_update_whose_answer_is_lost_is_tried_again_and_counts_once() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::DoneAndCut], &seen).await;
    let client = Client::connect(&address).await.unwrap();
    let answer = client.request(adding(5)).await.unwrap();
    assert!(answer.repeated);
    assert_eq!(total(&datastore).await, 5);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert_eq!(seen[0], seen[1]);
    let name = seen[0].clone().unwrap();
    assert_eq!((name.client.len(), &name.id[..]), (32, &b"1"[..]));
}

#[tokio::test]
async fn an_update_that_was_not_done_is_done_by_the_next_try() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::Cut, Fate::Cut], &seen).await;
    let client = Client::connect(&address).await.unwrap();
    assert!(!client.request(adding(5)).await.unwrap().repeated);
    assert_eq!(total(&datastore).await, 5);
}

#[tokio::test]
async fn a_node_that_falls_silent_is_left_for_another_one() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let silent = node(&datastore, &[Fate::DoneAndSilent], &seen).await;
    let other = node(&datastore, &[], &seen).await;
    let client = Client::connect_to_any(&[&silent, &other]).await.unwrap();
    let request = Request { timeout_ms: Some(8_000), ..adding(5) };
    assert!(client.request(request).await.unwrap().repeated);
    assert!(!client.request(adding(2)).await.unwrap().repeated);
    assert_eq!(total(&datastore).await, 7);
}

#[tokio::test]
async fn an_answer_is_waited_for_little_longer_than_the_request_may_take() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let request = || Request { timeout_ms: Some(200), ..adding(5) };
    let silent = node(&datastore, &[Fate::DoneAndSilent], &seen).await;
    let alone = Client::connect(&silent).await.unwrap();
    let silent = node(&datastore, &[Fate::DoneAndSilent], &seen).await;
    let other = node(&datastore, &[], &seen).await;
    let unnamed = Client::connect_to_any(&[&silent, &other]).await.unwrap().without_names();
    for client in [alone, unnamed] {
        // Less than the 90 s that a call without a time limit may take.
        let ended = timeout(Duration::from_secs(30), client.request(request())).await;
        let failed = ended.expect("it ends").unwrap_err();
        assert!(matches!(failed, RequestError::Disconnected(_)), "{failed}");
    }
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_opened_anew() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    // It takes the next connection when the client has left this one.
    let address = node(&datastore, &[Fate::DoneAndSilent], &seen).await;
    let client = Client::connect(&address).await.unwrap().without_names();
    let request = |timeout_ms| Request { timeout_ms: Some(timeout_ms), ..adding(5) };
    let failed = client.request(request(200)).await.unwrap_err();
    assert!(matches!(failed, RequestError::Disconnected(_)), "{failed}");
    client.request(request(20_000)).await.unwrap();
    assert_eq!(total(&datastore).await, 10);
}

#[tokio::test]
async fn a_node_that_nobody_reaches_is_left_for_another_one() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let here = node(&datastore, &[], &seen).await;
    let client = Client::connect_to_any(&[&gone, &here]).await.unwrap();
    client.request(adding(5)).await.unwrap();
    assert_eq!(total(&datastore).await, 5);
    assert!(Client::connect_to_any(&[&gone, &gone]).await.is_err());
    assert!(Client::connect_to_any(&[]).await.is_err());
}

#[tokio::test]
async fn a_node_on_the_smaller_side_of_a_partition_is_left_for_another_one() {
    let datastore = Arc::new(MemoryDatastore::new());
    let key = || Key::new("b", "raw").unwrap();
    let put = || Request::update(key(), Operation::Bytes(BytesOp::Put("v".into())));
    for (fate, request) in
        [(Fate::CutOff, put()), (Fate::TimedOut, Request::get(key(), Scope::Headers))]
    {
        let (asked, seen) = (Seen::default(), Seen::default());
        let smaller = node(&datastore, &[fate; 2], &asked).await;
        let greater = node(&datastore, &[], &seen).await;
        let client = Client::connect_to_any(&[&smaller, &greater]).await.unwrap();
        for _ in 0..2 {
            client.request(request.clone()).await.unwrap();
        }
        assert_eq!((asked.lock().unwrap().len(), seen.lock().unwrap().len()), (1, 2), "{fate:?}");
    }
    // One alone is not asked again.
    let seen = Seen::default();
    let alone = Client::connect(&node(&datastore, &[Fate::CutOff; 2], &seen).await).await.unwrap();
    let refused = alone.request(put()).await.unwrap_err();
    assert_eq!(refused, RequestError::Unavailable { reachable: 1, needed: 2 });
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn tries_come_to_an_end() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::Cut; 9], &seen).await;
    let client = Client::connect(&address).await.unwrap();
    let failed = client.request(adding(5)).await.unwrap_err();
    assert!(matches!(failed, RequestError::Disconnected(_)), "{failed}");
    assert_eq!(seen.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn what_has_no_name_is_sent_once() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::DoneAndCut, Fate::DoneAndCut], &seen).await;
    let client = Client::connect(&address).await.unwrap().without_names();
    let put = Operation::Bytes(BytesOp::Put("v".into()));
    for request in [adding(5), Request::update(Key::new("b", "raw").unwrap(), put)] {
        let failed = client.request(request).await.unwrap_err();
        assert!(matches!(failed, RequestError::Disconnected(_)), "{failed}");
    }
    assert_eq!(*seen.lock().unwrap(), [None, None]);
    assert_eq!(total(&datastore).await, 5);
}

#[tokio::test]
async fn a_name_of_the_application_is_sent_as_it_is_and_again() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::DoneAndCut], &seen).await;
    let client = Arc::new(Client::connect(&address).await.unwrap().without_names());
    let name = RequestName::parse(b"shop:42");
    let bucket = Bucket::new(client, "b").named(name.clone());
    assert_eq!(bucket.counter("k").unwrap().add(5).await.unwrap(), 5);
    assert_eq!(bucket.counter("k").unwrap().add(5).await.unwrap(), 5);
    assert_eq!(bucket.counter("k").unwrap().value().await.unwrap(), 5);
    let name = Some(name);
    assert_eq!(*seen.lock().unwrap(), [name.clone(), name.clone(), name, None]);
    let reused = bucket.counter("k").unwrap().add(6).await.unwrap_err();
    assert_eq!(reused, UpdateError::NameReused.into());
}

#[tokio::test]
async fn a_key_that_takes_no_more_names_is_updated_without_one() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let address = node(&datastore, &[Fate::Full], &seen).await;
    let client = Client::connect(&address).await.unwrap();
    client.request(adding(5)).await.unwrap();
    client.request(adding(5)).await.unwrap();
    assert_eq!(total(&datastore).await, 10);
    let named: Vec<bool> = seen.lock().unwrap().iter().map(Option::is_some).collect();
    assert_eq!(named, [true, false, false]);
}

#[tokio::test]
async fn a_replica_in_memory_takes_so_many_names_of_a_client_as_a_node_does() {
    let datastore = MemoryDatastore::new();
    let named =
        |name: &str| Request { name: Some(RequestName::parse(name.as_bytes())), ..adding(1) };
    for id in 0..256 {
        assert!(!datastore.request(named(&format!("c:{id}"))).await.unwrap().repeated);
    }
    let full = RequestError::from(UpdateError::TooManyNames { limit: 256 });
    assert_eq!(datastore.request(named("c:256")).await, Err(full));
    assert!(datastore.request(named("c:7")).await.unwrap().repeated);
    assert!(!datastore.request(named("d:7")).await.unwrap().repeated);
    assert_eq!(datastore.request(named("")).await, Err(RequestError::Name { bytes: 0 }));
    let Request { action, .. } = adding(2);
    let reused = Request { action, ..named("c:7") };
    assert_eq!(datastore.request(reused).await, Err(UpdateError::NameReused.into()));
    assert_eq!(total(&Arc::new(datastore)).await, 257);
}

#[tokio::test]
async fn what_only_reads_is_asked_of_another_node_when_one_is_gone_or_stopping() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let ill = node(&datastore, &[Fate::Cut, Fate::Cut], &seen).await;
    let well = node(&datastore, &[], &seen).await;
    let client = Client::connect_to_any(&[&ill, &well]).await.unwrap();
    assert_eq!(client.count("b".into()).await, Ok(7));
    // The ill one is cut once more, and has been left.
    let client = Client::connect_to_any(&[&ill, &well]).await.unwrap();
    let request = ScanRequest { bucket: "b".into(), cursor: None, limit: 9 };
    assert!(client.scan(request).await.is_ok());
    let alone = Client::connect(&node(&datastore, &[Fate::Cut; 9], &seen).await).await.unwrap();
    assert!(matches!(alone.count("b".into()).await, Err(RequestError::Disconnected(_))));
}

/// The node that gave the cursor may be in reach of another.
#[tokio::test]
async fn a_later_page_of_conflicts_is_asked_of_another_node_too() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let ill = node(&datastore, &[Fate::Cut], &seen).await;
    let well = node(&datastore, &[], &seen).await;
    let client = Client::connect_to_any(&[&ill, &well]).await.unwrap();
    let cursor = ConflictCursor { node: NodeId(1), after: ConflictPosition("".into()) };
    let request = ConflictsRequest { cursor: Some(cursor), limit: 9 };
    assert_eq!(client.conflicts(request).await.map(|list| list.node), Ok("memory".into()));
}

#[tokio::test]
async fn what_only_reads_is_asked_of_another_node_when_one_falls_silent() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let silent = node(&datastore, &[Fate::DoneAndSilent], &seen).await;
    let well = node(&datastore, &[], &seen).await;
    let client = Client::connect_to_any(&[&silent, &well]).await.unwrap();
    let counted = timeout(Duration::from_secs(30), client.count("b".into())).await;
    assert_eq!(counted.expect("it ends"), Ok(7));
}

/// Who listens and says nothing: the handshake has no end but its own time limit.
#[tokio::test]
async fn connecting_takes_no_longer_than_a_request_may_and_is_tried_once_for_all_who_wait() {
    let (datastore, seen) = (Arc::new(MemoryDatastore::new()), Seen::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(Mutex::new(0));
    let count = Arc::clone(&connections);
    let task = tokio::spawn(async move {
        // The first connection is served until its first call; others are taken and left alone.
        let (stream, _) = listener.accept().await.unwrap();
        serve(stream, &datastore, &mut VecDeque::from([Fate::Cut]), &seen).await;
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
            *count.lock().unwrap() += 1;
        }
    });
    let client = Client::connect(&address).await.unwrap().without_names();
    client.request(adding(1)).await.unwrap_err();
    let request = || Request { timeout_ms: Some(200), ..adding(1) };
    let began = std::time::Instant::now();
    let failed = futures_util::future::join_all((0..20).map(|_| client.request(request()))).await;
    for failed in failed {
        assert!(matches!(failed, Err(RequestError::Unreachable(_))), "{failed:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(*connections.lock().unwrap(), 1);
    task.abort();
}
