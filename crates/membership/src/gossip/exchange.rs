//! Comparing what two nodes know, and merging the difference both ways.

use std::cmp::Reverse;

use bytes::Bytes;
use clock::{NodeId, encoded_length};
use sabotage::Bug;

use super::Gossip;
use crate::event::{Destination, Effect, Report};
use crate::message::{
    Body, Delta, Digest, Fresh, InvalidMessage, LINES_MAX, Line, Mark, NEWS_BYTES_MAX, News, Open,
    ValueLine,
};
use crate::peer::{Peer, Said};
use crate::table::Merged;
use crate::{RECORDS_MAX, Record};

impl Gossip {
    pub(super) fn on_open(&mut self, now_ms: u64, from: NodeId, open: &Open) {
        let compare = (open.values != self.values.digest()).then(|| self.values.lines());
        let (roster, present) = self.roster();
        if open.roster != roster {
            let digest = self.digest(now_ms, compare);
            return self.send(now_ms, Destination::Node(from), Body::Digest(digest));
        }
        if open.marks.len() != present {
            let reason = InvalidMessage::Count;
            let report = Report::Malformed { node: from, reason };
            return self.report(now_ms, from, "malformed", report);
        }
        (self.settled, self.agreed) = (true, true);
        let fresh = Vec::with_capacity(present.min(LINES_MAX));
        let mut delta = Delta { compare, fresh, ..Delta::default() };
        let (mut given, mut own_beat) = (Vec::new(), 0);
        let present = self.peers.iter_mut().filter(|(_, peer)| !peer.said.is_over);
        for ((&node, peer), theirs) in present.zip(&open.marks) {
            let Said { version, generation, .. } = peer.said;
            if theirs.version > version {
                delta.wants.push(node);
            } else if theirs.version < version {
                given.push(node);
            }
            if node == self.config.node {
                own_beat = theirs.beat;
            } else {
                peer.heard_of(now_ms, theirs.beat, theirs.age_ms, &self.config.detector);
            }
            delta.fresh.extend(fresher(now_ms, node, generation, theirs, peer));
        }
        self.outrun_beat(now_ms, own_beat);
        delta.fresh.truncate(LINES_MAX);
        delta.wants.truncate(LINES_MAX);
        delta.news = self.news(now_ms, given);
        self.send(now_ms, Destination::Node(from), Body::Delta(delta));
    }

    /// Somebody knows of a heartbeat.
    fn beat(&mut self, now_ms: u64, fresh: Fresh) {
        if fresh.node == self.config.node {
            return self.own_beat(now_ms, fresh);
        }
        let Some(peer) = self.peers.get_mut(&fresh.node) else { return };
        peer.heard_of_start(now_ms, fresh, &self.config.detector);
    }

    /// Somebody knows of heartbeats, in order of ids: each member is found behind the one before, which of a
    /// thousand is far less to look at than to search for each.
    fn beats(&mut self, now_ms: u64, fresh: &[Fresh]) {
        let mut own = None;
        let mut peers = self.peers.iter_mut().peekable();
        for &fresh in fresh {
            while peers.next_if(|&(&node, _)| node < fresh.node).is_some() {}
            if fresh.node == self.config.node {
                own = Some(fresh);
            } else if let Some((_, peer)) = peers.next_if(|&(&node, _)| node == fresh.node) {
                peer.heard_of_start(now_ms, fresh, &self.config.detector);
            }
        }
        if let Some(fresh) = own {
            self.own_beat(now_ms, fresh);
        }
    }

    fn own_beat(&mut self, now_ms: u64, fresh: Fresh) {
        if fresh.generation == self.own().entry.incarnation.generation {
            self.outrun_beat(now_ms, fresh.beat);
        }
    }

    pub(super) fn on_digest(&mut self, now_ms: u64, from: NodeId, digest: &Digest) {
        let mut delta = Delta::default();
        let mut given = Vec::new();
        let known: Vec<NodeId> = self.table.iter().map(|(node, _)| node).collect();
        let mut lines = digest.lines.iter().peekable();
        for node in known.into_iter().filter(|&node| digest.covers(node)) {
            while let Some(line) = lines.next_if(|line| line.node < node) {
                delta.wants.push(line.node);
            }
            match lines.next_if(|line| line.node == node) {
                Some(line) => self.compare_line(now_ms, line, &mut delta, &mut given),
                None => given.push(node),
            }
        }
        delta.wants.extend(lines.map(|line| line.node));
        delta.news = self.news(now_ms, given);
        if let Some(lines) = &digest.values {
            self.compare_values(lines, &mut delta);
        }
        // Sent even if there is nothing to say: it carries a heartbeat, once a round.
        self.send(now_ms, Destination::Node(from), Body::Delta(delta));
    }

    fn compare_line(
        &mut self,
        now_ms: u64,
        line: &Line,
        delta: &mut Delta,
        given: &mut Vec<NodeId>,
    ) {
        let node = line.node;
        let record = self.table.get(node).expect("compared are those known");
        let ours = (record.entry.incarnation, record.entry.version);
        let ended = if sabotage::is(Bug::RemovalUntold) { line.ended } else { record.ended };
        let theirs = (line.incarnation, line.mark.version);
        if theirs > ours || line.ended > ended {
            delta.wants.push(node);
        }
        if theirs < ours || line.ended < ended {
            given.push(node);
        }
        if line.incarnation == ours.0 {
            self.settled |= node == self.config.node;
            if !record.is_over() {
                let (generation, Mark { beat, age_ms, .. }) = (ours.0.generation, line.mark);
                self.beat(now_ms, Fresh { node, generation, beat, age_ms });
                let peer = &self.peers[&node];
                delta.fresh.extend(fresher(now_ms, node, generation, &line.mark, peer));
            }
        }
    }

    pub(super) fn on_delta(&mut self, now_ms: u64, from: NodeId, delta: Delta) {
        self.beats(now_ms, &delta.fresh);
        for news in &delta.news {
            self.on_news(now_ms, from, news);
            if self.over {
                return;
            }
        }
        for (name, bytes) in &delta.values {
            self.on_value(now_ms, from, name, bytes);
        }
        let mut answer = Delta { news: self.news(now_ms, delta.wants), ..Delta::default() };
        if let Some(lines) = &delta.compare {
            self.compare_values(lines, &mut answer);
        }
        self.give_values(delta.values_wanted, &mut answer);
        if !answer.is_empty() {
            self.send(now_ms, Destination::Node(from), Body::Delta(answer));
        }
    }

    fn on_news(&mut self, now_ms: u64, from: NodeId, news: &News) {
        let News { node, ref record, beat, age_ms } = *news;
        if node == self.config.node {
            return self.on_self(now_ms, record);
        }
        if self.table.get(node).is_none() && self.table.len() >= RECORDS_MAX {
            return self.report(now_ms, from, "full", Report::Full { node: from });
        }
        let generation = record.entry.incarnation.generation;
        match self.table.merge(node, record) {
            Merged::Same => self.beat(now_ms, Fresh { node, generation, beat, age_ms }),
            Merged::New => self.appeared(now_ms, news),
            Merged::Grew(before) => {
                let now = self.table.get(node).expect("just merged");
                if now.entry.incarnation == before.entry.incarnation {
                    self.beat(now_ms, Fresh { node, generation, beat, age_ms });
                } else {
                    let peer = self.peers.get_mut(&node).expect("one for each record");
                    peer.restart(now_ms, now, beat, age_ms, &self.config.detector);
                }
                self.changed(node, Some(&before));
                if self.is_present(node) {
                    self.judge(now_ms, node);
                }
            }
        }
    }

    /// There is a record of a node for the first time; it is in the table.
    pub(super) fn appeared(&mut self, now_ms: u64, news: &News) {
        let News { node, ref record, beat, age_ms } = *news;
        let peer = Peer::new(now_ms, record, beat, age_ms, &self.config.detector);
        self.peers.insert(node, peer);
        self.changed(node, None);
    }

    fn on_value(&mut self, now_ms: u64, from: NodeId, name: &str, bytes: &Bytes) {
        if !self.values.has_room_for(name) {
            return self.report(now_ms, from, "full", Report::Full { node: from });
        }
        self.merge_value(name, bytes);
    }

    pub(super) fn merge_value(&mut self, name: &str, bytes: &Bytes) {
        if !self.values.merge(name, bytes, self.config.merge_value) {
            return;
        }
        self.dirty = true;
        let bytes = self.values.get(name).expect("just merged").clone();
        self.effects.push(Effect::ValueChanged { name: name.to_owned(), bytes });
    }

    fn compare_values(&self, lines: &[ValueLine], delta: &mut Delta) {
        let (given, wanted) = self.values.differences(lines);
        delta.values_wanted = wanted;
        self.give_values(given, delta);
    }

    fn give_values(&self, names: Vec<String>, delta: &mut Delta) {
        let mut bytes_total = 0;
        for name in names {
            let Some(bytes) = self.values.get(&name) else { continue };
            bytes_total += bytes.len();
            if bytes_total > NEWS_BYTES_MAX && !delta.values.is_empty() {
                return;
            }
            delta.values.push((name, bytes.clone()));
        }
    }

    /// The records of `nodes`, those that changed here last first, as many as fit.
    fn news(&self, now_ms: u64, nodes: Vec<NodeId>) -> Vec<News> {
        let mut chosen: Vec<(NodeId, &Record, &Peer)> = nodes
            .into_iter()
            .filter_map(|node| Some((node, self.table.get(node)?, self.peers.get(&node)?)))
            .collect();
        chosen.sort_by_key(|&(node, _, peer)| (Reverse(peer.recency), node));
        chosen.dedup_by_key(|&mut (node, _, _)| node);
        let mut bytes_total = 0;
        let mut news = Vec::new();
        for (node, record, peer) in chosen {
            let (beat, age_ms) = (peer.beat, peer.beat_age_ms(now_ms));
            let next = News { node, record: record.clone(), beat, age_ms };
            bytes_total += encoded_length(&next);
            if bytes_total > NEWS_BYTES_MAX && !news.is_empty() {
                break;
            }
            news.push(next);
        }
        news
    }

    /// What is known of all members; of a part of them, another one each time, if they are too many.
    fn digest(&mut self, now_ms: u64, values: Option<Vec<ValueLine>>) -> Digest {
        let left_out = self.table.len().saturating_sub(LINES_MAX);
        let skipped = self.random.below(left_out as u64 + 1) as usize;
        let line = |(node, record, peer): (NodeId, &Record, &Peer)| Line {
            node,
            incarnation: record.entry.incarnation,
            ended: record.ended,
            mark: Self::mark(now_ms, peer),
        };
        let lines: Vec<Line> = self.known().skip(skipped).take(LINES_MAX).map(line).collect();
        let before = skipped.checked_sub(1).and_then(|at| self.known().nth(at));
        let after = before.map(|(node, _, _)| node);
        let until = lines.last().filter(|_| skipped < left_out).map(|line| line.node);
        Digest { after, until, lines, values }
    }

    pub(super) fn mark(now_ms: u64, peer: &Peer) -> Mark {
        Mark { version: peer.said.version, beat: peer.beat, age_ms: peer.beat_age_ms(now_ms) }
    }

    /// The table's roster, and how many members of it are not gone.
    pub(super) fn roster(&mut self) -> (u128, usize) {
        *self.roster.get_or_insert_with(|| {
            let present = self.peers.values().filter(|peer| !peer.said.is_over).count();
            (self.table.roster(), present)
        })
    }
}

/// The newer heartbeat of a member in this generation, if this node knows one.
fn fresher(
    now_ms: u64,
    node: NodeId,
    generation: u64,
    theirs: &Mark,
    peer: &Peer,
) -> Option<Fresh> {
    let (beat, age_ms) = (peer.beat, peer.beat_age_ms(now_ms));
    (beat > theirs.beat).then_some(Fresh { node, generation, beat, age_ms })
}
