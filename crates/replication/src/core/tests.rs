mod buckets;
mod comparing;
mod conflicts;
mod delivering;
mod draining;
mod following;
mod listing;
mod moved;
mod owned;
mod redirecting;
mod refused;
mod repeated;
mod sessions;
mod tails;
mod telling;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clock::{Actor, ClusterSecret, Dot, NodeId, Stamp};
use proptest::prelude::*;
use ring::{Member, Ownership, Partition, PartitionCount, Ring, Sequence};
use storage::{
    Answer, Command, ConflictPage, ConflictPosition, Listing, ShardSet, Shards, StorageError,
    Ticket,
};
use values::{
    Base, BucketId, BytesOp, CounterOp, CounterState, Delta, Key, Limits, Operation, OrsetOp,
    Register, RegisterOp, Scope, State, Tag, Tally, Value, View,
};

use self::comparing::{any_compare, any_compared};
use super::Core;
use crate::{
    AntiEntropyConfig, Body, BucketPolicy, Call, CallId, ConflictCursor, ConflictsRequest,
    CoreConfig, Effect, Event, KeptCommits, Message, Now, PolicyTable, Reply, Request,
    RequestError, RequestId, ScanRequest, Stands,
};

const ME: NodeId = NodeId(1);
const INCARNATION: u64 = u64::MAX - 3;

pub(crate) fn config() -> CoreConfig {
    CoreConfig {
        node: ME,
        core: 0,
        shards: ShardSet::all(Shards::new(PartitionCount::new(8).unwrap(), 2)),
        anti_entropy: AntiEntropyConfig::OFF,
        incarnation: INCARNATION,
        names: BTreeMap::new(),
        secret: ClusterSecret::new(*b"secret"),
        default_policy: BucketPolicy::default(),
        policies: PolicyTable::default(),
        commits: KeptCommits::default(),
        limits: Limits::default(),
        timeout_ms: 1_000,
        cover_ms: 100,
        requests_max: 10,
        deliveries_max: 4,
    }
}

fn ring() -> Ring {
    let members = [ME, NodeId(2), NodeId(3)].map(Member::new);
    Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring
}

fn core() -> Core {
    let mut core = Core::new(config(), Arc::new(Ownership::new(ring())));
    let mut effects = Vec::new();
    for node in [NodeId(2), NodeId(3)] {
        core.step(Now::default(), Event::LinkUp(node), &mut effects);
    }
    for effect in effects {
        let Effect::Storage { ticket, command: Command::Outbox { .. } } = effect else {
            panic!("a link that comes up makes the core look into the outbox, not {effect:?}")
        };
        let event = Event::Storage { ticket, answer: Answer::Outbox(Vec::new()) };
        core.step(Now::default(), event, &mut Vec::new());
    }
    core
}

/// Has the core go by another ring. It looks whether it holds anything of what others own by that: it
/// does not.
fn own(core: &mut Core, ring: Ring) {
    core.shared.ownership = Arc::new(Ownership::new(ring));
    let mut effects = Vec::new();
    core.step(at(0), Event::Tick, &mut effects);
    for effect in effects {
        let Effect::Storage { ticket, command: Command::IsEmpty { .. } } = effect else {
            panic!("{effect:?}")
        };
        let event = Event::Storage { ticket, answer: Answer::IsEmpty(true) };
        let mut after = Vec::new();
        core.step(at(0), event, &mut after);
        assert_eq!(after, []);
    }
}

const fn at(monotonic_ms: u64) -> Now {
    Now { monotonic_ms, wall_ms: 1_000_000 }
}

fn key() -> Key {
    Key::new("default", "k").unwrap()
}

fn call(core: &mut Core, operation: Operation) -> Vec<Effect> {
    let mut effects = Vec::new();
    let call = Call::Request(Request::update(key(), operation));
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    effects
}

/// The engine's answer to an operation that it did.
fn made(delta: Delta, view: View) -> Answer {
    Answer::Prepared {
        delta,
        changed: 1,
        repeated: false,
        partial: false,
        is_here: true,
        minted: None,
        view,
    }
}

fn stored(core: &mut Core, now: Now, ticket: Ticket, answer: Answer) -> Vec<Effect> {
    let mut effects = Vec::new();
    core.step(now, Event::Storage { ticket, answer }, &mut effects);
    effects
}

fn received(core: &mut Core, from: u64, id: RequestId, body: Body) -> Vec<Effect> {
    let message =
        Message { id, trace: 0, sequence: Sequence(0), time: Stamp(0), budget_ms: 0, body };
    let mut effects = Vec::new();
    core.step(at(1), Event::Received { from: NodeId(from), message }, &mut effects);
    effects
}

/// Begins an increment and lets the engine prepare it; returns its ticket and the ids under which
/// the two peers were sent the delta.
fn increment(core: &mut Core) -> (Ticket, Vec<(u64, RequestId)>) {
    let effects = call(core, Operation::Counter(CounterOp::Add(1)));
    let [Effect::Storage { ticket, command: Command::Update { .. } }] = effects[..] else {
        panic!("{effects:?}")
    };
    let dot = Dot::new(Actor::new(ME, 7, 0), 1);
    let tally = Tally::default().incremented(dot, 1, None);
    let context = [dot].into_iter().collect();
    let delta = Delta::of(Tag::COUNTER, State::Counter(CounterState { tally, context }));
    let prepared = made(delta, View::default());
    let sent = stored(core, at(0), ticket, prepared);
    let sent = sent.iter().map(|effect| match effect {
        Effect::Send { to, message } if message.body.name() == "merge" => (to.0, message.id),
        other => panic!("{other:?}"),
    });
    (ticket, sent.collect())
}

fn reply(effects: &[Effect]) -> Option<&Result<Reply, RequestError>> {
    effects.iter().find_map(|effect| match effect {
        Effect::Reply { reply, .. } => Some(reply),
        _ => None,
    })
}

#[test]
fn numbers_of_requests_start_at_the_incarnation_and_wrap() {
    let mut core = core();
    let (_, sent) = increment(&mut core);
    let numbers: Vec<u64> = sent.iter().map(|(_, id)| id.number).collect();
    assert_eq!(numbers, [INCARNATION, INCARNATION + 1]);
}

/// What a client's own timestamp leaves in a register is merged as it is; were it to move the
/// clock, clients could push the whole cluster ahead, a bound's worth with every write.
#[test]
fn a_clients_own_timestamp_does_not_move_the_clock_and_a_peers_message_does() {
    let ahead = Stamp::from_millis(1_059_999);
    let set = |at| RegisterOp::Set { value: Bytes::from_static(b"v"), at, replace: false };
    let stamp_of = |effects: &[Effect]| match effects {
        [Effect::Storage { ticket, command: Command::Update { stamp, .. } }] => (*ticket, *stamp),
        other => panic!("{other:?}"),
    };
    let mut core = core();
    let (ticket, first) = stamp_of(&call(&mut core, Operation::Register(set(Some(ahead)))));
    assert_eq!(first, Stamp::from_millis(1_000_000));
    let dot = Dot::new(Actor::new(ME, 7, 0), 1);
    let base = Some(Base { stamp: ahead, dot, value: Some(Bytes::from_static(b"v")) });
    let context = [dot].into_iter().collect();
    let state = State::Register(Register { base, context, ..Register::default() });
    let delta = Delta::of(Tag::LWW, state);
    let view = View::of(delta.value.clone());
    let prepared = made(delta.clone(), view);
    let sent = stored(&mut core, at(0), ticket, prepared);
    let times: Vec<Stamp> = sent
        .iter()
        .map(|effect| match effect {
            Effect::Send { message, .. } => message.time,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(times, [first, first]);
    let id = RequestId { core: 0, number: 1 };
    received(&mut core, 2, id, Body::Merge { key: key(), delta, show: None });
    // (A set without a timestamp reads before it writes.)
    let increment = || Operation::Register(RegisterOp::Increment(1));
    let (_, second) = stamp_of(&call(&mut core, increment()));
    assert_eq!(second, first.next());

    let message = Message {
        id,
        trace: 9,
        sequence: Sequence(0),
        time: ahead,
        budget_ms: 0,
        body: Body::Read { key: key(), scope: Scope::Headers },
    };
    core.step(at(1), Event::Received { from: NodeId(2), message }, &mut Vec::new());
    let (_, third) = stamp_of(&call(&mut core, increment()));
    assert_eq!(third, ahead.next());
}

#[test]
fn a_write_is_answered_once_w_owners_have_it_durable_and_not_before() {
    let mut core = core();
    let (ticket, sent) = increment(&mut core);
    assert_eq!(reply(&received(&mut core, 2, sent[0].1, Body::Merged(Ok(None)))), None);
    let effects = stored(&mut core, at(1), ticket, Answer::Durable);
    let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
    assert_eq!((answer.acks.answered, answer.acks.needed, answer.acks.hinted), (2, 2, 0));
    assert_eq!(core.under_way(), 1);
    received(&mut core, 3, sent[1].1, Body::Merged(Ok(None)));
    assert_eq!((core.under_way(), core.next_timeout()), (0, None));
}

#[test]
fn an_acknowledgement_that_the_network_copies_or_another_node_sends_counts_once() {
    let mut core = core();
    let (_, sent) = increment(&mut core);
    for _ in 0..2 {
        assert_eq!(reply(&received(&mut core, 2, sent[0].1, Body::Merged(Ok(None)))), None);
        assert_eq!(reply(&received(&mut core, 2, sent[1].1, Body::Merged(Ok(None)))), None);
    }
}

#[test]
fn a_silent_owner_has_its_delta_deferred_also_after_the_reply() {
    let mut core = core();
    let (ticket, sent) = increment(&mut core);
    received(&mut core, 2, sent[0].1, Body::Merged(Ok(None)));
    stored(&mut core, at(1), ticket, Answer::Durable);
    assert_eq!(core.next_timeout(), Some(100));
    let mut effects = Vec::new();
    core.step(at(100), Event::Tick, &mut effects);
    let [Effect::Storage { ticket, command: Command::Defer { owner: NodeId(3), .. } }] =
        effects[..]
    else {
        panic!("{effects:?}")
    };
    stored(&mut core, at(100), ticket, Answer::Durable);
    assert_eq!(core.under_way(), 0);
    // The link is up, so the outbox is looked into after a while.
    assert_eq!(core.next_timeout(), Some(1_100));
}

#[test]
fn a_write_goes_on_without_its_coordinators_disk() {
    let mut core = core();
    let (ticket, sent) = increment(&mut core);
    assert_eq!(reply(&stored(&mut core, at(1), ticket, Answer::Failed(StorageError::Full))), None);
    received(&mut core, 2, sent[0].1, Body::Merged(Ok(None)));
    let effects = received(&mut core, 3, sent[1].1, Body::Merged(Ok(None)));
    let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
    assert_eq!(answer.acks.answered, 2);
}

#[test]
fn a_disk_that_fails_before_anything_was_made_fails_the_write() {
    let mut core = core();
    let effects = call(&mut core, Operation::Bytes(BytesOp::Put("x".into())));
    let [Effect::Storage { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
    let effects = stored(&mut core, at(0), ticket, Answer::Failed(StorageError::Full));
    assert_eq!(reply(&effects), Some(&Err(RequestError::Storage(StorageError::Full))));
    assert_eq!((core.under_way(), core.next_timeout()), (0, None));
}

#[test]
fn a_forwarded_request_is_sent_once_and_a_lost_link_leaves_it_unknown() {
    let members: Vec<Member> = (1..=5).map(|id| Member::new(NodeId(id))).collect();
    let mut core = core();
    let ring = Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring;
    own(&mut core, ring);
    let foreign =
        (0..).map(|number| Key::new("default", format!("{number}")).unwrap()).find(|key| {
            let owners = core.shared.owners(core.shared.partition(key), 3);
            !owners.contains(&ME) && core.shared.is_in_reach(owners[0])
        });
    let mut effects = Vec::new();
    let call = Call::Request(Request::update(foreign.unwrap(), Operation::Delete(None)));
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((message.body.name(), message.budget_ms), ("forward", 875));
    let mut after = Vec::new();
    core.step(at(1), Event::LinkDown(*to), &mut after);
    assert_eq!(
        reply(&after),
        Some(&Err(RequestError::Unknown { acked: 0, needed: 2, disk: None }))
    );
    assert_eq!(after.len(), 1);
}

#[test]
fn an_event_that_makes_another_request_hurry_keeps_its_own_trace() {
    let mut core = core();
    // One more than may go on in the background: with the last reply the first one is to hurry.
    for _ in 0..11 {
        let (ticket, sent) = increment(&mut core);
        let trace = core.trace();
        stored(&mut core, at(0), ticket, Answer::Durable);
        let (peer, id) = sent[0];
        let effects = received(&mut core, peer, id, Body::Merged(Ok(None)));
        assert!(matches!(reply(&effects), Some(Ok(_))), "{effects:?}");
        assert_eq!(core.trace(), trace);
    }
}

fn any_key() -> impl Strategy<Value = Key> {
    prop::sample::select(vec!["a", "b", "c"]).prop_map(|name| Key::new("default", name).unwrap())
}

fn any_failure<T: std::fmt::Debug + Clone + 'static>(
    good: T,
) -> impl Strategy<Value = Result<T, StorageError>> {
    prop::sample::select(vec![Ok(good), Err(StorageError::Full)])
}

fn any_body() -> impl Strategy<Value = Body> {
    let request = any_key().prop_flat_map(|key| {
        prop::sample::select(vec![
            Request::get(key.clone(), Scope::Headers),
            Request::update(key.clone(), Operation::Counter(CounterOp::Add(1))),
            Request::update(key, Operation::Orset(OrsetOp::Remove(vec!["x".into()]))),
        ])
    });
    let list = (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(first, last, limit)| {
        let (first, last) = (Partition(first), Partition(last));
        Body::List { first, last, bucket: BucketId::first(""), after: None, limit }
    });
    let count = (prop::collection::vec(any::<u32>().prop_map(Partition), 0..4), any::<bool>())
        .prop_map(|(partitions, as_owner)| Body::Count {
            bucket: BucketId::first(""),
            partitions,
            as_owner,
        });
    prop_oneof![
        request.prop_map(Body::Forward),
        Just(Body::Forwarded(Err(RequestError::Timeout))),
        any_key().prop_map(|key| Body::Read { key, scope: Scope::Whole }),
        any_key().prop_map(|key| Body::Digest { key, scope: Scope::Whole }),
        any::<u128>().prop_map(|digest| Body::Digested(crate::ViewDigest(digest))),
        (any_key(), 0..5_u64).prop_map(|(key, owner)| Body::Hint {
            owner: NodeId(owner),
            key,
            delta: Delta::default(),
        }),
        any_failure(()).prop_map(Body::Hinted),
        any::<u8>().prop_map(|core| Body::Draining { core }),
        any::<u8>().prop_map(|cores| Body::DrainingKnown { cores }),
        any_failure(View::default()).prop_map(Body::Shown),
        any_key().prop_map(|key| Body::Merge { key, delta: Delta::default(), show: None }),
        any_failure(None).prop_map(Body::Merged),
        list,
        any_failure(Listing::default())
            .prop_map(|listing| Body::Listed { listing, foreign: Vec::new() }),
        count,
        any_failure(u64::MAX).prop_map(Body::Counted),
        any::<u32>().prop_map(|limit| Body::Conflicts { after: None, limit }),
        any_failure(ConflictPage::default()).prop_map(Body::ConflictsListed),
        any::<u32>().prop_map(|at| Body::Stand { partitions: vec![Partition(at); 2] }),
        any::<u64>().prop_map(|at| {
            let stands = Stands { sequence: Sequence(at), ..Stands::default() };
            Body::Stands { stands: vec![(Partition(7), stands); 2] }
        }),
        any_compare().prop_map(Body::Compare),
        any_compared().prop_map(Body::Compared),
        any_key().prop_map(|key| Body::Explain { key }),
        any_failure(View::default()).prop_map(|view| Body::Explained {
            view,
            pending_for: vec![NodeId(77)],
            writes: Vec::new()
        }),
    ]
}

fn any_event() -> impl Strategy<Value = Event> {
    let id = (0..2_u8, 0..40_u64)
        .prop_map(|(core, step)| RequestId { core, number: INCARNATION.wrapping_add(step) });
    let message =
        (id, any::<u64>(), any::<u32>(), any_body()).prop_map(|(id, time, budget_ms, body)| {
            Message { id, trace: 9, sequence: Sequence(0), time: Stamp(time), budget_ms, body }
        });
    let received = (0..5_u64, message)
        .prop_map(|(from, message)| Event::Received { from: NodeId(from), message });
    let answer = prop::sample::select(vec![
        Answer::Durable,
        Answer::Merged(None),
        Answer::View(View::default()),
        Answer::Failed(StorageError::Full),
        Answer::Outbox(Vec::new()),
        Answer::Listed(Listing::default()),
        Answer::Count(3),
        Answer::Conflicts(ConflictPage::default()),
        made(Delta::default(), View::default()),
    ]);
    let stored = (0..40_u64, answer)
        .prop_map(|(ticket, answer)| Event::Storage { ticket: Ticket(ticket), answer });
    let call = prop_oneof![
        any_key().prop_map(Call::Explain),
        Just(Call::Count { bucket: "default".into() }),
        any::<u32>().prop_map(|limit| Call::Scan(ScanRequest {
            bucket: "default".into(),
            cursor: None,
            limit,
        })),
        prop::option::of(0..5_u64).prop_map(|node| {
            let after = || ConflictPosition(Bytes::from_static(b"conflict"));
            let cursor = node.map(|node| ConflictCursor { node: NodeId(node), after: after() });
            Call::Conflicts(ConflictsRequest { cursor, limit: 9 })
        }),
        any_key().prop_map(|key| Call::Request(Request::update(key, Operation::Delete(None)))),
    ];
    let call = (any::<u64>(), call).prop_map(|(id, call)| Event::Call { id: CallId(id), call });
    prop_oneof![
        4 => received,
        3 => stored,
        2 => call,
        1 => (0..5_u64).prop_map(|node| Event::LinkUp(NodeId(node))),
        1 => (0..5_u64).prop_map(|node| Event::LinkDown(NodeId(node))),
        1 => Just(Event::Tick),
    ]
}

/// Lets time pass until every request can have ended. The engine answers every command, if only by
/// a failure: `effects` begin with those not answered yet. Returns how many replies were sent.
fn end_all(core: &mut Core, mut now: u64, mut effects: Vec<Effect>) -> usize {
    let mut replies = 0;
    // A request that waited for another begins after it: at worst they end one by one.
    for _ in 0..=core.under_way() {
        now += 200_000;
        core.step(at(now), Event::Tick, &mut effects);
        while !effects.is_empty() {
            for effect in std::mem::take(&mut effects) {
                match effect {
                    Effect::Storage { ticket, .. } => {
                        let answer = Answer::Failed(StorageError::Full);
                        core.step(at(now), Event::Storage { ticket, answer }, &mut effects);
                    }
                    Effect::Send { message, .. } => {
                        replies += usize::from(matches!(message.body, Body::Forwarded(_)));
                    }
                    _ => {}
                }
            }
        }
    }
    replies
}

#[test]
fn reads_from_a_peer_that_wait_for_the_same_removal_are_all_answered() {
    let (mut core, mut effects) = (core(), Vec::new());
    let removal = Operation::Orset(OrsetOp::Remove(vec!["x".into()]));
    let requests = [
        Request::update(key(), removal),
        Request::get(key(), Scope::Headers),
        Request::get(key(), Scope::Headers),
    ];
    for (number, request) in (7..).zip(requests) {
        let id = RequestId { core: 0, number };
        let message = Message {
            id,
            trace: 0,
            sequence: Sequence(0),
            time: Stamp(0),
            budget_ms: 1_000,
            body: Body::Forward(request),
        };
        core.step(at(0), Event::Received { from: NodeId(2), message }, &mut effects);
    }
    assert_eq!(core.under_way(), 3);
    assert_eq!(end_all(&mut core, 0, effects), 3);
    assert_eq!(core.under_way(), 0);
}

proptest! {
    /// Whatever comes in, in whatever order: no panic, bounded tables, and every request ends.
    #[test]
    fn nothing_that_comes_in_makes_the_core_panic_or_keep_a_request_for_ever(
        events in prop::collection::vec((0..50_u64, any_event()), 0..120),
    ) {
        let mut core = core();
        let mut now = 0;
        let mut effects = Vec::new();
        for (pause_ms, event) in events {
            now += pause_ms;
            core.step(at(now), event, &mut effects);
            // As many wait for a reply, and as many again go on in the background.
            prop_assert!(core.under_way() <= 20);
        }
        end_all(&mut core, now, effects);
        prop_assert_eq!(core.under_way(), 0);
    }
}
