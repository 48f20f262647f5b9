//! What one connection may hold in memory, whatever it asks for and however slowly it receives.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use client::{Datastore, MemoryDatastore};
use gateway_resp::ParserLimits;
use replication::{
    Answer, BucketCall, BucketReply, ConflictList, ConflictsRequest, Explanation, Request,
    RequestError, ScanPage, ScanRequest,
};
use tokio::io::AsyncReadExt;
use values::{Key, State, Tag};
use wire::ClusterStatus;

use crate::support::{Client, Server};

/// Bytes of the value that is asked for again and again.
const VALUE_BYTES: usize = 1 << 20;
/// Bytes of answers that a connection may hold at once: a guess, eight of the longest values.
const HELD_BYTES_MAX: usize = 64 << 20;

/// How many bytes of answers are held now, and at most were.
#[derive(Debug, Default)]
struct Held {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// A value as a node answers it: every answer has a copy of its own.
struct Copy {
    value: Bytes,
    held: Arc<Held>,
}

impl Copy {
    fn of(value: &Bytes, held: &Arc<Held>) -> Bytes {
        let now = held.now.fetch_add(value.len(), Ordering::SeqCst) + value.len();
        held.most.fetch_max(now, Ordering::SeqCst);
        Bytes::from_owner(Self { value: value.clone(), held: Arc::clone(held) })
    }
}

impl AsRef<[u8]> for Copy {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        self.held.now.fetch_sub(self.value.len(), Ordering::SeqCst);
    }
}

/// A datastore in memory whose registers are answered as copies.
struct Copying {
    memory: MemoryDatastore,
    held: Arc<Held>,
}

#[async_trait]
impl Datastore for Copying {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        let mut results = self.memory.execute(requests).await;
        for answer in results.iter_mut().flatten() {
            if let Some(State::Register(register)) = answer.view.value.0.get_mut(&Tag::LWW)
                && let Some(base) = &mut register.base
                && let Some(value) = &mut base.value
            {
                *value = Copy::of(value, &self.held);
            }
        }
        results
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        self.memory.scan(request).await
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

/// The most bytes of answers held while `commands` are asked and nothing is received, after
/// `before` was asked and received.
async fn most_held(before: &str, commands: &str) -> usize {
    let held = Arc::new(Held::default());
    let datastore = Copying { memory: MemoryDatastore::new(), held: Arc::clone(&held) };
    let server = Server::start_with(Arc::new(datastore), ParserLimits::default()).await;
    let mut client: Client = server.connect().await;
    let value = "x".repeat(VALUE_BYTES);
    client
        .send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE_BYTES}\r\n{value}\r\n").as_bytes())
        .await;
    client.expect("", "+OK\r\n").await;
    client.ask(before).await;
    held.most.store(0, Ordering::SeqCst);
    client.send(commands.as_bytes()).await;
    while held.most.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    held.most.load(Ordering::SeqCst)
}

#[tokio::test]
async fn a_pipeline_of_large_values_is_not_held_whole_after_rounds_of_small_ones() {
    // Small replies let rounds grow to a thousand commands.
    let most = most_held(&vec!["PING"; 5_000].join("\r\n"), &"GET k\r\n".repeat(600)).await;
    assert!(most <= HELD_BYTES_MAX, "{} MiB of answers held for one connection", most >> 20);
}

#[tokio::test]
async fn a_transaction_of_large_values_is_not_held_whole() {
    let commands = format!("MULTI\r\n{}EXEC\r\n", "GET k\r\n".repeat(600));
    let most = most_held("", &commands).await;
    assert!(most <= HELD_BYTES_MAX, "{} MiB of answers held for one connection", most >> 20);
}

#[tokio::test]
async fn many_large_values_in_one_command_are_refused_or_not_held_whole() {
    let most = most_held("", &format!("MGET{}\r\n", " k".repeat(600))).await;
    assert!(most <= HELD_BYTES_MAX, "{} MiB of answers held for one connection", most >> 20);
}

#[tokio::test]
async fn a_pipeline_of_writes_that_answer_what_they_found_is_not_held_whole() {
    let most = most_held("", &"EXPIRE k 1000\r\n".repeat(600)).await;
    assert!(most <= HELD_BYTES_MAX, "{} MiB of answers held for one connection", most >> 20);
}

/// Bytes of this process in memory.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

#[tokio::test]
async fn a_transaction_does_not_hold_the_replies_of_commands_that_are_not_executed_yet() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let before = resident_bytes();
    // 540 kB of commands, the replies to which are some GiB.
    client.send(format!("MULTI\r\n{}", "COMMAND\r\n".repeat(60_000)).as_bytes()).await;
    let mut replies = vec![0; "+OK\r\n".len() + 60_000 * "+QUEUED\r\n".len()];
    client.0.read_exact(&mut replies).await.unwrap();
    let grown = resident_bytes().saturating_sub(before);
    // Other tests of this program run beside it, and take some hundred MiB.
    assert!(grown < 1 << 30, "{} MiB for 60,000 queued commands", grown >> 20);
}

#[tokio::test]
async fn small_answers_do_not_let_a_connection_hold_more_than_a_slice_of_large_ones() {
    let small = vec!["GET none"; 5_000].join("\r\n");
    let most = most_held(&small, &"GET k\r\n".repeat(600)).await;
    assert!(most <= HELD_BYTES_MAX, "{} MiB of answers held for one connection", most >> 20);
}

#[tokio::test]
async fn one_reply_of_too_many_large_values_is_refused_and_the_connection_goes_on() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let value = "x".repeat(VALUE_BYTES);
    client
        .send(format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${VALUE_BYTES}\r\n{value}\r\n").as_bytes())
        .await;
    client.expect("", "+OK\r\n").await;
    let mget = |count: usize| format!("MGET{}\r\nPING", " k".repeat(count));
    let refused = "-ERR values of more than 32 MiB in one reply; ask for fewer at a time\r\n";
    client.expect(&mget(33), &format!("{refused}+PONG\r\n")).await;
    let bulk = format!("${VALUE_BYTES}\r\n{value}\r\n");
    client.expect(&mget(32), &format!("*32\r\n{}+PONG\r\n", bulk.repeat(32))).await;
    // A transaction has no such bound: its replies are sent as they come.
    let queued = format!("MULTI\r\n{}EXEC", "GET k\r\n".repeat(40));
    let replies = format!("+OK\r\n{}*40\r\n{}", "+QUEUED\r\n".repeat(40), bulk.repeat(40));
    client.expect(&queued, &replies).await;
}

#[tokio::test]
async fn a_transaction_is_bounded_by_what_its_plan_takes() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    // A million arguments of one byte are 65 MB of plan.
    let many =
        format!("*{}\r\n$4\r\nSADD\r\n$1\r\ns\r\n{}", 1_000_002, "$1\r\na\r\n".repeat(1_000_000));
    client.send(format!("MULTI\r\nPING\r\n{many}{many}EXEC\r\n").as_bytes()).await;
    let long = "-ERR transaction is too long; send it in several\r\n";
    let abort = "-EXECABORT Transaction discarded because of previous errors.\r\n";
    client.expect("", &format!("+OK\r\n+QUEUED\r\n+QUEUED\r\n{long}{abort}")).await;
}

#[tokio::test]
async fn a_field_named_again_and_again_is_not_answered_beyond_what_one_reply_may_gather() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let value = "x".repeat(VALUE_BYTES);
    let words = "*4\r\n$4\r\nHSET\r\n$1\r\nh\r\n$1\r\nf\r\n";
    client.send(format!("{words}${VALUE_BYTES}\r\n{value}\r\n").as_bytes()).await;
    client.expect("", ":1\r\n").await;
    let hmget = |count: usize| format!("HMGET h{}\r\nPING", " f".repeat(count));
    let refused = "-ERR values of more than 32 MiB in one reply; ask for fewer at a time\r\n";
    client.expect(&hmget(33), &format!("{refused}+PONG\r\n")).await;
    let bulk = format!("${VALUE_BYTES}\r\n{value}\r\n");
    client.expect(&hmget(32), &format!("*32\r\n{}+PONG\r\n", bulk.repeat(32))).await;
}

#[tokio::test]
async fn a_transaction_of_scans_does_not_hold_their_patterns_compiled() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let before = resident_bytes();
    // 45 MB of commands, whose patterns are 1.5 GiB when compiled.
    let scans = vec![format!("SCAN 0 MATCH {}", "?".repeat(1024)); 1_000].join("\r\n");
    client.expect_alone("MULTI", "+OK\r\n").await;
    for _ in 0..45 {
        client.expect_alone(&scans, &"+QUEUED\r\n".repeat(1_000)).await;
    }
    let grown = resident_bytes().saturating_sub(before);
    // Other tests of this program run beside it, and take some hundred MiB.
    assert!(grown < 1 << 30, "{} MiB for 45,000 queued scans", grown >> 20);
}
