use clock::ClusterSecret;
use replication::{Body, BucketPolicy, CoreConfig, Request, RequestError};
use ring::{Ownership, Ring, Sequence};
use storage::EngineConfig;
use tokio::sync::oneshot;
use values::{Key, Limits, Scope};

use super::intake::still_useful;
use super::*;
use crate::allowance::Allowance;
use crate::checkpoint_thread;
use crate::config::Settings;
use crate::data_directory::DataDirectory;
use crate::log_thread;
use crate::outgoing::HeaderBase;
use crate::recovery::recover;
use crate::routing::{LoopHandle, LoopOwners};
use crate::work::{CallGroup, Results};

/// The only loop of a node that is alone, on an empty disk.
fn running(dir: &std::path::Path) -> (Running, LoopHandle) {
    let settings = Settings { data: Some(dir.to_owned()), loops: Some(1), ..Settings::default() };
    let config = settings.resolve().unwrap();
    let partitions = config.partitions;
    let ring = Ring::place(&[config.node().into()], partitions, 1, None).unwrap().ring;
    let directory = DataDirectory::open(&config).unwrap();
    let (work_sender, work) = mpsc::channel(8);
    let (urgent_sender, urgent) = mpsc::unbounded_channel();
    let jobs = mpsc::unbounded_channel().0;
    let handle = LoopHandle { work: work_sender, urgent: urgent_sender, jobs };
    let owners = LoopOwners::new(config.partitions, 1);
    let node = config.node();
    let engine_config = |_| EngineConfig {
        node,
        process: 1,
        shards: owners.set(0),
        pending_bytes_max: 1 << 20,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let mut engines = recover(directory, owners, engine_config).unwrap().engines;
    let core_config = CoreConfig {
        node,
        core: 0,
        shards: owners.set(0),
        anti_entropy: replication::AntiEntropyConfig::OFF,
        incarnation: 1,
        names: BTreeMap::new(),
        secret: ClusterSecret::new("the secret of this test"),
        default_policy: BucketPolicy::default(),
        policies: replication::PolicyTable::default(),
        commits: replication::KeptCommits::default(),
        timeout_ms: 30_000,
        cover_ms: 30_000,
        limits: Limits::default(),
        requests_max: 100,
        deliveries_max: 1,
    };
    let clock = NodeClock::start();
    let incarnation = membership::Incarnation { generation: 1, nonce: 1 };
    let header = HeaderBase { sender: node, incarnation };
    let ownership = Arc::new(Ownership::new(ring));
    let task = CoreTask {
        loop_index: 0,
        clock,
        ownership: Arc::new(watch::Sender::new(Arc::clone(&ownership))),
        core: Core::new(core_config, ownership),
        engine: engines.remove(0).0,
        outgoing: Outgoing::new(header),
        links: Arc::default(),
        names: Arc::default(),
        routes: Routes::new(vec![handle.clone()], owners),
        log: log_thread::queue().0,
        index: checkpoint_thread::queue().0,
        checkpoint_bytes: 1 << 20,
        notices: mpsc::channel(1).0,
        health: Arc::new(Health::new(1)),
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

#[test]
fn what_waited_longer_than_its_own_time_limit_is_answered_overloaded_and_not_begun() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, _handle) = running(dir.path());
    running.now.monotonic_ms = 1_000;
    let with_limit = |timeout_ms| {
        let mut request = Request::get(Key::new("default", "k").unwrap(), Scope::Whole);
        request.timeout_ms = timeout_ms;
        request
    };
    let charged = |timeout_ms, queued_ms| {
        let mut request = with_limit(timeout_ms);
        (running.charge_wait(&mut request, queued_ms), request.timeout_ms)
    };
    assert_eq!(charged(Some(50), 940), (Some(RequestError::Overloaded), Some(0)));
    assert_eq!(charged(Some(50), 960), (None, Some(10)));
    assert_eq!(charged(None, 960), (None, Some(29_960)));
    assert_eq!(charged(None, 1_000), (None, None));
    assert_eq!(charged(Some(0), 900), (None, Some(0)));
}

#[test]
fn a_message_that_waited_has_less_time_left_and_one_whose_time_is_over_is_not_begun() {
    let body = Body::Read { key: Key::new("b", "k").unwrap(), scope: Scope::Whole };
    let id = replication::RequestId { core: 0, number: 1 };
    let left = |budget_ms, useful_ms| {
        let message = Message {
            id,
            trace: 0,
            sequence: Sequence(0),
            time: clock::Stamp(0),
            budget_ms,
            body: body.clone(),
        };
        still_useful(message, useful_ms, 1_000).map(|message| message.budget_ms)
    };
    assert_eq!(left(100, 1_060), Some(60));
    assert_eq!(left(100, 1_001), Some(1));
    assert_eq!(left(100, 1_000), None);
    assert_eq!(left(100, 999), None);
    assert_eq!(left(0, u64::MAX), Some(0));
}

#[test]
fn membership_is_told_of_members_whose_requests_time_out_unless_too_much_waits() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, _handle) = running(dir.path());
    let (notices, mut told) = mpsc::channel(1);
    running.task.notices = notices;
    running.scratch.effects.extend([NodeId(2), NodeId(3)].map(Effect::TimedOut));
    running.perform();
    assert!(matches!(told.try_recv(), Ok(Notice::TimedOut(NodeId(2)))));
    assert!(told.try_recv().is_err());
}

#[test]
fn a_log_that_failed_takes_the_node_out_of_service() {
    let dir = tempfile::tempdir().unwrap();
    let (mut running, _handle) = running(dir.path());
    let told = running.task.health.subscribe();
    let error = storage::SeamError::Io("it could not be synced".into());
    running.turn(&mut Vec::new(), &mut vec![Urgent::LogFailed { error }], Duration::ZERO);
    let reason = told.borrow().clone();
    assert!(reason.is_some_and(|reason| reason.contains("it could not be synced")));
}
