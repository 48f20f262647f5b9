//! What a review found: it does not hold yet.

use clock::{Actor, CausalContext, NodeId, Stamp};
use values::{Blob, Limits, MapOp, Mint, Operation, Tag, Value, View};

/// What a message between nodes holds (`wire::PEER_FRAME_BYTES_MAX`).
const MESSAGE_BYTES: usize = 64 << 20;

/// A delta that is longer than a message is merged by its coordinator and never arrives anywhere
/// else, also not from the outbox. The delete of a map names every field that was ever incremented.
#[test]
fn the_delete_of_a_map_of_a_million_counters_fits_in_a_message() {
    const FIELDS: usize = 2_000;
    let mut value = Value::default();
    let mint = |node: u64| Mint {
        actor: Actor::new(NodeId(u64::MAX - node), u64::MAX - node, 9_000),
        stamp: Stamp::from_millis(1_700_000_000_000),
    };
    let none = CausalContext::default();
    for number in 0..FIELDS {
        for node in [1, 2] {
            let field = Blob::from(format!("visits:page:{number:08}"));
            let increment = Operation::Map(MapOp::Increment { field, by: 1 });
            let view = View::of(value.clone());
            let made = increment.prepare(&view, &none, mint(node), &Limits::default());
            value.apply(&made.expect("an increment").delta);
        }
    }
    let delete = Operation::Delete(Some(Tag::MAP));
    let made = delete.prepare(&View::of(value), &none, mint(1), &Limits::default());
    let delta = made.expect("a delete").delta;
    let bytes = clock::encode(&delta).len() / FIELDS * 1_000_000;
    assert!(bytes <= MESSAGE_BYTES, "about {bytes} bytes for a million fields");
}
