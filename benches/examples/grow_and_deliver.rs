//! What clients notice when a loaded cluster grows, and when a node that was away gets its hints: real
//! processes on loopback, and a steady load of reads and writes.
//!
//! - A fourth node joins three that hold 100,000 keys. Printed: how many deltas were sent between nodes until
//!   every partition had its new owners, beside the least there can be (the keys that the fourth then
//!   holds), and the percentiles of before and meanwhile.
//! - One of three nodes is killed, as many keys are written, and it is started again. Printed: deltas
//!   delivered a second beside the writes a second of before, and the percentiles of before and meanwhile.
//!
//! `cargo run --release -p benchmarks --example grow_and_deliver -- target/release/merganser [KEYS]`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benchmarks::{Cluster, Failure, Steady, print_phases, set};
use client::{Client, Datastore};
use tokio::time::{Instant, interval};

/// First of the ports used.
const PORT: u16 = 18_100;
/// Requests in a second of the steady load.
const RATE: u64 = 500;
/// Writes of a batch, and batches under way at once, where keys are written as fast as it goes.
const BATCH: u64 = 64;
const BATCHES: u64 = 8;
const WARM_UP: Duration = Duration::from_secs(5);
const BEFORE: Duration = Duration::from_secs(10);
/// How often it is looked whether the cluster has grown: each look costs every node a list of its transfers.
const LOOK: Duration = Duration::from_secs(1);
/// And whether all hints are delivered, which is over in seconds.
const LOOK_FOR_HINTS: Duration = Duration::from_millis(100);
/// Longest wait for it.
const PATIENCE: Duration = Duration::from_secs(300);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let Some(binary) = arguments.next() else {
        return Err("usage: grow_and_deliver MERGANSER [KEYS]".into());
    };
    let keys = arguments.next().map_or(Ok(100_000), |keys| keys.parse())?;
    grow(Path::new(&binary), keys).await?;
    deliver(Path::new(&binary), keys).await
}

/// Writes all keys as fast as it goes; returns writes a second.
async fn fill(client: &Arc<Client>, keys: u64) -> Result<f64, Failure> {
    let start = Instant::now();
    let lanes = (0..BATCHES).map(|lane| {
        let client = Arc::clone(client);
        tokio::spawn(async move {
            for first in (lane * BATCH..keys).step_by((BATCH * BATCHES) as usize) {
                let batch = (first..keys.min(first + BATCH)).map(set).collect();
                for answer in client.execute(batch).await {
                    answer?;
                }
            }
            Ok::<(), replication::RequestError>(())
        })
    });
    for lane in lanes.collect::<Vec<_>>() {
        lane.await??;
    }
    Ok(keys as f64 / start.elapsed().as_secs_f64())
}

async fn counted(clients: &[Arc<Client>], names: &[&str]) -> Result<u64, Failure> {
    let mut sum = 0;
    for client in clients {
        let counters = client.status().await?.counters;
        sum += counters
            .iter()
            .filter(|(name, _)| names.contains(&name.as_str()))
            .map(|(_, count)| count)
            .sum::<u64>();
    }
    Ok(sum)
}

/// Waits until `is_over`, which is asked so often, says so.
async fn wait_for(
    look: Duration,
    mut is_over: impl AsyncFnMut() -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let start = Instant::now();
    let mut looks = interval(look);
    while !is_over().await? {
        if start.elapsed() > PATIENCE {
            return Err(format!("not over after {PATIENCE:?}").into());
        }
        looks.tick().await;
    }
    Ok(())
}

async fn grow(binary: &Path, keys: u64) -> Result<(), Failure> {
    let mut cluster = Cluster::start(binary, 3, PORT)?;
    let mut clients = Vec::new();
    for node in 0..3 {
        clients.push(Arc::new(cluster.client(node).await?));
    }
    fill(&clients[0], keys).await?;
    let load = Steady::begin(clients.clone(), RATE, keys);
    load.until(WARM_UP + BEFORE).await;
    tokio::task::block_in_place(|| cluster.join())?;
    let newcomer = Arc::new(cluster.client(3).await?);
    clients.push(Arc::clone(&newcomer));
    const SENT: [&str; 2] = ["keys_pulled", "keys_pushed"];
    let before = counted(&clients, &SENT).await?;
    let bytes = counted(&clients, &["comparison_bytes"]).await?;
    wait_for(LOOK, async || {
        let members = clients[0].status().await?.members;
        Ok(members.iter().any(|member| member.name == "node3" && member.connected))
    })
    .await?;
    let (begun, began) = (load.elapsed(), Instant::now());
    clients[0].commit(wire::PlanCall::Staged).await?;
    wait_for(LOOK, async || {
        let mut moving = 0;
        for client in &clients {
            moving += client.status().await?.handover.partitions_moving;
        }
        Ok(moving == 0)
    })
    .await?;
    let took = began.elapsed();
    let ended = load.elapsed();
    let moved = counted(&clients, &SENT).await? - before;
    let bytes = counted(&clients, &["comparison_bytes"]).await? - bytes;
    let least = newcomer.status().await?.keys;
    let samples = load.end().await?;
    println!("a fourth node joins three that hold {keys} keys: milliseconds");
    let p99 = print_phases(&samples, &[("before", WARM_UP), ("moving", begun), ("after", ended)]);
    println!(
        "moved in {:.1} s: {moved} deltas, {} bytes; the newcomer holds {least}: {:.3} times the least; \
         p99 {:.2} times\n",
        took.as_secs_f64(),
        bytes,
        moved as f64 / least as f64,
        p99[1] / p99[0]
    );
    Ok(())
}

async fn deliver(binary: &Path, keys: u64) -> Result<(), Failure> {
    let mut cluster = Cluster::start(binary, 3, PORT)?;
    let clients = vec![Arc::new(cluster.client(0).await?), Arc::new(cluster.client(1).await?)];
    let ordinary = fill(&clients[0], keys).await?;
    let load = Steady::begin(clients.clone(), RATE, keys);
    load.until(WARM_UP + BEFORE).await;
    cluster.signal(2, "-KILL")?;
    let killed = load.elapsed();
    fill(&clients[0], keys).await?;
    let pending = async || {
        let mut keys = 0;
        for client in &clients {
            let members = client.status().await?.members;
            keys += members.iter().map(|member| member.pending).sum::<u64>();
        }
        Ok::<u64, Failure>(keys)
    };
    let waiting = pending().await?;
    let delivered = counted(&clients, &["deliveries"]).await?;
    tokio::task::block_in_place(|| cluster.restart(2))?;
    let (begun, began) = (load.elapsed(), Instant::now());
    wait_for(LOOK_FOR_HINTS, async || Ok(pending().await? == 0)).await?;
    let took = began.elapsed().as_secs_f64();
    let delivered = counted(&clients, &["deliveries"]).await? - delivered;
    let ended = load.elapsed();
    let samples = load.end().await?;
    println!("one of three is away while {keys} keys are written: milliseconds");
    let phases =
        [("before", WARM_UP), ("filling", killed), ("delivering", begun), ("after", ended)];
    let p99 = print_phases(&samples, &phases);
    let rate = delivered as f64 / took;
    println!(
        "hints of {waiting} keys delivered in {took:.1} s: {rate:.0} a second, ordinary writes {ordinary:.0}: \
         {:.2} times; p99 {:.2} times",
        rate / ordinary,
        p99[2] / p99[0]
    );
    Ok(())
}
