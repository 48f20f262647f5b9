//! The kinds of scenarios.

use std::fmt;
use std::str::FromStr;

/// A kind of scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// All faults together, for 60 simulated seconds on five nodes, replicas compared in the
    /// background: what `run` runs.
    All,
    /// The same over collections that are large: what an engine keeps otherwise from thousands of elements on it does from
    /// a few on, and the log has many segments. With every second seed engines hold so little in memory that it is full now
    /// and then.
    Large,
    /// As `All`, with clusters of one node, of two, of a dozen, up to a hundred.
    Sizes,
    /// Owners only, and no disk lost: a bad network, failing disks, crashes and wrong clocks.
    Owners,
    /// The same with more nodes than owners, of which some pause: what owners miss is kept by
    /// fallbacks.
    Fallbacks,
    /// Either of them, with keys that have deadlines.
    Deadlines,
    /// As `Owners`, with disks that are lost.
    LostDisks,
    /// Replicas are compared in the background; outboxes and disks lose what they hold.
    Compared,
    /// Nodes join and leave and get other weights.
    Handover,
    /// The same, with members that are killed for good and removed.
    Removals,
    /// Partitions go to and fro while the cluster is cut apart and mended again and again, so that members
    /// know at different times who owns what.
    Moving,
    /// What is left of deleted keys is forgotten meanwhile, behind the barrier.
    Forgetting,
    /// Two rings that were founded apart under one name serve both, and become one in the middle of other faults.
    Rings,
    /// Two such rings, with all faults of `All`: members are killed for good and replaced, and disks lost, while nodes
    /// go over.
    AllRings,
    /// Nodes crash while what they said is still on its way, and arrives; disks are lost, members removed, deletes
    /// forgotten.
    LastWords,
    /// Increments with names, sent again and again: what each counts, whatever its faults.
    Retries,
    /// Increments with names, and what takes them away, over many rounds of the barrier: names are folded.
    Names,
    /// What clients say goes to the ends of what is allowed, and beyond: stamps from the far future, increments that
    /// take sums beyond 64 bits, more names than a key remembers.
    Extremes,
    /// Deadlines are taken back while owners are cut off that do not hear of it in time. Clocks are right.
    TakenBack,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 19] = [
        Self::All,
        Self::Large,
        Self::Owners,
        Self::Fallbacks,
        Self::Deadlines,
        Self::LostDisks,
        Self::Compared,
        Self::Handover,
        Self::Removals,
        Self::Moving,
        Self::Forgetting,
        Self::Rings,
        Self::AllRings,
        Self::Retries,
        Self::Names,
        Self::Extremes,
        Self::TakenBack,
        Self::LastWords,
        Self::Sizes,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Large => "large",
            Self::Sizes => "sizes",
            Self::Owners => "owners",
            Self::Fallbacks => "fallbacks",
            Self::Deadlines => "deadlines",
            Self::LostDisks => "lost-disks",
            Self::Compared => "compared",
            Self::Handover => "handover",
            Self::Removals => "removals",
            Self::Moving => "moving",
            Self::Forgetting => "forgetting",
            Self::Rings => "rings",
            Self::AllRings => "all-rings",
            Self::LastWords => "last-words",
            Self::Retries => "retries",
            Self::Names => "names",
            Self::Extremes => "extremes",
            Self::TakenBack => "taken-back",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let known = Self::ALL.into_iter().find(|family| family.name() == text);
        known.ok_or_else(|| format!("no family {text:?}; one of {names}"))
    }
}
