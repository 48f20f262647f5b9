//! Draining: a node that is to stop takes nothing more, finishes what it took, and hands over what it
//! keeps for others as far as they can be reached.
//!
//! First nothing new comes: clients are refused, which is an answer that says that nothing was done,
//! and other nodes pass nothing on to it. Then what was accepted is finished, since it may leave
//! deltas to be delivered; then these go to their owners. What is kept for a node that cannot be
//! reached stays on disk: the node is expected back.

use std::collections::BTreeMap;
use std::time::Duration;

use clock::NodeId;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, timeout};
use wire::{DrainProgress, KeptFor};

use crate::shared::Shared;
use crate::work::{Depth, LoopReport, Urgent, Work};

/// Between two looks how far it is.
const POLL: Duration = Duration::from_millis(20);
/// Clients that were refused are listened to for so long after the last time: those that go
/// elsewhere are gone before the connection ends, and none loses a request with it. A guess: some
/// round trips across the world.
const QUIET: Duration = Duration::from_millis(300);
/// A client that comes back all the same is listened to for so long at most.
const QUIET_MAX: Duration = Duration::from_secs(3);

/// Whether the node drains, and how far it is.
#[derive(Debug)]
pub(crate) struct Drain {
    /// Set once somebody wants the node to stop: for how long it waits for others.
    limit: watch::Sender<Option<Duration>>,
    /// Whether it joins another ring afterwards.
    joins: watch::Sender<bool>,
    /// Set once clients are refused.
    is_begun: watch::Sender<bool>,
    refused_at: watch::Sender<Option<Instant>>,
    progress: watch::Sender<DrainProgress>,
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            limit: watch::Sender::new(None),
            joins: watch::Sender::new(false),
            is_begun: watch::Sender::new(false),
            refused_at: watch::Sender::new(None),
            progress: watch::Sender::new(DrainProgress::default()),
        }
    }
}

impl Drain {
    /// Whether clients are refused.
    pub(crate) fn is_begun(&self) -> bool {
        *self.is_begun.borrow()
    }

    /// A client was refused.
    pub(crate) fn refused(&self) {
        self.refused_at.send_replace(Some(Instant::now()));
    }

    /// Asks the node to drain and to stop, and whether to join another ring then. Of several limits the
    /// shortest counts.
    pub(crate) fn ask(&self, limit: Duration, joins: bool) {
        self.joins.send_modify(|already| *already |= joins);
        self.limit
            .send_modify(|asked| *asked = Some(asked.map_or(limit, |asked| asked.min(limit))));
    }

    /// Whether the node joins another ring afterwards.
    pub(crate) fn joins_another_ring(&self) -> bool {
        *self.joins.borrow()
    }

    /// Waits until somebody does.
    pub(crate) async fn asked(&self) {
        // The sender lives as long as `self`.
        let _ = self.limit.subscribe().wait_for(Option::is_some).await;
    }

    /// Waits until a drain that began then has taken as long as it may, which may be made less meanwhile.
    async fn time_is_up(&self, begun: Instant) {
        let mut limit = self.limit.subscribe();
        loop {
            let Some(asked) = *limit.borrow_and_update() else { return };
            tokio::select! {
                () = sleep(asked.saturating_sub(begun.elapsed())) => return,
                // The sender lives as long as `self`.
                _ = limit.changed() => (),
            }
        }
    }

    /// How far it is, once it is over or after so long.
    pub(crate) async fn progress(&self, patience: Duration) -> DrainProgress {
        let mut progress = self.progress.subscribe();
        // The sender lives as long as `self`.
        let _ = timeout(patience, progress.wait_for(|progress| progress.is_over)).await;
        self.progress.borrow().clone()
    }
}

/// Drains the node, for as long as it was told to wait, or else `limit`.
pub(crate) async fn drain(shared: &Shared, limit: Duration) {
    let drain = &shared.drain;
    if drain.limit.borrow().is_none() {
        drain.ask(limit, false);
    }
    drain.is_begun.send_replace(true);
    shared.serving.send_replace(false);
    shared.routes.tell_all(|| Urgent::Drain);
    let name = shared.config.name.as_str();
    until_over(drain, name, Instant::now(), async || look(shared).await).await;
}

/// Looks how far it is until all is done or the time is up, which it may be while a look waits for a loop.
async fn until_over(
    drain: &Drain,
    name: &str,
    begun: Instant,
    mut look: impl AsyncFnMut() -> Option<DrainProgress>,
) {
    loop {
        let looked = tokio::select! {
            biased;
            looked = look() => looked,
            () = drain.time_is_up(begun) => {
                let late = DrainProgress { is_over: true, ..drain.progress.borrow().clone() };
                tell(name, &late, false);
                drain.progress.send_replace(late);
                return;
            }
        };
        let Some(mut progress) = looked else { break };
        let is_moving = progress.kept.iter().any(|kept| kept.is_reachable);
        let is_done = progress.under_way == 0 && !progress.is_asked && !is_moving;
        let is_late = drain.limit.borrow().is_none_or(|limit| begun.elapsed() >= limit);
        progress.is_over = is_late || is_done && is_quiet(*drain.refused_at.borrow(), begun);
        let is_over = progress.is_over;
        if is_over {
            tell(name, &progress, is_done);
        }
        drain.progress.send_replace(progress);
        if is_over {
            return;
        }
        sleep(POLL).await;
    }
    // The loops are gone: nothing is left to be done.
    drain.progress.send_modify(|progress| progress.is_over = true);
}

fn is_quiet(refused_at: Option<Instant>, begun: Instant) -> bool {
    begun.elapsed() >= QUIET_MAX || refused_at.is_none_or(|at| at.elapsed() >= QUIET)
}

fn tell(name: &str, progress: &DrainProgress, is_done: bool) {
    if !is_done {
        tracing::warn!(name, ?progress, "the node stops though not all is done: its time is up");
    }
    for KeptFor { member, keys, .. } in &progress.kept {
        tracing::warn!(
            name,
            member,
            keys,
            "deltas for another member stay here until both are back"
        );
    }
}

/// How far the node is; `None` if its loops are gone.
async fn look(shared: &Shared) -> Option<DrainProgress> {
    let mut reports = Vec::new();
    for handle in shared.routes.loops() {
        let (reply, report) = oneshot::channel();
        handle.work.send(Work::Report { reply, depth: Depth::Glance }).await.ok()?;
        reports.push(report.await.ok()?);
    }
    let mut kept = BTreeMap::<NodeId, KeptFor>::new();
    let links = shared.links();
    for LoopReport { pending, .. } in &reports {
        for (node, &keys) in pending.iter().filter(|&(_, &keys)| keys > 0) {
            let name = links.get(node).map_or_else(|| node.to_string(), |link| link.name.clone());
            // Also one that is slow just now: for those deltas are kept, and the limit bounds the wait.
            let is_reachable = links.get(node).is_some_and(|link| link.is_announced_up());
            let new = KeptFor { member: name, keys: 0, is_reachable };
            kept.entry(*node).or_insert(new).keys += keys;
        }
    }
    Some(DrainProgress {
        is_over: false,
        under_way: reports.iter().map(|report| report.under_way).sum(),
        is_asked: reports.iter().any(|report| !report.is_drain_known),
        kept: kept.into_values().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_limit_binds_while_a_loop_does_not_answer_also_one_that_was_shortened() {
        for shortened in [None, Some(2)] {
            let drain = Drain::default();
            drain.ask(Duration::from_secs(5), false);
            let (begun, mut looks) = (Instant::now(), 0);
            let look = async || {
                looks += 1;
                if looks > 1 {
                    std::future::pending::<()>().await;
                }
                Some(DrainProgress { under_way: 3, ..DrainProgress::default() })
            };
            let ask = async {
                sleep(Duration::from_secs(1)).await;
                if let Some(seconds) = shortened {
                    drain.ask(Duration::from_secs(seconds), false);
                }
            };
            tokio::join!(until_over(&drain, "a", begun, look), ask);
            assert_eq!(begun.elapsed().as_secs(), shortened.unwrap_or(5));
            let progress = drain.progress(Duration::ZERO).await;
            assert!(progress.is_over && progress.under_way == 3);
        }
    }
}
