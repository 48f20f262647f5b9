//! Listing the keys in conflict that one node's own replica shows: the first page this node's, a later one
//! of the node that gave the page before, wherever it is asked for.
//!
//! Of one node alone: what is in conflict elsewhere only, an administrator asks for there. Merging
//! the lists of all nodes would cost as much as there are conflicts, for every page.

use clock::NodeId;
use storage::{Answer, Command, ConflictPage, StorageError};

use super::{Input, Progress, deadline};
use crate::{
    Body, CallId, ConflictCursor, ConflictList, ConflictsRequest, Reply, RequestError,
    replica::CONFLICTS_MAX,
    turn::{Part, PartKind, Slot, Timer, Turn, Waiter},
};

/// A listing under way.
#[derive(Debug)]
pub(crate) struct Conflicts {
    id: CallId,
    request: ConflictsRequest,
    /// Whose list it is, once that is known.
    of: Option<NodeId>,
}

impl Conflicts {
    pub(crate) const fn new(id: CallId, request: ConflictsRequest) -> Self {
        Self { id, request, of: None }
    }

    pub(crate) fn step(&mut self, slot: Slot, input: Input, turn: &mut Turn<'_>) -> Progress {
        let listed = match input {
            Input::Begin => match self.begin(slot, turn) {
                Ok(()) => return Progress::Waiting,
                Err(error) => Err(error),
            },
            Input::Stored { part, answer: Answer::Conflicts(page) }
            | Input::Answered { part, body: Body::ConflictsListed(Ok(page)) } => {
                Ok(Reply::Conflicts(shown(part.node, page, turn)))
            }
            Input::Stored { answer: Answer::Failed(error), .. }
            | Input::Answered { body: Body::ConflictsListed(Err(error)), .. } => Err(failed(error)),
            Input::LinkDown(node) if self.of == Some(node) => {
                Err(elsewhere(node, "this node lost its connection to it", turn))
            }
            Input::Time => match self.of {
                Some(node) if node != turn.me() => {
                    Err(elsewhere(node, "it did not answer this node in time", turn))
                }
                _ => Err(RequestError::Timeout),
            },
            _ => return Progress::Waiting,
        };
        turn.reply_to(self.id, listed);
        Progress::Done
    }

    /// Asks the node whose list it is.
    fn begin(&mut self, slot: Slot, turn: &mut Turn<'_>) -> Result<(), RequestError> {
        let (node, after) = match self.request.cursor.take() {
            Some(ConflictCursor { node, after }) => (node, Some(after)),
            None => (turn.me(), None),
        };
        let limit = self.request.limit.clamp(1, CONFLICTS_MAX);
        let part = Part { round: 0, node, kind: PartKind::Ask };
        let waiter = Waiter::Request { slot, part };
        self.of = Some(node);
        let until = deadline(None, turn);
        turn.set_timer(Timer::Request(slot), until);
        if node == turn.me() {
            turn.store(waiter, Command::Conflicts { after, limit: limit as usize });
            return Ok(());
        }
        if !turn.shared.is_in_reach(node) {
            if !turn.shared.config.names.contains_key(&node) {
                return Err(RequestError::Cursor(format!(
                    "the cursor is of node {node}, which is no member here; list anew, without a cursor"
                )));
            }
            return Err(elsewhere(node, "this node cannot reach it", turn));
        }
        let budget_ms = turn.shared.config.timeout_ms;
        turn.ask(node, waiter, budget_ms, Body::Conflicts { after, limit });
        Ok(())
    }
}

/// What is told of a page of the list of `node`.
fn shown(node: NodeId, page: ConflictPage, turn: &Turn<'_>) -> ConflictList {
    let ConflictPage { mut keys, next } = page;
    keys.retain(|found| !turn.shared.buckets.is_gone(&found.key));
    for found in &mut keys {
        // Who asks for a key names no generation.
        found.key = found.key.clone().in_generation(0);
    }
    let next = next.map(|after| ConflictCursor { node, after });
    ConflictList { node: name(node, turn), keys, next }
}

fn name(node: NodeId, turn: &Turn<'_>) -> String {
    turn.shared.config.names.get(&node).cloned().unwrap_or_else(|| node.to_string())
}

/// The node whose list it is does not answer here; it may well answer whoever asks it itself.
fn elsewhere(node: NodeId, why: &str, turn: &Turn<'_>) -> RequestError {
    let name = name(node, turn);
    RequestError::Unreachable(format!(
        "the cursor goes on in the list of {name:?}, and {why}: ask {name:?} itself, or list anew, without a cursor"
    ))
}

fn failed(error: StorageError) -> RequestError {
    match error {
        StorageError::Busy => RequestError::Overloaded,
        error => RequestError::Storage(error),
    }
}
