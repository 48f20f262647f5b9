//! Names of nodes, so that dots read as in the paper: `A:2`.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use client::Datastore;
use clock::NodeId;

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
