//! What is kept for a node that is no owner any more, kept for the owners in its place.
//!
//! The delta goes to the outbox of each owner, or is merged here by one, and only once all of that is
//! durable it is taken from where it was. Meanwhile it may be found once more: it is merged all the
//! same.

use std::collections::BTreeMap;

use clock::NodeId;
use storage::{Answer, Command, OutboxPosition, Pending};

use crate::turn::{Turn, Waiter};

/// A delta on its way from one outbox to others.
#[derive(Debug)]
struct Redirect {
    /// For whom it was kept.
    from: NodeId,
    position: OutboxPosition,
    version: u128,
    owners: Vec<NodeId>,
    /// What the engine has not answered.
    left: usize,
    failed: bool,
}

/// All deltas on their way.
#[derive(Debug, Default)]
pub(super) struct Redirects {
    all: BTreeMap<u64, Redirect>,
    next: u64,
}

impl Redirects {
    /// Has a delta kept for the owners of its key, and returns by which number the engine's answers are
    /// known.
    pub(super) fn begin(&mut self, from: NodeId, pending: Pending, turn: &mut Turn<'_>) -> u64 {
        let Pending { position, key, delta, version } = pending;
        let n = turn.shared.buckets.of_key(&key).policy.n;
        let owners = turn.shared.owners(turn.shared.partition(&key), n);
        let number = self.next;
        self.next += 1;
        for &owner in &owners {
            let (key, delta, durability) = (key.clone(), delta.clone(), turn.durability(&key));
            let command = if owner == turn.me() {
                Command::Merge { key, delta, show: None, durability }
            } else {
                Command::Defer { owner, key, delta, durability, is_kept: true }
            };
            turn.store(Waiter::Redirected(number), command);
        }
        let left = owners.len();
        self.all.insert(number, Redirect { from, position, version, owners, left, failed: false });
        number
    }

    /// The engine answered. Returns for whom the delta was kept, and once all is answered the other
    /// nodes for whom it is kept now, or that it is not.
    pub(super) fn stored(
        &mut self,
        number: u64,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) -> Option<(NodeId, Result<Vec<NodeId>, ()>)> {
        let redirect = self.all.get_mut(&number)?;
        redirect.left = redirect.left.saturating_sub(1);
        redirect.failed |= matches!(answer, Answer::Failed(_));
        if redirect.left > 0 {
            return None;
        }
        let Redirect { from, position, version, mut owners, failed, .. } =
            self.all.remove(&number)?;
        if failed {
            return Some((from, Err(())));
        }
        turn.store(Waiter::Delivered(from), Command::Delivered { position, version });
        owners.retain(|&owner| owner != turn.me());
        Some((from, Ok(owners)))
    }
}
