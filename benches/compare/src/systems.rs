//! The systems compared, each durable before it answers, on loopback and ports of its own.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::process::{Process, answers};

/// Which system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// This one; three nodes with n=3, r=2, w=2.
    Merganser,
    /// `redis-server` with appendfsync always; with two replicas of the same kind.
    Redis,
    /// `etcd`, which syncs always.
    Etcd,
    /// A server on tokio that keeps nothing: what requests cost before anything is done for them.
    Answering,
    /// Servers on tokio that append to a synced log and can give nothing back: what durable copies cost before
    /// anything is decided about keys.
    Keeping,
}

/// A running system.
#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) system: System,
    /// Where clients go: every node, but Redis's primary only.
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) processes: Vec<Process>,
}

impl System {
    pub(crate) const ALL: [Self; 5] =
        [Self::Merganser, Self::Redis, Self::Etcd, Self::Answering, Self::Keeping];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Merganser => "merganser",
            Self::Redis => "redis",
            Self::Etcd => "etcd",
            Self::Answering => "answering",
            Self::Keeping => "keeping",
        }
    }

    /// Starts `nodes` nodes of it with ports from `port` on, and waits until each answers.
    pub(crate) async fn start(
        self,
        merganser: &Path,
        nodes: u16,
        port: u16,
        directory: &Path,
    ) -> anyhow::Result<Cluster> {
        let directory = directory.join(self.name());
        fs::create_dir_all(&directory)?;
        let start = match self {
            Self::Merganser => start_merganser(merganser, nodes, port, &directory)?,
            Self::Redis => start_redis(nodes, port, &directory)?,
            Self::Etcd => start_etcd(nodes, port, &directory)?,
            Self::Answering => start_answering(port, &directory)?,
            Self::Keeping => start_keeping(nodes, port, &directory)?,
        };
        let (processes, all): (Vec<_>, Vec<_>) = start.into_iter().unzip();
        for &address in &all {
            answers(address).await?;
        }
        if self == Self::Redis && nodes > 1 {
            replicated(all[0], nodes - 1).await?;
        }
        let clients = if self == Self::Redis { 1 } else { all.len() };
        Ok(Cluster { system: self, addresses: all[..clients].to_vec(), processes })
    }
}

/// Waits until a primary's `replicas` follow it: a fresh one first sends them everything.
async fn replicated(primary: SocketAddr, replicas: u16) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(primary).await?;
    let wanted = format!("+OK\r\n:{replicas}\r\n");
    let mut answer = vec![0; wanted.len()];
    for _ in 0..30 {
        stream.write_all(format!("SET begun yes\r\nWAIT {replicas} 1000\r\n").as_bytes()).await?;
        stream.read_exact(&mut answer).await?;
        if answer == wanted.as_bytes() {
            return Ok(());
        }
    }
    bail!("the replicas of {primary} do not follow it")
}

type Started = Vec<(Process, SocketAddr)>;

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Event loops of each of so many nodes. Those that share a machine share its processors: with more loops they only
/// wake each other up.
fn loops(nodes: u16) -> std::io::Result<usize> {
    Ok((std::thread::available_parallelism()?.get() / usize::from(nodes)).max(1))
}

fn start_merganser(
    binary: &Path,
    nodes: u16,
    port: u16,
    directory: &Path,
) -> anyhow::Result<Started> {
    let secret: PathBuf = directory.join("secret");
    let mut file = fs::OpenOptions::new();
    std::io::Write::write_all(
        &mut file.write(true).create(true).truncate(true).mode(0o600).open(&secret)?,
        b"a secret for this comparison only",
    )?;
    let config = directory.join("config.toml");
    fs::write(&config, format!("loops = {}\n", loops(nodes)?))?;
    (0..nodes)
        .map(|node| {
            let at = |offset: u16| loopback(port + 3 * node + offset).to_string();
            let data = directory.join(format!("node{node}"));
            let mut command = Command::new(binary);
            command.args(["start", "--cluster", "compare", "--name", &format!("node{node}")]);
            command.args(["--resp", &at(0), "--http", &at(1), "--peer", &at(2)]);
            command.arg("--config").arg(&config);
            command.arg("--data").arg(data.join("data")).arg("--secret-file").arg(&secret);
            for member in 0..nodes {
                let peer = loopback(port + 3 * member + 2);
                command.args(["--member", &format!("node{member}={peer}")]);
            }
            Ok((Process::start(&mut command, &data)?, loopback(port + 3 * node)))
        })
        .collect()
}

fn start_redis(nodes: u16, port: u16, directory: &Path) -> anyhow::Result<Started> {
    (0..nodes)
        .map(|node| {
            let data = directory.join(format!("node{node}"));
            fs::create_dir_all(&data)?;
            let mut command = Command::new("redis-server");
            command.args(["--port", &(port + node).to_string(), "--bind", "127.0.0.1"]);
            command.args(["--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
            // A rewrite would fork in the middle of what is measured.
            command.args(["--auto-aof-rewrite-percentage", "0"]);
            command.arg("--dir").arg(&data);
            if node > 0 {
                command.args(["--replicaof", "127.0.0.1", &port.to_string()]);
            }
            Ok((Process::start(&mut command, &data)?, loopback(port + node)))
        })
        .collect()
}

fn start_answering(port: u16, directory: &Path) -> anyhow::Result<Started> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["--answer-at", &loopback(port).to_string()]);
    Ok(vec![(Process::start(&mut command, directory)?, loopback(port))])
}

fn start_keeping(nodes: u16, port: u16, directory: &Path) -> anyhow::Result<Started> {
    (0..nodes)
        .map(|node| {
            let mut command = Command::new(std::env::current_exe()?);
            command.args(["--keep-at", &loopback(port + node).to_string()]);
            command.arg("--keep-in").arg(directory.join(format!("kept{node}")));
            command.args(["--loops", &loops(nodes)?.to_string()]);
            for other in (0..nodes).filter(|&other| other != node) {
                command.args(["--keep-with", &loopback(port + other).to_string()]);
            }
            let logged = directory.join(format!("node{node}"));
            Ok((Process::start(&mut command, &logged)?, loopback(port + node)))
        })
        .collect()
}

fn start_etcd(nodes: u16, port: u16, directory: &Path) -> anyhow::Result<Started> {
    let url = |port: u16| format!("http://{}", loopback(port));
    let peers: Vec<String> =
        (0..nodes).map(|node| format!("node{node}={}", url(port + 2 * node + 1))).collect();
    (0..nodes)
        .map(|node| {
            let (client, peer) = (port + 2 * node, port + 2 * node + 1);
            let data = directory.join(format!("node{node}"));
            let mut command = Command::new("etcd");
            command.args(["--name", &format!("node{node}"), "--log-level", "error"]);
            command.arg("--data-dir").arg(data.join("data"));
            for flag in ["--listen-client-urls", "--advertise-client-urls"] {
                command.args([flag, &url(client)]);
            }
            for flag in ["--listen-peer-urls", "--initial-advertise-peer-urls"] {
                command.args([flag, &url(peer)]);
            }
            command.args(["--initial-cluster", &peers.join(",")]);
            Ok((Process::start(&mut command, &data)?, loopback(client)))
        })
        .collect()
}
