//! The command line: what there is, and its help.

pub(crate) mod maintenance;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use node::MemberSettings;
use replication::RequestName;
use values::{Deadline, Lifetime, Tag};

use crate::demo::StrategyName;
use maintenance::{BackupOptions, DebugCommand, RestoreOptions, VerifyOptions};

/// A replicated key-value store after Amazon's Dynamo, with CRDTs as first-class values.
///
/// `merganser dev` starts a three-node cluster on this machine and says what to try.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Options {
    /// The node to talk to: its peer address.
    #[arg(
        long,
        global = true,
        env = "MERGANSER_NODE",
        default_value = "127.0.0.1:7381",
        value_name = "HOST:PORT",
        help_heading = "Client options"
    )]
    pub(crate) node: String,
    /// The bucket of the key; "default" unless told otherwise.
    #[arg(long, global = true, help_heading = "Client options")]
    pub(crate) bucket: Option<String>,
    /// Replicas that must answer a read; the bucket's policy by default.
    #[arg(long, short = 'r', global = true, help_heading = "Client options")]
    pub(crate) r: Option<u8>,
    /// Owners on which a write must be durable; the bucket's policy by default.
    #[arg(long, short = 'w', global = true, help_heading = "Client options")]
    pub(crate) w: Option<u8>,
    /// Time limit of a request in milliseconds, at least 1; the node's own by default.
    #[arg(
        long,
        global = true,
        value_name = "MS",
        value_parser = clap::value_parser!(u32).range(1..),
        help_heading = "Client options"
    )]
    pub(crate) timeout: Option<u32>,
    /// Do a write once, however often it is sent under this name: client:id, or an id alone.
    #[arg(
        long,
        global = true,
        value_name = "CLIENT:ID",
        value_parser = update_name,
        help_heading = "Client options"
    )]
    pub(crate) id: Option<RequestName>,
    /// How long what is written lives: seconds, or `keep` for as long as the key.
    #[arg(
        long,
        global = true,
        value_name = "SECONDS",
        value_parser = lifetime,
        help_heading = "Client options"
    )]
    pub(crate) ttl: Option<Lifetime>,
    /// Print JSON for programs instead of text for people.
    #[arg(long, global = true, help_heading = "Client options")]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 nothing there (missing key, empty collection, not a \
member); 2 wrong usage; 3 not reached, or refused for want of replicas; 4 outcome unknown; 5 wrong type, conflict or bad value; \
6 anything else.";

/// What to do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Start one node.
    Start(StartOptions),
    /// Start a development cluster on this machine: real nodes, sockets and disks, nothing to configure.
    Dev(DevCommand),
    /// Demonstrations on real input.
    #[command(subcommand)]
    Demo(DemoCommand),
    /// Read a raw value: all its siblings, and the context.
    Get {
        /// The key.
        key: String,
    },
    /// Write a raw value, superseding what the context has seen; without one, beside what is there.
    Put {
        /// The key.
        key: String,
        /// The value; `-` reads standard input.
        value: String,
        /// The context of an earlier get or put.
        #[arg(long)]
        context: Option<String>,
    },
    /// Delete a raw value: what the context has seen, or without one what a get now sees.
    Del {
        /// The key.
        key: String,
        /// The context of an earlier get or put.
        #[arg(long)]
        context: Option<String>,
    },
    /// Have all that is observed of a key end so many seconds from now.
    Expire {
        /// The key.
        key: String,
        /// Seconds.
        seconds: u32,
    },
    /// Show how long a key has left.
    Ttl {
        /// The key.
        key: String,
    },
    /// Take the deadline of a key away.
    Persist {
        /// The key.
        key: String,
    },
    /// Registers: last writer wins, and increments add up.
    #[command(subcommand)]
    Register(RegisterCommand),
    /// Counters.
    #[command(subcommand)]
    Counter(CounterCommand),
    /// Sets: an add wins over a concurrent remove.
    #[command(subcommand)]
    Set(SetCommand),
    /// Grow-only sets.
    #[command(subcommand)]
    Gset(ElementsCommand),
    /// Shopping carts.
    #[command(subcommand)]
    Cart(CartCommand),
    /// Maps of fields.
    #[command(subcommand)]
    Map(MapCommand),
    /// Show what a context token says; it is for reading only.
    Context {
        /// The token.
        token: String,
    },
    /// Show who owns how much of the ring, and the preference list of a key.
    #[command(args_conflicts_with_subcommands = true)]
    Ring {
        /// A key to look up.
        #[arg(long)]
        key: Option<String>,
        #[command(subcommand)]
        command: Option<RingCommand>,
    },
    /// Buckets and their policies.
    #[command(subcommand)]
    Bucket(BucketCommand),
    /// Show members, links and what waits for whom.
    Status,
    /// Change who belongs to the cluster.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Show how a key stands: owners, what each holds, dots, version vectors, siblings, and its history.
    Explain {
        /// The key.
        key: String,
        /// Also draw its history into this file, as SVG; `-` prints the drawing alone.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
    /// Compare the node's replicas with those of all other owners now, and bring what differs to both.
    ///
    /// Goes on in the background anyway; this does it at once, and shows how far it is.
    Repair {
        /// Only keys of buckets that have as many owners (n) as this one.
        bucket: Option<String>,
        /// The first partition.
        #[arg(long, value_name = "PARTITION", default_value_t = 0)]
        first: u32,
        /// The last partition, included; without, all.
        #[arg(long, value_name = "PARTITION", default_value_t = u32::MAX, hide_default_value = true)]
        last: u32,
    },
    /// List when the node's partitions were last found equal with other owners, the oldest first.
    Comparisons {
        /// How many at most.
        #[arg(long, default_value_t = 20)]
        count: usize,
    },
    /// List keys in conflict on the node, those with most siblings first.
    Conflicts {
        /// How many at most, 1 to 1000.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        count: u32,
        /// Where to go on: the cursor that the page before ended with.
        #[arg(long)]
        cursor: Option<String>,
    },
    /// End a conflict of types: remove what is observed of every type but one.
    Resolve {
        /// The key.
        key: String,
        /// The type to keep: bytes, lww, gset, counter, orset, cart or map.
        #[arg(long, value_name = "TYPE")]
        keep: Tag,
    },
    /// Cut or restore all links of a member of a development cluster.
    #[command(subcommand)]
    Links(LinksCommand),
    /// Have a running node take a backup of itself into a directory of its machine.
    Backup(BackupOptions),
    /// Bring a node back: make a data directory of a backup.
    Restore(RestoreOptions),
    /// Check the data directory of a stopped node, or a backup: files, rows, hash trees, counts, log.
    Verify(VerifyOptions),
    /// Show what is on disk in the data directory of a stopped node, or in a backup.
    #[command(subcommand)]
    Debug(DebugCommand),
}

impl Command {
    /// Whether it writes a value, in one request.
    pub(crate) const fn is_write(&self) -> bool {
        match self {
            Self::Put { .. }
            | Self::Del { .. }
            | Self::Expire { .. }
            | Self::Persist { .. }
            | Self::Resolve { .. } => true,
            Self::Register(command) => !matches!(command, RegisterCommand::Get { .. }),
            Self::Counter(command) => !matches!(command, CounterCommand::Get { .. }),
            Self::Set(SetCommand::Elements(command)) | Self::Gset(command) => {
                matches!(command, ElementsCommand::Add { .. })
            }
            Self::Set(SetCommand::Remove { .. }) => true,
            Self::Cart(command) => !matches!(command, CartCommand::Items { .. }),
            Self::Map(command) => {
                !matches!(command, MapCommand::Get { .. } | MapCommand::Fields { .. })
            }
            Self::Start(_)
            | Self::Dev(_)
            | Self::Demo(_)
            | Self::Get { .. }
            | Self::Ttl { .. }
            | Self::Context { .. }
            | Self::Ring { .. }
            | Self::Bucket(_)
            | Self::Status
            | Self::Cluster(_)
            | Self::Explain { .. }
            | Self::Conflicts { .. }
            | Self::Repair { .. }
            | Self::Comparisons { .. }
            | Self::Links(_)
            | Self::Backup(_)
            | Self::Restore(_)
            | Self::Verify(_)
            | Self::Debug(_) => false,
        }
    }
}

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

fn lifetime(text: &str) -> Result<Lifetime, String> {
    let seconds = text.parse::<u32>().ok().filter(|seconds| *seconds > 0);
    match (text, seconds) {
        ("keep", _) => Ok(Lifetime::Keep),
        (_, Some(seconds)) => Ok(Lifetime::Ends(Deadline::In(u64::from(seconds) * 1_000))),
        _ => Err("give seconds, at least 1, or keep".into()),
    }
}

fn update_name(text: &str) -> Result<RequestName, String> {
    let name = RequestName::parse(text.as_bytes());
    name.check().map(|()| name).map_err(|error| error.to_string())
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

#[derive(Subcommand)]
pub(crate) enum RingCommand {
    /// Show what a join, a leave or other weights and zones would move, and the balance then.
    ///
    /// Changes nothing. With `--nodes` no node is asked; otherwise the ring of the node at `--node` is
    /// what stands before.
    Plan(PlanOptions),
}

#[derive(Args)]
#[command(after_help = PLAN_EXAMPLES)]
pub(crate) struct PlanOptions {
    /// Members before, instead of those of a running node: how many (node1, node2, …), or which.
    #[arg(long, value_name = "COUNT|MEMBER,…")]
    pub(crate) nodes: Option<String>,
    /// A member that comes; give one for each.
    #[arg(long, value_name = "NAME[*WEIGHT][@ZONE]")]
    pub(crate) join: Vec<String>,
    /// A member that goes; give one for each.
    #[arg(long, value_name = "NAME")]
    pub(crate) leave: Vec<String>,
    /// Its weight afterwards, 1 to 1000: a member of weight 2 is to hold twice what one of 1 holds.
    #[arg(long, value_name = "NAME=WEIGHT")]
    pub(crate) weight: Vec<String>,
    /// Its zone afterwards: what it fails together with. Nothing after = for none.
    #[arg(long, value_name = "NAME=ZONE")]
    pub(crate) zone: Vec<String>,
    /// Partitions of the ring with `--nodes`, a power of two.
    #[arg(long, value_name = "Q", requires = "nodes", default_value_t = 4096)]
    pub(crate) partitions: u32,
    /// Owners of each key: so many consecutive partitions get distinct owners and zones.
    #[arg(short = 'n', long = "owners", value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) owners: u8,
}

const PLAN_EXAMPLES: &str = "Examples:
  merganser ring plan --nodes 3 --join node4
  merganser ring plan --nodes a@x,b@y,c*2@z --join d@x --leave b
  merganser ring plan --leave node2 --weight node1=2";

#[derive(Subcommand)]
pub(crate) enum BucketCommand {
    /// Create a bucket, or give one that was used without being created a policy of its own.
    ///
    /// What is not said is as in the node's default policy. A bucket that was dropped begins empty.
    #[command(after_help = BUCKET_FIELDS)]
    Create {
        /// Its name.
        name: String,
        /// What is said of it, as in r=1 w=3.
        #[arg(value_name = "FIELD=VALUE", value_parser = field)]
        fields: Vec<(String, String)>,
    },
    /// Change fields of its policy.
    #[command(after_help = BUCKET_FIELDS)]
    Set {
        /// Its name.
        name: String,
        /// What is said of it, as in r=1 w=3.
        #[arg(value_name = "FIELD=VALUE", value_parser = field, required = true)]
        fields: Vec<(String, String)>,
    },
    /// Show how it stands.
    Show {
        /// Its name.
        name: String,
    },
    /// Drop it with all that is in it.
    Drop {
        /// Its name.
        name: String,
    },
    /// List every bucket that was created or dropped.
    List,
}

const BUCKET_FIELDS: &str = "Fields:
  n                owners of each key, 1 to 5; not changed while the bucket holds data
  r, w             replicas that must answer a read, owners on which a write must be durable; 1 to n
  availability     always (accept writes on what is left) or quorum (refuse them)
  raw              what a raw write makes: siblings, or lww (the last writer wins)
  durability       sync, interval or none
  value_bytes_max  longest value; 0 for the node's own limit
  siblings_max     most siblings that a put may leave; 0 for the node's own limit
  siblings_soft    above so many siblings a put is reported; 0 for the node's own limit
  ttl              seconds that what is written lives; 0 for without end";

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write FIELD=VALUE, as in r=1")?;
    Ok((name.to_owned(), value.to_owned()))
}

#[derive(Args)]
pub(crate) struct DevCommand {
    /// How many nodes, 1 to 20.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=20))]
    pub(crate) nodes: u8,
    /// Keep data in this directory; by default in a temporary one that is removed at the end.
    #[arg(long, value_name = "DIR")]
    pub(crate) dir: Option<PathBuf>,
    /// Node i answers the Redis protocol on this port + 10(i-1), HTTP on the next, peers on the one after.
    #[arg(long, default_value_t = 7379)]
    pub(crate) port_base: u16,
}

#[derive(Subcommand)]
pub(crate) enum DemoCommand {
    /// Replay real purchases by concurrent shoppers, cut a node off in the middle, check every cart.
    Carts {
        /// Purchases to replay instead of the bundled ones (same columns).
        #[arg(long, value_name = "FILE")]
        data: Option<PathBuf>,
        /// How carts are kept.
        #[arg(long, value_enum, default_value_t = StrategyName::Crdt)]
        strategy: StrategyName,
        /// Leave the links whole.
        #[arg(long)]
        no_cut: bool,
        /// Shoppers active at once, at least 1.
        #[arg(long, default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..))]
        shoppers: u16,
        /// Peer addresses of a running development cluster, instead of one of its own.
        #[arg(long, value_name = "HOST:PORT", value_delimiter = ',')]
        connect: Vec<String>,
    },
}

#[derive(Subcommand)]
pub(crate) enum RegisterCommand {
    /// Read it.
    Get {
        /// The key.
        key: String,
    },
    /// Set it.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Add to an integer.
    Incr {
        /// The key.
        key: String,
        /// By how much.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Delete it as observed.
    Del {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum CounterCommand {
    /// Read it.
    Get {
        /// The key.
        key: String,
    },
    /// Add to it; negative takes away.
    Add {
        /// The key.
        key: String,
        /// By how much.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Take away exactly what is observed.
    Reset {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum SetCommand {
    #[command(flatten)]
    Elements(ElementsCommand),
    /// Remove elements as observed.
    Remove {
        /// The key.
        key: String,
        /// The elements.
        #[arg(required = true)]
        elements: Vec<String>,
    },
}

/// What sets of both kinds can do.
#[derive(Subcommand)]
pub(crate) enum ElementsCommand {
    /// Add elements.
    Add {
        /// The key.
        key: String,
        /// The elements.
        #[arg(required = true)]
        elements: Vec<String>,
    },
    /// List all elements.
    Members {
        /// The key.
        key: String,
    },
    /// Say whether an element is in it (exit code 1 if not).
    Contains {
        /// The key.
        key: String,
        /// The element.
        element: String,
    },
    /// Count the elements.
    Size {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum CartCommand {
    /// Add an item.
    Add {
        /// The key.
        key: String,
        /// The item.
        item: String,
        /// How many.
        #[arg(default_value_t = 1)]
        quantity: u64,
    },
    /// Remove an item as observed.
    Remove {
        /// The key.
        key: String,
        /// The item.
        item: String,
    },
    /// Set the quantity of an item.
    Set {
        /// The key.
        key: String,
        /// The item.
        item: String,
        /// How many there are to be.
        quantity: u64,
    },
    /// List items with quantities.
    Items {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum MapCommand {
    /// Set a field.
    Set {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// The value.
        value: String,
    },
    /// Add to an integer field.
    Incr {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// By how much.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Remove fields as observed.
    Remove {
        /// The key.
        key: String,
        /// The fields.
        #[arg(required = true)]
        fields: Vec<String>,
    },
    /// Read one field.
    Get {
        /// The key.
        key: String,
        /// The field.
        field: String,
    },
    /// List all fields.
    Fields {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show every member that was ever heard of: where it stands, and whether the node takes it for alive.
    Members,
    /// Make a member that joins a full one.
    Join {
        /// The member's name.
        member: String,
    },
    /// Have a member go in good order.
    Leave {
        /// The member's name.
        member: String,
    },
    /// Declare a dead member gone for good.
    Remove {
        /// The member's name.
        member: String,
    },
    /// Give a member another capacity beside that of the others.
    Weight {
        /// The member's name.
        member: String,
        /// 1 to 1000.
        weight: u16,
    },
    /// Have members as they are now own the partitions: who joined gets its share, who leaves gives it up.
    ///
    /// Data moves in the background, while reads and writes go on; `merganser status` shows how far it is.
    Commit {
        /// Only say what would move.
        #[arg(long)]
        dry_run: bool,
    },
    /// Join two clusters that were bootstrapped apart under one name. Not possible yet: it says what to do.
    Merge,
}

#[derive(Subcommand)]
pub(crate) enum LinksCommand {
    /// Cut them.
    Cut {
        /// The member's name.
        member: String,
    },
    /// Restore them.
    Heal {
        /// The member's name.
        member: String,
    },
}
