//! Counting the live keys of a bucket: each partition at its first owner that is in reach and not silent.
//!
//! A replica that missed a write counts without it, so the sum is of the moment and of what single
//! replicas know.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::NodeId;
use ring::Partition;
use storage::{Command, StorageError};
use values::BucketId;

use super::{Input, Progress, deadline};
use crate::{
    Body, CallId, Reply, RequestError,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// A count under way.
#[derive(Debug)]
pub(crate) struct Count {
    id: CallId,
    bucket: Bytes,
    pending: BTreeSet<NodeId>,
    sum: u64,
}

impl Count {
    pub(crate) const fn new(id: CallId, bucket: Bytes) -> Self {
        Self { id, bucket, pending: BTreeSet::new(), sum: 0 }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        let counted = match input {
            Input::Begin => self.begin(slot, turn),
            // As where none of a partition's owners is in reach: who they are is known here in a moment.
            Input::Answered { body: Body::Counted(Err(StorageError::NotOwned { .. })), .. } => {
                Err(RequestError::Timeout)
            }
            Input::Answered { part, body: Body::Counted(counted) } => {
                counted.map(|count| self.add(part.node, count)).map_err(RequestError::Storage)
            }
            Input::Stored { part, answer: storage::Answer::Count(count) } => {
                self.add(part.node, count);
                Ok(())
            }
            Input::Stored { answer: storage::Answer::Failed(error), .. } => {
                Err(RequestError::Storage(error))
            }
            Input::LinkDown(node) if !self.pending.contains(&node) => Ok(()),
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
        let found = turn.shared.buckets.live(&self.bucket)?;
        let bucket = BucketId { name: self.bucket.clone(), generation: found.generation };
        let n = usize::from(found.policy.n);
        let me = turn.me();
        let mut partitions_of = BTreeMap::<NodeId, Vec<Partition>>::new();
        for partition in turn.shared.ownership.partition_count().iter() {
            let owners = turn.shared.ownership.present(partition).owners(partition, n);
            let in_reach: Vec<NodeId> =
                owners.filter(|&owner| turn.shared.is_in_reach(owner)).collect();
            // This node where it is an owner: the other's answer would be no better.
            let own = in_reach.iter().find(|&&owner| owner == me);
            let prompt = || in_reach.iter().find(|&&owner| !turn.is_silent(owner));
            let node = own.or_else(prompt).or(in_reach.first());
            let node = *node.ok_or(RequestError::Timeout)?;
            partitions_of.entry(node).or_default().push(partition);
        }
        let until = deadline(None, turn);
        turn.set_timer(Timer::Request(slot), until);
        for (node, partitions) in partitions_of {
            self.pending.insert(node);
            let part = Part { round: 0, node, kind: PartKind::Ask };
            let (waiter, bucket) = (Waiter::Request { slot, part }, bucket.clone());
            if node == me {
                turn.store(waiter, Command::Count { partitions, bucket });
            } else {
                let budget_ms = turn.shared.config.timeout_ms;
                // Who has handed a partition over and dropped it would count nothing there.
                turn.ask(
                    node,
                    waiter,
                    budget_ms,
                    Body::Count { bucket, partitions, as_owner: true },
                );
            }
        }
        Ok(())
    }

    fn add(&mut self, node: NodeId, count: u64) {
        if self.pending.remove(&node) {
            self.sum = self.sum.saturating_add(count);
        }
    }
}
