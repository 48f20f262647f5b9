//! `merganser demo carts`: real purchases replayed by concurrent shoppers through every node, with
//! one node's links cut in the middle, checked against an oracle.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use client::{Bucket, Client, Datastore};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use node::{DevCluster, DevOptions};
use replication::{Answer, Level, RequestError};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::contents::Contents;
use super::invoices::{self, Shopper};
use super::oracle::{Difference, History};
use super::report::Report;
use super::strategy::{self, Strategy, StrategyName};
use crate::commands::stop_signal;
use crate::output::{complain, print};

/// Longest wait for all replicas to show the same after the links are whole.
const CONVERGENCE_MAX: Duration = Duration::from_secs(60);
/// Longest wait for links to be restored when the replay did not come to its end.
const HEAL_LIMIT: Duration = Duration::from_secs(10);
/// Updates done, in percent, when the links of one node are cut and when they are restored.
pub(super) const CUT_PERCENT: (usize, usize) = (35, 70);

/// What the demonstration is asked to do.
pub(crate) struct CartsOptions {
    /// Purchases to replay; the bundled ones by default.
    pub(crate) data: Option<PathBuf>,
    /// How carts are kept.
    pub(crate) strategy: StrategyName,
    /// Whether to cut one node's links in the middle.
    pub(crate) cut: bool,
    /// Shoppers active at once.
    pub(crate) shoppers: usize,
    /// Nodes of a running development cluster (their peer addresses); a cluster of its own if
    /// empty.
    pub(crate) nodes: Vec<String>,
}

/// Replays, checks and reports. Fails if the store did not keep what the `crdt` strategy promises.
pub(crate) async fn run(options: CartsOptions) -> Result<()> {
    let shoppers = match &options.data {
        Some(path) => {
            let file =
                File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
            invoices::read(file).with_context(|| format!("in {}", path.display()))?
        }
        None => invoices::read(invoices::BUNDLED.as_bytes())?,
    };
    let (cluster, addresses) = if options.nodes.is_empty() {
        let cluster = DevCluster::start(DevOptions::default()).await?;
        let addresses = cluster.nodes().iter().map(|node| node.addresses().peer.to_string());
        let addresses: Vec<String> = addresses.collect();
        (Some(cluster), addresses)
    } else {
        (None, options.nodes.clone())
    };
    let mut nodes: Vec<Arc<dyn Datastore>> = Vec::new();
    for address in &addresses {
        let client = Client::connect(address).await;
        nodes.push(Arc::new(client.with_context(|| format!("cannot reach a node at {address}"))?));
    }
    let report = replay(&options, shoppers, nodes, stop_signal()?).await;
    if let Some(cluster) = cluster {
        cluster.stop().await;
    }
    let report = report?;
    print(&report.to_string())?;
    report.verdict()
}

/// What every shopper shares.
struct Run {
    nodes: Vec<Arc<dyn Datastore>>,
    /// A bucket of this run alone, so that carts of an earlier run do not mix in.
    bucket: String,
    strategy: Box<dyn Strategy>,
    shoppers: Vec<Shopper>,
    next: AtomicUsize,
    lines: AtomicUsize,
    progress: ProgressBar,
    finished: AtomicBool,
    /// Whether links may be cut.
    is_cut: AtomicBool,
    reduced: AtomicU64,
    partly_observed: AtomicU64,
    unmatched: AtomicU64,
    unknown: AtomicU64,
}

/// What one worker saw.
struct Observed {
    histories: BTreeMap<String, History>,
    updates: u64,
    latency_us: Histogram<u64>,
}

/// Replays until `stop`. Leaves no links cut, however it ends.
async fn replay(
    options: &CartsOptions,
    shoppers: Vec<Shopper>,
    nodes: Vec<Arc<dyn Datastore>>,
    stop: impl Future<Output = ()>,
) -> Result<Report> {
    ensure!(options.shoppers > 0, "--shoppers must be at least 1");
    ensure!(
        !options.cut || nodes.len() > 1,
        "cutting links takes at least two nodes; use --no-cut"
    );
    let lines: usize = shoppers.iter().flat_map(|shopper| &shopper.sessions).map(Vec::len).sum();
    let style =
        ProgressStyle::with_template("{msg:24} {bar:40} {pos}/{len} lines {per_sec} {eta}")?;
    let cut_member = nodes.last().context("a cluster has nodes")?.status().await?.node;
    let run = Arc::new(Run {
        bucket: format!("carts-{:016x}", getrandom::u64()?),
        strategy: strategy::named(options.strategy),
        nodes,
        shoppers,
        next: AtomicUsize::new(0),
        lines: AtomicUsize::new(0),
        progress: ProgressBar::new(lines as u64).with_style(style).with_message("all connected"),
        finished: AtomicBool::new(false),
        is_cut: AtomicBool::new(false),
        reduced: AtomicU64::new(0),
        partly_observed: AtomicU64::new(0),
        unmatched: AtomicU64::new(0),
        unknown: AtomicU64::new(0),
    });
    let mut links = JoinSet::new();
    if options.cut {
        links.spawn(cut_and_heal(run.clone(), cut_member.clone(), lines));
    }
    let report = tokio::select! {
        report = follow_all(options, &run, &mut links, &cut_member) => report,
        () = stop => Err(anyhow!("interrupted")),
    };
    // It must not cut what is healed.
    links.shutdown().await;
    heal(options, &run, &cut_member).await;
    report
}

/// Follows all shoppers, and looks at what became of their carts.
async fn follow_all(
    options: &CartsOptions,
    run: &Arc<Run>,
    links: &mut JoinSet<Result<Instant>>,
    cut_member: &str,
) -> Result<Report> {
    let started = Instant::now();
    let mut workers: JoinSet<_> = (0..options.shoppers).map(|_| shop(run.clone())).collect();
    let mut histories = BTreeMap::new();
    let mut updates = 0;
    let mut latency_us = histogram()?;
    while let Some(observed) = workers.join_next().await {
        let observed = observed??;
        histories.extend(observed.histories);
        updates += observed.updates;
        latency_us.add(&observed.latency_us)?;
    }
    let elapsed = started.elapsed();
    run.finished.store(true, Ordering::Release);
    let healed = match links.join_next().await {
        Some(healed) => healed??,
        None => Instant::now(),
    };
    run.progress.set_message("waiting for convergence");
    let (carts, converged) = converge(run, &histories, healed).await?;
    run.progress.finish_and_clear();

    let mut difference = Difference::default();
    for (name, history) in &histories {
        let found = history.difference(&carts[name]);
        difference.lost += found.lost;
        difference.resurrected += found.resurrected;
        difference.unexplained += found.unexplained;
    }
    let file = invoices::totals(&run.shoppers);
    let units = |totals: &BTreeMap<String, u64>| totals.values().sum::<u64>();
    let unequal = file.iter().filter(|&(name, totals)| carts[name].totals() != *totals);
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    Ok(Report {
        strategy: options.strategy,
        lines: run.lines.load(Ordering::Relaxed),
        shoppers: run.shoppers.len(),
        at_once: options.shoppers,
        nodes: run.nodes.len(),
        cut_off: options.cut.then(|| cut_member.to_owned()),
        sessions: run.shoppers.iter().map(|shopper| shopper.sessions.len()).sum(),
        updates,
        reduced: count(&run.reduced),
        partly_observed: count(&run.partly_observed),
        unknown: count(&run.unknown),
        unmatched: count(&run.unmatched),
        difference,
        in_carts: carts.values().map(|cart| units(&cart.totals())).sum(),
        in_file: file.values().map(units).sum(),
        carts: file.len(),
        unequal: unequal.map(|(name, _)| name.clone()).collect(),
        converged,
        elapsed,
        latency_us,
    })
}

fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000, 3)?)
}

/// Cuts the links of one node when a part of the lines is done, and restores them later. Returns
/// when they were whole again.
async fn cut_and_heal(run: Arc<Run>, member: String, lines: usize) -> Result<Instant> {
    let reached = async |percent: usize| {
        while run.lines.load(Ordering::Relaxed) * 100 < lines * percent
            && !run.finished.load(Ordering::Acquire)
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    reached(CUT_PERCENT.0).await;
    run.is_cut.store(true, Ordering::Release);
    let cut = run.nodes[0].cut_links(&member, true).await;
    if let Err(RequestError::Unsupported(_)) = cut {
        run.is_cut.store(false, Ordering::Release);
    }
    cut.context(
        "cannot cut links: only development clusters (merganser dev) can; or use --no-cut",
    )?;
    run.progress.set_message(format!("{member} cut off"));
    reached(CUT_PERCENT.1).await;
    run.nodes[0].cut_links(&member, false).await?;
    run.is_cut.store(false, Ordering::Release);
    run.progress.set_message("links whole again");
    Ok(Instant::now())
}

/// Restores links that are cut still. Where that fails, says how it is done.
async fn heal(options: &CartsOptions, run: &Run, member: &str) {
    if !run.is_cut.load(Ordering::Acquire) {
        return;
    }
    let healed = timeout(HEAL_LIMIT, run.nodes[0].cut_links(member, false)).await;
    if let (Ok(Err(_)) | Err(_), Some(node)) = (healed, options.nodes.first()) {
        complain(format_args!(
            "links of {member} may still be cut: restore them with `merganser --node {node} links heal {member}`"
        ));
    }
}

/// One worker: takes shopper after shopper and follows the sessions of each in order, every session
/// through another node first.
async fn shop(run: Arc<Run>) -> Result<Observed> {
    let mut observed =
        Observed { histories: BTreeMap::new(), updates: 0, latency_us: histogram()? };
    loop {
        let at = run.next.fetch_add(1, Ordering::Relaxed);
        let Some(shopper) = run.shoppers.get(at) else { return Ok(observed) };
        let mut history = History::default();
        for (session, lines) in shopper.sessions.iter().enumerate() {
            let nodes = run.nodes.iter().cycle().skip((at + session) % run.nodes.len());
            let buckets = nodes.take(run.nodes.len());
            let buckets: Vec<Bucket> =
                buckets.map(|node| Bucket::new(node.clone(), run.bucket.clone())).collect();
            for line in lines {
                let begun = Instant::now();
                let mut done = Ok(None);
                // Who does not find what they return, at a node that is cut off, say, asks at another.
                for bucket in &buckets {
                    done = follow(&run, bucket, shopper, line, &mut history).await;
                    if !matches!(done, Ok(None)) {
                        break;
                    }
                }
                match done {
                    Ok(Some(answer)) => {
                        observed.updates += 1;
                        let took = begun.elapsed().as_micros();
                        observed.latency_us.saturating_record(u64::try_from(took)?);
                        let count = |counter: &AtomicU64, is_so: bool| {
                            counter.fetch_add(u64::from(is_so), Ordering::Relaxed);
                        };
                        count(&run.reduced, !answer.acks.is_met());
                        count(&run.partly_observed, answer.partly_observed);
                    }
                    Ok(None) => {
                        run.unmatched.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(RequestError::Unknown { .. } | RequestError::Disconnected(_)) => {
                        run.unknown.fetch_add(1, Ordering::Relaxed);
                        if line.quantity < 0 {
                            history.doubt(&line.item);
                        }
                    }
                    Err(error) => bail!("cart {}: {error}", shopper.name),
                }
                run.lines.fetch_add(1, Ordering::Relaxed);
                run.progress.inc(1);
            }
        }
        observed.histories.insert(shopper.name.clone(), history);
    }
}

async fn follow(
    run: &Run,
    bucket: &Bucket,
    shopper: &Shopper,
    line: &invoices::Line,
    history: &mut History,
) -> Result<Option<Answer>, RequestError> {
    let units = line.quantity.unsigned_abs();
    let done = match line.quantity {
        0 => None,
        1.. => Some(run.strategy.add(bucket, &shopper.name, &line.item, units, history).await?),
        _ => run.strategy.take(bucket, &shopper.name, &line.item, units, history).await?,
    };
    Ok(done.map(|(recorded, answer)| {
        history.record(&recorded);
        answer
    }))
}

/// Waits until no delta waits in any outbox and every node by itself shows every cart alike; returns
/// the carts and how long it took since `healed`.
async fn converge(
    run: &Run,
    histories: &BTreeMap<String, History>,
    healed: Instant,
) -> Result<(BTreeMap<String, Contents>, Duration)> {
    let deadline = Instant::now() + CONVERGENCE_MAX;
    loop {
        let mut pending = 0;
        for node in &run.nodes {
            pending +=
                node.status().await?.members.iter().map(|member| member.pending).sum::<u64>();
        }
        if pending == 0 {
            let mut views = Vec::new();
            for node in &run.nodes {
                views.push(all_carts(run, node, histories).await?);
            }
            if views.iter().all(|view| *view == views[0]) {
                return Ok((views.swap_remove(0), healed.elapsed()));
            }
        }
        ensure!(
            Instant::now() < deadline,
            "the replicas do not agree after {} s: {pending} deltas wait in outboxes",
            CONVERGENCE_MAX.as_secs()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Every cart as one node shows it, asking one replica only.
async fn all_carts(
    run: &Run,
    node: &Arc<dyn Datastore>,
    histories: &BTreeMap<String, History>,
) -> Result<BTreeMap<String, Contents>> {
    let bucket = Bucket::new(node.clone(), run.bucket.clone());
    let bucket = bucket.at(Level { r: Some(1), ..Level::default() });
    let mut carts = BTreeMap::new();
    for name in histories.keys() {
        carts.insert(name.clone(), run.strategy.read(&bucket, name).await?);
    }
    Ok(carts)
}

#[cfg(test)]
mod tests;
