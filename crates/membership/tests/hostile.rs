//! Members can go mad, and files can be damaged: whatever comes in is bounded, refused by a reason, or
//! set right by the node that it concerns; nothing panics.

use std::collections::BTreeSet;

use bytes::Bytes;
use clock::{NodeId, decode, encode, encoded_length};
use membership::{
    About, Body, ClusterId, Config, Delta, Destination, Digest, Effect, Ending, Entry, Event,
    Fresh, Gossip, Header, Incarnation, InvalidMessage, LINES_MAX, Line, Load, MEMBERS_MAX, Mark,
    Message, NEWS_BYTES_MAX, News, Open, Phase, RECORDS_MAX, Record, Refusal, Report,
    VALUE_MERGED_BYTES_MAX, VALUES_MAX, VERSION_MAX, ValueLine,
};
use proptest::prelude::{any, prop_assert, proptest};

const CLUSTER: ClusterId = ClusterId(7);
const OWN: NodeId = NodeId(1 << 60);
const PEER: NodeId = NodeId(1 << 61);

fn gossip() -> Gossip {
    let mut config = Config::new(OWN, "ducks", About::new("own", "own:1"), 1);
    config.bootstrap = Some(CLUSTER);
    let mut gossip = Gossip::new(config, None, 0).expect("valid");
    gossip.step(0, Event::Tick { random: 1 }, &mut Vec::new());
    gossip
}

fn said(body: Body) -> Message {
    let incarnation = Incarnation { generation: 1, nonce: 2 };
    let (cluster, ids) = ("ducks".to_owned(), BTreeSet::from([CLUSTER]));
    let header = Header { cluster, ids, incarnation, beat: 1, address: "peer:1".into() };
    Message { header, body }
}

fn record(generation: u64, version: u64) -> Record {
    let entry = Entry {
        incarnation: Incarnation { generation, nonce: 9 },
        version,
        joined: 1,
        over: None,
        phase: Phase::Up,
        about: About::new("somebody", "somewhere:1"),
        load: Load::default(),
    };
    Record { entry, ended: 0 }
}

fn news(node: NodeId, record: Record) -> News {
    News { node, record, beat: 1, age_ms: 0 }
}

fn receive(gossip: &mut Gossip, message: Message) -> Vec<Effect> {
    let mut effects = Vec::new();
    gossip.step(1_000, Event::Received { from: PEER, message }, &mut effects);
    effects
}

/// A node that knows [`PEER`].
fn acquainted() -> Gossip {
    let mut gossip = gossip();
    let mut peer = record(1, 1);
    peer.entry.incarnation.nonce = 2;
    told(&mut gossip, vec![news(PEER, peer)]);
    gossip
}

fn told(gossip: &mut Gossip, news: Vec<News>) -> Vec<Effect> {
    receive(gossip, said(Body::Delta(Delta { news, ..Delta::default() })))
}

fn sent(effects: &[Effect]) -> Vec<&Body> {
    let mut sent = Vec::new();
    for effect in effects {
        if let Effect::Send { message, .. } = effect {
            sent.push(&message.body);
        }
    }
    sent
}

#[test]
fn a_flood_of_unknown_members_is_bounded_and_reported() {
    let mut gossip = acquainted();
    let flood = |from: usize, count: usize| -> Vec<News> {
        (from..from + count).map(|node| news(NodeId(node as u64 + 1), record(1, 1))).collect()
    };
    // The two nodes themselves are there already.
    told(&mut gossip, flood(0, RECORDS_MAX - 3));
    assert_eq!(gossip.table().len(), RECORDS_MAX - 1);
    let effects = told(&mut gossip, flood(RECORDS_MAX - 3, 3));
    assert_eq!(gossip.table().len(), RECORDS_MAX);
    let full = Effect::Report(Report::Full { node: PEER });
    assert_eq!(effects.iter().filter(|&effect| *effect == full).count(), 1);
    // Who is known already is still heard.
    told(&mut gossip, vec![news(NodeId(1), record(1, 2))]);
    assert_eq!(gossip.table().get(NodeId(1)).unwrap().entry.version, 2);
}

#[test]
fn a_newcomer_to_a_full_cluster_is_refused() {
    let mut gossip = gossip();
    let all = (2..=MEMBERS_MAX as u64).map(|node| news(NodeId(node), record(1, 1)));
    told(&mut gossip, all.collect());
    assert_eq!(gossip.table().len(), MEMBERS_MAX);
    let effects = receive(&mut gossip, said(Body::Ping));
    assert_eq!(sent(&effects), [&Body::Refused(Refusal::Full)]);
}

/// A thousand members and as many as there can be: no message grows beyond its bound, and what does not
/// fit is found in later exchanges, the newest first.
#[test]
fn messages_are_bounded_and_the_newest_records_go_first() {
    for count in [1_000, RECORDS_MAX as u64 - 2] {
        let mut gossip = acquainted();
        let all = (1..=count).map(|node| news(NodeId(node | 1 << 62), record(1, 1)));
        told(&mut gossip, all.collect());
        told(&mut gossip, vec![news(NodeId(500 | 1 << 62), record(1, 2))]);
        let open = Open { roster: 0, marks: Vec::new(), values: 0 };
        let effects = receive(&mut gossip, said(Body::Open(open)));
        let [Body::Digest(digest)] = sent(&effects)[..] else { panic!("{:?}", sent(&effects)) };
        assert_eq!(digest.lines.len(), LINES_MAX.min(count as usize + 2));
        assert!(encoded_length(digest) < 80_000, "{}", encoded_length(digest));

        let nobody = Digest { after: None, until: None, lines: Vec::new(), values: None };
        let effects = receive(&mut gossip, said(Body::Digest(nobody)));
        let [Body::Delta(delta)] = sent(&effects)[..] else { panic!("{:?}", sent(&effects)) };
        assert!(encoded_length(delta) < NEWS_BYTES_MAX + 1_000);
        assert!(delta.news.len() > 500);
        assert_eq!(delta.news[0].node, NodeId(500 | 1 << 62));
    }
}

/// Where rosters are equal as where they differ: what is wanted of more members than a list may name is
/// asked for in later exchanges.
#[test]
fn wants_are_bounded_however_many_members_have_news() {
    let mut gossip = acquainted();
    let all = (1..=LINES_MAX as u64 + 1).map(|node| news(NodeId(node), record(1, 1)));
    told(&mut gossip, all.collect());
    let mut effects = Vec::new();
    gossip.step(2_000, Event::Tick { random: 1 }, &mut effects);
    let opened = sent(&effects).into_iter().find_map(|body| match body {
        Body::Open(open) => Some(open.clone()),
        _ => None,
    });
    let mut open = opened.expect("a round opens an exchange");
    open.marks.iter_mut().for_each(|mark| mark.version += 1);
    let mut effects = Vec::new();
    let event = Event::Received { from: PEER, message: said(Body::Open(open)) };
    gossip.step(2_000, event, &mut effects);
    let [Effect::Send { message, .. }] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!(message.check(), Ok(()));
    let Body::Delta(delta) = &message.body else { panic!("{message:?}") };
    assert_eq!(delta.wants.len(), LINES_MAX);
}

/// Digests of a table that is too long cover another part of it each time, and say which: what lies
/// outside is not taken for unknown.
#[test]
fn a_digest_of_a_part_says_nothing_of_the_rest() {
    let mut gossip = gossip();
    told(&mut gossip, (1..=3).map(|node| news(NodeId(node), record(1, 1))).collect());
    let mark = Mark { version: 1, beat: 1, age_ms: 0 };
    let incarnation = Incarnation { generation: 1, nonce: 9 };
    let line = Line { node: NodeId(2), incarnation, ended: 0, mark };
    let (after, until) = (Some(NodeId(1)), Some(NodeId(2)));
    let digest = Digest { after, until, lines: vec![line], values: None };
    let effects = receive(&mut gossip, said(Body::Digest(digest)));
    assert_eq!(sent(&effects), [&Body::Delta(Delta::default())]);
}

#[test]
fn a_forged_record_of_a_node_is_overruled_by_the_node() {
    let mut gossip = gossip();
    let own = gossip.own().clone();
    let mut forged = own.clone();
    forged.entry.version = 1_000;
    forged.entry.phase = Phase::Leaving;
    told(&mut gossip, vec![news(OWN, forged)]);
    assert_eq!((gossip.own().entry.version, gossip.own().entry.phase), (1_001, Phase::Up));
    // As far as counts go: then it is another generation.
    let mut forged = own.clone();
    forged.entry.version = VERSION_MAX;
    told(&mut gossip, vec![news(OWN, forged)]);
    assert_eq!(gossip.own().entry.incarnation.generation, 2);
    assert_eq!((gossip.own().entry.version, gossip.own().entry.phase), (1, Phase::Up));
    // So is a heartbeat that it never made.
    let fresh = vec![Fresh { node: OWN, generation: 2, beat: VERSION_MAX, age_ms: u64::MAX }];
    receive(&mut gossip, said(Body::Delta(Delta { fresh, ..Delta::default() })));
    assert_eq!(gossip.own().entry.incarnation.generation, 3);
    // No generation comes after the last one: the node says so and stops.
    let last = news(OWN, record(Incarnation::GENERATION_MAX, 1));
    let effects = told(&mut gossip, vec![last]);
    assert!(matches!(effects[..], [Effect::Ended(Ending::Superseded { .. })]), "{effects:?}");
    assert_eq!(receive(&mut gossip, said(Body::Ping)), []);
    assert_eq!(gossip.next_tick_ms(), u64::MAX);
}

#[test]
fn each_bound_of_a_message_holds_exactly() {
    let mark = Mark { version: 1, beat: 1, age_ms: u64::MAX };
    let incarnation = Incarnation { generation: 1, nonce: 9 };
    let line = |node| Line { node: NodeId(node), incarnation, ended: 0, mark };
    let open = |marks| Body::Open(Open { roster: 0, marks, values: 0 });
    let digest = |after, until, lines| Body::Digest(Digest { after, until, lines, values: None });
    let delta = |change: &dyn Fn(&mut Delta)| {
        let mut delta = Delta::default();
        change(&mut delta);
        Body::Delta(delta)
    };
    let value = |bytes| ("v".to_owned(), Bytes::from(vec![0; bytes]));
    let value_line = || ValueLine { name: "v".into(), digest: 0 };
    let fine = [
        open(vec![mark; RECORDS_MAX]),
        digest(Some(NodeId(1)), Some(NodeId(3)), vec![line(2), line(3)]),
        digest(None, None, (1..=LINES_MAX as u64).map(line).collect()),
        delta(&|it| it.wants = vec![NodeId(1); LINES_MAX]),
        delta(&|it| it.values = vec![value(VALUE_MERGED_BYTES_MAX)]),
        delta(&|it| it.compare = Some(vec![value_line(); VALUES_MAX])),
        delta(&|it| it.news = vec![news(NodeId(1), record(Incarnation::GENERATION_MAX, 1))]),
    ];
    for body in fine {
        assert_eq!(said(body).check(), Ok(()));
    }
    let beat = |beat| Fresh { node: NodeId(1), generation: 1, beat, age_ms: 0 };
    let left = || {
        let mut record = record(1, 1);
        record.entry.phase = Phase::Left;
        record
    };
    let bad = [
        (open(vec![mark; RECORDS_MAX + 1]), InvalidMessage::TooLong),
        (open(vec![Mark { version: 0, ..mark }]), InvalidMessage::Count),
        (open(vec![Mark { beat: VERSION_MAX + 1, ..mark }]), InvalidMessage::Count),
        (digest(None, None, vec![line(2), line(2)]), InvalidMessage::Node),
        (digest(Some(NodeId(2)), None, vec![line(2)]), InvalidMessage::Node),
        (digest(None, Some(NodeId(2)), vec![line(3)]), InvalidMessage::Node),
        (digest(None, None, vec![line(0)]), InvalidMessage::Node),
        (
            digest(None, None, (1..=LINES_MAX as u64 + 1).map(line).collect()),
            InvalidMessage::TooLong,
        ),
        (delta(&|it| it.wants = vec![NodeId(1); LINES_MAX + 1]), InvalidMessage::TooLong),
        (delta(&|it| it.wants = vec![NodeId(0)]), InvalidMessage::Node),
        (delta(&|it| it.fresh = vec![beat(VERSION_MAX + 1)]), InvalidMessage::Count),
        (delta(&|it| it.fresh = vec![beat(1), beat(1)]), InvalidMessage::Node),
        (delta(&|it| it.values = vec![value(VALUE_MERGED_BYTES_MAX + 1)]), InvalidMessage::Value),
        (delta(&|it| it.values_wanted = vec![String::new()]), InvalidMessage::Value),
        (
            delta(&|it| it.compare = Some(vec![value_line(); VALUES_MAX + 1])),
            InvalidMessage::TooLong,
        ),
    ];
    for (body, reason) in bad {
        let message = said(body);
        assert_eq!(message.check(), Err(reason));
        let mut gossip = gossip();
        let before = gossip.table().clone();
        let effects = receive(&mut gossip, message);
        assert_eq!(effects, [Effect::Report(Report::Malformed { node: PEER, reason })]);
        assert_eq!(*gossip.table(), before);
    }
    for record in [left(), record(0, 1), record(1, 0), record(Incarnation::GENERATION_MAX + 1, 1)] {
        let message = said(delta(&|it| it.news = vec![news(NodeId(1), record.clone())]));
        assert!(matches!(message.check(), Err(InvalidMessage::Entry(_))));
    }
}

/// Every kind of message that nodes send one another.
fn conversation() -> Vec<Message> {
    let mut ours = gossip();
    told(&mut ours, (1..=5).map(|node| news(NodeId(node), record(node, 3))).collect());
    let mut effects = Vec::new();
    for second in 1..40 {
        ours.step(second * 1_000, Event::Tick { random: second }, &mut effects);
    }
    let fresh = vec![Fresh { node: NodeId(1), generation: 1, beat: 4, age_ms: 1 }];
    let values = vec![("v".to_owned(), Bytes::from_static(b"w"))];
    let (news, wants) = (vec![news(OWN, record(1, 7))], vec![NodeId(3), OWN]);
    let delta = Delta { fresh, news, wants, values, ..Delta::default() };
    effects.extend(receive(&mut ours, said(Body::Delta(delta.clone()))));
    let open = Open { roster: 1, marks: Vec::new(), values: 1 };
    effects.extend(receive(&mut ours, said(Body::Open(open))));
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { message, .. } => Some(message),
        _ => None,
    });
    let ended = Refusal::Ended(Box::new(Record { ended: 1, ..record(1, 1) }));
    sent.chain([said(Body::Delta(delta)), said(Body::Ping), said(Body::Refused(ended))]).collect()
}

proptest! {
    #[test]
    fn no_damaged_message_panics_or_breaks_what_a_node_is_sure_of(
        damages in proptest::collection::vec((any::<u16>(), any::<u16>(), any::<u8>()), 1..40),
    ) {
        let messages = conversation();
        let mut gossip = gossip();
        for (number, (which, at, byte)) in damages.into_iter().enumerate() {
            let mut bytes = encode(&messages[usize::from(which) % messages.len()]);
            let at = 1 + usize::from(at) % (bytes.len() - 1);
            bytes[at] = byte;
            let Ok(message) = decode::<Message>(&bytes) else { continue };
            let from = if number % 2 == 0 { PEER } else { NodeId(3) };
            let mut effects = Vec::new();
            let now_ms = 1_000 * number as u64;
            gossip.step(now_ms, Event::Received { from, message }, &mut effects);
            gossip.step(now_ms, Event::Tick { random: u64::from(byte) }, &mut effects);
            for effect in &effects {
                if let Effect::Send { to, message } = effect {
                    prop_assert!(message.check().is_ok(), "{message:?}");
                    prop_assert!(*to != Destination::Node(OWN));
                }
            }
            prop_assert!(gossip.table().iter().all(|(_, record)| record.check().is_ok()));
            prop_assert!(gossip.own().entry.incarnation.nonce == 1);
        }
    }
}
