//! The registrar: changes the table of bucket policies, keeps it on disk, and spreads it.
//!
//! One core of a node has it. A change becomes part of the table once it is durable here, and is
//! answered once the members in reach have it on their disks, or time is up; one thing is stored at
//! a time, so each is decided on what the one before it left. Every other member is told what it
//! lacks: at a change, and when its link comes up. A message says the digest of the sender's table,
//! and its answer that of the receiver's, with the whole of it where they differ: both end up with
//! the join. What is not answered is sent again as long as the link is up. Not by gossip: every two members have a
//! link, and a change is answered by who has it on disk.

mod peers;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use clock::NodeId;
use storage::{Answer, Command, StorageError};
use values::{BucketId, Key};

use self::peers::Peers;
use crate::{
    Body, BucketCall, BucketError, BucketReply, Buckets, CallId, Effect, Field, KnownPolicies,
    PolicyTable, Reply, RequestError, RequestId,
    policies::text,
    turn::{Timer, Turn, Waiter},
};

/// Changes and tables of others that wait to be stored; one more is refused as overload.
const TASKS_MAX: usize = 256;

/// What the registrar waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// That the table's change is durable.
    Stored,
    /// What a member counts in the bucket whose n is to change, in the counting of this number.
    Count(NodeId, u64),
    /// A member's answer to what it was told.
    Told(NodeId),
}

/// Something to be done to the table.
#[derive(Debug)]
enum Task {
    /// A client's change.
    Change { id: CallId, call: BucketCall, deadline: u64 },
    /// What another member has; `asked` if it waits for an answer.
    Learn { entries: PolicyTable, asked: Option<Asked> },
}

/// A member that told what it has and waits for an answer.
#[derive(Clone, Copy, Debug)]
struct Asked {
    from: NodeId,
    id: RequestId,
    /// Of its table.
    digest: u128,
}

/// Who hears that a change is durable.
#[derive(Debug)]
enum Then {
    Client { id: CallId, name: Bytes, deadline: u64 },
    Member(Option<Asked>),
}

/// What goes on.
#[derive(Debug)]
enum Current {
    /// The disk works on a change.
    Storing { change: PolicyTable, then: Then },
    /// Members are asked whether the bucket holds data before its n changes.
    Counting {
        id: CallId,
        call: BucketCall,
        deadline: u64,
        pending: BTreeSet<NodeId>,
        /// The questions to other members.
        asked: Vec<u64>,
    },
}

/// A change durable here, whose client waits for the members in reach.
#[derive(Debug)]
struct Spreading {
    id: CallId,
    name: Bytes,
    deadline: u64,
    /// The number of the change.
    change: u64,
}

/// Changes, keeps and spreads the table.
#[derive(Debug)]
pub(crate) struct Registrar {
    table: PolicyTable,
    tasks: VecDeque<Task>,
    current: Option<Current>,
    spreading: Vec<Spreading>,
    peers: Peers,
    /// Countings so far: an answer to an earlier one is of another bucket, or of another time.
    countings: u64,
}

impl Registrar {
    pub(crate) fn new(table: PolicyTable) -> Self {
        Self {
            peers: Peers::new(&table),
            table,
            tasks: VecDeque::new(),
            current: None,
            spreading: Vec::new(),
            countings: 0,
        }
    }

    /// Whether something is under way that a stop waits for.
    pub(crate) fn is_busy(&self) -> bool {
        self.current.is_some() || !self.tasks.is_empty() || !self.spreading.is_empty()
    }

    /// Takes a client's change.
    pub(crate) fn change(&mut self, id: CallId, call: BucketCall, turn: &mut Turn<'_>) {
        if self.tasks.len() >= TASKS_MAX {
            return turn.reply_to(id, Err(RequestError::Overloaded));
        }
        let timeout_ms = u64::from(turn.shared.config.timeout_ms);
        let deadline = turn.now.monotonic_ms.saturating_add(timeout_ms);
        self.tasks.push_back(Task::Change { id, call, deadline });
        self.go_on(turn);
    }

    /// Takes what another member tells of its table.
    pub(crate) fn told(
        &mut self,
        from: NodeId,
        id: RequestId,
        digest: u128,
        entries: PolicyTable,
        turn: &mut Turn<'_>,
    ) {
        if self.tasks.len() >= TASKS_MAX {
            return turn.answer(from, id, Body::PoliciesKnown(Err(StorageError::Busy)));
        }
        let asked = Some(Asked { from, id, digest });
        self.tasks.push_back(Task::Learn { entries, asked });
        self.go_on(turn);
    }

    /// Takes an answer that the registrar waited for.
    pub(crate) fn answered(&mut self, wait: Wait, body: Body, turn: &mut Turn<'_>) {
        match (wait, body) {
            (Wait::Told(node), Body::PoliciesKnown(known)) => {
                if let Some(entries) = self.peers.answered(node, known, &self.table, turn)
                    && self.tasks.len() < TASKS_MAX
                {
                    self.tasks.push_back(Task::Learn { entries, asked: None });
                }
            }
            (Wait::Count(node, counting), Body::Counted(counted)) if counting == self.countings => {
                self.counted(node, counted.ok(), turn);
            }
            _ => {}
        }
        self.go_on(turn);
    }

    /// Takes the engine's answer.
    pub(crate) fn stored(&mut self, wait: Wait, answer: Answer, turn: &mut Turn<'_>) {
        match (wait, answer) {
            (Wait::Count(node, counting), answer) => {
                if counting == self.countings {
                    let count = if let Answer::Count(count) = answer { Some(count) } else { None };
                    self.counted(node, count, turn);
                }
            }
            (_, Answer::Failed(error)) => self.failed(&error, turn),
            _ => self.durable(turn),
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
        if let Some(Current::Counting { pending, .. }) = &self.current
            && pending.contains(&node)
        {
            self.counted(node, None, turn);
        }
        self.go_on(turn);
    }

    /// The link to a node is another one, or none: the process that asked may be gone, and with it all that it had.
    /// One that is there still asks again.
    fn forget_asked(&mut self, node: NodeId) {
        let forget = |asked: &mut Option<Asked>| {
            asked.take_if(|asked| asked.from == node);
        };
        for task in &mut self.tasks {
            if let Task::Learn { asked, .. } = task {
                forget(asked);
            }
        }
        if let Some(Current::Storing { then: Then::Member(asked), .. }) = &mut self.current {
            forget(asked);
        }
    }

    /// The time has come that the timer was set for.
    pub(crate) fn time(&mut self, turn: &mut Turn<'_>) {
        self.peers.time(turn);
        if let Some(Current::Counting { deadline, pending, .. }) = &self.current
            && turn.now.monotonic_ms >= *deadline
            && let Some(&silent) = pending.first()
        {
            self.counted(silent, None, turn);
        }
        self.go_on(turn);
    }

    /// Does what can be done now, tells members what they lack, answers whom it can, and sets the
    /// timer.
    fn go_on(&mut self, turn: &mut Turn<'_>) {
        while self.current.is_none()
            && let Some(task) = self.tasks.pop_front()
        {
            match task {
                Task::Change { id, call, deadline } => self.begin(id, call, deadline, turn),
                Task::Learn { entries, asked } => {
                    let change = entries.beyond(&self.table);
                    self.store(change, Then::Member(asked), turn);
                }
            }
        }
        if self.current.is_none() {
            self.peers.tell(turn);
        }
        self.conclude(turn);
        let counting = match &self.current {
            Some(Current::Counting { deadline, .. }) => Some(*deadline),
            _ => None,
        };
        let spreading = self.spreading.iter().map(|spreading| spreading.deadline).min();
        match [counting, spreading, self.peers.wake_at(turn.now.monotonic_ms)]
            .into_iter()
            .flatten()
            .min()
        {
            Some(at) => turn.set_timer(Timer::Registrar, at),
            None => turn.shared.clear_timer(Timer::Registrar),
        }
    }

    /// Begins a client's change: checks it, and asks what the bucket holds where that matters.
    fn begin(&mut self, id: CallId, call: BucketCall, deadline: u64, turn: &mut Turn<'_>) {
        let Some(name) = call.changes() else { return };
        if let Err(invalid) = Key::new(name.clone(), Bytes::new()) {
            return turn.reply_to(id, Err(invalid.into()));
        }
        let change = match self.decide(&call, turn) {
            Ok(change) => change,
            Err(error) => return turn.reply_to(id, Err(error.into())),
        };
        if !moves_owners(&call, turn) {
            let then = Then::Client { id, name: name.clone(), deadline };
            return self.store(change, then, turn);
        }
        let members: BTreeSet<NodeId> = turn.shared.ownership.members().iter().copied().collect();
        if !members.iter().all(|&node| turn.shared.is_in_reach(node)) {
            let error = BucketError::CannotTell { bucket: text(name) };
            return turn.reply_to(id, Err(error.into()));
        }
        let generation = turn.shared.buckets.of(name).generation;
        let bucket = BucketId { name: name.clone(), generation };
        let partitions: Vec<_> = turn.shared.ownership.partition_count().iter().collect();
        self.countings += 1;
        let mut asked = Vec::new();
        for &node in &members {
            let (bucket, partitions) = (bucket.clone(), partitions.clone());
            let waiter = Waiter::Registrar(Wait::Count(node, self.countings));
            if node == turn.me() {
                turn.store(waiter, Command::Count { partitions, bucket });
            } else {
                let budget_ms = turn.shared.config.timeout_ms;
                let body = Body::Count { bucket, partitions, as_owner: false };
                asked.push(turn.ask(node, waiter, budget_ms, body));
            }
        }
        self.current = Some(Current::Counting { id, call, deadline, pending: members, asked });
    }

    /// Takes what a member counted in the bucket; `None` if it could not be asked.
    fn counted(&mut self, node: NodeId, count: Option<u64>, turn: &mut Turn<'_>) {
        let Some(Current::Counting { pending, .. }) = &mut self.current else { return };
        if !pending.remove(&node) || count == Some(0) && !pending.is_empty() {
            return;
        }
        let Some(Current::Counting { id, call, deadline, asked, .. }) = self.current.take() else {
            return;
        };
        for number in asked {
            turn.shared.forget_ask(number);
        }
        let Some(name) = call.changes().cloned() else { return };
        let bucket = text(&name);
        let decided = match count {
            Some(0) => self.decide(&call, turn),
            Some(_) => {
                let n = turn.shared.buckets.of(&name).policy.n;
                Err(BucketError::HoldsData { bucket, n })
            }
            None => Err(BucketError::CannotTell { bucket }),
        };
        match decided {
            Ok(change) => self.store(change, Then::Client { id, name, deadline }, turn),
            Err(error) => turn.reply_to(id, Err(error.into())),
        }
    }

    /// What the call changes in the table as it is now.
    fn decide(&self, call: &BucketCall, turn: &mut Turn<'_>) -> Result<PolicyTable, BucketError> {
        let default = turn.shared.config.default_policy;
        // A clock that was set back must not make a change that loses against what it changes.
        turn.shared.clock.observe(self.table.latest());
        let at = (turn.stamp(), turn.me());
        self.table.change(call, default, at)
    }

    /// Has a change stored that is to become part of the table.
    fn store(&mut self, change: PolicyTable, then: Then, turn: &mut Turn<'_>) {
        if change.is_empty() {
            // Everything in the table is durable.
            return self.tell_durable(then, turn);
        }
        let mut after = self.table.clone();
        let notes = after.join(&change).notes();
        turn.store(Waiter::Registrar(Wait::Stored), Command::Note { notes });
        self.current = Some(Current::Storing { change, then });
    }

    /// The change that was stored is part of the table now.
    fn durable(&mut self, turn: &mut Turn<'_>) {
        let Some(Current::Storing { change, then }) = self.current.take() else { return };
        let changed = self.table.join(&change);
        let config = &turn.shared.config;
        let buckets = Buckets::new(&self.table, config.default_policy, &config.limits);
        turn.shared.buckets = Arc::new(buckets);
        turn.effects.push(Effect::Buckets(Arc::clone(&turn.shared.buckets)));
        self.peers.changed(&changed, &self.table);
        self.tell_durable(then, turn);
    }

    fn tell_durable(&mut self, then: Then, turn: &mut Turn<'_>) {
        match then {
            Then::Client { id, name, deadline } => {
                let change = self.peers.last_change();
                self.spreading.push(Spreading { id, name, deadline, change });
            }
            Then::Member(Some(Asked { from, id, digest })) => {
                let ours = self.peers.digest();
                let same = digest == ours;
                if same {
                    self.peers.agrees(from);
                }
                let entries = if same { PolicyTable::default() } else { self.table.clone() };
                let known = KnownPolicies { digest: ours, entries };
                turn.answer(from, id, Body::PoliciesKnown(Ok(known)));
            }
            Then::Member(None) => {}
        }
    }

    /// The disk refused the change: whether it shows again after a crash is unknown, unless so much
    /// waited for the disk that the engine did not take it.
    fn failed(&mut self, error: &StorageError, turn: &mut Turn<'_>) {
        let Some(Current::Storing { then, .. }) = self.current.take() else { return };
        self.peers.pause(turn);
        match then {
            Then::Client { id, .. } => {
                let failed = match error {
                    StorageError::Overloaded(_) => RequestError::Storage(error.clone()),
                    _ => RequestError::Unknown { acked: 0, needed: 1, disk: Some(error.clone()) },
                };
                turn.reply_to(id, Err(failed));
            }
            Then::Member(Some(Asked { from, id, .. })) => {
                turn.answer(from, id, Body::PoliciesKnown(Err(error.clone())));
            }
            Then::Member(None) => {}
        }
    }

    /// Answers the clients whose change all members in reach have, or whose time is up.
    fn conclude(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.monotonic_ms;
        let (peers, mut done) = (&self.peers, Vec::new());
        self.spreading.retain(|spreading| {
            let waits = now < spreading.deadline && !peers.all_know(spreading.change);
            if !waits {
                done.push((spreading.id, spreading.name.clone(), peers.count(spreading.change)));
            }
            waits
        });
        for (id, name, others) in done {
            let bucket = turn.shared.buckets.of(&name).info(&name);
            let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
            let members = count(turn.shared.ownership.members().len());
            let known = count(others.saturating_add(1));
            turn.reply_to(id, Ok(Reply::Buckets(BucketReply::Changed { bucket, known, members })));
        }
    }
}

/// Whether the call changes how many owners the keys have that the bucket may hold.
fn moves_owners(call: &BucketCall, turn: &Turn<'_>) -> bool {
    let (name, fields, default) = match call {
        BucketCall::Create { name, fields } => {
            (name, fields, u64::from(turn.shared.config.default_policy.n))
        }
        BucketCall::Set { name, fields } => {
            (name, fields, u64::from(turn.shared.buckets.of(name).policy.n))
        }
        _ => return false,
    };
    let bucket = turn.shared.buckets.of(name);
    // Created anew, it begins empty.
    bucket.standing != crate::Standing::Dropped
        && fields.value(Field::N).unwrap_or(default) != u64::from(bucket.policy.n)
}
