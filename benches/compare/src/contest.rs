//! One contest: a load that the systems get in turn, round after round.

use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::task::LocalSet;

use crate::etcd::{self, Call};
use crate::load::{Budget, Measured};
use crate::process::cpu_seconds;
use crate::resp::{self, Command, Wait};
use crate::systems::{Cluster, System};

/// Connections over the Redis protocol at once, as `redis-benchmark` has.
const CONNECTIONS: usize = 50;
/// Clients of etcd at once: with more it gets no faster.
const CLIENTS: usize = 64;

/// How one system is asked for it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Over the Redis protocol.
    Resp {
        /// What.
        command: Command,
        /// Requests in a batch.
        pipeline: usize,
        /// When to wait for a replica.
        wait: Wait,
    },
    /// Over etcd's, one request at a time.
    Etcd(Call),
}

/// A load, and for each system that takes part how it is asked.
#[derive(Clone, Debug)]
pub(crate) struct Contest {
    /// For the table and the drawing.
    pub(crate) name: &'static str,
    /// Who takes part, under which name. The first is the one that the others are compared with.
    pub(crate) entries: Vec<(System, &'static str, Load)>,
}

/// What one entry of a contest measured, a figure for each round.
#[derive(Clone, Debug)]
pub(crate) struct Figures {
    pub(crate) entry: &'static str,
    pub(crate) rounds: Vec<Measured>,
}

fn resp(command: Command, pipeline: usize, wait: Wait) -> Load {
    Load::Resp { command, pipeline, wait }
}

/// The contests of one node each.
pub(crate) fn of_one_node() -> Vec<Contest> {
    let contest = |name, command, pipeline, etcd: Option<Call>| {
        let load = resp(command, pipeline, Wait::None);
        let mut entries =
            vec![(System::Merganser, "merganser", load), (System::Redis, "redis", load)];
        entries.extend(etcd.map(|call| (System::Etcd, "etcd", Load::Etcd(call))));
        if command == Command::Set {
            entries.push((System::Answering, "nothing but +OK", load));
            entries.push((System::Keeping, "nothing but a log", load));
        }
        Contest { name, entries }
    };
    vec![
        contest("SET", Command::Set, 1, Some(Call::Put)),
        contest("GET", Command::Get, 1, Some(Call::Range)),
        contest("INCR", Command::Incr, 1, None),
        contest("SET, pipeline 16", Command::Set, 16, None),
        contest("GET, pipeline 16", Command::Get, 16, None),
        contest("INCR, pipeline 16", Command::Incr, 16, None),
        contest("SADD, pipeline 16", Command::Sadd, 16, None),
        contest("HSET, pipeline 16", Command::Hset, 16, None),
    ]
}

/// The contests of three nodes each: two durable copies before an answer.
pub(crate) fn of_three_nodes() -> Vec<Contest> {
    let set = |pipeline| resp(Command::Set, pipeline, Wait::None);
    let waiting = |pipeline, wait| resp(Command::Set, pipeline, wait);
    let get = |pipeline| resp(Command::Get, pipeline, Wait::None);
    vec![
        Contest {
            name: "SET",
            entries: vec![
                (System::Merganser, "merganser w=2", set(1)),
                (System::Redis, "redis, WAIT 1", waiting(1, Wait::Each)),
                (System::Etcd, "etcd", Load::Etcd(Call::Put)),
                (System::Keeping, "nothing but logs, w=2", set(1)),
            ],
        },
        Contest {
            name: "SET, pipeline 16",
            entries: vec![
                (System::Merganser, "merganser w=2", set(16)),
                (System::Redis, "redis, WAIT 1 each", waiting(16, Wait::Each)),
                (System::Redis, "redis, a WAIT for 16", waiting(16, Wait::Batch)),
                (System::Etcd, "etcd, not pipelined", Load::Etcd(Call::Put)),
                (System::Keeping, "nothing but logs, w=2", set(16)),
            ],
        },
        Contest {
            name: "GET",
            entries: vec![
                (System::Merganser, "merganser r=2", get(1)),
                (System::Redis, "redis, of its primary", get(1)),
                (System::Etcd, "etcd, linearizable", Load::Etcd(Call::Range)),
            ],
        },
        Contest {
            name: "GET, pipeline 16",
            entries: vec![
                (System::Merganser, "merganser r=2", get(16)),
                (System::Redis, "redis, of its primary", get(16)),
            ],
        },
    ]
}

impl Contest {
    /// Runs it for `rounds` rounds, the entries in turn.
    pub(crate) async fn run(
        &self,
        clusters: &[Cluster],
        rounds: usize,
        requests: usize,
        time: Duration,
        mut progress: impl FnMut(&str, &Measured),
    ) -> anyhow::Result<Vec<Figures>> {
        let new = |&(_, entry, _): &(_, &'static str, _)| Figures { entry, rounds: Vec::new() };
        let mut figures: Vec<Figures> = self.entries.iter().map(new).collect();
        for _ in 0..rounds {
            for (&(system, entry, load), figures) in self.entries.iter().zip(&mut figures) {
                let of_system = |cluster: &&Cluster| cluster.system == system;
                // A system that was left out on the command line takes no part.
                let Some(cluster) = clusters.iter().find(of_system) else { continue };
                let measured = measure(cluster, load, requests, time).await?;
                progress(entry, &measured);
                figures.rounds.push(measured);
            }
        }
        figures.retain(|figures| !figures.rounds.is_empty());
        Ok(figures)
    }
}

async fn measure(
    cluster: &Cluster,
    load: Load,
    requests: usize,
    time: Duration,
) -> anyhow::Result<Measured> {
    let budget = Rc::new(Budget::new(requests, time));
    let connections = match load {
        Load::Resp { .. } => CONNECTIONS,
        Load::Etcd(_) => CLIENTS,
    };
    let cpu = cpu_seconds(&cluster.processes)?;
    let begun = Instant::now();
    let local = LocalSet::new();
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let address = cluster.addresses[number % cluster.addresses.len()];
            let (seed, budget) = (number as u64 + 1, Rc::clone(&budget));
            local.spawn_local(async move {
                match load {
                    Load::Resp { command, pipeline, wait } => {
                        resp::drive(address, command, pipeline, wait, seed, budget).await
                    }
                    Load::Etcd(call) => etcd::drive(address, call, seed, budget).await,
                }
            })
        })
        .collect();
    let latencies = local
        .run_until(async {
            let mut latencies = Vec::new();
            for task in tasks {
                latencies.append(&mut task.await??);
            }
            anyhow::Ok(latencies)
        })
        .await?;
    let seconds = begun.elapsed().as_secs_f64();
    let batch = match load {
        Load::Resp { pipeline, .. } => pipeline,
        Load::Etcd(_) => 1,
    };
    let done = latencies.len() * batch;
    Measured::of(&latencies, done, seconds, cpu_seconds(&cluster.processes)? - cpu)
}
