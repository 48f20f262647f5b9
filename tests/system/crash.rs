//! What a crash must not take: every acknowledged update is there afterwards.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use super::agreement::agree;
use super::faces::http;
use super::load::{Ends, History, Load, further};
use super::process::{HASTY, Process, Spec, eventually, settled};

/// What one writer was told of its writes.
#[derive(Debug)]
pub(super) struct Written {
    writer: usize,
    acknowledged: Vec<u64>,
    /// How many more may have been done: those that a crash cut off.
    unknown: u64,
}

/// Writes until told to stop, through a node that may crash and come back; `progress` counts what
/// is acknowledged.
pub(super) fn write_until(
    spec: &Spec,
    writer: usize,
    progress: &AtomicU64,
    stop: &AtomicBool,
) -> Written {
    let mut written = Written { writer, acknowledged: Vec::new(), unknown: 0 };
    let mut connection = None;
    let mut next = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        let Some(redis) = &mut connection else {
            connection = spec.try_redis();
            std::thread::yield_now();
            continue;
        };
        next += 1;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(format!("w{writer}:{next}")).arg(next).ignore();
        pipe.cmd("INCR").arg(format!("count:{writer}")).ignore();
        pipe.cmd("SADD").arg(format!("set:{writer}")).arg(next).ignore();
        match pipe.query::<()>(redis) {
            Ok(()) => {
                written.acknowledged.push(next);
                progress.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                written.unknown += 1;
                connection = None;
            }
        }
    }
    written
}

pub(super) fn assert_all_there(spec: &Spec, written: &Written) {
    let Written { writer, acknowledged, unknown } = written;
    let mut redis = spec.redis();
    for numbers in acknowledged.chunks(100) {
        let keys: Vec<String> = numbers.iter().map(|at| format!("w{writer}:{at}")).collect();
        let values: Vec<Option<u64>> =
            redis::cmd("MGET").arg(&keys).query(&mut redis).expect("it answers");
        let expected: Vec<Option<u64>> = numbers.iter().copied().map(Some).collect();
        assert_eq!(values, expected, "{keys:?}");
    }
    // What a crash cut off may or may not have been done.
    let done = acknowledged.len() as u64;
    let possible = done..=done + unknown;
    let count: u64 =
        redis::cmd("GET").arg(format!("count:{writer}")).query(&mut redis).expect("it answers");
    assert!(possible.contains(&count), "{count} counted, {done} acknowledged, {unknown} unknown");
    let members: Vec<u64> =
        redis::cmd("SMEMBERS").arg(format!("set:{writer}")).query(&mut redis).expect("it answers");
    assert!(possible.contains(&(members.len() as u64)), "{} of {possible:?}", members.len());
    let lost: Vec<_> = acknowledged.iter().filter(|number| !members.contains(number)).collect();
    assert!(lost.is_empty(), "set:{writer} lost {lost:?}");
}

/// Waits until each of these writers has made so many more writes.
pub(super) fn advance(progress: &[&AtomicU64], by: u64) {
    for writer in progress {
        let from = writer.load(Ordering::Relaxed);
        eventually("writers get on", || {
            (writer.load(Ordering::Relaxed) >= from + by).then_some(())
        });
    }
}

#[test]
fn a_node_killed_with_9_during_writes_serves_every_acknowledged_update_again() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let mut all = Vec::new();
    for round in 1..=3 {
        let node = spec.start();
        let stop = AtomicBool::new(false);
        let progress: [AtomicU64; 4] = Default::default();
        std::thread::scope(|scope| {
            let writers: Vec<_> = progress
                .iter()
                .enumerate()
                .map(|(at, progress)| {
                    let (spec, stop) = (&spec, &stop);
                    scope.spawn(move || write_until(spec, at + 10 * round, progress, stop))
                })
                .collect();
            // Once every writer has got somewhere, in the middle of whatever they do then.
            advance(&progress.each_ref(), 20);
            node.kill();
            stop.store(true, Ordering::Relaxed);
            all.extend(writers.into_iter().map(|writer| writer.join().unwrap()));
        });
        // What earlier rounds wrote, too: a log is read again and again.
        let node = spec.start();
        for written in &all {
            assert!(written.acknowledged.len() >= 20);
            assert_all_there(&spec, written);
        }
        node.kill();
    }
}

#[test]
fn three_nodes_killed_with_9_in_turn_and_together_lose_no_acknowledged_update() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let mut nodes: Vec<Option<Process>> = specs.iter().map(|spec| Some(spec.start())).collect();
    let stop = AtomicBool::new(false);
    let progress: [AtomicU64; 3] = Default::default();
    let kill = |node: &mut Option<Process>| node.take().expect("it runs").kill();
    let all: Vec<Written> = std::thread::scope(|scope| {
        let writers: Vec<_> = specs
            .iter()
            .zip(&progress)
            .enumerate()
            .map(|(at, (spec, progress))| {
                let stop = &stop;
                scope.spawn(move || write_until(spec, at, progress, stop))
            })
            .collect();
        for victim in 0..specs.len() {
            advance(&progress.each_ref(), 20);
            kill(&mut nodes[victim]);
            let others = (0..specs.len()).filter(|&at| at != victim);
            advance(&others.map(|at| &progress[at]).collect::<Vec<_>>(), 20);
            nodes[victim] = Some(specs[victim].start());
        }
        advance(&progress.each_ref(), 20);
        nodes.iter_mut().for_each(kill);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    for (node, spec) in nodes.iter_mut().zip(&specs) {
        *node = Some(spec.start());
    }
    settled(&specs);
    for written in &all {
        assert!(written.acknowledged.len() >= 100 - 20);
        for spec in &specs {
            assert_all_there(spec, written);
        }
    }
}

/// Three founders that give a silent one up soon.
fn hasty(directory: &Path) -> Vec<Spec> {
    let mut specs = Spec::founders_and_others(directory, 3, 0);
    specs.iter_mut().for_each(|spec| spec.settings += HASTY);
    specs
}

/// Has clients of the nodes `specs`, each of one alone, go on while `meanwhile` has things happen, which is given
/// what waits until each of them has made so many requests more. What they were told.
fn under_load(specs: &[Spec], name: &str, meanwhile: impl FnOnce(&dyn Fn(u32))) -> Vec<History> {
    let is_over = AtomicBool::new(false);
    let progress = [const { AtomicU32::new(0) }; 4];
    std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let clients: Vec<_> = progress
            .iter()
            .enumerate()
            .map(|(at, progress)| {
                let node = &specs[at % specs.len()..][..1];
                let (load, is_over) = (Load::new(&format!("{name}{at}"), node, 0), &is_over);
                scope.spawn(move || load.until(is_over, progress))
            })
            .collect();
        meanwhile(&|count| progress.iter().for_each(|progress| further(progress, count)));
        is_over.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("a client ends")).collect()
    })
}

fn assert_no_request_failed(histories: &[History]) {
    for history in histories {
        assert_eq!((&history.failed, history.elsewhere), (&Vec::new(), 0));
    }
}

#[test]
fn with_one_of_three_nodes_killed_under_load_no_request_fails_and_it_has_all_when_it_is_back() {
    let directory = tempfile::tempdir().unwrap();
    let specs = hasty(directory.path());
    let [first, second, mut third] = [0, 1, 2].map(|at| Some(specs[at].start()));
    let histories = under_load(&specs[..2], "c", |further| {
        further(60);
        third.take().expect("it runs").kill();
        further(100);
        third = Some(specs[2].start());
        further(60);
    });
    assert_no_request_failed(&histories);
    agree(&specs, &histories.iter().collect::<Vec<_>>());
    // With the other two gone, only what the third has itself can be read through it.
    [first, second].into_iter().flatten().for_each(Process::kill);
    for history in &histories {
        assert_eq!(history.fault_shown_by(&specs[2]), None);
    }
    assert_eq!(third.expect("it runs").terminate("-TERM"), Some(0));
}

#[test]
fn with_two_of_three_killed_under_load_the_third_serves_and_says_how_many_copies_there_are() {
    let directory = tempfile::tempdir().unwrap();
    let specs = hasty(directory.path());
    let _survivor = specs[0].start();
    let mut others = [1, 2].map(|at| Some(specs[at].start()));
    let mut histories = under_load(&specs[..1], "c", |further| {
        further(60);
        others.iter_mut().for_each(|node| node.take().expect("it runs").kill());
        further(100);
    });
    // All that clients were told, by the one that is left.
    for history in &histories {
        assert_eq!(history.fault_shown_by(&specs[0]), None);
    }
    let path = "/v1/buckets/default/keys/alone";
    let written = http(specs[0].http, "PUT", path, "quack");
    assert!(written.starts_with("HTTP/1.1 202"), "{written}");
    assert!(written.contains("merganser-acks: acked=1;needed=2;hinted=2;owners=3"), "{written}");
    let read = http(specs[0].http, "GET", path, "");
    assert!(read.starts_with("HTTP/1.1 200") && read.contains("quack"), "{read}");
    assert!(read.contains("merganser-acks: acked=1;needed=2;hinted=0;owners=3"), "{read}");
    histories.extend(under_load(&specs[..1], "d", |further| {
        for (node, spec) in others.iter_mut().zip(&specs[1..]) {
            *node = Some(spec.start());
            further(40);
        }
    }));
    assert_no_request_failed(&histories);
    agree(&specs, &histories.iter().collect::<Vec<_>>());
    for spec in &specs {
        let read = http(spec.http, "GET", &format!("{path}?r=3"), "");
        assert!(read.contains("quack") && read.contains("acked=3;needed=3"), "{read}");
    }
}

#[test]
fn a_node_asked_to_stop_finishes_and_ends_with_code_0() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    for signal in ["-TERM", "-INT"] {
        let node = spec.start();
        let mut redis = spec.redis();
        let _: u64 = redis::cmd("INCR").arg("starts").query(&mut redis).unwrap();
        assert_eq!(node.terminate(signal), Some(0), "{signal}");
    }
    let _node = spec.start();
    let starts: u64 = redis::cmd("GET").arg("starts").query(&mut spec.redis()).unwrap();
    assert_eq!(starts, 2);
}
