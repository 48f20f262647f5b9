//! The command line of `start`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use node::MemberSettings;

#[derive(Args)]
#[command(
    after_help = "A flag wins over its environment variable, that over the file, that over the default."
)]
pub(crate) struct StartOptions {
    /// A TOML file of settings.
    #[arg(long, env = "MERGANSER_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The node's name, unique within the cluster.
    #[arg(long, env = "MERGANSER_NAME")]
    pub(crate) name: Option<String>,
    /// The cluster's name.
    #[arg(long, env = "MERGANSER_CLUSTER")]
    pub(crate) cluster: Option<String>,
    /// The directory for its data.
    #[arg(long, env = "MERGANSER_DATA", value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where to answer the Redis protocol.
    #[arg(long, env = "MERGANSER_RESP", value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) resp: Option<SocketAddr>,
    /// Where to answer HTTP.
    #[arg(long, env = "MERGANSER_HTTP", value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) http: Option<SocketAddr>,
    /// Where to answer other nodes and native clients.
    #[arg(long, env = "MERGANSER_PEER", value_name = "ADDRESS:PORT", value_parser = address)]
    pub(crate) peer: Option<SocketAddr>,
    /// Where other nodes reach this one, if not at `--peer`.
    #[arg(long, env = "MERGANSER_ADVERTISE", value_name = "HOST:PORT")]
    pub(crate) advertise: Option<String>,
    /// The peer address of a node by which the cluster is found; give several.
    #[arg(long = "seed", env = "MERGANSER_SEEDS", value_name = "HOST:PORT", value_delimiter = ',')]
    pub(crate) seeds: Vec<String>,
    /// Begin a new cluster, unless the data directory is of one already.
    #[arg(long)]
    pub(crate) bootstrap: bool,
    /// What this node fails together with.
    #[arg(long, env = "MERGANSER_ZONE")]
    pub(crate) zone: Option<String>,
    /// Its capacity beside that of the others, 1 to 1000. Counts at the first start.
    #[arg(long, env = "MERGANSER_WEIGHT")]
    pub(crate) weight: Option<u16>,
    /// A founder of a cluster that begins with several, this node included, by name and peer address; give
    /// one for each.
    ///
    /// What the member fails together with and its capacity beside that of the others may follow: all
    /// founders must be told the same.
    #[arg(
        long = "member",
        value_name = "NAME=HOST:PORT[,zone=ZONE][,weight=WEIGHT]",
        value_parser = member
    )]
    pub(crate) members: Vec<(String, MemberSettings)>,
    /// A file with the secret that all nodes of the cluster share (readable by its owner only).
    #[arg(long, env = "MERGANSER_SECRET_FILE", value_name = "FILE")]
    pub(crate) secret_file: Option<PathBuf>,
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an IP address and a port, as in 127.0.0.1:7379".into())
}

fn member(text: &str) -> Result<(String, MemberSettings), String> {
    let (name, at) = text
        .split_once('=')
        .ok_or("give a name and a peer address, as in a=127.0.0.1:7381, once for each member")?;
    Ok((name.to_owned(), MemberSettings::parse(at)?))
}
