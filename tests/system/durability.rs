//! What a kill of a node takes of buckets of each durability: of those that wait for the log nothing, of the others
//! the tail that was on its way there, on that node alone.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use client::{Bucket, Client};

use super::agreement::{agree, json};
use super::load::{Ends, further};
use super::process::{HASTY, Spec, eventually};

const DURABILITIES: [&str; 3] = ["sync", "interval", "none"];

/// A bucket of each durability, named after it.
fn create_buckets(specs: &[Spec]) {
    for name in DURABILITIES {
        let durability = format!("durability={name}");
        json(&specs[0], &["bucket", "create", name, &durability]).expect("it is created");
    }
    for spec in specs {
        eventually("the buckets are known", || {
            let listed = json(spec, &["bucket", "list"])?.to_string();
            DURABILITIES.iter().all(|name| listed.contains(name)).then_some(())
        });
    }
}

/// Adds 1, 2, 3 … to a set of a bucket until told to end; each until it is done, as far as the client is told. How
/// many were.
fn write(specs: &[Spec], bucket: &str, is_over: &AtomicBool, progress: &AtomicU32) -> u32 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("there are file descriptors").block_on(async {
        let addresses: Vec<String> =
            specs.iter().map(|spec| format!("127.0.0.1:{}", spec.peer)).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let client = Client::connect_to_any(&addresses).await.expect("nodes serve");
        let bucket = Bucket::new(Arc::new(client), bucket.to_owned()).within(2_000);
        let set = bucket.set("numbers").expect("it is a key");
        let mut done = 0;
        while !is_over.load(Ordering::Relaxed) {
            if set.add([(done + 1).to_string()]).await.is_ok() {
                done += 1;
                progress.fetch_add(1, Ordering::Relaxed);
            }
        }
        done
    })
}

/// Writes to each bucket while `meanwhile` has things happen, which is given what waits until so much more is done.
fn under_load(specs: &[Spec], meanwhile: impl FnOnce(&dyn Fn(u32))) -> [u32; 3] {
    let is_over = AtomicBool::new(false);
    let progress = [const { AtomicU32::new(0) }; 3];
    thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let is_over = &is_over;
        let writers = [0, 1, 2].map(|at| {
            let progress = &progress[at];
            scope.spawn(move || write(specs, DURABILITIES[at], is_over, progress))
        });
        meanwhile(&|count| progress.iter().for_each(|progress| further(progress, count)));
        is_over.store(true, Ordering::Relaxed);
        writers.map(|writer| writer.join().expect("a writer ends"))
    })
}

/// What a node shows of a bucket's set.
fn numbers(spec: &Spec, bucket: &str) -> Vec<u32> {
    let found =
        json(spec, &["--bucket", bucket, "set", "members", "numbers"]).expect("it is there");
    let found = found.as_array().expect("a list").iter();
    let mut numbers: Vec<u32> =
        found.map(|number| number.as_str().expect("text").parse().expect("a number")).collect();
    numbers.sort_unstable();
    numbers
}

fn cluster(directory: &Path, count: usize) -> Vec<Spec> {
    let mut specs = Spec::founders_and_others(directory, count, 0);
    specs.iter_mut().for_each(|spec| spec.settings += HASTY);
    specs
}

#[test]
fn a_killed_node_loses_what_was_on_its_way_to_the_log_of_a_bucket_that_does_not_wait_for_it_and_nothing_else()
 {
    let directory = tempfile::tempdir().unwrap();
    let specs = cluster(directory.path(), 1);
    let node = specs[0].start();
    create_buckets(&specs);
    let acknowledged = under_load(&specs, |further| {
        further(300);
        node.kill();
    });
    let _node = specs[0].start();
    for (bucket, acknowledged) in DURABILITIES.into_iter().zip(acknowledged) {
        let found = numbers(&specs[0], bucket);
        // One more may have been done.
        let most = acknowledged + 1;
        let least = if bucket == "none" { 0 } else { acknowledged };
        let last = found.last().copied().unwrap_or(0);
        assert!((least..=most).contains(&last), "{bucket}: up to {last} of {acknowledged}");
        assert_eq!(found, (1..=last).collect::<Vec<_>>(), "{bucket}: a gap");
        println!("{bucket}: {last} of {acknowledged}");
    }
}

#[test]
fn what_a_killed_node_loses_of_a_bucket_that_waits_for_no_disk_the_others_bring_back() {
    let directory = tempfile::tempdir().unwrap();
    let specs = cluster(directory.path(), 3);
    let [first, _second, _third] = [0, 1, 2].map(|at| specs[at].start());
    create_buckets(&specs);
    let mut first = Some(first);
    let acknowledged = under_load(&specs, |further| {
        further(100);
        first.take().expect("it runs").kill();
        further(50);
        first = Some(specs[0].start());
        further(50);
    });
    agree(&specs, &[]);
    for (bucket, acknowledged) in DURABILITIES.into_iter().zip(acknowledged) {
        for spec in &specs {
            let found = numbers(spec, bucket);
            let whole: Vec<u32> = (1..=acknowledged).collect();
            assert!(found.starts_with(&whole), "{bucket} at {}: {found:?}", spec.name);
        }
    }
}
