//! What each other node is known to have of the ownership, and what it is told.
//!
//! A node whose link comes up is told this node's digest. If its own is another one it answers with all that it has, and
//! if something is lacking in that it is told the whole. From then on it is *followed*: it is told what changes, and it
//! is known up to which change it has all on its disk. It answers with all that it has if it was told a tenure of a plan
//! that it does not have (plans that no tenure of a node names are forgotten by it), and is told the whole once more.
//!
//! What is known of it is forgotten, and it is asked as one whose link came up, when its link goes down (its disk may be
//! another one), when it does not answer (what it was told last it may have or not), and when its digest has been
//! another one for long.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use ring::{Ownership, Partition};
use storage::StorageError;
use xxhash_rust::xxh3;

use super::{RETRY_MS, Wait};
use crate::{
    Body, KnownOwnership,
    turn::{Turn, Waiter},
};

/// If this part of all tenures changed, the whole state is no longer than they: alone, each names its plans in full.
const TENURES_PART: u32 = 4;
/// After so long in which a node never had just what this one has it is asked anew, in milliseconds: whatever it was told
/// and does not have it gets then. A guess: what is told is known much sooner, and the whole is seldom sent for nothing.
const DIFFERING_MS: u64 = 10_000;

/// What is under way to a node.
#[derive(Debug)]
struct Sent {
    number: u64,
    /// The digest of the state that was told, and the last change that it had.
    digest: u128,
    change: u64,
    is_whole: bool,
    /// When it is taken for lost.
    retry_at: u64,
}

/// A node whose link is up.
#[derive(Debug, Default)]
struct Peer {
    /// The digest of its state, as it last said; `None` if it did not since its link came up.
    digest: Option<u128>,
    /// Since when it has been another one than this node's.
    differs_since: Option<u64>,
    /// Partitions whose tenure it may lack, and whether it may lack a plan.
    lacking: BTreeSet<Partition>,
    lacks_plans: bool,
    sent: Option<Sent>,
    /// The last change of this node's state that it is known to have on its disk, with all before it; 0 while it is not
    /// followed. What changed since is under way, or kept above.
    knows: u64,
}

impl Peer {
    /// It has all that this node had after `change`, the last one.
    fn has_all(&mut self, change: u64) {
        self.lacking.clear();
        self.lacks_plans = false;
        self.knows = change;
    }
}

/// The nodes whose links are up.
#[derive(Debug)]
pub(super) struct Peers {
    peers: BTreeMap<NodeId, Peer>,
    /// Of the state.
    digest: u128,
    /// How often the state changed.
    changes: u64,
    /// Whether nothing changed since the cluster was made: whoever knows of a change says so.
    is_first: bool,
}

/// The same for equal states only.
pub(super) fn digest(ownership: &Ownership) -> u128 {
    digest_of(&clock::encode(ownership))
}

/// That of an encoded state.
pub(super) fn digest_of(encoded: &[u8]) -> u128 {
    xxh3::xxh3_128(encoded)
}

impl Peers {
    pub(super) fn new(ownership: &Ownership) -> Self {
        // Nodes begin with 0: what was there at the start they may not have.
        let (digest, is_first) = (digest(ownership), ownership.is_first());
        Self { peers: BTreeMap::new(), digest, changes: 1, is_first }
    }

    pub(super) const fn digest(&self) -> u128 {
        self.digest
    }

    pub(super) const fn last_change(&self) -> u64 {
        self.changes
    }

    pub(super) fn link_up(&mut self, node: NodeId) {
        self.peers.insert(node, Peer::default());
    }

    pub(super) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        if let Some(Peer { sent: Some(sent), .. }) = self.peers.remove(&node) {
            turn.shared.forget_ask(sent.number);
        }
    }

    /// The state changed, and has another digest: everybody may lack what is new in it.
    pub(super) fn changed(&mut self, before: &Ownership, after: &Ownership, digest: u128) {
        let count = after.partition_count();
        let is_new = |partition: &Partition| before.tenure(*partition) != after.tenure(*partition);
        let partitions: Vec<Partition> = count.iter().filter(is_new).collect();
        let has_plans = before.target().id() != after.target().id();
        let tenures_max = (count.get() / TENURES_PART) as usize;
        self.digest = digest;
        self.is_first = after.is_first();
        self.changes += 1;
        for peer in self.peers.values_mut() {
            peer.lacking.extend(&partitions);
            peer.lacks_plans |= has_plans || peer.lacking.len() > tenures_max;
        }
    }

    /// Whether a node has had this node's state, and so is told whatever it lacks of it.
    pub(super) fn is_followed(&self, node: NodeId) -> bool {
        self.peers.get(&node).is_some_and(|peer| peer.knows > 0)
    }

    /// A node said the digest of its state.
    pub(super) fn said(&mut self, node: NodeId, digest: u128) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.digest = Some(digest);
        }
    }

    /// Tells nodes what they may lack. One of which nothing is known is asked what it has.
    pub(super) fn tell(&mut self, ownership: &Ownership, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        if self.is_first {
            return;
        }
        for (&node, peer) in &mut self.peers {
            if peer.digest == Some(self.digest) {
                peer.differs_since = None;
                peer.has_all(self.changes);
                continue;
            }
            let differs_since = *peer.differs_since.get_or_insert(now);
            if peer.sent.is_some() {
                continue;
            }
            if now >= differs_since.saturating_add(DIFFERING_MS) {
                *peer = Peer { differs_since: Some(now), ..Peer::default() };
            } else if peer.knows == self.changes {
                // It has more, which it tells itself.
                continue;
            }
            let is_whole = std::mem::take(&mut peer.lacks_plans);
            let whole = is_whole.then(|| Box::new(ownership.clone()));
            let lacking = std::mem::take(&mut peer.lacking);
            let tenures = lacking.into_iter().filter(|_| whole.is_none());
            let tenures = tenures.map(|partition| (partition, ownership.tenure(partition)));
            let body = Body::Ownership { digest: self.digest, tenures: tenures.collect(), whole };
            let waiter = Waiter::Keeper(Wait::Told(node));
            let budget_ms = u32::try_from(RETRY_MS).unwrap_or(u32::MAX);
            let number = turn.ask(node, waiter, budget_ms, body);
            let retry_at = now.saturating_add(RETRY_MS);
            let (digest, change) = (self.digest, self.changes);
            peer.sent = Some(Sent { number, digest, change, is_whole, retry_at });
        }
    }

    /// Takes a node's answer. Returns what it has, where that differs.
    pub(super) fn answered(
        &mut self,
        node: NodeId,
        known: Result<KnownOwnership, StorageError>,
        ownership: &Ownership,
        turn: &Turn<'_>,
    ) -> Option<Box<Ownership>> {
        let peer = self.peers.get_mut(&node)?;
        let sent = peer.sent.take()?;
        let Ok(KnownOwnership { digest, whole }) = known else {
            // Its disk, or its queue, is full: later.
            let retry_at = turn.now.monotonic_ms.saturating_add(RETRY_MS);
            peer.sent = Some(Sent { retry_at, ..sent });
            return None;
        };
        peer.digest = Some(digest);
        let has_what_was_sent = digest == sent.digest || sent.is_whole || peer.knows > 0;
        match &whole {
            // Of what it has it may have said since that it is all.
            None if has_what_was_sent => peer.knows = peer.knows.max(sent.change),
            None => peer.lacks_plans = true,
            Some(whole) if Ownership::clone(whole).join(ownership).is_changed() => {
                peer.lacks_plans = true;
            }
            Some(_) => peer.has_all(self.changes),
        }
        whole
    }

    /// Forgets what is known of those that did not answer.
    pub(super) fn time(&mut self, turn: &mut Turn<'_>) {
        for peer in self.peers.values_mut() {
            let due = |sent: &mut Sent| turn.now.monotonic_ms >= sent.retry_at;
            if let Some(sent) = peer.sent.take_if(due) {
                turn.shared.forget_ask(sent.number);
                *peer = Peer::default();
            }
        }
    }

    /// When something is taken for lost, or was another one for long.
    pub(super) fn wake_at(&self) -> Option<u64> {
        let wake_at = |peer: &Peer| match &peer.sent {
            Some(sent) => Some(sent.retry_at),
            None if self.is_first => None,
            None => Some(peer.differs_since?.saturating_add(DIFFERING_MS)),
        };
        self.peers.values().filter_map(wake_at).min()
    }

    /// Whether every node in reach has the change on its disk.
    pub(super) fn all_know(&self, change: u64) -> bool {
        self.peers.values().all(|peer| peer.knows >= change)
    }

    /// Whether there are nodes in reach and all have the last change.
    pub(super) fn have_all(&self) -> bool {
        !self.peers.is_empty() && self.all_know(self.changes)
    }

    /// How many nodes in reach have.
    pub(super) fn count(&self, change: u64) -> usize {
        self.peers.values().filter(|peer| peer.knows >= change).count()
    }
}
