//! Nodes that stop in good order and are started again, one after the other, while clients go on.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use client::{Bucket, Client, CounterHandle};
use replication::{RequestError, RequestName};
use serde_json::json;

use super::agreement::{agree, json, rest};
use super::load::{Ends, History, Load};
use super::process::{Process, Spec, eventually, is_long, run};

/// Longest wait for counters to show all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Does what may be done twice. On a busy machine an answer may come too late; nothing else may fail.
async fn surely<T>(ask: impl AsyncFn() -> Result<T, RequestError>) {
    while let Err(error) = ask().await {
        let is_late = matches!(error, RequestError::Unknown { .. } | RequestError::Timeout);
        assert!(is_late, "no request fails: {error}");
    }
}

/// A native client that knows all nodes: sets registers, without names, and counts under names, until told to end.
/// Returns how many of each were done.
fn native(specs: &[Spec], is_over: &AtomicBool, progress: &AtomicU32) -> u32 {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("threads can be started");
    runtime.block_on(async {
        let addresses: Vec<String> =
            specs.iter().map(|spec| format!("127.0.0.1:{}", spec.peer)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let client = Client::connect_to_any(&addresses).await.expect("nodes serve");
        let bucket = Bucket::new(std::sync::Arc::new(client), "default");
        let mut done = 0;
        while !is_over.load(Ordering::Relaxed) {
            let register = bucket.register(format!("native:{done}")).expect("it is a key");
            surely(async || register.set(done.to_string()).await).await;
            let named = bucket.clone().named(RequestName::parse(format!("t:{done}").as_bytes()));
            let counter =
                named.counter(format!("native:count{}", done / 200)).expect("it is a key");
            surely(async || counter.add(1).await).await;
            done += 1;
            progress.fetch_add(1, Ordering::Relaxed);
        }
        let begun = Instant::now();
        loop {
            let mut counted = 0;
            for part in 0..=done / 200 {
                let counter = bucket.counter(format!("native:count{part}")).expect("it is a key");
                let Ok(answer) = counter.get().await else { continue };
                counted += CounterHandle::read(&answer).to_string().parse().unwrap_or(0);
            }
            if counted == done {
                return done;
            }
            assert!(begun.elapsed() < PATIENCE, "{counted} counted of {done}");
        }
    })
}

/// Waits until each client has made some more requests.
fn advance(progress: &[AtomicU32]) {
    for count in progress {
        let from = count.load(Ordering::Relaxed);
        eventually("clients get on", || (count.load(Ordering::Relaxed) >= from + 30).then_some(()));
    }
}

/// Has node `at` drained, by another one, and starts it again.
fn restart(specs: &[Spec], nodes: &mut [Option<Process>], at: usize) {
    let by = &specs[(at + 1) % specs.len()];
    let drained = json(by, &["drain", &specs[at].name]).expect("it is drained");
    assert_eq!(drained, json!({ "member": specs[at].name, "kept": [] }));
    let node = nodes[at].take().expect("it runs");
    assert_eq!(node.ended(), Some(0), "{} ends by itself", specs[at].name);
    nodes[at] = Some(specs[at].start());
    // The next one is not stopped before this one has what it missed.
    rest(specs);
}

#[test]
fn a_rolling_restart_of_all_nodes_under_load_fails_no_request_of_clients_that_know_several() {
    let directory = tempfile::tempdir().unwrap();
    // More nodes than owners, so that requests are passed on.
    let specs = Spec::founders_and_others(directory.path(), 4, 0);
    let mut nodes: Vec<Option<Process>> = specs.iter().map(|spec| Some(spec.start())).collect();
    rest(&specs);
    let is_over = AtomicBool::new(false);
    let progress = [const { AtomicU32::new(0) }; 4];
    let (histories, native) = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let loads: Vec<_> = (0..3)
            .map(|at| {
                let load = Load::new(&format!("load{at}"), &specs, at);
                let (is_over, progress) = (&is_over, &progress[at]);
                scope.spawn(move || load.until(is_over, progress))
            })
            .collect();
        let native = scope.spawn(|| native(&specs, &is_over, &progress[3]));
        for _ in 0..if is_long() { 5 } else { 1 } {
            for at in 0..specs.len() {
                advance(&progress);
                restart(&specs, &mut nodes, at);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        let histories: Vec<History> = loads.into_iter().map(|load| load.join().unwrap()).collect();
        (histories, native.join().unwrap())
    });
    for history in &histories {
        println!(
            "{} done, {} tries elsewhere, the longest took {:?}; {native} pairs by the native client",
            history.done(),
            history.elsewhere,
            history.longest
        );
        assert_eq!(history.failed, Vec::<String>::new());
    }
    agree(&specs, &histories.iter().collect::<Vec<_>>());
}

#[test]
fn a_node_that_drains_refuses_clients_and_says_so_and_keeps_what_is_for_a_node_that_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::founders_and_others(directory.path(), 3, 0);
    let mut nodes: Vec<Process> = specs.iter().map(Spec::start).collect();
    rest(&specs);
    nodes.pop().expect("there are three").kill();
    let mut load = Load::new("load", &specs[..2], 0);
    load.go_on(100);
    let history = load.end();
    assert_eq!(history.failed, Vec::<String>::new());
    // A paused client keeps its connection, and is told to go elsewhere when it goes on.
    let mut redis = specs[0].redis();
    let node = format!("127.0.0.1:{}", specs[0].peer);
    let drained = run(&["--node", &node, "drain"]);
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    let said = String::from_utf8_lossy(&drained.stdout).into_owned();
    assert!(said.starts_with("n1 is drained, and stops; start it again"), "{said}");
    assert!(said.contains("keys for n3 until both are back"), "{said}");
    let _: redis::RedisResult<()> = redis::cmd("SET").arg("k").arg(1).query(&mut redis);
    assert_eq!(nodes.remove(0).ended(), Some(0));
    let _first = specs[0].start();
    let _third = specs[2].start();
    agree(&specs, &[&history]);
}
