//! What all parts of a running node share.

use std::sync::Arc;

use clock::{ClusterSecret, NodeId};
use ring::Ownership;
use tokio::sync::watch;
use wire::Identity;

use crate::backups::Backups;
use crate::barrier_view::BarrierView;
use crate::config::NodeConfig;
use crate::drain::Drain;
use crate::endings::Endings;
use crate::health::Health;
use crate::links::{Link, LinkMap};
use crate::members::{Members, Notice};
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
    /// As the node is called at its start; see [`Shared::identity`].
    pub(crate) first_identity: Identity,
    pub(crate) secret: ClusterSecret,
    pub(crate) clock: NodeClock,
    pub(crate) routes: Routes,
    pub(crate) members: Members,
    /// Who owns partitions, as the node knows it; of version 0 before it knows.
    pub(crate) ownership: Arc<watch::Sender<Arc<Ownership>>>,
    /// Whether the node serves.
    pub(crate) serving: watch::Sender<bool>,
    /// A link for each other member. Replaced when members come or go.
    pub(crate) links: watch::Sender<Arc<LinkMap>>,
    /// Changes whenever a link comes up or goes down, or the links are others.
    pub(crate) links_changed: watch::Sender<u64>,
    /// Whether the node's links are cut on purpose.
    pub(crate) switch: Switch,
    /// Turns true when connections are to end.
    pub(crate) closing: watch::Receiver<bool>,
    pub(crate) places: Places,
    pub(crate) seats: Seats,
    pub(crate) endings: Endings,
    pub(crate) backups: Backups,
    pub(crate) barrier: BarrierView,
    pub(crate) health: Arc<Health>,
    pub(crate) drain: Drain,
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
        tracing::info!(node = %self.first_identity.name, peer = %link.name, up, "link");
        self.routes.tell_all(|| Urgent::Link { node: link.node, up });
        if !up {
            self.members.tell(Notice::TimedOut(link.node));
        }
        self.links_changed.send_modify(|count| *count += 1);
    }

    /// The link to a member.
    pub(crate) fn link(&self, node: NodeId) -> Option<Arc<Link>> {
        self.links.borrow().get(&node).cloned()
    }

    /// All links.
    pub(crate) fn links(&self) -> Arc<LinkMap> {
        Arc::clone(&self.links.borrow())
    }

    /// Who owns partitions now.
    pub(crate) fn ownership(&self) -> Arc<Ownership> {
        Arc::clone(&self.ownership.borrow())
    }

    /// Who this node is.
    pub(crate) fn identity(&self) -> Identity {
        let incarnation = self.members.view.borrow().incarnation;
        Identity { incarnation, ..self.first_identity.clone() }
    }
}
