//! Answers what other owners ask about what this replica holds (`question`): each question one command
//! of the engine. Asked only about
//! what one of the two owns by the ownership and the policies that this node knows.

use clock::NodeId;
use ring::Partition;
use storage::{Answer, Command, Shard, StorageError, TreeNode};
use values::Key;

use super::question::{ELEMENTS_PER_ANSWER, KEYS_PER_ANSWER, cut_elements, cut_keys};
use super::schedule::Pair;
use super::session;
use crate::turn::{Turn, Waiter};
use crate::{Body, Compare, Compared, RequestId};

/// What an answer of the engine is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Of these partitions; with the sum of the asker's roots.
    Roots { n: u8, shard: Shard, partitions: Vec<Partition>, sum: TreeNode },
    /// Anything else.
    Other,
}

/// Whether this node and `peer` have something to compare in `partition` of buckets with this n: both
/// own it or are to, or one of them does and the other may hold a copy: it did so before, or wrote in the
/// owners' place.
fn may_compare(peer: NodeId, n: u8, partition: Partition, turn: &Turn<'_>) -> bool {
    let ownership = &turn.shared.ownership;
    let rings = [ownership.leaving(partition), ownership.entering(partition)];
    let is_owner = |node| rings.iter().any(|ring| ring.is_owner(partition, usize::from(n), node));
    peer != turn.me()
        && partition.0 < ownership.partition_count().get()
        && turn.shared.buckets.classes().contains(&n)
        && (is_owner(turn.me()) || is_owner(peer))
        // Of those who were members before nothing is known any more. Before the first change only who is a member yet
        // without being in a plan may have written.
        && (!ownership.is_first() || ownership.members().contains(&peer) || turn.shared.links.contains(&peer))
}

/// Whether this node and `peer` have something to compare in `key`, and its bucket was not dropped.
pub(super) fn may_compare_key(peer: NodeId, key: &Key, turn: &Turn<'_>) -> bool {
    let n = turn.shared.buckets.of_key(key).policy.n;
    !turn.shared.buckets.is_gone(key) && may_compare(peer, n, turn.shared.partition(key), turn)
}

fn refused(why: &str) -> StorageError {
    StorageError::Incomparable(why.into())
}

/// Gives the engine the command that a question stands for, or says why it does not.
pub(super) fn ask(from: NodeId, id: RequestId, compare: Compare, turn: &mut Turn<'_>) {
    match command(from, compare, turn) {
        Ok((asked, command)) => turn.store(Waiter::Compared { from, id, asked }, command),
        Err(error) => turn.answer(from, id, Body::Compared(Err(error))),
    }
}

/// The pair that a question about roots is about, as this node has it.
pub(super) fn pair_of(from: NodeId, compare: &Compare, turn: &Turn<'_>) -> Option<Pair> {
    let Compare::Roots { n, partitions, .. } = compare else { return None };
    let shard = turn.shared.config.shards.shards().of_partition(*partitions.first()?);
    Some(Pair { peer: from, n: *n, shard })
}

fn command(
    from: NodeId,
    compare: Compare,
    turn: &Turn<'_>,
) -> Result<(Asked, Command), StorageError> {
    if !compare.is_in_bounds() {
        return Err(refused("a question out of bounds"));
    }
    if let Some(key) = compare.key() {
        if turn.shared.buckets.is_gone(key) {
            return Err(StorageError::Dropped);
        }
        if !may_compare_key(from, key, turn) {
            return Err(refused("a key that neither of the two owns"));
        }
    }
    let is_mine = |n, partition| {
        if may_compare(from, n, partition, turn) {
            Ok(())
        } else {
            Err(refused("a partition that neither of the two owns"))
        }
    };
    Ok(match compare {
        Compare::Roots { n, partitions, sum } => {
            let shards = &turn.shared.config.shards;
            let shard_of = |partition| shards.shards().of_partition(partition);
            let shard = shard_of(partitions[0]);
            for &partition in &partitions {
                is_mine(n, partition)?;
                if shard_of(partition) != shard || !shards.contains(shard) {
                    return Err(refused("partitions of several shards"));
                }
            }
            let command = Command::TreeRoots { n, partitions: partitions.clone() };
            (Asked::Roots { n, shard, partitions, sum }, command)
        }
        Compare::Children { n, partition, path } => {
            is_mine(n, partition)?;
            (Asked::Other, Command::TreeChildren { n, partition, path })
        }
        Compare::Keys { n, partition, path, after } => {
            is_mine(n, partition)?;
            let limit = KEYS_PER_ANSWER;
            (Asked::Other, Command::TreeKeys { n, partition, path, after, limit })
        }
        Compare::ElementNodes { key, tag, ranges, seen } => {
            (Asked::Other, Command::ElementNodes { key, tag, ranges, seen })
        }
        Compare::Elements { key, tag, range, seen } => {
            let limit = ELEMENTS_PER_ANSWER;
            (Asked::Other, Command::ElementKeys { key, tag, range, seen, limit })
        }
        Compare::Complete { key, tag, seen, context } => {
            // As with what is to be merged: it would make a copy of a key of which there is none.
            if !turn.shared.is_holder(turn.me(), &key, turn.shared.partition(&key)) {
                return Err(refused("a key that this node does not own"));
            }
            let durability = turn.durability(&key);
            (Asked::Other, Command::Complete { key, tag, seen, context, durability })
        }
    })
}

/// Answers a peer's question with what the engine answered. Returns the partitions of a pair that were
/// found equal, if that was asked.
pub(super) fn answer(
    from: NodeId,
    id: RequestId,
    asked: Asked,
    answer: Answer,
    turn: &mut Turn<'_>,
) -> Option<(Pair, Vec<Partition>)> {
    let mut equal = None;
    let compared = match answer {
        Answer::TreeNodes(nodes) => match asked {
            Asked::Roots { n, shard, partitions, sum }
                if nodes.len() == partitions.len()
                    && sum.is_settled
                    && session::sum(&nodes) == sum =>
            {
                equal = Some((Pair { peer: from, n, shard }, partitions));
                Ok(Compared::Equal)
            }
            _ => Ok(Compared::Nodes(nodes)),
        },
        Answer::TreeKeys(page) => Ok(Compared::Keys(cut(page, cut_keys))),
        Answer::ElementKeys(page) => Ok(Compared::Elements(cut(page, cut_elements))),
        Answer::Merged(_) => Ok(Compared::Completed),
        Answer::Failed(error) => Err(error),
        _ => return None,
    };
    turn.answer(from, id, Body::Compared(compared));
    equal
}

fn cut<T>(mut page: T, cut: impl FnOnce(&mut T)) -> T {
    cut(&mut page);
    page
}
