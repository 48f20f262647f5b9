//! The command lines of `dev`, of `links` on such clusters, and of `demo`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::demo::StrategyName;

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
