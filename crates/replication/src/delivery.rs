//! Delivery of the outbox: every delta that an owner missed is sent to it until it acknowledges
//! (the beginning of Dynamo's hinted handoff, §4.6).
//!
//! A pass lists an owner's pending deltas page by page and sends each. A pass that found anything
//! is followed by another, so that passes end only when the outbox is empty. Invariant: while an
//! owner's link is up and its outbox may hold something, a page is under way or a timer is set.
//!
//! What is kept for a node that is no owner any more is kept for the owners in its place, page by page too:
//! the next one only once that is done, and after a pause. A node that is to own nothing any more
//! passes on what it keeps for owners that cannot be reached: the next node in reach that stays keeps it.

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use sabotage::Bug;
use storage::{Answer, Command, OutboxPosition, Pending, StorageError};
use values::{Key, View};

use crate::{
    Body, message,
    turn::{Timer, Turn, Waiter},
};

/// Pause between a pass that found something and the next, in milliseconds.
const NEXT_PASS_MS: u64 = 100;
/// Pause after a page of which something was kept for others, or nothing could be sent, in milliseconds.
/// A guess: such a page is much to write, and nobody waits for it. After any other page delivery rests
/// for as long as the page took, and no longer than this: so it takes half of what there is, unless a page takes
/// longer than that.
const NEXT_PAGE_MS: u64 = 100;
/// Pause after a pass in which an owner did not take everything, in milliseconds: doubled each
/// time, up to the maximum.
const RETRY_MS: u64 = 1_000;
const RETRY_MAX_MS: u64 = 60_000;

/// A page is given up no sooner than so slow a link can carry it: about 2 Mbit/s.
const SLOWEST_BYTES_PER_MS: usize = 256;

/// What goes on towards one owner.
#[derive(Debug)]
enum Phase {
    /// Nothing under way. A timer is set if there may be something to deliver.
    Idle,
    /// The engine was asked for a page.
    Listing,
    /// A page is under way.
    Sending {
        /// The messages not acknowledged yet, by number, and which delta of the page each brings.
        unacknowledged: BTreeMap<u64, usize>,
        /// Deltas of the page that are being kept for others.
        redirects: BTreeSet<u64>,
        /// Whether there were any.
        has_redirected: bool,
        page: Vec<Sent>,
        last: OutboxPosition,
    },
    /// The next page, after this position, is listed when it is time.
    Paused(OutboxPosition),
}

/// A delta under way, in one message or several.
#[derive(Debug)]
struct Sent {
    position: OutboxPosition,
    version: u128,
    /// Messages not acknowledged yet.
    parts: usize,
}

#[derive(Debug)]
struct Lane {
    phase: Phase,
    /// When the page was asked for.
    began_ms: u64,
    found_any: bool,
    failed: bool,
    retry_ms: u64,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            phase: Phase::Idle,
            began_ms: 0,
            found_any: false,
            failed: false,
            retry_ms: RETRY_MS,
        }
    }
}

/// Delivery to all owners.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    lanes: BTreeMap<NodeId, Lane>,
    next_redirect: u64,
}

impl Delivery {
    /// The owner can be reached: look for what it missed.
    pub(crate) fn link_up(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        self.link_down(owner, turn);
        let lane = self.lane(owner);
        lane.retry_ms = RETRY_MS;
        if let Phase::Listing = lane.phase {
            // The answer of an interrupted pass still comes, and may be of its last page only.
            lane.found_any = true;
        } else {
            (lane.found_any, lane.failed) = (false, false);
            self.list(owner, None, turn);
        }
    }

    /// What was under way is sent again when the link is back.
    pub(crate) fn link_down(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let lane = self.lane(owner);
        match &lane.phase {
            Phase::Sending { unacknowledged, .. } => {
                for &number in unacknowledged.keys() {
                    turn.shared.forget_ask(number);
                }
                lane.phase = Phase::Idle;
            }
            Phase::Paused(_) => lane.phase = Phase::Idle,
            Phase::Idle | Phase::Listing => {}
        }
        turn.shared.clear_timer(Timer::Delivery(owner));
        // It need not come back for what is to be kept for others.
        if matches!(lane.phase, Phase::Idle)
            && (is_gone(owner, turn) || is_leaving(turn.me(), turn))
        {
            let at = turn.now.monotonic_ms.saturating_add(RETRY_MS);
            turn.set_timer(Timer::Delivery(owner), at);
        }
    }

    /// What the owner acknowledged could not be deleted: it is listed again.
    pub(crate) fn delivered(&mut self, owner: NodeId, answer: &Answer, turn: &mut Turn<'_>) {
        let lane = self.lane(owner);
        let Answer::Failed(_) = answer else {
            lane.retry_ms = RETRY_MS;
            return;
        };
        lane.failed = true;
        if let Phase::Idle = lane.phase {
            self.end_pass(owner, turn);
        }
    }

    /// A delta was put into the owner's outbox.
    pub(crate) fn deferred(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let lane = self.lane(owner);
        match lane.phase {
            // For one that is no member any more, or by this one, it is not kept for good.
            Phase::Idle
                if turn.shared.links.contains(&owner)
                    || is_gone(owner, turn)
                    || is_leaving(turn.me(), turn) =>
            {
                let at = turn.now.monotonic_ms.saturating_add(lane.retry_ms);
                turn.set_timer_if_none(Timer::Delivery(owner), at);
            }
            // Found at the latest by the next pass.
            Phase::Listing | Phase::Sending { .. } | Phase::Paused(_) => lane.found_any = true,
            Phase::Idle => {}
        }
    }

    /// The engine listed a page.
    pub(crate) fn listed(
        &mut self,
        owner: NodeId,
        page: Result<Vec<Pending>, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let page = page.unwrap_or_else(|_| {
            self.lane(owner).failed = true;
            Vec::new()
        });
        let Some(last) = page.last().map(|pending| pending.position.clone()) else {
            return self.end_pass(owner, turn);
        };
        let bytes = page.iter().map(|pending| clock::encoded_length(&pending.delta)).sum::<usize>();
        let slow_ms = u32::try_from(bytes / SLOWEST_BYTES_PER_MS).unwrap_or(u32::MAX);
        let budget_ms = turn.shared.config.timeout_ms.saturating_add(slow_ms);
        let is_up = turn.shared.links.contains(&owner);
        let (page, strange): (Vec<Pending>, Vec<Pending>) =
            page.into_iter().partition(|Pending { key, .. }| {
                turn.shared.is_holder(owner, key, turn.shared.partition(key))
                    || sabotage::is(Bug::HintsKeepAddress)
            });
        let redirects = strange.into_iter();
        let redirects: BTreeSet<u64> =
            redirects.map(|pending| self.redirect(owner, pending, turn)).collect();
        let page = if is_up || is_leaving(turn.me(), turn) { page } else { Vec::new() };
        let has_redirected = !redirects.is_empty();
        let mut unacknowledged = BTreeMap::new();
        let mut sent = Vec::new();
        let mut has_failed = false;
        for Pending { position, key, delta, version } in page {
            let to = if is_up { Some(owner) } else { next_keeper(owner, &key, turn) };
            let Some(to) = to else {
                has_failed = true;
                continue;
            };
            let parts = message::parts(delta);
            for delta in &parts {
                let (key, delta) = (key.clone(), delta.clone());
                let body = match is_up {
                    true => Body::Merge { key, delta, show: None },
                    false => Body::Hint { owner, key, delta },
                };
                let number = turn.ask(to, Waiter::Delivery(owner), budget_ms, body);
                unacknowledged.insert(number, sent.len());
            }
            sent.push(Sent { position, version, parts: parts.len() });
        }
        let lane = self.lane(owner);
        lane.failed |= has_failed;
        let is_sent = !sent.is_empty();
        if !is_sent && !has_redirected {
            return self.pause(owner, last, NEXT_PAGE_MS, turn);
        }
        lane.found_any = true;
        lane.phase = Phase::Sending { unacknowledged, redirects, has_redirected, page: sent, last };
        if is_sent {
            let at = turn.now.monotonic_ms.saturating_add(u64::from(budget_ms));
            turn.set_timer(Timer::Delivery(owner), at);
        }
    }

    /// Goes on with the page after `last` a little later.
    fn pause(&mut self, owner: NodeId, last: OutboxPosition, for_ms: u64, turn: &mut Turn<'_>) {
        self.lane(owner).phase = Phase::Paused(last);
        let at = turn.now.monotonic_ms.saturating_add(for_ms);
        turn.set_timer(Timer::Delivery(owner), at);
    }

    /// Goes on with the next page, if all of the one under way is done.
    fn go_on(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let Phase::Sending { unacknowledged, redirects, has_redirected, last, .. } =
            &self.lane(owner).phase
        else {
            return;
        };
        if !unacknowledged.is_empty() {
            return;
        }
        turn.shared.clear_timer(Timer::Delivery(owner));
        if !redirects.is_empty() {
            return;
        }
        let (has_redirected, last) = (*has_redirected, last.clone());
        let took_ms =
            turn.now.monotonic_ms.saturating_sub(self.lane(owner).began_ms).min(NEXT_PAGE_MS);
        match if has_redirected { NEXT_PAGE_MS } else { took_ms } {
            0 => self.list(owner, Some(last), turn),
            rest_ms => self.pause(owner, last, rest_ms, turn),
        }
    }

    /// The owner answered one delta of the page.
    pub(crate) fn merged(
        &mut self,
        owner: NodeId,
        number: u64,
        merged: &Result<Option<View>, StorageError>,
        turn: &mut Turn<'_>,
    ) {
        let lane = self.lane(owner);
        let Phase::Sending { unacknowledged, page, .. } = &mut lane.phase else { return };
        let Some(at) = unacknowledged.remove(&number) else { return };
        match merged {
            // What a drop covers nobody is to have any more.
            Ok(_) | Err(StorageError::Dropped) => {
                page[at].parts -= 1;
                if let Sent { position, version, parts: 0 } = &page[at] {
                    let (position, version) = (position.clone(), *version);
                    turn.shared.counters.deliveries += 1;
                    turn.store(Waiter::Delivered(owner), Command::Delivered { position, version });
                }
            }
            Err(_) => lane.failed = true,
        }
        self.go_on(owner, turn);
    }

    /// It is time for another pass, or to give up on the page under way.
    pub(crate) fn time(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let lane = self.lane(owner);
        match &lane.phase {
            Phase::Idle => self.list(owner, None, turn),
            Phase::Listing => {}
            Phase::Paused(last) => {
                let after = Some(last.clone());
                self.list(owner, after, turn);
            }
            Phase::Sending { unacknowledged, .. } => {
                for &number in unacknowledged.keys() {
                    turn.shared.forget_ask(number);
                }
                lane.failed = true;
                self.end_pass(owner, turn);
            }
        }
    }

    fn list(&mut self, owner: NodeId, after: Option<OutboxPosition>, turn: &mut Turn<'_>) {
        let lane = self.lane(owner);
        (lane.phase, lane.began_ms) = (Phase::Listing, turn.now.monotonic_ms);
        let limit = turn.shared.config.deliveries_max.max(1);
        turn.store(Waiter::Delivery(owner), Command::Outbox { owner, after, limit });
    }

    /// This node is about to stop: what is kept for an owner in reach is sent now, though it was to be
    /// tried later.
    pub(crate) fn hurry(&mut self, turn: &mut Turn<'_>) {
        for owner in turn.shared.links.clone() {
            if let Phase::Idle = self.lane(owner).phase {
                self.lane(owner).retry_ms = RETRY_MS;
                self.list(owner, None, turn);
            }
        }
    }

    /// The owners of partitions are others now: what is kept for one that is none any more is to be
    /// kept for those that are. What is kept for a member that cannot be reached is looked at once it
    /// can: what it owned, it owns until it has handed it over.
    pub(crate) fn rerouted(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let is_removed = turn.shared.ownership.is_removed(owner);
        let is_due = turn.shared.links.contains(&owner)
            || is_removed
            || is_gone(owner, turn)
            || is_leaving(turn.me(), turn);
        if owner == turn.me() || !is_due {
            return;
        }
        let lane = self.lane(owner);
        match lane.phase {
            Phase::Idle => self.list(owner, None, turn),
            // Found at the latest by the next pass.
            Phase::Listing | Phase::Sending { .. } | Phase::Paused(_) => lane.found_any = true,
        }
    }

    /// Has a delta kept for the owners of its key, and returns by which number the engine's answer is known.
    fn redirect(&mut self, from: NodeId, pending: Pending, turn: &mut Turn<'_>) -> u64 {
        let Pending { position, key, .. } = pending;
        let n = turn.shared.buckets.of_key(&key).policy.n;
        let owners = turn.shared.owners(turn.shared.partition(&key), n);
        let number = self.next_redirect;
        self.next_redirect += 1;
        let waiter = Waiter::Redirected { number, from, owners: owners.clone() };
        turn.store(waiter, Command::Redirect { position, owners });
        number
    }

    /// The engine keeps what was kept for one for the owners of now, or refused to.
    pub(crate) fn redirected(
        &mut self,
        (number, from): (u64, NodeId),
        owners: Vec<NodeId>,
        answer: &Answer,
        turn: &mut Turn<'_>,
    ) {
        let has_failed = matches!(answer, Answer::Failed(_));
        if !has_failed {
            let me = turn.me();
            for owner in owners.into_iter().filter(|&owner| owner != me) {
                self.deferred(owner, turn);
            }
            self.lane(from).retry_ms = RETRY_MS;
        }
        let lane = self.lane(from);
        if let Phase::Sending { redirects, .. } = &mut lane.phase
            && redirects.remove(&number)
        {
            lane.found_any = true;
            lane.failed |= has_failed;
            self.go_on(from, turn);
        } else if has_failed {
            // Whether its link is up or not.
            let at = turn.now.monotonic_ms.saturating_add(RETRY_MS);
            turn.set_timer_if_none(Timer::Delivery(from), at);
        }
    }

    fn end_pass(&mut self, owner: NodeId, turn: &mut Turn<'_>) {
        let lane = self.lane(owner);
        lane.phase = Phase::Idle;
        let (found_any, failed) = (lane.found_any, lane.failed);
        (lane.found_any, lane.failed) = (false, false);
        let pause_ms = if failed {
            let pause_ms = lane.retry_ms;
            lane.retry_ms = pause_ms.saturating_mul(2).min(RETRY_MAX_MS);
            pause_ms
        } else {
            if !found_any {
                lane.retry_ms = RETRY_MS;
                return;
            }
            NEXT_PASS_MS
        };
        let at = turn.now.monotonic_ms.saturating_add(pause_ms);
        turn.set_timer(Timer::Delivery(owner), at);
    }

    fn lane(&mut self, owner: NodeId) -> &mut Lane {
        self.lanes.entry(owner).or_default()
    }
}

/// Whether a node is no member any more: what is kept for it is to be kept for others.
fn is_gone(node: NodeId, turn: &Turn<'_>) -> bool {
    turn.shared.ownership.members().binary_search(&node).is_err()
}

/// Whether a node is to own nothing any more: it may soon be gone.
fn is_leaving(node: NodeId, turn: &Turn<'_>) -> bool {
    turn.shared.ownership.target().ring().members().binary_search(&node).is_err()
}

/// Who keeps a delta of `key` for an owner that cannot be reached, in place of this node, which is leaving. One that
/// leaves too would pass it on again, and back.
fn next_keeper(owner: NodeId, key: &Key, turn: &Turn<'_>) -> Option<NodeId> {
    let list = turn.shared.preference_list(turn.shared.partition(key)).into_iter();
    let mut others = list.filter(|&node| node != owner && node != turn.me());
    others.find(|&node| turn.takes_charge(node) && !is_leaving(node, turn))
}
