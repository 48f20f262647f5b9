//! One session: what a pair of nodes hold of a shard's partitions, compared from the roots of their
//! hash trees down and brought to the same.
//!
//! What is left to look at is a stack, so that it stays short: a node of a tree is looked at before its
//! siblings, and keys that differ before the next node. One node is looked at at a time, some keys
//! side by side. Nothing is begun while the budget is spent; what was begun is small.

use std::collections::{BTreeMap, BTreeSet};

use ring::Partition;
use sabotage::Bug;
use storage::{Answer, Command, ListPosition, TreeKeys, TreeNode, TreePath};
use values::Key;

use super::key::{Hands, KeyJob, Outcome};
use super::question::KEYS_PER_ANSWER;
use super::schedule::Pair;
use crate::handover::{Seen, SeenWhat};
use crate::turn::{Shared, Turn};
use crate::{Body, Compare, Compared};

/// Keys brought to the same side by side, in a round: they share a sync of the disk at both sides. After a
/// full round the session rests for as long as that took, so that it takes half of what there is at most. A guess.
const KEYS_AT_ONCE: usize = 32;

/// And so many times as long as it took longer than the shortest round of the session: others had much to do then,
/// and clients wait for each of them at several nodes. A guess.
const RESTS_WHERE_SLOWER: u64 = 4;

/// Longest rest, in milliseconds. A guess: a round takes some.
const REST_MAX_MS: u64 = 100;

/// A session makes room for others that wait after so long, in milliseconds. A guess: a small part of
/// the time after which a handover goes back (`handover/drive.rs`), and many round trips.
const SESSION_MS: u64 = 3_000;

/// A node with no more keys at either side is listed instead of looked at child by child.
const LIST_MAX: u64 = 32;

/// Something to look at.
#[derive(Debug)]
enum Task {
    Roots(Vec<Partition>),
    Node(Partition, TreePath),
    Keys(Partition, TreePath, Option<ListPosition>),
    Key(Key),
}

/// Something that is looked at.
#[derive(Debug)]
enum Job {
    Roots { partitions: Vec<Partition>, mine: Vec<TreeNode> },
    Node { place: Place, mine: Option<Vec<TreeNode>>, theirs: Option<Vec<TreeNode>> },
    Keys { place: Place, mine: Option<TreeKeys>, theirs: Option<TreeKeys> },
    Key(Box<KeyJob>),
}

/// The keys that are brought to the same side by side.
#[derive(Debug, Default)]
struct Round {
    began_ms: u64,
    /// How many were begun.
    begun: usize,
}

/// A node of a tree, and where in it a list begins.
#[derive(Clone, Debug)]
struct Place {
    partition: Partition,
    path: TreePath,
    after: Option<ListPosition>,
}

/// How a session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It goes on.
    Working,
    /// All that could be done is done.
    Ended,
    /// It is given up, for now.
    GivenUp,
}

/// The session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) pair: Pair,
    stack: Vec<Task>,
    jobs: BTreeMap<u64, Job>,
    /// Questions not answered yet.
    asked: BTreeSet<u64>,
    /// Partitions not yet known to be the same.
    pub(super) open: BTreeSet<Partition>,
    /// Those of them in which something could not be finished.
    unfinished: BTreeSet<Partition>,
    /// Whether it ended early to make room for another.
    pub(super) is_left_off: bool,
    pub(super) began_ms: u64,
    round: Round,
    /// What the shortest full round took.
    shortest_ms: u64,
    /// Until when it rests.
    rests_until_ms: u64,
    /// Bytes sent and received since this was asked last.
    bytes: usize,
    /// When an answer came last, or was waited for first.
    heard_ms: u64,
    next_job: u64,
}

impl Session {
    /// `first_job` and the numbers after it were never used for another session.
    pub(super) fn new(pair: Pair, partitions: Vec<Partition>, first_job: u64, now_ms: u64) -> Self {
        Self {
            pair,
            open: partitions.iter().copied().collect(),
            stack: vec![Task::Roots(partitions)],
            jobs: BTreeMap::new(),
            asked: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            is_left_off: false,
            began_ms: now_ms,
            round: Round::default(),
            shortest_ms: u64::MAX,
            rests_until_ms: 0,
            bytes: 0,
            heard_ms: now_ms,
            next_job: first_job,
        }
    }

    pub(super) const fn next_job(&self) -> u64 {
        self.next_job
    }

    /// Bytes sent and received since this was asked last.
    pub(super) fn take_bytes(&mut self) -> usize {
        std::mem::take(&mut self.bytes)
    }

    /// Partitions that are the same now, or were brought to be, as far as the session came.
    pub(super) fn equal(&self) -> impl Iterator<Item = Partition> + '_ {
        self.open.iter().copied().filter(|partition| !self.unfinished.contains(partition))
    }

    /// The partitions compared.
    pub(super) fn all(&self) -> impl Iterator<Item = Partition> + '_ {
        self.open.iter().copied()
    }

    /// Until when an answer is waited for; `None` if none is.
    pub(super) fn deadline_ms(&self, patience_ms: u64) -> Option<u64> {
        (!self.jobs.is_empty()).then(|| self.heard_ms.saturating_add(patience_ms))
    }

    /// From when on it makes room for others that wait.
    pub(super) const fn long_at_ms(&self) -> u64 {
        self.began_ms.saturating_add(SESSION_MS)
    }

    /// Until when nothing more is begun; in the past if now.
    pub(super) const fn rests_until_ms(&self) -> u64 {
        self.rests_until_ms
    }

    /// Leaves off. What is known to be the same, or was brought to be, is; what was merged of the rest is
    /// not to be sent again by the next one.
    pub(super) fn leave_off(&mut self, shared: &Shared) {
        self.is_left_off = true;
        for task in std::mem::take(&mut self.stack) {
            match task {
                Task::Roots(partitions) => self.unfinished.extend(partitions),
                Task::Node(partition, _) | Task::Keys(partition, ..) => {
                    self.unfinished.insert(partition);
                }
                Task::Key(key) => drop(self.unfinished.insert(shared.partition(&key))),
            }
        }
        for job in std::mem::take(&mut self.jobs).into_values() {
            match job {
                Job::Roots { partitions, .. } => self.unfinished.extend(partitions),
                Job::Node { place, .. } | Job::Keys { place, .. } => {
                    self.unfinished.insert(place.partition);
                }
                Job::Key(job) => drop(self.unfinished.insert(shared.partition(&job.key))),
            }
        }
    }

    /// Forgets what was asked.
    pub(super) fn forget(&mut self, turn: &mut Turn<'_>) {
        for &number in &self.asked {
            turn.shared.forget_ask(number);
        }
        self.asked.clear();
        self.jobs.clear();
    }

    /// Begins one more thing, if there is one that may be begun now. Returns whether it did.
    pub(super) fn begin(&mut self, turn: &mut Turn<'_>) -> bool {
        let now_ms = turn.now.monotonic_ms;
        let may_begin = match self.stack.last() {
            None => false,
            Some(Task::Key(_)) => self.round.begun < KEYS_AT_ONCE,
            Some(_) => self.keys() == self.jobs.len() && self.round.begun < KEYS_AT_ONCE,
        };
        let Some(task) = self.stack.pop_if(|_| may_begin) else { return false };
        if self.jobs.is_empty() {
            self.heard_ms = now_ms;
        }
        if let Task::Key(_) = task {
            if self.round.begun == 0 {
                self.round.began_ms = now_ms;
            }
            self.round.begun += 1;
        }
        let number = self.next_job;
        self.next_job += 1;
        let n = self.pair.n;
        let job = self.with_hands(number, turn, |hands| match task {
            Task::Roots(partitions) => {
                hands.store(Command::TreeRoots { n, partitions: partitions.clone() });
                Job::Roots { partitions, mine: Vec::new() }
            }
            Task::Node(partition, path) => {
                hands.store(Command::TreeChildren { n, partition, path: path.clone() });
                let question = Compare::Children { n, partition, path: path.clone() };
                hands.ask(Body::Compare(question));
                let place = Place { partition, path, after: None };
                Job::Node { place, mine: None, theirs: None }
            }
            Task::Keys(partition, path, after) => {
                let place = Place { partition, path: path.clone(), after: after.clone() };
                hands.store(Command::TreeKeys {
                    n,
                    partition,
                    path: path.clone(),
                    after: after.clone(),
                    limit: KEYS_PER_ANSWER,
                });
                hands.ask(Body::Compare(Compare::Keys { n, partition, path, after }));
                Job::Keys { place, mine: None, theirs: None }
            }
            Task::Key(key) => Job::Key(Box::new(KeyJob::begin(key, hands))),
        });
        self.jobs.insert(number, job);
        true
    }

    /// Lets `act` ask for a job, and keeps account of it.
    fn with_hands<T>(
        &mut self,
        job: u64,
        turn: &mut Turn<'_>,
        act: impl FnOnce(&mut Hands<'_, '_>) -> T,
    ) -> T {
        let before = turn.asked.len();
        let budget_ms = turn.shared.config.timeout_ms;
        let Pair { peer, n, .. } = self.pair;
        let mut hands = Hands { turn, peer, n, job, budget_ms, bytes: 0 };
        let done = act(&mut hands);
        self.bytes += hands.bytes;
        self.asked.extend(turn.asked.drain(before..));
        done
    }

    /// The engine answered a job.
    pub(super) fn stored(&mut self, number: u64, answer: Answer, turn: &mut Turn<'_>) -> Progress {
        let Some(mut job) = self.jobs.remove(&number) else { return self.progress() };
        self.heard_ms = turn.now.monotonic_ms;
        let outcome = match (&mut job, answer) {
            (Job::Key(key), answer) => {
                self.with_hands(number, turn, |hands| key.stored(answer, hands))
            }
            (_, Answer::Failed(error)) => Outcome::of(&error),
            (Job::Roots { partitions, mine }, Answer::TreeNodes(nodes)) => {
                // The engine sums as many leaves as it does at once.
                let rest = partitions.split_off(nodes.len().clamp(1, partitions.len()));
                if !rest.is_empty() {
                    self.stack.push(Task::Roots(rest));
                }
                let (n, partitions) = (self.pair.n, partitions.clone());
                let question = Compare::Roots { n, partitions, sum: sum(&nodes) };
                *mine = nodes;
                self.with_hands(number, turn, |hands| hands.ask(Body::Compare(question)));
                Outcome::Waiting
            }
            (Job::Node { mine, .. }, Answer::TreeNodes(nodes)) => {
                *mine = Some(nodes);
                self.compare(&mut job, turn)
            }
            (Job::Keys { mine, .. }, Answer::TreeKeys(page)) => {
                *mine = Some(page);
                self.compare(&mut job, turn)
            }
            _ => Outcome::Unfinished,
        };
        self.after(number, job, outcome, turn)
    }

    /// The peer answered a job.
    pub(super) fn answered(
        &mut self,
        number: u64,
        question: u64,
        body: Body,
        turn: &mut Turn<'_>,
    ) -> Progress {
        self.asked.remove(&question);
        let Some(mut job) = self.jobs.remove(&number) else { return self.progress() };
        self.heard_ms = turn.now.monotonic_ms;
        self.bytes += clock::encoded_length(&body);
        let outcome = match (&mut job, body) {
            (Job::Key(key), body) => {
                self.with_hands(number, turn, |hands| key.answered(body, hands))
            }
            (_, Body::Compared(Err(error))) => Outcome::of(&error),
            (Job::Roots { partitions, .. }, Body::Compared(Ok(Compared::Equal))) => {
                partitions.iter().for_each(|&partition| self.saw_missing(partition, 0, turn));
                Outcome::Done
            }
            (Job::Roots { partitions, mine }, Body::Compared(Ok(Compared::Nodes(theirs)))) => {
                self.compare_roots(partitions, mine, &theirs, turn)
            }
            (Job::Node { theirs, .. }, Body::Compared(Ok(Compared::Nodes(nodes)))) => {
                *theirs = Some(nodes);
                self.compare(&mut job, turn)
            }
            (Job::Keys { theirs, .. }, Body::Compared(Ok(Compared::Keys(page)))) => {
                *theirs = Some(page);
                self.compare(&mut job, turn)
            }
            _ => Outcome::Unfinished,
        };
        self.after(number, job, outcome, turn)
    }

    fn after(&mut self, number: u64, job: Job, outcome: Outcome, turn: &Turn<'_>) -> Progress {
        match outcome {
            Outcome::Waiting => drop(self.jobs.insert(number, job)),
            Outcome::Done => {}
            Outcome::Overloaded => return Progress::GivenUp,
            Outcome::Unfinished => match job {
                // One of them may not be the two's to compare: the others are.
                Job::Roots { mut partitions, .. } if partitions.len() > 1 => {
                    let others = partitions.split_off(partitions.len() / 2);
                    self.stack.push(Task::Roots(others));
                    self.stack.push(Task::Roots(partitions));
                }
                Job::Roots { partitions, .. } => self.unfinished.extend(partitions),
                Job::Node { place, .. } | Job::Keys { place, .. } => {
                    self.unfinished.insert(place.partition);
                }
                Job::Key(job) => drop(self.unfinished.insert(turn.shared.partition(&job.key))),
            },
        }
        if self.round.begun > 0 && self.keys() == 0 {
            self.end_round(turn.now.monotonic_ms);
        }
        self.progress()
    }

    /// Keys that are being brought to the same.
    fn keys(&self) -> usize {
        self.jobs.values().filter(|job| matches!(job, Job::Key(_))).count()
    }

    fn end_round(&mut self, now_ms: u64) {
        let Round { began_ms, begun } = std::mem::take(&mut self.round);
        if begun >= KEYS_AT_ONCE {
            let took_ms = now_ms.saturating_sub(began_ms);
            self.shortest_ms = self.shortest_ms.min(took_ms);
            let slower_ms = RESTS_WHERE_SLOWER.saturating_mul(took_ms - self.shortest_ms);
            let rest_ms = took_ms.saturating_add(slower_ms).min(REST_MAX_MS);
            self.rests_until_ms = now_ms.saturating_add(rest_ms);
        }
    }

    fn progress(&self) -> Progress {
        if self.jobs.is_empty() && self.stack.is_empty() {
            Progress::Ended
        } else {
            Progress::Working
        }
    }

    fn compare_roots(
        &mut self,
        partitions: &[Partition],
        mine: &[TreeNode],
        theirs: &[TreeNode],
        turn: &mut Turn<'_>,
    ) -> Outcome {
        if partitions.len() != mine.len() || mine.len() != theirs.len() {
            return Outcome::Unfinished;
        }
        for ((&partition, mine), theirs) in partitions.iter().zip(mine).zip(theirs).rev() {
            self.look_below(partition, TreePath::default(), mine, theirs);
            self.saw_missing(partition, theirs.count.saturating_sub(mine.count), turn);
        }
        Outcome::Done
    }

    fn saw_missing(&self, partition: Partition, keys: u64, turn: &mut Turn<'_>) {
        let Pair { peer, n, .. } = self.pair;
        turn.shared.seen.push(Seen { peer, n, partition, what: SeenWhat::Missing(keys) });
    }

    /// Looks at what lies below a node, if it differs.
    fn look_below(
        &mut self,
        partition: Partition,
        path: TreePath,
        mine: &TreeNode,
        theirs: &TreeNode,
    ) {
        if mine == theirs && mine.is_settled || sabotage::is(Bug::NothingCompared) {
            return;
        }
        let is_short = mine.count.max(theirs.count) <= LIST_MAX;
        // What one side has nothing of is not found by comparing.
        if is_short || mine.count.min(theirs.count) == 0 {
            self.stack.push(Task::Keys(partition, path, None));
        } else {
            self.stack.push(Task::Node(partition, path));
        }
    }

    /// Compares what both answered, once both have.
    fn compare(&mut self, job: &mut Job, turn: &Turn<'_>) -> Outcome {
        match job {
            Job::Node { place, mine: Some(mine), theirs: Some(theirs) } => {
                if mine.is_empty() {
                    // There is nothing below: as far down as a tree goes.
                    let Place { partition, path, .. } = place.clone();
                    self.stack.push(Task::Keys(partition, path, None));
                    return Outcome::Done;
                }
                if mine.len() != theirs.len() {
                    return Outcome::Unfinished;
                }
                for (step, (mine, theirs)) in (0..16).zip(mine.iter().zip(&*theirs)).rev() {
                    self.look_below(place.partition, place.path.child(step), mine, theirs);
                }
                Outcome::Done
            }
            Job::Keys { place, mine: Some(mine), theirs: Some(theirs) } => {
                self.compare_keys(&place.clone(), mine, theirs, turn)
            }
            _ => Outcome::Waiting,
        }
    }

    /// Compares two lists, as far as both go.
    fn compare_keys(
        &mut self,
        place: &Place,
        mine: &mut TreeKeys,
        theirs: &mut TreeKeys,
        turn: &Turn<'_>,
    ) -> Outcome {
        let end = [&mine.next, &theirs.next].into_iter().flatten().min().cloned();
        if let Some(end) = &end {
            // A peer says where to go on.
            let count = turn.shared.ownership.partition_count();
            if end.partition(count) != Some(place.partition) || Some(end) <= place.after.as_ref() {
                return Outcome::Unfinished;
            }
            let Place { partition, path, .. } = place.clone();
            self.stack.push(Task::Keys(partition, path, Some(end.clone())));
        }
        let is_listed = |position: &ListPosition| end.as_ref().is_none_or(|end| position <= end);
        let mut differing: BTreeMap<ListPosition, (Key, Option<u128>)> = BTreeMap::new();
        for listed in std::mem::take(&mut mine.keys) {
            let position = ListPosition::of(&listed.key);
            if is_listed(&position) {
                differing.insert(position, (listed.key, listed.digest));
            }
        }
        for listed in std::mem::take(&mut theirs.keys) {
            let position = ListPosition::of(&listed.key);
            if !is_listed(&position) {
                continue;
            }
            match differing.get(&position) {
                Some((_, Some(digest))) if listed.digest == Some(*digest) => {
                    differing.remove(&position);
                }
                _ => drop(differing.insert(position, (listed.key, listed.digest))),
            }
        }
        let keys = differing.into_values().map(|(key, _)| key);
        // What is of another n meanwhile, or of a dropped bucket, is not the two's to compare.
        let keys = keys.filter(|key| {
            turn.shared.partition(key) == place.partition
                && super::answering::may_compare_key(self.pair.peer, key, turn)
        });
        self.stack.extend(keys.map(Task::Key));
        Outcome::Done
    }
}

/// The sum of roots that a question carries.
pub(super) fn sum(nodes: &[TreeNode]) -> TreeNode {
    nodes.iter().fold(TreeNode::EMPTY, |sum, node| TreeNode {
        count: sum.count.saturating_add(node.count),
        digest: sum.digest.wrapping_add(node.digest),
        is_settled: sum.is_settled && node.is_settled,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clock::NodeId;
    use ring::{Member, Ownership, PartitionCount, Ring};
    use storage::Shard;

    use super::*;
    use crate::{Now, core::tests::config};

    #[test]
    fn a_session_rests_after_a_full_round_of_keys_the_longer_the_slower_it_was() {
        let members = [1, 2, 3].map(|id| Member::new(NodeId(id)));
        let ring = Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring;
        let mut shared = Shared::new(config(), Arc::new(Ownership::new(ring)));
        let mut session =
            Session::new(Pair { peer: NodeId(2), n: 3, shard: Shard(0) }, Vec::new(), 1, 10);
        session.stack =
            (0..112_u8).map(|at| Task::Key(Key::new("default", vec![at]).unwrap())).collect();
        let mut round = |began_ms, ended_ms| {
            let mut effects = Vec::new();
            let now = Now { monotonic_ms: began_ms, wall_ms: 0 };
            let mut turn = Turn::new(&mut shared, now, &mut effects);
            let mut begun = 0;
            while session.begin(&mut turn) {
                begun += 1;
            }
            let now = Now { monotonic_ms: ended_ms, wall_ms: 0 };
            let turn = Turn::new(&mut shared, now, &mut effects);
            for (number, job) in std::mem::take(&mut session.jobs) {
                session.after(number, job, Outcome::Done, &turn);
            }
            (begun, session.rests_until_ms())
        };
        assert_eq!(round(10, 17), (KEYS_AT_ONCE, 24), "as long as the shortest took");
        assert_eq!(round(24, 36), (KEYS_AT_ONCE, 36 + 12 + 4 * 5), "five milliseconds slower");
        assert_eq!(round(68, 168), (KEYS_AT_ONCE, 168 + REST_MAX_MS));
        assert_eq!(round(268, 1_000), (16, 268), "where little differs nobody waits");
    }
}
