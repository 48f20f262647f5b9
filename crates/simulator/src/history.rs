//! What clients did and were told, in order: what the invariants judge.

use std::collections::BTreeSet;

use replication::{Acks, Answer, CallId, RequestError};
use values::{Key, Operation, View};

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
    /// Which key.
    pub key: Key,
    /// What was done to it; `None` for a read.
    pub operation: Option<Operation>,
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
        self.answer().is_some_and(|answer| Acks::is_met(&answer.acks))
    }

    /// Whether it was done.
    pub fn is_done(&self) -> bool {
        matches!(self.told, Told::Done(_))
    }

    /// How many owners had it when it was answered.
    pub fn copies(&self) -> usize {
        self.answer().map_or(0, |answer| usize::from(answer.acks.answered))
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
    /// The nodes whose disks were lost, or some of what they held: what only they had is gone,
    /// acknowledged or not.
    pub disks_lost: BTreeSet<usize>,
    /// Whether outboxes lost what they said they keep.
    pub lost_hints: bool,
    /// Whether keys had deadlines.
    pub has_deadlines: bool,
    /// How far a clock may have been from the right time, either way, in milliseconds.
    pub slack_ms: u64,
    /// What a right clock showed when all faults were over, in milliseconds since 1970.
    pub ended_ms: u64,
}

impl History {
    /// Whether what was done for a record must be there in the end: more owners had it than disks
    /// were lost.
    pub fn must_survive(&self, record: &Record) -> bool {
        let lost = self.disks_lost.len();
        record.copies() > lost || lost == 0 && !self.lost_hints
    }

    /// Whether nothing was lost that a node said it holds.
    pub fn lost_nothing(&self) -> bool {
        self.disks_lost.is_empty() && !self.lost_hints
    }
}
