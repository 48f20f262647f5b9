//! Observing before a removal: what r replicas show of the thing named, gathered before anything
//! is written ("seen before removed").
//!
//! Invariant: all that is gathered was shown before the removal existed anywhere. So whatever
//! follows the removal, because its writer saw it done at some replica, is not among it and is not
//! taken away.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use sabotage::Bug;
use storage::StorageError;
use values::{Scope, View};

use super::super::Terms;
use crate::{
    Body,
    latency::Work,
    turn::{Part, PartKind, Turn},
};

/// What is observed for one write; of a write that removes nothing observed, nothing.
#[derive(Debug)]
pub(super) struct Observation {
    scope: Scope,
    /// Owners to hear of, this node included if it is one.
    needed: u8,
    /// Owners that showed what they hold, this node included if it is one.
    owners: u8,
    /// How often the owners became others.
    round: u32,
    /// Nodes that showed that they know the operation, which has a name.
    knowing: BTreeSet<NodeId>,
    asked: BTreeSet<NodeId>,
    pending: BTreeSet<NodeId>,
    /// What each node showed.
    views: BTreeMap<NodeId, View>,
    is_hedged: bool,
    gave_up: bool,
    wake_at: u64,
}

impl Observation {
    /// Of `scope` at `needed` owners; at none if `needed` is 0.
    pub(super) fn new(scope: Scope, needed: u8) -> Self {
        Self {
            scope,
            needed,
            owners: 0,
            round: 0,
            knowing: BTreeSet::new(),
            asked: BTreeSet::new(),
            pending: BTreeSet::new(),
            views: BTreeMap::new(),
            is_hedged: false,
            gave_up: false,
            wake_at: 0,
        }
    }

    /// Asks as many nodes as are needed. This node's own replica is looked at when the removal is
    /// made.
    pub(super) fn begin(&mut self, terms: &Terms, turn: &mut Turn<'_>) {
        self.owners = u8::from(terms.owners.contains(&turn.me()));
        self.ask_next(usize::from(self.needed.saturating_sub(self.owners)), terms, turn);
        // Half of the time is left to the write itself.
        let latest = turn.now.monotonic_ms.saturating_add(u64::from(terms.budget_ms(turn)) / 4);
        let delays = self.pending.iter().map(|&node| turn.cover_at(node, Work::Read));
        self.wake_at = delays.max().unwrap_or(latest).min(latest);
    }

    /// Asks the owners of now, `needed` of them, unless enough showed what they hold. What those before showed is
    /// kept: it was there. Who was asked by another tenure, as a fallback perhaps, and answers late, does not count.
    pub(super) fn rerouted(&mut self, needed: u8, terms: &Terms, turn: &mut Turn<'_>) {
        if !self.is_over() {
            self.needed = needed;
            self.round += 1;
            self.asked.clear();
            self.pending.clear();
            self.begin(terms, turn);
        }
    }

    /// Takes what a node shows, or asks another one in its place. `knows` says whether it shows that it knows the
    /// operation.
    pub(super) fn shown(
        &mut self,
        part: Part,
        shown: Result<View, StorageError>,
        knows: bool,
        terms: &Terms,
        turn: &mut Turn<'_>,
    ) {
        let node = part.node;
        if part.round != self.round || !self.pending.remove(&node) {
            return;
        }
        match shown {
            Ok(view) => {
                let counts = sabotage::is(Bug::FallbacksObserved) || terms.owners.contains(&node);
                self.owners += u8::from(counts);
                if knows {
                    self.knowing.insert(node);
                }
                self.views.insert(node, view);
            }
            Err(_) => self.ask_next(1, terms, turn),
        }
    }

    pub(super) fn link_down(&mut self, node: NodeId, terms: &Terms, turn: &mut Turn<'_>) {
        if self.pending.remove(&node) {
            self.ask_next(1, terms, turn);
        }
    }

    /// Silent nodes are first made up for by others, then no longer waited for.
    pub(super) fn time(&mut self, terms: &Terms, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        if self.is_over() || now < self.wake_at {
            return;
        }
        if self.is_hedged {
            self.gave_up = true;
            return;
        }
        self.is_hedged = true;
        let patience_ms =
            (u64::from(terms.budget_ms(turn)) / 3).min(u64::from(turn.shared.config.cover_ms));
        self.wake_at = now.saturating_add(patience_ms);
        self.ask_next(self.pending.len(), terms, turn);
    }

    /// Whether a node showed that it knows the operation.
    pub(super) fn is_known_to(&self, node: NodeId) -> bool {
        self.knowing.contains(&node)
    }

    /// Whether nothing more is waited for.
    pub(super) fn is_over(&self) -> bool {
        self.is_met() || self.pending.is_empty() || self.gave_up
    }

    /// Whether as many owners showed what they hold as were asked for.
    pub(super) const fn is_met(&self) -> bool {
        self.owners >= self.needed
    }

    pub(super) const fn wake_at(&self) -> u64 {
        self.wake_at
    }

    /// What each of other nodes showed. Whatever is shown after this was not observed.
    pub(super) fn take_views(&mut self) -> Vec<View> {
        self.pending.clear();
        std::mem::take(&mut self.views).into_values().collect()
    }

    /// Asks the next `count` nodes in reach: owners first, then those that may hold something for
    /// them.
    fn ask_next(&mut self, count: usize, terms: &Terms, turn: &mut Turn<'_>) {
        if count == 0 {
            return;
        }
        let me = turn.me();
        let is_next = |node: &NodeId| {
            *node != me && !self.asked.contains(node) && turn.shared.is_in_reach(*node)
        };
        let mut next: Vec<NodeId> = terms.owners.iter().copied().filter(is_next).collect();
        if next.len() < count {
            // The owners are the first nodes of this list.
            let list = turn.shared.preference_list(terms.partition);
            next = list.into_iter().filter(is_next).collect();
        }
        // Of owners those that answer; no fallback in place of one.
        next.sort_by_key(|node| (!terms.owners.contains(node), turn.is_silent(*node)));
        for node in next.into_iter().take(count) {
            self.asked.insert(node);
            self.pending.insert(node);
            let waiter = terms.waiter(self.round, node, PartKind::Ask);
            let body = Body::Read { key: terms.key.clone(), scope: self.scope.clone() };
            turn.ask_owner(node, waiter, terms.budget_ms(turn), terms.sequence, body);
        }
    }
}
