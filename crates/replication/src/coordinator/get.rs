//! Coordinating a read (Dynamo §4.5): ask n replicas, merge what r of them show, repair the stale.
//!
//! One owner is asked for what it holds, this node if it is one, else the one that answers soonest;
//! the others for a digest of theirs. An owner whose digest differs is asked for the whole.
//!
//! A replica that fails, or does not answer within the delay learnt of it, is made up for by the
//! next node of the preference list, which shows what it holds for others. Only owners count towards
//! r; with fewer the read answers with what it has, and its [`Acks`](crate::Acks) say so.

mod asked;

use asked::{Asked, Pending, Standing};
use clock::NodeId;
use sabotage::Bug;
use storage::{Command, StorageError};
use values::{Scope, State, Tag, Value, View, empty_collection};

use super::{Input, Progress, Terms};
use crate::{
    Acks, Answer, Body, BucketError, RequestError, ViewDigest,
    latency::Work,
    policies::text,
    quorum::count_owners,
    read_repair::repairs,
    replica,
    turn::{PartKind, Timer, Turn, Waiter},
};

/// Most that a read that was replied to may hold while it waits for late answers (about bytes, of what was merged).
/// As many reads as a loop takes requests wait at once: they hold some tens of megabytes.
const LATE_BYTES_MAX: usize = 4 << 10;

/// A view that some replicas showed, or said by their digest to hold.
#[derive(Debug)]
struct Distinct {
    view: View,
    digest: Option<ViewDigest>,
}

/// A read under way.
#[derive(Debug)]
pub(crate) struct Get {
    terms: Terms,
    scope: Scope,
    /// Whether all is asked for only to know the sizes of collections.
    counts: bool,
    round: u32,
    asked: Asked,
    views: Vec<Distinct>,
    /// What they give together, once there are several.
    merged: Option<View>,
    /// Nodes whose record of the key is damaged.
    damaged: Vec<NodeId>,
    failure: Option<StorageError>,
    is_hurried: bool,
    replied: bool,
}

impl Get {
    pub(crate) fn new(terms: Terms, scope: Scope) -> Self {
        Self {
            terms,
            scope,
            counts: false,
            round: 0,
            asked: Asked::default(),
            views: Vec::new(),
            merged: None,
            damaged: Vec::new(),
            failure: None,
            is_hurried: false,
            replied: false,
        }
    }

    /// When it ends at the latest, in monotonic milliseconds.
    pub(crate) const fn deadline(&self) -> u64 {
        self.terms.deadline
    }

    pub(crate) fn step(
        &mut self,
        slot: crate::turn::Slot,
        input: Input,
        turn: &mut Turn<'_>,
    ) -> Progress {
        let now_ms = turn.now.monotonic_ms;
        match input {
            Input::Begin => {
                turn.shared.counters.reads += 1;
                // It may have waited for another.
                self.terms.reroute(turn);
                self.ask_next(usize::from(self.terms.quorum.n), turn);
            }
            Input::Answered { body: Body::Shown(Err(StorageError::Dropped)), .. } => {
                // What others still show of it is gone.
                let dropped = BucketError::Dropped { bucket: text(self.terms.key.bucket()) };
                if !self.replied {
                    turn.reply(self.terms.origin, Err(dropped.into()));
                }
                return Progress::Done;
            }
            Input::Answered { part, body: Body::Shown(shown) } => {
                self.shown(part.round, part.node, shown, turn);
            }
            Input::Answered { part, body: Body::Digested(digest) } => {
                if part.round == self.round {
                    self.asked.answered(part.node, Standing::Digested(digest));
                }
            }
            Input::Answered { part, body: Body::Moved { .. } } if part.round == self.round => {
                // A node whose disk refuses writes does not come to go by what it was told.
                let cover_ms = u64::from(turn.shared.config.cover_ms);
                self.asked.moved(part.node, now_ms.saturating_add(cover_ms));
            }
            Input::Stored { part, answer: storage::Answer::View(view) } => {
                self.shown(part.round, part.node, Ok(view), turn);
            }
            Input::Stored { part, answer: storage::Answer::Failed(error) } => {
                self.shown(part.round, part.node, Err(error), turn);
            }
            Input::LinkDown(node) if self.asked.answered(node, Standing::Failed) => {
                self.make_up_for(1, turn);
            }
            Input::Time if now_ms >= self.terms.deadline => {
                self.reply_if(true, turn);
                self.repair(turn);
                return Progress::Done;
            }
            Input::Time => self.hedge(turn),
            Input::Hurry => self.is_hurried = true,
            // What the owners before showed says nothing of what those now hold.
            Input::Rerouted if !self.replied && self.terms.reroute(turn) => self.begin_anew(turn),
            _ => return Progress::Waiting,
        }
        self.compare(turn);
        self.reply_if(false, turn);
        let (is_late, is_pending) = (now_ms >= self.terms.cover_at, self.asked.is_pending());
        if self.replied && (is_late || self.is_hurried || !is_pending) {
            self.repair(turn);
            // What answers late is repaired, too, unless waiting for it takes room from others.
            if self.is_hurried || !is_pending || self.merged_weight() > LATE_BYTES_MAX {
                return Progress::Done;
            }
        }
        let covers = self.asked.pending().filter(|(_, pending)| !pending.is_covered);
        let covers = covers.map(|(_, pending)| pending.cover_at).filter(|_| !self.replied);
        let patience = Some(self.terms.cover_at).filter(|&at| at > now_ms);
        let at = covers.chain(patience).min().unwrap_or(self.terms.deadline);
        turn.set_timer(Timer::Request(slot), at.min(self.terms.deadline));
        Progress::Waiting
    }

    /// Asks the next `count` nodes of the preference list that are in reach: for all that it holds
    /// the one that shows it soonest, unless one was asked for that; the other owners for a digest.
    fn ask_next(&mut self, count: usize, turn: &mut Turn<'_>) {
        let next: Vec<NodeId> = if self.round_needs_only_owners(count, turn) {
            self.terms.owners.iter().copied().filter(|node| !self.asked.contains(*node)).collect()
        } else {
            let list = turn.shared.preference_list(self.terms.partition);
            list.into_iter()
                .filter(|&node| !self.asked.contains(node) && turn.shared.is_in_reach(node))
                .take(count)
                .collect()
        };
        let (me, now_ms) = (turn.me(), turn.now.monotonic_ms);
        let is_owner = |node: &NodeId| self.terms.owners.contains(node);
        let rank = |node: &NodeId| {
            let (is_silent, half_ms) = turn.shared.latencies.rank(*node, now_ms);
            (*node != me, is_silent, half_ms)
        };
        let has_whole =
            !self.views.is_empty() || self.asked.pending().any(|(_, pending)| pending.whole);
        let soonest = next.iter().copied().filter(is_owner).min_by_key(rank);
        let soonest = soonest.filter(|_| !has_whole);
        for node in next {
            // What a fallback holds is another thing; and those that are counted are known to differ.
            let whole = soonest == Some(node) || !self.terms.owners.contains(&node) || self.counts;
            self.ask(node, whole, turn);
        }
    }

    fn ask(&mut self, node: NodeId, whole: bool, turn: &mut Turn<'_>) {
        let cover_at = turn.cover_at(node, Work::Read);
        self.asked.set(
            node,
            Standing::Pending(Pending { whole, cover_at, is_covered: false, is_moved: false }),
        );
        let waiter = self.terms.waiter(self.round, node, PartKind::Ask);
        let (key, scope) = (self.terms.key.clone(), self.scope.clone());
        if node == turn.me() {
            let command = replica::read(key, scope, self.terms.owners.contains(&node));
            return turn.store(waiter, command);
        }
        let body = if whole { Body::Read { key, scope } } else { Body::Digest { key, scope } };
        let budget_ms = self.terms.budget_ms(turn);
        turn.ask_owner(node, waiter, budget_ms, self.terms.sequence, body);
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

    /// Makes up for nodes whose time is over.
    fn hedge(&mut self, turn: &mut Turn<'_>) {
        let now_ms = turn.now.monotonic_ms;
        let mut count = 0;
        for pending in self.asked.pending_mut() {
            if !pending.is_covered && pending.cover_at <= now_ms {
                pending.is_covered = true;
                count += 1;
            }
        }
        if count > 0 && !self.replied {
            turn.shared.counters.reads_hedged += 1;
            self.make_up_for(count, turn);
        }
        self.asked.give_up_moved();
    }

    /// Counts those whose digest says that they hold what was shown, and asks others for the whole:
    /// all that differ from an owner, or one if no owner showed anything or is about to.
    fn compare(&mut self, turn: &mut Turn<'_>) {
        let views = &mut self.views;
        self.asked.recognise(|digest| {
            let is_it = |known: &mut Distinct| {
                *known.digest.get_or_insert_with(|| ViewDigest::of(&known.view)) == digest
            };
            views.iter_mut().position(is_it)
        });
        let differing: Vec<NodeId> = self.asked.digested().map(|(node, _)| node).collect();
        if differing.is_empty() {
            return;
        }
        if self.owners_shown() > 0 {
            for node in differing {
                turn.shared.counters.digests_differing += 1;
                self.ask(node, true, turn);
            }
            return;
        }
        let is_coming = self.asked.pending().any(|(node, pending)| {
            pending.whole && !pending.is_covered && self.terms.owners.contains(&node)
        });
        let now_ms = turn.now.monotonic_ms;
        let rank = |node: &NodeId| turn.shared.latencies.rank(*node, now_ms);
        let soonest = differing.into_iter().min_by_key(rank);
        if let Some(node) = soonest.filter(|_| !is_coming) {
            self.ask(node, true, turn);
        }
    }

    fn shown(
        &mut self,
        round: u32,
        node: NodeId,
        shown: Result<View, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        if round != self.round || !self.asked.answered(node, Standing::Failed) {
            return;
        }
        match shown {
            Ok(view) => {
                let known = self.views.iter().position(|known| known.view == view);
                let at = known.unwrap_or_else(|| {
                    if let Some(first) = self.views.first() {
                        self.merged.get_or_insert_with(|| first.view.clone()).merge(&view);
                    }
                    self.views.push(Distinct { view, digest: None });
                    self.views.len() - 1
                });
                self.asked.set(node, Standing::Shown(at));
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

    /// How many owners are known to hold what was shown.
    fn owners_shown(&self) -> u8 {
        count_owners(&self.terms.owners, self.asked.shown().map(|(node, _)| node))
    }

    /// Whether nobody showed anything of the key.
    fn shows_nothing(&self) -> bool {
        self.views.iter().all(|known| known.view.value == Value::default())
    }

    /// What all that was shown gives together. Something was.
    fn merged(&self) -> &View {
        self.merged.as_ref().unwrap_or_else(|| &self.views[0].view)
    }

    /// About how many bytes that takes; none if nothing was shown.
    fn merged_weight(&self) -> usize {
        if self.views.is_empty() { 0 } else { self.merged().weight() }
    }

    /// Whether there is nothing left to wait for: everybody answered, or those who did not are
    /// silent and as many nodes showed what they hold as owners are needed.
    fn is_over(&self, turn: &Turn<'_>) -> bool {
        !self.asked.is_pending()
            || self.asked.shown().count() >= usize::from(self.terms.quorum.r)
                && self.asked.pending().all(|(node, _)| turn.is_silent(node))
    }

    fn reply_if(&mut self, at_deadline: bool, turn: &mut Turn<'_>) {
        let quorum = self.terms.quorum;
        let answered = self.owners_shown() + u8::from(sabotage::is(Bug::OneAnswerTooMany));
        let is_over = at_deadline || self.is_over(turn);
        if self.replied || (answered < quorum.r && !is_over) {
            return;
        }
        // What fallbacks hold for others says nothing of what owners hold.
        let is_refused = self.failure.is_some() && answered == 0 && self.shows_nothing();
        if self.views.is_empty() || is_refused {
            self.replied = true;
            turn.shared.counters.unmet_quorums += 1;
            let error = self.failure.take().map_or(RequestError::Timeout, RequestError::Storage);
            return turn.reply(self.terms.origin, Err(error));
        }
        let now_ms = turn.present().millis();
        // Judged of all that was shown: one replica may know of no deadline, or that it was taken
        // back.
        let left = self.merged().value.due(now_ms).map(|_| {
            let mut left = self.merged().clone();
            left.expire(now_ms);
            left
        });
        let shown = left.as_ref().unwrap_or_else(|| self.merged());
        let inexact = shown.collections.values().any(|summary| !summary.exact);
        if inexact && self.scope == Scope::Headers && !at_deadline {
            // Replicas disagree about a collection: its size is known only from its elements.
            self.scope = Scope::Whole;
            self.counts = true;
            return self.begin_anew(turn);
        }
        self.replied = true;
        turn.shared.counters.unmet_quorums += u64::from(answered < quorum.r);
        turn.shared.counters.conflicts += u64::from(is_conflict(self.merged()));
        let view = self.view_to_answer(left);
        let contexts = self.terms.contexts(&view, None, turn);
        let acks = Acks { owners: quorum.n, needed: quorum.r, answered, hinted: 0 };
        let time = turn.present();
        let partly_observed = false;
        let answer = Answer {
            view,
            changed: 0,
            repeated: false,
            raw: self.terms.raw,
            many_siblings: None,
            acks,
            partly_observed,
            contexts,
            time,
        };
        turn.reply(self.terms.origin, Ok(answer));
    }

    /// Asks everybody again.
    fn begin_anew(&mut self, turn: &mut Turn<'_>) {
        self.round += 1;
        self.asked.clear();
        self.views.clear();
        self.merged = None;
        self.ask_next(usize::from(self.terms.quorum.n), turn);
    }

    /// What was merged; where whole collections were, with their sizes counted, and without their
    /// elements if only the sizes were asked for.
    fn view_to_answer(&mut self, left: Option<View>) -> View {
        let shown = match left {
            Some(left) => left,
            // Nobody will be compared with it any more.
            None if self.views.len() == 1 && self.asked.all_shown() => {
                std::mem::take(&mut self.views[0].view)
            }
            None => self.merged().clone(),
        };
        if self.scope != Scope::Whole {
            return shown;
        }
        let View { value, collections: summaries, .. } = shown;
        let mut view = View::of(value);
        for (tag, summary) in &mut view.collections {
            summary.digest = summaries.get(tag).map_or(0, |summary| summary.digest);
        }
        if self.counts {
            for (tag, state) in &mut view.value.0 {
                if view.collections.contains_key(tag) {
                    *state = empty_collection(*tag, state.context().clone());
                }
            }
        }
        view
    }

    /// Sends what replicas lack to those that showed so. What they show thereby is what was merged.
    fn repair(&mut self, turn: &mut Turn<'_>) {
        if self.views.is_empty() || self.views.len() == 1 && self.damaged.is_empty() {
            return;
        }
        let me = turn.me();
        // A replica whose record is damaged takes a merge in its place.
        let nothing = View::default();
        let damaged = std::mem::take(&mut self.damaged);
        let damaged = damaged.into_iter().filter(|&node| !self.asked.is_shown(node));
        let damaged = damaged.map(|node| (node, &nothing));
        let shown = self.asked.shown().map(|(node, at)| (node, &self.views[at].view));
        let repairs = repairs(self.merged(), shown.chain(damaged), &self.terms.owners);
        if self.asked.is_pending()
            && let Some(merged) = self.merged.take()
        {
            // All that is held for those who answer late.
            self.views = vec![Distinct { view: merged, digest: None }];
            self.asked.hold_all();
        }
        for (node, delta) in repairs {
            turn.shared.counters.read_repairs += 1;
            let key = self.terms.key.clone();
            if node == me {
                turn.shared.note_stray(&key, self.terms.partition);
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
