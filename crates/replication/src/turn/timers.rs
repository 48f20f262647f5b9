//! When what waits is to be told that its time has come.
//!
//! Nearly every timer is set further back, or cleared, before it goes off. So one that is set further back stays where
//! it is in the queue until its turn there, and one that is cleared leaves its entry behind.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::Timer;
use crate::numbered::Numbered;

/// So many entries may be left behind in the queue, for each timer that is set and beside that. Guesses.
const LEFT_EACH: usize = 4;
const LEFT: usize = 256;

/// A timer that is set.
#[derive(Clone, Copy, Debug)]
struct Alarm {
    /// When it goes off (monotonic milliseconds).
    at: u64,
    /// Where its entry is in the queue: no later.
    queued_at: u64,
}

/// Timers that are set. Invariants: each has an entry in the queue; the first entry is of one that goes off at that time.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Those of requests, by slot.
    requests: Numbered<Alarm>,
    /// All others: a few.
    others: BTreeMap<Timer, Alarm>,
    queue: BinaryHeap<Reverse<(u64, Timer)>>,
}

impl Timers {
    /// When the first one goes off.
    pub(crate) fn next(&self) -> Option<u64> {
        self.queue.peek().map(|&Reverse((at, _))| at)
    }

    /// The first one, if it goes off by `now_ms`: it is set no more.
    pub(crate) fn due(&mut self, now_ms: u64) -> Option<Timer> {
        let &Reverse((at, timer)) = self.queue.peek()?;
        if at > now_ms {
            return None;
        }
        self.clear(timer);
        Some(timer)
    }

    pub(crate) fn is_set(&self, timer: Timer) -> bool {
        self.alarm(timer).is_some()
    }

    /// Has `timer` go off at `at`, instead of whenever it was to.
    pub(crate) fn set(&mut self, timer: Timer, at: u64) {
        match self.alarm_mut(timer) {
            Some(alarm) if alarm.queued_at <= at => alarm.at = at,
            _ => {
                let alarm = Alarm { at, queued_at: at };
                match timer {
                    Timer::Request(slot) => self.requests.insert(slot.0, alarm),
                    other => drop(self.others.insert(other, alarm)),
                }
                self.queue.push(Reverse((at, timer)));
            }
        }
        self.tidy();
    }

    pub(crate) fn clear(&mut self, timer: Timer) {
        let was = match timer {
            Timer::Request(slot) => self.requests.remove(slot.0),
            other => self.others.remove(&other),
        };
        if was.is_some() {
            self.tidy();
        }
    }

    fn alarm(&self, timer: Timer) -> Option<&Alarm> {
        match timer {
            Timer::Request(slot) => self.requests.get(slot.0),
            other => self.others.get(&other),
        }
    }

    fn alarm_mut(&mut self, timer: Timer) -> Option<&mut Alarm> {
        match timer {
            Timer::Request(slot) => self.requests.get_mut(slot.0),
            other => self.others.get_mut(&other),
        }
    }

    /// Takes off the front of the queue what was left behind there, and all of it where it is too much.
    fn tidy(&mut self) {
        while let Some(&Reverse((queued_at, timer))) = self.queue.peek() {
            match self.alarm_mut(timer) {
                Some(alarm) if alarm.queued_at == queued_at && alarm.at == queued_at => break,
                Some(alarm) if alarm.queued_at == queued_at => {
                    alarm.queued_at = alarm.at;
                    let later = alarm.at;
                    self.queue.pop();
                    self.queue.push(Reverse((later, timer)));
                }
                _ => drop(self.queue.pop()),
            }
        }
        let set = self.requests.len() + self.others.len();
        if self.queue.len() > LEFT_EACH * set + LEFT {
            let mut queue = std::mem::take(&mut self.queue);
            queue.retain(|&Reverse((queued_at, timer))| {
                self.alarm(timer).is_some_and(|alarm| alarm.queued_at == queued_at)
            });
            self.queue = queue;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clock::NodeId;
    use proptest::prelude::*;

    use super::*;
    use crate::turn::Slot;

    #[derive(Clone, Debug)]
    enum Step {
        Set(Timer, u64),
        Clear(Timer),
        Pass(u64),
    }

    fn timer() -> impl Strategy<Value = Timer> {
        prop_oneof![
            8 => (0_u64..2_000).prop_map(|slot| Timer::Request(Slot(slot))),
            1 => (0_u64..3).prop_map(|node| Timer::Delivery(NodeId(node))),
            1 => Just(Timer::Drain),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (timer(), 0_u64..300).prop_map(|(timer, after)| Step::Set(timer, after)),
            3 => timer().prop_map(Step::Clear),
            2 => (0_u64..60).prop_map(Step::Pass),
        ]
    }

    proptest! {
        #[test]
        fn they_go_off_when_they_were_last_set_to_in_order_of_time(
            steps in prop::collection::vec(step(), 0..1_500)
        ) {
            let (mut timers, mut model) = (Timers::default(), BTreeMap::new());
            let mut now = 0;
            for step in steps {
                match step {
                    Step::Set(timer, after) => {
                        timers.set(timer, now + after);
                        model.insert(timer, now + after);
                    }
                    Step::Clear(timer) => {
                        timers.clear(timer);
                        model.remove(&timer);
                    }
                    Step::Pass(time) => {
                        now += time;
                        let due: BTreeSet<_> =
                            model.iter().map(|(&timer, &at)| (at, timer)).filter(|(at, _)| *at <= now).collect();
                        model.retain(|_, at| *at > now);
                        let off: Vec<_> = std::iter::from_fn(|| timers.due(now)).collect();
                        prop_assert!(off.into_iter().eq(due.into_iter().map(|(_, timer)| timer)));
                    }
                }
                prop_assert_eq!(timers.next(), model.values().min().copied());
                prop_assert!(timers.is_set(Timer::Drain) == model.contains_key(&Timer::Drain));
            }
        }
    }

    #[test]
    fn what_is_set_and_cleared_again_and_again_is_not_kept() {
        let mut timers = Timers::default();
        timers.set(Timer::Drain, 0);
        for slot in 0..100_000 {
            timers.set(Timer::Request(Slot(slot)), 5_000 + slot);
            timers.set(Timer::Request(Slot(slot)), 50 + slot);
            timers.clear(Timer::Request(Slot(slot)));
        }
        assert!(timers.queue.len() <= 2 * (LEFT + LEFT_EACH), "{} entries", timers.queue.len());
    }
}
