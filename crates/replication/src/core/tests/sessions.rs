//! Comparisons of some of the partitions of a pair, and sessions that make room for others.

use storage::TreeNode;

use super::comparing::with_engine;
use super::*;
use crate::{
    BarrierLook, BarrierShown, Compare, Compared, anti_entropy::Found, handover::Want, turn::Turn,
};

/// What the core sends of comparisons, with what else happens left to the engine.
fn run(
    core: &mut Core,
    engine: &mut storage::MemoryEngine,
    event: Event,
) -> Vec<(NodeId, Message)> {
    run_at(0, core, engine, event)
}

fn run_at(
    now_ms: u64,
    core: &mut Core,
    engine: &mut storage::MemoryEngine,
    event: Event,
) -> Vec<(NodeId, Message)> {
    let mut events = std::collections::VecDeque::from([event]);
    let mut sent = Vec::new();
    while let Some(event) = events.pop_front() {
        let mut effects = Vec::new();
        core.step(at(now_ms), event, &mut effects);
        for effect in effects {
            match effect {
                // However many leaves there are.
                Effect::Storage { ticket, command: Command::TreeRoots { partitions, .. } } => {
                    let nodes = vec![TreeNode::EMPTY; partitions.len()];
                    events.push_back(Event::Storage { ticket, answer: Answer::TreeNodes(nodes) });
                }
                Effect::Storage { ticket, command } => {
                    let given = engine.execute_now(command).into_iter();
                    events.extend(given.map(|answer| Event::Storage { ticket, answer }));
                }
                Effect::Send { to, message } => sent.push((to, message)),
                other => panic!("{other:?}"),
            }
        }
    }
    sent
}

/// A handover compares some of a pair's partitions, or a question holds only some: nothing is known of
/// the others, and the pair stays due.
#[test]
fn a_peer_that_finds_one_partition_equal_has_said_nothing_of_the_others() {
    let (mut core, mut engine) = with_engine();
    let one = vec![Partition(0)];
    let roots = Compare::Roots { n: 3, partitions: one, sum: TreeNode::EMPTY };
    let id = RequestId { core: 0, number: 1 };
    let (sequence, time, body) = (Sequence(0), Stamp(1), Body::Compare(roots));
    let message = Message { id, trace: 0, sequence, time, budget_ms: 9, body };
    let event = Event::Received { from: NodeId(2), message };
    let sent = run(&mut core, &mut engine, event);
    assert_eq!(sent[0].1.body, Body::Compared(Ok(Compared::Equal)));
    let summary = core.compared(at(0));
    assert_eq!((summary.pairs, summary.never), (16, 15));
    // All of it is due at once when the peer comes.
    let sent = run(&mut core, &mut engine, Event::LinkUp(NodeId(2)));
    assert!(sent.iter().any(|(_, message)| message.body.name() == "compare"), "{sent:?}");
}

#[test]
fn a_partition_that_is_refused_does_not_fail_the_others_of_its_session() {
    let (mut core, mut engine) = with_engine();
    let mut sent = run(&mut core, &mut engine, Event::LinkUp(NodeId(2)));
    let mut questions = 0;
    while let Some((from, message)) = sent.pop() {
        let Body::Compare(Compare::Roots { partitions, .. }) = &message.body else { continue };
        questions += 1;
        let refused = StorageError::Incomparable("a partition of others".into());
        let is_refused = partitions.contains(&Partition(2));
        let answer = if is_refused { Err(refused) } else { Ok(Compared::Equal) };
        let message = Message { body: Body::Compared(answer), ..message };
        sent.extend(run(&mut core, &mut engine, Event::Received { from, message }));
    }
    // All four of the shard, then its halves, then one by one in the half with the refused one; and all of
    // the other shard.
    assert_eq!(questions, 6);
    let summary = core.compared(at(0));
    // With node 3 nothing was compared.
    assert_eq!((summary.pairs, summary.never), (16, 9));
}

/// A long copy under way, with one partition equal and another that differs, when something urgent comes.
#[test]
fn a_long_session_makes_room_for_what_is_urgent_and_says_what_is_equal() {
    let (mut core, _) = with_engine();
    core.shared.links.extend([NodeId(2), NodeId(3)]);
    core.shared.config.timeout_ms = 10_000;
    let Core { shared, anti_entropy, .. } = &mut core;
    let mut effects = Vec::new();
    let mut want = |peer, partition, is_urgent, now_ms, effects: &mut Vec<Effect>| {
        let (peer, partition) = (NodeId(peer), Partition(partition));
        let want = Want { peer, n: 3, partition, number: 1, is_urgent };
        let mut turn = Turn::new(shared, at(now_ms), effects);
        anti_entropy.want(want, &mut turn);
        anti_entropy.take_found()
    };
    // The first is begun at once, the others wait for it and are one session.
    assert_eq!(want(3, 5, false, 0, &mut effects), []);
    assert_eq!(want(2, 0, false, 0, &mut effects), []);
    assert_eq!(want(2, 1, false, 0, &mut effects), []);
    let Core { shared, anti_entropy, .. } = &mut core;
    let mut turn = Turn::new(shared, at(0), &mut effects);
    anti_entropy.stored(0, Answer::TreeNodes(vec![TreeNode::EMPTY]), &mut turn);
    anti_entropy.answered(0, 0, Body::Compared(Ok(Compared::Equal)), &mut turn);
    assert!(anti_entropy.take_found()[0].is_equal);
    let mine = vec![TreeNode { count: 100, ..TreeNode::EMPTY }; 2];
    let theirs = vec![mine[0], TreeNode { digest: 1, ..mine[1] }];
    anti_entropy.stored(1, Answer::TreeNodes(mine), &mut turn);
    anti_entropy.answered(1, 0, Body::Compared(Ok(Compared::Nodes(theirs))), &mut turn);
    assert_eq!(anti_entropy.take_found(), []);
    let mut want = |now_ms, effects: &mut Vec<Effect>| {
        let (peer, partition) = (NodeId(3), Partition(5));
        let want = Want { peer, n: 3, partition, number: 1, is_urgent: true };
        anti_entropy.want(want, &mut Turn::new(shared, at(now_ms), effects));
        anti_entropy.take_found()
    };
    assert_eq!(want(2_999, &mut effects), [], "it has not been long");
    let found = |partition, is_equal| {
        let partition = Partition(partition);
        Found { peer: NodeId(2), n: 3, partition, number: 1, is_equal }
    };
    assert_eq!(want(3_000, &mut effects), [found(0, true), found(1, false)]);
    let next = effects.iter().rev().find_map(|effect| match effect {
        Effect::Storage { command: Command::TreeRoots { partitions, .. }, .. } => Some(partitions),
        _ => None,
    });
    assert_eq!(next, Some(&vec![Partition(5)]));
}

/// A node that owns nothing together with anybody in reach has no comparison to wait for.
#[test]
fn what_is_owned_anew_is_compared_though_nothing_else_happens() {
    let mut config = config();
    config.anti_entropy.interval_ms = Some(1_000);
    let alone = Ring::place(&[Member::new(ME)], PartitionCount::new(8).unwrap(), 3, None).unwrap();
    let mut core = Core::new(config, Arc::new(Ownership::new(alone.ring)));
    let mut effects = Vec::new();
    core.step(at(0), Event::LinkUp(NodeId(2)), &mut effects);
    let [Effect::Storage { ticket, command: Command::Outbox { .. } }] = effects[..] else {
        panic!("{effects:?}")
    };
    let event = Event::Storage { ticket, answer: Answer::Outbox(Vec::new()) };
    core.step(at(0), event, &mut Vec::new());
    core.step(at(0), Event::Ownership(Arc::new(Ownership::new(ring()))), &mut Vec::new());
    let mut effects = Vec::new();
    core.step(at(1_000), Event::Tick, &mut effects);
    let is_begun = |effect: &Effect| {
        matches!(effect, Effect::Storage { command: Command::TreeRoots { .. }, .. })
    };
    assert!(effects.iter().any(is_begun), "{effects:?}");
}

/// Answers, at this moment, the questions among `sent` that a core with all replicas equal hears. Returns what it sends then.
fn answered_equal(
    now_ms: u64,
    core: &mut Core,
    engine: &mut storage::MemoryEngine,
    sent: Vec<(NodeId, Message)>,
) -> Vec<(NodeId, Message)> {
    let is_question = |message: &Message| matches!(message.body, Body::Compare(_));
    let questions = sent.into_iter().filter(|(_, message)| is_question(message));
    let mut next = Vec::new();
    for (from, message) in questions {
        let message = Message { body: Body::Compared(Ok(Compared::Equal)), ..message };
        next.extend(run_at(now_ms, core, engine, Event::Received { from, message }));
    }
    next
}

/// How a core shows that it stands, at this moment, in the round `number` of a life or after it.
fn shown(
    now_ms: u64,
    core: &mut Core,
    (life, round, is_over): (u64, u64, bool),
    compares: bool,
) -> BarrierShown {
    let look = BarrierLook { life, round, is_over, moment: 1, compares };
    core.look(look, at(now_ms), &mut Vec::new())
}

/// Where much is due one session begins when the last one ends.
#[test]
fn replicas_are_found_equal_for_a_round_though_there_is_always_a_session_under_way() {
    let (mut core, mut engine) = with_engine();
    let mut sent = run(&mut core, &mut engine, Event::LinkUp(NodeId(2)));
    sent.extend(run(&mut core, &mut engine, Event::LinkUp(NodeId(3))));
    let counts = |shown: &BarrierShown| (shown.pairs, shown.equal);
    let first = shown(10, &mut core, (0, 1, false), true);
    assert_eq!(counts(&first), (16, 0));
    sent = answered_equal(20, &mut core, &mut engine, sent);
    let second = shown(20, &mut core, (0, 1, false), true);
    assert_eq!(counts(&second), (16, 0), "it was begun before the first look");
    let mut now_ms = 20;
    loop {
        assert!(core.anti_entropy.sessions().1, "another one is under way");
        now_ms += 10;
        sent = answered_equal(now_ms, &mut core, &mut engine, sent);
        let shown = shown(now_ms, &mut core, (0, 1, false), true);
        if !shown.is_different {
            return assert_eq!(counts(&shown), (16, 16));
        }
        assert!(now_ms < 200, "{shown:?}");
    }
}

/// In an interval of rounds as long as that of comparisons nothing is compared twice before a round.
#[test]
fn what_was_compared_in_the_background_since_a_round_was_over_is_not_compared_again_for_the_next() {
    // What was found before the next round was entered, or before another life began, does not count there.
    for next in [(0, 2, false), (1, 1, true)] {
        let (mut core, mut engine) = with_engine();
        let over = shown(0, &mut core, (0, 1, true), false);
        assert_eq!((over.pairs, over.is_different), (0, false), "nothing is asked for yet");
        let mut sent = run_at(10, &mut core, &mut engine, Event::LinkUp(NodeId(2)));
        sent.extend(run_at(10, &mut core, &mut engine, Event::LinkUp(NodeId(3))));
        while !sent.is_empty() {
            sent = answered_equal(20, &mut core, &mut engine, sent);
        }
        let shown = |core: &mut Core, round| shown(500, core, round, true).equal;
        assert_eq!(shown(&mut core, (0, 1, true)), 16);
        assert_eq!(shown(&mut core, next), 0, "{next:?}");
    }
}
