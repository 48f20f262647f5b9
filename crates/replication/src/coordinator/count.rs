//! Counting the live keys of a bucket in the partitions of one core: each at its first owner in
//! reach, a storage shard at a time, since other nodes may deal shards to other cores.
//!
//! A replica that missed a write counts without it, so the sum is of the moment and of what single
//! replicas know.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::NodeId;
use ring::Partition;
use storage::Command;

use super::{Input, Progress, deadline};
use crate::{
    Body, CallId, Reply, RequestError,
    quorum::policy,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// A count under way.
#[derive(Debug)]
pub(crate) struct Count {
    id: CallId,
    bucket: Bytes,
    /// Who was asked for which shard, by the number of its first partition.
    pending: BTreeSet<(NodeId, u32)>,
    sum: u64,
}

impl Count {
    pub(crate) const fn new(id: CallId, bucket: Bytes) -> Self {
        Self { id, bucket, pending: BTreeSet::new(), sum: 0 }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        let counted = match input {
            Input::Begin => self.begin(slot, turn),
            Input::Answered { part, body: Body::Counted(counted) } => {
                counted.map(|count| self.add(part, count)).map_err(RequestError::Storage)
            }
            Input::Stored { part, answer: storage::Answer::Count(count) } => {
                self.add(part, count);
                Ok(())
            }
            Input::Stored { answer: storage::Answer::Failed(error), .. } => {
                Err(RequestError::Storage(error))
            }
            Input::LinkDown(node) if !self.pending.iter().any(|&(asked, _)| asked == node) => {
                Ok(())
            }
            Input::LinkDown(_) | Input::Time => Err(RequestError::Timeout),
            _ => return Progress::Waiting,
        };
        let reply = match counted {
            Ok(()) if !self.pending.is_empty() => return Progress::Waiting,
            Ok(()) => Ok(Reply::Count(self.sum)),
            Err(error) => Err(error),
        };
        turn.reply_to(self.id, reply);
        Progress::Done
    }

    fn begin(&mut self, slot: Slot, turn: &mut Turn<'_>) -> Result<(), RequestError> {
        let n = usize::from(policy(&turn.shared.config, &self.bucket).n);
        let me = turn.me();
        let mut partitions_of = BTreeMap::<(NodeId, u32), Vec<Partition>>::new();
        for partition in turn.shared.ring.partition_count().iter() {
            if !turn.shared.has(partition) {
                continue;
            }
            let owners = turn.shared.ring.owners(partition, n);
            let mut in_reach = owners.filter(|&owner| turn.shared.is_in_reach(owner));
            // This node where it is an owner: the other's answer would be no better.
            let first = in_reach.next().ok_or(RequestError::Timeout)?;
            let node = if in_reach.any(|owner| owner == me) { me } else { first };
            let shard = *turn.shared.shards().run(partition).start();
            partitions_of.entry((node, shard)).or_default().push(partition);
        }
        let until = deadline(None, turn);
        turn.set_timer(Timer::Request(slot), until);
        for ((node, shard), partitions) in partitions_of {
            self.pending.insert((node, shard));
            let part = Part { round: shard, node, kind: PartKind::Ask };
            let (waiter, bucket) = (Waiter::Request { slot, part }, self.bucket.clone());
            if node == me {
                turn.store(waiter, Command::Count { partitions, bucket });
            } else {
                let budget_ms = turn.shared.config.timeout_ms;
                turn.ask(node, waiter, budget_ms, Body::Count { bucket, partitions });
            }
        }
        Ok(())
    }

    fn add(&mut self, part: Part, count: u64) {
        if self.pending.remove(&(part.node, part.round)) {
            self.sum = self.sum.saturating_add(count);
        }
    }
}
