//! Who coordinates a request (Dynamo §5): a read any node, a write a replica of its key.

use clock::NodeId;
use ring::Partition;

use super::{Coordinator, Forward, Get, Terms, Update, deadline, quorum};
use crate::{
    Action, NamedBy, Request, RequestError, RequestName,
    turn::{Origin, Slot, Turn},
};

/// The coordinator of a request. A read is coordinated by any node; a write by the first owner in
/// reach, or the first fallback, and by this node if it is an owner or was forwarded to.
pub(crate) fn choose(
    slot: Slot,
    origin: Origin,
    mut request: Request,
    turn: &mut Turn<'_>,
) -> Result<Coordinator, RequestError> {
    if request.timeout_ms == Some(0) {
        return Err(RequestError::TimeLimit);
    }
    if let (Origin::Client(_), Some(RequestName { by: by @ NamedBy::Node, .. })) =
        (origin, &mut request.name)
    {
        *by = NamedBy::Library;
    }
    let bucket = turn.shared.buckets.of(request.key.bucket());
    let generation = match origin {
        Origin::Client(_) => bucket.generation,
        // The node that forwarded may have heard of a creation that this one has not.
        Origin::Peer { .. } | Origin::Core => bucket.generation.max(request.key.generation()),
    };
    if generation == bucket.generation {
        turn.shared.buckets.live(request.key.bucket())?;
    }
    request.key = request.key.in_generation(generation);
    let partition = turn.shared.partition(&request.key);
    let raw = turn.shared.buckets.of_key(&request.key).policy.raw;
    request.action = request.action.with_raw(raw);
    let operation = match request.action {
        Action::Get(ref scope) => {
            let scope = scope.clone();
            let terms = Terms::of(&request, partition, slot, origin, turn)?;
            return Ok(Coordinator::Get(Box::new(Get::new(terms, scope))));
        }
        Action::Update(ref operation) => operation,
    };
    let me = turn.me();
    if let Origin::Client(_) = origin {
        operation.check_size(&turn.shared.buckets.of_key(&request.key).limits)?;
        let quorum = quorum(&request, partition, turn.shared)?;
        let to = write_coordinator(partition, quorum.n, turn);
        if to != me {
            turn.shared.counters.forwards += 1;
            let deadline = deadline(request.timeout_ms, turn);
            let forward = Forward::new(origin, request, to, quorum.w, deadline, turn);
            return Ok(Coordinator::Forward(Box::new(forward)));
        }
    }
    let operation = operation.clone();
    let terms = Terms::of(&request, partition, slot, origin, turn)?;
    Ok(Coordinator::Update(Box::new(Update::new(terms, operation, me))))
}

/// Who coordinates a write that this node accepted: of those in reach the first that is neither silent nor
/// about to stop, be it a fallback, or this node for the owners.
fn write_coordinator(partition: Partition, n: u8, turn: &Turn<'_>) -> NodeId {
    let (me, shared) = (turn.me(), &*turn.shared);
    if shared.is_among_owners(partition, usize::from(n)) {
        return me;
    }
    let answers = |node: &NodeId| turn.takes_charge(*node);
    if let Some(owner) =
        shared.ownership.present(partition).owners(partition, usize::from(n)).find(answers)
    {
        return owner;
    }
    // This node, which is never silent, is on the list unless it is no member.
    shared.preference_list(partition).into_iter().find(answers).unwrap_or(me)
}
