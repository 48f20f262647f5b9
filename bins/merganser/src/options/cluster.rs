//! The command lines of what operates a cluster: `cluster` and `drain`.

use clap::{Args, Subcommand};

#[derive(Subcommand)]
pub(crate) enum ClusterCommand {
    /// Show every member that was ever heard of: where it stands, and whether the node takes it for alive.
    Members,
    /// Show what moves while partitions follow a plan: how far each member is, how fast it goes, how long it takes
    /// still, and what it waits for.
    Status {
        /// Show it once a second until nothing moves.
        #[arg(long)]
        watch: bool,
    },
    /// Show what is staged, what data a commit would move, and how even the result is. Nothing is changed.
    Plan {
        /// Show it for a replacement instead: what `cluster replace` of these would do.
        #[arg(long, num_args = 2, value_names = ["DEAD", "NEW"], action = clap::ArgAction::Set)]
        replace: Vec<String>,
    },
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
    /// Declare a dead member gone for good. What only it held is lost.
    Remove {
        /// The member's name; or its id, where `status` shows that for want of a record.
        member: String,
    },
    /// Put a new node in the places of a dead one: it is removed, and what others hold of its data streams to
    /// the new one.
    ///
    /// The new one must have joined and own nothing. Nothing else moves.
    Replace {
        /// The name of the dead member.
        dead: String,
        /// The name of the one that takes its places.
        new: String,
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
    /// Data moves in the background, while reads and writes go on; `cluster status` shows how far it is, and `cluster
    /// plan` beforehand what would move.
    Commit,
    /// Have all nodes of the asked one's ring join another ring, which was bootstrapped apart under the same name,
    /// with all that they hold.
    ///
    /// They own nothing there until a plan is committed there; until it is followed, reads may not show what they
    /// brought. Both must have the same secret and number of partitions, and no names of members in common.
    Merge {
        /// The peer address of a node of the ring to join.
        #[arg(value_name = "HOST:PORT")]
        seed: String,
    },
}

#[derive(Args)]
pub(crate) struct DrainOptions {
    /// The member's name; without, the node that is asked.
    pub(crate) member: Option<String>,
    /// Stop after so many seconds though others have not taken all that is kept for them.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) limit: u32,
}
