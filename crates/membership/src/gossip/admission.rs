//! Who may speak to this node: nodes of the same cluster, in their latest start, that are nowhere else
//! at the same time.

use std::cmp::Ordering;

use clock::NodeId;
use sabotage::Bug;

use super::Gossip;
use crate::event::{Destination, Liveness, Report};
use crate::message::{Body, Header, Message, Refusal};
use crate::{ClusterId, MEMBERS_MAX, MemberState};

impl Gossip {
    pub(super) fn on_received(&mut self, now_ms: u64, from: NodeId, message: Message) {
        if let Err(reason) = message.check() {
            let report = Report::Malformed { node: from, reason };
            return self.report(now_ms, from, "malformed", report);
        }
        if from == self.config.node || from == NodeId::NAMED {
            return; // A seed's address may lead back here under another name.
        }
        let Message { header, body } = message;
        if let Body::Refused(refusal) = body {
            return self.on_refused(now_ms, from, &header, &refusal);
        }
        if let Err(refusal) = self.admit(now_ms, from, &header, &body) {
            return self.refuse(now_ms, from, header.address, refusal);
        }
        match body {
            Body::Open(open) => self.on_open(now_ms, from, &open),
            Body::Digest(digest) => self.on_digest(now_ms, from, &digest),
            Body::Delta(delta) => self.on_delta(now_ms, from, delta),
            Body::Ping => self.send(now_ms, Destination::Node(from), Body::Pong),
            Body::Pong | Body::Refused(_) => (),
        }
        if self.is_present(from) && !self.over {
            self.judge(now_ms, from);
        }
    }

    fn admit(
        &mut self,
        now_ms: u64,
        from: NodeId,
        header: &Header,
        body: &Body,
    ) -> Result<(), Refusal> {
        if header.cluster != self.config.cluster {
            return Err(Refusal::OtherName(self.config.cluster.clone()));
        }
        self.admit_cluster(header, body)?;
        let Some(record) = self.table.get(from) else {
            let fits = self.table.len() < MEMBERS_MAX;
            return if fits { Ok(()) } else { Err(Refusal::Full) };
        };
        let known = record.entry.incarnation;
        let peer = self.peers.get_mut(&from).expect("one for each record");
        match header.incarnation.cmp(&known) {
            Ordering::Less => Err(Refusal::Superseded(Box::new(record.clone()))),
            Ordering::Equal if record.state() == MemberState::Removed => {
                Err(Refusal::Ended(Box::new(record.clone())))
            }
            Ordering::Equal => {
                peer.heard_of(now_ms, header.beat, 0, &self.config.detector);
                peer.heard(now_ms);
                Ok(())
            }
            // A start anew at the same address took the place of the one before. At another address it
            // is let in once the one before has fallen silent: until then it may be a cloned disk.
            Ordering::Greater => {
                let address = record.entry.about.peer_address();
                let moved = header.address != address && header.incarnation.nonce != known.nonce;
                let alive = !record.is_over() && peer.liveness == Liveness::Reachable;
                if moved && alive {
                    return Err(Refusal::AliveElsewhere(address.to_owned()));
                }
                Ok(())
            }
        }
    }

    /// A node without a cluster is let into this one; this one takes the cluster of whoever answers it.
    fn admit_cluster(&mut self, header: &Header, body: &Body) -> Result<(), Refusal> {
        if self.ids.is_empty() {
            let answers = matches!(body, Body::Digest(_) | Body::Delta(_));
            let answers = answers && header.ids.is_disjoint(&self.config.left);
            let Some(&id) = header.ids.first().filter(|_| answers) else {
                return Err(Refusal::NotYet);
            };
            self.ids.clone_from(&header.ids);
            self.dirty = true;
            self.effects.push(crate::Effect::Report(Report::Found(id)));
            return Ok(());
        }
        if header.ids.is_empty() {
            return Ok(());
        }
        if header.ids.is_disjoint(&self.ids) && !sabotage::is(Bug::RingsNotRefused) {
            return Err(Refusal::OtherCluster(self.ids.clone()));
        }
        // Merged on the other side.
        let room = ClusterId::MERGED_MAX - self.ids.len();
        let more: Vec<ClusterId> = header.ids.difference(&self.ids).copied().take(room).collect();
        self.dirty |= !more.is_empty();
        self.ids.extend(more);
        Ok(())
    }

    /// Whether who speaks is of this node's cluster, or of the one that it may find.
    fn is_of_this_cluster(&self, header: &Header) -> bool {
        header.cluster == self.config.cluster
            && match self.ids.is_empty() {
                true => header.ids.is_disjoint(&self.config.left),
                false => !header.ids.is_disjoint(&self.ids),
            }
    }

    fn refuse(&mut self, now_ms: u64, node: NodeId, address: String, refusal: Refusal) {
        let body = Body::Refused(refusal.clone());
        self.send(now_ms, Destination::Node(node), body);
        if refusal != Refusal::NotYet {
            let kind = refusal.kind();
            self.report(now_ms, node, kind, Report::Refused { node, address, refusal });
        }
    }

    fn on_refused(&mut self, now_ms: u64, node: NodeId, header: &Header, refusal: &Refusal) {
        match refusal {
            // What this node was in another cluster, as those know it that it has left, it is not in this one.
            Refusal::Superseded(_) | Refusal::Ended(_) if !self.is_of_this_cluster(header) => (),
            Refusal::Superseded(record) | Refusal::Ended(record) => {
                self.on_self(now_ms, record);
                // Whoever refused can be reached: no reason to wait long before the next attempt.
                self.schedule.found_somebody();
            }
            Refusal::NotYet
            | Refusal::OtherName(_)
            | Refusal::OtherCluster(_)
            | Refusal::AliveElsewhere(_)
            | Refusal::Full => {
                let report = Report::RefusedBy { node, refusal: refusal.clone() };
                self.report(now_ms, node, refused_by(refusal), report);
            }
        }
    }
}

/// Apart from [`Refusal::kind`]: two nodes may refuse one another for the same reason, and both are news.
const fn refused_by(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotYet => "by: not yet",
        Refusal::OtherName(_) => "by: other name",
        Refusal::OtherCluster(_) => "by: other cluster",
        Refusal::AliveElsewhere(_) => "by: alive elsewhere",
        _ => "by: other",
    }
}
