//! Bringing one key to the same at this node and a peer.
//!
//! First the headers of both, whole states with them: what either lacks of these is merged there.
//! Then, of each collection that differs, its elements (`elements`), and then each side is told that
//! it has seen what the other had seen; last, which schedules were taken back, and which removals with a name were done. Everything is a merge;
//! a side that fails to merge leaves the key to the next comparison. A side whose header is damaged is sent a merge of nothing: any merge brings
//! a key back to what is whole of it, and the next comparison brings the rest.

use std::collections::VecDeque;

use clock::{CausalContext, NodeId};
use storage::{Answer, Command, StorageError};
use values::{Delta, Key, Scope, Tag, Value, View, is_collection};

use super::elements::{Elements, News};
use crate::handover::{Seen, SeenWhat};
use crate::turn::{Turn, Waiter};
use crate::{Body, Compare, Compared};

/// Longest part of a repair that is sent at once, encoded, where it can be cut. A guess: what may
/// stand before a client's message.
const REPAIR_BYTES_MAX: usize = 256 << 10;

/// How a job stands after it was told something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It waits for answers.
    Waiting,
    /// Both hold what either held.
    Done,
    /// It could not be finished: compare again.
    Unfinished,
    /// This node or the peer has too much to do.
    Overloaded,
}

impl Outcome {
    pub(super) const fn of(error: &StorageError) -> Self {
        match error {
            StorageError::Busy | StorageError::Overloaded(_) => Self::Overloaded,
            // Whoever drops a bucket drops it everywhere.
            StorageError::Dropped => Self::Done,
            _ => Self::Unfinished,
        }
    }
}

/// What a job asks with: of the engine, and of the peer.
pub(super) struct Hands<'a, 'b> {
    pub(super) turn: &'a mut Turn<'b>,
    pub(super) peer: NodeId,
    /// Of the buckets whose keys are compared.
    pub(super) n: u8,
    pub(super) job: u64,
    pub(super) budget_ms: u32,
    /// Bytes of what was asked.
    pub(super) bytes: usize,
}

impl Hands<'_, '_> {
    pub(super) fn store(&mut self, command: Command) {
        self.turn.store(Waiter::AntiEntropy(self.job), command);
    }

    pub(super) fn ask(&mut self, body: Body) {
        self.bytes += clock::encoded_length(&body);
        self.turn.ask(self.peer, Waiter::AntiEntropy(self.job), self.budget_ms, body);
    }

    /// Merges here what this node lacks. Returns how many answers come.
    fn pull(&mut self, key: &Key, delta: Delta) -> usize {
        self.turn.shared.counters.keys_pulled += 1;
        let partition = self.turn.shared.partition(key);
        let (peer, n, what) = (self.peer, self.n, SeenWhat::Pulled);
        self.turn.shared.seen.push(Seen { peer, n, partition, what });
        let durability = self.turn.durability(key);
        self.store(Command::Merge { key: key.clone(), delta, show: None, durability });
        1
    }

    /// Sends the peer what it lacks. Returns how many answers come.
    fn push(&mut self, key: &Key, delta: Delta) -> usize {
        self.turn.shared.counters.keys_pushed += 1;
        let parts = delta.split_repair(REPAIR_BYTES_MAX);
        let count = parts.len();
        for delta in parts {
            self.ask(Body::Merge { key: key.clone(), delta, show: None });
        }
        count
    }

    /// Merges at either side what it lacks of the other's view within the same scope. Returns what
    /// each side was sent to have seen, and how many answers come.
    pub(super) fn exchange(&mut self, key: &Key, mine: &View, theirs: &View) -> Exchanged {
        let mut merged = mine.clone();
        merged.merge(theirs);
        let mut exchanged = Exchanged::default();
        if let Some(delta) = merged.repair(mine) {
            exchanged.here = delta.value.clone();
            exchanged.answers += self.pull(key, delta);
        }
        if let Some(delta) = merged.repair(theirs) {
            exchanged.there = delta.value.clone();
            exchanged.answers += self.push(key, delta);
        }
        exchanged.merged = merged;
        exchanged
    }
}

/// What was merged at both sides.
#[derive(Debug, Default)]
pub(super) struct Exchanged {
    pub(super) here: Value,
    pub(super) there: Value,
    /// How many answers come.
    pub(super) answers: usize,
    /// What both show together.
    merged: View,
}

/// What each side is to merge once no element differs ([`View::told_last`]).
#[derive(Debug, Default)]
struct Last {
    here: Option<Delta>,
    there: Option<Delta>,
}

/// A collection that differs.
#[derive(Debug)]
pub(super) struct Differing {
    pub(super) tag: Tag,
    /// What each side had seen before any element was compared.
    pub(super) mine: CausalContext,
    pub(super) theirs: CausalContext,
    /// The same, with what was merged there since.
    pub(super) seen_here: CausalContext,
    pub(super) seen_there: CausalContext,
    /// Whether elements may differ; if not, only what was seen does.
    pub(super) has_elements: bool,
}

#[derive(Debug)]
enum Step {
    /// Reading what both hold.
    Headers { mine: Option<View>, theirs: Option<View> },
    /// Merging so many deltas.
    Merging(usize),
    /// Comparing the elements of the first collection that is left.
    Elements(Box<Elements>),
    /// Telling so many sides that they have seen what the other had.
    Completing(usize),
}

/// The job.
#[derive(Debug)]
pub(super) struct KeyJob {
    pub(super) key: Key,
    step: Step,
    collections: VecDeque<Differing>,
    last: Last,
}

impl KeyJob {
    pub(super) fn begin(key: Key, hands: &mut Hands<'_, '_>) -> Self {
        let step = Step::Headers { mine: None, theirs: None };
        let job = Self { key, step, collections: VecDeque::new(), last: Last::default() };
        job.read(hands);
        job
    }

    fn read(&self, hands: &mut Hands<'_, '_>) {
        let (key, scope) = (self.key.clone(), Scope::Headers);
        hands.store(Command::Read { key: key.clone(), scope: scope.clone() });
        hands.ask(Body::Read { key, scope });
    }

    pub(super) fn stored(&mut self, answer: Answer, hands: &mut Hands<'_, '_>) -> Outcome {
        match (&mut self.step, answer) {
            (Step::Headers { mine, .. }, Answer::View(view)) => {
                *mine = Some(view);
                self.headers(hands)
            }
            (Step::Headers { .. }, Answer::Failed(StorageError::Corrupt(_))) => {
                let durability = hands.turn.durability(&self.key);
                let (key, delta) = (self.key.clone(), Delta::default());
                hands.store(Command::Merge { key, delta, show: None, durability });
                Outcome::Unfinished
            }
            (Step::Merging(_) | Step::Completing(_), Answer::Merged(_)) => self.merged(hands),
            (_, Answer::Failed(error)) => Outcome::of(&error),
            (Step::Elements(elements), answer) => {
                let outcome = elements.stored(&self.key, answer, hands);
                self.compared_elements(outcome, hands)
            }
            _ => Outcome::Unfinished,
        }
    }

    pub(super) fn answered(&mut self, body: Body, hands: &mut Hands<'_, '_>) -> Outcome {
        match (&mut self.step, body) {
            (Step::Headers { theirs, .. }, Body::Shown(Ok(view))) => {
                *theirs = Some(view);
                self.headers(hands)
            }
            (Step::Headers { .. }, Body::Shown(Err(StorageError::Corrupt(_)))) => {
                let (key, delta) = (self.key.clone(), Delta::default());
                hands.ask(Body::Merge { key, delta, show: None });
                Outcome::Unfinished
            }
            (Step::Merging(_), Body::Merged(Ok(_)))
            | (Step::Completing(_), Body::Compared(Ok(Compared::Completed))) => self.merged(hands),
            (
                _,
                Body::Shown(Err(error)) | Body::Merged(Err(error)) | Body::Compared(Err(error)),
            ) => Outcome::of(&error),
            (Step::Elements(elements), body) => {
                let outcome = elements.answered(&self.key, body, hands);
                self.compared_elements(outcome, hands)
            }
            _ => Outcome::Unfinished,
        }
    }

    /// Compares the headers once both are known.
    fn headers(&mut self, hands: &mut Hands<'_, '_>) -> Outcome {
        let Step::Headers { mine: Some(mine), theirs: Some(theirs) } = &self.step else {
            return Outcome::Waiting;
        };
        let tags = mine.value.0.keys().chain(theirs.value.0.keys()).copied();
        let mut tags: Vec<Tag> = tags.filter(|&tag| is_collection(tag)).collect();
        tags.sort_unstable();
        tags.dedup();
        for tag in tags {
            let (my_context, their_context) = (mine.value.context(tag), theirs.value.context(tag));
            let (my_rows, their_rows) = (summary(mine, tag), summary(theirs, tag));
            let has_elements = my_rows != their_rows || !my_rows.exact;
            if has_elements || my_context != their_context {
                self.collections.push_back(Differing {
                    tag,
                    mine: my_context.clone(),
                    theirs: their_context.clone(),
                    seen_here: my_context.clone(),
                    seen_there: their_context.clone(),
                    has_elements,
                });
            }
        }
        // Of a collection no element is in scope: this is about whole states.
        let exchanged = hands.exchange(&self.key, mine, theirs);
        let merged = &exchanged.merged;
        self.last = Last { here: merged.told_last(mine), there: merged.told_last(theirs) };
        self.step = Step::Merging(exchanged.answers);
        self.go_on(hands)
    }

    /// One more side has merged what it was sent.
    fn merged(&mut self, hands: &mut Hands<'_, '_>) -> Outcome {
        if let Step::Merging(left) | Step::Completing(left) = &mut self.step {
            *left = left.saturating_sub(1);
        }
        self.go_on(hands)
    }

    /// Goes on with the next collection, or with what comes last, unless answers are waited for.
    fn go_on(&mut self, hands: &mut Hands<'_, '_>) -> Outcome {
        match self.step {
            Step::Merging(0) => {}
            Step::Completing(0) => drop(self.collections.pop_front()),
            _ => return Outcome::Waiting,
        }
        while let Some(differing) = self.collections.front() {
            if differing.has_elements {
                let news = News::of(&differing.mine, &differing.theirs);
                let elements = Elements::begin(&self.key, differing.tag, news, hands);
                self.step = Step::Elements(Box::new(elements));
                return Outcome::Waiting;
            }
            if self.complete(hands) {
                return Outcome::Waiting;
            }
            self.collections.pop_front();
        }
        let Last { here, there } = std::mem::take(&mut self.last);
        let here = here.map_or(0, |delta| hands.pull(&self.key, delta));
        let answers = here + there.map_or(0, |delta| hands.push(&self.key, delta));
        if answers == 0 {
            return Outcome::Done;
        }
        self.step = Step::Merging(answers);
        Outcome::Waiting
    }

    fn compared_elements(&mut self, outcome: Outcome, hands: &mut Hands<'_, '_>) -> Outcome {
        if let (Step::Elements(elements), Some(differing)) =
            (&mut self.step, self.collections.front_mut())
        {
            let (here, there) = elements.take_sent();
            differing.seen_here.merge(&here);
            differing.seen_there.merge(&there);
        }
        if outcome != Outcome::Done {
            return outcome;
        }
        if self.complete(hands) {
            return Outcome::Waiting;
        }
        self.step = Step::Completing(0);
        self.go_on(hands)
    }

    /// Tells either side that it has seen what the other had seen, where that is news. Returns whether
    /// it is for one of them.
    fn complete(&mut self, hands: &mut Hands<'_, '_>) -> bool {
        let Some(differing) = self.collections.front() else { return false };
        let Differing { tag, mine, theirs, seen_here, seen_there, .. } = differing;
        let mut answers = 0;
        if !seen_here.includes(theirs) {
            answers += 1;
            hands.store(Command::Complete {
                key: self.key.clone(),
                tag: *tag,
                seen: seen_here.clone(),
                context: theirs.clone(),
                durability: hands.turn.durability(&self.key),
            });
        }
        if !seen_there.includes(mine) {
            answers += 1;
            hands.ask(Body::Compare(Compare::Complete {
                key: self.key.clone(),
                tag: *tag,
                seen: seen_there.clone(),
                context: mine.clone(),
            }));
        }
        self.step = Step::Completing(answers);
        answers > 0
    }
}

fn summary(view: &View, tag: Tag) -> values::CollectionSummary {
    let nothing = values::CollectionSummary { exact: true, ..Default::default() };
    view.collections.get(&tag).copied().unwrap_or(nothing)
}
