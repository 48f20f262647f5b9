//! The command line of `ring`.

use clap::{Args, Subcommand};

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
    /// Owners of each key, as the default policy of the nodes has them. As many consecutive partitions, and at
    /// least 3, get distinct owners and zones.
    #[arg(short = 'n', long = "owners", value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    pub(crate) owners: u8,
}

const PLAN_EXAMPLES: &str = "Examples:
  merganser ring plan --nodes 3 --join node4
  merganser ring plan --nodes a@x,b@y,c*2@z --join d@x --leave b
  merganser ring plan --leave node2 --weight node1=2";
