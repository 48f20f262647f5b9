//! What a crash must not take: every acknowledged update is there afterwards.

use std::sync::atomic::{AtomicBool, Ordering};

use super::process::{Spec, eventually, settled};

/// Writes until told to stop or cut off; returns how many writes were acknowledged, in order.
fn write_until(spec: &Spec, writer: usize, stop: &AtomicBool) -> u64 {
    let mut redis = spec.redis();
    let mut acknowledged = 0;
    while !stop.load(Ordering::Relaxed) {
        let next = acknowledged + 1;
        let mut pipe = redis::pipe();
        pipe.cmd("SET").arg(format!("w{writer}:{next}")).arg(next).ignore();
        pipe.cmd("INCR").arg(format!("count:{writer}")).ignore();
        pipe.cmd("SADD").arg(format!("set:{writer}")).arg(next).ignore();
        if pipe.query::<()>(&mut redis).is_err() {
            break;
        }
        acknowledged = next;
    }
    acknowledged
}

fn assert_all_there(spec: &Spec, writer: usize, acknowledged: u64) {
    let mut redis = spec.redis();
    for number in 1..=acknowledged {
        let value: Option<u64> = redis::cmd("GET")
            .arg(format!("w{writer}:{number}"))
            .query(&mut redis)
            .expect("it answers");
        assert_eq!(value, Some(number), "w{writer}:{number} of {acknowledged}");
    }
    let count: u64 =
        redis::cmd("GET").arg(format!("count:{writer}")).query(&mut redis).unwrap_or(0);
    // The pipeline that the crash cut off may or may not have counted.
    assert!(
        (acknowledged..=acknowledged + 1).contains(&count),
        "{count} counted, {acknowledged} acknowledged"
    );
    let members: u64 =
        redis::cmd("SCARD").arg(format!("set:{writer}")).query(&mut redis).expect("it answers");
    assert!((acknowledged..=acknowledged + 1).contains(&members));
}

#[test]
fn a_node_killed_with_9_during_writes_serves_every_acknowledged_update_again() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let mut acknowledged = [0; 4];
    for round in 1..=3_u64 {
        let node = spec.start();
        let stop = AtomicBool::new(false);
        let before = acknowledged;
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|w| {
                    scope.spawn({
                        let (spec, stop) = (&spec, &stop);
                        move || write_until(spec, w + 10 * round as usize, stop)
                    })
                })
                .collect();
            // Once every writer has got somewhere, in the middle of whatever they do then.
            let mut probe = spec.redis();
            for writer in 0..4 {
                eventually("writers get somewhere", || {
                    let key = format!("count:{}", writer + 10 * round as usize);
                    let count: Option<u64> = redis::cmd("GET").arg(key).query(&mut probe).unwrap();
                    count.filter(|&count| count >= 20)
                });
            }
            node.kill();
            stop.store(true, Ordering::Relaxed);
            for (writer, handle) in writers.into_iter().enumerate() {
                acknowledged[writer] = handle.join().unwrap();
            }
        });
        assert_ne!(acknowledged, before);
        let node = spec.start();
        for (writer, &acknowledged) in acknowledged.iter().enumerate() {
            assert!(acknowledged >= 19);
            assert_all_there(&spec, writer + 10 * round as usize, acknowledged);
        }
        node.kill();
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
