//! Bugs that can be put back: known ones of this code and of others of its kind, each a condition at
//! one place of the product, so that the simulator can show that it would find them.
//!
//! Without the feature `armed`, which only the simulator's program and tests ask for, [`is`] is the
//! constant `false`, and the compiler leaves nothing of what stands behind it.

macro_rules! bugs {
    ($($bug:ident, $name:literal, $class:literal, $what:literal;)*) => {
        /// A bug that can be put back.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $(#[doc = $what] $bug,)*
        }

        impl Bug {
            /// Every bug.
            pub const ALL: &[Self] = &[$(Self::$bug,)*];

            /// Its name, by which it is put back.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$bug => $name,)* }
            }

            /// What kind of bug it is, in the history of systems like this one.
            pub const fn class(self) -> &'static str {
                match self { $(Self::$bug => $class,)* }
            }

            /// What it does.
            pub const fn what(self) -> &'static str {
                match self { $(Self::$bug => $what,)* }
            }
        }
    };
}

bugs! {
    EpochSurvivesRestart, "epoch-survives-restart", "lost clock, cloned disk, reused counter (kv679)",
        "a process mints under the actors of the process before it";
    EpochSurvivesFailure, "epoch-survives-failure", "dot reuse after a failed write",
        "a failed batch raises no doubt about the actors that minted in it";
    AheadIsNoDoubt, "ahead-is-no-doubt", "amnesia of a coordinator (kv679 by fallbacks)",
        "a dot of one's own that comes from elsewhere raises no doubt";
    ForgedContextsTaken, "forged-contexts-taken", "forged context",
        "the MAC of a context token is not looked at";
    GenerationStays, "generation-stays", "generation going backwards",
        "a node of whom its peers know a later start goes on in the generation that it has";
    ContextsPruned, "contexts-pruned", "unsafe pruning",
        "of a context of more than ten actors the first is dropped when it is merged";
    GapsFilled, "gaps-filled", "gapped dots",
        "a dot that was seen counts as if all before it were";
    LateAddsDropped, "late-adds-dropped", "gapped dots",
        "a join drops an add that comes after a later one of the same actor";
    RemovedComesBack, "removed-comes-back", "remove before add, zombie",
        "a join takes in what was seen and removed";
    DeletedForgotten, "deleted-forgotten", "doomstone, zombie",
        "a replica forgets a deleted key at once, and asks nobody";
    ForgottenUnequal, "forgotten-unequal", "zombie, tombstone collected too early",
        "a member says that its replica is the same as others' without comparing them";
    ForgottenWithHints, "forgotten-with-hints", "zombie out of a hint",
        "what is left of deleted keys is forgotten while writes are pending and under way";
    OldDiskMerged, "old-disk-merged", "zombie out of an old backup",
        "a member with a disk from before what others have forgotten goes on with it";
    TakenBackComesBack, "taken-back-comes-back", "expired zombie",
        "a join takes in a schedule that was seen and taken back";
    DueTakesBeside, "due-takes-beside", "expiry of what was written later",
        "a removal of what is due takes the key whole, with what was written beside it";
    DueByOneView, "due-by-one-view", "expiry by one replica's view",
        "an owner removes what is due by what it alone shows";
    HoleTakenForWhole, "hole-taken-for-whole", "zombie out of a damaged log",
        "a member whose log lost records from before what others have forgotten goes on with what is left";
    DeleteTakesUnseen, "delete-takes-unseen", "delete concurrent with put",
        "a delete removes siblings that its client has not seen";
    PutKeepsSeen, "put-keeps-seen", "sibling explosion",
        "a put leaves the siblings that its client has seen";
    AddReplaces, "add-replaces", "lost add",
        "an add to a cart takes away the adds that were seen of the item";
    RemovalTakesOne, "removal-takes-one", "element back",
        "a removal from a set takes one dot of each element";
    RemovalTakesShared, "removal-takes-shared", "removal undone with a disk",
        "a removal takes what all who were asked show to be there, and leaves what one of them has seen removed";
    FieldKeepsIncrements, "field-keeps-increments", "map counter reset",
        "a removal of a field leaves its increments";
    ResetForgetsDecrements, "reset-forgets-decrements", "counter reset",
        "a reset takes increments away and leaves decrements";
    SumsUnchecked, "sums-unchecked", "counter overflow",
        "an increment is taken though the sum that it makes does not fit 64 bits";
    SumsWrap, "sums-wrap", "counter overflow",
        "a sum that concurrent increments took beyond 64 bits wraps around";
    FirstResetStays, "first-reset-stays", "counter reset",
        "a merge keeps the first reset that it hears of";
    LastMergedWins, "last-merged-wins", "last writer wins without an order",
        "a register takes the other base, earlier or later";
    TiesStay, "ties-stay", "equal stamps without an order",
        "of two sets of a register with the same stamp each replica keeps its own";
    ClockDecides, "clock-decides", "wrong clocks",
        "a set takes the clock's time though it was shown a later one";
    FarFutureTaken, "far-future-taken", "a client's stamp from the far future",
        "a client's own stamp is taken however far ahead it lies";
    OtherTypeDropped, "other-type-dropped", "type conflict",
        "a replica drops what it hears of a key of another type than it holds of it";
    NameUsedTwice, "name-used-twice", "counter drift by retries",
        "a name that was used is not recognised";
    ClearingTakesLive, "clearing-takes-live", "clearing",
        "a clearing also takes what its delta holds";
    RowsNotWritten, "rows-not-written", "lost rows",
        "a merge of a collection writes no element rows";
    TreeMissesChange, "tree-misses-change", "false equal",
        "a change of a key that was there is not counted in the hash tree";
    LeavesUncounted, "leaves-uncounted", "false equal",
        "leaves of hash trees are never counted anew, whatever a disk did to the rows under them";
    TreeHashesLocal, "tree-hashes-local", "false different",
        "a hash tree also hashes what only this replica says of a key, such as how old a remnant is";
    ChunkMissesElement, "chunk-misses-element", "false equal",
        "an element that is written is not counted in its collection's hash tree";
    CountMissesWrites, "count-misses-writes", "write during a rebuild",
        "while a large collection is counted, writes to what is counted already are missed";
    AckBeforeCommit, "ack-before-commit", "acknowledged before durable",
        "no acknowledgement waits for the log";
    ReplicaAcksBeforeCommit, "replica-acks-before-commit", "acknowledged before durable",
        "a replica's acknowledgement does not wait for the log";
    NoSync, "no-sync", "crash without fsync",
        "the log is appended to and not synced";
    FailureTakenForSuccess, "failure-taken-for-success", "full disk",
        "a batch that the disk refused counts as written";
    HintBeforeCommit, "hint-before-commit", "substitute dies with the hint",
        "a hint is acknowledged before it is durable";
    RefusedHintCounts, "refused-hint-counts", "full hint store",
        "a hint that the disk refused counts as kept";
    HintDroppedEarly, "hint-dropped-early", "lost hint",
        "a hint is dropped though it has grown since it was sent";
    HintsKeepAddress, "hints-keep-address", "hint to a node that was replaced",
        "what is kept for a node that owns the key no more is kept for it all the same";
    NoHints, "no-hints", "lost hint",
        "nothing is kept for an owner that stays silent";
    OneAckTooMany, "one-ack-too-many", "quorum count",
        "a write counts one acknowledgement that nobody gave";
    OneAnswerTooMany, "one-answer-too-many", "quorum count",
        "a read counts one owner that showed nothing";
    RemovalObservesNobody, "removal-observes-nobody", "removal of what was not seen",
        "a removal looks at its own replica only";
    FallbacksObserved, "fallbacks-observed", "removal of what was not seen",
        "a removal counts fallbacks among the owners that showed what they hold";
    CopiesDoneTwice, "copies-done-twice", "duplicated request",
        "a forwarded request that the network copies is done twice";
    MadeSaidRefused, "made-said-refused", "unknown said to be failed",
        "a write that was made is answered as failed when its disk refuses it";
    SilenceAwaited, "silence-awaited", "half-open connection",
        "a request has no deadline: what a silent peer does not answer is waited for";
    RequestsUnbounded, "requests-unbounded", "unbounded queue",
        "a core takes every request, however many are under way";
    HintsUnbounded, "hints-unbounded", "unbounded queue",
        "an outbox takes every delta, however much it holds for the owner";
    FoldedApart, "folded-apart", "names forgotten too early",
        "of two tallies of which one folded more than the other each is joined as it is";
    FoldedAtOnce, "folded-at-once", "names forgotten too early",
        "a name is folded in the round after the one in which it was made";
    ResetLeavesFolded, "reset-leaves-folded", "counter reset",
        "a reset says nothing of what was reset before and is about to be folded";
    SealStands, "seal-stands", "epoch forgotten too early",
        "an actor that writes on is sealed all the same";
    LiveSealed, "live-sealed", "epoch forgotten too early",
        "an actor is sealed though something that it wrote is live";
    SealsKept, "seals-kept", "contexts that grow",
        "what is sealed is never forgotten";
    NamesUnbounded, "names-unbounded", "unbounded table of names",
        "a key takes every name, however many it remembers";
    OneSideCounts, "one-side-counts", "concurrent joins",
        "during a handover the owners of the other side are not counted";
    StrangersServe, "strangers-serve", "sleeper that believes it owns",
        "a node answers as an owner by a tenure that is over";
    RemovalUntold, "removal-untold", "gossip resurrection",
        "nodes that missed a removal are not told of it, and go on with the member";
    SuspectedWhenLate, "suspected-when-late", "suspicion that flaps",
        "a member is suspected when it is only doubted: at a heartbeat that is late";
    DroppedUnheld, "dropped-unheld", "data lost in a handover",
        "a former owner drops its copy without asking the new owners";
    RingsNotRefused, "rings-not-refused", "two rings bootstrapped apart",
        "a node takes what a node of another cluster says";
    TenuresSurviveMerge, "tenures-survive-merge", "two rings bootstrapped apart",
        "a node that joins another ring goes on by the plans and tenures of the one that it left";
    NothingCompared, "nothing-compared", "anti-entropy that does nothing",
        "what a comparison finds is taken for equal";
}

impl std::str::FromStr for Bug {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().copied().find(|bug| bug.name() == text);
        known.ok_or_else(|| format!("no bug {text:?}: see docs/explanation/breaks.md"))
    }
}

#[cfg(feature = "armed")]
mod armed {
    use std::cell::Cell;

    use super::Bug;

    thread_local! {
        static ARMED: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Whether `bug` was put back, in this thread.
    pub fn is(bug: Bug) -> bool {
        ARMED.get() == Some(bug)
    }

    /// Puts a bug back in this thread, in place of any other; `None` for none.
    pub fn arm(bug: Option<Bug>) {
        ARMED.set(bug);
    }
}

#[cfg(feature = "armed")]
pub use armed::{arm, is};

/// Whether `bug` was put back: never.
#[cfg(not(feature = "armed"))]
#[must_use]
#[inline(always)]
pub const fn is(_: Bug) -> bool {
    false
}

#[cfg(not(feature = "armed"))]
const _: () = assert!(!is(Bug::NoSync), "no build without the feature has a bug");
