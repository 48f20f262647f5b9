//! Hints, digests, the time that questions carry, and too many of them.

use values::{Blob, Causal, DotFun, Sibling};

use super::*;
use crate::ViewDigest;

/// A core among five, all in reach, and a key of which it is no owner.
pub(super) fn stranger() -> (Core, Key) {
    let mut core = core();
    let members: Vec<Member> = (1..=5).map(|id| Member::new(NodeId(id))).collect();
    let ring = Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring;
    own(&mut core, ring);
    for node in [4, 5] {
        core.step(at(0), Event::LinkUp(NodeId(node)), &mut Vec::new());
    }
    let mut keys = (0..).map(|number| Key::new("default", format!("{number}")).unwrap());
    let foreign =
        keys.find(|key| !core.shared.owners(core.shared.partition(key), 3).contains(&ME)).unwrap();
    (core, foreign)
}

/// What is sent, with the time that it carries.
fn sent(effects: &[Effect]) -> Vec<(&'static str, u32)> {
    let messages = effects.iter().filter_map(|effect| match effect {
        Effect::Send { message, .. } => Some((message.body.name(), message.budget_ms)),
        _ => None,
    });
    messages.collect()
}

fn ask(core: &mut Core, number: u64, body: Body) -> Vec<Effect> {
    received(core, 2, RequestId { core: 0, number }, body)
}

fn answered(effects: &[Effect]) -> &Body {
    match effects {
        [Effect::Send { to: NodeId(2), message }] => &message.body,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_question_carries_the_time_that_is_left() {
    let (mut core, foreign) = stranger();
    let mut get = Request::get(foreign.clone(), Scope::Whole);
    get.timeout_ms = Some(500);
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call: Call::Request(get) }, &mut effects);
    assert_eq!(sent(&effects), [("read", 500), ("digest", 500), ("digest", 500)]);
    effects.clear();
    core.step(at(100), Event::Tick, &mut effects);
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Storage { .. })));
    assert_eq!(sent(&effects), [("read", 400)]);

    let mut core = self::core();
    let call = Call::Request(Request::update(key(), Operation::Counter(CounterOp::Add(1))));
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    let [Effect::Storage { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
    let delta = Delta::default();
    let view = View::default();
    let prepared = made(delta, view);
    let effects = stored(&mut core, at(30), ticket, prepared);
    assert_eq!(sent(&effects), [("merge", 970), ("merge", 970)]);
}

#[test]
fn a_forwarded_request_ends_within_the_time_that_came_with_it() {
    let mut core = core();
    let request = Request::get(key(), Scope::Whole);
    let message = Message {
        id: RequestId { core: 0, number: 7 },
        trace: 0,
        sequence: Sequence(0),
        time: Stamp(0),
        budget_ms: 40,
        body: Body::Forward(request),
    };
    let mut effects = Vec::new();
    core.step(at(5), Event::Received { from: NodeId(2), message }, &mut effects);
    assert_eq!(core.next_timeout(), Some(45));
    effects.clear();
    core.step(at(45), Event::Tick, &mut effects);
    assert_eq!(*answered(&effects), Body::Forwarded(Err(RequestError::Timeout)));
}

#[test]
fn a_digest_is_answered_for_a_long_view_and_a_short_view_is_shown() {
    let mut core = core();
    for (number, is_long) in [(1, false), (2, true)] {
        let effects = ask(&mut core, number, Body::Digest { key: key(), scope: Scope::Whole });
        let [Effect::Storage { ticket, command: Command::Read { .. } }] = effects[..] else {
            panic!("{effects:?}")
        };
        let next = is_long.then(|| Bytes::from(vec![0; 1_000]));
        let view = View { next, ..View::default() };
        let effects = stored(&mut core, at(1), ticket, Answer::View(view.clone()));
        let expected =
            if is_long { Body::Digested(ViewDigest::of(&view)) } else { Body::Shown(Ok(view)) };
        assert_eq!(*answered(&effects), expected);
    }
}

#[test]
fn a_hint_is_kept_for_a_member_merged_for_this_node_and_refused_for_a_stranger() {
    let mut core = core();
    let hint = |owner| Body::Hint { owner: NodeId(owner), key: key(), delta: Delta::default() };
    let kept = ask(&mut core, 1, hint(3));
    let [Effect::Storage { ticket, command: Command::Defer { owner: NodeId(3), .. } }] = kept[..]
    else {
        panic!("{kept:?}")
    };
    let effects = stored(&mut core, at(1), ticket, Answer::Durable);
    assert_eq!(*answered(&effects), Body::Hinted(Ok(())));
    // The owner's link is up: it is delivered after a while.
    assert_eq!((core.next_timeout(), core.counters().hints_taken), (Some(1_001), 1));
    let own = ask(&mut core, 2, hint(ME.0));
    let [Effect::Storage { ticket, command: Command::Merge { .. } }] = own[..] else {
        panic!("{own:?}")
    };
    let effects = stored(&mut core, at(1), ticket, Answer::Failed(StorageError::Full));
    assert_eq!(*answered(&effects), Body::Hinted(Err(StorageError::Full)));
    let refused = ask(&mut core, 3, hint(99));
    assert!(matches!(answered(&refused), Body::Hinted(Err(StorageError::Io(_)))));
}

#[test]
fn too_much_that_waits_for_the_engine_is_answered_busy_at_once() {
    let mut core = core();
    // Ten requests may be under way, eight commands for each.
    for number in 0..80 {
        let effects = ask(&mut core, number, Body::Digest { key: key(), scope: Scope::Headers });
        assert!(matches!(effects[..], [Effect::Storage { .. }]));
    }
    let busy = StorageError::Busy;
    let digest = Body::Digest { key: key(), scope: Scope::Headers };
    assert_eq!(*answered(&ask(&mut core, 80, digest)), Body::Shown(Err(busy.clone())));
    let hint = Body::Hint { owner: NodeId(3), key: key(), delta: Delta::default() };
    assert_eq!(*answered(&ask(&mut core, 81, hint)), Body::Hinted(Err(busy)));
}

/// An owner that owes an answer may have slept for long: whoever is asked instead keeps hints.
#[test]
fn a_write_whose_owners_are_all_silent_goes_to_the_next_node_of_the_preference_list() {
    let (mut core, foreign) = stranger();
    // Of five nodes this one comes after the owners.
    assert_eq!(core.shared.preference_list(core.shared.partition(&foreign))[3], ME);
    let get = Call::Request(Request::get(foreign.clone(), Scope::Whole));
    core.step(at(0), Event::Call { id: CallId(1), call: get }, &mut Vec::new());
    let call = Call::Request(Request::update(foreign, Operation::Counter(CounterOp::Add(1))));
    let mut effects = Vec::new();
    core.step(at(150), Event::Call { id: CallId(2), call }, &mut effects);
    let [Effect::Storage { command: Command::Update { .. }, .. }] = &effects[..] else {
        panic!("{effects:?}")
    };
}

/// A removal too long for one message is kept by its coordinator, also for an owner that is out of
/// reach before any part was sent.
#[test]
fn a_removal_of_many_parts_is_no_hint_of_one_message() {
    let (mut core, _) = stranger();
    let mut keys = (0..).map(|number| Key::new("default", format!("{number}")).unwrap());
    let own = keys.find(|key| core.shared.owners(core.shared.partition(key), 3)[0] == ME).unwrap();
    let away = core.shared.owners(core.shared.partition(&own), 3)[1];
    core.step(at(0), Event::LinkDown(away), &mut Vec::new());
    let call = Call::Request(Request::update(own, Operation::Delete(None)));
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
    let (other, id) = (to.0, message.id);
    let effects = received(&mut core, other, id, Body::Shown(Ok(View::default())));
    let [Effect::Storage { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
    let sibling = |counter| {
        let dot = Dot::new(Actor::new(ME, 7, 0), counter);
        (dot, Sibling { stamp: Stamp(1), value: Blob::from(vec![0; 10 << 20]) })
    };
    let siblings = [sibling(1), sibling(2)];
    let context = siblings.iter().map(|(dot, _)| *dot).collect();
    let state = Causal { store: DotFun(siblings.into()), context };
    let delta = Delta::of(Tag::BYTES, State::Bytes(state));
    let view = View::default();
    let prepared = made(delta, view);
    let effects = stored(&mut core, at(2), ticket, prepared);
    let names: Vec<&str> = sent(&effects).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["merge", "merge"]);
    let kept = effects.iter().filter_map(|effect| match effect {
        Effect::Storage { command: Command::Defer { owner, .. }, .. } => Some(*owner),
        _ => None,
    });
    assert_eq!(kept.collect::<Vec<_>>(), [away]);
}

#[test]
fn a_member_that_owes_answers_for_the_longest_delay_is_evidence_for_membership_when_it_is_asked_again()
 {
    let mut core = core();
    let mut told = |now_ms| {
        let mut effects = Vec::new();
        let get = Call::Request(Request::get(key(), Scope::Whole));
        core.step(at(now_ms), Event::Call { id: CallId(now_ms), call: get }, &mut effects);
        let told = effects.iter().filter_map(|effect| match effect {
            Effect::TimedOut(node) => Some(node.0),
            _ => None,
        });
        told.collect::<Vec<_>>()
    };
    let found = [0, 99, 100, 250, 300].map(&mut told);
    assert_eq!(found, [vec![], vec![], vec![2, 3], vec![], vec![2, 3]]);
}

/// What the engine makes of an increment.
fn incremented() -> Answer {
    let dot = Dot::new(Actor::new(ME, 7, 0), 1);
    let tally = Tally::default().incremented(dot, 1, None);
    let counter = CounterState { tally, context: [dot].into_iter().collect() };
    let delta = Delta::of(Tag::COUNTER, State::Counter(counter));
    let view = View::default();
    made(delta, view)
}

type Replies = Vec<Result<Reply, RequestError>>;

/// The commands among effects, by their tickets, and the replies.
fn sorted(effects: Vec<Effect>) -> (Vec<(Ticket, Command)>, Replies) {
    let (mut commands, mut replies) = (Vec::new(), Vec::new());
    for effect in effects {
        match effect {
            Effect::Storage { ticket, command } => commands.push((ticket, command)),
            Effect::Reply { reply, .. } => replies.push(reply),
            _ => {}
        }
    }
    (commands, replies)
}

#[test]
fn a_write_that_only_hints_would_hold_is_refused_where_there_are_too_many() {
    let (mut core, foreign) = stranger();
    for node in 2..=5 {
        core.step(at(0), Event::LinkDown(NodeId(node)), &mut Vec::new());
    }
    let add = Operation::Counter(CounterOp::Add(1));
    let call = |core: &mut Core, now_ms| {
        let mut effects = Vec::new();
        let call = Call::Request(Request::update(foreign.clone(), add.clone()));
        core.step(at(now_ms), Event::Call { id: CallId(now_ms), call }, &mut effects);
        sorted(effects)
    };
    let full = StorageError::HintsFull { bytes: 7 };

    let (commands, _) = call(&mut core, 0);
    let [(ticket, Command::Update { .. })] = commands[..] else { panic!("{commands:?}") };
    let (commands, replies) = sorted(stored(&mut core, at(0), ticket, incremented()));
    let is_defer = |(_, command): &&(Ticket, Command)| matches!(command, Command::Defer { .. });
    let defers: Vec<Ticket> = commands.iter().filter(is_defer).map(|(ticket, _)| *ticket).collect();
    assert_eq!((defers.len(), replies.len()), (3, 0));
    assert_eq!(stored(&mut core, at(0), ticket, Answer::Durable), []);
    let mut replies = Vec::new();
    for defer in defers {
        // What is refused for lack of room is not tried again.
        let (commands, more) =
            sorted(stored(&mut core, at(0), defer, Answer::Failed(full.clone())));
        assert_eq!(commands, []);
        replies.extend(more);
    }
    // It is here, and nobody knows when it comes to an owner.
    let unknown = RequestError::Unknown { acked: 0, needed: 2, disk: Some(full.clone()) };
    assert_eq!(replies, [Err(unknown)]);
    assert_eq!(core.counters().hints_refused, 3);

    let (commands, replies) = call(&mut core, 999);
    assert_eq!((commands, replies), (vec![], vec![Err(RequestError::Storage(full))]));
    let (commands, _) = call(&mut core, 1_000);
    assert!(matches!(commands[..], [(_, Command::Update { .. })]), "whether there is room again");
}

#[test]
fn what_an_owner_has_is_acknowledged_though_there_is_no_room_for_hints() {
    let mut core = core();
    for node in [2, 3] {
        core.step(at(0), Event::LinkDown(NodeId(node)), &mut Vec::new());
    }
    let (commands, _) = sorted(call(&mut core, Operation::Counter(CounterOp::Add(1))));
    let [(ticket, Command::Update { .. })] = commands[..] else { panic!("{commands:?}") };
    let (commands, _) = sorted(stored(&mut core, at(0), ticket, incremented()));
    let mut replies = sorted(stored(&mut core, at(0), ticket, Answer::Durable)).1;
    for (defer, _) in commands {
        let full = Answer::Failed(StorageError::HintsFull { bytes: 7 });
        replies.extend(sorted(stored(&mut core, at(0), defer, full)).1);
    }
    let [Ok(Reply::Answer(answer))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((answer.acks.answered, answer.acks.hinted), (1, 0));
}
