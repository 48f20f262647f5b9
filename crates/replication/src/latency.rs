//! How long a peer is waited for alone: learnt from how long its recent answers took, and whether
//! it has fallen silent.
//!
//! Source: Dean, Barroso, "The Tail at Scale" (2013): a request that has been outstanding for longer
//! than nearly all are is given to another replica as well, which costs little and cuts the tail.
//! Milliseconds are fine enough, since nobody is covered before several of them have passed.
//!
//! Only answers are learnt from, also those that came after their asker had gone on, and none that
//! took longer than the longest delay: whoever takes so long is covered in any case. So a peer that
//! stops answering does not lengthen its own delay, neither then nor when it wakes; once it has owed
//! an answer for as long as the longest delay it is *silent*: it is still asked, and not waited
//! for. Its next answer ends that. A peer that membership suspects is silent without having been asked.

use std::collections::BTreeMap;

use clock::NodeId;

/// No peer is covered sooner. A guess: above a synced commit on an ordinary disk and a pause of the
/// scheduler, far below what a person notices.
pub(crate) const DELAY_MIN_MS: u64 = 10;
/// Fewer answers than these say nothing about one in a hundred; the longest delay holds till then.
const ANSWERS_MIN: u32 = 100;
/// With so many, each counts half from then on: what is learnt is of the last one or two thousand.
const ANSWERS_MAX: u32 = 2_048;
/// Milliseconds below this have a cell each; above, each doubling has four.
const EXACT_MS: u64 = 16;
const CELLS: usize = 64;
/// A silent peer that is asked again is reported no sooner than this after the last time, in milliseconds.
/// As often as membership takes it for another piece of evidence.
const REPORT_APART_MS: u64 = 200;

/// What a peer was asked for, as far as it takes its own time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Showing what it holds.
    Read,
    /// Making something durable.
    Write,
    /// Coordinating a request.
    Forward,
}

/// How long recent answers took: a histogram of milliseconds.
#[derive(Clone, Debug)]
struct Answers {
    cells: [u32; CELLS],
    count: u32,
}

impl Default for Answers {
    fn default() -> Self {
        Self { cells: [0; CELLS], count: 0 }
    }
}

impl Answers {
    fn add(&mut self, took_ms: u64) {
        self.cells[cell(took_ms)] += 1;
        self.count += 1;
        if self.count >= ANSWERS_MAX {
            self.cells.iter_mut().for_each(|cell| *cell /= 2);
            self.count = self.cells.iter().sum();
        }
    }

    /// What `percent` of the answers took at most.
    fn percentile(&self, percent: u32) -> u64 {
        let wanted = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        let at = self.cells.iter().position(|&count| {
            seen += count;
            seen >= wanted
        });
        longest_in(at.unwrap_or(CELLS - 1))
    }
}

fn cell(ms: u64) -> usize {
    if ms < EXACT_MS {
        return ms as usize;
    }
    let doublings = ms.ilog2() - EXACT_MS.ilog2();
    let quarter = (ms >> (ms.ilog2() - 2)) & 3;
    (EXACT_MS as usize + 4 * doublings as usize + quarter as usize).min(CELLS - 1)
}

/// The most milliseconds that are counted in a cell (of the last one, that are told apart).
const fn longest_in(cell: usize) -> u64 {
    let cell = cell as u64;
    if cell < EXACT_MS {
        return cell;
    }
    let (doublings, quarter) = ((cell - EXACT_MS) / 4, (cell - EXACT_MS) % 4);
    ((EXACT_MS / 4) << doublings) * (4 + quarter + 1) - 1
}

#[derive(Debug, Default)]
struct Peer {
    reads: Answers,
    writes: Answers,
    forwards: Answers,
    /// The first question after its last answer.
    owes_since: Option<u64>,
    /// When it was reported silent last.
    reported_ms: Option<u64>,
    /// Whether membership took it for dead after its last answer.
    suspected: bool,
}

impl Peer {
    const fn answers(&self, work: Work) -> &Answers {
        match work {
            Work::Read => &self.reads,
            Work::Write => &self.writes,
            Work::Forward => &self.forwards,
        }
    }
}

/// What is known of all peers.
#[derive(Debug)]
pub(crate) struct Latencies {
    peers: BTreeMap<NodeId, Peer>,
    /// The longest delay, and the first one.
    delay_max_ms: u64,
}

impl Latencies {
    pub(crate) const fn new(delay_max_ms: u64) -> Self {
        Self { peers: BTreeMap::new(), delay_max_ms }
    }

    /// A question was sent to `node`. (A forwarded request owes nothing: it may take its time.) Returns
    /// whether it is to be reported that another one timed out: it has owed its answer for the longest delay.
    pub(crate) fn asked(&mut self, node: NodeId, work: Work, now_ms: u64) -> bool {
        if work == Work::Forward {
            return false;
        }
        let peer = self.peers.entry(node).or_default();
        let since = *peer.owes_since.get_or_insert(now_ms);
        let is_new = |last: u64| now_ms.saturating_sub(last) >= REPORT_APART_MS;
        let is_due = now_ms.saturating_sub(since) >= self.delay_max_ms
            && peer.reported_ms.is_none_or(is_new);
        if is_due {
            peer.reported_ms = Some(now_ms);
        }
        is_due
    }

    /// `node` answered what it was asked at `sent_ms`.
    pub(crate) fn answered(&mut self, node: NodeId, work: Work, sent_ms: u64, now_ms: u64) {
        let peer = self.peers.entry(node).or_default();
        peer.owes_since = None;
        peer.suspected = false;
        let took_ms = now_ms.saturating_sub(sent_ms);
        if took_ms > self.delay_max_ms && work != Work::Forward {
            return;
        }
        let answers = match work {
            Work::Read => &mut peer.reads,
            Work::Write => &mut peer.writes,
            Work::Forward => &mut peer.forwards,
        };
        answers.add(took_ms);
    }

    /// The link to `node` is another one: what was asked over the last is owed no more.
    pub(crate) fn relinked(&mut self, node: NodeId) {
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.owes_since = None;
        }
    }

    /// Membership takes `node` for dead, or no longer.
    pub(crate) fn suspected(&mut self, node: NodeId, suspected: bool) {
        self.peers.entry(node).or_default().suspected = suspected;
    }

    /// For how long `node` is waited for alone: twice what nearly all its answers take.
    pub(crate) fn delay_ms(&self, node: NodeId, work: Work) -> u64 {
        self.learnt_ms(node, work).unwrap_or(u64::MAX).max(DELAY_MIN_MS).min(self.delay_max_ms)
    }

    /// After how long a forwarded request is given to another node, at most `most_ms`: a
    /// coordinator may itself have waited for a silent replica.
    pub(crate) fn forward_delay_ms(&self, node: NodeId, most_ms: u64) -> u64 {
        let least_ms = self.delay_max_ms.saturating_mul(2);
        self.learnt_ms(node, Work::Forward).unwrap_or(u64::MAX).max(least_ms).min(most_ms)
    }

    fn learnt_ms(&self, node: NodeId, work: Work) -> Option<u64> {
        let answers = self.peers.get(&node)?.answers(work);
        (answers.count >= ANSWERS_MIN).then(|| answers.percentile(99).saturating_mul(2))
    }

    /// Whether `node` has owed an answer for as long as anyone is ever waited for alone, or is
    /// suspected.
    pub(crate) fn is_silent(&self, node: NodeId, now_ms: u64) -> bool {
        let Some(peer) = self.peers.get(&node) else { return false };
        let owes =
            peer.owes_since.is_some_and(|since| now_ms.saturating_sub(since) >= self.delay_max_ms);
        peer.suspected || owes
    }

    /// Orders peers by how soon they are likely to show something: the silent last, then by what
    /// half of their answers take.
    pub(crate) fn rank(&self, node: NodeId, now_ms: u64) -> (bool, u64) {
        let half = self.peers.get(&node).map_or(0, |peer| peer.reads.percentile(50));
        (self.is_silent(node, now_ms), half)
    }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;
    use proptest::prelude::*;

    use super::{ANSWERS_MAX, ANSWERS_MIN, CELLS, DELAY_MIN_MS, Latencies, Work, cell, longest_in};

    const PEER: NodeId = NodeId(2);

    fn answer(latencies: &mut Latencies, count: u32, took_ms: u64) {
        for _ in 0..count {
            latencies.asked(PEER, Work::Read, 1_000);
            latencies.answered(PEER, Work::Read, 1_000, 1_000 + took_ms);
        }
    }

    #[test]
    fn a_peer_is_waited_for_twice_as_long_as_nearly_all_its_answers_take_within_bounds() {
        let mut latencies = Latencies::new(100);
        answer(&mut latencies, ANSWERS_MIN - 1, 20);
        assert_eq!(latencies.delay_ms(PEER, Work::Read), 100);
        answer(&mut latencies, 1, 20);
        // 20 is counted with 21 to 23.
        assert_eq!(latencies.delay_ms(PEER, Work::Read), 46);
        assert_eq!(latencies.delay_ms(PEER, Work::Write), 100);
        assert_eq!(latencies.delay_ms(NodeId(3), Work::Read), 100);
        answer(&mut latencies, 4 * ANSWERS_MAX, 1);
        assert_eq!(latencies.delay_ms(PEER, Work::Read), DELAY_MIN_MS);
        answer(&mut latencies, ANSWERS_MAX, 101);
        assert_eq!(latencies.delay_ms(PEER, Work::Read), DELAY_MIN_MS);
        answer(&mut latencies, ANSWERS_MAX, 99);
        assert_eq!(latencies.delay_ms(PEER, Work::Read), 100);
    }

    #[test]
    fn one_slow_answer_in_two_hundred_lengthens_nothing_and_three_do() {
        let mut latencies = Latencies::new(100);
        for slow in [1, 3] {
            let mut latencies = Latencies::new(100);
            answer(&mut latencies, 200 - slow, 2);
            answer(&mut latencies, slow, 30);
            let expected = if slow == 1 { DELAY_MIN_MS } else { 62 };
            assert_eq!(latencies.delay_ms(PEER, Work::Read), expected);
        }
        // The longest delay is also the shortest where it is the shorter one.
        latencies.delay_max_ms = 3;
        answer(&mut latencies, 200, 2);
        assert_eq!(latencies.delay_ms(PEER, Work::Read), 3);
    }

    #[test]
    fn a_peer_that_owes_an_answer_for_the_longest_delay_is_silent_until_its_next_answer() {
        let mut latencies = Latencies::new(100);
        latencies.asked(PEER, Work::Write, 0);
        latencies.asked(PEER, Work::Write, 90);
        assert!(!latencies.is_silent(PEER, 99));
        assert!(latencies.is_silent(PEER, 100));
        latencies.answered(PEER, Work::Write, 90, 101);
        assert!(!latencies.is_silent(PEER, 1_000));
        latencies.asked(PEER, Work::Read, 1_000);
        assert!(latencies.is_silent(PEER, 1_100));
        latencies.relinked(PEER);
        assert!(!latencies.is_silent(PEER, 1_100));
        latencies.asked(PEER, Work::Forward, 2_000);
        assert!(!latencies.is_silent(PEER, 9_000));
    }

    #[test]
    fn a_peer_that_stays_silent_is_reported_as_it_is_asked_again_now_and_then() {
        let mut latencies = Latencies::new(100);
        let mut asked = |now_ms| latencies.asked(PEER, Work::Read, now_ms);
        let reported: Vec<u64> = (0..1_000).filter(|&now_ms| asked(now_ms)).collect();
        assert_eq!(reported, [100, 300, 500, 700, 900]);
        latencies.answered(PEER, Work::Read, 999, 1_000);
        assert!(!latencies.asked(PEER, Work::Read, 1_101), "it answered, and owes since now");
        assert!(!latencies.asked(PEER, Work::Forward, 9_000));
        assert!(latencies.asked(PEER, Work::Write, 9_000));
    }

    #[test]
    fn a_suspected_peer_is_silent_until_it_answers_or_is_suspected_no_more() {
        let mut latencies = Latencies::new(100);
        let mut suspected = |suspected| {
            latencies.suspected(PEER, suspected);
            latencies.is_silent(PEER, 0)
        };
        assert_eq!([suspected(true), suspected(false), suspected(true)], [true, false, true]);
        latencies.answered(PEER, Work::Forward, 0, 5);
        assert!(!latencies.is_silent(PEER, 5));
    }

    #[test]
    fn the_fast_come_before_the_slow_and_the_silent_last() {
        let mut latencies = Latencies::new(100);
        answer(&mut latencies, 10, 5);
        latencies.asked(NodeId(3), Work::Read, 0);
        let rank = |node| latencies.rank(NodeId(node), 500);
        assert!(rank(4) < rank(2) && rank(2) < rank(3));
    }

    #[test]
    fn a_forwarded_request_is_left_longer_than_its_coordinator_waits_itself() {
        let mut latencies = Latencies::new(100);
        assert_eq!(latencies.forward_delay_ms(PEER, 1_000), 1_000);
        for _ in 0..ANSWERS_MIN {
            latencies.answered(PEER, Work::Forward, 0, 5);
        }
        assert_eq!(latencies.forward_delay_ms(PEER, 1_000), 200);
        assert_eq!(latencies.forward_delay_ms(PEER, 150), 150);
    }

    proptest! {
        #[test]
        fn cells_hold_what_is_no_more_than_a_quarter_longer(ms in 0..100_000_u64) {
            let longest = longest_in(cell(ms));
            prop_assert!(cell(ms) < CELLS);
            prop_assert!(ms > 65_000 || ms <= longest && longest <= ms + ms / 4);
        }
    }
}
