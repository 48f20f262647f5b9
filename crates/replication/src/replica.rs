//! A replica: answers what other nodes' coordinators ask, from what its engine holds.
//!
//! Each question becomes one command, and the command's answer the question's. What is merged is
//! acknowledged once as durable as its bucket asks: the engine answers a merge only then.

use clock::NodeId;
use ring::{Partition, Sequence};
use sabotage::Bug;
use storage::{Answer, Command, Listing, ROW_KEY_MAX, StorageError};
use values::{Key, Scope};

use crate::{
    Body, RequestId, ViewDigest, digest,
    turn::{Turn, Waiter},
};

/// Most keys of one listing.
pub(crate) const LIST_MAX: u32 = 10_000;

/// Most keys in conflict of one listing.
pub(crate) const CONFLICTS_MAX: u32 = 1_000;

/// Gives the engine the command that a peer's question stands for. Answers and forwarded requests
/// are not questions to a replica; they are ignored here.
///
/// What is to count by the tenure of an earlier `sequence` than that of the key's partition is not
/// done: from the moment on that a node knows of a tenure, nothing counts there by those before.
pub(crate) fn ask(
    from: NodeId,
    id: RequestId,
    sequence: Sequence,
    body: Body,
    turn: &mut Turn<'_>,
) {
    if let Some(answer) = gone(&body, turn).or_else(|| moved(sequence, &body, turn)) {
        return turn.answer(from, id, answer);
    }
    let count = turn.shared.ownership.partition_count().get();
    let mut question = Question::in_body(&body);
    let command = match body {
        Body::Read { key, scope } | Body::Digest { key, scope } => {
            let is_owner = turn.shared.is_owner(&key);
            read(key, scope, is_owner)
        }
        Body::Hint { owner, key, delta } if owner == turn.me() => {
            let durability = turn.durability(&key);
            Command::Merge { key, delta, show: None, durability }
        }
        Body::Hint { owner, .. } if !turn.shared.ownership.members().contains(&owner) => {
            let error = StorageError::Io(format!("{owner:?} is no member: nothing is kept for it"));
            return turn.answer(from, id, Body::Hinted(Err(error)));
        }
        Body::Hint { owner, key, delta } => {
            let durability = turn.durability(&key);
            Command::Defer { owner, key, delta, durability }
        }
        Body::Merge { key, delta, show } => {
            let durability = turn.durability(&key);
            Command::Merge { key, delta, show, durability }
        }
        Body::Explain { key } => Command::Explain { key },
        Body::List { after: Some(after), .. } if after.0.len() > ROW_KEY_MAX => {
            let refused = StorageError::Incomparable("a place out of bounds".into());
            let (listing, foreign) = (Err(refused), Vec::new());
            return turn.answer(from, id, Body::Listed { listing, foreign });
        }
        Body::List { first, last, bucket, after, limit } => {
            if first > last || first.0 >= count {
                let (listing, foreign) = (Ok(Listing::default()), Vec::new());
                return turn.answer(from, id, Body::Listed { listing, foreign });
            }
            let last = last.min(Partition(count - 1));
            let n = usize::from(turn.shared.buckets.of(&bucket.name).policy.n);
            let range = (first.0..=last.0).map(Partition);
            let is_foreign = |at: &Partition| !turn.shared.is_among_owners(*at, n);
            question = Some(Question::List { foreign: range.filter(is_foreign).collect() });
            let limit = limit.clamp(1, LIST_MAX) as usize;
            Command::List { first, last, bucket, after, limit }
        }
        Body::Count { bucket, mut partitions, as_owner } => {
            partitions.retain(|partition| partition.0 < count);
            partitions.sort_unstable();
            partitions.dedup();
            let n = usize::from(turn.shared.buckets.of(&bucket.name).policy.n);
            let is_foreign = |at: &&Partition| !turn.shared.is_among_owners(**at, n);
            if as_owner && let Some(foreign) = partitions.iter().find(is_foreign) {
                let error = StorageError::NotOwned { partition: foreign.0 };
                return turn.answer(from, id, Body::Counted(Err(error)));
            }
            Command::Count { partitions, bucket }
        }
        Body::Conflicts { after: Some(after), .. } if after.0.len() > ROW_KEY_MAX => {
            let refused = StorageError::Incomparable("a place out of bounds".into());
            return turn.answer(from, id, Body::ConflictsListed(Err(refused)));
        }
        Body::Conflicts { after, limit } => {
            Command::Conflicts { after, limit: limit.clamp(1, CONFLICTS_MAX) as usize }
        }
        Body::Forward(_)
        | Body::Forwarded(_)
        | Body::Shown(_)
        | Body::Digested(_)
        | Body::Merged(_)
        | Body::Hinted(_)
        | Body::Listed { .. }
        | Body::Counted(_)
        | Body::ConflictsListed(_)
        | Body::Policies { .. }
        | Body::PoliciesKnown(_)
        | Body::Ownership { .. }
        | Body::Stand { .. }
        | Body::Stands { .. }
        | Body::OwnershipKnown(_)
        | Body::Draining { .. }
        | Body::DrainingKnown { .. }
        | Body::Moved { .. }
        | Body::Compare(_)
        | Body::Compared(_)
        | Body::Explained { .. } => return,
    };
    if let Some(question) = question {
        turn.store(Waiter::Peer { from, id, question }, command);
    }
}

/// Reads a key here: an owner its replica, a fallback what it holds for others too.
pub(crate) const fn read(key: Key, scope: Scope, is_owner: bool) -> Command {
    if is_owner { Command::Read { key, scope } } else { Command::ReadHeld { key, scope } }
}

/// The answer about a key of a generation of its bucket that was dropped. It is no
/// acknowledgement, since nothing is kept or shown of it; whoever has it to deliver is done with it.
fn gone(body: &Body, turn: &Turn<'_>) -> Option<Body> {
    let key = body.key().filter(|key| turn.shared.buckets.is_gone(key));
    key.and_then(|_| Question::in_body(body)).map(|question| question.failed(StorageError::Dropped))
}

/// The answer to what is to count by an earlier tenure than the present one, and to what is to be
/// merged by a node that is no owner.
fn moved(sequence: Sequence, body: &Body, turn: &Turn<'_>) -> Option<Body> {
    let key = body.key()?;
    let partition = turn.shared.partition(key);
    let tenure = turn.shared.ownership.tenure(partition);
    let is_past = sequence != Sequence::default() && tenure.sequence > sequence;
    // It may be about to drop what it holds; whoever knows of a later tenure knows better.
    let is_merged = match body {
        Body::Merge { .. } => true,
        Body::Hint { owner, .. } => *owner == turn.me(),
        _ => false,
    };
    let is_stranger = || {
        is_merged
            && tenure.sequence >= sequence
            && !turn.shared.is_holder(turn.me(), key, partition)
    };
    let is_refused = (is_past || is_stranger()) && !sabotage::is(Bug::StrangersServe);
    is_refused.then_some(Body::Moved { partition, tenure })
}

/// What was asked, so that a failure is answered in kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    Read,
    Digest,
    Merge,
    /// For this owner.
    Hint(NodeId),
    /// Of a range with these partitions that this node does not own.
    List {
        foreign: Vec<Partition>,
    },
    Count,
    Conflicts,
    Explain,
}

impl Question {
    fn failed(self, error: StorageError) -> Body {
        match self {
            Self::Read | Self::Digest => Body::Shown(Err(error)),
            Self::Merge => Body::Merged(Err(error)),
            Self::Hint(_) => Body::Hinted(Err(error)),
            Self::List { foreign } => Body::Listed { listing: Err(error), foreign },
            Self::Count => Body::Counted(Err(error)),
            Self::Conflicts => Body::ConflictsListed(Err(error)),
            Self::Explain => {
                Body::Explained { view: Err(error), pending_for: Vec::new(), writes: Vec::new() }
            }
        }
    }

    /// The question that `body` asks, if it asks a replica one.
    const fn in_body(body: &Body) -> Option<Self> {
        match body {
            Body::Read { .. } => Some(Self::Read),
            Body::Digest { .. } => Some(Self::Digest),
            Body::Merge { .. } => Some(Self::Merge),
            Body::Hint { owner, .. } => Some(Self::Hint(*owner)),
            Body::List { .. } => Some(Self::List { foreign: Vec::new() }),
            Body::Count { .. } => Some(Self::Count),
            Body::Conflicts { .. } => Some(Self::Conflicts),
            Body::Explain { .. } => Some(Self::Explain),
            _ => None,
        }
    }
}

/// Refuses a peer's question because too much waits for the engine.
pub(crate) fn refuse(from: NodeId, id: RequestId, body: &Body, turn: &mut Turn<'_>) {
    if let Some(question) = Question::in_body(body) {
        turn.answer(from, id, question.failed(StorageError::Busy));
    }
}

/// Answers a peer's question with what the engine answered.
pub(crate) fn answer(
    from: NodeId,
    id: RequestId,
    question: Question,
    answer: Answer,
    turn: &mut Turn<'_>,
) {
    let body = match answer {
        Answer::View(view) if question == Question::Digest && digest::is_long(&view) => {
            Body::Digested(ViewDigest::of(&view))
        }
        Answer::View(view) => Body::Shown(Ok(view)),
        Answer::Durable | Answer::Merged(_) if matches!(question, Question::Hint(_)) => {
            Body::Hinted(Ok(()))
        }
        Answer::Merged(view) => Body::Merged(Ok(view)),
        Answer::Listed(listed) => {
            let Question::List { foreign } = question else { return };
            Body::Listed { listing: Ok(listed), foreign }
        }
        Answer::Count(count) => Body::Counted(Ok(count)),
        Answer::Conflicts(page) => Body::ConflictsListed(Ok(page)),
        Answer::Explained { key, view, pending_for } => {
            let writes = turn.shared.journal.of(&key);
            Body::Explained { view: Ok(view), pending_for, writes }
        }
        Answer::Failed(error) => question.failed(error),
        Answer::Prepared { .. }
        | Answer::Refused(_)
        | Answer::Durable
        | Answer::Outbox(_)
        | Answer::RemnantsForgotten { .. }
        | Answer::OutboxOwners(_)
        | Answer::IsEmpty(_)
        | Answer::Forgotten { .. }
        | Answer::TreeNodes(_)
        | Answer::TreeKeys(_)
        | Answer::ElementChildren(_)
        | Answer::ElementKeys(_) => return,
    };
    turn.answer(from, id, body);
}
