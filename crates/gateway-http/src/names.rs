//! Names of nodes, so that dots read as in the paper: `A:2`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::Datastore;
use clock::{Dot, NodeId};

/// How long an unknown id stays unknown before the cluster is asked again. A guess: a node that
/// joined a second ago may go by its id for that long.
const REFRESH: Duration = Duration::from_secs(1);

/// Names by id.
pub(crate) type NameTable = Arc<BTreeMap<NodeId, String>>;

/// The names last heard. The lock is held for moments, never over an await.
#[derive(Default)]
pub(crate) struct Names {
    heard: Mutex<(NameTable, Option<Instant>)>,
}

impl Names {
    /// A table with the names of `nodes`, as far as the cluster knows them.
    pub(crate) async fn of(
        &self,
        datastore: &dyn Datastore,
        nodes: impl IntoIterator<Item = NodeId>,
    ) -> NameTable {
        let (table, asked) = self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        // The actors of named requests are of no node, so no node's name is theirs.
        let is_known = |node| node == NodeId::NAMED || table.contains_key(&node);
        let all_known = nodes.into_iter().all(is_known);
        if all_known || asked.is_some_and(|asked| asked.elapsed() < REFRESH) {
            return table;
        }
        let table = match datastore.status().await {
            Ok(status) => Arc::new(
                status.members.into_iter().map(|member| (member.node, member.name)).collect(),
            ),
            // Without names ids are shown: a read does not fail for want of a name.
            Err(_) => table,
        };
        let heard = (Arc::clone(&table), Some(Instant::now()));
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = heard;
        table
    }
}

/// The name of `node`, or its id.
pub(crate) fn name_of(node: NodeId, names: &BTreeMap<NodeId, String>) -> String {
    names.get(&node).cloned().unwrap_or_else(|| node.to_string())
}

/// A dot for people: node and number of the write. The epoch is left out, so this is no identity.
/// That of a write under an idempotency key has a digest of the key in the node's place.
pub(crate) fn dot_text(dot: Dot, names: &BTreeMap<NodeId, String>) -> String {
    if dot.actor.is_named() {
        // The first half of the digest tells the siblings of one key apart.
        return format!("named-{:08x}:{}", dot.actor.epoch.process >> 32, dot.counter);
    }
    format!("{}:{}", name_of(dot.actor.replica, names), dot.counter)
}
