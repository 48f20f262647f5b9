//! Coordinators: one state machine per request under way, from its call to its reply and the
//! background work that follows it (Dynamo §4.5, §5).

mod choose;
mod conflicts;
mod count;
mod explain;
mod forward;
mod get;
mod scan;
mod update;

use std::sync::Arc;

use clock::{Actor, CausalContext, ContextToken, NodeId, Stamp, TokenClaims};
use ring::{Partition, Ring, Sequence};
use sabotage::Bug;
use values::{Blob, Key, Lifetime, Limits, Tag, View};

pub(crate) use self::{
    choose::choose, conflicts::Conflicts, count::Count, explain::Explain, forward::Forward,
    get::Get, scan::Scan, update::Update,
};
use crate::{
    Action, Body, Level, Request, RequestError, RequestName,
    quorum::Quorum,
    request::token_scope,
    turn::{Origin, Part, PartKind, Shared, Slot, Turn, Waiter},
};

/// Longest time that a request may take, in milliseconds.
pub(crate) const TIMEOUT_MAX_MS: u32 = 60_000;

/// What a coordinator is told.
#[derive(Debug)]
pub(crate) enum Input {
    /// To begin.
    Begin,
    /// What it had to follow has gone before it.
    Released,
    /// A peer answered.
    Answered { part: Part, body: Body },
    /// The engine answered.
    Stored { part: Part, answer: storage::Answer },
    /// The time has come for which its timer was set.
    Time,
    /// Too much goes on in the background: what was replied to is to end soon.
    Hurry,
    /// Who owns partitions changed.
    Rerouted,
    /// A link went down: what was asked of the node may never be answered.
    LinkDown(NodeId),
}

/// Whether a coordinator still waits for something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    Waiting,
    Done,
}

/// A request under way.
#[derive(Debug)]
pub(crate) enum Coordinator {
    Get(Box<Get>),
    Update(Box<Update>),
    Forward(Box<Forward>),
    Scan(Box<Scan>),
    Count(Count),
    Conflicts(Conflicts),
    Explain(Box<Explain>),
}

impl Coordinator {
    /// Has a write made only once it is released; what it needs for that it may find out before.
    /// Returns whether it may begin: another request must not, until it is released.
    pub(crate) fn hold(&mut self) -> bool {
        match self {
            Self::Update(update) => {
                update.hold();
                true
            }
            _ => false,
        }
    }

    /// When it ends at the latest though it has not begun, in monotonic milliseconds; `None` if it never waits for
    /// another.
    pub(crate) const fn deadline(&self) -> Option<u64> {
        match self {
            Self::Get(get) => Some(get.deadline()),
            Self::Forward(forward) => Some(forward.deadline()),
            _ => None,
        }
    }

    /// Whether `next`, a later request of the same caller on the same key, may go on without
    /// changing the order in which both are seen. `replied` if this one was replied to.
    pub(crate) fn lets_pass(&self, next: &Self, replied: bool) -> bool {
        match (self, next) {
            // Made, it is in what this node shows and in what it makes next.
            (Self::Update(update), _) => update.is_made(),
            (Self::Get(_), Self::Get(_)) => true,
            // Two messages may change places on their way: a replica could show a read what comes
            // after it, or take two writes the other way round.
            _ => replied,
        }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        match self {
            Self::Get(get) => get.step(slot, input, turn),
            Self::Update(update) => update.step(slot, input, turn),
            Self::Forward(forward) => forward.step(slot, input, turn),
            Self::Scan(scan) => scan.step(slot, input, turn),
            Self::Count(count) => count.step(slot, input, turn),
            Self::Conflicts(conflicts) => conflicts.step(slot, input, turn),
            Self::Explain(explain) => explain.step(slot, input, turn),
        }
    }
}

/// What every request on a key has.
#[derive(Debug)]
pub(crate) struct Terms {
    pub(crate) slot: Slot,
    pub(crate) origin: Origin,
    pub(crate) key: Key,
    pub(crate) partition: Partition,
    level: Level,
    pub(crate) quorum: Quorum,
    /// The tenure by which answers count.
    pub(crate) sequence: Sequence,
    /// Who is read.
    pub(crate) owners: Vec<NodeId>,
    /// Who must acknowledge a write beside them, and how many of these: of a handover that is about
    /// to end, or has just been decided, those on its other side.
    pub(crate) beside: Vec<NodeId>,
    beside_w: u8,
    pub(crate) want_context: bool,
    /// The type that a raw write makes in the key's bucket.
    pub(crate) raw: Tag,
    /// What a write does to the key's time to live.
    pub(crate) lifetime: Lifetime,
    /// The bounds of what operations on the bucket's keys make.
    pub(crate) limits: Arc<Limits>,
    /// The request's name, and who writes for it.
    pub(crate) name: Option<RequestName>,
    pub(crate) named: Option<Actor>,
    /// What the client showed to have seen.
    pub(crate) observed: CausalContext,
    /// When no silent replica is waited for alone any more; monotonic milliseconds, as is
    pub(crate) cover_at: u64,
    /// when the request ends at the latest.
    pub(crate) deadline: u64,
}

impl Terms {
    /// Checks a request's level and token. Nothing was done on an error.
    pub(crate) fn of(
        request: &Request,
        partition: Partition,
        slot: Slot,
        origin: Origin,
        turn: &mut Turn<'_>,
    ) -> Result<Self, RequestError> {
        let quorum = quorum(request, partition, turn.shared)?;
        let mut observed = CausalContext::default();
        if let Some(claims) = request.claims(&turn.shared.config.secret)? {
            turn.shared.clock.observe(claims.time);
            observed = claims.context;
        }
        let named = match (&request.name, &request.action) {
            (Some(name), Action::Update(operation)) => {
                name.check()?;
                Some(name.actor(&turn.shared.config.secret, &request.key, operation))
            }
            _ => None,
        };
        let bucket = turn.shared.buckets.of_key(&request.key);
        let lifetime = bucket.policy.lifetime(request.lifetime);
        let mut terms = Self {
            slot,
            origin,
            key: request.key.clone(),
            partition,
            level: request.level,
            quorum,
            sequence: Sequence::default(),
            owners: Vec::new(),
            beside: Vec::new(),
            beside_w: 0,
            want_context: request.want_context,
            raw: bucket.policy.raw.tag(),
            lifetime,
            limits: Arc::clone(&bucket.limits),
            name: request.name.clone(),
            named,
            observed,
            cover_at: turn.now.monotonic_ms.saturating_add(turn.shared.config.cover_ms.into()),
            deadline: deadline(request.timeout_ms, turn),
        };
        terms.reroute(turn);
        Ok(terms)
    }

    /// Takes note of who owns the key now. Returns whether it is by another tenure than before.
    pub(crate) fn reroute(&mut self, turn: &Turn<'_>) -> bool {
        let shared = &*turn.shared;
        let partition = self.partition;
        let sequence = shared.ownership.sequence(partition);
        if self.sequence == sequence {
            return false;
        }
        self.sequence = sequence;
        // The level was found good before, and so it is in a cluster of another size.
        let policy = shared.buckets.of_key(&self.key).policy;
        let resolve = |ring: &Ring| Quorum::resolve(policy, self.level, ring.members().len());
        self.quorum = resolve(shared.ownership.present(partition)).unwrap_or(self.quorum);
        self.owners = shared.owners(partition, self.quorum.n);
        (self.beside, self.beside_w) = (Vec::new(), 0);
        if let Some(ring) = shared.ownership.beside(partition) {
            let beside = resolve(ring);
            let Quorum { n, w, .. } = beside.unwrap_or(self.quorum);
            self.beside = ring.owners(partition, usize::from(n)).collect();
            self.beside_w = w;
        }
        true
    }

    /// Every node that must have a write, each once.
    pub(crate) fn holders(&self) -> impl Iterator<Item = NodeId> + '_ {
        let beside = self.beside.iter().filter(|node| !self.owners.contains(node));
        self.owners.iter().chain(beside).copied()
    }

    /// How many owners hold a write, if those do that `holds` says: with a handover under way what
    /// makes it as safe on its one side as on its other, so that w says that w of each do.
    pub(crate) fn acked(&self, holds: impl Fn(&NodeId) -> bool) -> u8 {
        let count = |nodes: &[NodeId]| nodes.iter().filter(|node| holds(node)).count();
        let mut acked = count(&self.owners);
        if !self.beside.is_empty() && !sabotage::is(Bug::OneSideCounts) {
            let beside = count(&self.beside) + usize::from(self.quorum.w);
            acked = acked.min(beside.saturating_sub(self.beside_w.into()));
        }
        u8::try_from(acked).unwrap_or(u8::MAX)
    }

    /// The note on what is asked of `node` in `round`.
    pub(crate) const fn waiter(&self, round: u32, node: NodeId, kind: PartKind) -> Waiter {
        Waiter::Request { slot: self.slot, part: Part { round, node, kind } }
    }

    /// Milliseconds until the deadline.
    pub(crate) fn budget_ms(&self, turn: &Turn<'_>) -> u32 {
        budget_ms(self.deadline, turn)
    }

    /// The tokens that `view` answers with: what is deleted or was never there has a context too.
    pub(crate) fn contexts(
        &self,
        view: &View,
        put: Option<&Blob>,
        turn: &Turn<'_>,
    ) -> std::collections::BTreeMap<Tag, ContextToken> {
        if !self.want_context {
            return std::collections::BTreeMap::new();
        }
        let time: Stamp = turn.shared.clock.latest();
        let tags = view.context_tags().into_iter();
        tags.map(|tag| {
            let context = match put {
                // The writer was not shown the siblings beside its put.
                Some(put) if tag == Tag::BYTES => view.context_of_put(&self.observed, put),
                _ => view.value.context(tag).without_seals(),
            };
            let claims = TokenClaims { context, time };
            let scope = token_scope(&self.key, tag);
            (tag, ContextToken::seal(&turn.shared.config.secret, scope, &claims))
        })
        .collect()
    }
}

/// The quorum of `request`, whose key is in `partition`.
pub(crate) fn quorum(
    request: &Request,
    partition: Partition,
    shared: &Shared,
) -> Result<Quorum, RequestError> {
    let policy = shared.buckets.of_key(&request.key).policy;
    let ring = shared.ownership.present(partition);
    Quorum::resolve(policy, request.level, ring.members().len())
}

/// When a request of `timeout_ms` that begins now must end.
pub(crate) fn deadline(timeout_ms: Option<u32>, turn: &Turn<'_>) -> u64 {
    let timeout_ms = timeout_ms.unwrap_or(turn.shared.config.timeout_ms).min(TIMEOUT_MAX_MS);
    if sabotage::is(Bug::SilenceAwaited) {
        return u64::MAX;
    }
    turn.now.monotonic_ms.saturating_add(timeout_ms.into())
}

/// Milliseconds from now until `deadline`.
pub(crate) fn budget_ms(deadline: u64, turn: &Turn<'_>) -> u32 {
    u32::try_from(deadline.saturating_sub(turn.now.monotonic_ms)).unwrap_or(TIMEOUT_MAX_MS)
}
