//! What all parts of a running node share.

use std::sync::Arc;

use clock::{ClusterSecret, NodeId};
use ring::Ring;
use tokio::sync::watch;
use wire::Identity;

use crate::backups::Backups;
use crate::config::NodeConfig;
use crate::endings::Endings;
use crate::health::Health;
use crate::links::Link;
use crate::places::Places;
use crate::routing::Routes;
use crate::seats::Seats;
use crate::switchboard::Switch;
use crate::time::NodeClock;
use crate::work::Urgent;

/// A running node, as its tasks see it.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: NodeConfig,
    pub(crate) identity: Identity,
    pub(crate) secret: ClusterSecret,
    pub(crate) ring: Ring,
    pub(crate) clock: NodeClock,
    pub(crate) routes: Routes,
    /// One link per other member, in the order of the configuration.
    pub(crate) links: Vec<Arc<Link>>,
    /// Changes whenever a link comes or goes.
    pub(crate) links_changed: watch::Sender<u64>,
    /// Whether the node's links are cut on purpose.
    pub(crate) switch: Switch,
    /// Turns true when connections are to end.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) places: Places,
    pub(crate) seats: Seats,
    pub(crate) endings: Endings,
    pub(crate) backups: Backups,
    pub(crate) health: Arc<Health>,
}

impl Shared {
    /// Wakes when connections are to end.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.clone();
        // A sender that is gone has closed all the more.
        let _ = closing.wait_for(|closing| *closing).await;
    }

    /// Tells the loops, and whoever waits, that a link came or went.
    pub(crate) fn announce(&self, link: &Link, up: bool) {
        tracing::info!(node = %self.identity.name, peer = %link.member.name, up, "link");
        self.routes.tell_all(|| Urgent::Link { node: link.member.node, up });
        self.links_changed.send_modify(|count| *count += 1);
    }

    /// The link to a member.
    pub(crate) fn link(&self, node: NodeId) -> Option<&Arc<Link>> {
        self.links.iter().find(|link| link.member.node == node)
    }
}
