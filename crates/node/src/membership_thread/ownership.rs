//! What this node's membership follows of who owns partitions: one that is to own some is a full member, and
//! one that leaves has left once nothing is left here that another must have (`observer`).

use membership::{Command, Effect, MemberState, Phase};

use super::{MembershipTask, Work};

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
        let is_joining = work.gossip.own().state() == MemberState::Joining;
        if is_joining && self.is_owner() == Some(true) && self.declare(work, Phase::Up) {
            tracing::info!(name = self.shared.config.name, "this node owns partitions");
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
