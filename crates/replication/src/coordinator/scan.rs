//! Listing the keys of a bucket, a range of partitions at a time.
//!
//! Every owner of a partition in the range is asked, and what they list is united: a key that w
//! owners hold is found where r of them answer; where fewer do, the page says that it is
//! incomplete. A replica that ended its page before
//! the range has said nothing of what comes after it, so the union is cut at the first such end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use clock::NodeId;
use ring::Partition;
use storage::{Command, ListPosition, Listed, Listing};
use values::{BucketId, Key, Tag};

use super::{Input, Progress, deadline};
use crate::{
    Body, CallId, Reply, ScanCursor, ScanPage, ScanRequest,
    replica::LIST_MAX,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// Partitions asked for at once where not every member owns every partition. A range has about as
/// many owners as partitions, so a wider one would ask the whole cluster for each page.
const RANGE: u32 = 64;
/// Ranges gone through for one page, so that an empty bucket does not hold up its caller.
const ROUNDS_MAX: u32 = 64;

/// A page ends with the range that takes it beyond so many bytes of keys. A guess.
const PAGE_BYTES: usize = 1 << 20;

/// A place in the order in which keys are listed.
type Place = (u32, ListPosition);

/// A listing under way.
#[derive(Debug)]
pub(crate) struct Scan {
    id: CallId,
    bucket: BucketId,
    limit: u32,
    n: usize,
    /// Owners of a partition that must answer for its keys to be known.
    r: usize,
    at: ScanCursor,
    last: u32,
    round: u32,
    deadline: u64,
    pending: BTreeSet<NodeId>,
    /// Those that let a range wait for as long as any does: they are asked no more.
    quiet: BTreeSet<NodeId>,
    /// What nodes listed, and of which partitions of the range they did not.
    listed: BTreeMap<NodeId, (Listing, BTreeSet<u32>)>,
    keys: Vec<(Key, Vec<Tag>)>,
    /// Of these, in all.
    bytes: usize,
    incomplete: bool,
}

impl Scan {
    pub(crate) fn new(id: CallId, request: ScanRequest) -> Self {
        let start = ScanCursor { partition: 0, after: None };
        Self {
            id,
            bucket: BucketId::first(request.bucket),
            limit: request.limit.clamp(1, LIST_MAX),
            n: 0,
            r: 0,
            at: request.cursor.unwrap_or(start),
            last: 0,
            round: 0,
            deadline: 0,
            pending: BTreeSet::new(),
            quiet: BTreeSet::new(),
            listed: BTreeMap::new(),
            keys: Vec::new(),
            bytes: 0,
            incomplete: false,
        }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        match input {
            Input::Begin => {
                let bucket = match turn.shared.buckets.live(&self.bucket.name) {
                    Ok(bucket) => bucket,
                    Err(dropped) => {
                        turn.reply_to(self.id, Err(dropped.into()));
                        return Progress::Done;
                    }
                };
                self.bucket.generation = bucket.generation;
                (self.n, self.r) = (bucket.policy.n.into(), bucket.policy.r.into());
                self.deadline = deadline(None, turn);
                if self.at.partition >= turn.shared.ownership.partition_count().get() {
                    self.reply(None, turn);
                    return Progress::Done;
                }
                self.ask(slot, turn);
            }
            Input::Answered { part, body: Body::Listed { listing, foreign } }
                if part.round == self.round =>
            {
                self.listed(part.node, listing.ok(), foreign);
            }
            Input::Stored { part, answer } if part.round == self.round => match answer {
                storage::Answer::Listed(listed) => {
                    self.listed(part.node, Some(listed), Vec::new());
                }
                _ => self.listed(part.node, None, Vec::new()),
            },
            Input::LinkDown(node) => self.listed(node, None, Vec::new()),
            // Go on without those that stay silent.
            Input::Time => self.quiet.append(&mut self.pending),
            _ => return Progress::Waiting,
        }
        while !self.waits(turn) {
            let next = self.unite(turn);
            let is_over = next.is_none()
                || self.keys.len() >= self.limit as usize
                || self.bytes >= PAGE_BYTES
                || self.round >= ROUNDS_MAX
                || turn.now.monotonic_ms >= self.deadline;
            match next {
                Some(next) if !is_over => {
                    self.at = next;
                    self.round += 1;
                    self.ask(slot, turn);
                }
                next => {
                    self.reply(next, turn);
                    return Progress::Done;
                }
            }
        }
        Progress::Waiting
    }

    /// Asks all owners of the next range.
    fn ask(&mut self, slot: Slot, turn: &mut Turn<'_>) {
        let ownership = Arc::clone(&turn.shared.ownership);
        let count = ownership.partition_count().get();
        let everywhere = ownership.members().len() <= self.n;
        let range = if everywhere { count } else { RANGE };
        let first = self.at.partition;
        self.last = first.saturating_add(range - 1).min(count - 1);
        self.listed.clear();
        let nodes: BTreeSet<NodeId> = if everywhere {
            ownership.members().iter().copied().collect()
        } else {
            self.owners(turn).into_values().flatten().collect()
        };
        let cover_ms = turn.shared.config.cover_ms;
        for node in nodes {
            let part = Part { round: self.round, node, kind: PartKind::Ask };
            let waiter = Waiter::Request { slot, part };
            let (first, last) = (Partition(first), Partition(self.last));
            let (bucket, after) = (self.bucket.clone(), self.at.after.clone());
            if node == turn.me() {
                let limit = self.limit as usize;
                turn.store(waiter, Command::List { first, last, bucket, after, limit });
            } else if turn.shared.is_in_reach(node) && !self.quiet.contains(&node) {
                let limit = self.limit;
                let body = Body::List { first, last, bucket, after, limit };
                turn.ask(node, waiter, cover_ms, body);
            } else {
                continue;
            }
            self.pending.insert(node);
        }
        let until = turn.now.monotonic_ms.saturating_add(cover_ms.into()).min(self.deadline);
        turn.set_timer(Timer::Request(slot), until);
    }

    fn listed(&mut self, node: NodeId, listed: Option<Listing>, foreign: Vec<Partition>) {
        if self.pending.remove(&node)
            && let Some(listed) = listed
        {
            let foreign = foreign.into_iter().map(|partition| partition.0).collect();
            self.listed.insert(node, (listed, foreign));
        }
    }

    /// Whether an answer is to be waited for: that of a silent node where the others do not suffice.
    fn waits(&self, turn: &Turn<'_>) -> bool {
        let mut pending = self.pending.iter();
        pending.any(|&node| !turn.is_silent(node))
            || !self.pending.is_empty() && !self.is_complete(&self.owners(turn))
    }

    /// The owners of each partition of the range.
    fn owners(&self, turn: &Turn<'_>) -> BTreeMap<u32, Vec<NodeId>> {
        let owners_of = |number| {
            let partition = Partition(number);
            let present = turn.shared.ownership.present(partition);
            (number, present.owners(partition, self.n).collect())
        };
        (self.at.partition..=self.last).map(owners_of).collect()
    }

    /// Whether of each partition of the range r of its `owners` have answered.
    fn is_complete(&self, owners: &BTreeMap<u32, Vec<NodeId>>) -> bool {
        // An owner by what this node knows may be none by what it knows itself.
        let has_listed = |node: &NodeId, partition: u32| {
            self.listed.get(node).is_some_and(|(_, foreign)| !foreign.contains(&partition))
        };
        owners.iter().all(|(&partition, owners)| {
            let answered = owners.iter().filter(|node| has_listed(node, partition)).count();
            answered >= self.r.min(owners.len())
        })
    }

    /// Takes over what the range's owners listed, and returns where to go on.
    fn unite(&mut self, turn: &Turn<'_>) -> Option<ScanCursor> {
        let partition_count = turn.shared.ownership.partition_count();
        let owners = self.owners(turn);
        self.incomplete |= !self.is_complete(&owners);
        let mut end: Option<Place> = None;
        let mut found = BTreeMap::<Place, (Key, BTreeSet<Tag>)>::new();
        for (node, (listed, foreign)) in std::mem::take(&mut self.listed) {
            for Listed { position, key, tags } in listed.keys {
                let place = (turn.shared.partition(&key).0, position);
                // What others hold of it may be long gone.
                let is_owner = owners.get(&place.0).is_some_and(|owners| owners.contains(&node));
                if !is_owner || foreign.contains(&place.0) {
                    continue;
                }
                found.entry(place).or_insert_with(|| (key, BTreeSet::new())).1.extend(tags);
            }
            let next =
                listed.next.and_then(|next| Some((next.partition(partition_count)?.0, next)));
            end = end.into_iter().chain(next).min();
        }
        let within = |place: &Place| end.as_ref().is_none_or(|end| place <= end);
        let kept = found.into_iter().filter(|(place, _)| within(place));
        for (_, (key, tags)) in kept {
            self.bytes += key.key().len();
            self.keys.push((key, tags.into_iter().collect()));
        }
        match end {
            Some((partition, position)) => Some(ScanCursor { partition, after: Some(position) }),
            None if self.last + 1 < partition_count.get() => {
                Some(ScanCursor { partition: self.last + 1, after: None })
            }
            None => None,
        }
    }

    fn reply(&mut self, next: Option<ScanCursor>, turn: &mut Turn<'_>) {
        let keys = std::mem::take(&mut self.keys).into_iter();
        // Who asks for a key names no generation.
        let keys = keys.map(|(key, tags)| (key.in_generation(0), tags)).collect();
        let page = ScanPage { keys, next, incomplete: self.incomplete };
        turn.reply_to(self.id, Ok(Reply::Page(page)));
    }
}
