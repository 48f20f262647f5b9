//! Merganser beside redis-server and etcd in one run: the same loads in turn, ratios round by round.
//!
//! All run on loopback and this machine's processors, the client too; each is durable before it
//! answers. Absolute figures move with the machine; the ratios are what counts.

mod answering;
mod contest;
mod etcd;
mod keeping;
mod load;
mod loops;
mod memory;
mod process;
mod report;
mod resp;
mod systems;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Parser;

use crate::contest::{of_one_node, of_three_nodes};
use crate::report::Outcome;
use crate::systems::{Cluster, System};

/// Compare Merganser with redis-server (appendfsync always; three nodes: two replicas and WAIT 1) and
/// etcd, each on one node and on three. Needs redis-server and etcd, and a release build of merganser.
#[derive(Debug, Parser)]
struct Options {
    /// Rounds of each load; the medians are printed.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Requests of one load on one system, at most.
    #[arg(long, default_value_t = 100_000)]
    requests: usize,
    /// Seconds of one load on one system, at most.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Compare clusters of this many nodes only: 1 or 3.
    #[arg(long)]
    nodes: Option<u16>,
    /// Compare with these only, by name.
    #[arg(long, value_delimiter = ',')]
    with: Option<Vec<String>>,
    /// Run loads whose name contains this only.
    #[arg(long)]
    load: Option<String>,
    /// The program to compare.
    #[arg(long, default_value = "target/release/merganser")]
    merganser: PathBuf,
    /// The first port to use; some fifty from there on.
    #[arg(long, default_value_t = 17_400)]
    port: u16,
    /// Compare what a million keys take in memory and on disk, and nothing else.
    #[arg(long)]
    memory: bool,
    /// Where to draw the ratios, as SVG.
    #[arg(long)]
    svg: Option<PathBuf>,
    /// Be the server that does nothing but answer: this program starts itself so.
    #[arg(long, hide = true)]
    answer_at: Option<SocketAddr>,
    /// Be the server that does nothing but keep what it is sent.
    #[arg(long, hide = true)]
    keep_at: Option<SocketAddr>,
    /// Where it keeps it.
    #[arg(long, hide = true, default_value = "kept")]
    keep_in: PathBuf,
    /// Who is to keep it too.
    #[arg(long, hide = true, value_delimiter = ',')]
    keep_with: Vec<SocketAddr>,
    /// How many event loops it has.
    #[arg(long, hide = true, default_value_t = 1)]
    loops: usize,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    if let Some(address) = options.answer_at {
        return answering::serve(address);
    }
    if let Some(address) = options.keep_at {
        return keeping::serve(address, &options.keep_in, options.keep_with, options.loops);
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(run(&options))
}

async fn run(options: &Options) -> anyhow::Result<()> {
    ensure!(
        options.merganser.exists(),
        "{} is not there: cargo build --release, or name it with --merganser",
        options.merganser.display()
    );
    ensure!(options.rounds > 0, "at least one round");
    if options.memory {
        return memory::compare(&options.merganser, options.port).await;
    }
    let mut outcomes = Vec::new();
    for (nodes, about, contests) in [(1, "1 node", of_one_node()), (3, "3 nodes", of_three_nodes())]
    {
        if options.nodes.is_some_and(|only| only != nodes) {
            continue;
        }
        let directory = tempfile::tempdir()?;
        let clusters = start(options, nodes, directory.path()).await?;
        for contest in contests {
            if options.load.as_ref().is_some_and(|part| !contest.name.contains(part)) {
                continue;
            }
            let time = Duration::try_from_secs_f64(options.seconds)?;
            let figures = contest
                .run(&clusters, options.rounds, options.requests, time, |entry, measured| {
                    eprintln!(
                        "{about}: {}: {entry}: {:.0} requests/s",
                        contest.name, measured.rate
                    );
                })
                .await?;
            outcomes.push(Outcome { nodes: about, name: contest.name, figures });
        }
    }
    report::print(&outcomes);
    if let Some(path) = &options.svg {
        report::draw(&outcomes, path)?;
    }
    Ok(())
}

async fn start(
    options: &Options,
    nodes: u16,
    directory: &std::path::Path,
) -> anyhow::Result<Vec<Cluster>> {
    let mut clusters = Vec::new();
    for (system, offset) in System::ALL.into_iter().zip([0, 10, 20, 30, 40]) {
        let wanted = |with: &Vec<String>| with.iter().any(|name| name == system.name());
        if system != System::Merganser && !options.with.as_ref().is_none_or(wanted) {
            continue;
        }
        let port = options.port + offset;
        clusters.push(system.start(&options.merganser, nodes, port, directory).await?);
    }
    Ok(clusters)
}
