//! Nodes as processes: started, awaited, signalled, and ended with the test.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::ports::free_port;

/// Longest wait for anything that must come true.
const PATIENCE: Duration = Duration::from_secs(120);

/// How nodes are set: no replica is given up only because the machine is busy.
const PATIENT: &str = "timeout_ms = 30000\ncover_ms = 20000\n";

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
            })
            .collect()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = merganser();
        command.args(["start", "--name", &self.name]);
        let config = self.data.with_extension("toml");
        std::fs::write(&config, format!("{PATIENT}{}", self.settings))
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
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stdout = child.stdout.take().expect("it is piped");
        let mut lines = BufReader::new(stdout).lines();
        let ready = lines.by_ref().map_while(Result::ok).any(|line| line.starts_with(word));
        if !ready {
            let mut said = String::new();
            let mut stderr = child.stderr.take().expect("it is piped");
            stderr.read_to_string(&mut said).expect("it is text");
            let _ = child.wait();
            panic!("node {} ended without saying {word:?}: {said}", self.name);
        }
        // Whatever it logs later must not fill the pipe and stop it.
        let stderr = child.stderr.take().expect("it is piped");
        std::thread::spawn(move || BufReader::new(stderr).lines().for_each(drop));
        std::thread::spawn(move || lines.for_each(drop));
        Process { child }
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

/// A running node; killed when dropped.
pub(crate) struct Process {
    child: Child,
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
    pub(crate) fn terminate(mut self, signal: &str) -> Option<i32> {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().expect("kill exists");
        assert!(sent.success());
        self.child.wait().expect("it was ours").code()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already ended: nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
