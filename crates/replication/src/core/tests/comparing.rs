//! Peers that ask and answer comparisons as nobody should.

use std::collections::VecDeque;

use bytes::Bytes;
use clock::CausalContext;
use proptest::prelude::*;
use storage::{
    ElementKey, ElementKeys, ElementRange, EngineConfig, ListPosition, MemoryEngine, TreeKey,
    TreeKeys, TreeNode, TreePath,
};
use values::{Blob, Tag};

use super::*;
use crate::{Compare, Compared};

fn any_position() -> impl Strategy<Value = ListPosition> {
    prop_oneof![
        any_key().prop_map(|key| ListPosition::of(&key)),
        prop::collection::vec(any::<u8>(), 0..600).prop_map(|bytes| ListPosition(bytes.into())),
    ]
}

fn any_end() -> impl Strategy<Value = Bytes> {
    let long = Just(Bytes::from(vec![7; 600]));
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..4).prop_map(Bytes::from),
        prop::sample::select(vec!["a", "element 050", "z"]).prop_map(Bytes::from),
        long
    ]
}

fn any_range() -> impl Strategy<Value = ElementRange> {
    (any_end(), prop::option::of(any_end())).prop_map(|(from, until)| ElementRange { from, until })
}

fn any_node() -> impl Strategy<Value = TreeNode> {
    let count = prop::sample::select(vec![0, 1, 40, 1_000, u64::MAX]);
    (count, 0..3_u128, any::<bool>()).prop_map(|(count, digest, is_settled)| TreeNode {
        count,
        digest,
        is_settled,
    })
}

fn any_path() -> impl Strategy<Value = TreePath> {
    prop::collection::vec(0..18_u8, 0..14).prop_map(TreePath)
}

fn any_partition() -> impl Strategy<Value = Partition> {
    prop_oneof![0..9_u32, any::<u32>()].prop_map(Partition)
}

pub(super) fn any_compare() -> impl Strategy<Value = Compare> {
    let tag = || prop::sample::select(vec![Tag::ORSET, Tag::BYTES, Tag(200)]);
    let partitions = prop_oneof![
        prop::collection::vec(any_partition(), 0..6),
        (0..4_u32, 0..5_u32)
            .prop_map(|(first, count)| (first..first + count).map(Partition).collect()),
        Just((0..5_000).map(Partition).collect::<Vec<_>>()),
    ];
    prop_oneof![
        (0..5_u8, partitions, any_node()).prop_map(|(n, partitions, sum)| Compare::Roots {
            n,
            partitions,
            sum
        }),
        (0..5_u8, any_partition(), any_path()).prop_map(|(n, partition, path)| Compare::Children {
            n,
            partition,
            path
        }),
        (0..5_u8, any_partition(), any_path(), prop::option::of(any_position()))
            .prop_map(|(n, partition, path, after)| Compare::Keys { n, partition, path, after }),
        (any_key(), tag(), prop::collection::vec(any_range(), 0..20)).prop_map(
            |(key, tag, ranges)| {
                let seen = CausalContext::default();
                Compare::ElementNodes { key, tag, ranges, seen }
            }
        ),
        (any_key(), tag(), any_range()).prop_map(|(key, tag, range)| Compare::Elements {
            key,
            tag,
            range,
            seen: CausalContext::default(),
        }),
        (any_key(), tag()).prop_map(|(key, tag)| Compare::Complete {
            key,
            tag,
            seen: CausalContext::default(),
            context: CausalContext::default(),
        }),
    ]
}

pub(super) fn any_compared() -> impl Strategy<Value = Result<Compared, StorageError>> {
    let key =
        (any_key(), prop::option::of(0..3_u128)).prop_map(|(key, digest)| TreeKey { key, digest });
    let keys = (prop::collection::vec(key, 0..5), prop::option::of(any_position()))
        .prop_map(|(keys, next)| Compared::Keys(TreeKeys { keys, next }));
    let element = (any_end(), 0..3_u128)
        .prop_map(|(element, digest)| ElementKey { element: Blob::from(element), digest });
    let elements = (prop::collection::vec(element, 0..5), prop::option::of(any_end()))
        .prop_map(|(elements, next)| Compared::Elements(ElementKeys { elements, next }));
    prop_oneof![
        Just(Ok(Compared::Equal)),
        prop::collection::vec(any_node(), 0..20).prop_map(|nodes| Ok(Compared::Nodes(nodes))),
        any_node().prop_map(|node| Ok(Compared::Nodes(vec![node; 16]))),
        any_node().prop_map(|node| Ok(Compared::Nodes(vec![node; 4]))),
        keys.prop_map(Ok),
        elements.prop_map(Ok),
        Just(Ok(Compared::Completed)),
        Just(Err(StorageError::Busy)),
        Just(Err(StorageError::Dropped)),
        Just(Err(StorageError::Unseen)),
        Just(Err(StorageError::Corrupt("damage".into()))),
    ]
}

/// The core and an engine with something of everything, all compared once a second.
pub(super) fn with_engine() -> (Core, MemoryEngine) {
    let mut config = config();
    let shards = config.shards.clone();
    let interval_ms = Some(1_000);
    config.anti_entropy = AntiEntropyConfig { interval_ms, bytes_per_second: 1 << 20 };
    let engine = EngineConfig {
        node: ME,
        process: 5,
        shards,
        pending_bytes_max: 1 << 30,
        hint_bytes_max: u64::MAX,
        bounds: storage::EngineBounds::default(),
    };
    let mut engine = MemoryEngine::new(engine);
    let elements = (0..100).map(|number| Blob::from(format!("element {number:03}"))).collect();
    for (name, operation) in [
        ("a", Operation::Orset(OrsetOp::Add(elements))),
        ("b", Operation::Counter(CounterOp::Add(1))),
    ] {
        let command = Command::Update {
            key: Key::new("default", name).unwrap(),
            operation,
            lifetime: values::Lifetime::Usual,
            observed: CausalContext::default(),
            shown: Vec::new(),
            stamp: Stamp(1),
            named: None,
            limits: Arc::new(Limits::default()),
            durability: storage::Durability::Sync,
        };
        engine.execute_now(command);
    }
    (Core::new(config, Arc::new(Ownership::new(ring()))), engine)
}

proptest! {
    /// Whatever a peer answers, and whatever it asks meanwhile: no panic, every question is answered
    /// at most once, and the core comes to rest until the next comparison is due.
    #[test]
    fn no_answer_to_a_comparison_makes_the_core_panic_or_go_on_for_ever(
        answers in prop::collection::vec(any_compared(), 1..30),
        views in any::<bool>(),
        questions in prop::collection::vec(any_compare(), 0..10),
    ) {
        let (mut core, mut engine) = with_engine();
        let mut answers = answers.into_iter().cycle();
        let mut questions = questions.into_iter();
        let mut events = VecDeque::from([Event::LinkUp(NodeId(2))]);
        let mut steps = 0;
        while let Some(event) = events.pop_front() {
            steps += 1;
            prop_assert!(steps < 20_000, "it goes on for ever");
            let mut effects = Vec::new();
            core.step(at(0), event, &mut effects);
            for effect in effects {
                match effect {
                    Effect::Storage { ticket, command } => {
                        let given = engine.execute_now(command).into_iter();
                        events.extend(given.map(|answer| Event::Storage { ticket, answer }));
                    }
                    Effect::Send { to, message } if message.body.is_question() => {
                        let body = match &message.body {
                            Body::Merge { .. } => Body::Merged(Ok(None)),
                            Body::Read { .. } if views => Body::Shown(Ok(View::default())),
                            _ => Body::Compared(answers.next().unwrap()),
                        };
                        let (id, trace, time) = (message.id, 0, Stamp(1));
                        let message = Message { id, trace, sequence: Sequence(0), time, budget_ms: 0, body };
                        events.push_back(Event::Received { from: to, message });
                        if let Some(question) = questions.next() {
                            let id = RequestId { core: 0, number: steps };
                            let body = Body::Compare(question);
                            let message = Message { id, trace, sequence: Sequence(0), time, budget_ms: 9, body };
                            events.push_back(Event::Received { from: to, message });
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

#[test]
fn a_node_that_owns_nothing_of_it_is_told_nothing() {
    let (mut core, _) = with_engine();
    let sum = TreeNode::EMPTY;
    for (from, body) in [
        // No member at all.
        (9, Compare::Roots { n: 3, partitions: vec![Partition(1)], sum }),
        (
            9,
            Compare::Keys { n: 3, partition: Partition(1), path: TreePath::default(), after: None },
        ),
        // No class, no partition, no order, too many shards at once.
        (2, Compare::Roots { n: 2, partitions: vec![Partition(1)], sum }),
        (2, Compare::Roots { n: 3, partitions: vec![Partition(8)], sum }),
        (2, Compare::Roots { n: 3, partitions: vec![Partition(1), Partition(1)], sum }),
        (2, Compare::Roots { n: 3, partitions: vec![Partition(1), Partition(7)], sum }),
        (2, Compare::Roots { n: 3, partitions: Vec::new(), sum }),
    ] {
        let id = RequestId { core: 0, number: 1 };
        let what = format!("{body:?}");
        let message = Message {
            id,
            trace: 0,
            sequence: Sequence(0),
            time: Stamp(1),
            budget_ms: 9,
            body: Body::Compare(body),
        };
        let mut effects = Vec::new();
        core.step(at(0), Event::Received { from: NodeId(from), message }, &mut effects);
        let answers: Vec<_> = effects
            .into_iter()
            .map(|effect| match effect {
                Effect::Send { message, .. } => message.body,
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(
            matches!(&answers[..], [Body::Compared(Err(StorageError::Incomparable(_)))]),
            "{what}: {answers:?}"
        );
    }
}
