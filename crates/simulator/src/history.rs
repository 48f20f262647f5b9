//! What clients did and were told, in order: what the invariants judge.

use std::collections::BTreeMap;

use replication::{Acks, Answer, BucketPolicy, CallId, Level, RequestError};
use values::{Key, Operation, View};

use crate::losses::Losses;

/// What a client learnt of its request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was done.
    Done(Box<Answer>),
    /// It was certainly not done.
    Refused(RequestError),
    /// It may have been done, or may yet be.
    Unknown(RequestError),
}

impl Told {
    /// Sorts an outcome: which errors say that nothing was done is documented at each.
    pub fn of(outcome: Result<Answer, RequestError>) -> Self {
        match outcome {
            Ok(answer) => Self::Done(Box::new(answer)),
            Err(
                error @ (RequestError::Update(_)
                | RequestError::Level { .. }
                | RequestError::TimeLimit
                | RequestError::Name { .. }
                | RequestError::Key(_)
                | RequestError::Cursor(_)
                | RequestError::Context(_)
                | RequestError::Unavailable { .. }
                | RequestError::Overloaded
                | RequestError::Storage(_)
                | RequestError::Stopping),
            ) => Self::Refused(error),
            Err(error) => Self::Unknown(error),
        }
    }
}

/// How many owners a key has, and how many of them a request waits for: as it said itself, or as its
/// bucket says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// Owners.
    pub n: u8,
    /// Owners that show what they hold.
    pub r: u8,
    /// Owners that have a write.
    pub w: u8,
    /// Whether the bucket says so.
    pub is_usual: bool,
}

impl Quorum {
    /// The quorum of a request.
    pub fn of(policy: BucketPolicy, level: Level) -> Self {
        Self {
            n: policy.n,
            r: level.r.unwrap_or(policy.r),
            w: level.w.unwrap_or(policy.w),
            is_usual: level == Level::default(),
        }
    }

    /// Whether the owners that show what they hold for this one must be among those that have what a
    /// request of the other one wrote.
    pub const fn meets(self, put: Self) -> bool {
        self.r + put.w > self.n
    }
}

/// One request and its outcome.
#[derive(Clone, Debug)]
pub struct Record {
    /// Virtual time of the call,
    pub from_ms: u64,
    /// and of its answer.
    pub to_ms: u64,
    /// The call, by which the ledger knows it.
    pub call: CallId,
    /// The node called.
    pub node: usize,
    /// The ring that the node was of, of two that were founded apart.
    pub ring: usize,
    /// The client that called.
    pub client: usize,
    /// Which key.
    pub key: Key,
    /// What was done to it; `None` for a read.
    pub operation: Option<Operation>,
    /// How many owners it was about.
    pub quorum: Quorum,
    /// What the client was told.
    pub told: Told,
}

impl Record {
    /// The answer, if it was done.
    pub fn answer(&self) -> Option<&Answer> {
        match &self.told {
            Told::Done(answer) => Some(answer),
            _ => None,
        }
    }

    /// The view answered, if it was done.
    pub fn view(&self) -> Option<&View> {
        self.answer().map(|answer| &answer.view)
    }

    /// Whether it was done, with the number of copies that the level promises.
    pub fn is_met(&self) -> bool {
        self.answer().is_some_and(|answer| answer.acks.is_met()) && self.knows_its_bucket()
    }

    /// Whether it was done by a node that knew how many owners its bucket's keys have, and how many of them it waits
    /// for: one that is new, or whose disk was lost, takes a bucket that it has not heard of for one like the default one.
    pub fn knows_its_bucket(&self) -> bool {
        let Some(Acks { owners, needed, .. }) = self.answer().map(|answer| answer.acks) else {
            return false;
        };
        let awaited = if self.operation.is_none() { self.quorum.r } else { self.quorum.w };
        owners <= self.quorum.n && needed >= awaited.min(owners)
    }

    /// Whether some owner that showed what it holds for this one was to have what `put` wrote. Owners of two
    /// rings do not meet, before and while one goes over to the other.
    pub const fn meets(&self, put: &Self) -> bool {
        self.ring == put.ring && self.quorum.meets(put.quorum)
    }

    /// Whether r + w > n by its bucket alone.
    pub const fn is_usual_and_meets(&self) -> bool {
        self.quorum.is_usual && self.quorum.meets(self.quorum)
    }

    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self.told, Told::Done(_))
    }

    /// How many owners had it when it was answered.
    pub fn copies(&self) -> usize {
        let copies = self.answer().map_or(0, |answer| usize::from(answer.acks.answered));
        // Who took it for one of more owners than its bucket has hands it to those that are, and drops it.
        copies.min(usize::from(self.quorum.n))
    }

    /// Whether this had ended before `other` began.
    pub fn is_before(&self, other: &Self) -> bool {
        self.to_ms < other.from_ms
    }
}

/// Everything that clients did, in the order of their calls.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The requests.
    pub records: Vec<Record>,
    /// Whether a node crashed or a disk failed: what was not durable then may be at some replicas
    /// and not at others until it is read.
    pub lost_state: bool,
    /// What was lost of each key, acknowledged or not.
    pub losses: BTreeMap<Key, Losses>,
    /// The ring whose nodes went over to another one, if one was left.
    pub left_ring: Option<usize>,
    /// How long it took after all faults were over until every partition was served, in virtual milliseconds,
    pub served_ms: u64,
    /// or what was not.
    pub unserved: Option<String>,
    /// A request that nobody answered, nor the end of its node.
    pub unanswered: Option<CallId>,
    /// Whether keys had deadlines.
    pub has_deadlines: bool,
    /// How long a key was given to live at most, in milliseconds.
    pub life_ms: u64,
    /// How often members had been suspected when all had come to rest.
    pub suspicions: u64,
    /// How far a clock may have been from the right time, either way, in milliseconds.
    pub slack_ms: u64,
    /// What a right clock showed when all faults were over, in milliseconds since 1970.
    pub ended_ms: u64,
}

impl History {
    /// Whether what was done for a record must be there in the end: more owners had it than lost what they had of
    /// its key since it began, or nobody lost anything of it.
    pub fn must_survive(&self, record: &Record) -> bool {
        let losses = self.losses.get(&record.key);
        losses.is_none_or(|losses| losses.leave(record.copies(), record.from_ms))
    }

    /// Whether owners that show what they hold for `later` were to have what was done for `put`, and none of the
    /// key's owners lost it in between.
    pub fn must_meet(&self, later: &Record, put: &Record) -> bool {
        later.meets(put) && self.is_spared(&put.key, put.from_ms, later.to_ms)
    }

    /// Whether no owner lost, until a time, what was written of a key from another time on: [`Losses::spare`].
    pub fn is_spared(&self, key: &Key, from_ms: u64, to_ms: u64) -> bool {
        self.losses.get(key).is_none_or(|losses| losses.spare(from_ms, to_ms))
    }

    /// Whether a record's owners are those of the ring that stayed, which know at all times what was done for it.
    pub fn stays(&self, record: &Record) -> bool {
        self.left_ring != Some(record.ring)
    }

    /// Whether nothing was lost that a node said it holds.
    pub fn lost_nothing(&self) -> bool {
        self.losses.values().all(|losses| losses.0.is_empty())
    }
}
