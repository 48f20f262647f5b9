//! What this node's membership follows of who owns partitions: one that is to own some is a full member, and
//! one that leaves has left once nothing is left here that another must have.

use std::sync::Arc;

use membership::{Command, Effect, MemberState, Phase};
use tokio::sync::oneshot;
use tokio::task::spawn_local;

use super::{MembershipTask, Work};
use crate::members::Notice;
use crate::shared::Shared;
use crate::work::Work as LoopWork;

impl MembershipTask {
    /// Whether this node owns partitions, or is to; `None` while it is not known who does.
    fn is_owner(&self) -> Option<bool> {
        let ownership = self.shared.ownership();
        let is_known = ownership.target().id().version > 0;
        is_known.then(|| ownership.members().binary_search(&self.shared.config.node()).is_ok())
    }

    /// Looked at now and then.
    pub(super) fn follow_ownership(&mut self, work: &mut Work) {
        if self.ended.is_some() {
            return;
        }
        match work.gossip.own().state() {
            MemberState::Joining if self.is_owner() == Some(true) => {
                let is_up = self.declare(work, Phase::Up);
                if is_up {
                    tracing::info!(name = self.shared.config.name, "this node owns partitions");
                }
            }
            MemberState::Leaving if self.is_owner() == Some(false) => {
                // The loops may take their time; gossip does not wait for them.
                drop(spawn_local(tell_if_emptied(Arc::clone(&self.shared))));
            }
            _ => (),
        }
    }

    /// A node that is to leave, owns nothing and has nothing left has left.
    pub(super) fn leave(&mut self, work: &mut Work) {
        let is_leaving = work.gossip.own().state() == MemberState::Leaving;
        let owns_nothing = self.is_owner() == Some(false);
        if is_leaving && owns_nothing && self.declare(work, Phase::Left) {
            tracing::info!(name = self.shared.config.name, "this node has left the cluster");
        }
    }

    fn declare(&mut self, work: &mut Work, phase: Phase) -> bool {
        let mut effects = Vec::new();
        let now_ms = self.shared.clock.monotonic_ms();
        if work.gossip.command(now_ms, Command::Declare(phase), &mut effects).is_err() {
            return false;
        }
        for effect in effects {
            if let Effect::Persist(snapshot) = effect {
                work.keeper.persist(snapshot);
            }
        }
        self.is_stale = true;
        true
    }
}

/// Tells membership if no loop has a part in a handover or keeps deltas for another node, and those in reach
/// have heard all that this node, which may have driven handovers, decided.
async fn tell_if_emptied(shared: Arc<Shared>) {
    for handle in shared.routes.loops() {
        let (reply, report) = oneshot::channel();
        if handle.work.try_send(LoopWork::Report(reply)).is_err() {
            return;
        }
        let Ok(report) = report.await else { return };
        let has_kept = report.pending.values().any(|&keys| keys > 0);
        if has_kept || !report.transfers.is_empty() || !report.is_ownership_known {
            return;
        }
    }
    shared.members.tell(Notice::Emptied);
}
