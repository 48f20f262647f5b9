//! Explanations as they are shown.

use bytes::Bytes;
use clock::{Actor, CausalContext, Dot, NodeId, Stamp};
use replication::{Coordinated, Explanation, NamedBy, ReplicaView, RequestName};
use serde_json::json as document;
use values::{BytesOp, Key, Limits, Mint, Operation, Tag, Value, View};

use super::*;

const NODES: [(u64, &str); 3] = [(1, "a"), (2, "b"), (3, "c")];

/// A put at a node by a client that has seen `seen`; what it made, and what its journal says.
fn put(
    node: u64,
    second: u64,
    value: &'static str,
    before: &Value,
    seen: &[Dot],
) -> (Value, Coordinated) {
    let actor = Actor::new(NodeId(node), node, 0);
    let stamp = Stamp::from_millis(1_735_689_600_000 + 1_000 * second);
    let observed: CausalContext = seen.iter().copied().collect();
    let operation = Operation::Bytes(BytesOp::Put(Bytes::from_static(value.as_bytes())));
    let view = View::of(before.clone());
    let mint = Mint { actor, stamp, round: None };
    let prepared = operation.prepare(&view, &observed, mint, &Limits::default()).unwrap();
    let mut after = before.clone();
    after.apply(&prepared.delta);
    let write = Coordinated {
        node: NodeId(node),
        minted: prepared.minted,
        time: stamp,
        operation: operation.name().into(),
        name: None,
        seen: seen.iter().map(|&dot| (Tag::BYTES, dot)).collect(),
        seen_more: false,
    };
    (after, write)
}

/// Tea at a, which became green tea at a, black tea at b and white tea at c; a has not heard of c's.
fn three_siblings() -> Explanation {
    let (tea, first) = put(1, 0, "tea", &Value::default(), &[]);
    let dot = first.minted.unwrap().first;
    let (mut at_a, green) = put(1, 1, "green <tea>", &tea, &[dot]);
    let (at_b, mut black) = put(2, 2, "black", &tea, &[dot]);
    let (at_c, white) = put(3, 3, "white", &tea, &[dot]);
    let id = Bytes::from_static(b"7");
    black.name = Some(RequestName { by: NamedBy::Application, client: "shop".into(), id });
    at_a.merge(&at_b);
    let mut merged = at_a.clone();
    merged.merge(&at_c);
    let replica = |node, value: &Value, pending_for| ReplicaView {
        node: NodeId(node),
        view: Ok(View::of(value.clone())),
        pending_for,
    };
    Explanation {
        key: Key::new("default", "drink").unwrap(),
        partition: 3,
        names: NODES.map(|(id, name)| (NodeId(id), name.to_owned())).into(),
        preference_list: NODES.map(|(id, _)| NodeId(id)).to_vec(),
        n: 3,
        replicas: vec![
            replica(1, &at_a, Vec::new()),
            replica(2, &merged, Vec::new()),
            replica(3, &merged, vec![NodeId(1)]),
        ],
        merged: View::of(merged),
        writes: vec![first, green, black, white],
    }
}

#[test]
fn text_shows_who_holds_what_and_a_line_for_each_write() {
    assert_eq!(
        text(&three_siblings()),
        "\
key        \"drink\" in bucket \"default\"
type       bytes
partition  3
owners     a, b, c (n=3)
siblings   3, until someone puts back what they come to, with the context of a read
merged, as a read of all of them would give
  bytes {a:2, b:1, c:1}
    \"green <tea>\" a:2 at 2025-01-01T00:00:01.000Z
    \"black\" b:1 at 2025-01-01T00:00:02.000Z
    \"white\" c:1 at 2025-01-01T00:00:03.000Z
at a
  bytes {a:2, b:1}
    \"green <tea>\" a:2 at 2025-01-01T00:00:01.000Z
    \"black\" b:1 at 2025-01-01T00:00:02.000Z
at b (the same)
at c (the same)
  holds what is still to reach a
history, as far as the nodes remember: ● live, ○ superseded, × a removal
       a b c
    1  ○ · ·  a:1  bytes put  seen {}  at 2025-01-01T00:00:00.000Z
    2  ● · ·  a:2  bytes put  \"green <tea>\"  seen {a:1}  after 1  at 2025-01-01T00:00:01.000Z
    3  · ● ·  b:1  bytes put  \"black\"  seen {a:1}  as \"shop:7\"  after 1  at 2025-01-01T00:00:02.000Z
    4  · · ●  c:1  bytes put  \"white\"  seen {a:1}  after 1  at 2025-01-01T00:00:03.000Z
"
    );
}

#[test]
fn json_says_the_same() {
    let shown = json(&three_siblings());
    assert_eq!(shown["owners"], document!(["a", "b", "c"]));
    assert_eq!((&shown["types"], &shown["siblings"]), (&document!(["bytes"]), &document!(3)));
    assert_eq!(
        shown["replicas"][2],
        document!({
            "node": "c", "owner": true, "same": true, "pending_for": ["a"],
            "types": shown["merged"],
        })
    );
    assert_eq!(
        shown["merged"]["bytes"]["entries"][1],
        document!({ "dots": ["b:1"], "value": "black", "time": "2025-01-01T00:00:02.000Z" })
    );
    assert_eq!(
        shown["writes"][2],
        document!({
            "dots": "b:1", "live": true, "after": [0], "time": "2025-01-01T00:00:02.000Z",
            "node": "b", "operation": "bytes put", "seen": "{a:1}", "name": "shop:7",
        })
    );
    assert_eq!(shown["writes"][0]["live"], false);
}

#[test]
fn the_drawing_has_every_write_once_and_a_line_for_each_that_was_seen() {
    let drawn = svg(&three_siblings());
    assert!(drawn.starts_with("<svg xmlns=") && drawn.ends_with("</svg>\n"));
    let count = |what: &str| drawn.matches(what).count();
    assert_eq!(
        (count("class=\"live\""), count("class=\"past\""), count("class=\"edge\"")),
        (3, 1, 3)
    );
    assert!(drawn.contains("green &lt;tea&gt;"), "values are escaped");
    assert!(!drawn.contains("<tea>"));
}

#[test]
fn what_no_node_remembers_is_shown_by_what_is_held() {
    let mut found = three_siblings();
    found.writes.clear();
    let history = history::History::of(&DotNames::of(&found), 10);
    assert!(history.writes.iter().all(|node| node.is_live && node.write.is_none()));
    let labels: Vec<&str> = history.writes.iter().map(|node| node.label.as_str()).collect();
    assert_eq!(labels, ["a:2", "b:1", "c:1"]);
    found.merged = View::default();
    assert!(svg(&found).contains("no write of it is remembered"));
}

#[test]
fn of_a_long_history_the_latest_writes_are_shown() {
    let found = three_siblings();
    let history = history::History::of(&DotNames::of(&found), 2);
    assert_eq!((history.writes.len(), history.left_out), (2, 2));
    // What came before the first that is shown leads nowhere.
    assert!(history.writes.iter().all(|node| node.after.is_empty()));
}

#[test]
fn a_write_seen_through_another_is_not_directly_before() {
    let (one, first) = put(1, 0, "1", &Value::default(), &[]);
    let (two, second) = put(1, 1, "2", &one, &[first.minted.unwrap().first]);
    let (three, third) = put(2, 2, "3", &two, &[second.minted.unwrap().first]);
    let mut found = three_siblings();
    found.merged = View::of(three);
    found.writes = vec![first, second, third];
    let history = history::History::of(&DotNames::of(&found), 10);
    let after: Vec<_> = history.writes.iter().map(|node| node.after.clone()).collect();
    assert_eq!(after, [vec![], vec![0], vec![1]]);
}

#[test]
fn increments_within_a_sum_are_live_and_bytes_that_are_no_text_are_escaped() {
    use values::CounterOp;
    let actor = Actor::new(NodeId(1), 1, 0);
    let (mut value, mut writes) = (Value::default(), Vec::new());
    for (at, operation) in
        [CounterOp::Add(5), CounterOp::Reset, CounterOp::Add(2), CounterOp::Add(1)]
            .into_iter()
            .map(Operation::Counter)
            .enumerate()
    {
        let mint = Mint { actor, stamp: Stamp::from_millis(at as u64), round: None };
        writes.push(coordinated(&mut value, &operation, mint));
    }
    let mut found = three_siblings();
    (found.merged, found.writes) = (View::of(value), writes);
    let history = history::History::of(&DotNames::of(&found), 10);
    let live: Vec<bool> = history.writes.iter().map(|node| node.is_live).collect();
    assert_eq!(live, [false, false, true, true]);
    assert!(history.writes[1].is_removal());

    assert_eq!(quoted(b"\xff\x00", 10), "\"\\xff\\x00\"");
    assert_eq!(quoted("ä".repeat(70).as_bytes(), 3), "\"äää\"… (140 bytes)");
}

/// Does `operation` to `value`, and what a journal has of it.
fn coordinated(value: &mut Value, operation: &Operation, mint: Mint) -> Coordinated {
    let (view, none) = (View::of(value.clone()), CausalContext::default());
    let prepared = operation.prepare(&view, &none, mint, &Limits::default()).unwrap();
    value.apply(&prepared.delta);
    Coordinated {
        node: NodeId(1),
        minted: prepared.minted,
        time: mint.stamp,
        operation: operation.name().into(),
        name: None,
        seen: Vec::new(),
        seen_more: false,
    }
}

/// Of increments under names all but the last are five rounds old when that comes; and one without a name.
#[test]
fn increments_whose_names_are_folded_are_marked_and_what_they_add_is_told() {
    use clock::{RingId, Round};
    use values::{CounterOp, RegisterOp};
    let add = |by, is_register: bool| match is_register {
        false => Operation::Counter(CounterOp::Add(by)),
        true => Operation::Register(RegisterOp::Increment(by)),
    };
    for (is_register, tag) in [(false, Tag::COUNTER), (true, Tag::LWW)] {
        let (mut value, mut writes) = (Value::default(), Vec::new());
        for (by, name, round) in [(5, 1, 1), (7, 2, 1), (-2, 0, 1), (1, 3, 9)] {
            let own = Actor::new(NodeId(1), 1, 0);
            let actor = if name == 0 { own } else { Actor::named(name, 7, 7) };
            let round = Some(Round { ring: RingId(1), number: round });
            let mint = Mint { actor, stamp: Stamp::from_millis(writes.len() as u64), round };
            writes.push(coordinated(&mut value, &add(by, is_register), mint));
        }
        let mut found = three_siblings();
        (found.merged, found.writes) = (View::of(value), writes);
        let shown = json(&found);
        let told = shown["writes"].as_array().unwrap();
        let marks: Vec<_> =
            told.iter().map(|write| (&write["live"], write.get("folded").is_some())).collect();
        let yes = &document!(true);
        assert_eq!(marks, [(yes, true), (yes, true), (yes, false), (yes, false)], "{tag}");
        let entries = shown["merged"][tag.to_string()]["entries"].as_array().unwrap();
        let sum: i64 = entries.iter().filter_map(|entry| entry["adds"].as_i64()).sum();
        assert_eq!(sum, 11, "each counts once");
        let folded = entries.iter().find(|entry| entry.get("folded").is_some()).unwrap();
        assert_eq!(*folded, document!({ "dots": [], "adds": 12, "folded": 2 }));
        let text = text(&found);
        assert!(text.contains("× a removal, ◐ folded into a sum"), "{text}");
        assert_eq!(text.matches('◐').count(), 3, "{text}");
        let drawn = svg(&found);
        let count = |class: &str| drawn.matches(class).count();
        assert_eq!((count("class=\"folded\""), count("class=\"live\"")), (2, 2));
        assert!(drawn.contains("dashed: folded into a sum"));
        // All of it is taken away.
        let reset = match is_register {
            false => Operation::Counter(CounterOp::Reset),
            true => Operation::Delete(None),
        };
        let mint = Mint {
            actor: Actor::new(NodeId(1), 1, 0),
            stamp: Stamp::from_millis(9),
            round: Some(Round { ring: RingId(1), number: 9 }),
        };
        let made =
            reset.prepare(&found.merged, &CausalContext::default(), mint, &Limits::default());
        let mut value = found.merged.value.clone();
        value.apply(&made.unwrap().delta);
        found.merged = View::of(value);
        let history = history::History::of(&DotNames::of(&found), 10);
        assert!(history.writes.iter().all(|node| !node.is_live && !node.is_folded), "{tag}");
    }
}

/// A set of 20,000 elements, whose latest writes a journal remembers.
#[test]
fn of_a_large_and_busy_key_every_form_tells_the_latest_writes_and_counts_the_others() {
    use values::OrsetOp;
    let actor = Actor::new(NodeId(1), 1, 0);
    let mut value = Value::default();
    let mut add = |from: u64, to: u64| {
        let names = (from..to).map(|n| Bytes::from(format!("{n:05}"))).collect();
        let mint = Mint { actor, stamp: Stamp::from_millis(to), round: None };
        let written = coordinated(&mut value, &Operation::Orset(OrsetOp::Add(names)), mint);
        Coordinated { seen: vec![(Tag::ORSET, Dot::new(actor, from))], ..written }
    };
    add(0, 19_700);
    let writes: Vec<Coordinated> = (19_700..20_000).map(|n| add(n, n + 1)).collect();
    let mut found = three_siblings();
    (found.merged, found.writes) = (View::of(value), writes);

    let shown = json(&found);
    let told = shown["writes"].as_array().unwrap();
    assert_eq!((told.len(), &shown["writes_left_out"]), (256, &document!(19_744)));
    // Elements that no journal remembers have no time, so they are the first to be left out.
    assert_eq!((&told[0]["dots"], &told[0]["after"]), (&document!("a:19745"), &document!([])));
    assert_eq!(
        (&told[255]["dots"], &told[255]["after"]),
        (&document!("a:20000"), &document!([254]))
    );
    assert!(text(&found).contains("(19960 earlier ones)"));
    assert!(svg(&found).contains("19940 earlier ones are left out"));
}

#[test]
fn what_came_directly_before_is_found_by_asking_once_for_each_pair() {
    let mut asked = 0;
    // The first 128 have seen nothing, the others all of those: most have something to compare.
    let after = history::directly_after(256, |place, earlier| {
        asked += 1;
        earlier < 128 && place >= 128
    });
    assert_eq!(asked, 256 * 255 / 2);
    assert!(after[..128].iter().all(Vec::is_empty));
    assert!(after[128..].iter().all(|before| *before == (0..128).collect::<Vec<_>>()));
}

#[test]
fn a_write_said_to_end_before_it_begins_is_shown_and_names_nothing() {
    let mut found = three_siblings();
    let minted = found.writes[1].minted.as_mut().unwrap();
    minted.last = minted.first.counter - 1;
    let history = history::History::of(&DotNames::of(&found), 10);
    let live: Vec<(&str, bool)> =
        history.writes.iter().map(|node| (node.label.as_str(), node.is_live)).collect();
    let expected = [("a:1", false), ("a:2", true), ("a:2..1", false), ("b:1", true), ("c:1", true)];
    assert_eq!(live, expected);
}

/// What it is shown as is `as "…"` in both, and the label of its dot.
#[test]
fn an_idempotency_key_that_would_steer_a_terminal_is_escaped() {
    let mut found = three_siblings();
    let write = &mut found.writes[2];
    write.minted.as_mut().unwrap().first.actor = Actor::named(7, 7, 7);
    write.name.as_mut().unwrap().id = Bytes::from_static(b"\x1b[2J\n");
    let text = text(&found);
    assert!(!text.contains('\x1b'), "{text}");
    assert!(text.contains(r"shop:\u{1b}[2J\n:1"), "{text}");
}

#[tokio::test]
async fn forms_are_not_made_where_requests_are_served() {
    let loops = std::thread::current().id();
    let (thread, shown) =
        aside(three_siblings(), |found| (std::thread::current().id(), text(found))).await.unwrap();
    assert_ne!(thread, loops);
    assert_eq!(shown, text(&three_siblings()));
}
