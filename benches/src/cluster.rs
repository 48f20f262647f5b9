//! A cluster of real processes on loopback: started, signalled, grown, and ended with the benchmark.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use client::Client;

/// Whatever keeps a benchmark from its figures.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Processes, ended when dropped.
#[derive(Debug)]
pub struct Cluster {
    binary: PathBuf,
    directory: tempfile::TempDir,
    port: u16,
    founders: u16,
    nodes: Vec<Child>,
}

impl Cluster {
    /// Starts so many nodes of `binary`, with their data beside it: `/tmp` is memory on many machines. Each
    /// takes three ports, ten from those of the one before, from `port` on.
    pub fn start(binary: &Path, founders: u16, port: u16) -> Result<Self, Failure> {
        let beside = binary.parent().unwrap_or(Path::new("."));
        let directory = tempfile::tempdir_in(beside)?;
        let nodes = Vec::new();
        let mut cluster = Self { binary: binary.to_owned(), directory, port, founders, nodes };
        for node in 0..founders {
            let child = cluster.spawn(node)?;
            cluster.nodes.push(child);
        }
        Ok(cluster)
    }

    /// Starts one more, which finds the others by a seed.
    pub fn join(&mut self) -> Result<usize, Failure> {
        let node = u16::try_from(self.nodes.len())?;
        let child = self.spawn(node)?;
        self.nodes.push(child);
        Ok(usize::from(node))
    }

    /// Loops of a node: those that share a machine share its processors, and with more would only wake each
    /// other up.
    fn loops(&self) -> Result<usize, Failure> {
        let processors = std::thread::available_parallelism()?.get();
        Ok((processors / usize::from(self.founders)).max(1))
    }

    fn spawn(&self, node: u16) -> Result<Child, Failure> {
        let secret = self.directory.path().join("secret");
        if !secret.exists() {
            std::fs::write(&secret, "for one run of a benchmark")?;
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&secret, private)?;
        }
        let config = self.directory.path().join("config.toml");
        std::fs::write(&config, format!("loops = {}\n", self.loops()?))?;
        let mut command = Command::new(&self.binary);
        command.args(["start", "--cluster", "benchmark", "--name", &format!("node{node}")]);
        command.arg("--data").arg(self.directory.path().join(format!("node{node}")));
        command.arg("--config").arg(config).arg("--secret-file").arg(secret);
        for (flag, port) in [("--resp", 0), ("--http", 1), ("--peer", 2)] {
            command.args([flag, &format!("127.0.0.1:{}", self.port + 10 * node + port)]);
        }
        if node < self.founders {
            for member in 0..self.founders {
                let member = format!("node{member}={}", self.peer_address(member.into()));
                command.args(["--member", &member]);
            }
        } else {
            command.args(["--seed", &self.peer_address(0)]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let is_ready = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line.starts_with("ready"))
        };
        let mut lines = BufReader::new(output).lines();
        if !lines.by_ref().any(|line| is_ready(&line)) {
            child.kill()?;
            return Err(format!("node {node} ended before it was ready").into());
        }
        // What it prints later must not fill the pipe and stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(child)
    }

    /// Sends a node a signal, as in `-STOP`.
    pub fn signal(&self, node: usize, signal: &str) -> Result<(), Failure> {
        let pid = self.nodes[node].id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill {signal} {pid}: {status}").into()) }
    }

    /// Starts a node again that was killed, and waits until it is ready.
    pub fn restart(&mut self, node: usize) -> Result<(), Failure> {
        self.nodes[node].wait()?;
        self.nodes[node] = self.spawn(u16::try_from(node)?)?;
        Ok(())
    }

    /// Where native clients and peers reach a node.
    pub fn peer_address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", usize::from(self.port) + 10 * node + 2)
    }

    /// A client of one node.
    pub async fn client(&self, node: usize) -> Result<Client, Failure> {
        Ok(Client::connect(&self.peer_address(node)).await?)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended already.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}
