//! What the node notices of itself once a second: what an administrator is to find in the log, how busy it is, which
//! gossip tells, and whether one that leaves has nothing left.
//!
//! What is told is bounded by time and by members, never by keys.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clock::NodeId;
use membership::{Load, MemberState};
use replication::Part;
use ring::{Ownership, PlanId};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::data_directory::INDEX;
use crate::members::Notice;
use crate::reports;
use crate::shared::Shared;
use crate::work::{Depth, LoopReport};

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);
/// How long the loops are waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// How busy the node is, is told others so often: with a thousand members that is 30 records a second.
const LOAD_PERIOD: Duration = Duration::from_secs(30);
/// And where it stores half as much or twice as much as it said, no more often than this.
const LOAD_PERIOD_MIN: Duration = Duration::from_secs(5);
/// Of what is kept for a member something is said no more often, in looks.
const HINT_PERIODS: u64 = 60;

/// Runs until the node's connections are to end.
pub(crate) async fn run(shared: Arc<Shared>) {
    let closed = shared.closed();
    let mut observer = Observer::default();
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tokio::pin!(closed);
    loop {
        tokio::select! {
            () = &mut closed => return,
            _ = ticks.tick() => (),
        }
        // Before the loops are asked: what they say goes at least as far as this.
        let (ownership, is_leaving) = (shared.ownership(), is_leaving(&shared));
        let looked = reports::of_all(shared.routes.loops(), Depth::Glance, PATIENCE).await;
        match looked {
            Ok(reports) => {
                observer.saw(&shared, &ownership, &reports);
                if is_leaving && is_emptied(shared.config.node(), &ownership, &reports) {
                    shared.members.tell(Notice::Emptied);
                }
            }
            Err(error) if !observer.is_blind => {
                observer.is_blind = true;
                tracing::warn!(name = shared.config.name, %error, "the node cannot look at itself");
            }
            Err(_) => (),
        }
    }
}

/// What was seen last.
#[derive(Debug, Default)]
struct Observer {
    looks: u64,
    is_blind: bool,
    told: Option<Told>,
    /// The target, and whether all partitions followed it.
    plan: Option<(PlanId, bool)>,
    /// Partitions of each part, where there were any.
    parts: BTreeMap<Part, u64>,
    hints: Hints,
}

impl Observer {
    fn saw(&mut self, shared: &Shared, ownership: &Ownership, reports: &[LoopReport]) {
        if std::mem::take(&mut self.is_blind) {
            tracing::info!(name = shared.config.name, "the node can look at itself again");
        }
        self.followed(shared, ownership);
        self.moved(&shared.config.name, reports);
        self.kept(shared, reports);
        self.tell_load(shared, reports);
        self.looks += 1;
    }

    /// A plan is to be followed, or is.
    fn followed(&mut self, shared: &Shared, ownership: &Ownership) {
        let target = ownership.target().id();
        let now = (target, ownership.is_settled());
        let before = self.plan.replace(now);
        let is_news = before.map_or(!now.1, |before| before != now);
        if !is_news || target.version == 0 {
            return;
        }
        let (name, plan) = (&shared.config.name, target.version);
        if now.1 {
            tracing::info!(name, plan, "all partitions are owned as the plan says");
        } else {
            let n = usize::from(shared.config.default_policy.n);
            let copies: u32 = ownership.movement(n).values().map(|(gets, _)| gets).sum();
            let members = ownership.target().ring().members().len();
            tracing::info!(name, plan, members, copies, "partitions are to follow a plan");
        }
    }

    /// This node begins or ends to have a part in handovers.
    fn moved(&mut self, name: &str, reports: &[LoopReport]) {
        for part in [Part::Receiving, Part::Driving, Part::Departing] {
            let partitions = reports.iter().filter_map(|report| report.parts.get(&part)).sum();
            let before = self.parts.insert(part, partitions).unwrap_or(0);
            if (before == 0) == (partitions == 0) {
                continue;
            }
            let what = match part {
                Part::Receiving => "receives",
                Part::Driving => "takes from stage to stage",
                Part::Departing => "gives up",
            };
            match (part, before) {
                // Some at a time go as soon as they may, so that it begins and is over again and again.
                (Part::Departing, _) => tracing::debug!(name, what, partitions, "handover"),
                (_, 0) => {
                    tracing::info!(name, what, partitions, "this node has a part in a handover")
                }
                _ => tracing::info!(name, what, "this node's part in a handover is over"),
            }
        }
    }

    fn kept(&mut self, shared: &Shared, reports: &[LoopReport]) {
        let mut kept = BTreeMap::<NodeId, (u64, u64)>::new();
        for report in reports {
            for (&node, &keys) in report.pending.iter().filter(|(_, keys)| **keys > 0) {
                let bytes = report.pending_bytes.get(&node).copied().unwrap_or(0);
                let sum = kept.entry(node).or_default();
                (sum.0, sum.1) = (sum.0 + keys, sum.1 + bytes);
            }
        }
        let links = shared.links();
        let name = &shared.config.name;
        for (node, said) in self.hints.saw(self.looks, &kept) {
            let member = links.get(&node).map_or_else(|| node.to_string(), |it| it.name.clone());
            match said {
                Said::Kept { keys, bytes } => {
                    tracing::info!(name, member, keys, bytes, "writes are kept here for a member");
                }
                Said::Delivered => {
                    tracing::info!(
                        name,
                        member,
                        "all that was kept here for a member is delivered"
                    );
                }
            }
        }
    }

    fn tell_load(&mut self, shared: &Shared, reports: &[LoopReport]) {
        let counters = reports.iter().flat_map(|report| &report.counters);
        let requests = counters.filter(|(name, _)| matches!(*name, "reads" | "writes"));
        let requests: u64 = requests.map(|(_, count)| count).sum();
        let changed: u64 = reports.iter().map(|report| report.changed_bytes).sum();
        let stored_bytes = index_bytes(&shared.config.data).saturating_add(changed);
        let at = Instant::now();
        if self.told.is_some_and(|told| !told.is_old(stored_bytes, at)) {
            return;
        }
        let new = Told { at, requests, stored_bytes };
        let requests_per_second = self.told.replace(new).map_or(0, |told| told.rate(&new));
        shared.members.tell(Notice::Busy(Load { stored_bytes, requests_per_second }));
    }
}

/// What others were told last.
#[derive(Clone, Copy, Debug)]
struct Told {
    at: Instant,
    /// Since the start.
    requests: u64,
    stored_bytes: u64,
}

impl Told {
    /// Whether it is to be told anew at `now`: after a while, and sooner if that many bytes are something else.
    fn is_old(&self, stored_bytes: u64, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.at);
        let (less, more) =
            (self.stored_bytes.min(stored_bytes), self.stored_bytes.max(stored_bytes));
        since >= LOAD_PERIOD || (since >= LOAD_PERIOD_MIN && less < more / 2)
    }

    /// Requests a second until `later`.
    fn rate(&self, later: &Self) -> u32 {
        let seconds = later.at.saturating_duration_since(self.at).as_secs_f64().max(1.0);
        (later.requests.saturating_sub(self.requests) as f64 / seconds) as u32
    }
}

fn is_leaving(shared: &Shared) -> bool {
    shared.members.view().states.get(&shared.config.node()) == Some(&MemberState::Leaving)
}

/// Whether a node that leaves has handed over all that it owned by `ownership`, which its loops had when they said this, and
/// all that it kept, and those in reach have heard all that it decided, which may have driven handovers.
fn is_emptied(me: NodeId, ownership: &Ownership, reports: &[LoopReport]) -> bool {
    let owns_nothing =
        ownership.target().id().version > 0 && ownership.members().binary_search(&me).is_err();
    let is_empty = |report: &LoopReport| {
        let keeps_nothing = report.pending.values().all(|&keys| keys == 0);
        keeps_nothing && report.parts.is_empty() && report.is_ownership_known
    };
    owns_nothing && reports.iter().all(is_empty)
}

/// Bytes of the node's index; 0 if that cannot be seen.
fn index_bytes(data: &Path) -> u64 {
    let file = data.join(INDEX).join("data.mdb");
    std::fs::metadata(file).map_or(0, |file| file.len())
}

/// For whom something is kept, as far as it was said.
#[derive(Debug, Default)]
struct Hints {
    /// Since which look; and at which one it was said, if it was.
    kept: BTreeMap<NodeId, (u64, Option<u64>)>,
    /// When it was last said that all is delivered.
    said: BTreeMap<NodeId, u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Kept { keys: u64, bytes: u64 },
    Delivered,
}

impl Hints {
    /// What is to be said of what is kept now: that something is, once it is for more than one look, and that it is
    /// delivered, if it was said; both of a member no more than once a minute.
    fn saw(&mut self, look: u64, kept: &BTreeMap<NodeId, (u64, u64)>) -> Vec<(NodeId, Said)> {
        let mut said = Vec::new();
        for (&node, &(keys, bytes)) in kept {
            let (since, told) = self.kept.entry(node).or_insert((look, None));
            let lately = self.said.get(&node).is_some_and(|&at| look < at + HINT_PERIODS);
            if told.is_none() && *since < look && !lately {
                *told = Some(look);
                said.push((node, Said::Kept { keys, bytes }));
            }
        }
        for (node, (_, told)) in self.kept.extract_if(.., |node, _| !kept.contains_key(node)) {
            if told.is_some() {
                self.said.insert(node, look);
                said.push((node, Said::Delivered));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn load_is_told_twice_a_minute_and_sooner_where_it_is_something_else() {
        let at = Instant::now();
        let told = Told { at, requests: 100, stored_bytes: 1_000 };
        let after = |seconds| at + Duration::from_secs(seconds);
        assert!(told.is_old(1_000, after(30)) && !told.is_old(1_000, after(29)));
        assert!(!told.is_old(2_001, after(4)) && !told.is_old(2_000, after(29)));
        assert!(told.is_old(2_002, after(5)) && told.is_old(499, after(5)));
        let later = Told { at: after(10), requests: 600, stored_bytes: 0 };
        assert_eq!(told.rate(&later), 50);
    }

    #[test]
    fn hints_are_told_of_once_they_stay_and_when_they_are_gone_and_not_again_within_a_minute() {
        let mut hints = Hints::default();
        let (none, some) = (BTreeMap::new(), BTreeMap::from([(NodeId(2), (5, 700))]));
        assert_eq!(hints.saw(1, &some), []);
        assert_eq!(hints.saw(2, &none), [], "it was there for a moment");
        assert_eq!(hints.saw(3, &some), []);
        let kept = Said::Kept { keys: 5, bytes: 700 };
        assert_eq!(hints.saw(4, &some), [(NodeId(2), kept)]);
        assert_eq!(hints.saw(5, &some), []);
        assert_eq!(hints.saw(6, &none), [(NodeId(2), Said::Delivered)]);
        for look in 7..6 + HINT_PERIODS {
            let now = if look % 3 == 0 { &none } else { &some };
            assert_eq!(hints.saw(look, now), [], "{look}");
        }
        assert_eq!(hints.saw(6 + HINT_PERIODS, &some), [(NodeId(2), kept)]);
    }
}
