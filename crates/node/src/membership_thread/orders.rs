//! What administrators order of this node, and what they are shown.

use clock::NodeId;
use membership::{About, Command, CommandError, Effect, Phase};
use replication::RequestError;
use ring::Weight;
use wire::{ClusterCall, MemberStatus};

use super::{MembershipTask, Work};

impl MembershipTask {
    pub(super) fn order(
        &mut self,
        work: &mut Work,
        now_ms: u64,
        call: &ClusterCall,
        effects: &mut Vec<Effect>,
    ) -> Result<(), RequestError> {
        let refused = |error: &dyn std::fmt::Display| RequestError::Membership(error.to_string());
        let command = match call {
            ClusterCall::Join { .. } => Command::Declare(Phase::Up),
            ClusterCall::Leave { .. } => Command::Declare(Phase::Leaving),
            ClusterCall::Weigh { weight, .. } => {
                let weight = Weight::new(*weight).map_err(|error| refused(&error))?;
                let about = work.gossip.own().entry.about.clone();
                Command::Describe(About { weight, ..about })
            }
            ClusterCall::Remove { member } => Command::Remove(
                member_called(work, member)
                    .or_else(|| self.shared.barrier.heard_of(member))
                    .ok_or_else(|| refused(&format!("there is no member {member:?}")))?,
            ),
        };
        work.gossip.command(now_ms, command, effects).map_err(|error| match error {
            CommandError::Reachable(_) => refused(&format!(
                "{} was heard of moments ago: wait until `merganser status` has it as suspected, some \
                 seconds after it stopped; one that lives leaves, with `merganser cluster leave`",
                call.member()
            )),
            error => refused(&error),
        })
    }

    pub(super) fn report(&self, work: &Work, now_ms: u64) -> Vec<MemberStatus> {
        let row = |member: membership::Member<'_>| MemberStatus {
            node: member.node,
            name: member.about.name.clone(),
            peer_address: member.about.peer_address().to_owned(),
            zone: member.about.zone.as_ref().map(|zone| zone.as_str().to_owned()),
            weight: member.about.weight.get(),
            state: member.state,
            liveness: member.liveness,
            phi: member.phi,
            generation: member.incarnation.generation,
            version: member.about.software.clone(),
            connected: false,
            messages: None,
            cut: false,
            partitions: 0,
            copies: 0,
            pending: 0,
            pending_bytes: 0,
            load: member.load,
        };
        work.gossip.members(now_ms).map(row).collect()
    }
}

fn member_called(work: &Work, name: &str) -> Option<NodeId> {
    let mut members = work.gossip.table().iter();
    members.find(|(_, record)| record.entry.about.name == name).map(|(node, _)| node)
}
