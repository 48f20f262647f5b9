//! Switches that cut a node's links on purpose: on development clusters, to see replicas diverge
//! and converge.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;

/// Whether one node's links are cut.
#[derive(Clone, Debug)]
pub(crate) struct Switch {
    cut: Arc<watch::Sender<bool>>,
}

impl Switch {
    pub(crate) fn new() -> Self {
        Self { cut: Arc::new(watch::Sender::new(false)) }
    }

    pub(crate) fn set(&self, cut: bool) {
        self.cut.send_replace(cut);
    }

    pub(crate) fn is_cut(&self) -> bool {
        *self.cut.borrow()
    }

    /// Wakes when the links are cut (`true`) or whole (`false`).
    pub(crate) async fn wait_for(&self, cut: bool) {
        let mut receiver = self.cut.subscribe();
        // The sender lives as long as `self`.
        let _ = receiver.wait_for(|now| *now == cut).await;
    }
}

/// The switches of a development cluster, by the nodes' names.
pub(crate) type Switchboard = Arc<BTreeMap<String, Switch>>;
