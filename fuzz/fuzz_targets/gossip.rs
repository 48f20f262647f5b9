//! What nodes say of one another: two messages to a node that knows its peer, or has a snapshot of
//! whatever the first part holds.

#![no_main]

use std::collections::BTreeSet;

use clock::NodeId;
use libfuzzer_sys::fuzz_target;
use membership::{
    About, ClusterId, Config, Effect, Event, Gossip, Message, RECORDS_MAX, Snapshot, VALUES_MAX,
};
use merganser_fuzz::{bounded, decoded, parts};

const OWN: NodeId = NodeId(1 << 60);
const PEER: NodeId = NodeId(1 << 61);

fuzz_target!(|input: &[u8]| {
    let [snapshot, first, second] = parts::<3>(input);
    // It is the node's own, and has a checksum on disk: what it holds was checked when it came.
    let is_sound = |snapshot: &Snapshot| {
        let mut records = snapshot.table.iter();
        snapshot.ids.len() <= ClusterId::MERGED_MAX
            && records.all(|(node, record)| node != NodeId::NAMED && record.check().is_ok())
    };
    let snapshot = decoded::<Snapshot>(snapshot).filter(is_sound);
    let mut config = Config::new(OWN, "ducks", About::new("own", "own:1"), 1);
    config.bootstrap = Some(ClusterId(7));
    let Ok(mut gossip) = Gossip::new(config, snapshot, 0) else { return };
    let mut now_ms = 0;
    tick(&mut gossip, now_ms);
    for message in [first, second].into_iter().filter_map(decoded::<Message>) {
        now_ms += 1_000;
        let _ = message.check();
        let length = first.len() + second.len();
        let event = Event::Received { from: PEER, message };
        bounded(length, || step(&mut gossip, now_ms, event));
        tick(&mut gossip, now_ms + 500);
    }
});

fn tick(gossip: &mut Gossip, now_ms: u64) {
    step(gossip, now_ms, Event::Tick { random: 1 });
}

fn step(gossip: &mut Gossip, now_ms: u64, event: Event) {
    let mut effects = Vec::new();
    gossip.step(now_ms, event, &mut effects);
    for effect in effects {
        match effect {
            Effect::Persist(snapshot) => {
                let again = clock::decode::<Snapshot>(&clock::encode(&snapshot));
                assert_eq!(again.as_ref(), Ok(&*snapshot));
            }
            Effect::Send { message, .. } => {
                assert_eq!(message.check(), Ok(()), "what it says is out of bounds: {message:?}");
                let again = clock::decode::<Message>(&clock::encode(&message));
                assert_eq!(again.as_ref(), Ok(&message));
            }
            _ => (),
        }
    }
    assert!(gossip.table().len() <= RECORDS_MAX);
    assert!(gossip.values().iter().count() <= VALUES_MAX);
    let members: BTreeSet<NodeId> = gossip.members(now_ms).map(|member| member.node).collect();
    assert_eq!(members.len(), gossip.table().len());
}
