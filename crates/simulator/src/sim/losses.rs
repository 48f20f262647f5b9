//! Takes note of who owns what, as anybody knows it, and of what is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::NodeId;
use ring::{Partition, Ring, Token};
use storage::{Table, row_token};
use values::Key;

use super::Sim;
use crate::losses::{Loss, Losses, Lost};

/// Who was an owner so far, as any node knew it.
#[derive(Debug, Default)]
pub(super) struct Owned {
    by: BTreeMap<Partition, BTreeSet<NodeId>>,
    /// The present owners of each partition of a ring, as they were known first,
    first: BTreeMap<(usize, Partition), BTreeSet<NodeId>>,
    /// and partitions that others owned since.
    moved: BTreeSet<Partition>,
}

/// What befell a node's disk.
#[derive(Debug)]
pub(super) enum Damage {
    /// All may be gone. What it owned so far, and what had moved.
    Disk { owned: BTreeSet<Partition>, moved: BTreeSet<Partition> },
    /// A row of a key,
    Row(Token),
    /// or of what is kept for an owner of it.
    Hint(Token),
}

/// Something that was lost.
#[derive(Debug)]
pub(super) struct Noted {
    node: usize,
    at_ms: u64,
    damage: Damage,
    owners: BTreeMap<Partition, usize>,
}

impl Sim {
    /// Takes note of whom a node takes for owners, if that changed.
    pub(super) fn watch_owners(&mut self, node: usize) {
        let Some(ownership) = self.ownership(node) else { return };
        let is_known = |known: &Arc<_>| Arc::ptr_eq(known, ownership);
        if self.nodes[node].owners_known.as_ref().is_some_and(is_known) || self.is_searching(node) {
            return;
        }
        let ownership = ownership.clone();
        let (n, ring) = (self.owners_max(), self.ring_of(node));
        for partition in ownership.partition_count().iter() {
            let owners = |ring: &Ring| -> BTreeSet<NodeId> { ring.owners(partition, n).collect() };
            let present = owners(ownership.present(partition));
            let others = [ownership.beside(partition), ownership.coming(partition)];
            let others = others.into_iter().flatten().flat_map(owners);
            let all: BTreeSet<NodeId> = present.iter().copied().chain(others).collect();
            self.owned.by.entry(partition).or_default().extend(all);
            let first =
                self.owned.first.entry((ring, partition)).or_insert_with(|| present.clone());
            if *first != present {
                self.owned.moved.insert(partition);
            }
        }
        self.nodes[node].owners_known = Some(ownership);
    }

    /// As many owners as a key of any bucket has.
    fn owners_max(&self) -> usize {
        let second = self.options.second.map_or(0, |policy| policy.n);
        usize::from(self.options.policy.n.max(second))
    }

    /// Takes note that a node lost what its disk held, or some of it.
    pub(crate) fn note_lost(&mut self, node: usize) {
        let id = self.nodes[node].id;
        let owned = self.owned.by.iter().filter(|(_, owners)| owners.contains(&id));
        let owned = owned.map(|(&partition, _)| partition).collect();
        let moved = self.owned.moved.clone();
        self.note_damage(node, Damage::Disk { owned, moved });
    }

    /// Takes note that a node begins anew with an empty disk. Only one that lost something has a reason to.
    pub(super) fn note_anew(&mut self, node: usize) {
        if self.losses.iter().any(|lost| lost.node == node) {
            self.note_lost(node);
        }
    }

    /// Takes note that a row of a node's index was damaged.
    pub(super) fn note_row(&mut self, node: usize, table: Table, row: &[u8]) {
        let Some(token) = row_token(table, row) else { return };
        match table {
            // They are of no key, and hold nothing that its rows do not tell: they are counted anew.
            Table::Tree => {}
            Table::Outbox => self.note_damage(node, Damage::Hint(token)),
            _ => self.note_damage(node, Damage::Row(token)),
        }
    }

    /// Takes note that an outbox does not keep what it said it keeps of a key.
    pub(super) fn note_hint(&mut self, node: usize, key: &Key) {
        self.note_damage(node, Damage::Hint(Token(key.identifier())));
    }

    fn note_damage(&mut self, node: usize, damage: Damage) {
        let is_of_copies = !matches!(damage, Damage::Hint(_));
        let known = (0..self.nodes.len()).filter(|&node| is_of_copies && !self.is_searching(node));
        let (n, mut owners) = (self.owners_max(), BTreeMap::new());
        for ownership in known.filter_map(|node| self.ownership(node)) {
            for partition in ownership.partition_count().iter() {
                let count = ownership.present(partition).owners(partition, n).count();
                let fewest = owners.entry(partition).or_insert(count);
                *fewest = count.min(*fewest);
            }
        }
        self.losses.push(Noted { node, at_ms: self.now_ms, damage, owners });
    }

    /// What was lost of a key.
    pub(crate) fn losses_of(&self, key: &Key) -> Losses {
        let token = Token(key.identifier());
        let partition = self.rings[0].partition(token);
        let lost = self.losses.iter().filter_map(|noted| {
            let of = match &noted.damage {
                Damage::Disk { owned, moved } if owned.contains(&partition) => {
                    Lost::Disk { has_moved: moved.contains(&partition) }
                }
                Damage::Disk { .. } => Lost::Hints,
                Damage::Row(of) if *of == token => Lost::Row,
                Damage::Hint(of) if *of == token => Lost::Hints,
                Damage::Row(_) | Damage::Hint(_) => return None,
            };
            let owners = noted.owners.get(&partition).copied().unwrap_or(usize::MAX);
            Some(Loss { node: noted.node, at_ms: noted.at_ms, of, owners })
        });
        Losses(lost.collect())
    }
}
