//! What administrators and the node's own shell order.

use super::Gossip;
use crate::entry::{LABEL_BYTES_MAX, is_text};
use crate::event::{Command, CommandError, Effect, Liveness};
use crate::peer::Peer;
use crate::values::VALUE_BYTES_MAX;
use crate::{About, ClusterId, News, Phase, RECORDS_MAX, Record};
use clock::NodeId;

impl Gossip {
    /// Follows an order. It is durable, and may be acknowledged, once the effects are done; it reaches the others
    /// by gossip.
    pub fn command(
        &mut self,
        now_ms: u64,
        command: Command,
        effects: &mut Vec<Effect>,
    ) -> Result<(), CommandError> {
        if self.over {
            return Err(CommandError::Ended);
        }
        match command {
            Command::Declare(phase) => self.declare(phase)?,
            Command::Describe(about) => self.describe(about)?,
            Command::Busy(load) => self.amend(|own| own.entry.load = load),
            Command::Remove(node) => self.remove(now_ms, node)?,
            Command::Publish { name, bytes } => {
                let bounded = is_text(&name, LABEL_BYTES_MAX) && bytes.len() <= VALUE_BYTES_MAX;
                if !bounded || !self.values.has_room_for(&name) {
                    return Err(CommandError::Value);
                }
                self.merge_value(&name, &bytes);
            }
            Command::MergeCluster(other) => self.merge_cluster(other)?,
        }
        self.flush(effects);
        Ok(())
    }

    fn declare(&mut self, to: Phase) -> Result<(), CommandError> {
        let from = self.own().entry.phase;
        match (from, to) {
            _ if from == to => return Ok(()),
            // Not straight to having left: one that came with data, from another ring or from a membership of
            // before, has something to hand over although it owns nothing.
            (Phase::Joining, Phase::Up | Phase::Leaving)
            | (Phase::Up, Phase::Leaving)
            | (Phase::Leaving, Phase::Up | Phase::Left) => (),
            _ => return Err(CommandError::Phase { from, to }),
        }
        self.amend(|own| {
            own.entry.phase = to;
            if to == Phase::Left {
                own.ended = own.ended.max(own.entry.incarnation.generation);
            }
        });
        Ok(())
    }

    fn describe(&mut self, about: About) -> Result<(), CommandError> {
        about.check()?;
        if about.name != self.own().entry.about.name {
            return Err(CommandError::Name);
        }
        self.amend(|own| own.entry.about = about);
        Ok(())
    }

    fn remove(&mut self, now_ms: u64, node: NodeId) -> Result<(), CommandError> {
        if node == self.config.node {
            return Err(CommandError::Own);
        }
        let Some(record) = self.table.get(node) else { return self.remove_unheard(now_ms, node) };
        if record.is_over() {
            return Ok(());
        }
        self.judge(now_ms, node);
        if self.peers[&node].liveness == Liveness::Reachable {
            return Err(CommandError::Reachable(node));
        }
        let record = self.table.get(node).expect("just seen");
        let ended = record.entry.incarnation.generation;
        let removed = Record { ended, ..record.clone() };
        let before = record.clone();
        self.table.merge(node, &removed);
        self.changed(node, Some(&before));
        Ok(())
    }

    /// Of one that nobody has a record of, for every disk with one was lost, others may still know something: its
    /// removal must reach them. It ends a first membership. Should a record of a later one turn up after all, that goes
    /// on, and is to be removed under its name.
    fn remove_unheard(&mut self, now_ms: u64, node: NodeId) -> Result<(), CommandError> {
        let is_there = |(&peer, known): (&NodeId, &Peer)| {
            peer != self.config.node && !known.said.is_over && known.liveness == Liveness::Reachable
        };
        if !self.agreed && self.peers.iter().any(is_there) {
            return Err(CommandError::Unheard(node));
        }
        if self.table.len() >= RECORDS_MAX {
            return Err(CommandError::Full);
        }
        let record = Record::removed(node);
        self.table.merge(node, &record);
        self.appeared(now_ms, &News { node, record, beat: 0, age_ms: 0 });
        Ok(())
    }

    fn merge_cluster(&mut self, other: ClusterId) -> Result<(), CommandError> {
        if self.ids.is_empty() {
            return Err(CommandError::NoCluster);
        }
        if self.ids.len() >= ClusterId::MERGED_MAX && !self.ids.contains(&other) {
            return Err(CommandError::TooManyClusters);
        }
        self.dirty |= self.ids.insert(other);
        Ok(())
    }
}
