//! A development cluster: several nodes in one process, with real sockets between them and real
//! indexes on disk, whose links can be cut.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tempfile::TempDir;

use crate::config::{ConfigError, Listeners, MemberSettings, NodeConfig, Settings};
use crate::data_directory::own_secret;
use crate::listen::Bound;
use crate::node::Node;
use crate::start_error::StartError;
use crate::switchboard::{Switch, Switchboard};

/// How a development cluster is started.
#[derive(Clone, Debug)]
pub struct DevOptions {
    /// How many nodes, at least 1.
    pub nodes: usize,
    /// Where data is kept; `None` for a temporary directory that goes with the cluster.
    pub dir: Option<PathBuf>,
    /// Node i (from 0) answers Redis clients on this port plus 10·i, HTTP on the next one, peers
    /// on the one after; `None` for any free ports.
    pub port_base: Option<u16>,
}

impl Default for DevOptions {
    /// Three nodes, temporary data, any free ports.
    fn default() -> Self {
        Self { nodes: 3, dir: None, port_base: None }
    }
}

/// Why a development cluster did not start. No node of it runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DevError {
    /// The ports do not fit.
    #[error("{nodes} nodes do not fit above port {port_base}: choose a lower `--port-base`")]
    Ports {
        /// How many nodes.
        nodes: usize,
        /// From which port on.
        port_base: u16,
    },
    /// The directory cannot be made.
    #[error("{}: {source}", dir.display())]
    Directory {
        /// Which one.
        dir: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The settings do not fit one another.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Somebody listens on a port already.
    #[error(
        "port {} of {name} is in use: stop what listens there (another `merganser dev`?), or \
         choose other ports with `--port-base`", address.port()
    )]
    PortInUse {
        /// Which node.
        name: String,
        /// Where it was to listen.
        address: SocketAddr,
    },
    /// The directory is that of a cluster with another number of nodes.
    #[error(
        "{} holds the data of {found} nodes, this start asks for {wanted}: use `--nodes {found}`, \
         or another `--dir`; data is not moved to other members yet", dir.display()
    )]
    OtherNodes {
        /// The directory.
        dir: PathBuf,
        /// How many nodes its data was placed for.
        found: usize,
        /// How many were asked for.
        wanted: usize,
    },
    /// A node did not start.
    #[error("{name}: {source}")]
    Start {
        /// Which node.
        name: String,
        /// Why not.
        source: StartError,
    },
}

/// A running development cluster.
#[derive(Debug)]
pub struct DevCluster {
    nodes: Vec<Node>,
    switchboard: Switchboard,
    /// Removed with the cluster.
    _temporary: Option<TempDir>,
}

impl DevCluster {
    /// Starts the nodes, and returns once they serve and are connected to one another. Those that
    /// are told by then to begin anew do so before; of others see [`Self::outdated`].
    pub async fn start(options: DevOptions) -> Result<Self, DevError> {
        Self::start_configured(options, &Settings::default()).await
    }

    /// Starts the nodes, and returns at once: see [`Self::ready`] and [`Self::outdated`].
    pub fn begin(options: DevOptions) -> Result<Self, DevError> {
        Self::begin_configured(options, &Settings::default())
    }

    /// Starts the nodes with settings that are the same for all; names, addresses, members and
    /// directories among them do not count.
    pub async fn start_configured(
        options: DevOptions,
        settings: &Settings,
    ) -> Result<Self, DevError> {
        loop {
            let cluster = Self::begin_configured(options.clone(), settings)?;
            tokio::select! {
                biased;
                () = cluster.outdated() => cluster.stop().await,
                () = cluster.ready() => return Ok(cluster),
            }
        }
    }

    fn begin_configured(options: DevOptions, settings: &Settings) -> Result<Self, DevError> {
        let DevOptions { nodes: count, dir, port_base } = options;
        let temporary = match &dir {
            Some(_) => None,
            None => Some(
                tempfile::tempdir()
                    .map_err(|source| DevError::Directory { dir: std::env::temp_dir(), source })?,
            ),
        };
        let dir = dir.or_else(|| Some(temporary.as_ref()?.path().to_owned())).expect("either");
        std::fs::create_dir_all(&dir)
            .map_err(|source| DevError::Directory { dir: dir.clone(), source })?;
        let names: Vec<String> = (1..=count.max(1)).map(|i| format!("node{i}")).collect();
        let switchboard: Switchboard =
            Arc::new(names.iter().map(|name| (name.clone(), Switch::new())).collect());

        // All ports first: only then are the members' addresses known.
        let mut bound = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let listen = listeners(index, names.len(), port_base)?;
            let name = name.clone();
            let ports = Bound::new(listen).map_err(|source| match source {
                StartError::PortInUse { address, .. } => DevError::PortInUse { name, address },
                source => DevError::Start { name, source },
            })?;
            bound.push(ports);
        }
        let members: BTreeMap<String, MemberSettings> = names
            .iter()
            .zip(&bound)
            .map(|(name, bound)| (name.clone(), bound.addresses.peer.to_string().into()))
            .collect();
        let secret = own_secret(&dir)
            .map_err(|source| DevError::Start { name: names[0].clone(), source })?;

        let mut nodes = Vec::new();
        for (name, bound) in names.iter().zip(bound) {
            let mut config = config(name, &dir, &members, settings)?;
            config.secret = Some(secret.clone());
            let node = Node::start_bound(config, bound, Some(Arc::clone(&switchboard))).map_err(
                |source| match source {
                    StartError::OtherFounders { found, .. } if found.len() != names.len() => {
                        let (dir, wanted) = (dir.clone(), names.len());
                        DevError::OtherNodes { dir, found: found.len(), wanted }
                    }
                    source => DevError::Start { name: name.clone(), source },
                },
            )?;
            nodes.push(node);
        }
        Ok(Self { nodes, switchboard, _temporary: temporary })
    }

    /// Waits until the nodes serve and are connected to one another, which never comes while one of
    /// them is outdated.
    pub async fn ready(&self) {
        for node in &self.nodes {
            node.serving().await;
            node.linked().await;
        }
    }

    /// The nodes, in the order of their ports.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Cuts (or restores) the links between node `index` and all others, and returns once they
    /// are so. Panics if there is no such node.
    pub async fn cut(&self, index: usize, cut: bool) {
        self.switchboard[self.nodes[index].name()].set(cut);
        for node in &self.nodes {
            node.links_follow(|name| self.switchboard[name].is_cut()).await;
        }
    }

    /// Waits until one of the nodes has to begin anew: what it holds is older than what the others have
    /// forgotten. It serves no more; the cluster is to be stopped, and started on the same directory.
    pub async fn outdated(&self) {
        let all = self.nodes.iter().map(|node| Box::pin(node.outdated()));
        futures_util::future::select_all(all).await;
    }

    /// Stops all nodes gracefully, together.
    pub async fn stop(self) {
        futures_util::future::join_all(self.nodes.into_iter().map(Node::stop)).await;
    }
}

fn listeners(index: usize, count: usize, base: Option<u16>) -> Result<Listeners, DevError> {
    let at = |offset: usize| -> Result<SocketAddr, DevError> {
        let port = match base {
            None | Some(0) => 0,
            Some(base) => u16::try_from(usize::from(base) + 10 * index + offset)
                .map_err(|_| DevError::Ports { nodes: count, port_base: base })?,
        };
        Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    };
    Ok(Listeners { resp: at(0)?, http: at(1)?, peer: at(2)? })
}

fn config(
    name: &str,
    dir: &Path,
    members: &BTreeMap<String, MemberSettings>,
    settings: &Settings,
) -> Result<NodeConfig, DevError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // Nodes that share few cores would only wake each other up.
    let loops = (cores < 2 * members.len()).then_some(1);
    let own = Settings {
        name: Some(name.to_owned()),
        data: Some(dir.join(name)),
        members: Some(members.clone()),
        // Replaced by the one kept in `dir`; here so that the rule for several members is met.
        secret: Some("replaced by the kept one".into()),
        ..Settings::default()
    };
    let below = Settings { loops, cluster: Some("dev".into()), ..Settings::default() };
    let (resp, http, peer) = (None, None, None);
    Ok(own.or(Settings { resp, http, peer, ..settings.clone() }).or(below).resolve()?)
}
