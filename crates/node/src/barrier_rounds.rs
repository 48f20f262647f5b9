//! The task that takes a node through the rounds of the barrier: what gossip says of other members goes in,
//! the loops are looked at and given what is to be done, and how far this node is goes out by gossip.
//!
//! Invariant: nothing is told that is not on disk. Before a stage is noted every loop has made durable
//! what it has; the loops carry a new number in what they send before others hear of it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clock::NodeId;
use replication::{
    BarrierHand, BarrierShown, BarrierStage, BarrierStep, BarrierTable, BarrierTask, BarrierTerms,
};
use storage::{Answer, Command};
use tokio::sync::oneshot;
use tokio::time::sleep;
use wire::{BarrierDoing, BarrierStatus};

use crate::barrier_view;
use crate::core_task::BarrierAsk;
use crate::members::{Notice, View};
use crate::shared::Shared;
use crate::work::Urgent;
use crate::{merging, set_aside, whole_cluster};

/// The loops are looked at so often, while there is something to wait for.
const TICK: Duration = Duration::from_millis(500);

/// Remnants forgotten by one command of a loop. A guess: some milliseconds.
const REMNANTS: usize = 256;

/// Runs until the node's connections are to end, or until it is to begin anew.
pub(crate) async fn run(shared: Arc<Shared>, hand: BarrierHand) {
    let closed = shared.closed();
    let mut rounds = Rounds { shared: Arc::clone(&shared), hand, terms: None, told: None };
    tokio::select! {
        () = rounds.run() => (),
        () = closed => (),
    }
}

struct Rounds {
    shared: Arc<Shared>,
    hand: BarrierHand,
    /// What the loops know.
    terms: Option<Arc<BarrierTerms>>,
    /// What others were told last.
    told: Option<BarrierTable>,
}

/// A loop has ended, and with it the node.
struct Gone;

impl Rounds {
    async fn run(&mut self) {
        let mut heard = self.shared.barrier.heard.subscribe();
        let mut view = self.shared.members.view.subscribe();
        loop {
            self.hand.heard(&heard.borrow_and_update().clone());
            let (me, is_open) = (self.shared.config.node(), self.hand.is_open());
            let members = members(&view.borrow_and_update(), me, is_open);
            let is_member = members.is_some();
            if let Some((members, gone)) = members {
                self.hand.set_members(members, gone);
            }
            self.tell(is_member);
            // Without the others it would take itself for all there are.
            let moved = match is_member {
                true => self.go_on().await,
                false => Ok(false),
            };
            self.tell(is_member);
            match moved {
                Ok(true) => continue,
                Ok(false) => (),
                Err(Gone) => return,
            }
            // The senders live as long as `shared`.
            tokio::select! {
                () = sleep(TICK) => (),
                _ = heard.changed() => (),
                _ = view.changed() => (),
            }
        }
    }

    /// Does what is to be done now. Returns whether something was.
    async fn go_on(&mut self) -> Result<bool, Gone> {
        let mut step = self.hand.next(self.shared.clock.monotonic_ms());
        let mut moved = false;
        loop {
            step = match step {
                BarrierStep::Wait => return Ok(moved),
                BarrierStep::Look(look) => {
                    let mut all = BarrierShown::default();
                    for index in 0..self.loops() {
                        let ask = |reply| BarrierAsk::Look(look, reply);
                        all = all.plus(self.ask(index, ask).await?);
                    }
                    self.hand.looked(look, all)
                }
                BarrierStep::Enter(round) => {
                    if !self.all_durable(&Command::Enter { round }).await? {
                        self.hand.failed();
                        return Ok(false);
                    }
                    self.hand.entered(self.shared.clock.monotonic_ms())
                }
                BarrierStep::Note(standing) => {
                    let notes = Command::Note { notes: vec![self.hand.note_of(standing)] };
                    if !self.all_durable(&Command::Sync).await?
                        || self.execute(0, notes).await? != Answer::Durable
                    {
                        self.hand.failed();
                        return Ok(false);
                    }
                    let was_open = self.hand.is_open();
                    // Before it takes any message: a start that finds the file forgets by which tenures it went.
                    if !was_open && let Err(error) = merging::is_done(&self.shared.config.data) {
                        tracing::error!(%error, "what says that this node joins another ring is left");
                        self.hand.failed();
                        return Ok(false);
                    }
                    self.hand.noted();
                    if !was_open {
                        self.begun()?;
                    }
                    let progress = self.hand.barrier().own().progress;
                    tracing::debug!(round = progress.round, stage = ?progress.stage, "barrier");
                    moved = true;
                    BarrierStep::Wait
                }
                BarrierStep::Forget { step, below } => {
                    let command = Command::ForgetRemnants { step, below, limit: REMNANTS };
                    for index in 0..self.loops() {
                        loop {
                            match self.execute(index, command.clone()).await? {
                                Answer::RemnantsForgotten { more: true } => (),
                                Answer::RemnantsForgotten { more: false } => break,
                                _ => {
                                    self.hand.failed();
                                    return Ok(false);
                                }
                            }
                        }
                    }
                    moved = true;
                    self.hand.forgotten()
                }
                BarrierStep::BeginAnew => return self.begin_anew().await,
            }
        }
    }

    /// What is in the directory is set aside, at the next start.
    async fn begin_anew(&mut self) -> Result<bool, Gone> {
        // Of others that are not in reach nobody knows whether they have what is set aside.
        let are_in_reach = self.shared.links().values().all(|link| link.is_up());
        if self.hand.is_doubting() && !are_in_reach {
            return Ok(false);
        }
        if let Err(error) = set_aside::mark(&self.shared.config.data) {
            tracing::error!(%error, "what this node holds is older than the barrier, and cannot be set aside");
            return Ok(false);
        }
        // Lost only where the node stops anyway.
        let _ = self.shared.members.notices.send(Notice::Outdated).await;
        self.tell(true);
        self.shared.barrier.outdated.send_replace(true);
        // It is to be stopped; until then it takes no part.
        std::future::pending().await
    }

    /// It is known in which life this node is: it may serve.
    fn begun(&self) -> Result<(), Gone> {
        if let Err(error) = whole_cluster::done(&self.shared.config.data) {
            tracing::error!(%error, "what says that this node was restored with its whole cluster is left: \
                remove it before the node starts again");
        }
        self.shared.barrier.is_open.store(true, Ordering::Release);
        // Membership looks again whether the node serves.
        self.shared.members.tell(Notice::Opened);
        Ok(())
    }

    fn loops(&self) -> usize {
        self.shared.routes.loops().len()
    }

    async fn ask<T>(
        &self,
        index: usize,
        ask: impl FnOnce(oneshot::Sender<T>) -> BarrierAsk,
    ) -> Result<T, Gone> {
        let (reply, answer) = oneshot::channel();
        let urgent = Urgent::Barrier(ask(reply));
        self.shared.routes.handle(index).urgent.send(urgent).map_err(|_| Gone)?;
        answer.await.map_err(|_| Gone)
    }

    async fn execute(&self, index: usize, command: Command) -> Result<Answer, Gone> {
        self.ask(index, |reply| BarrierAsk::Execute(Box::new(command), reply)).await
    }

    /// Whether all loops have done this, and it is on disk.
    async fn all_durable(&self, command: &Command) -> Result<bool, Gone> {
        for index in 0..self.loops() {
            if self.execute(index, command.clone()).await? != Answer::Durable {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Tells how far it is: the loops, then gossip, then whoever asks.
    fn tell(&mut self, is_member: bool) {
        let terms = self.hand.terms();
        if self.terms.as_deref() != Some(&terms) {
            let terms = Arc::new(terms);
            self.shared.barrier.terms.send_replace(Arc::clone(&terms));
            self.shared.routes.tell_all(|| Urgent::Barrier(BarrierAsk::Terms(Arc::clone(&terms))));
            self.terms = Some(terms);
        }
        let is_open = self.hand.is_open();
        let table = self.hand.barrier().table();
        if is_member && is_open && self.told.as_ref() != Some(&table) {
            let notice = Notice::Barrier(barrier_view::encode(&table));
            // What does not fit is told at the next tick.
            if self.shared.members.notices.try_send(notice).is_ok() {
                self.told = Some(table);
            }
        }
        let status = self.status();
        self.shared.barrier.status.send_if_modified(|now| {
            let is_news = *now != status;
            *now = status;
            is_news
        });
    }

    fn status(&self) -> BarrierStatus {
        let barrier = self.hand.barrier();
        let progress = barrier.own().progress;
        let (task, shown) = self.hand.task();
        let shown = shown.unwrap_or_default();
        let links = self.shared.links();
        let is_away = |node: &NodeId| links.get(node).is_none_or(|link| !link.is_up());
        let doing = match task {
            BarrierTask::BeginAnew => Some(BarrierDoing::BeginningAnew),
            BarrierTask::GoOnAnew => Some(BarrierDoing::Joining),
            _ if !self.hand.is_open() => Some(BarrierDoing::Joining),
            _ if barrier.is_apart() => Some(BarrierDoing::Apart),
            BarrierTask::Equal | BarrierTask::Drain(_) if shown.handovers > 0 => {
                Some(BarrierDoing::HandingOver(shown.handovers))
            }
            BarrierTask::Equal => {
                Some(BarrierDoing::Comparing { pairs: shown.pairs, equal: shown.equal })
            }
            BarrierTask::Propose | BarrierTask::Enter(_) | BarrierTask::Drain(_)
                if shown.is_different =>
            {
                Some(BarrierDoing::Comparing { pairs: shown.pairs, equal: shown.equal })
            }
            BarrierTask::Drain(_) => Some(BarrierDoing::Draining),
            BarrierTask::Hide(_) => Some(BarrierDoing::Forgetting),
            BarrierTask::Wait
            | BarrierTask::Propose
            | BarrierTask::Enter(_)
            | BarrierTask::Follow(_) => None,
        };
        BarrierStatus {
            round: progress.round,
            stage: progress.stage,
            agreed: barrier.agreed(),
            forgotten: self.hand.dropped(),
            waits_for: waits_for(&self.hand, is_away),
            doing,
            // Only the loops know.
            has_remnants: false,
        }
    }
}

/// Whom the member waits for: who is behind, and who is out of reach, however far it is: that one is not found equal, and
/// does not do what it has to.
fn waits_for(hand: &BarrierHand, is_away: impl Fn(&NodeId) -> bool) -> Vec<NodeId> {
    let barrier = hand.barrier();
    let mut waits_for = barrier.waits_for();
    // Between two rounds there is nothing to do, unless the next is to begin.
    let (task, shown) = hand.task();
    let begins = matches!(task, BarrierTask::Propose | BarrierTask::Enter(_))
        && shown.is_some_and(|shown| shown.is_different);
    if barrier.own().progress.stage != BarrierStage::Hidden || begins {
        waits_for.extend(barrier.others().filter(is_away));
    }
    waits_for.sort_unstable();
    waits_for.dedup();
    waits_for
}

/// The members that are not gone, and those that are, once this node knows its cluster and is one of them.
fn members(view: &View, me: NodeId, is_open: bool) -> Option<(Vec<NodeId>, Vec<NodeId>)> {
    let is_there = view.waiting.is_none() || (!is_open && view.ring.is_some());
    let is_member = is_there && view.states.get(&me).is_some_and(|it| it.is_present());
    let of = |is_present| {
        let all = view.states.iter().filter(move |(_, state)| state.is_present() == is_present);
        all.map(|(&node, _)| node).collect()
    };
    is_member.then(|| (of(true), of(false)))
}

#[cfg(test)]
mod tests {
    use replication::{Barrier, BarrierProgress, BarrierStanding, BarrierStart, BarrierTimes};

    use super::*;

    /// With such a member nobody can be found equal, so that it holds up those behind it.
    #[test]
    fn a_member_that_is_ahead_and_out_of_reach_is_waited_for() {
        let at =
            |round, stage| BarrierStanding { life: 0, progress: BarrierProgress { round, stage } };
        let away = |node: &NodeId| *node == NodeId(3);
        let hand = |own: BarrierStanding, others: BarrierStanding| {
            let mut barrier = Barrier::new(NodeId(1), None);
            barrier.noted(own);
            let times = BarrierTimes { interval_ms: Some(0), retries_ms: 0 };
            let mut hand = BarrierHand::new(barrier, BarrierStart::AsNoted, times, 0);
            hand.set_members([1, 2, 3].map(NodeId), []);
            hand.heard(&BarrierTable::from([2, 3].map(|node| (NodeId(node), others))));
            hand
        };
        let (entered, equal) = (at(1, BarrierStage::Entered), at(1, BarrierStage::Equal));
        let ahead = hand(entered, equal);
        assert_eq!(waits_for(&ahead, away), [NodeId(3)]);
        assert_eq!(waits_for(&ahead, |_| false), [], "those in reach do not hold it up");
        // Between two rounds it is missed by nobody.
        let hidden = at(1, BarrierStage::Hidden);
        assert_eq!(waits_for(&hand(hidden, hidden), away), []);
    }
}
