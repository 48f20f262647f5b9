//! By which ownership of the partitions the core goes, and what follows from another one.

use std::sync::Arc;

use ring::{Ownership, Partition, Ring, Tenure};

use super::{Core, Running};
use crate::{
    Effect, Now,
    coordinator::{Coordinator, Input},
    keeper::is_provisional,
    turn::{Slot, Turn, Waiter},
};

impl Core {
    /// Lets handovers and anti-entropy, which they want to compare partitions, go on.
    pub(super) fn hand_over(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !std::mem::replace(&mut self.is_begun, true) && !self.is_founder() {
            self.ask_for_whom_is_kept(now, effects);
        }
        loop {
            let mut turn = Turn::new(&mut self.shared, now, effects);
            self.handover.look(&mut turn);
            for seen in std::mem::take(&mut turn.shared.seen) {
                self.handover.saw(seen, now.monotonic_ms);
            }
            for partition in std::mem::take(&mut turn.shared.strayed) {
                self.handover.strayed(partition, &mut turn);
            }
            let (wants, found) = (self.handover.take_wants(), self.anti_entropy.take_found());
            let decisions = self.handover.take_decisions();
            if wants.is_empty() && found.is_empty() && decisions.is_empty() {
                return self.handover.ask(&mut turn);
            }
            for want in wants {
                self.anti_entropy.want(want, &mut turn);
            }
            for found in found {
                self.handover.found(found, &mut turn);
            }
            if !decisions.is_empty() {
                let of = Arc::clone(&self.shared.ownership);
                self.learn(decisions, of, now, effects);
            }
        }
    }

    /// Whether this is a founder of a cluster in which nothing has changed: what it keeps is for members. Also one that
    /// knows no ring yet: there is nobody else to keep it.
    fn is_founder(&self) -> bool {
        let ownership = &self.shared.ownership;
        ownership.is_first() && ownership.members().contains(&self.shared.config.node)
    }

    /// Looks for whom something is kept: those who are no members never come for it.
    fn ask_for_whom_is_kept(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut turn = Turn::new(&mut self.shared, now, effects);
        turn.store(Waiter::OutboxOwners, storage::Command::OutboxOwners);
    }

    /// Goes by what the keeper has on disk.
    pub(super) fn own_what_is_kept(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let kept = self.keeper.as_ref().map(|keeper| Arc::clone(keeper.ownership()));
        if let Some(kept) = kept.filter(|kept| !Arc::ptr_eq(kept, &self.shared.ownership)) {
            self.own(kept, now, effects);
        }
    }

    /// Has tenures kept that one of this node's cores made, or was told of.
    pub(super) fn learn(
        &mut self,
        tenures: Vec<(Partition, Tenure)>,
        of: Arc<Ownership>,
        now: Now,
        effects: &mut Vec<Effect>,
    ) {
        match &mut self.keeper {
            Some(keeper) => {
                keeper.learn(tenures, &of, &mut Turn::new(&mut self.shared, now, effects));
            }
            None => effects.push(Effect::Tenures { tenures, of }),
        }
    }

    /// Takes the ring with which the cluster began, if this node did not know it.
    pub(super) fn begin_with(&mut self, ring: Ring, now: Now, effects: &mut Vec<Effect>) {
        let mut ownership = Ownership::clone(&self.shared.ownership);
        if !ownership.join(&Ownership::new(ring)).is_changed() {
            return;
        }
        let ownership = Arc::new(ownership);
        if let Some(keeper) = &mut self.keeper {
            keeper.begin_with(&ownership);
        }
        self.own(ownership, now, effects);
    }

    /// Goes by another ownership from now on.
    pub(super) fn own(&mut self, ownership: Arc<Ownership>, now: Now, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.shared.ownership, ownership);
        let has_other_plans = |(a, b): (&Ownership, &Ownership)| {
            !a.plans().map(ring::Plan::id).eq(b.plans().map(ring::Plan::id))
        };
        if has_other_plans((&before, &self.shared.ownership)) {
            let mut turn = Turn::new(&mut self.shared, now, effects);
            for &node in before.members() {
                self.delivery.rerouted(node, &mut turn);
            }
        }
        if is_provisional(&before) && self.is_begun {
            // It may have left another ring, whose members need not all be members here.
            self.ask_for_whom_is_kept(now, effects);
        }
        let is_begun = |running: &Running| {
            !running.is_held || matches!(running.coordinator, Coordinator::Update(_))
        };
        let begun = self.running.iter().filter(|(_, running)| is_begun(running));
        for slot in begun.map(|(slot, _)| Slot(slot)).collect::<Vec<_>>() {
            self.resume(slot, Input::Rerouted, now, effects);
        }
        // What is owned together with somebody in reach from now on may be all that there is to compare:
        // then nothing else would have it compared.
        self.anti_entropy.time(&mut Turn::new(&mut self.shared, now, effects));
    }
}
