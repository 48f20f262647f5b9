//! The keeper: keeps the ownership of partitions on disk, commits plans, and spreads both.
//!
//! One core of a node has it. What is learnt becomes the node's once it is durable, in one note, and
//! only then the other cores and other nodes are told. So a node that has told of a tenure never
//! again goes by an earlier one, also after a crash. What is learnt while the disk works is gathered
//! for the next write. Every other node is told what it lacks: when its link comes up all of it, at a
//! change what changed, and all again if there is any doubt about what it has ([`peers`]). (Gossip
//! carries the same state; a join does not care how it came.)

mod peers;
mod start;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use clock::NodeId;
use ring::{CommitError, Joined, Ownership, Partition, PlanId, Ring, Tenure};
use serde::{Deserialize, Serialize};
use storage::{Answer, Command, StorageError};

use self::peers::Peers;
pub(crate) use self::start::is_provisional;
pub use self::start::{KeptStart, provisional_ownership};
use crate::{
    Body, CallId, Effect, KnownOwnership, OwnershipCall, OwnershipReply, PlanChange, Reply,
    RequestError, RequestId,
    turn::{Timer, Turn, Waiter},
};

/// The name of the note.
const NOTE: &[u8] = b"ownership";
/// The name of the note of what was committed here.
const COMMITS_NOTE: &[u8] = b"commits";
/// Nodes and clients that wait for the disk at most; one more is refused as overload.
const ASKED_MAX: usize = 256;
/// Commits remembered, so that one is computed again should it turn out that another won.
const COMMITS_MAX: usize = 16;
/// Pause after the disk refused a write, in milliseconds.
const RETRY_MS: u64 = 1_000;

/// What the keeper waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// That what was learnt is durable.
    Stored,
    /// A node's answer to what it was told.
    Told(NodeId),
}

/// A node that told what it has and waits for an answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    from: NodeId,
    id: RequestId,
    /// Of its state.
    digest: u128,
    /// Whether it told something that could not be taken in.
    is_passed_over: bool,
}

/// A plan that was committed here.
#[derive(Debug)]
struct Commit {
    change: PlanChange,
    plan: PlanId,
    superseded: u32,
    client: Option<Client>,
}

/// The latest plans that were committed by a node, the last one last: should it turn out that others won, they
/// are computed again, also after a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptCommits(Vec<(PlanChange, PlanId)>);

impl KeptCommits {
    /// Those that an engine's notes keep; none of what is damaged.
    pub fn of_notes(notes: &[(Bytes, Option<Bytes>)]) -> Self {
        let note = notes.iter().find(|(name, _)| name == COMMITS_NOTE);
        let value = note.and_then(|(_, value)| value.as_ref());
        value.and_then(|value| clock::decode(value).ok()).unwrap_or_default()
    }

    /// The note by which an engine keeps them.
    pub fn note(&self) -> (Bytes, Bytes) {
        (Bytes::from_static(COMMITS_NOTE), clock::encode(self).into())
    }
}

/// Who waits for a commit.
#[derive(Debug)]
struct Client {
    id: CallId,
    deadline: u64,
    /// The change of the state that has the plan, once it is durable.
    durable: Option<u64>,
}

/// Keeps, commits and spreads.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What is durable.
    ownership: Arc<Ownership>,
    /// That, and what was learnt since.
    learnt: Ownership,
    /// What is being written, and its digest.
    storing: Option<(Arc<Ownership>, u128)>,
    /// Who waits for the write under way, and for the next.
    asked: Vec<Asked>,
    asked_next: Vec<Asked>,
    paused_until: u64,
    /// The latest last.
    commits: VecDeque<Commit>,
    peers: Peers,
}

/// The state that an engine's notes keep.
///
/// `None` if there is none yet. An error if it is damaged: then the node has forgotten by which
/// tenures it must not answer any more.
fn kept_ownership(notes: &[(Bytes, Option<Bytes>)]) -> Result<Option<Ownership>, StorageError> {
    let Some((_, value)) = notes.iter().find(|(name, _)| name == NOTE) else { return Ok(None) };
    let decoded = value.as_ref().and_then(|value| clock::decode(value).ok());
    let damaged = || StorageError::Corrupt("the note of who owns partitions".into());
    decoded.map(Some).ok_or_else(damaged)
}

/// The note by which an engine keeps `ownership`.
pub fn ownership_note(ownership: &Ownership) -> (Bytes, Bytes) {
    (Bytes::from_static(NOTE), clock::encode(ownership).into())
}

impl Keeper {
    pub(crate) fn new(ownership: &Arc<Ownership>, kept: KeptCommits) -> Self {
        let commits = kept.0.into_iter();
        let commits = commits
            .map(|(change, plan)| Commit { change, plan, superseded: 0, client: None })
            .collect();
        Self {
            peers: Peers::new(ownership),
            ownership: Arc::clone(ownership),
            learnt: Ownership::clone(ownership),
            storing: None,
            asked: Vec::new(),
            asked_next: Vec::new(),
            paused_until: 0,
            commits,
        }
    }

    /// What is durable.
    pub(crate) const fn ownership(&self) -> &Arc<Ownership> {
        &self.ownership
    }

    /// Takes the state with which the cluster began. It needs not be durable: nobody goes by an earlier
    /// one.
    pub(crate) fn begin_with(&mut self, ownership: &Arc<Ownership>) {
        self.learnt.join(ownership);
        if self.storing.is_none() {
            self.peers.changed(&self.ownership, ownership, peers::digest(ownership));
            self.ownership = Arc::clone(ownership);
        }
    }

    /// Whether something is under way that a stop waits for.
    pub(crate) fn is_busy(&self) -> bool {
        self.storing.is_some() || self.commits.iter().any(|commit| commit.client.is_some())
    }

    /// Whether every node in reach, and at least one, has all that is known here.
    pub(crate) fn is_known(&self) -> bool {
        self.storing.is_none()
            && *self.ownership == self.learnt
            && (self.ownership.is_first() || self.peers.have_all())
    }

    /// Takes a client's call.
    pub(crate) fn call(&mut self, id: CallId, call: OwnershipCall, turn: &mut Turn<'_>) {
        let OwnershipCall::Commit(change) = call;
        if self.commits.iter().filter(|commit| commit.client.is_some()).count() >= ASKED_MAX {
            return turn.reply_to(id, Err(RequestError::Overloaded));
        }
        match self.commit(&change, turn) {
            Ok(plan) => {
                let timeout_ms = u64::from(turn.shared.config.timeout_ms);
                let deadline = turn.now.monotonic_ms.saturating_add(timeout_ms);
                let client = Some(Client { id, deadline, durable: None });
                self.commits.push_back(Commit { change, plan, superseded: 0, client });
                while self.commits.len() > COMMITS_MAX
                    && self.commits.front().is_some_and(|commit| commit.client.is_none())
                {
                    self.commits.pop_front();
                }
            }
            Err(error) => turn.reply_to(id, Err(RequestError::Plan(error.to_string()))),
        }
        self.go_on(turn);
    }

    /// Makes the plan that has the change.
    fn commit(&mut self, change: &PlanChange, turn: &Turn<'_>) -> Result<PlanId, CommitError> {
        let members = change.members(self.learnt.target().ring().roster());
        let spread = Ring::spread_for(turn.shared.config.default_policy.n);
        let plan =
            self.learnt.commit_replacing(&change.replace, &members, spread, &change.remove)?;
        let id = plan.id();
        self.learnt.add_plan(plan);
        Ok(id)
    }

    /// Takes tenures that this node's cores made or were told of.
    /// The state `of` which they were made has the plans that they name.
    pub(crate) fn learn(
        &mut self,
        tenures: Vec<(Partition, Tenure)>,
        of: &Ownership,
        turn: &mut Turn<'_>,
    ) {
        let joined = self.learnt.add_tenures_of(of, tenures);
        self.joined(&joined, turn);
        self.go_on(turn);
    }

    /// Takes what another node tells of its state.
    pub(crate) fn told(
        &mut self,
        (from, id): (NodeId, RequestId),
        digest: u128,
        tenures: Vec<(Partition, Tenure)>,
        whole: Option<Box<Ownership>>,
        turn: &mut Turn<'_>,
    ) {
        if self.asked.len() + self.asked_next.len() >= ASKED_MAX {
            return turn.answer(from, id, Body::OwnershipKnown(Err(StorageError::Busy)));
        }
        if let Some(whole) = whole {
            let joined = self.learnt.join(&whole);
            self.joined(&joined, turn);
        }
        let joined = self.learnt.add_tenures(tenures);
        self.joined(&joined, turn);
        let is_passed_over = joined.has_passed_over;
        self.asked_next.push(Asked { from, id, digest, is_passed_over });
        self.go_on(turn);
    }

    /// Takes an answer that the keeper waited for.
    pub(crate) fn answered(&mut self, wait: Wait, body: Body, turn: &mut Turn<'_>) {
        if let (Wait::Told(node), Body::OwnershipKnown(known)) = (wait, body) {
            if let Some(theirs) = self.peers.answered(node, known, &self.ownership, turn) {
                let joined = self.learnt.join(&theirs);
                self.joined(&joined, turn);
            }
            self.go_on(turn);
        }
    }

    /// Takes the engine's answer.
    pub(crate) fn stored(&mut self, answer: &Answer, turn: &mut Turn<'_>) {
        let Some((stored, digest)) = self.storing.take() else { return };
        if let Answer::Failed(error) = answer {
            self.paused_until = turn.now.monotonic_ms.saturating_add(RETRY_MS);
            for Asked { from, id, .. } in std::mem::take(&mut self.asked) {
                turn.answer(from, id, Body::OwnershipKnown(Err(error.clone())));
            }
        } else {
            self.peers.changed(&self.ownership, &stored, digest);
            self.ownership = Arc::clone(&stored);
            turn.effects.push(Effect::Ownership(stored));
            self.answer_asked(turn);
        }
        self.go_on(turn);
    }

    pub(crate) fn link_up(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        self.peers.link_up(node);
        self.forget_asked(node);
        self.go_on(turn);
    }

    pub(crate) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        self.peers.link_down(node, turn);
        self.forget_asked(node);
        self.go_on(turn);
    }

    /// The link to a node is another one, or none: the process that asked may be gone, and with it all that it had.
    /// One that is there still asks again.
    fn forget_asked(&mut self, node: NodeId) {
        self.asked.retain(|asked| asked.from != node);
        self.asked_next.retain(|asked| asked.from != node);
    }

    /// The time has come that the timer was set for.
    pub(crate) fn time(&mut self, turn: &mut Turn<'_>) {
        self.peers.time(turn);
        self.go_on(turn);
    }

    /// Another plan may be the target now: what was committed here and is not in it is computed
    /// again.
    fn joined(&mut self, joined: &Joined, turn: &mut Turn<'_>) {
        if !joined.is_retargeted {
            return;
        }
        let mut commits = std::mem::take(&mut self.commits);
        commits.retain_mut(|commit| {
            let lost = commit.plan;
            if self.learnt.target().follows(lost) {
                return true;
            }
            let again = match self.commit(&commit.change, turn) {
                // The other one says the same.
                Err(CommitError::Unchanged { .. }) => Ok(self.learnt.target().id()),
                again => again.map_err(|error| error.to_string()),
            };
            turn.effects.push(Effect::Superseded { lost, again: again.clone() });
            match again {
                Ok(plan) => {
                    commit.plan = plan;
                    commit.superseded += 1;
                    if let Some(client) = &mut commit.client {
                        client.durable = None;
                    }
                    true
                }
                Err(error) => {
                    if let Some(client) = &commit.client {
                        turn.reply_to(client.id, Err(RequestError::Plan(error)));
                    }
                    false
                }
            }
        });
        self.commits = commits;
    }

    /// Does what can be done now, tells nodes what they lack, answers whom it can, and sets the
    /// timer.
    fn go_on(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        if self.storing.is_none() && now >= self.paused_until {
            self.asked.append(&mut self.asked_next);
            if *self.ownership == self.learnt {
                self.answer_asked(turn);
            } else {
                let commits = self.commits.iter();
                let commits = commits.map(|commit| (commit.change.clone(), commit.plan)).collect();
                let note = ownership_note(&self.learnt);
                self.storing = Some((Arc::new(self.learnt.clone()), peers::digest_of(&note.1)));
                let notes = vec![note, KeptCommits(commits).note()];
                turn.store(Waiter::Keeper(Wait::Stored), Command::Note { notes });
            }
        }
        self.peers.tell(&self.ownership, turn);
        self.conclude(turn);
        let clients = self.commits.iter().filter_map(|commit| commit.client.as_ref());
        let deadlines = clients.map(|client| client.deadline);
        let is_paused = self.storing.is_none() && *self.ownership != self.learnt;
        let paused = is_paused.then_some(self.paused_until);
        match deadlines.chain(self.peers.wake_at()).chain(paused).min() {
            Some(at) => turn.set_timer(Timer::Keeper, at),
            None => turn.shared.clear_timer(Timer::Keeper),
        }
    }

    /// Answers those whose state is part of what is durable.
    fn answer_asked(&mut self, turn: &mut Turn<'_>) {
        for Asked { from, id, digest, is_passed_over } in std::mem::take(&mut self.asked) {
            let ours = self.peers.digest();
            self.peers.said(from, digest);
            // By the whole the other one finds what is lacking here; who is followed is told what it lacks anyway.
            let is_whole = digest != ours && (is_passed_over || !self.peers.is_followed(from));
            let whole = is_whole.then(|| Box::new(Ownership::clone(&self.ownership)));
            let known = KnownOwnership { digest: ours, whole };
            turn.answer(from, id, Body::OwnershipKnown(Ok(known)));
        }
    }

    /// Answers the clients whose plan all nodes in reach have, or whose time is up.
    fn conclude(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        for commit in &mut self.commits {
            let Some(client) = &mut commit.client else { continue };
            if client.durable.is_none() && self.ownership.target().follows(commit.plan) {
                client.durable = Some(self.peers.last_change());
            }
            let is_over = now >= client.deadline;
            let reply = match client.durable {
                Some(change) if is_over || self.peers.all_know(change) => {
                    let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
                    Ok(Reply::Ownership(OwnershipReply::Committed {
                        plan: commit.plan,
                        superseded: commit.superseded,
                        known: count(self.peers.count(change) + 1),
                        members: count(self.ownership.members().len()),
                    }))
                }
                None if is_over => Err(RequestError::Unknown { acked: 0, needed: 1, disk: None }),
                _ => continue,
            };
            turn.reply_to(client.id, reply);
            commit.client = None;
        }
    }
}
