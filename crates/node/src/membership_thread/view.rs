//! What the node's other tasks see of membership is made what membership says: links, view, whether the node
//! serves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use membership::MemberState;
use tokio::task::spawn_local;

use super::{MembershipTask, Work};
use crate::dial;
use crate::links::{Link, LinkMap, Target};
use crate::members::View;
use crate::work::{Job, Urgent};

impl MembershipTask {
    /// Makes links and view what membership says, if it may say otherwise than before.
    pub(super) fn refresh(&mut self, work: &Work) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let shared = &self.shared;
        let gossip = &work.gossip;
        let before = shared.members.view();
        let is_behind = work.keeper.is_behind();
        // This start would speak as one that the next could take for its own.
        let incarnation =
            if is_behind { before.incarnation } else { gossip.own().entry.incarnation };
        if incarnation != before.incarnation {
            shared.routes.tell_all(|| Urgent::Incarnation(incarnation));
        }
        let is_member = self.ended.is_none() && gossip.own().state().is_present();
        // One that has left still tells the others so.
        self.renew_links(work, self.ended.is_none());
        let others = gossip.table().iter().filter(|&(node, _)| node != shared.config.node());
        let admitted = others
            .filter(|(_, record)| is_member && !record.is_over())
            .map(|(node, record)| (node, record.entry.incarnation));
        let states = || gossip.table().iter().map(|(node, record)| (node, record.state()));
        // Who is a member only the disk decides: what all have forgotten depends on it. Who of them speaks,
        // and that this node is not to serve, counts at once: the next start hears of it again.
        let view = View {
            incarnation,
            admitted: admitted.collect(),
            states: if is_behind { before.states.clone() } else { states().collect() },
            ring: self.ring.clone(),
            waiting: self.waiting(work).or_else(|| before.waiting.clone().filter(|_| is_behind)),
        };
        let serves = view.waiting.is_none();
        if view.ring != before.ring
            && let Some(ring) = &view.ring
        {
            shared.routes.tell_all(|| Urgent::Ring(Arc::clone(ring)));
        }
        if view != *before {
            shared.members.view.send_replace(Arc::new(view));
        }
        let is_closing = *shared.closing.borrow() || shared.drain.is_begun();
        shared.serving.send_if_modified(|now| {
            let next = serves && !is_closing;
            std::mem::replace(now, next) != next
        });
    }

    pub(super) fn renew_links(&self, work: &Work, speaks: bool) {
        let shared = &self.shared;
        let before = shared.links();
        let mut links = LinkMap::new();
        let mut queues = Vec::new();
        let mut names = BTreeMap::new();
        for (node, record) in work.gossip.table().iter() {
            let about = &record.entry.about;
            names.insert(node, about.name.clone());
            if node == shared.config.node() || record.is_over() || !speaks {
                continue;
            }
            let address = about.peer_address().to_owned();
            let link = match before.get(&node) {
                Some(link) => {
                    link.lead_to(Target::At(address));
                    Arc::clone(link)
                }
                None => {
                    let (link, queue) = Link::new(node, about.name.clone(), address);
                    queues.push(queue);
                    link
                }
            };
            links.insert(node, link);
        }
        let gone: Vec<&Arc<Link>> =
            before.iter().filter(|(node, _)| !links.contains_key(node)).map(|(_, it)| it).collect();
        let is_same = queues.is_empty() && gone.is_empty();
        if is_same && names.len() == shared.members.view().states.len() {
            return;
        }
        let (links, names) = (Arc::new(links), Arc::new(names));
        shared
            .routes
            .tell_all(|| Urgent::Members { links: Arc::clone(&links), names: Arc::clone(&names) });
        shared.links.send_replace(links);
        gone.into_iter().for_each(|link| link.lead_to(Target::Closed));
        // Dealt to the loops one by one, after all of them know the link.
        for queue in queues {
            let task = Arc::clone(shared);
            let job = Job::new(move || drop(spawn_local(dial::run(task, queue))));
            // A loop that ended already takes nothing more.
            let _ = shared.routes.handle(shared.routes.next()).jobs.send(job);
        }
        shared.links_changed.send_modify(|count| *count += 1);
    }

    /// Why the node does not serve, if it does not.
    pub(super) fn waiting(&self, work: &Work) -> Option<String> {
        if let Some(ended) = &self.ended {
            return Some(ended.clone());
        }
        if work.gossip.own().state() == MemberState::Left {
            return Some("this node has left the cluster: stop it, and use another one".into());
        }
        if work.gossip.cluster_ids().is_empty() {
            let mut tried: Vec<String> = self
                .seed_errors
                .iter()
                .map(|(address, error)| format!("{address}: {error}"))
                .collect();
            if tried.is_empty() {
                tried.push(self.shared.config.seeds.join(", "));
            }
            return Some(format!(
                "this node waits for a seed that belongs to the cluster ({}); `merganser start \
                 --bootstrap` begins one",
                tried.join("; ")
            ));
        }
        if self.ring.is_none() {
            return Some("this node has not been told the cluster's ring yet".into());
        }
        if !self.shared.barrier.is_open.load(Ordering::Acquire) {
            return Some("this node has not been told yet what the cluster has forgotten".into());
        }
        None
    }
}
