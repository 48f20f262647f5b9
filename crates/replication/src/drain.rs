//! Draining: a node that is about to stop has the others pass nothing on to it any more.
//!
//! What a node passes on without a name and hears nothing of is of unknown outcome, so that nothing
//! may be under way to a node when it stops. It tells every core of every node in reach, and each
//! answers once it goes by it; what comes from one that had not heard is refused, and nothing of it is
//! done. Invariant: connections keep the order of messages, so what a core passed on before it
//! answered is here before the answer.

use std::collections::BTreeMap;

use clock::NodeId;

use crate::{
    Body,
    turn::{Timer, Turn, Waiter},
};

/// What the first core of a node that drains waits for.
#[derive(Debug, Default)]
pub(crate) struct Drain {
    is_begun: bool,
    /// Questions that are not answered, by the node asked: which of its cores.
    asked: BTreeMap<NodeId, BTreeMap<u64, u8>>,
}

impl Drain {
    /// Whether the node is about to stop.
    pub(crate) const fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// Whether nobody in reach passes anything on to this node any more. One that did not answer in
    /// time does not either: it waits for no answer of this node any more.
    pub(crate) fn is_known(&self) -> bool {
        self.is_begun && self.asked.is_empty()
    }

    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>) {
        if std::mem::replace(&mut self.is_begun, true) {
            return;
        }
        for node in turn.shared.links.clone() {
            self.tell(node, 0, turn);
        }
    }

    pub(crate) fn link_up(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        if self.is_begun {
            self.link_down(node, turn);
            self.tell(node, 0, turn);
        }
    }

    pub(crate) fn link_down(&mut self, node: NodeId, turn: &mut Turn<'_>) {
        for number in self.asked.remove(&node).unwrap_or_default().into_keys() {
            turn.shared.forget_ask(number);
        }
    }

    /// One of the cores of `node`, of which there are so many, goes by it.
    pub(crate) fn answered(&mut self, node: NodeId, number: u64, cores: u8, turn: &mut Turn<'_>) {
        let Some(numbers) = self.asked.get_mut(&node) else { return };
        let core = numbers.remove(&number);
        if numbers.is_empty() {
            self.asked.remove(&node);
        }
        // The others are asked once it is known how many there are.
        if core == Some(0) {
            (1..cores).for_each(|core| self.tell(node, core, turn));
        }
    }

    /// Those that have not answered are not waited for.
    pub(crate) fn time(&mut self, turn: &mut Turn<'_>) {
        let asked = std::mem::take(&mut self.asked).into_values();
        for number in asked.flat_map(BTreeMap::into_keys) {
            turn.shared.forget_ask(number);
        }
    }

    fn tell(&mut self, node: NodeId, core: u8, turn: &mut Turn<'_>) {
        // The first core tells for all of them.
        if turn.shared.config.core != 0 {
            return;
        }
        let budget_ms = turn.shared.config.timeout_ms;
        let number = turn.ask(node, Waiter::Drain, budget_ms, Body::Draining { core });
        self.asked.entry(node).or_default().insert(number, core);
        let at = turn.now.monotonic_ms.saturating_add(budget_ms.into());
        turn.set_timer(Timer::Drain, at);
    }
}
