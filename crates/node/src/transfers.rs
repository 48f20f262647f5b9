//! What moves while partitions follow a plan: of this node, and of all members.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Client, Datastore};
use clock::NodeId;
use futures_util::{StreamExt, stream};
use replication::Flow;
use tokio::time::{Instant, timeout};
use wire::{
    ClusterStatus, MemberStatus, TransferPeer, TransferReport, TransferStatus, TransferWait,
};

/// Members asked at once. A guess: a connection each.
const ASKED_AT_ONCE: usize = 16;
/// How long one member is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long all of them are.
const PATIENCE_WITH_ALL: Duration = Duration::from_secs(10);

/// The flows of a node's loops, part by part: those that are not done. Also what a loop did that has done is of them.
pub(crate) fn together<'a>(flows: impl Iterator<Item = &'a Flow>) -> Vec<Flow> {
    let mut parts: Vec<Flow> = Vec::new();
    for flow in flows {
        match parts.iter_mut().find(|sum| sum.part == flow.part) {
            Some(sum) => *sum = sum.clone().plus(flow),
            None => parts.push(flow.clone()),
        }
    }
    parts.retain(|sum| sum.partitions > 0);
    parts
}

/// A flow of the node called `member`, in the names of members.
pub(crate) fn named(member: &str, flow: &Flow, names: &BTreeMap<NodeId, String>) -> TransferStatus {
    let name = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| node.to_string());
    let peers = flow.peers.iter().map(|(node, &(partitions, keys))| TransferPeer {
        name: name(node),
        partitions,
        keys,
    });
    let waits = flow.waits.iter().map(|((reason, on), &partitions)| TransferWait {
        reason: *reason,
        member: on.as_ref().map(name),
        partitions,
    });
    let (mut peers, mut waits): (Vec<_>, Vec<_>) = (peers.collect(), waits.collect());
    peers.sort_by(|one, other| (other.partitions, &one.name).cmp(&(one.partitions, &other.name)));
    waits.sort_by_key(|wait| std::cmp::Reverse(wait.partitions));
    let listed = TransferStatus::LISTED_MAX;
    let beyond = |count: usize| u32::try_from(count.saturating_sub(listed)).unwrap_or(u32::MAX);
    let (more_peers, more_waits) = (beyond(peers.len()), beyond(waits.len()));
    peers.truncate(listed);
    waits.truncate(listed);
    TransferStatus {
        member: member.to_owned(),
        part: flow.part,
        partitions: flow.partitions,
        done: flow.done,
        keys: flow.keys,
        keys_left: flow.keys_left,
        keys_per_1000_s: flow.keys_per_1000_s,
        left_ms: flow.left_ms,
        peers,
        more_peers,
        waits,
        more_waits,
    }
}

/// What all members say that can be asked, beside what this node says itself.
pub(crate) async fn of_cluster(own: ClusterStatus) -> TransferReport {
    let others = own.members.iter().filter(|member| {
        member.name != own.node && (member.state.is_present() || member.partitions > 0)
    });
    let others: Vec<MemberStatus> = others.cloned().collect();
    let end = Instant::now() + PATIENCE_WITH_ALL;
    let asked = stream::iter(others).map(|member| async move {
        let said = match member.connected {
            true if Instant::now() >= end => Err("others took too long before it".to_owned()),
            true => ask(&member.peer_address).await,
            false => Err("it is out of reach".to_owned()),
        };
        (member.name, said)
    });
    let said: Vec<_> = asked.buffer_unordered(ASKED_AT_ONCE).collect().await;
    let mut silent = Vec::new();
    let mut transfers = own.handover.transfers;
    for (name, said) in said {
        match said {
            Ok(more) => transfers.extend(more),
            Err(why) => silent.push((name, why)),
        }
    }
    let order = |transfer: &TransferStatus| (transfer.part, transfer.member.clone());
    transfers.sort_by_key(order);
    silent.sort();
    let more = transfers.len().saturating_sub(TransferReport::LISTED_MAX);
    transfers.truncate(TransferReport::LISTED_MAX);
    TransferReport {
        ring_version: own.ring_version,
        partitions: own.partitions,
        partitions_moving: own.handover.partitions_moving,
        transfers,
        more: u32::try_from(more).unwrap_or(u32::MAX),
        silent,
    }
}

async fn ask(address: &str) -> Result<Vec<TransferStatus>, String> {
    let status = async {
        let client = Client::connect(address).await.map_err(|error| error.to_string())?;
        client.status().await.map_err(|error| error.to_string())
    };
    match timeout(PATIENCE, status).await {
        Ok(Ok(status)) => Ok(status.handover.transfers),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(format!("it did not answer within {} s", PATIENCE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use replication::{Part, WaitReason};

    use super::*;

    fn flow(partitions: u64, left_ms: Option<u64>) -> Flow {
        Flow {
            part: Part::Receiving,
            partitions,
            done: 3,
            keys: 10,
            keys_left: Some(5),
            keys_per_1000_s: 2_000,
            left_ms,
            peers: BTreeMap::from([(NodeId(1), (partitions, 10))]),
            waits: BTreeMap::from([((WaitReason::OutOfReach, Some(NodeId(1))), partitions)]),
        }
    }

    #[test]
    fn loops_are_summed_and_the_slowest_of_them_says_how_long_it_takes() {
        let (one, other) = (flow(2, Some(7_000)), flow(4, Some(9_000)));
        let sum = together([&one, &other].into_iter());
        assert_eq!(sum.len(), 1);
        assert_eq!((sum[0].partitions, sum[0].done, sum[0].keys_left), (6, 6, Some(10)));
        assert_eq!((sum[0].left_ms, sum[0].keys_per_1000_s), (Some(9_000), 4_000));
        assert_eq!(sum[0].peers[&NodeId(1)], (6, 20));
        let done = Flow { done: 4, ..flow(0, None) };
        let sum = together([&one, &done].into_iter());
        assert_eq!((sum[0].partitions, sum[0].done, sum[0].left_ms), (2, 7, Some(7_000)));
        assert_eq!(together([&done].into_iter()), []);
        let unknown = flow(1, None);
        assert_eq!(together([&one, &unknown].into_iter())[0].left_ms, None);
    }

    #[test]
    fn what_is_waited_for_is_named_and_listed_no_longer_than_a_screen() {
        let names = BTreeMap::from([(NodeId(1), "a".to_owned())]);
        let mut many = flow(2, None);
        let waits = (2..=40).map(|id| ((WaitReason::Unheard, Some(NodeId(id))), 1));
        many.waits.extend(waits);
        let status = named("d", &many, &names);
        assert_eq!(status.waits[0].member.as_deref(), Some("a"), "for it most wait");
        assert_eq!((status.waits.len(), status.more_waits), (16, 24));
        assert_eq!(status.peers, [TransferPeer { name: "a".into(), partitions: 2, keys: 10 }]);
    }
}
