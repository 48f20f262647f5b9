//! What administrators order: of this node, of another one through it, or of the whole ring.

use std::time::Duration;

use client::{Client, Datastore};
use membership::MemberState;
use replication::{
    BucketCall, BucketReply, Call, OwnershipCall, OwnershipReply, PlanChange, Reply, RequestError,
};
use ring::Ownership;
use tokio::sync::oneshot;
use tokio::time::timeout;
use wire::{ClusterCall, DrainCall, DrainProgress, MemberStatus, PlanReport};

use super::{NodeDatastore, lost, unexpected};
use crate::members::Notice;
use crate::{merging, plans, seeds};

/// How long a question how far a drain is waits for its end: less than any request may take.
const DRAIN_PATIENCE: Duration = Duration::from_millis(500);

/// For how long a node that is to join another ring waits for others, in milliseconds: nothing depends on it,
/// since it takes along what it keeps for them.
const MERGE_LIMIT_MS: u32 = 5_000;

impl NodeDatastore {
    pub(super) async fn drain_member(
        &self,
        call: DrainCall,
    ) -> Result<DrainProgress, RequestError> {
        let shared = &self.shared;
        if call.member == shared.config.name {
            if self.switchboard.is_some() {
                return Err(RequestError::Unsupported(
                    "the nodes of a development cluster stop together (Ctrl-C)".into(),
                ));
            }
            if !call.join.is_empty() {
                self.go_over(&call.join).await?;
            }
            let limit = Duration::from_millis(call.limit_ms.into());
            shared.drain.ask(limit, !call.join.is_empty());
            return Ok(shared.drain.progress(DRAIN_PATIENCE).await);
        }
        let members = self.members().await?;
        let member = here(&members, &call.member)?;
        self.passed_on(member, async |client| client.drain(call).await).await
    }

    pub(super) async fn merge_rings(&self, seed: &str) -> Result<(), RequestError> {
        let refused = RequestError::Membership;
        let unreachable = |error: &dyn std::fmt::Display| {
            RequestError::Unreachable(format!("the other ring cannot be asked: {error}"))
        };
        let other = Client::connect(seed).await.map_err(|error| unreachable(&error))?;
        // It knows the cluster's secret, as a member must.
        seeds::greet(&self.shared, seed).await.map_err(|error| refused(error.to_string()))?;
        let listed = |reply| match reply {
            BucketReply::Listed(buckets) => Ok(buckets),
            _ => Err(unexpected()),
        };
        let (ours, theirs) = (self.status().await?, other.status().await?);
        let our_buckets = listed(self.buckets(BucketCall::List).await?)?;
        let their_buckets = listed(other.buckets(BucketCall::List).await?)?;
        if let Some(why) = merging::refusal((&ours, &our_buckets), (&theirs, &their_buckets)) {
            return Err(refused(why));
        }
        let limit_ms = MERGE_LIMIT_MS;
        let there = theirs.members.iter().filter(|member| member.state.is_here());
        let mut join: Vec<String> = there.map(|member| member.peer_address.clone()).collect();
        join.push(seed.to_owned());
        let others = ours.members.iter().filter(|member| member.state.is_present());
        let mut gone = Vec::new();
        for member in others.filter(|member| member.name != ours.node && member.connected) {
            let call = DrainCall { member: member.name.clone(), limit_ms, join: join.clone() };
            let done = self.passed_on(member, async |client| client.drain(call).await).await;
            done.map_err(|error| half_way(&gone, error))?;
            gone.push(member.name.as_str());
        }
        let call = DrainCall { member: ours.node.clone(), limit_ms, join };
        self.drain_member(call).await.map(drop).map_err(|error| half_way(&gone, error))
    }

    /// Has the next start of this node join the ring of the nodes at `others`, of which it can reach one.
    async fn go_over(&self, others: &[String]) -> Result<(), RequestError> {
        let config = &self.shared.config;
        let name = &config.name;
        let mut why = String::new();
        for other in others {
            match seeds::greet(&self.shared, other).await {
                // Also if it is killed before it has drained.
                Ok(()) => {
                    return merging::write(&config.data, config.node(), others).map_err(|error| {
                        RequestError::Membership(format!("{name:?} cannot keep it: {error}"))
                    });
                }
                Err(error) => why += &format!("; {other}: {error}"),
            }
        }
        let text = format!("{name:?} reaches no node of the other ring{why}");
        Err(RequestError::Membership(text))
    }

    /// Commits a plan that has the change, or says what it would do.
    pub(super) async fn commit_change(
        &self,
        members: &[MemberStatus],
        change: PlanChange,
        is_trial: bool,
    ) -> Result<PlanReport, RequestError> {
        let (config, ownership) = (&self.shared.config, self.shared.ownership());
        if let Some(refusal) = self.shared.members.refusal() {
            return Err(refusal);
        }
        let names = members.iter().map(|member| (member.node, member.name.clone())).collect();
        let mut report = PlanReport {
            version: ownership.target().id().version,
            is_changed: false,
            moves: Vec::new(),
            known: 0,
            members: 0,
        };
        let Some(plan) = plans::planned(&ownership, &change)? else { return Ok(report) };
        (report.is_changed, report.version) = (true, plan.id().version);
        let mut after = Ownership::clone(&ownership);
        after.add_plan(plan);
        report.moves = plans::moves(&after, config.default_policy.n, &names);
        if is_trial {
            return Ok(report);
        }
        // The first loop keeps the ownership.
        match self.call(0, Call::Ownership(OwnershipCall::Commit(change))).await? {
            Reply::Ownership(OwnershipReply::Committed { plan, known, members, .. }) => {
                Ok(PlanReport { version: plan.version, known, members, ..report })
            }
            _ => Err(unexpected()),
        }
    }

    /// Has this node's membership do what an administrator orders.
    pub(super) async fn order(&self, call: ClusterCall) -> Result<(), RequestError> {
        let (reply, result) = oneshot::channel();
        self.membership(Notice::Order { call, reply }, result).await?
    }

    /// Has membership answer a notice within the time of a request: it may wait for a disk.
    async fn membership<T>(
        &self,
        notice: Notice,
        answer: oneshot::Receiver<T>,
    ) -> Result<T, RequestError> {
        let answered = async {
            let told = self.shared.members.notices.send(notice).await;
            told.map_err(|_| RequestError::Stopping)?;
            answer.await.map_err(|_| lost())
        };
        let limit = Duration::from_millis(self.shared.config.timeouts.request_ms.into());
        timeout(limit, answered).await.unwrap_or(Err(RequestError::Timeout))
    }

    /// Has another member do what only it can.
    pub(super) async fn passed_on<T>(
        &self,
        member: &MemberStatus,
        ask: impl AsyncFnOnce(Client) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let asked = async {
            let client = Client::connect(&member.peer_address).await.map_err(|error| {
                let name = &member.name;
                RequestError::Unreachable(format!("{name:?} itself must do this: {error}"))
            })?;
            ask(client).await
        };
        let limit = Duration::from_millis(self.shared.config.timeouts.request_ms.into());
        timeout(limit, asked).await.unwrap_or(Err(RequestError::Timeout))
    }

    /// All members, as membership has them.
    pub(super) async fn members(&self) -> Result<Vec<MemberStatus>, RequestError> {
        let (reply, members) = oneshot::channel();
        self.membership(Notice::Report(reply), members).await
    }
}

/// Why a merge ended, where some members are on their way already.
fn half_way(gone: &[&str], error: RequestError) -> RequestError {
    if gone.is_empty() {
        return error;
    }
    RequestError::Membership(format!(
        "{error}; on their way already: {}: once these are up there, mend it and give the command again",
        gone.join(", ")
    ))
}

/// The member of that name, if it is here to do something itself.
pub(super) fn here<'a>(
    members: &'a [MemberStatus],
    name: &str,
) -> Result<&'a MemberStatus, RequestError> {
    let member = called(members, name)?;
    if member.state == MemberState::Expected {
        // It may still belong to the ring that it is to leave, and would do it there.
        return Err(RequestError::Membership(format!(
            "{name:?} is on its way from another ring, and no member here yet: wait until `cluster members` has it \
             as joining, or remove it"
        )));
    }
    Ok(member)
}

pub(super) fn called<'a>(
    members: &'a [MemberStatus],
    name: &str,
) -> Result<&'a MemberStatus, RequestError> {
    let found = members.iter().find(|member| member.name == name);
    found.ok_or_else(|| RequestError::Membership(plans::no_member(members, name)))
}
