//! Bringing the elements of a collection to the same at this node and a peer.
//!
//! Ranges of elements are compared by the sums of both, and cut where they differ; of a short one the
//! elements are listed, and those that differ are read at both sides and repaired as by a read. Until
//! all is done neither side claims to have seen more than the dots that it was sent.

use std::collections::BTreeMap;

use clock::CausalContext;
use storage::{Answer, Command, ElementKeys, ElementRange, TREE_FANOUT, TreeNode};
use values::{Blob, Key, Scope, Tag, View};

use super::key::{Hands, Outcome};
use super::question::{ELEMENTS_PER_ANSWER, cut_range};
use crate::{Body, Compare, Compared};

/// A range with no more elements at either side is listed instead of cut.
const LIST_MAX: u64 = 64;
/// Elements read at once, and bytes of their names after which no more are.
const READ_MAX: usize = 64;
const READ_BYTES: usize = 64 << 10;

/// What each side had seen before its elements were compared, and the other had not. In the end either
/// is told that it has seen the other's too: so whoever has lost some of it meanwhile, in a crash or
/// because it dropped its copy, is compared with no further. What it does not hold any more would be
/// taken for removed. And whoever has got some of it from elsewhere meanwhile may hold what the other saw removed.
#[derive(Clone, Debug)]
pub(super) struct News {
    mine: CausalContext,
    theirs: CausalContext,
}

impl News {
    pub(super) fn of(mine: &CausalContext, theirs: &CausalContext) -> Self {
        Self { mine: mine.minus(theirs), theirs: theirs.minus(mine) }
    }
}

/// Whether who shows that it has seen this got some of the other's news, and not in what it was `sent`.
fn came_from_elsewhere(news: &CausalContext, shown: &CausalContext, sent: &CausalContext) -> bool {
    news.minus(sent).shares(shown)
}

#[derive(Debug)]
enum Step {
    /// The engine cuts a range.
    Cutting,
    /// The peer says what it holds of each part.
    Asking { parts: Vec<(ElementRange, TreeNode)> },
    /// Both list the elements of a range.
    Listing { range: ElementRange, mine: Option<ElementKeys>, theirs: Option<ElementKeys> },
    /// Both show elements.
    Reading { mine: Option<View>, theirs: Option<View> },
    /// So many deltas are merged.
    Merging(usize),
}

/// The comparison.
#[derive(Debug)]
pub(super) struct Elements {
    tag: Tag,
    step: Step,
    /// What each side showed that it had seen and the other had not.
    news: News,
    /// Ranges still to be compared; whether each is to be listed.
    ranges: Vec<(ElementRange, bool)>,
    /// Elements that differ, still to be read; the last first.
    elements: Vec<Blob>,
    sent_here: CausalContext,
    sent_there: CausalContext,
    /// What was merged at either side since the beginning.
    pulled: CausalContext,
    pushed: CausalContext,
}

impl Elements {
    pub(super) fn begin(key: &Key, tag: Tag, news: News, hands: &mut Hands<'_, '_>) -> Self {
        let mut job = Self {
            tag,
            step: Step::Cutting,
            news,
            ranges: vec![(ElementRange::default(), false)],
            elements: Vec::new(),
            sent_here: CausalContext::default(),
            sent_there: CausalContext::default(),
            pulled: CausalContext::default(),
            pushed: CausalContext::default(),
        };
        job.go_on(key, hands);
        job
    }

    /// What each side showed, or was sent, to have seen since this was asked last.
    pub(super) fn take_sent(&mut self) -> (CausalContext, CausalContext) {
        (std::mem::take(&mut self.sent_here), std::mem::take(&mut self.sent_there))
    }

    pub(super) fn stored(
        &mut self,
        key: &Key,
        answer: Answer,
        hands: &mut Hands<'_, '_>,
    ) -> Outcome {
        match (&mut self.step, answer) {
            (Step::Cutting, Answer::ElementChildren(parts)) => {
                // One that holds nothing here is not cut.
                let parts = match parts.len() {
                    0 => vec![(ElementRange::default(), TreeNode::EMPTY)],
                    _ => parts,
                };
                let ranges = parts.iter().take(TREE_FANOUT).map(|(range, _)| range.clone());
                let ranges = ranges.collect();
                hands.ask(Body::Compare(Compare::ElementNodes {
                    key: key.clone(),
                    tag: self.tag,
                    ranges,
                    seen: self.news.theirs.clone(),
                }));
                self.step = Step::Asking { parts };
                Outcome::Waiting
            }
            (Step::Listing { mine, .. }, Answer::ElementKeys(page)) => {
                *mine = Some(page);
                self.listed(key, hands)
            }
            (Step::Reading { mine, .. }, Answer::View(view)) => {
                *mine = Some(view);
                self.read(key, hands)
            }
            (Step::Merging(left), Answer::Merged(_)) => {
                *left = left.saturating_sub(1);
                self.go_on(key, hands)
            }
            _ => Outcome::Unfinished,
        }
    }

    pub(super) fn answered(&mut self, key: &Key, body: Body, hands: &mut Hands<'_, '_>) -> Outcome {
        match (&mut self.step, body) {
            (Step::Asking { parts }, Body::Compared(Ok(Compared::Nodes(nodes)))) => {
                let parts = std::mem::take(parts);
                if nodes.len() != parts.len() {
                    return Outcome::Unfinished;
                }
                self.compared(key, parts, &nodes, hands)
            }
            (Step::Listing { theirs, .. }, Body::Compared(Ok(Compared::Elements(page)))) => {
                *theirs = Some(page);
                self.listed(key, hands)
            }
            (Step::Reading { theirs, .. }, Body::Shown(Ok(view))) => {
                *theirs = Some(view);
                self.read(key, hands)
            }
            (Step::Merging(left), Body::Merged(Ok(_))) => {
                *left = left.saturating_sub(1);
                self.go_on(key, hands)
            }
            _ => Outcome::Unfinished,
        }
    }

    /// Begins what comes next, unless answers are waited for.
    fn go_on(&mut self, key: &Key, hands: &mut Hands<'_, '_>) -> Outcome {
        if matches!(self.step, Step::Merging(left) if left > 0) {
            return Outcome::Waiting;
        }
        let (tag, key) = (self.tag, key.clone());
        if !self.elements.is_empty() {
            let (mut bytes, mut count) = (0, 0);
            while count < self.elements.len() && count < READ_MAX && bytes < READ_BYTES {
                count += 1;
                bytes += self.elements[self.elements.len() - count].len();
            }
            let elements = self.elements.split_off(self.elements.len() - count);
            let scope = Scope::Elements { tag, elements: elements.into_iter().collect() };
            hands.store(Command::Read { key: key.clone(), scope: scope.clone() });
            hands.ask(Body::Read { key, scope });
            self.step = Step::Reading { mine: None, theirs: None };
            return Outcome::Waiting;
        }
        match self.ranges.pop() {
            None => return Outcome::Done,
            Some((range, false)) => {
                let seen = self.news.mine.clone();
                hands.store(Command::ElementChildren { key, tag, range, seen });
                self.step = Step::Cutting;
            }
            Some((range, true)) => {
                let News { mine, theirs } = self.news.clone();
                hands.store(Command::ElementKeys {
                    key: key.clone(),
                    tag,
                    range: range.clone(),
                    seen: mine,
                    limit: ELEMENTS_PER_ANSWER,
                });
                let listed = range.clone();
                let question = Compare::Elements { key, tag, range: listed, seen: theirs };
                hands.ask(Body::Compare(question));
                self.step = Step::Listing { range, mine: None, theirs: None };
            }
        }
        Outcome::Waiting
    }

    fn compared(
        &mut self,
        key: &Key,
        parts: Vec<(ElementRange, TreeNode)>,
        theirs: &[TreeNode],
        hands: &mut Hands<'_, '_>,
    ) -> Outcome {
        let is_whole = parts.len() == 1;
        for ((range, mine), theirs) in parts.into_iter().zip(theirs).rev() {
            if mine == *theirs && mine.is_settled {
                continue;
            }
            let is_short = mine.count.max(theirs.count) <= LIST_MAX;
            let is_one_sided = mine.count.min(theirs.count) == 0;
            if !(is_short || mine.is_settled && theirs.is_settled) {
                // Dead rows are counted until the sweep has come to the last of them: what they add
                // would be searched for everywhere.
                return Outcome::Unfinished;
            }
            self.ranges.push((range, is_whole || is_short || is_one_sided));
        }
        self.go_on(key, hands)
    }

    /// Compares two lists once both are there, as far as both go.
    fn listed(&mut self, key: &Key, hands: &mut Hands<'_, '_>) -> Outcome {
        let Step::Listing { range, mine: Some(mine), theirs: Some(theirs) } = &mut self.step else {
            return Outcome::Waiting;
        };
        let end = [&mine.next, &theirs.next].into_iter().flatten().min().cloned();
        if let Some(end) = &end {
            // A peer says where to go on.
            if *end <= range.from || range.until.as_ref().is_some_and(|until| end >= until) {
                return Outcome::Unfinished;
            }
            let (_, rest) = cut_range(std::mem::take(range), end.clone());
            self.ranges.push((rest, true));
        }
        let is_listed = |element: &Blob| match &end {
            Some(end) => ElementRange::place_of(element) < *end,
            None => true,
        };
        let mut differing: BTreeMap<Blob, u128> = std::mem::take(&mut mine.elements)
            .into_iter()
            .filter(|listed| is_listed(&listed.element))
            .map(|listed| (listed.element, listed.digest))
            .collect();
        for listed in std::mem::take(&mut theirs.elements) {
            if !is_listed(&listed.element) {
                continue;
            }
            if differing.get(&listed.element) == Some(&listed.digest) {
                differing.remove(&listed.element);
            } else {
                differing.insert(listed.element, listed.digest);
            }
        }
        self.elements = differing.into_keys().collect();
        self.go_on(key, hands)
    }

    /// Repairs both sides once both have shown the elements.
    fn read(&mut self, key: &Key, hands: &mut Hands<'_, '_>) -> Outcome {
        let Step::Reading { mine: Some(mine), theirs: Some(theirs) } = &mut self.step else {
            return Outcome::Waiting;
        };
        mine.value.0.retain(|&tag, _| tag == self.tag);
        theirs.value.0.retain(|&tag, _| tag == self.tag);
        let (here, there) = (mine.value.context(self.tag), theirs.value.context(self.tag));
        if !here.descends(&self.news.mine) || !there.descends(&self.news.theirs) {
            return Outcome::Unfinished;
        }
        if came_from_elsewhere(&self.news.mine, there, &self.pushed)
            || came_from_elsewhere(&self.news.theirs, here, &self.pulled)
        {
            return Outcome::Unfinished;
        }
        let exchanged = hands.exchange(key, mine, theirs);
        self.pulled.merge(exchanged.here.context(self.tag));
        self.pushed.merge(exchanged.there.context(self.tag));
        // Also what a side showed, and was not sent for that reason: it may lose it again.
        for seen in [mine.value.context(self.tag), exchanged.here.context(self.tag)] {
            self.sent_here.merge(seen);
        }
        for seen in [theirs.value.context(self.tag), exchanged.there.context(self.tag)] {
            self.sent_there.merge(seen);
        }
        self.step = Step::Merging(exchanged.answers);
        self.go_on(key, hands)
    }
}
