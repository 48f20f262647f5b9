//! The kinds of faults, how often each is to come, and how often each came.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

macro_rules! faults {
    ($($(#[doc = $doc:literal])* $kind:ident = $name:literal,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault {
            $($(#[doc = $doc])* $kind,)*
        }

        impl Fault {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// What it does.
            pub const fn what(self) -> &'static str {
                match self {
                    $(Self::$kind => concat!($($doc),*),)*
                }
            }
        }
    };
}

faults! {
    /// A message is lost.
    Loss = "loss",
    /// A message arrives twice, each time on its own way.
    Duplication = "duplication",
    /// A message is held up for seconds.
    Delay = "delay",
    /// A message overtakes one that was sent before it.
    Reordering = "reordering",
    /// A message arrives damaged: its decoder is run on the bytes, and the connection breaks.
    Garbling = "garbling",
    /// A message arrives after the process that sent it has ended: what a connection holds outlives it.
    LastWords = "last-words",
    /// A way holds up all that is sent on it for a time, and then lets it through at once.
    Clog = "clog",
    /// Two nodes are cut from one another, and others reach both.
    Cut = "cut",
    /// One node is cut from two others, and meets them again one after the other.
    CutTwo = "cut-two",
    /// One node's messages no longer reach another, whose own still arrive.
    CutWay = "cut-way",
    /// The cluster is cut in two.
    Split = "split",
    /// One node is cut off from all others.
    Isolation = "isolation",
    /// A node answers late: whatever reaches it or leaves it takes a while.
    Slowness = "slowness",
    /// A node is stopped and goes on later, as if nothing had been.
    Pause = "pause",
    /// A process is killed; what it had appended is there.
    ProcessCrash = "process-crash",
    /// A machine stops: what was not synced is lost, kept, or torn.
    MachineCrash = "machine-crash",
    /// A machine that stopped lost bytes of its log, at whatever byte.
    TornLog = "torn-log",
    /// A crash in the middle of a checkpoint.
    TornCheckpoint = "torn-checkpoint",
    /// The disk refuses one batch of the log, or one checkpoint.
    RefusedWrite = "refused-write",
    /// A batch is appended and its sync fails.
    FailedSync = "failed-sync",
    /// A row is written over with another one's bytes.
    MisdirectedWrite = "misdirected-write",
    /// A byte of a row changes on the disk.
    RowRot = "row-rot",
    /// A byte of the log changes on the disk of a node that is down.
    LogRot = "log-rot",
    /// The disk is full for a time.
    FullDisk = "full-disk",
    /// The disk can only be read for a time.
    ReadOnlyDisk = "read-only-disk",
    /// Writes of the log take up to seconds for a time.
    SlowSync = "slow-sync",
    /// A node starts again with an empty disk.
    WipedDisk = "wiped-disk",
    /// A node starts again with what its disk held some time ago.
    OldDisk = "old-disk",
    /// A node goes on with a copy of its disk, later with the first again, and so on.
    ClonedDisk = "cloned-disk",
    /// An outbox says that it keeps a delta, and does not.
    LostHint = "lost-hint",
    /// An outbox holds as much for an owner as it may, and refuses more.
    FullHints = "full-hints",
    /// An engine holds as many rows in memory as it may until a checkpoint is through, and refuses writes.
    FullMemory = "full-memory",
    /// A wall clock jumps.
    ClockJump = "clock-jump",
    /// A wall clock runs fast or slow.
    ClockDrift = "clock-drift",
    /// A node joins.
    Join = "join",
    /// A member leaves, or comes back.
    Leave = "leave",
    /// A member gets another weight.
    Weight = "weight",
    /// A member is killed for good and removed.
    Removal = "removal",
    /// A member is killed for good, and a new one takes its places.
    Replacement = "replacement",
    /// Nodes are started again one by one, in a build whose messages those of the build before refuse, and the
    /// other way round.
    Upgrade = "upgrade",
    /// The same with a build that speaks the version of before as well: all work together meanwhile. Sometimes the
    /// first goes back to the build before, once.
    NextVersion = "next-version",
    /// Some nodes founded a ring of their own, under the same name.
    RingsApart = "rings-apart",
    /// All nodes of one of two rings leave it and join the other with what they hold.
    Merge = "merge",
    /// More requests at once than a node takes.
    Flood = "flood",
    /// A client presents a context that no node made.
    ForgedContext = "forged-context",
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied();
        known
            .clone()
            .find(|fault| fault.name() == text)
            .ok_or_else(|| format!("no fault {text:?}; one of {:?}", known.collect::<Vec<_>>()))
    }
}

/// How often faults begin: chances at each request, in a thousand. The sum is at most a thousand.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Rates(BTreeMap<Fault, u32>);

impl Rates {
    /// The same with another chance of a fault.
    #[must_use]
    pub fn with(mut self, fault: Fault, per_mille: u32) -> Self {
        self.set(fault, per_mille);
        self
    }

    /// Changes the chance of a fault.
    pub fn set(&mut self, fault: Fault, per_mille: u32) {
        if per_mille == 0 {
            self.0.remove(&fault);
        } else {
            self.0.insert(fault, per_mille);
        }
    }

    /// The chance of a fault.
    pub fn of(&self, fault: Fault) -> u32 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// The fault that a number below a thousand stands for, if one.
    pub(crate) fn pick(&self, mut dice: u64) -> Option<Fault> {
        for (&fault, &rate) in &self.0 {
            match dice.checked_sub(u64::from(rate)) {
                Some(left) => dice = left,
                None => return Some(fault),
            }
        }
        None
    }
}

impl fmt::Debug for Rates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often each fault came.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Strikes(BTreeMap<Fault, u64>);

impl Strikes {
    /// Counts one.
    pub(crate) fn count(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (&fault, &count) in &other.0 {
            *self.0.entry(fault).or_default() += count;
        }
    }

    /// How often a fault came.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// The faults that did not come.
    pub fn missing(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|&fault| self.of(fault) == 0).collect()
    }
}

impl fmt::Debug for Strikes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, Rates};

    #[test]
    fn a_name_is_read_back_as_its_fault() {
        for &fault in Fault::ALL {
            assert_eq!(fault.name().parse(), Ok(fault));
        }
        assert!("thunder".parse::<Fault>().is_err());
    }

    #[test]
    fn each_fault_has_its_share_of_the_dice() {
        let rates = Rates::default().with(Fault::Cut, 2).with(Fault::Pause, 3);
        let picked: Vec<_> = (0..6).map(|dice| rates.pick(dice)).collect();
        let (cut, pause) = (Some(Fault::Cut), Some(Fault::Pause));
        assert_eq!(picked, [cut, cut, pause, pause, pause, None]);
    }
}
