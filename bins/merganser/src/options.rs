//! The command line: what there is, and its help.

mod buckets;
mod cluster;
mod dev;
pub(crate) mod maintenance;
mod ring;
mod start;
mod values;

use std::path::PathBuf;

use ::values::{Deadline, Lifetime, Tag};
use clap::{Parser, Subcommand};
use replication::RequestName;

pub(crate) use buckets::BucketCommand;
pub(crate) use cluster::{ClusterCommand, DrainOptions};
pub(crate) use dev::{DemoCommand, DevCommand, LinksCommand};
use maintenance::{BackupOptions, DebugCommand, RestoreOptions, VerifyOptions};
pub(crate) use ring::{PlanOptions, RingCommand};
pub(crate) use start::StartOptions;
pub(crate) use values::{
    CartCommand, CounterCommand, ElementsCommand, MapCommand, RegisterCommand, SetCommand,
};

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
    /// Have a node stop in good order, to be started again: it refuses clients, finishes what it took, and hands
    /// over what it keeps for others.
    ///
    /// It stays a member. Others keep for it what it misses until it is back.
    Drain(DrainOptions),
    /// Show how a key stands: owners, what each holds, dots, version vectors, siblings, and its history.
    Explain {
        /// The key.
        key: String,
        /// Also draw its history into this file, as SVG; `-` prints the drawing alone, and is
        /// refused with --json.
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
            | Self::Drain(_)
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

    /// Whether it prints a drawing instead of text.
    pub(crate) fn prints_drawing(&self) -> bool {
        matches!(self, Self::Explain { svg: Some(path), .. } if path.as_os_str() == "-")
    }
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
