//! What each other node is known to have of the ownership, and what it is told.

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

/// Beyond so many partitions the whole state is no longer than what changed of it.
const TENURES_MAX: usize = 256;

/// What is under way to a node.
#[derive(Debug)]
struct Sent {
    number: u64,
    /// The digest of the state that was told, and the last change that it had.
    digest: u128,
    change: u64,
    /// When it is sent again.
    retry_at: u64,
}

/// A node whose link is up.
#[derive(Debug, Default)]
struct Peer {
    /// The digest of its state, as it last said; `None` if it did not since its link came up.
    digest: Option<u128>,
    /// Partitions whose tenure it may lack, and whether it may lack a plan.
    lacking: BTreeSet<Partition>,
    lacks_plans: bool,
    sent: Option<Sent>,
    /// The last change of this node's state that it has on its disk.
    knows: u64,
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
fn digest(ownership: &Ownership) -> u128 {
    xxh3::xxh3_128(&clock::encode(ownership))
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

    /// The state changed: everybody may lack what is new in it.
    pub(super) fn changed(&mut self, before: &Ownership, after: &Ownership) {
        let count = after.partition_count();
        let is_new = |partition: &Partition| before.tenure(*partition) != after.tenure(*partition);
        let partitions: Vec<Partition> = count.iter().filter(is_new).collect();
        let has_plans = before.target().id() != after.target().id();
        self.digest = digest(after);
        self.is_first = after.is_first();
        self.changes += 1;
        for peer in self.peers.values_mut() {
            peer.lacking.extend(&partitions);
            peer.lacks_plans |= has_plans || peer.lacking.len() > TENURES_MAX;
        }
    }

    /// The node said the digest that this node's state has.
    pub(super) fn agrees(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.digest = Some(self.digest);
            peer.lacking.clear();
            peer.lacks_plans = false;
            peer.knows = self.changes;
        }
    }

    /// Tells nodes what they may lack. One that was never heard of is asked what it has.
    pub(super) fn tell(&mut self, ownership: &Ownership, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        if self.is_first {
            return;
        }
        for (&node, peer) in &mut self.peers {
            if peer.sent.is_some() || peer.digest == Some(self.digest) {
                continue;
            }
            let whole = peer.lacks_plans.then(|| Box::new(ownership.clone()));
            let lacking = std::mem::take(&mut peer.lacking);
            let tenures = lacking.into_iter().filter(|_| whole.is_none());
            let tenures = tenures.map(|partition| (partition, ownership.tenure(partition)));
            let body = Body::Ownership { digest: self.digest, tenures: tenures.collect(), whole };
            let waiter = Waiter::Keeper(Wait::Told(node));
            let budget_ms = u32::try_from(RETRY_MS).unwrap_or(u32::MAX);
            let number = turn.ask(node, waiter, budget_ms, body);
            let retry_at = now.saturating_add(RETRY_MS);
            let (digest, change) = (self.digest, self.changes);
            peer.sent = Some(Sent { number, digest, change, retry_at });
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
            // Its disk, or its queue, is full: later, and then all.
            peer.lacks_plans = true;
            let retry_at = turn.now.monotonic_ms.saturating_add(RETRY_MS);
            peer.sent = Some(Sent { retry_at, ..sent });
            return None;
        };
        peer.digest = Some(digest);
        if digest == sent.digest {
            peer.knows = sent.change;
            peer.lacks_plans &= sent.digest != self.digest;
            return None;
        }
        let whole = whole?;
        if Ownership::clone(&whole).join(ownership).is_changed() {
            peer.lacks_plans = true;
        } else {
            peer.knows = self.changes;
        }
        Some(whole)
    }

    /// Has sent again what was not answered.
    pub(super) fn time(&mut self, turn: &mut Turn<'_>) {
        for peer in self.peers.values_mut() {
            let due = |sent: &mut Sent| turn.now.monotonic_ms >= sent.retry_at;
            if let Some(sent) = peer.sent.take_if(due) {
                turn.shared.forget_ask(sent.number);
                peer.lacks_plans = true;
            }
        }
    }

    /// When something is to be sent again.
    pub(super) fn wake_at(&self) -> Option<u64> {
        self.peers.values().filter_map(|peer| Some(peer.sent.as_ref()?.retry_at)).min()
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
