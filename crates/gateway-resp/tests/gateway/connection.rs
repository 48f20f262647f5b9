//! What a connection promises whatever the commands: order, limits, backpressure, a clean end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Datastore, MemoryDatastore};
use gateway_resp::ParserLimits;
use replication::{
    Acks, Action, Answer, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation,
    Request, RequestError, ScanPage, ScanRequest,
};
use tokio::io::AsyncWriteExt;
use tokio::sync::{Semaphore, watch};
use values::{Key, Limits};
use wire::ClusterStatus;

use crate::support::Server;

/// A datastore in memory that counts the batches, and can be made to wait or to fail.
struct Probe {
    memory: MemoryDatastore,
    batches: AtomicU64,
    /// Most requests of one batch that only read, and in all.
    reads: AtomicU64,
    longest: AtomicU64,
    permits: Semaphore,
    error: Option<RequestError>,
    /// What requests on some keys fail with.
    errors: BTreeMap<&'static str, RequestError>,
}

impl Probe {
    fn new(permits: usize, error: Option<RequestError>) -> Arc<Self> {
        Arc::new(Self::of(permits, error, BTreeMap::new()))
    }

    fn failing_at(errors: BTreeMap<&'static str, RequestError>) -> Arc<Self> {
        Arc::new(Self::of(Semaphore::MAX_PERMITS, None, errors))
    }

    fn of(
        permits: usize,
        error: Option<RequestError>,
        errors: BTreeMap<&'static str, RequestError>,
    ) -> Self {
        Self {
            memory: MemoryDatastore::new(),
            batches: AtomicU64::new(0),
            reads: AtomicU64::new(0),
            longest: AtomicU64::new(0),
            permits: Semaphore::new(permits),
            error,
            errors,
        }
    }
}

#[async_trait]
impl Datastore for Probe {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.longest.fetch_max(requests.len() as u64, Ordering::Relaxed);
        let reads = requests.iter().filter(|request| matches!(request.action, Action::Get(_)));
        self.reads.fetch_max(reads.count() as u64, Ordering::Relaxed);
        self.permits.acquire().await.unwrap().forget();
        if let Some(error) = &self.error {
            return requests.iter().map(|_| Err(error.clone())).collect();
        }
        let mut answers = Vec::new();
        for request in requests {
            let failing = self.errors.iter().find(|(key, _)| request.key.key() == key.as_bytes());
            if let Some((_, error)) = failing {
                answers.push(Err(error.clone()));
                continue;
            }
            // Of the key "few" one replica of the two that were to answers.
            if request.key.key() == "few" {
                let answer = self.memory.request(request).await;
                let acks = Acks { owners: 3, needed: 2, answered: 1, hinted: 0 };
                answers.push(answer.map(|answer| Answer { acks, ..answer }));
                continue;
            }
            // The key "both" holds what "a" and "b" hold, as after concurrent writes.
            if request.key.key() == "both" {
                let part = |name: &'static str| {
                    let key = Key::new("default", name).unwrap();
                    self.memory.request(Request { key, ..request.clone() })
                };
                let (mut a, b) = (part("a").await.unwrap(), part("b").await.unwrap());
                a.view.merge(&b.view);
                answers.push(Ok(a));
            } else {
                answers.push(self.memory.request(request).await);
            }
        }
        answers
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        let page = self.memory.scan(request).await?;
        Ok(ScanPage { incomplete: self.error.is_some(), ..page })
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        self.memory.count(bucket).await
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        self.memory.conflicts(request).await
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        self.memory.explain(key).await
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        self.memory.buckets(call).await
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        self.memory.status().await
    }

    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
        self.memory.cut_links(member, cut).await
    }
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_from_one_batch() {
    let probe = Probe::new(100, None);
    let server = Server::start_with(probe.clone(), ParserLimits::default()).await;
    let mut client = server.connect().await;
    client
        .expect(
            "SET a 1\r\nPING\r\nINCR a\r\nnope\r\nGET a\r\nMGET a b\r\nECHO x",
            "+OK\r\n+PONG\r\n:2\r\n-ERR unknown command 'nope', with args beginning with: \r\n\
             $1\r\n2\r\n*2\r\n$1\r\n2\r\n$-1\r\n$1\r\nx\r\n",
        )
        .await;
    assert_eq!(probe.batches.load(Ordering::Relaxed), 1);
    // A transaction, and commands on several keys, are one batch each, or one together.
    client
        .expect(
            "MULTI\r\nSET a 1\r\nMSET b 2 c 3\r\nMGET a b c\r\nEXEC\r\nMGET a c\r\nDEL b c",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*3\r\n+OK\r\n+OK\r\n\
             *3\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n*2\r\n$1\r\n1\r\n$1\r\n3\r\n:2\r\n",
        )
        .await;
    assert_eq!(probe.batches.swap(1, Ordering::Relaxed), 2);
    // What asks something else than requests sees what stands before it, and not what follows.
    client.expect("DEL a\r\nDBSIZE\r\nSET a 1\r\nDBSIZE", ":1\r\n:0\r\n+OK\r\n:1\r\n").await;
    assert_eq!(probe.batches.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn more_commands_than_a_round_takes_are_all_answered_in_order() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let commands: Vec<String> = (0..5_000).map(|n| format!("ECHO {n}\r\nINCR k")).collect();
    let expected: String =
        (0..5_000).map(|n| format!("${}\r\n{n}\r\n:{}\r\n", n.to_string().len(), n + 1)).collect();
    client.expect(&commands.join("\r\n"), &expected).await;
}

#[tokio::test]
async fn a_batch_reads_no_more_values_than_a_node_answers_at_a_time_if_all_are_the_longest() {
    let probe = Probe::new(1_000, None);
    let server = Server::start_with(probe.clone(), ParserLimits::default()).await;
    let mut client = server.connect().await;
    // Small answers let the batches grow.
    client.expect(&vec!["GET none"; 1_000].join("\r\n"), &"$-1\r\n".repeat(1_000)).await;
    let reads = probe.reads.load(Ordering::Relaxed);
    // What the longest values and a node's limit are by default.
    let (longest, limit) = (8 << 20, 256 << 20);
    assert!((16..limit / longest).contains(&reads), "{reads} reads in one batch");
}

#[tokio::test]
async fn writes_that_answer_what_they_found_are_batched_like_reads() {
    for command in ["EXPIRE k 1000", "PERSIST k", "MG.PUT k v", "MG.RESOLVE k KEEP lww"] {
        let probe = Probe::new(1_000, None);
        let server = Server::start_with(probe.clone(), ParserLimits::default()).await;
        let mut client = server.connect().await;
        client.ask(&vec![command; 1_000].join("\r\n")).await;
        let longest = probe.longest.load(Ordering::Relaxed);
        assert!((16..32).contains(&longest), "{longest} of {command} in one batch");
    }
}

#[tokio::test]
async fn replies_larger_than_the_output_buffer_come_whole() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let value = "x".repeat(300_000);
    let set = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$300000\r\n{value}\r\n");
    client.send(set.as_bytes()).await;
    client.expect("", "+OK\r\n").await;
    let commands = vec!["GET k"; 40].join("\r\n");
    client.expect(&commands, &format!("$300000\r\n{value}\r\n").repeat(40)).await;
}

#[tokio::test]
async fn commands_that_come_byte_by_byte_are_answered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for byte in b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\nGET k\r\n" {
        client.send(&[*byte]).await;
        client.0.flush().await.unwrap();
    }
    client.expect("", "+OK\r\n$2\r\n\r\n\r\n").await;
}

#[tokio::test]
async fn broken_protocol_is_answered_after_what_came_before_and_ends_the_connection() {
    let limits = ParserLimits { command_bytes: 1000, ..ParserLimits::default() };
    for (bytes, error) in [
        ("*1\r\n:1\r\n", "expected '$', got ':'"),
        ("*1\r\n$-5\r\n", "invalid bulk length"),
        ("*1048577\r\n", "invalid multibulk length"),
        ("*1\r\n$2000\r\n", "too big command, at most 1000 bytes are allowed"),
        ("SET \"k\r\n", "unbalanced quotes in request"),
    ] {
        let server = Server::start_with(Arc::new(MemoryDatastore::new()), limits).await;
        let mut client = server.connect().await;
        client.send(format!("SET k 1\r\n{bytes}GET k\r\n").as_bytes()).await;
        let expected = format!("+OK\r\n-ERR Protocol error: {error}\r\n");
        assert_eq!(client.read_to_end().await, expected, "{bytes:?}");
        assert!(server.connect().await.ask("INFO stats").await.contains("protocol_errors:1\r\n"));
    }
}

#[tokio::test]
async fn a_web_page_that_has_a_browser_send_commands_gets_none_of_them_done() {
    let server = Server::start().await;
    let mut page = server.connect().await;
    page.send(b"POST / HTTP/1.1\r\nHost: 127.0.0.1:7379\r\n\r\nSET pwned 1\r\n").await;
    let refusal =
        "-ERR Protocol error: this is the Redis protocol; HTTP is answered on another port";
    assert_eq!(page.read_to_end().await, format!("{refusal}\r\n"));
    let mut page = server.connect().await;
    page.send(b"GET / HTTP/1.1\r\nHost: 127.0.0.1:7379\r\n\r\nSET pwned 1\r\n").await;
    assert!(page.read_to_end().await.ends_with(&format!("{refusal}\r\n")));
    let mut client = server.connect().await;
    client.expect("GET pwned", "$-1\r\n").await;
    assert!(client.ask("INFO stats").await.contains("http_refused:2\r\n"));
}

#[tokio::test]
async fn quit_is_the_last_command_that_is_answered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(b"PING\r\nQUIT\r\nPING\r\n").await;
    assert_eq!(client.read_to_end().await, "+PONG\r\n+OK\r\n");
}

#[tokio::test]
async fn the_last_reply_reaches_a_client_that_sent_much_behind_the_command() {
    let rest = b"GET k\r\n".repeat(200_000);
    for (last, reply) in [
        ("*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        ("QUIT\r\n", "+OK\r\n"),
    ] {
        let server = Server::start().await;
        let mut client = server.connect().await;
        client.send(&[last.as_bytes(), &rest].concat()).await;
        assert_eq!(client.read_to_end().await, reply);
    }
}

#[tokio::test]
async fn a_client_that_goes_on_sending_after_the_last_reply_is_not_listened_to_for_long() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.send(b"QUIT\r\n").await;
    // It neither closes nor stops: sooner or later the server does.
    while client.0.write_all(b"PING\r\n").await.is_ok() {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.info.connected(), 0);
}

#[tokio::test]
async fn a_stopping_server_answers_what_it_read_and_closes() {
    let probe = Probe::new(0, None);
    let server = Server::start_with(probe.clone(), ParserLimits::default()).await;
    let (mut busy, mut idle) = (server.connect().await, server.connect().await);
    idle.expect("PING", "+PONG\r\n").await;
    busy.send(b"SET k v\r\n").await;
    while probe.batches.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    server.shutdown.send_replace(true);
    assert_eq!(idle.read_to_end().await, "");
    probe.permits.add_permits(1);
    assert_eq!(busy.read_to_end().await, "+OK\r\n");
}

#[tokio::test]
async fn a_client_that_leaves_leaves_the_list() {
    let server = Server::start().await;
    let mut stays = server.connect().await;
    stays.expect("PING", "+PONG\r\n").await;
    let mut leaves = server.connect().await;
    leaves.expect("CLIENT ID", ":2\r\n").await;
    assert_eq!(server.info.connected(), 2);
    drop(leaves);
    while server.info.connected() == 2 {
        tokio::task::yield_now().await;
    }
    assert!(!stays.ask("CLIENT LIST").await.contains("id=2"));
}

#[tokio::test]
async fn a_failed_request_is_answered_in_its_place_under_its_word() {
    let unknown = RequestError::Unknown { acked: 1, needed: 2, disk: None };
    let server = Server::start_with(Probe::new(100, Some(unknown)), ParserLimits::default()).await;
    let mut client = server.connect().await;
    let no_quorum = "-NOQUORUM 1 of 2 replicas acknowledged in time; the write may still apply\r\n";
    client
        .expect(
            "SET a 1\r\nPING\r\nMSET a 1 b 2\r\nHINCRBY h f 1\r\nMG.PUT k v",
            &format!("{no_quorum}+PONG\r\n{no_quorum}{no_quorum}{no_quorum}"),
        )
        .await;
    client
        .expect(
            "MULTI\r\nSET a 1\r\nPING\r\nEXEC",
            &format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n{no_quorum}+PONG\r\n"),
        )
        .await;
    client.expect_start("SCAN 0", "-UNAVAILABLE some partitions cannot be reached now").await;
}

#[tokio::test]
async fn a_read_that_too_few_replicas_answered_is_refused_where_the_connection_is_strict() {
    let server = Server::start_with(Probe::new(1_000, None), ParserLimits::default()).await;
    let mut client = server.connect().await;
    let few =
        "-UNAVAILABLE 1 of 2 replicas answered, which is too few under MG.QUORUM … STRICT\r\n";
    client.expect("SET few v\r\nGET few\r\nEXISTS few all", "+OK\r\n$1\r\nv\r\n:1\r\n").await;
    client.expect("MG.QUORUM 0 0 SOMETIMES", "-ERR syntax error\r\n").await;
    let reads = ["GET few", "MGET all few", "TTL few", "GETEX few PERSIST", "MG.GET few WITHDOTS"];
    let reads = reads.map(|read| format!("{read}\r\n")).concat() + "SSCAN few 0";
    client
        .expect(
            &format!("MG.QUORUM 0 0 strict\r\nSET few w\r\nGET all\r\n{reads}"),
            &format!("+OK\r\n+OK\r\n$-1\r\n{}", few.repeat(6)),
        )
        .await;
    client.expect("MG.QUORUM 0 0\r\nGET few", "+OK\r\n$1\r\nw\r\n").await;
    client.expect("MG.QUORUM 0 0 STRICT\r\nRESET\r\nGET few", "+OK\r\n+RESET\r\n$1\r\nw\r\n").await;
}

#[tokio::test]
async fn a_write_of_several_keys_that_is_done_in_part_says_so() {
    let probe = Probe::failing_at(BTreeMap::from([
        ("lost", RequestError::Disconnected("reset".into())),
        ("stop", RequestError::Stopping),
    ]));
    let server = Server::start_with(probe, ParserLimits::default()).await;
    let mut client = server.connect().await;
    let loading = "LOADING node is stopping: use another one\r\n";
    let lost = "NOQUORUM connection lost: reset; the write may still apply\r\n";
    let partly = |count, failed, first| {
        format!(
            "-NOQUORUM 1 of {count} keys done, {} may still be, {failed} not; first error: {first}",
            count - failed - 1
        )
    };
    client.expect("MSET stop 1 a 1", &partly(2, 1, loading)).await;
    client.expect("GET a", "$1\r\n1\r\n").await;
    client.expect("MSET lost 1 stop 2 a 3", &partly(3, 1, lost)).await;
    client.expect("MSET stop 1 lost 2 a 3", &partly(3, 1, loading)).await;
    client.expect("DEL none stop stop", &partly(3, 2, loading)).await;
    client.expect("UNLINK a lost", &partly(2, 0, lost)).await;
    client
        .expect(
            "MULTI\r\nMSET stop 1 a 1\r\nEXEC",
            &format!("+OK\r\n+QUEUED\r\n*1\r\n{}", partly(2, 1, loading)),
        )
        .await;
    // None is done: the client may send it elsewhere.
    client
        .expect(
            "MSET stop 1 stop 2\r\nMSET stop 1\r\nMGET a stop",
            &format!("-{loading}").repeat(3),
        )
        .await;
    client
        .expect(
            "DEL stop lost",
            &format!("-NOQUORUM 0 of 2 keys done, 1 may still be, 1 not; first error: {loading}"),
        )
        .await;
}

#[tokio::test]
async fn a_write_of_several_keys_of_which_one_is_too_long_is_refused_before_any_is_done() {
    let server = Server::start_as(Arc::new(MemoryDatastore::new()), |info| {
        info.with_value_limits(Limits { value_bytes: 1_000, ..Limits::default() })
    })
    .await;
    let mut client = server.connect().await;
    let refused = "-ERR value of 1001 bytes, at most 1000 are allowed\r\n";
    client.expect(&format!("MSET a 1 b {}", "x".repeat(1_001)), refused).await;
    client.expect("EXISTS a b", ":0\r\n").await;
    let long_key = "k".repeat(65_000);
    client
        .send(
            format!(
                "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$65537\r\n{long_key}{}\r\n$1\r\n1\r\n",
                "k".repeat(537)
            )
            .as_bytes(),
        )
        .await;
    client.expect("EXISTS a", "-ERR key of 65537 bytes, at most 65536 are allowed\r\n:0\r\n").await;
    // What every node refuses is so without being told a limit.
    let server = Server::start().await;
    let mut client = server.connect().await;
    let long = "x".repeat(9 << 20);
    client
        .send(
            format!(
                "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\nb\r\n${}\r\n{long}\r\n",
                long.len()
            )
            .as_bytes(),
        )
        .await;
    client
        .expect("EXISTS a", "-ERR value of 9437184 bytes, at most 8388608 are allowed\r\n:0\r\n")
        .await;
}

#[tokio::test]
async fn a_key_of_two_types_is_read_by_each_and_its_type_is_a_conflict() {
    let server = Server::start_with(Probe::new(100, None), ParserLimits::default()).await;
    let mut client = server.connect().await;
    client.expect("SET a v\r\nSADD b x", "+OK\r\n:1\r\n").await;
    client
        .expect(
            "TYPE both",
            "-TYPECONFLICT key holds string and set; read each with its own commands, \
             MG.EXPLAIN shows all\r\n",
        )
        .await;
    client.expect("GET both", "$1\r\nv\r\n").await;
    client.expect("SMEMBERS both", "*1\r\n$1\r\nx\r\n").await;
    client.expect_start("HGETALL both", "-WRONGTYPE ").await;
    client.expect("EXISTS both", ":1\r\n").await;
}

#[tokio::test]
async fn commands_that_name_too_many_keys_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let command = |count: usize| {
        let mut bytes = format!("*{}\r\n$6\r\nEXISTS\r\n", count + 1).into_bytes();
        bytes.extend(b"$1\r\nk\r\n".repeat(count));
        bytes
    };
    client.send(&command(65_536)).await;
    client.expect("", ":0\r\n").await;
    client.send(&command(65_537)).await;
    client.expect("", "-ERR 65537 keys in one command, at most 65536 are allowed\r\n").await;
    let long_key = "k".repeat(65_537);
    client.send(format!("*2\r\n$3\r\nGET\r\n$65537\r\n{long_key}\r\n").as_bytes()).await;
    client.expect("", "-ERR key of 65537 bytes, at most 65536 are allowed\r\n").await;
}

#[tokio::test]
async fn a_client_that_does_not_receive_is_not_read_from_either() {
    let probe = Probe::new(1_000_000, None);
    let server = Server::start_with(probe.clone(), ParserLimits::default()).await;
    let mut client = server.connect().await;
    let value = "x".repeat(1 << 20);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n{value}\r\n").as_bytes()).await;
    // 100 GB of replies are asked for. Once the sockets are full the server stops reading, so the
    // sender cannot go on: this write never completes.
    let (stop, mut stopped) = watch::channel(());
    let (mut receiver, mut sender) = client.0.into_split();
    let writing = tokio::spawn(async move {
        let commands = b"GET k\r\n".repeat(100_000);
        tokio::select! {
            _ = sender.write_all(&commands) => true,
            _ = stopped.changed() => false,
        }
    });
    let first = {
        let mut reply = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut receiver, &mut reply).await.unwrap();
        reply
    };
    assert_eq!(&first, b"+OK\r\n");
    // Each round ends only when its replies are with the sockets, which hold a few of them.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    let batches = probe.batches.load(Ordering::Relaxed);
    assert!(batches < 20, "{batches} rounds executed for a client that does not receive");
    stop.send_replace(());
    writing.await.unwrap();
}

#[tokio::test]
async fn a_connection_with_an_unfinished_command_is_closed_and_an_idle_one_is_not() {
    let server = Server::start_impatient().await;
    let mut idle = server.connect().await;
    idle.expect("PING", "+PONG\r\n").await;
    let mut unfinished = server.connect().await;
    unfinished.send(b"PING\r\n*2\r\n$4\r\nECHO\r\n$9\r\nhal").await;
    assert_eq!(unfinished.read_to_end().await, "+PONG\r\n");
    let mut inline = server.connect().await;
    inline.send(b"PI").await;
    assert_eq!(inline.read_to_end().await, "");
    // Idle for longer than both.
    idle.expect("PING", "+PONG\r\n").await;
    assert_eq!(server.info.connected(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_receive_its_replies_is_closed() {
    let server = Server::start_impatient().await;
    let mut client = server.connect().await;
    let value = "x".repeat(1 << 20);
    client.send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1048576\r\n{value}\r\n").as_bytes()).await;
    client.expect("", "+OK\r\n").await;
    client.send("GET k\r\n".repeat(100).as_bytes()).await;
    while server.info.connected() == 1 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lost_connection_leaves_the_outcome_of_writes_unknown_and_not_that_of_reads() {
    let lost = RequestError::Disconnected("reset".into());
    let server = Server::start_with(Probe::new(100, Some(lost)), ParserLimits::default()).await;
    let mut client = server.connect().await;
    let write = "-NOQUORUM connection lost: reset; the write may still apply\r\n";
    let read = "-UNAVAILABLE connection lost: reset; try again\r\n";
    client
        .expect(
            "SET a 1\r\nGET a\r\nDEL a b\r\nMGET a b\r\nHINCRBY h f 1",
            &[write, read, write, read, write].concat(),
        )
        .await;
}
