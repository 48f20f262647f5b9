use clock::ClusterSecret;
use replication::{BucketPolicy, CoreConfig, Request};
use ring::Ring;
use storage::EngineConfig;
use tokio::sync::oneshot;
use values::{Key, Limits, Scope};

use super::*;
use crate::allowance::Allowance;
use crate::checkpoint_thread;
use crate::config::Settings;
use crate::data_directory::DataDirectory;
use crate::links::HeaderBase;
use crate::log_thread;
use crate::recovery::recover;
use crate::routing::{LoopHandle, LoopOwners};
use crate::work::Results;

/// The only loop of a node that is alone, on an empty disk.
fn running(dir: &std::path::Path) -> (Running, LoopHandle) {
    let settings = Settings { data: Some(dir.to_owned()), loops: Some(1), ..Settings::default() };
    let config = settings.resolve().unwrap();
    let directory = DataDirectory::open(&config).unwrap();
    let (work_sender, work) = mpsc::channel(8);
    let (urgent_sender, urgent) = mpsc::unbounded_channel();
    let jobs = mpsc::unbounded_channel().0;
    let handle = LoopHandle { work: work_sender, urgent: urgent_sender, jobs };
    let owners = LoopOwners::new(config.partitions, 1);
    let (node, partitions) = (config.node(), config.partitions);
    let engine_config = |_| EngineConfig {
        node,
        process: 1,
        shards: owners.set(0),
        limits: Limits::default(),
        pending_bytes_max: 1 << 20,
    };
    let mut engines = recover(directory, owners, engine_config).unwrap().engines;
    let core_config = CoreConfig {
        node,
        core: 0,
        incarnation: 1,
        names: std::collections::BTreeMap::new(),
        secret: ClusterSecret::new("the secret of this test"),
        default_policy: BucketPolicy::default(),
        policies: std::collections::BTreeMap::new(),
        timeout_ms: 30_000,
        cover_ms: 30_000,
        limits: Limits::default(),
        requests_max: 100,
        deliveries_max: 1,
    };
    let clock = NodeClock::start();
    let header = HeaderBase { sender: node, incarnation: 1, ring_version: 1 };
    let ring = Ring::place(&[node.into()], partitions, 1, None).unwrap().ring;
    let task = CoreTask {
        loop_index: 0,
        clock,
        core: Core::new(core_config, ring),
        engine: engines.remove(0).0,
        outgoing: Outgoing::new(header, &[]),
        links: Vec::new(),
        routes: Routes::new(vec![handle.clone()], owners),
        log: log_thread::queue().0,
        index: checkpoint_thread::queue().0,
        checkpoint_bytes: 1 << 20,
        log_damage: 0,
        work,
        urgent,
        wait_max_ms: 30_000,
        stop_limit: Duration::from_secs(5),
    };
    (Running::new(task), handle)
}

fn reads(count: usize, queued_ms: u64) -> (Work, oneshot::Receiver<Results>) {
    let get = Request::get(Key::new("default", "k").unwrap(), Scope::Whole);
    let (reply, results) = oneshot::channel();
    let allowance = Allowance::new(1 << 20);
    (Work::Group(CallGroup { requests: vec![get; count], reply, allowance, queued_ms }), results)
}

#[test]
fn a_turn_whose_time_is_up_leaves_the_rest_to_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, _handle) = running(dir.path());
    let (group, mut results) = reads(3, 0);
    let mut work = vec![group];
    let mut left = Vec::new();
    for _ in 0..3 {
        running.turn(&mut work, &mut Vec::new(), Duration::ZERO);
        left.push((running.feeds.len(), running.is_pressed));
    }
    assert_eq!(left, [(1, true), (1, true), (0, false)]);
    let results = results.try_recv().unwrap();
    assert!(results.len() == 3 && results.iter().all(Result::is_ok), "{results:?}");
}

#[test]
fn a_turn_in_time_does_all_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, _handle) = running(dir.path());
    let (group, mut results) = reads(1_000, 0);
    running.turn(&mut vec![group], &mut Vec::new(), Duration::from_secs(3_600));
    assert!(!running.is_pressed);
    assert_eq!(results.try_recv().unwrap().len(), 1_000);
}
