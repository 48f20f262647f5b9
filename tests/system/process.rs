//! Nodes as processes: started, awaited, signalled, and ended with the test.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::proxy::Network;
use crate::ports::free_port;

/// Longest wait for anything that must come true.
const PATIENCE: Duration = Duration::from_secs(120);

/// How nodes are set: no replica is given up only because the machine is busy.
const PATIENT: &str = "timeout_ms = 30000\ncover_ms = 20000\n";

/// Settings of nodes that give a silent one up soon: later than by default, for a busy machine, and no later than a
/// client of a test waits.
pub(crate) const HASTY: &str = "timeout_ms = 5000\ncover_ms = 300\n";

/// Whether scenarios are to be played in their long forms: more nodes, rounds and time.
pub(crate) fn is_long() -> bool {
    std::env::var_os("MERGANSER_LONG_TESTS").is_some()
}

/// The binary under test.
pub(crate) fn merganser() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_merganser"));
    command.env_remove("MERGANSER_NODE").stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    merganser().args(arguments).output().expect("the binary starts")
}

/// Free ports, all different.
pub(crate) fn free_ports(count: usize) -> Vec<u16> {
    (0..count).map(|_| free_port()).collect()
}

/// Waits until `condition` gives something.
pub(crate) fn eventually<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, condition)
}

/// Waits so long at most until `condition` gives something.
pub(crate) fn within<T>(
    patience: Duration,
    what: &str,
    mut condition: impl FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {} s: {what}", patience.as_secs());
        // Many conditions ask a node by a process of their own: without a pause that alone would keep
        // the machine from what is waited for.
        pause();
    }
}

#[expect(clippy::disallowed_methods, reason = "a condition is waited for: between two looks at it")]
fn pause() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Waits until every node is connected to every other, and nothing waits to be delivered.
pub(crate) fn settled(specs: &[Spec]) {
    for spec in specs {
        eventually("all nodes connected, nothing pending", || {
            let node = format!("127.0.0.1:{}", spec.peer);
            let status = run(&["--node", &node, "--json", "status"]);
            let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
            let members = status["members"].as_array()?;
            let is_settled =
                |member: &serde_json::Value| member["pending"] == 0 && member["connected"] == true;
            members.iter().all(is_settled).then_some(())
        });
    }
}

/// How one node is started.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) data: PathBuf,
    pub(crate) resp: u16,
    pub(crate) http: u16,
    pub(crate) peer: u16,
    /// Name and peer port of every founder.
    pub(crate) members: Vec<(String, u16)>,
    /// Peer ports of nodes to find the cluster by.
    pub(crate) seeds: Vec<u16>,
    pub(crate) bootstrap: bool,
    pub(crate) secret: Option<PathBuf>,
    /// Further lines of its configuration.
    pub(crate) settings: String,
    /// Where others reach its peer port, if not there.
    pub(crate) advertised: Option<u16>,
}

impl Spec {
    /// A node alone.
    pub(crate) fn solo(data: &Path) -> Self {
        let ports = free_ports(3);
        Self {
            name: "solo".into(),
            data: data.to_owned(),
            resp: ports[0],
            http: ports[1],
            peer: ports[2],
            members: Vec::new(),
            seeds: Vec::new(),
            bootstrap: true,
            secret: None,
            settings: String::new(),
            advertised: None,
        }
    }

    /// The nodes of a cluster that the first begins and the others find by it.
    pub(crate) fn seeded(directory: &Path, count: usize) -> Vec<Self> {
        let founders = Self::cluster(directory, count);
        let seed = founders[0].peer;
        let seeded = |(at, spec): (usize, Self)| Self {
            members: Vec::new(),
            seeds: if at == 0 { Vec::new() } else { vec![seed] },
            bootstrap: at == 0,
            ..spec
        };
        founders.into_iter().enumerate().map(seeded).collect()
    }

    /// The nodes of a cluster of `count` founders.
    pub(crate) fn cluster(directory: &Path, count: usize) -> Vec<Self> {
        let ports = free_ports(3 * count);
        let members: Vec<(String, u16)> =
            (0..count).map(|at| (format!("n{}", at + 1), ports[3 * at + 2])).collect();
        let secret = directory.join("secret");
        std::fs::write(&secret, "a secret of this test").expect("the directory can be written");
        private(&secret);
        (0..count)
            .map(|at| Self {
                name: members[at].0.clone(),
                data: directory.join(&members[at].0),
                resp: ports[3 * at],
                http: ports[3 * at + 1],
                peer: ports[3 * at + 2],
                members: members.clone(),
                seeds: Vec::new(),
                bootstrap: false,
                secret: Some(secret.clone()),
                settings: String::new(),
                advertised: None,
            })
            .collect()
    }

    /// The nodes of a cluster of so many founders, and others that find it by the first two. Few partitions, so
    /// that handovers and comparisons are soon over.
    pub(crate) fn founders_and_others(
        directory: &Path,
        founders: usize,
        others: usize,
    ) -> Vec<Self> {
        let mut specs = Self::cluster(directory, founders + others);
        let seeds: Vec<u16> = specs.iter().take(2).map(|spec| spec.peer).collect();
        for (at, spec) in specs.iter_mut().enumerate() {
            spec.settings = "partitions = 64\n".into();
            spec.members.truncate(founders);
            if at >= founders {
                (spec.members, spec.seeds) = (Vec::new(), seeds.clone());
            }
        }
        specs
    }

    /// The same nodes, which reach one another only through `network`.
    pub(crate) fn through(mut specs: Vec<Self>, network: &Network) -> Vec<Self> {
        let ports: Vec<(u16, u16)> =
            specs.iter().map(|spec| (spec.peer, network.lead_to(&spec.name, spec.peer))).collect();
        let led = |port: &mut u16| {
            let found = ports.iter().find(|(direct, _)| direct == port);
            *port = found.expect("it is of one of them").1;
        };
        for spec in &mut specs {
            spec.advertised = Some(spec.peer);
            spec.advertised.iter_mut().for_each(led);
            spec.members.iter_mut().for_each(|(_, port)| led(port));
            spec.seeds.iter_mut().for_each(led);
        }
        specs
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = merganser();
        command.args(["start", "--name", &self.name]);
        let config = self.data.with_extension("toml");
        // Where it is about replicas that are given up, the test says how soon.
        let patient = if self.settings.contains("cover_ms") { "" } else { PATIENT };
        std::fs::write(&config, format!("{patient}{}", self.settings))
            .expect("the directory can be written");
        command.arg("--config").arg(config);
        command.arg("--data").arg(&self.data);
        for (flag, port) in [("--resp", self.resp), ("--http", self.http), ("--peer", self.peer)] {
            command.args([flag, &format!("127.0.0.1:{port}")]);
        }
        for (name, port) in &self.members {
            command.args(["--member", &format!("{name}=127.0.0.1:{port}")]);
        }
        for port in &self.seeds {
            command.args(["--seed", &format!("127.0.0.1:{port}")]);
        }
        if self.bootstrap {
            command.arg("--bootstrap");
        }
        if let Some(port) = self.advertised {
            command.args(["--advertise", &format!("127.0.0.1:{port}")]);
        }
        if let Some(secret) = &self.secret {
            command.arg("--secret-file").arg(secret);
        }
        command
    }

    /// Starts the node and waits for its `ready`.
    pub(crate) fn start(&self) -> Process {
        self.start_as(self.command())
    }

    /// Starts the node and waits until it says that it waits for its cluster.
    pub(crate) fn start_lonely(&self) -> Process {
        self.start_lonely_as(self.command())
    }

    /// The same, by `command`.
    pub(crate) fn start_lonely_as(&self, command: Command) -> Process {
        self.start_until(command, "waiting: ")
    }

    /// Starts the node by `command` and waits for its `ready`.
    pub(crate) fn start_as(&self, command: Command) -> Process {
        self.start_until(command, "ready")
    }

    /// Starts the node by `command` and waits for a line that begins with `word`.
    fn start_until(&self, mut command: Command, word: &str) -> Process {
        let log = self.data.with_extension("log");
        let kept = File::options().create(true).append(true).open(&log).expect("the log is ours");
        let mut child =
            command.stdout(Stdio::piped()).stderr(kept).spawn().expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with(word));
        if !ready {
            let _ = child.wait();
            panic!("node {} ended without saying {word:?}: {}", self.name, end_of(&log));
        }
        // Whatever it prints later must not fill the pipe and stop it.
        std::thread::spawn(move || lines.for_each(drop));
        Process { child, log }
    }

    /// A connection of a real Redis client.
    pub(crate) fn redis(&self) -> redis::Connection {
        eventually("a connection", || self.try_redis())
    }

    /// A connection of a real Redis client, if the node serves.
    pub(crate) fn try_redis(&self) -> Option<redis::Connection> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}/", self.resp));
        client.expect("it is a URL").get_connection().ok()
    }
}

#[cfg(unix)]
fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("the file is ours");
}

/// The last lines of a node's log.
fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).expect("it was begun");
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// A running node; killed when dropped, and then its log shown if the test has failed.
pub(crate) struct Process {
    child: Child,
    /// All that it logged, also before it was started again.
    log: PathBuf,
}

impl Process {
    /// Ends it at once, as kill -9 does.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it was ours");
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to stop, as Ctrl-C or a service manager does, and returns its exit code.
    pub(crate) fn terminate(self, signal: &str) -> Option<i32> {
        self.signal(signal);
        self.ended()
    }

    /// Sends it a signal, as in `-STOP` and `-CONT`.
    pub(crate) fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("kill exists");
        assert!(sent.success());
    }

    /// Waits until it has ended by itself; returns its exit code.
    pub(crate) fn ended(mut self) -> Option<i32> {
        self.child.wait().expect("it was ours").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended: nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the end of {}:\n{}", self.log.display(), end_of(&self.log));
        }
    }
}
