//! What people are told of membership, in the node's log.

use clock::NodeId;
use membership::{Ending, MemberState, Report};

use super::{MembershipTask, Work};

impl MembershipTask {
    pub(super) fn tried_seed(&mut self, address: String, error: Option<String>) {
        let before = match &error {
            Some(error) => self.seed_errors.insert(address.clone(), error.clone()),
            None => self.seed_errors.remove(&address),
        };
        if before == error {
            return;
        }
        self.is_stale = true;
        match error {
            Some(error) => tracing::warn!(seed = address, error, "a seed cannot be asked"),
            None => tracing::info!(seed = address, "a seed answers"),
        }
    }

    pub(super) fn reported(&mut self, report: &Report) {
        let name = &self.shared.config.name;
        match report {
            Report::NoSeed { attempts, again_in_ms } => {
                tracing::warn!(
                    name,
                    attempts,
                    again_in_ms,
                    "no seed of the node's cluster answers"
                );
            }
            Report::Found(id) => {
                self.is_stale = true;
                tracing::info!(name, %id, "the node found its cluster");
            }
            Report::RefusedBy { node, refusal } => {
                tracing::warn!(name, %node, "refused by another node: {refusal}");
            }
            Report::Refused { node, address, refusal } => {
                tracing::warn!(name, %node, address, "refused another node, telling it: {refusal}");
            }
            Report::Raised { known, now } => {
                self.is_stale = true;
                tracing::warn!(name, ?known, ?now, "others remember a later start of this node");
            }
            Report::Malformed { node, reason } => {
                tracing::warn!(name, %node, %reason, "gossip out of bounds was ignored");
            }
            Report::Full { node } => {
                tracing::warn!(name, %node, "there is no room for more members or values");
            }
            _ => (),
        }
    }

    /// It serves no more, for this reason.
    pub(super) fn end_as(&mut self, text: String) {
        tracing::error!(name = self.shared.config.name, "{text}");
        self.ended = Some(text);
        self.is_stale = true;
    }

    pub(super) fn end(&mut self, ending: &Ending) {
        let text = match ending {
            Ending::Removed => {
                "this node was removed from the cluster: started again it joins as a new member"
                    .into()
            }
            Ending::Superseded { address, .. } => {
                format!(
                    "another process of this node's name took its place, at {address}: give each node \
                     a name and a data directory of its own"
                )
            }
        };
        self.end_as(text);
    }
}

pub(super) fn tell_liveness(work: &Work, node: NodeId, suspected: bool) {
    let member = name_of(work, node);
    if suspected {
        tracing::warn!(member, "a member is suspected: nothing is heard of it");
    } else {
        tracing::info!(member, "a member that was suspected is heard of again");
    }
}

fn name_of(work: &Work, node: NodeId) -> String {
    let record = work.gossip.table().get(node);
    record.map_or_else(|| node.to_string(), |record| record.entry.about.name.clone())
}

pub(super) fn tell_change(
    work: &Work,
    node: NodeId,
    before: Option<MemberState>,
    now: MemberState,
) {
    let member = name_of(work, node);
    let address = work.gossip.table().get(node).map(|it| it.entry.about.peer_address().to_owned());
    let address = address.unwrap_or_default();
    tracing::info!(member, address, ?before, ?now, "a member changed");
}
