//! Asking nodes where they stand: of many partitions in one question, since each costs the node that is
//! asked a sync of its disk.
//!
//! A node's cores share out its partitions, not as this node's do: the core that a question comes to answers of
//! its own ones, and of the others is asked once more.

use std::collections::BTreeMap;

use clock::NodeId;
use ring::Partition;

use super::Stands;
use crate::{
    Body, RequestId,
    turn::{Turn, Waiter},
};

/// Partitions of one question at most; what is beyond is not answered. A guess.
const PARTITIONS_MAX: usize = 256;
/// Partitions of which nodes are asked at once, each counted for each node. A guess.
const ASKED_MAX: usize = 1_024;

/// A partition of which a node was asked, or is to be.
#[derive(Clone, Copy, Debug)]
struct Asked {
    /// Of the question; none before it is sent, and where this node asks itself.
    number: Option<u64>,
    at_ms: u64,
    is_answered: bool,
}

/// The questions of one core.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Also what was answered: it is asked again at the next time, or once the tenure has changed.
    asked: BTreeMap<(Partition, NodeId), Asked>,
    /// Of those, what was not sent yet.
    next: BTreeMap<NodeId, Vec<Partition>>,
}

impl Questions {
    /// A node that can be reached is to be asked, unless it was.
    pub(super) fn want(&mut self, partition: Partition, node: NodeId, turn: &Turn<'_>) {
        let is_in_reach = node == turn.me() || turn.shared.links.contains(&node);
        let is_asked = self.asked.contains_key(&(partition, node));
        if is_asked || !is_in_reach || self.asked.len() >= ASKED_MAX {
            return;
        }
        let at_ms = turn.now.monotonic_ms;
        self.asked.insert((partition, node), Asked { number: None, at_ms, is_answered: false });
        self.next.entry(node).or_default().push(partition);
    }

    /// Sends what is to be asked of other nodes. Returns what this one is to be asked.
    pub(super) fn send(&mut self, turn: &mut Turn<'_>) -> Vec<Partition> {
        let mut of_me = Vec::new();
        for (node, partitions) in std::mem::take(&mut self.next) {
            if node == turn.me() {
                of_me = partitions;
                continue;
            }
            for partitions in partitions.chunks(PARTITIONS_MAX) {
                let body = Body::Stand { partitions: partitions.to_vec() };
                let budget_ms = turn.shared.config.timeout_ms;
                let number = turn.ask(node, Waiter::Handover, budget_ms, body);
                for &partition in partitions {
                    if let Some(asked) = self.asked.get_mut(&(partition, node)) {
                        asked.number = Some(number);
                    }
                }
            }
        }
        of_me
    }

    /// Whether a node was asked of a partition by the question of this number.
    fn is_of(&self, node: NodeId, partition: Partition, number: u64) -> bool {
        self.asked.get(&(partition, node)).is_some_and(|asked| asked.number == Some(number))
    }

    /// A node said where it stands.
    pub(super) fn answered(&mut self, node: NodeId, partition: Partition) {
        if let Some(asked) = self.asked.get_mut(&(partition, node)) {
            asked.is_answered = true;
        }
    }

    /// All that a question was answered was taken note of: what is left of it is of other cores.
    pub(super) fn ask_other_cores(&mut self, node: NodeId, number: u64, turn: &Turn<'_>) {
        let is_left = |(_, of): &(Partition, NodeId), asked: &mut Asked| {
            *of == node && asked.number == Some(number) && !asked.is_answered
        };
        let left = self.asked.extract_if(.., is_left).map(|((partition, _), _)| partition);
        for partition in left.collect::<Vec<_>>() {
            self.want(partition, node, turn);
        }
    }

    /// A partition's tenure has changed: who answered of it is to be asked again.
    pub(super) fn forget_answered(&mut self, partition: Partition) {
        let nodes = (partition, NodeId(0))..=(partition, NodeId(u64::MAX));
        self.asked.extract_if(nodes, |_, asked| asked.is_answered).for_each(drop);
    }

    /// It is time to ask again who answered, or did not for too long.
    pub(super) fn forget_late(&mut self, turn: &mut Turn<'_>) {
        let patience_ms = u64::from(turn.shared.config.timeout_ms);
        let now_ms = turn.now.monotonic_ms;
        self.forget(turn, |_, asked| {
            asked.is_answered || now_ms.saturating_sub(asked.at_ms) >= patience_ms
        });
    }

    /// A node cannot be reached any more.
    pub(super) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        self.next.remove(&node);
        self.forget(turn, |of, _| of == node);
    }

    fn forget(&mut self, turn: &mut Turn<'_>, is_over: impl Fn(NodeId, &Asked) -> bool) {
        for (_, asked) in self.asked.extract_if(.., |(_, of), asked| is_over(*of, asked)) {
            if let Some(number) = asked.number {
                turn.shared.forget_ask(number);
            }
        }
    }
}

impl super::Handover {
    /// A peer asks where this node stands, or this node itself. It is told once everything that is here now
    /// is durable.
    pub(crate) fn asked(
        &self,
        from: NodeId,
        id: RequestId,
        partitions: &[Partition],
        turn: &mut Turn<'_>,
    ) {
        let ownership = &turn.shared.ownership;
        let shards = &turn.shared.config.shards;
        let of_this_core = |at: &&Partition| shards.contains(shards.shards().of_partition(**at));
        let partitions = partitions.iter().take(PARTITIONS_MAX).filter(of_this_core);
        let stands = partitions.map(|&partition| {
            let pull = self.pulls.get(&partition);
            let ready = pull.filter(|pull| pull.is_ready(ownership)).map(super::Pull::goal);
            let sequence = ownership.sequence(partition);
            (partition, Stands { sequence, ready, classes: turn.shared.classes() })
        });
        let stands = stands.collect();
        turn.store(Waiter::Stands { from, id, stands }, storage::Command::Sync);
    }

    /// A peer said where it stands in some partitions, as it was asked by the question of this number.
    pub(crate) fn answered(
        &mut self,
        node: NodeId,
        number: u64,
        mut stands: Vec<(Partition, Stands)>,
        turn: &mut Turn<'_>,
    ) {
        stands.retain(|&(partition, _)| self.questions.is_of(node, partition, number));
        // Whoever answers of none would be asked for ever.
        let is_of_other_cores = !stands.is_empty();
        for (partition, stands) in stands {
            self.stood(node, partition, stands, turn);
        }
        if is_of_other_cores {
            self.questions.ask_other_cores(node, number, turn);
        }
    }

    /// Asks whatever is to be asked: in one question of each node what came up in a step.
    pub(crate) fn ask(&mut self, turn: &mut Turn<'_>) {
        let of_me = self.questions.send(turn);
        for partitions in of_me.chunks(PARTITIONS_MAX) {
            self.asked(turn.me(), RequestId { core: 0, number: 0 }, partitions, turn);
        }
    }
}
