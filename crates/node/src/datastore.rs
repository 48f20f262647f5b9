//! The node as a [`Datastore`]: requests are grouped by loop and handed over, a group at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use client::Datastore;
use clock::NodeId;
use membership::{Liveness, Load, MemberState};
use replication::{
    Answer, BucketCall, BucketReply, Call, Comparison, ComparisonSummary, ConflictList,
    ConflictsRequest, Explanation, RepairProgress, RepairRequest, Reply, Request, RequestError,
    ScanPage, ScanRequest,
};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use values::Key;
use wire::{
    BackupCall, BackupProgress, BarrierStatus, ClusterCall, ClusterStatus, CommittedPlan,
    DrainCall, DrainProgress, HandoverStatus, MemberStatus, PlanCall, PlanReport, TransferReport,
};

use crate::allowance::Allowance;
use crate::calls::GROUP_MAX;
use crate::config::NodeConfig;
use crate::members::View;
use crate::shared::Shared;
use crate::switchboard::Switchboard;
use crate::work::{CallGroup, Depth, Results, SingleCall, Work};
use crate::{plan_report, plans, reports, transfers};

mod administration;

use administration::{called, here};

/// What the answers to one call of a gateway may come to, in bytes. A guess: far above what one
/// reply to a client should be, far below what a machine has.
const ANSWERS_BYTES: usize = 256 << 20;

/// A node from within.
#[derive(Debug)]
pub(crate) struct NodeDatastore {
    shared: Arc<Shared>,
    /// On development clusters: everybody's switches.
    switchboard: Option<Switchboard>,
}

impl NodeDatastore {
    pub(crate) fn new(shared: Arc<Shared>, switchboard: Option<Switchboard>) -> Self {
        Self { shared, switchboard }
    }

    /// Hands requests of one loop over. Nothing is done of them on an error.
    fn submit(
        &self,
        index: usize,
        requests: Vec<Request>,
        allowance: &Arc<Allowance>,
    ) -> Result<oneshot::Receiver<Results>, RequestError> {
        let (reply, answers) = oneshot::channel();
        let queued_ms = self.shared.clock.monotonic_ms();
        let allowance = Arc::clone(allowance);
        self.offer(index, Work::Group(CallGroup { requests, reply, allowance, queued_ms }))?;
        Ok(answers)
    }

    fn offer(&self, index: usize, work: Work) -> Result<(), RequestError> {
        if !*self.shared.serving.borrow() {
            if self.shared.drain.is_begun() {
                self.shared.drain.refused();
                return Err(RequestError::Stopping);
            }
            if let Some(refusal) = self.shared.members.refusal() {
                return Err(refusal);
            }
        }
        self.shared.routes.handle(index).work.try_send(work).map_err(|error| match error {
            TrySendError::Full(_) => RequestError::Overloaded,
            TrySendError::Closed(_) => RequestError::Stopping,
        })
    }

    /// Does requests that are no more than a group holds.
    async fn execute_group(&self, requests: Vec<Request>, allowance: &Arc<Allowance>) -> Results {
        let owners = self.shared.routes.owners();
        let count = requests.len();
        if count == 0 {
            return Vec::new();
        }
        // The usual case, always so with one loop: everything goes to the same place.
        let first = owners.of_key(&requests[0].key);
        if owners.count() == 1 || count == 1 {
            return collect(self.submit(first, requests, allowance), count).await;
        }
        let mut places = Vec::with_capacity(count);
        let mut groups: Vec<Vec<Request>> = vec![Vec::new(); owners.count()];
        for request in requests {
            let index = owners.of_key(&request.key);
            places.push(index);
            groups[index].push(request);
        }
        let submitted: Vec<_> = groups
            .into_iter()
            .enumerate()
            .map(|(index, group)| {
                let count = group.len();
                (count > 0).then(|| (self.submit(index, group, allowance), count))
            })
            .collect();
        let mut results = Vec::with_capacity(submitted.len());
        for group in submitted {
            let answers = match group {
                Some((submitted, count)) => collect(submitted, count).await,
                None => Vec::new(),
            };
            results.push(answers.into_iter());
        }
        places
            .into_iter()
            .map(|index| results[index].next().unwrap_or_else(|| Err(lost())))
            .collect()
    }

    /// Does requests whose answers may come to no more than the allowance.
    pub(crate) async fn execute_within(
        &self,
        mut requests: Vec<Request>,
        allowance: &Arc<Allowance>,
    ) -> Results {
        if requests.len() <= GROUP_MAX {
            return self.execute_group(requests, allowance).await;
        }
        let mut results = Vec::with_capacity(requests.len());
        while !requests.is_empty() {
            let rest = requests.split_off(requests.len().min(GROUP_MAX));
            results.extend(self.execute_group(requests, allowance).await);
            requests = rest;
        }
        results
    }

    async fn call(&self, index: usize, call: Call) -> Result<Reply, RequestError> {
        let (reply, answer) = oneshot::channel();
        self.offer(index, Work::Single(Box::new(SingleCall { call, reply })))?;
        answer.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// The results of a group, however it went.
async fn collect(
    submitted: Result<oneshot::Receiver<Results>, RequestError>,
    count: usize,
) -> Results {
    match submitted {
        Ok(answers) => answers.await.unwrap_or_else(|_| vec![Err(lost()); count]),
        Err(error) => vec![Err(error); count],
    }
}

/// The loop ended before it answered.
fn lost() -> RequestError {
    RequestError::Disconnected("the node stopped before it was done".into())
}

fn unexpected() -> RequestError {
    RequestError::Unsupported("another kind of reply".into())
}

#[async_trait]
impl Datastore for NodeDatastore {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        self.execute_within(requests, &Allowance::new(ANSWERS_BYTES)).await
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        match self.call(self.shared.routes.next(), Call::Scan(request)).await? {
            Reply::Page(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        match self.call(self.shared.routes.next(), Call::Count { bucket }).await? {
            Reply::Count(count) => Ok(count),
            _ => Err(unexpected()),
        }
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        match self.call(self.shared.routes.next(), Call::Conflicts(request)).await? {
            Reply::Conflicts(page) => Ok(page),
            _ => Err(unexpected()),
        }
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        let index = self.shared.routes.owners().of_key(&key);
        match self.call(index, Call::Explain(key)).await? {
            Reply::Explanation(explanation) => Ok(*explanation),
            _ => Err(unexpected()),
        }
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        // The first loop has the registrar; what it answered is there for whoever asks it next.
        match self.call(0, Call::Buckets(call)).await? {
            Reply::Buckets(reply) => Ok(reply),
            _ => Err(unexpected()),
        }
    }

    async fn repair(&self, mut request: RepairRequest) -> Result<RepairProgress, RequestError> {
        let since_ms = request.since_ms.unwrap_or_else(|| self.shared.clock.monotonic_ms());
        request.since_ms = Some(since_ms);
        let mut all = RepairProgress { since_ms, ..RepairProgress::default() };
        for index in 0..self.shared.routes.loops().len() {
            match self.call(index, Call::Repair(request.clone())).await? {
                Reply::Repair(progress) => {
                    all.pairs += progress.pairs;
                    all.equal += progress.equal;
                    all.unreachable += progress.unreachable;
                }
                _ => return Err(unexpected()),
            }
        }
        Ok(all)
    }

    async fn comparisons(&self) -> Result<Vec<Comparison>, RequestError> {
        let mut all = Vec::new();
        for index in 0..self.shared.routes.loops().len() {
            match self.call(index, Call::Comparisons).await? {
                Reply::Comparisons(found) => all.extend(found),
                _ => return Err(unexpected()),
            }
        }
        all.sort_unstable_by_key(|found| (found.partition, found.n, found.peer));
        Ok(all)
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        let shared = &self.shared;
        let limit = Duration::from_millis(shared.config.timeouts.request_ms.into());
        let reports = reports::of_all(shared.routes.loops(), Depth::Flows, limit).await?;
        let mut counters: Vec<(String, u64)> = Vec::new();
        for (place, (name, _)) in reports[0].counters.iter().enumerate() {
            let total = reports.iter().map(|report| report.counters[place].1).sum();
            counters.push(((*name).to_owned(), total));
        }
        let links = shared.links();
        let dropped = links.values().map(|link| link.dropped()).sum();
        counters.push(("dropped_chunks".into(), dropped));
        counters.push(("messages_behind_barrier".into(), shared.barrier.refused()));
        counters.extend(shared.places.counters().map(|(name, count)| (name.into(), count)));

        let (config, view) = (&shared.config, shared.members.view());
        let ownership = shared.ownership();
        let is_known = ownership.target().id().version > 0;
        let partitions = ownership.partition_count().iter().filter(|_| is_known);
        let first_owners: Vec<NodeId> =
            partitions.map(|partition| ownership.present(partition).owner(partition)).collect();
        let mut loads: BTreeMap<NodeId, u32> = BTreeMap::new();
        for &node in &first_owners {
            *loads.entry(node).or_default() += 1;
        }
        let n = usize::from(config.default_policy.n);
        let copies = match is_known {
            true => plan_report::held(n, &ownership, |ownership, at| ownership.present(at)),
            false => BTreeMap::new(),
        };
        let mut members = self.members().await?;
        // An owner that gossip has not told of yet is shown without what only it says.
        let heard: BTreeSet<NodeId> = members.iter().map(|member| member.node).collect();
        let unheard_of = loads.keys().filter(|node| !heard.contains(node));
        members.extend(unheard_of.map(|&node| unheard(config, node)));
        for member in &mut members {
            let node = member.node;
            let link = links.get(&node);
            member.connected = node == config.node() || link.is_some_and(|link| link.is_up());
            member.messages = link.and_then(|link| link.spoken());
            member.cut = self.is_cut(&member.name);
            member.partitions = loads.get(&node).copied().unwrap_or(0);
            member.copies = copies.get(&node).copied().unwrap_or(0);
            member.pending =
                reports.iter().map(|report| report.pending.get(&node).unwrap_or(&0)).sum();
            let bytes = reports.iter().map(|report| report.pending_bytes.get(&node).unwrap_or(&0));
            member.pending_bytes = bytes.sum();
        }
        members.sort_by_key(|member| member.node);
        let owners = first_owners.into_iter().map(|owner| {
            let index = members.iter().position(|member| member.node == owner);
            u16::try_from(index.expect("owners were added")).expect("members are few")
        });
        let flows = transfers::together(reports.iter().flat_map(|report| &report.flows));
        let names = members.iter().map(|member| (member.node, member.name.clone())).collect();
        let named = flows.iter().map(|flow| transfers::named(&config.name, flow, &names));
        Ok(ClusterStatus {
            cluster: config.cluster.clone(),
            node: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            waiting: self.waiting(&view),
            ring_version: ownership.target().id().version,
            handover: HandoverStatus {
                transfers: named.collect(),
                ..plans::handover(&ownership, &flows)
            },
            partitions: config.partitions.get(),
            owners: owners.collect(),
            uptime_ms: shared.clock.monotonic_ms(),
            keys: reports.iter().map(|report| report.live_keys).sum(),
            type_conflicts: reports.iter().map(|report| report.conflicts.types).sum(),
            sibling_keys: reports.iter().map(|report| report.conflicts.siblings).sum(),
            most_siblings: reports.iter().map(|report| report.most_siblings).max().unwrap_or(0),
            compared: reports
                .iter()
                .map(|report| report.compared)
                .fold(ComparisonSummary::default(), ComparisonSummary::plus),
            barrier: BarrierStatus {
                has_remnants: reports.iter().any(|report| report.has_remnants),
                ..shared.barrier.status.borrow().clone()
            },
            members,
            hint_bytes_max: config.hint_bytes_max,
            counters,
        })
    }

    async fn cluster(&self, call: ClusterCall) -> Result<(), RequestError> {
        let name = call.member().to_owned();
        let members = self.members().await?;
        if matches!(call, ClusterCall::Remove { .. }) {
            if self.shared.barrier.heard_of(&name).is_none() {
                called(&members, &name)?;
            }
            return self.order(call).await;
        }
        let member = here(&members, &name)?;
        if member.node == self.shared.config.node() {
            return self.order(call).await;
        }
        // Only a member itself writes what it says of itself.
        self.passed_on(member, async |client| client.cluster(call).await).await
    }

    async fn drain(&self, call: DrainCall) -> Result<DrainProgress, RequestError> {
        self.drain_member(call).await
    }

    async fn merge(&self, seed: &str) -> Result<(), RequestError> {
        self.merge_rings(seed).await
    }

    async fn plan(&self, call: PlanCall) -> Result<PlanReport, RequestError> {
        let members = self.members().await?;
        let change = self.change(&call, &members)?;
        self.planned(&members, &change).await
    }

    async fn commit(&self, call: PlanCall) -> Result<CommittedPlan, RequestError> {
        let members = self.members().await?;
        let change = self.change(&call, &members)?;
        if let PlanCall::Replace { dead, .. } = call
            && called(&members, &dead)?.state != MemberState::Removed
        {
            self.order(ClusterCall::Remove { member: dead }).await?;
        }
        self.commit_change(&members, change).await
    }

    async fn transfers(&self) -> Result<TransferReport, RequestError> {
        Ok(transfers::of_cluster(self.status().await?).await)
    }

    async fn backup(&self, call: BackupCall) -> Result<BackupProgress, RequestError> {
        Ok(match call {
            BackupCall::Begin { directory } => {
                self.shared.backups.begin(directory.into(), &self.shared.config)
            }
            BackupCall::Progress { job } => self.shared.backups.progress(job),
        })
    }

    async fn cut_links(&self, member: &str, cut: bool) -> Result<(), RequestError> {
        let Some(switchboard) = &self.switchboard else {
            return Err(RequestError::Unsupported(
                "links are cut on development clusters only (`merganser dev`)".into(),
            ));
        };
        let Some(switch) = switchboard.get(member) else {
            let names: Vec<&str> = switchboard.keys().map(String::as_str).collect();
            return Err(RequestError::Unsupported(format!(
                "no member {member:?}; there are {}",
                names.join(", ")
            )));
        };
        tracing::info!(member, cut, "links switched");
        switch.set(cut);
        Ok(())
    }
}

/// An owner that gossip has not told of.
fn unheard(config: &NodeConfig, node: NodeId) -> MemberStatus {
    let founder = config.peers.iter().find(|peer| peer.node == node);
    MemberStatus {
        node,
        name: founder.map_or_else(|| node.to_string(), |peer| peer.name.clone()),
        peer_address: founder.map_or_else(String::new, |peer| peer.address.clone()),
        zone: founder.and_then(|peer| Some(peer.zone.as_ref()?.as_str().to_owned())),
        weight: founder.map_or(1, |peer| peer.weight.get()),
        state: MemberState::Joining,
        liveness: Liveness::Suspected,
        phi: 0.0,
        generation: 0,
        version: String::new(),
        connected: false,
        messages: None,
        cut: false,
        partitions: 0,
        copies: 0,
        pending: 0,
        pending_bytes: 0,
        load: Load::default(),
    }
}

impl NodeDatastore {
    /// Why the node does not serve, if it does not.
    fn waiting(&self, view: &View) -> Option<String> {
        let draining = || "this node drains: it finishes what it took, and stops".to_owned();
        let is_draining = self.shared.drain.is_begun();
        view.waiting.clone().or_else(|| is_draining.then(draining))
    }

    fn is_cut(&self, member: &str) -> bool {
        let switch = self.switchboard.as_ref().and_then(|switches| switches.get(member));
        switch.is_some_and(|switch| switch.is_cut())
    }
}
