use clock::Round;

use super::*;

/// Members, each with what is on its disk.
struct Members(BTreeMap<NodeId, Barrier>);

impl Members {
    fn new(count: u64) -> Self {
        let nodes: Vec<NodeId> = (1..=count).map(NodeId).collect();
        let member = |&node: &NodeId| {
            let mut barrier = Barrier::new(node, None);
            barrier.set_members(nodes.iter().copied(), []);
            (node, barrier)
        };
        Self(nodes.iter().map(member).collect())
    }

    fn at(&mut self, node: u64) -> &mut Barrier {
        self.0.get_mut(&NodeId(node)).unwrap()
    }

    fn tell(&mut self, from: u64, to: u64) {
        let table = self.at(from).table();
        self.at(to).heard(&table);
    }

    fn tell_all(&mut self) {
        let count = self.0.len() as u64;
        for _ in 0..2 {
            for from in 1..=count {
                (1..=count).for_each(|to| self.tell(from, to));
            }
        }
    }

    fn do_task(&mut self, node: u64) {
        let barrier = self.at(node);
        if let Some(after) = barrier.after_task() {
            barrier.noted(after);
        }
    }

    /// Has all do their next tasks, so many times, and tells all each time.
    fn go_on(&mut self, stages: usize) {
        let nodes: Vec<u64> = self.0.keys().map(|node| node.0).collect();
        for _ in 0..stages {
            nodes.iter().for_each(|&node| self.do_task(node));
            self.tell_all();
        }
    }

    fn tasks(&mut self) -> Vec<BarrierTask> {
        self.0.values().map(Barrier::task).collect()
    }
}

/// Two members that have entered the first round: one proposed it, the other followed.
fn both_entered() -> Members {
    let mut members = Members::new(2);
    members.tell_all();
    members.do_task(1);
    members.tell_all();
    members.do_task(2);
    members
}

#[test]
fn all_members_go_through_a_round_together() {
    let mut members = Members::new(3);
    members.tell_all();
    assert_eq!(members.tasks(), [BarrierTask::Propose; 3]);
    members.do_task(2);
    members.tell_all();
    assert_eq!(members.tasks(), [BarrierTask::Enter(1), BarrierTask::Equal, BarrierTask::Enter(1)]);
    (1..=3).filter(|node| *node != 2).for_each(|node| members.do_task(node));
    members.tell_all();
    let drain = BarrierTask::Drain;
    for (task, agreed) in [
        (BarrierTask::Equal, 0),
        (drain(BarrierStage::Confirmed), 0),
        (drain(BarrierStage::Emptied), 0),
        (drain(BarrierStage::Settled), 0),
        (BarrierTask::Hide(1), 1),
    ] {
        assert_eq!(members.tasks(), [task; 3]);
        assert_eq!((members.at(1).agreed(), members.at(1).complete()), (agreed, 0));
        // The last of them holds all up.
        members.do_task(1);
        members.do_task(3);
        members.tell_all();
        assert_eq!(members.tasks(), [BarrierTask::Wait, task, BarrierTask::Wait]);
        assert_eq!(members.at(1).waits_for(), [NodeId(2)]);
        members.do_task(2);
        members.tell_all();
    }
    assert_eq!(members.tasks(), [BarrierTask::Propose; 3]);
    assert_eq!((members.at(1).agreed(), members.at(1).complete()), (1, 1));
}

#[test]
fn a_member_that_is_not_heard_of_stops_the_barrier_until_it_is_removed() {
    let mut members = Members::new(3);
    members.tell(1, 2);
    members.tell(2, 1);
    assert_eq!(members.at(1).task(), BarrierTask::Wait);
    assert_eq!(members.at(1).waits_for(), [NodeId(3)]);
    members.at(1).set_members([NodeId(2)], [NodeId(3)]);
    assert_eq!(members.at(1).task(), BarrierTask::Propose);
}

/// How far a member would say that it is, of messages to another.
fn stamp(members: &mut Members, from: u64, to: u64) -> BarrierStamp {
    members.at(from).terms(true).stamp(NodeId(to))
}

fn takes(members: &mut Members, to: u64, from: u64, stamp: BarrierStamp) -> bool {
    members.at(to).terms(true).takes(NodeId(from), stamp, false)
}

#[test]
fn what_was_said_before_its_sender_came_to_a_stage_is_refused_once_all_have() {
    let mut members = both_entered();
    // Entered, equal, confirmed, emptied, settled, hidden: of the first two nothing follows.
    let mut older = Vec::new();
    for taken in [0, 0, 2, 3, 4, 4] {
        members.tell_all();
        let now = stamp(&mut members, 2, 1);
        assert!(takes(&mut members, 1, 2, now));
        older.push(now);
        let least = older.iter().position(|&stamp| takes(&mut members, 1, 2, stamp));
        assert_eq!(least, Some(taken), "{older:?}");
        (1..=2).for_each(|node| members.do_task(node));
    }
}

/// It says so a little later: a hint that comes in between would be an old one in an outbox that counts as emptied.
#[test]
fn old_hints_are_refused_before_it_is_looked_whether_the_outbox_is_empty() {
    let mut members = both_entered();
    members.tell_all();
    (1..=2).for_each(|node| members.do_task(node));
    members.tell_all();
    let takes = |members: &mut Members, is_hint| {
        let said = stamp(members, 2, 1);
        members.at(1).terms(true).takes(NodeId(2), said, is_hint)
    };
    members.do_task(1);
    assert_eq!(members.at(1).task(), BarrierTask::Wait);
    assert!(takes(&mut members, true), "not all have confirmed");
    members.do_task(2);
    members.tell_all();
    assert_eq!(members.at(1).task(), BarrierTask::Drain(BarrierStage::Emptied));
    assert_eq!([true, false].map(|is_hint| takes(&mut members, is_hint)), [false, true]);
    members.do_task(2);
    assert!(takes(&mut members, true), "the other has emptied its own");
}

#[test]
fn a_disk_older_than_what_it_told_begins_anew_in_another_life() {
    let mut members = both_entered();
    let noted = BarrierNote { standing: members.at(2).own(), ..BarrierNote::default() };
    members.tell_all();
    let before = stamp(&mut members, 1, 2);
    members.do_task(2);
    members.tell_all();
    // The disk of an earlier day.
    let mut restored = Barrier::new(NodeId(2), Some(noted));
    restored.set_members([NodeId(1)], []);
    // It does not know yet.
    assert_eq!(restored.task(), BarrierTask::Equal);
    restored.heard(&members.at(1).table());
    assert_eq!(restored.task(), BarrierTask::BeginAnew);
    let said = restored.terms(true).stamp(NodeId(1));
    assert!(!takes(&mut members, 1, 2, said), "it must not be listened to any more");
    let reborn = Barrier::reborn(NodeId(2), &restored.table());
    let entered = BarrierProgress { round: 1, stage: BarrierStage::Entered };
    assert_eq!(reborn, BarrierStanding { life: 2, progress: entered });
    let mut anew = Barrier::new(NodeId(2), None);
    anew.heard(&members.at(1).table());
    anew.noted(reborn);
    assert_eq!(anew.task(), BarrierTask::Equal);
    assert!(!anew.terms(true).takes(NodeId(1), before, false), "it was meant for the life before");
    members.at(1).heard(&anew.table());
    assert_eq!(members.at(1).floor(), entered);
    let said = anew.terms(true).stamp(NodeId(1));
    assert!(takes(&mut members, 1, 2, said));
    let after = stamp(&mut members, 1, 2);
    assert!(anew.terms(true).takes(NodeId(1), after, false));
}

#[test]
fn what_a_later_life_says_is_taken_also_where_all_had_come_further_before() {
    let mut members = both_entered();
    members.tell_all();
    members.go_on(4);
    assert_eq!(members.at(1).own().progress.stage, BarrierStage::Settled);
    let reborn = Barrier::reborn(NodeId(2), &members.at(1).table());
    let mut anew = Barrier::new(NodeId(2), None);
    anew.heard(&members.at(1).table());
    anew.noted(reborn);
    let said = anew.terms(true).stamp(NodeId(1));
    assert!(takes(&mut members, 1, 2, said), "it has not heard of that life yet");
    members.at(1).heard(&anew.table());
    assert!(takes(&mut members, 1, 2, said));
    assert_eq!(members.at(1).task(), BarrierTask::Wait);
    // After a restart too.
    let one = members.at(1);
    let (name, value) = one.note(one.own());
    let noted = Barrier::of_notes(&[(name, Some(value))]).unwrap();
    let mut again = Barrier::new(NodeId(1), noted);
    again.heard(&anew.table());
    again.set_members([1, 2].map(NodeId), []);
    assert!(again.terms(true).takes(NodeId(2), said, false));
    let old = BarrierStamp { life: 0, ..said };
    assert!(!again.terms(true).takes(NodeId(2), old, false));
}

/// A member that knows of nobody's life but what `table` says, in the life that begins by it.
fn begun(node: u64, table: &BarrierTable) -> Barrier {
    let mut barrier = Barrier::new(NodeId(node), None);
    barrier.heard(table);
    barrier.noted(Barrier::reborn(NodeId(node), table));
    barrier
}

/// It holds nothing that an outbox carried, as all had emptied theirs when it began.
#[test]
fn a_life_that_others_had_not_heard_of_when_they_agreed_follows_them() {
    let mut members = both_entered();
    members.tell_all();
    members.go_on(3);
    members.do_task(1);
    // It begins while the round is under way, and nobody hears of it before it is over.
    let mut third = begun(3, &members.at(1).table());
    assert_eq!(third.task(), BarrierTask::Equal);
    members.do_task(2);
    members.tell_all();
    members.do_task(1);
    // The first has hidden; what it hides the third must not have to be found equal with.
    third.heard(&members.at(1).table());
    assert_eq!(third.task(), BarrierTask::Follow(1));
    third.noted(third.after_task().unwrap());
    assert_eq!(third.own().progress, BarrierProgress { round: 1, stage: BarrierStage::Hidden });
    // One that begins from now on has nothing to hide either.
    let late = Barrier::reborn(NodeId(4), &members.at(1).table());
    assert_eq!(late, BarrierStanding { life: 1, progress: third.own().progress });
    members.at(2).heard(&third.table());
    members.do_task(2);
    members.tell(2, 1);
    assert_eq!(members.at(1).complete(), 1);
}

/// Two of three lose their disks while the one that knows how far all are is down. What a forgotten write left on its way
/// comes to one of them, and from there to a member that joins.
#[test]
fn a_life_that_began_with_members_that_had_lost_their_disks_begins_anew_once_it_hears_of_a_round() {
    let mut members = Members::new(3);
    members.tell_all();
    members.go_on(6);
    let hidden = BarrierProgress { round: 1, stage: BarrierStage::Hidden };
    assert_eq!(members.at(2).floor(), hidden);

    let mut lost = Barrier::new(NodeId(1), None);
    lost.set_members([1, 2, 3, 4].map(NodeId), []);
    let mut fourth = begun(4, &lost.table());
    lost.heard(&fourth.table());
    let brings = lost.terms(true).stamp(NodeId(4));
    assert!(fourth.terms(true).takes(NodeId(1), brings, false), "neither of them knows better");

    // The second is back.
    let unheard = fourth.terms(true).stamp(NodeId(2));
    assert!(!takes(&mut members, 2, 4, unheard), "also before it hears of the new life");
    // It has heard of the new life, as any member may that does not know what it holds.
    members.at(2).heard(&fourth.table());
    let brings_on = fourth.terms(true).stamp(NodeId(2));
    assert!(!takes(&mut members, 2, 4, brings_on));
    fourth.heard(&members.at(2).table());
    assert_eq!(fourth.task(), BarrierTask::BeginAnew);
    let said = fourth.terms(true).stamp(NodeId(2));
    assert!(!takes(&mut members, 2, 4, said));

    // It is filled by those that know.
    let anew = begun(4, &fourth.table());
    assert_eq!(anew.own(), BarrierStanding { life: 2, progress: hidden });
    assert_ne!(anew.task(), BarrierTask::BeginAnew);
    members.at(2).heard(&anew.table());
    let [to, back] = [stamp(&mut members, 2, 4), anew.terms(true).stamp(NodeId(2))];
    assert!(anew.terms(true).takes(NodeId(2), to, false));
    assert!(takes(&mut members, 2, 4, back));
}

/// Who has lost its disk and heard of nobody does not know that it is to begin anew.
#[test]
fn a_life_takes_nothing_of_whom_it_knew_to_be_further_when_it_began() {
    let mut members = both_entered();
    members.tell_all();
    members.go_on(5);
    let mut third = Barrier::new(NodeId(3), None);
    third.heard(&members.at(2).table());
    // One joins of whom nothing is heard yet, so that the third counts nobody itself.
    third.set_members([1, 2, 3, 4].map(NodeId), []);
    third.noted(Barrier::reborn(NodeId(3), &members.at(2).table()));
    let mut lost = Barrier::new(NodeId(1), None);
    lost.set_members([1, 2, 3].map(NodeId), []);
    assert!(!third.terms(true).takes(NodeId(1), lost.terms(true).stamp(NodeId(3)), false));
    let said = stamp(&mut members, 1, 3);
    assert!(third.terms(true).takes(NodeId(1), said, false));
    // After a restart too.
    let (name, value) = third.note(third.own());
    let noted = Barrier::of_notes(&[(name, Some(value))]).unwrap();
    let again = Barrier::new(NodeId(3), noted).terms(true);
    assert!(!again.takes(NodeId(1), lost.terms(true).stamp(NodeId(3)), false));
    assert!(again.takes(NodeId(1), said, false));
}

/// Has a hand begin the life that is to begin, and returns that.
fn begin(hand: &mut BarrierHand) -> BarrierStanding {
    assert!(matches!(hand.next(0), BarrierStep::Enter(_)));
    assert!(!hand.is_open());
    let show = BarrierStep::Forget {
        step: storage::Forgetting::Show,
        below: hand.barrier().table().latest(0).round,
    };
    assert_eq!(hand.entered(0), show);
    let BarrierStep::Note(standing) = hand.forgotten() else { panic!("{:?}", hand.task()) };
    hand.noted();
    standing
}

/// A third member, which came over in the first round of these two.
fn came_over(members: &mut Members) -> BarrierHand {
    let times = BarrierTimes { interval_ms: None, retries_ms: 0 };
    let mut hand =
        BarrierHand::new(Barrier::new(NodeId(3), None), BarrierStart::ComingOver, times, 0);
    assert_eq!(hand.next(0), BarrierStep::Wait);
    hand.heard(&members.at(1).table());
    assert_eq!(begin(&mut hand), at(1, 1, BarrierStage::Entered));
    hand
}

const fn at(life: u64, round: u64, stage: BarrierStage) -> BarrierStanding {
    BarrierStanding { life, progress: BarrierProgress::at(round, stage) }
}

fn started_again(barrier: &Barrier) -> Barrier {
    let (name, value) = barrier.note(barrier.own());
    Barrier::new(NodeId(3), Barrier::of_notes(&[(name, Some(value))]).unwrap())
}

/// All of a ring may come over at once: what they hold is all that there is of it. In the life that was left out others
/// would refuse it for ever, and wait for it.
#[test]
fn a_member_that_came_over_and_was_left_out_goes_on_in_another_life_with_what_it_holds() {
    let mut members = both_entered();
    members.tell_all();
    let mut hand = came_over(&mut members);
    let empty = begun(3, &members.at(1).table());
    // Into the next round, so far that their outboxes are empty.
    members.go_on(9);
    assert_eq!(members.at(1).own(), at(0, 2, BarrierStage::Emptied));
    let said = hand.terms().stamp(NodeId(1));
    assert!(!takes(&mut members, 1, 3, said));
    let told = members.at(1).table();
    let task = |mut barrier: Barrier| {
        barrier.heard(&told);
        barrier.task()
    };
    let noted = started_again(hand.barrier());
    assert_eq!([hand.barrier().clone(), noted].map(task), [BarrierTask::GoOnAnew; 2]);
    assert_eq!(task(empty), BarrierTask::BeginAnew);

    hand.heard(&told);
    assert!(!hand.terms().takes(NodeId(1), stamp(&mut members, 1, 3), false), "not in this life");
    assert_eq!(begin(&mut hand), at(2, 2, BarrierStage::Entered));
    let said = hand.terms().stamp(NodeId(1));
    assert!(takes(&mut members, 1, 3, said), "also before they hear of it");
    // Once more: what it holds it still may hold alone.
    let mut further = members.at(1).table();
    let both = [1, 2].map(|node| (NodeId(node), at(0, 3, BarrierStage::Emptied)));
    further.join(&BarrierTable::from(both));
    let mut again = started_again(hand.barrier());
    again.heard(&further);
    assert_eq!(again.task(), BarrierTask::GoOnAnew);
    // The disk is one of before that, which is another matter.
    again.heard(&BarrierTable::from([(NodeId(3), at(4, 3, BarrierStage::Entered))]));
    assert_eq!(again.task(), BarrierTask::BeginAnew);

    members.0.insert(NodeId(3), hand.barrier().clone());
    members.tell_all();
    assert_eq!(members.tasks(), [BarrierTask::Wait, BarrierTask::Wait, BarrierTask::Equal]);
    assert_eq!(members.at(1).waits_for(), [NodeId(3)]);
    members.go_on(5);
    assert_eq!(members.tasks(), [BarrierTask::Propose; 3]);
    assert_eq!(members.at(3).own(), at(2, 2, BarrierStage::Hidden));
}

/// What it came with the others hold from then on, and what it holds they may have forgotten.
#[test]
fn a_member_that_came_over_and_has_gone_through_a_round_begins_anew_as_any_other() {
    let mut members = both_entered();
    members.tell_all();
    let barrier = came_over(&mut members).barrier().clone();
    members.0.insert(NodeId(3), barrier);
    members.tell_all();
    let left_out = |members: &mut Members| {
        let both = [1, 2].map(|node| (NodeId(node), at(0, 2, BarrierStage::Emptied)));
        let mut again = started_again(members.at(3));
        again.heard(&BarrierTable::from(both));
        again.task()
    };
    members.go_on(3);
    assert_eq!(members.at(3).own(), at(1, 1, BarrierStage::Emptied));
    assert_eq!(left_out(&mut members), BarrierTask::GoOnAnew);
    members.go_on(2);
    assert_eq!(members.at(3).own(), at(1, 1, BarrierStage::Hidden));
    assert_eq!(left_out(&mut members), BarrierTask::BeginAnew);
}

#[test]
fn what_no_member_could_have_come_to_is_not_taken() {
    let standing = |life, round| {
        let progress = BarrierProgress { round, stage: BarrierStage::Entered };
        BarrierStanding { life, progress }
    };
    let mut table = BarrierTable::default();
    let (low, era) = (1 << 31, 1 << 32);
    for (life, round) in [
        (u64::MAX, 0),
        (0, u64::MAX),
        (low + 1, 0),
        (0, low + 1),
        (0, era),
        (era, 0),
        ((era << 24) + era, (era << 24) + era),
    ] {
        let forged = BarrierTable::from([(NodeId(1), standing(life, round))]);
        assert!(!table.join(&forged), "{life} {round}");
    }
    let last = (era << 24) + low;
    assert!(table.join(&BarrierTable::from([(NodeId(1), standing(last, last))])));
    let reborn = Barrier::reborn(NodeId(1), &table);
    assert_eq!((reborn.life, reborn.progress.round), (last + 1, last));
    assert!(Barrier::restored(None).progress.number() < standing(last, last).progress.number());
}

/// It was removed, the others went on, and it is a member again with its old disk.
#[test]
fn a_member_without_which_others_have_forgotten_begins_anew() {
    let mut members = Members::new(3);
    members.tell_all();
    let old = stamp(&mut members, 3, 1);
    (1..=2).for_each(|node| members.at(node).set_members([1, 2].map(NodeId), [NodeId(3)]));
    for _ in 0..6 {
        (1..=2).for_each(|node| members.do_task(node));
        for (from, to) in [(1, 2), (2, 1)] {
            members.tell(from, to);
        }
    }
    let hidden = BarrierProgress { round: 1, stage: BarrierStage::Hidden };
    assert_eq!([1, 2].map(|node| members.at(node).own().progress), [hidden; 2]);
    (1..=2).for_each(|node| members.at(node).set_members([1, 2, 3].map(NodeId), []));
    assert!(!takes(&mut members, 1, 3, old));
    members.tell(1, 3);
    assert_eq!(members.at(3).task(), BarrierTask::BeginAnew);
}

#[test]
fn one_that_is_in_the_table_and_unknown_otherwise_is_waited_for() {
    let mut members = Members::new(2);
    members.tell_all();
    let joined = Barrier::reborn(NodeId(3), &members.at(1).table());
    members.at(1).heard(&BarrierTable::from([(NodeId(3), joined)]));
    members.do_task(1);
    assert_eq!(members.at(1).own().progress.round, 1);
    members.tell_all();
    members.do_task(2);
    members.tell_all();
    (1..=2).for_each(|node| members.do_task(node));
    members.tell_all();
    assert_eq!(members.at(1).task(), BarrierTask::Wait);
    assert_eq!(members.at(1).waits_for(), [NodeId(3)]);
    members.at(1).set_members([1, 2].map(NodeId), [NodeId(3)]);
    assert_eq!(members.at(1).task(), BarrierTask::Drain(BarrierStage::Confirmed));
}

#[test]
fn a_cluster_that_is_restored_as_a_whole_goes_on_in_the_next_era() {
    let mut members = both_entered();
    members.tell_all();
    let told = members.at(1).table();
    // Backups of different stages; each heard of the other what it told later.
    let mut restored: Vec<Barrier> = Vec::new();
    for (node, noted) in [(1, None), (2, Some(BarrierNote::default()))] {
        let mut barrier = Barrier::new(NodeId(node), noted.clone());
        barrier.heard(&told);
        barrier.set_members([1, 2].map(NodeId), []);
        barrier.noted(Barrier::restored(noted));
        assert_eq!(barrier.task(), BarrierTask::Wait, "the other is not restored yet");
        let said = members.at(2).terms(true).stamp(NodeId(node));
        assert!(!barrier.terms(true).takes(
            NodeId(2),
            BarrierStamp { to_life: barrier.own().life, ..said },
            false
        ));
        restored.push(barrier);
    }
    let tables = [restored[0].table(), restored[1].table()];
    restored[0].heard(&tables[1]);
    restored[1].heard(&tables[0]);
    let tasks: Vec<_> = restored.iter().map(Barrier::task).collect();
    assert_eq!(tasks, [BarrierTask::Propose; 2]);
    assert_eq!(restored[0].complete(), 0, "nothing is dropped before they have met");
    let said = restored[0].terms(true).stamp(NodeId(2));
    assert!(restored[1].terms(true).takes(NodeId(1), said, false));
    // One that was not restored with them neither loses what it holds nor is listened to.
    members.at(1).heard(&tables[1]);
    assert_eq!((members.at(1).is_apart(), members.at(1).task()), (true, BarrierTask::Equal));
    assert!(!takes(&mut members, 1, 2, restored[1].terms(true).stamp(NodeId(1))));
}

/// What is lost from before a round may be a delete that was forgotten in it.
#[test]
fn a_member_begins_anew_whose_log_lost_what_came_before_a_stage_unless_it_is_alone() {
    let at = |round, stage| {
        let barrier = Barrier::new(NodeId(1), None);
        let progress = BarrierProgress { round, stage };
        let (name, value) = barrier.note(BarrierStanding { life: 0, progress });
        vec![(name, Some(value))]
    };
    let doubts =
        |before: &[_], now: &[_]| Barrier::doubts(before, Barrier::of_notes(now).unwrap().as_ref());
    let [first, entered, hidden] =
        [(0, BarrierStage::Hidden), (1, BarrierStage::Entered), (1, BarrierStage::Hidden)]
            .map(|(round, stage)| at(round, stage));
    assert_eq!([&first, &entered, &hidden].map(|now| doubts(&hidden, now)), [true, true, false]);
    // The same round: what all forget in it may have come late, or from an outbox.
    assert!(doubts(&entered, &hidden));
    // It is not known; nothing was ever forgotten.
    assert_eq!([doubts(&[], &hidden), doubts(&[], &first), doubts(&[], &[])], [true, false, false]);

    let noted = Barrier::of_notes(&hidden).unwrap();
    let times = BarrierTimes { interval_ms: None, retries_ms: 0 };
    let hand = || {
        let barrier = Barrier::new(NodeId(1), noted.clone());
        BarrierHand::new(barrier, BarrierStart::Doubting, times, 0)
    };
    let mut one = hand();
    one.set_members([1, 2].map(NodeId), []);
    let said = one.terms().stamp(NodeId(2));
    let mut two = Barrier::new(NodeId(2), noted.clone());
    two.set_members([1, 2].map(NodeId), []);
    assert!(!two.terms(true).takes(NodeId(1), said, false));
    assert_eq!((one.next(0), one.is_open()), (BarrierStep::BeginAnew, false));
    let mut alone = hand();
    alone.set_members([NodeId(1)], [NodeId(2)]);
    assert_eq!(alone.next(0), BarrierStep::Enter(of(1)));
    assert_eq!(alone.entered(0), BarrierStep::Wait);
    assert!(alone.is_open());
}

#[test]
fn a_life_begins_by_showing_what_an_earlier_one_had_hidden() {
    let times = BarrierTimes { interval_ms: None, retries_ms: 0 };
    let standing = Barrier::restored(None);
    let round = standing.progress.round;
    let show = BarrierStep::Forget { step: storage::Forgetting::Show, below: round };
    let mut one =
        BarrierHand::new(Barrier::new(NodeId(1), None), BarrierStart::As(standing), times, 0);
    one.set_members([1, 2].map(NodeId), []);
    assert_eq!(one.next(0), BarrierStep::Enter(of(round)));
    assert_eq!(one.entered(0), show);
    // A disk refused it.
    one.failed();
    assert_eq!(one.next(0), BarrierStep::Enter(of(round)));
    assert_eq!(one.entered(0), show);
    assert!(!one.is_open());
    assert_eq!(one.forgotten(), BarrierStep::Note(standing));
    one.noted();
    assert!(one.is_open());
}

/// One that has settled alone, and so is about to hide.
fn settled_alone() -> Barrier {
    let mut barrier = Barrier::new(NodeId(1), None);
    barrier.noted(BarrierStanding {
        life: 0,
        progress: BarrierProgress::at(1, BarrierStage::Settled),
    });
    barrier
}

/// A life that nobody can be found equal with, as they hide what it shows, would hold the round up for ever.
#[test]
fn what_is_hidden_is_said_or_shown_again_whoever_is_heard_of_meanwhile() {
    let times = BarrierTimes { interval_ms: None, retries_ms: 0 };
    let mut hand = BarrierHand::new(settled_alone(), BarrierStart::AsNoted, times, 0);
    let show = BarrierStep::Forget { step: storage::Forgetting::Show, below: 1 };
    let hide = BarrierStep::Forget { step: storage::Forgetting::Hide, below: 1 };
    assert_eq!(hand.next(0), BarrierStep::Enter(of(1)));
    assert_eq!(hand.entered(0), BarrierStep::Wait);
    assert_eq!(hand.next(0), show, "an earlier start may have begun to hide");
    hand.failed();
    assert_eq!(hand.next(0), show);
    assert_eq!(hand.forgotten(), BarrierStep::Wait);
    assert_eq!(hand.next(0), hide);
    hand.failed();
    assert_eq!(hand.next(0), show, "the disk may have hidden some before it refused");
    assert_eq!(hand.forgotten(), BarrierStep::Wait);
    assert_eq!(hand.next(0), hide);
    // Another one begins a life in the round while the disk hides.
    let late = Barrier::reborn(NodeId(2), &hand.barrier().table());
    assert_eq!(late.progress.stage, BarrierStage::Entered);
    hand.heard(&BarrierTable::from([(NodeId(2), late)]));
    let hidden =
        BarrierStanding { life: 0, progress: BarrierProgress::at(1, BarrierStage::Hidden) };
    assert_eq!(hand.forgotten(), BarrierStep::Note(hidden));
    hand.failed();
    assert_eq!(hand.next(0), show);
}

/// What owners bring each other after a round is then as old as it, at both, and both hide it in the next one.
#[test]
fn a_round_is_entered_once_replicas_are_equal_since_the_last_one() {
    let times = BarrierTimes { interval_ms: Some(1_000), retries_ms: 0 };
    let hand = |node| {
        let barrier = Barrier::new(NodeId(node), None);
        let mut hand = BarrierHand::new(barrier, BarrierStart::AsNoted, times, 0);
        hand.set_members([1, 2].map(NodeId), []);
        assert_eq!(hand.next(0), BarrierStep::Enter(of(0)));
        assert_eq!(hand.entered(0), BarrierStep::Note(BarrierStanding::default()));
        hand.noted();
        hand
    };
    let look = |hand: &mut BarrierHand, now_ms| match hand.next(now_ms) {
        BarrierStep::Look(look) => look,
        step => panic!("{step:?}"),
    };
    let (mut one, mut two) = (hand(1), hand(2));
    one.heard(&two.barrier().table());
    let idle = BarrierShown::default();
    let apart = BarrierShown { has_to_forget: true, is_different: true, ..idle };
    let equal = BarrierShown { has_to_forget: true, ..idle };
    let over = look(&mut one, 0);
    assert!(over.is_over && !over.compares, "what is compared from now on counts");
    assert_eq!(one.looked(over, idle), BarrierStep::Wait);
    assert_eq!(one.next(1), BarrierStep::Wait);
    assert_eq!(one.next(999), BarrierStep::Wait);
    let first = look(&mut one, 1_000);
    assert!(first.is_over && !first.compares, "there may be nothing to forget");
    assert_eq!(one.looked(first, equal), BarrierStep::Wait);
    let second = look(&mut one, 1_001);
    assert!(second.is_over && second.compares);
    assert_eq!(one.looked(second, apart), BarrierStep::Wait);
    let third = look(&mut one, 1_002);
    assert_eq!(one.looked(third, equal), BarrierStep::Enter(of(1)));
    let entered =
        BarrierStanding { progress: BarrierProgress::at(1, BarrierStage::Entered), life: 0 };
    assert_eq!(one.entered(1_002), BarrierStep::Note(entered));
    one.noted();
    assert!(!look(&mut one, 1_003).is_over, "it is to be found equal anew");
    // Who has nothing to forget goes along, once it is equal too.
    two.heard(&one.barrier().table());
    let along = look(&mut two, 1_003);
    assert!(along.is_over && along.compares);
    assert_eq!(two.looked(along, BarrierShown { is_different: true, ..idle }), BarrierStep::Wait);
    let along = look(&mut two, 1_004);
    assert_eq!(two.looked(along, idle), BarrierStep::Enter(of(1)));
}

/// While partitions move, what is to be equal changes all the time.
#[test]
fn no_comparison_is_asked_for_while_the_member_has_a_part_in_a_handover() {
    let times = BarrierTimes { interval_ms: Some(0), retries_ms: 0 };
    let mut hand = BarrierHand::new(Barrier::new(NodeId(1), None), BarrierStart::AsNoted, times, 0);
    let idle = BarrierShown { has_to_forget: true, ..BarrierShown::default() };
    let moving = BarrierShown { handovers: 1, ..idle };
    assert_eq!(hand.next(0), BarrierStep::Enter(of(0)));
    assert!(matches!(hand.entered(0), BarrierStep::Note(_)));
    hand.noted();
    let look = |hand: &mut BarrierHand, shown| {
        let BarrierStep::Look(look) = hand.next(0) else { panic!("{:?}", hand.task()) };
        let step = hand.looked(look, shown);
        (look.is_over, look.compares, step)
    };
    // Before a round that it would begin.
    assert_eq!(look(&mut hand, moving), (true, false, BarrierStep::Wait));
    assert_eq!(look(&mut hand, moving), (true, false, BarrierStep::Wait));
    assert_eq!(look(&mut hand, idle), (true, false, BarrierStep::Wait), "nothing was compared");
    assert_eq!(look(&mut hand, idle), (true, true, BarrierStep::Enter(of(1))));
    assert!(matches!(hand.entered(0), BarrierStep::Note(_)));
    hand.noted();
    // And in it.
    assert_eq!(
        look(&mut hand, moving),
        (false, true, BarrierStep::Wait),
        "it is seen by this look"
    );
    assert_eq!(look(&mut hand, moving), (false, false, BarrierStep::Wait));
    assert_eq!(look(&mut hand, idle), (false, false, BarrierStep::Wait));
    let (_, compares, step) = look(&mut hand, idle);
    assert!(compares && matches!(step, BarrierStep::Note(_)), "{step:?}");
}

#[test]
fn a_note_is_read_as_it_was_written() {
    let progress = BarrierProgress { round: 7, stage: BarrierStage::Equal };
    let standing = BarrierStanding { life: 2, progress };
    let mut barrier = Barrier::new(NodeId(1), None);
    barrier.noted(standing);
    let (name, value) = barrier.note(standing);
    let passed = progress;
    let noted = BarrierNote { standing, passed, lives: BTreeMap::new(), ring: RingId::UNKNOWN };
    let damaged = (name.clone(), None);
    let other = (Bytes::from_static(b"another"), Some(Bytes::from_static(b"note")));
    assert_eq!(Barrier::of_notes(&[other.clone(), (name, Some(value))]), Ok(Some(noted)));
    assert_eq!(Barrier::of_notes(std::slice::from_ref(&other)), Ok(None));
    // It must not be taken for one of a node that never took part: that one would begin anew.
    assert!(Barrier::of_notes(&[other, damaged]).is_err());
}

/// Others hear of a member that joins by gossip, some time after it serves: until then what they answer it is taken,
/// since each of them waits for it. Of one that began anew they may have heard, and passed it, in its life before.
#[test]
fn who_has_heard_nothing_of_a_member_is_listened_to_in_its_first_life_only() {
    let at = |life| {
        let mut member = Barrier::new(NodeId(4), None);
        member.set_members([1, 4].map(NodeId), []);
        member.noted(BarrierStanding { life, progress: BarrierProgress::default() });
        member.terms(true)
    };
    let mut other = Barrier::new(NodeId(1), None);
    other.set_members([1, 4].map(NodeId), []);
    assert_eq!(other.waits_for(), [NodeId(4)]);
    let said = other.terms(true).stamp(NodeId(4));
    let takes = [0, 1, 2].map(|life| at(life).takes(NodeId(1), said, false));
    assert_eq!(takes, [true, true, false]);
    other.heard(&BarrierTable::from([(NodeId(4), BarrierStanding::default())]));
    let said = other.terms(true).stamp(NodeId(4));
    let takes = [0, 1, 2].map(|life| at(life).takes(NodeId(1), said, false));
    assert_eq!(takes, [true, false, false]);
}

const fn of(number: u64) -> Round {
    Round { ring: RingId::UNKNOWN, number }
}

#[test]
fn a_ring_is_known_by_what_its_founders_say_and_by_no_other_name_later() {
    let ring = RingId(9);
    let mut founder = Barrier::new(NodeId(1), None).founding(ring);
    assert_eq!(founder.ring(), ring);
    founder.noted(founder.own());
    assert_eq!(founder.table().ring, ring);
    // One that joins hears of it, also where it once founded another one.
    let mut joins = Barrier::new(NodeId(2), None).founding(RingId(4));
    joins.heard(&founder.table());
    let standing = Barrier::reborn(NodeId(2), &founder.table());
    let (name, value) = joins.note(standing);
    joins.noted(standing);
    assert_eq!((joins.ring(), joins.table().ring), (ring, ring));
    let noted = Barrier::of_notes([&(name, Some(value))]).unwrap();
    let before_first = Some(Round { ring, number: 0 });
    assert_eq!(Barrier::begins_in(noted.as_ref(), Some(RingId(4))), before_first);
    assert_eq!(Barrier::begins_in(None, Some(ring)), before_first);
    assert_eq!(Barrier::begins_in(None, None), None);
    let mut again = Barrier::new(NodeId(2), noted).founding(RingId(4));
    again.heard(&BarrierTable { ring: RingId(70), ..BarrierTable::default() });
    assert_eq!((again.ring(), again.table().ring), (ring, ring));
}
