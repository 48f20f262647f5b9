//! What a crash must not take: every acknowledged update is there afterwards.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::process::{Process, Spec, eventually, settled};

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

#[test]
fn with_one_of_three_nodes_killed_no_write_fails_and_it_catches_up_when_back() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let [first, second, third] = [specs[0].start(), specs[1].start(), specs[2].start()];
    let mut redis = specs[0].redis();
    let set = |redis: &mut redis::Connection, from: u32, to: u32| {
        for number in from..to {
            let () = redis::cmd("SET").arg(format!("k{number}")).arg(number).query(redis).unwrap();
        }
    };
    set(&mut redis, 0, 100);
    third.kill();
    set(&mut redis, 100, 300);
    let third = specs[2].start();
    // With the other two gone, only what the third has itself can be read through it.
    settled(&specs);
    first.kill();
    second.kill();
    let mut redis = specs[2].redis();
    for number in 100..300 {
        let value: Option<u32> =
            redis::cmd("GET").arg(format!("k{number}")).query(&mut redis).unwrap();
        assert_eq!(value, Some(number), "k{number}");
    }
    assert_eq!(third.terminate("-TERM"), Some(0));
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
