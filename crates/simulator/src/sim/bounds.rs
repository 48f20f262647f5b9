//! Watches, with every event, that what must be bounded is.

use clock::NodeId;
use storage::{Answer, StorageError, Ticket};

use super::Sim;
use crate::Fault;

/// Calls of a core beside its requests: a change of buckets, one of ownership.
const CALLS: usize = 2;

impl Sim {
    /// The first bound that was exceeded, if one was.
    pub(crate) fn exceeded(&self) -> Option<&str> {
        self.exceeded.as_deref()
    }

    /// Looks whether a core has more under way than it may.
    pub(super) fn watch_requests(&mut self, node: usize) {
        let Some(process) = &self.nodes[node].process else { return };
        let (waiting, under_way) = (process.core.waiting(), process.core.under_way());
        let waiting_max = self.options.requests_max;
        let under_way_max = 3 * waiting_max + CALLS;
        if waiting > waiting_max || under_way > under_way_max {
            let what = format!(
                "node {node} has {waiting} requests waiting, of {waiting_max}, and {under_way} under way, of {under_way_max}"
            );
            self.exceeded.get_or_insert(what);
        }
    }

    /// Looks whether an engine took more into memory though it held as much as it may, before which was `before`.
    pub(super) fn watch_rows(&mut self, node: usize, before: usize, answers: &[(Ticket, Answer)]) {
        let Some(process) = &self.nodes[node].process else { return };
        let after = process.engine.pending_bytes();
        let most = self.options.pending_bytes_max;
        if before > most && after > before {
            let what = format!(
                "node {node} has rows of {after} bytes in memory, of {most}: {before} before"
            );
            self.exceeded.get_or_insert(what);
        }
        let is_full =
            |answer: &Answer| matches!(answer, Answer::Failed(StorageError::Overloaded(_)));
        if answers.iter().any(|(_, answer)| is_full(answer)) {
            self.strikes.count(Fault::FullMemory);
        }
    }

    /// Looks whether the last delta was made under a new name though its maker knew as many as a key takes.
    pub(super) fn watch_names(&mut self) {
        let Some(entry) = self.ledger.entries().last() else { return };
        let most = self.options.names_max;
        if let Some(names) = entry.names.filter(|&names| names >= most) {
            let what = format!("{:?} took one name more than {names}, of {most}", entry.key);
            self.exceeded.get_or_insert(what);
        }
    }

    /// Looks whether an outbox took a delta for an owner though it held as much as it may.
    pub(super) fn watch_hints(
        &mut self,
        node: usize,
        owner: NodeId,
        before: u64,
        answers: &[(Ticket, Answer)],
    ) {
        let Some(process) = &self.nodes[node].process else { return };
        let after = process.engine.pending_bytes_for(owner);
        let most = self.options.hint_bytes_max;
        if before >= most && after > before {
            let what =
                format!("node {node} holds {after} bytes for {owner}, of {most}: {before} before");
            self.exceeded.get_or_insert(what);
        }
        let is_full =
            |answer: &Answer| matches!(answer, Answer::Failed(StorageError::HintsFull { .. }));
        if answers.iter().any(|(_, answer)| is_full(answer)) {
            self.strikes.count(Fault::FullHints);
        }
    }
}
