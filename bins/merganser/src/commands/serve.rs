//! `merganser start` and `merganser dev`: nodes that run until they are asked to stop.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;
use std::pin::Pin;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use node::{ConfigError, DevCluster, DevOptions, Node, NodeConfig, Settings};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::runtime;
use crate::options::{DevCommand, StartOptions};
use crate::output::{complain, print, table};

/// Sends logs to standard error: `RUST_LOG` says which, or else `default`; JSON where nobody reads
/// along.
pub(super) fn log_to_stderr(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().init();
    }
}

/// Runs one node.
pub(super) fn start(options: StartOptions) -> Result<ExitCode> {
    log_to_stderr("info");
    let mut config = settings(options)?.resolve()?;
    runtime()?.block_on(async {
        drop(survive_file_limit()?);
        let stop = stop_signal()?;
        tokio::pin!(stop);
        // A node that begins anew, or goes over to another ring, does so in the same process.
        while run(&mut config, stop.as_mut()).await? {}
        Ok(ExitCode::SUCCESS)
    })
}

const OUTDATED: &str =
    "stopping: what this node holds is older than what its cluster has forgotten; it begins anew";

/// Runs a node until it is to stop. Returns whether it is to be started again.
async fn run(
    config: &mut NodeConfig,
    mut stop: Pin<&mut impl Future<Output = ()>>,
) -> Result<bool> {
    let node = Node::start(config.clone()).await?;
    let at = node.addresses();
    print(&format!(
        "redis protocol {}\nhttp           http://{}/\npeers, clients {}",
        at.resp, at.http, at.peer
    ))?;
    if let Some(why) = node.waiting() {
        print(&format!("waiting: {why}"))?;
    }
    let serve = async {
        node.serving().await;
        print("ready")?;
        std::future::pending().await
    };
    let (is_drained, is_outdated) = tokio::select! {
        ended = serve => return ended,
        () = &mut stop => (false, false),
        () = node.drain_asked() => (true, false),
        () = node.outdated() => (false, true),
    };
    complain(match (is_drained, is_outdated) {
        (true, _) => "draining: finishing what was accepted",
        (_, true) => OUTDATED,
        _ => "stopping: finishing what was accepted",
    });
    let joins = is_drained && node.joins_another_ring();
    let has_ended = node.stop().await;
    ensure!(
        has_ended || !(is_outdated || joins),
        "the disk does not answer, so that this process cannot start the node again: start it anew"
    );
    if is_outdated {
        // Started again, it is where others look for it.
        config.listen = at;
    } else if joins {
        print("starting again, to join the other ring")?;
    }
    Ok(is_outdated || joins)
}

/// What flags, environment and file say together.
fn settings(options: StartOptions) -> Result<Settings> {
    let mut members = BTreeMap::new();
    for (name, at) in options.members {
        if members.insert(name.clone(), at).is_some() {
            let reason = "is given twice: give each member a name of its own".into();
            return Err(ConfigError::Invalid { setting: format!("--member {name}"), reason }.into());
        }
    }
    let flags = Settings {
        name: options.name,
        cluster: options.cluster,
        data: options.data,
        resp: options.resp,
        http: options.http,
        peer: options.peer,
        advertise: options.advertise,
        seeds: (!options.seeds.is_empty()).then_some(options.seeds),
        bootstrap: options.bootstrap.then_some(true),
        zone: options.zone,
        weight: options.weight,
        members: (!members.is_empty()).then_some(members),
        secret: options.secret_file.as_deref().map(secret).transpose()?,
        ..Settings::default()
    };
    Ok(match &options.config {
        Some(path) => flags.or(Settings::from_file(path)?),
        None => flags,
    })
}

/// Reads a secret from a file that only its owner may read.
fn secret(path: &Path) -> Result<String, ConfigError> {
    use std::os::unix::fs::PermissionsExt as _;
    let shown = path.display();
    let refused = |reason| ConfigError::Invalid { setting: "--secret-file".into(), reason };
    let unreadable = |error| refused(format!("cannot read {shown}: {error}"));
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        let reason = "can be read by others than its owner: chmod 600";
        return Err(refused(format!("{shown} {reason} {shown}")));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let secret = text.trim();
    if secret.is_empty() {
        return Err(refused(format!("{shown} is empty: put a long random secret in it")));
    }
    Ok(secret.to_owned())
}

/// Has a write beyond the limit on the length of files fail, as one to a full disk does, instead of ending the
/// process. It stays so: what is returned only tells when that happens.
fn survive_file_limit() -> Result<Signal> {
    /// SIGXFSZ of Linux, macOS and the BSDs, on all processors but MIPS.
    const XFSZ: i32 = 25;
    signal(SignalKind::from_raw(XFSZ)).context("cannot listen for SIGXFSZ")
}

/// Completes when the process is asked to stop.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Runs a development cluster.
pub(super) fn dev(command: DevCommand) -> Result<ExitCode> {
    log_to_stderr("error");
    runtime()?.block_on(async {
        drop(survive_file_limit()?);
        let mut stop = std::pin::pin!(stop_signal()?);
        let options = DevOptions {
            nodes: command.nodes.into(),
            dir: command.dir,
            port_base: Some(command.port_base),
        };
        let mut greeted = false;
        // Nodes that begin anew do so in the same process.
        while run_dev(&options, stop.as_mut(), &mut greeted).await? {}
        Ok(ExitCode::SUCCESS)
    })
}

/// Runs the nodes until they are to stop. Returns whether they are to be started again. `greeted` is
/// whether the user was told what there is.
async fn run_dev(
    options: &DevOptions,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    greeted: &mut bool,
) -> Result<bool> {
    let cluster = DevCluster::begin(options.clone())?;
    let serve = async {
        cluster.ready().await;
        if std::mem::replace(greeted, true) {
            print("ready")?;
        } else {
            print(&greeting(&cluster, options.dir.as_deref()))?;
        }
        std::future::pending().await
    };
    let is_outdated = tokio::select! {
        ended = serve => return ended,
        () = &mut stop => false,
        // Only a directory that is kept can be of an earlier day.
        () = cluster.outdated(), if options.dir.is_some() => true,
    };
    complain(if is_outdated { OUTDATED } else { "stopping: finishing what was accepted" });
    cluster.stop().await;
    Ok(is_outdated)
}

fn greeting(cluster: &DevCluster, kept: Option<&Path>) -> String {
    let kept = match kept {
        Some(dir) => format!("data is kept in {}", dir.display()),
        None => "data is temporary; keep it with --dir DIR".into(),
    };
    format!(
        "{}\n{kept}\n\n{}\nready: {} nodes serve; Ctrl-C stops them",
        endpoints(cluster),
        things_to_try(cluster),
        cluster.nodes().len()
    )
}

fn endpoints(cluster: &DevCluster) -> String {
    let rows = cluster.nodes().iter().map(|node| {
        let at = node.addresses();
        [
            node.name().to_owned(),
            at.resp.to_string(),
            format!("http://{}/", at.http),
            at.peer.to_string(),
        ]
    });
    table(["node", "redis protocol", "http", "peers, merganser --node"], rows.collect())
}

fn things_to_try(cluster: &DevCluster) -> String {
    let nodes = cluster.nodes();
    let (first, last) = (&nodes[0], &nodes[nodes.len() - 1]);
    let resp = first.addresses().resp.port();
    let mut text = String::from("try, in another terminal:\n");
    let mut line = |command: String| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "  {command}");
    };
    line(format!("redis-cli -p {resp} sadd s a"));
    line(format!("redis-cli -p {} smembers s", last.addresses().resp.port()));
    line(format!("curl http://{}/v1/buckets/default/sets/s", last.addresses().http));
    line(format!("redis-cli -p {resp} mg.cart add ada book 2"));
    if nodes.len() > 1 {
        line(format!(
            "redis-cli -p {resp} mg.cut {}     # then write on both sides, and",
            last.name()
        ));
        line(format!("redis-cli -p {resp} mg.heal {}    # see them converge:", last.name()));
    }
    line(format!("redis-cli --raw -p {resp} mg.explain s"));
    let peer = first.addresses().peer;
    // The default address need not be said.
    let node = if peer.port() == 7381 { String::new() } else { format!("--node {peer} ") };
    line(format!("merganser {node}status    # or: cargo run --release -- {node}status"));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_or_nobody_can_is_wrong_usage() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let refused = || anyhow::Error::from(secret(&path).unwrap_err());
        let assert_says = |words: &str| {
            let error = refused();
            assert!(error.to_string().contains(words), "{error}");
            assert_eq!(crate::commands::exit_code(&error), ExitCode::from(2));
        };
        assert_says("cannot read");
        std::fs::write(&path, "\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert_says("chmod 600");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_says("is empty");
        std::fs::write(&path, "a secret\n").unwrap();
        assert_eq!(secret(&path).unwrap(), "a secret");
    }

    #[test]
    fn a_limit_on_the_length_of_files_does_not_end_the_process() {
        runtime().unwrap().block_on(async {
            let mut told = survive_file_limit().unwrap();
            let process = std::process::id().to_string();
            let sent = std::process::Command::new("kill").args(["-XFSZ", &process]).status();
            assert!(sent.unwrap().success());
            assert_eq!(told.recv().await, Some(()));
        });
    }
}
