//! Listing the keys in conflict that this node's own replica shows.
//!
//! Of this node alone: what is in conflict elsewhere only, an administrator asks for there. Merging
//! the lists of all nodes would cost as much as there are conflicts, for every page.

use storage::{Answer, Command};

use super::{Input, Progress};
use crate::{
    CallId, ConflictsRequest, Reply, RequestError,
    turn::{Part, PartKind, Slot, Turn, Waiter},
};

/// Most keys of one page.
const PAGE_MAX: u32 = 1_000;

/// A listing under way.
#[derive(Debug)]
pub(crate) struct Conflicts {
    id: CallId,
    request: ConflictsRequest,
}

impl Conflicts {
    pub(crate) const fn new(id: CallId, request: ConflictsRequest) -> Self {
        Self { id, request }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        let reply = match input {
            Input::Begin => {
                let part = Part { round: 0, node: turn.me(), kind: PartKind::Ask };
                let limit = self.request.limit.clamp(1, PAGE_MAX) as usize;
                let command = Command::Conflicts { after: self.request.after.take(), limit };
                turn.store(Waiter::Request { slot, part }, command);
                return Progress::Waiting;
            }
            Input::Stored { answer: Answer::Conflicts(mut page), .. } => {
                page.keys.retain(|found| !turn.shared.buckets.is_gone(&found.key));
                for found in &mut page.keys {
                    // Who asks for a key names no generation.
                    found.key = found.key.clone().in_generation(0);
                }
                Ok(Reply::Conflicts(page))
            }
            Input::Stored { answer: Answer::Failed(error), .. } => {
                Err(RequestError::Storage(error))
            }
            _ => return Progress::Waiting,
        };
        turn.reply_to(self.id, reply);
        Progress::Done
    }
}
