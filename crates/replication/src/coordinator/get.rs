//! Coordinating a read (Dynamo §4.5): ask n replicas, merge what r of them show, repair the stale.
//!
//! A replica that fails or stays silent is made up for by the next node of the preference list,
//! which shows what it holds for others. Only owners count towards r; with fewer the read answers
//! with what it has, and its [`Acks`](crate::Acks) say so.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use storage::{Command, StorageError};
use values::{Scope, State, Tag, View, empty_collection};

use super::{Input, Progress, Terms};
use crate::{
    Acks, Answer, Body, RequestError,
    quorum::count_owners,
    read_repair::repairs,
    turn::{PartKind, Timer, Turn, Waiter},
};

/// A read under way.
#[derive(Debug)]
pub(crate) struct Get {
    terms: Terms,
    scope: Scope,
    round: u32,
    asked: BTreeSet<NodeId>,
    pending: BTreeSet<NodeId>,
    shown: BTreeMap<NodeId, View>,
    merged: View,
    /// Nodes whose record of the key is damaged.
    damaged: Vec<NodeId>,
    failure: Option<StorageError>,
    covered: bool,
    replied: bool,
}

impl Get {
    pub(crate) fn new(terms: Terms, scope: Scope) -> Self {
        Self {
            terms,
            scope,
            round: 0,
            asked: BTreeSet::new(),
            pending: BTreeSet::new(),
            shown: BTreeMap::new(),
            merged: View::default(),
            damaged: Vec::new(),
            failure: None,
            covered: false,
            replied: false,
        }
    }

    pub(crate) fn step(
        &mut self,
        slot: crate::turn::Slot,
        input: Input,
        turn: &mut Turn<'_>,
    ) -> Progress {
        match input {
            Input::Begin => {
                turn.shared.counters.reads += 1;
                self.ask_next(usize::from(self.terms.quorum.n), turn);
                self.terms.sleep(self.covered, turn);
            }
            Input::Answered { part, body: Body::Shown(shown) } => {
                self.shown(part.round, part.node, shown, turn);
            }
            Input::Stored { part, answer: storage::Answer::View(view) } => {
                self.shown(part.round, part.node, Ok(view), turn);
            }
            Input::Stored { part, answer: storage::Answer::Failed(error) } => {
                self.shown(part.round, part.node, Err(error), turn);
            }
            Input::LinkDown(node) if self.pending.remove(&node) => {
                self.make_up_for(1, turn);
            }
            Input::Time if turn.now.monotonic_ms < self.terms.deadline => {
                self.covered = true;
                self.make_up_for(self.pending.len(), turn);
                turn.set_timer(Timer::Request(slot), self.terms.deadline);
            }
            Input::Time => {
                self.reply_if(true, turn);
                self.repair(turn);
                return Progress::Done;
            }
            Input::Hurry => self.covered = true,
            _ => return Progress::Waiting,
        }
        self.reply_if(false, turn);
        // A replica that stays silent must not keep reads under way that were replied to: with many
        // of them there would be no room for others.
        if self.replied && (self.covered || self.pending.is_empty()) {
            self.repair(turn);
            return Progress::Done;
        }
        Progress::Waiting
    }

    /// Asks the next `count` nodes of the preference list that are in reach.
    fn ask_next(&mut self, count: usize, turn: &mut Turn<'_>) {
        let me = turn.me();
        let next: Vec<NodeId> = if self.round_needs_only_owners(count, turn) {
            self.terms.owners.iter().copied().filter(|node| !self.asked.contains(node)).collect()
        } else {
            let list = turn.shared.ring.preference_list(turn.shared.partition(&self.terms.key));
            list.into_iter()
                .filter(|&node| !self.asked.contains(&node) && turn.shared.is_in_reach(node))
                .take(count)
                .collect()
        };
        for node in next {
            self.asked.insert(node);
            self.pending.insert(node);
            let waiter = self.terms.waiter(self.round, node, PartKind::Ask);
            let (key, scope) = (self.terms.key.clone(), self.scope.clone());
            if node == me {
                turn.store(waiter, Command::Read { key, scope });
            } else {
                let budget_ms = self.terms.budget_ms(turn);
                turn.ask(node, waiter, budget_ms, Body::Read { key, scope });
            }
        }
    }

    /// Whether the first `count` nodes in reach are just the owners, as nearly always: then the
    /// whole preference list need not be walked.
    fn round_needs_only_owners(&self, count: usize, turn: &Turn<'_>) -> bool {
        self.asked.is_empty()
            && count == self.terms.owners.len()
            && self.terms.owners.iter().all(|&node| turn.shared.is_in_reach(node))
    }

    /// Asks further nodes in place of some that show nothing, unless r owners answered already.
    fn make_up_for(&mut self, count: usize, turn: &mut Turn<'_>) {
        if !self.replied {
            self.ask_next(count, turn);
        }
    }

    fn shown(
        &mut self,
        round: u32,
        node: NodeId,
        shown: Result<View, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        if round != self.round || !self.pending.remove(&node) {
            return;
        }
        match shown {
            Ok(view) => {
                if self.shown.is_empty() {
                    self.merged = view.clone();
                } else {
                    self.merged.merge(&view);
                }
                self.shown.insert(node, view);
            }
            Err(error) => {
                if matches!(error, StorageError::Corrupt(_)) {
                    self.damaged.push(node);
                }
                self.failure = Some(error);
                self.make_up_for(1, turn);
            }
        }
    }

    fn reply_if(&mut self, at_deadline: bool, turn: &mut Turn<'_>) {
        let quorum = self.terms.quorum;
        let answered = count_owners(&self.terms.owners, self.shown.keys());
        let is_over = at_deadline || self.pending.is_empty();
        if self.replied || (answered < quorum.r && !is_over) {
            return;
        }
        if self.shown.is_empty() {
            self.replied = true;
            turn.shared.counters.unmet_quorums += 1;
            let error = self.failure.take().map_or(RequestError::Timeout, RequestError::Storage);
            return turn.reply(self.terms.origin, Err(error));
        }
        let inexact = self.merged.collections.values().any(|summary| !summary.exact);
        if inexact && self.scope == Scope::Headers && !at_deadline {
            // Replicas disagree about a collection: its size is known only from its elements.
            self.scope = Scope::Whole;
            self.round += 1;
            self.asked.clear();
            self.pending.clear();
            self.shown.clear();
            return self.ask_next(usize::from(quorum.n), turn);
        }
        self.replied = true;
        turn.shared.counters.unmet_quorums += u64::from(answered < quorum.r);
        turn.shared.counters.conflicts += u64::from(is_conflict(&self.merged));
        let view = self.view_to_answer();
        let contexts = self.terms.contexts(&view, None, turn);
        let acks = Acks { owners: quorum.n, needed: quorum.r, answered, hinted: 0 };
        let time = turn.shared.clock.latest();
        let partly_observed = false;
        let answer =
            Answer { view, changed: 0, repeated: false, acks, partly_observed, contexts, time };
        turn.reply(self.terms.origin, Ok(answer));
    }

    /// What was merged; where whole collections were, with their sizes counted, and without their
    /// elements if only the sizes were asked for.
    fn view_to_answer(&self) -> View {
        if self.scope != Scope::Whole {
            return self.merged.clone();
        }
        let mut view = View::of(self.merged.value.clone());
        for (tag, summary) in &mut view.collections {
            summary.digest = self.merged.collections.get(tag).map_or(0, |summary| summary.digest);
        }
        if self.round > 0 {
            for (tag, state) in &mut view.value.0 {
                if view.collections.contains_key(tag) {
                    *state = empty_collection(*tag, state.context().clone());
                }
            }
        }
        view
    }

    fn repair(&mut self, turn: &mut Turn<'_>) {
        let me = turn.me();
        // A replica whose record is damaged takes a merge in its place.
        for node in std::mem::take(&mut self.damaged) {
            self.shown.entry(node).or_default();
        }
        for (node, delta) in repairs(&self.merged, &self.shown, &self.terms.owners) {
            turn.shared.counters.read_repairs += 1;
            let key = self.terms.key.clone();
            if node == me {
                let durability = turn.durability(&key);
                let command = Command::Merge { key, delta, show: None, durability };
                turn.store(Waiter::Nobody, command);
            } else {
                let budget_ms = turn.shared.config.timeout_ms;
                let body = Body::Merge { key, delta, show: None };
                turn.ask(node, Waiter::Nobody, budget_ms, body);
            }
        }
    }
}

/// Whether a reader must choose: between siblings, or between types.
fn is_conflict(view: &View) -> bool {
    let siblings = match view.value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => state.store.0.len(),
        _ => 0,
    };
    siblings > 1 || view.live_tags().len() > 1
}
