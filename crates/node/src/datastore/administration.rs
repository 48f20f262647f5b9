//! What administrators order: of this node, of another one through it, or of the whole ring.

use std::time::Duration;

use client::{Client, Datastore};
use membership::MemberState;
use replication::{
    BucketCall, BucketReply, Call, OwnershipCall, OwnershipReply, PlanChange, Reply, RequestError,
};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use wire::{
    ClusterCall, CommittedPlan, DrainCall, DrainProgress, MemberStatus, PlanCall, PlanReport,
};

use super::{NodeDatastore, lost, unexpected};
use crate::members::{Members, Notice};
use crate::{merging, plan_report, plans, seeds};

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

    /// What a plan is to change.
    pub(super) fn change(
        &self,
        call: &PlanCall,
        members: &[MemberStatus],
    ) -> Result<PlanChange, RequestError> {
        let ownership = self.shared.ownership();
        match call {
            PlanCall::Staged => plans::change(&ownership, members),
            PlanCall::Replace { dead, by } => plans::replacement(&ownership, members, dead, by),
        }
    }

    /// What comes of a plan that has the change. Worked out beside the loops: with many members and partitions it takes
    /// some tenths of a second.
    pub(super) async fn planned(
        &self,
        members: &[MemberStatus],
        change: &PlanChange,
    ) -> Result<PlanReport, RequestError> {
        let ownership = self.shared.ownership();
        if let Some(refusal) = self.shared.members.refusal() {
            return Err(refusal);
        }
        let n = self.shared.config.default_policy.n;
        let (members, change) = (members.to_vec(), change.clone());
        let worked_out = tokio::task::spawn_blocking(move || {
            let plan = plans::planned(&ownership, &change, n)?;
            let mut report = plan_report::of(&ownership, plan.as_ref(), &change, n, &members);
            if let Some(plan) = &plan {
                let names =
                    members.iter().map(|member| (member.node, member.name.clone())).collect();
                report.warnings = plans::warnings(&ownership, plan, &change, n, &names);
            }
            Ok(report)
        });
        // It ends in no other way but with the node.
        worked_out.await.map_err(|_| RequestError::Stopping)?
    }

    /// Commits a plan that has the change.
    pub(super) async fn commit_change(
        &self,
        members: &[MemberStatus],
        change: PlanChange,
    ) -> Result<CommittedPlan, RequestError> {
        let plan = self.planned(members, &change).await?;
        if !plan.is_changed {
            return Ok(CommittedPlan { plan, known: 0, members: 0 });
        }
        // The first loop keeps the ownership.
        match self.call(0, Call::Ownership(OwnershipCall::Commit(change))).await? {
            Reply::Ownership(OwnershipReply::Committed { plan: id, known, members, .. }) => {
                let (name, copies) = (&self.shared.config.name, plan.copies());
                tracing::info!(name, plan = id.version, copies, known, "a plan was committed here");
                let plan = PlanReport { version: id.version, ..plan };
                Ok(CommittedPlan { plan, known, members })
            }
            _ => Err(unexpected()),
        }
    }

    /// Has this node's membership do what an administrator orders.
    pub(super) async fn order(&self, call: ClusterCall) -> Result<(), RequestError> {
        let shared = &self.shared;
        obeyed(&shared.members, &shared.config.name, call, self.request_end()).await
    }

    /// Has another member do what only it can.
    pub(super) async fn passed_on<T>(
        &self,
        member: &MemberStatus,
        ask: impl AsyncFnOnce(Client) -> Result<T, RequestError>,
    ) -> Result<T, RequestError> {
        let (name, end) = (&member.name, self.request_end());
        let unreachable = |why: &dyn std::fmt::Display| {
            RequestError::Unreachable(format!("{name:?} itself must do this: {why}"))
        };
        let client = timeout_at(end, Client::connect(&member.peer_address))
            .await
            .map_err(|_| unreachable(&"it does not answer in time"))?
            .map_err(|error| unreachable(&error))?;
        acknowledged(name, end, ask(client)).await
    }

    /// All members, as membership has them.
    pub(super) async fn members(&self) -> Result<Vec<MemberStatus>, RequestError> {
        let (end, (reply, members)) = (self.request_end(), oneshot::channel());
        told(&self.shared.members, Notice::Report(reply), end).await?;
        let members = timeout_at(end, members).await.map_err(|_| RequestError::Timeout)?;
        members.map_err(|_| lost())
    }

    /// When a request that begins now is over.
    fn request_end(&self) -> Instant {
        Instant::now() + Duration::from_millis(self.shared.config.timeouts.request_ms.into())
    }
}

/// Tells membership something. On an error it was not told.
async fn told(members: &Members, notice: Notice, end: Instant) -> Result<(), RequestError> {
    let told = timeout_at(end, members.notices.send(notice)).await;
    told.map_err(|_| RequestError::Timeout)?.map_err(|_| RequestError::Stopping)
}

/// Has the membership of the node `name` obey an order, and waits until that is durable.
async fn obeyed(
    members: &Members,
    name: &str,
    call: ClusterCall,
    end: Instant,
) -> Result<(), RequestError> {
    let (reply, result) = oneshot::channel();
    told(members, Notice::Order { call, reply }, end).await?;
    acknowledged(name, end, async { result.await.unwrap_or_else(|_| Err(lost())) }).await
}

/// What came of an order given to the node `name`. It may be obeyed though that is not acknowledged
/// in time.
async fn acknowledged<T>(
    name: &str,
    end: Instant,
    order: impl Future<Output = Result<T, RequestError>>,
) -> Result<T, RequestError> {
    timeout_at(end, order).await.unwrap_or_else(|_| {
        Err(RequestError::Disconnected(format!(
            "{name:?} did not acknowledge the order in time, but may obey it: look at `merganser cluster members`"
        )))
    })
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

#[cfg(test)]
mod tests {
    use std::future::pending;

    use membership::Incarnation;

    use super::*;
    use crate::members::View;

    fn members() -> (Members, tokio::sync::mpsc::Receiver<Notice>) {
        Members::new(View {
            incarnation: Incarnation { generation: 1, nonce: 1 },
            admitted: [].into(),
            states: [].into(),
            ring: None,
            waiting: None,
        })
    }

    fn remove() -> ClusterCall {
        ClusterCall::Remove { member: "c".into() }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(2)
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_of_an_order_that_was_given_and_not_acknowledged_is_unknown() {
        // Its disk does not answer.
        let (members, mut notices) = members();
        let ended = obeyed(&members, "a", remove(), soon()).await.unwrap_err();
        assert!(matches!(notices.try_recv(), Ok(Notice::Order { .. })));
        let RequestError::Disconnected(why) = &ended else { panic!("{ended:?}") };
        assert!(why.contains("cluster members"), "{why}");
        let ended = acknowledged("b", soon(), pending::<Result<(), _>>()).await;
        assert!(matches!(ended, Err(RequestError::Disconnected(_))), "{ended:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_that_could_not_be_given_was_not() {
        let (members, notices) = members();
        while members.notices.try_send(Notice::TimedOut(clock::NodeId(1))).is_ok() {}
        assert_eq!(obeyed(&members, "a", remove(), soon()).await, Err(RequestError::Timeout));
        drop(notices);
        assert_eq!(obeyed(&members, "a", remove(), soon()).await, Err(RequestError::Stopping));
    }
}
