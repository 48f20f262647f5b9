//! The outbox, listing and counting.

use super::*;
use crate::{ListPosition, Listing, OutboxPosition, Pending};

const OWNER: NodeId = NodeId(9);

fn defer(engine: &mut MemoryEngine, owner: NodeId, key: &Key, delta: &Delta) {
    assert_eq!(engine.execute_now(deferred(owner, key, delta)), [Answer::Durable]);
}

fn outbox(engine: &mut MemoryEngine, after: Option<OutboxPosition>, limit: usize) -> Vec<Pending> {
    outbox_of(engine, OWNER, after, limit)
}

fn outbox_of(
    engine: &mut MemoryEngine,
    owner: NodeId,
    after: Option<OutboxPosition>,
    limit: usize,
) -> Vec<Pending> {
    match engine.execute_now(Command::Outbox { owner, after, limit }).remove(0) {
        Answer::Outbox(pending) => pending,
        other => panic!("{other:?}"),
    }
}

fn deliver(engine: &mut MemoryEngine, pending: &Pending) {
    let (position, version) = (pending.position.clone(), pending.version);
    let command = Command::Delivered { position, version };
    assert_eq!(engine.execute_now(command), [Answer::Durable]);
}

#[test]
fn deltas_for_one_owner_and_key_are_kept_as_their_join() {
    let (mut one, mut two) = (MemoryEngine::new(config(1, 1)), MemoryEngine::new(config(2, 2)));
    for name in ["x", "y", "x"] {
        let delta = updated(&mut one, &key("k"), add(&[name]));
        defer(&mut one, OWNER, &key("k"), &delta);
    }
    let pending = outbox(&mut one, None, 10);
    assert_eq!(pending.len(), 1);
    merged(&mut two, &key("k"), &pending[0].delta);
    assert_eq!(whole(&mut two, &key("k")), whole(&mut one, &key("k")));
    assert_eq!(one.engine().pending_for(OWNER), 1);
    assert_eq!(one.engine().pending_owners(&key("k")), [OWNER]);
    assert_eq!(one.engine().pending_owners(&key("other")), []);
}

#[test]
fn a_delta_that_grew_while_it_was_delivered_stays() {
    let mut one = MemoryEngine::new(config(1, 1));
    let delta = updated(&mut one, &key("k"), add(&["x"]));
    defer(&mut one, OWNER, &key("k"), &delta);
    let listed = outbox(&mut one, None, 1).remove(0);
    let delta = updated(&mut one, &key("k"), add(&["y"]));
    defer(&mut one, OWNER, &key("k"), &delta);
    deliver(&mut one, &listed);
    let again = outbox(&mut one, None, 1).remove(0);
    assert_ne!(again.version, listed.version);
    deliver(&mut one, &again);
    assert_eq!(outbox(&mut one, None, 1), []);
    assert_eq!(one.engine().pending_for(OWNER), 0);
    deliver(&mut one, &again);
    assert_eq!(one.engine().pending_for(OWNER), 0);
}

/// A replica that deferred the additions of `count` elements to one key, and the bytes that each
/// wrote.
fn deferred_elements(count: u32) -> (MemoryEngine, Vec<usize>) {
    let mut one = Stepped::open(&SimDisk::new(), config(1, 1));
    let mut written = Vec::new();
    for n in 0..count {
        one.give(1, update(&key("k"), add(&[&format!("{n:0180}")])));
        let Some((1, Answer::Prepared { delta, .. })) = one.answered().pop() else {
            panic!("it is prepared")
        };
        assert!(one.take());
        one.commit();
        one.checkpoint();
        one.give(2, deferred(OWNER, &key("k"), &delta));
        written.push(one.engine.pending_bytes());
        assert!(one.take());
        one.commit();
        one.answered();
        one.checkpoint();
    }
    (MemoryEngine::open(one.disk, config(1, 2)).unwrap(), written)
}

#[test]
fn keeping_a_delta_costs_one_short_row_however_much_is_pending() {
    let ((mut one, written), mut two) = (deferred_elements(2_000), MemoryEngine::new(config(2, 2)));
    assert!(written.iter().all(|&bytes| bytes < (64 << 10) + 600), "{:?}", written.iter().max());
    let (half, all) = (written[..1_000].iter().sum::<usize>(), written.iter().sum::<usize>());
    assert!(all < half * 5 / 2, "twice as many cost {all} bytes beside {half}");

    let pending = outbox(&mut one, None, 100);
    assert!((6..16).contains(&pending.len()), "{} rows", pending.len());
    for pending in &pending {
        assert!(clock::encode(&pending.delta).len() < (64 << 10) + 400);
        merged(&mut two, &key("k"), &pending.delta);
    }
    assert_eq!(whole(&mut two, &key("k")), whole(&mut one, &key("k")));
}

#[test]
fn a_key_is_counted_as_pending_until_its_last_row_was_delivered() {
    let (mut one, _) = deferred_elements(1_000);
    let pending = outbox(&mut one, None, 100);
    assert!(pending.len() > 1);
    // The latest row comes first: what is left is not the latest.
    for (n, listed) in pending.iter().enumerate() {
        assert_eq!(one.engine().pending_for(OWNER), 1);
        assert_eq!(one.engine().pending_owners(&key("k")), [OWNER]);
        let again = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
        assert_eq!(again.engine().pending_for(OWNER), 1);
        deliver(&mut one, listed);
        deliver(&mut one, listed);
        assert_eq!(outbox(&mut one, None, 100), pending[n + 1..]);
    }
    assert_eq!(one.engine().pending_for(OWNER), 0);
    assert_eq!(one.engine().pending_owners(&key("k")), []);
}

/// Keeping it in a row of its own would keep every value that was ever pending.
#[test]
fn a_put_that_supersedes_what_is_pending_takes_its_place_however_long_it_is() {
    let mut one = MemoryEngine::new(config(1, 1));
    let set = |value: &str| {
        Operation::Register(RegisterOp::Set { value: blob(value), at: None, replace: false })
    };
    let (long, mut sizes) = ("x".repeat(100_000), Vec::new());
    for n in 0..10 {
        for text in [format!("{n}{long}"), n.to_string()] {
            let seen = whole(&mut one, &key("raw")).context(Tag::BYTES).clone();
            let answers = one.execute_now(update_seeing(&key("raw"), put(&text), seen));
            let [Answer::Prepared { delta, .. }, Answer::Durable] = answers.as_slice() else {
                panic!("{answers:?}");
            };
            defer(&mut one, OWNER, &key("raw"), delta);
            let delta = updated(&mut one, &key("register"), set(&text));
            defer(&mut one, OWNER, &key("register"), &delta);
        }
        let pending = outbox(&mut one, None, 100);
        assert_eq!(pending.len(), 2);
        sizes.push(clock::encode(&pending[0].delta).len() + clock::encode(&pending[1].delta).len());
    }
    assert!(sizes.iter().all(|&bytes| bytes < 400), "{sizes:?}");
}

#[test]
fn a_position_that_is_no_rows_is_nothing_to_delete() {
    let (mut one, _) = deferred_elements(1);
    let listed = outbox(&mut one, None, 1).remove(0);
    for position in [vec![], vec![0; 16], vec![7; 600], listed.position.0[..20].to_vec()] {
        let position = OutboxPosition(position.into());
        deliver(&mut one, &Pending { position, ..listed.clone() });
    }
    assert_eq!(outbox(&mut one, None, 1), [listed]);
}

#[test]
fn an_owners_outbox_is_paged_in_order_and_apart_from_others() {
    let mut one = MemoryEngine::new(config(1, 1));
    let long = "k".repeat(1000);
    let names = ["a", "b", "c", long.as_str()];
    for name in names {
        let delta = updated(&mut one, &key(name), add(&["x"]));
        for owner in [NodeId(8), OWNER, NodeId(10)] {
            defer(&mut one, owner, &key(name), &delta);
        }
    }
    let (mut after, mut keys) = (None, BTreeSet::new());
    loop {
        let page = outbox(&mut one, after.clone(), 3);
        let Some(last) = page.last() else { break };
        after = Some(last.position.clone());
        keys.extend(page.into_iter().map(|pending| pending.key));
    }
    assert_eq!(keys, names.iter().map(|name| key(name)).collect());
}

#[test]
fn explain_shows_the_whole_key_and_for_whom_it_waits() {
    let mut one = MemoryEngine::new(config(1, 1));
    let delta = updated(&mut one, &key("k"), add(&["x"]));
    defer(&mut one, NodeId(8), &key("k"), &delta);
    defer(&mut one, OWNER, &key("k"), &delta);
    let view = viewed(&mut one, &key("k"), Scope::Whole);
    let pending_for = vec![NodeId(8), OWNER];
    let answers = one.execute_now(Command::Explain { key: key("k") });
    assert_eq!(answers, [Answer::Explained { key: key("k"), view, pending_for }]);
}

fn list(
    engine: &mut MemoryEngine,
    partition: u32,
    after: Option<ListPosition>,
    limit: usize,
) -> Listing {
    let partition = Partition(partition);
    let bucket = BucketId::first("b");
    let command = Command::List { first: partition, last: partition, bucket, after, limit };
    match engine.execute_now(command).remove(0) {
        Answer::Listed(listed) => listed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn live_keys_of_a_bucket_are_listed_by_partition_and_counted() {
    let mut one = MemoryEngine::new(config(1, 1));
    let names: Vec<String> = (0..200).map(|n| n.to_string()).chain(["long".repeat(300)]).collect();
    for name in &names {
        updated(&mut one, &key(name), count(1));
        updated(&mut one, &Key::new("other", name.clone()).unwrap(), count(1));
    }
    updated(&mut one, &key("7"), Operation::Delete(None));
    updated(&mut one, &key("8"), Operation::Counter(CounterOp::Reset));
    let set = Operation::Register(RegisterOp::Set { value: blob("1"), at: None, replace: true });
    updated(&mut one, &key("9"), set);

    let partitions = PartitionCount::new(16).unwrap();
    let (mut found, mut total) = (BTreeSet::new(), 0);
    for partition in 0..16 {
        let mut after = None;
        loop {
            let page = list(&mut one, partition, after, 3);
            assert!(page.keys.len() <= 3);
            for listed in &page.keys {
                let token = Token(listed.key.identifier());
                assert_eq!(partitions.partition(token), Partition(partition));
                let tag = if listed.key == key("9") { Tag::LWW } else { Tag::COUNTER };
                assert_eq!(listed.tags, [tag]);
                assert!(found.insert(listed.key.clone()));
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let partitions = vec![Partition(partition)];
        let command = Command::Count { partitions, bucket: BucketId::first("b") };
        match one.execute_now(command).as_slice() {
            [Answer::Count(count)] => total += count,
            other => panic!("{other:?}"),
        }
    }
    let live = names.iter().filter(|name| !["7", "8"].contains(&name.as_str()));
    assert_eq!(found, live.map(|name| key(name)).collect());
    assert_eq!(total, 199);
    assert_eq!(one.engine().live_keys(), 199 + 201);
    let again = MemoryEngine::open(one.disk().clone(), config(1, 2)).unwrap();
    assert_eq!(again.engine().live_keys(), 199 + 201);
}

/// As many as may be asked for of the longest would be hundreds of megabytes.
#[test]
fn a_page_of_long_keys_ends_before_it_is_too_long_for_a_message() {
    let mut one = MemoryEngine::new(config(1, 1));
    let bucket = key("k").bucket_id().clone();
    for n in 0..40 {
        updated(&mut one, &key(&format!("{n:060000}")), add(&["x"]));
    }
    let (mut pages, mut found, mut after) = (0, BTreeSet::new(), None);
    let (first, last) = (Partition(0), Partition(u32::MAX));
    loop {
        let list = Command::List { first, last, bucket: bucket.clone(), after, limit: 10_000 };
        let Answer::Listed(page) = one.execute_now(list).remove(0) else { panic!("a page") };
        assert!(page.keys.len() <= 18, "{}", page.keys.len());
        found.extend(page.keys.into_iter().map(|listed| listed.key));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!((pages, found.len()), (3, 40));
}

#[test]
fn a_position_from_elsewhere_lists_nothing_of_other_partitions() {
    let mut one = MemoryEngine::new(config(1, 1));
    for n in 0..50 {
        updated(&mut one, &key(&n.to_string()), count(1));
    }
    let all = list(&mut one, 3, None, 100);
    assert!(!all.keys.is_empty());
    assert_eq!(list(&mut one, 3, Some(ListPosition(vec![0].into())), 100), all);
    assert_eq!(
        list(&mut one, 3, Some(ListPosition(vec![255; 600].into())), 100),
        Listing::default()
    );
    assert_eq!(list(&mut one, 16, None, 100), Listing::default());
    assert_eq!(list(&mut one, u32::MAX, None, 100), Listing::default());
}

/// Keys of another bucket, and deleted ones.
#[test]
fn a_page_cut_short_by_what_it_does_not_list_says_where_to_go_on() {
    let mut one = MemoryEngine::new(config(1, 1));
    for n in 0..200 {
        updated(&mut one, &Key::new("other", n.to_string()).unwrap(), count(1));
        updated(&mut one, &key(&n.to_string()), count(1));
        updated(&mut one, &key(&n.to_string()), Operation::Counter(CounterOp::Reset));
    }
    updated(&mut one, &key("live"), count(1));
    let partitions = PartitionCount::new(16).unwrap();
    let at = partitions.partition(Token(values::identifier(b"b", b"live")));
    let (mut after, mut found, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = list(&mut one, at.0, after.clone(), 2);
        assert!(page.next.is_none() || page.next > after, "a page goes on");
        assert!(page.next.as_ref().is_none_or(|next| next.partition(partitions) == Some(at)));
        found.extend(page.keys.into_iter().map(|listed| listed.key));
        pages += 1;
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(found, [key("live")]);
    assert!(pages > 2, "{pages}");
}

#[test]
fn no_more_is_kept_for_an_owner_than_may_be_until_some_of_it_is_delivered() {
    let bound = 2_000;
    let mut one = MemoryEngine::new(EngineConfig { hint_bytes_max: bound, ..config(1, 1) });
    let delta = updated(&mut one, &key("k"), add(&["x"]));
    let mut kept = 0;
    let refused = loop {
        match one.execute_now(deferred(OWNER, &key(&format!("{kept}")), &delta)).remove(0) {
            Answer::Durable => kept += 1,
            other => break other,
        }
    };
    let bytes = one.engine().pending_bytes_for(OWNER);
    assert_eq!(refused, Answer::Failed(StorageError::HintsFull { bytes }));
    let row = bytes / kept;
    assert!((bound..bound + row).contains(&bytes), "{bytes}");
    // What is there already takes no more room, and is refused all the same; others have theirs.
    let again = one.execute_now(deferred(OWNER, &key("0"), &delta));
    assert_eq!(again, [Answer::Failed(StorageError::HintsFull { bytes })]);
    defer(&mut one, NodeId(8), &key("0"), &delta);
    // What was kept for an owner of before goes to those of now: two that are full would wait for each other.
    let [other] = &outbox_of(&mut one, NodeId(8), None, 1)[..] else { panic!("one is kept") };
    let position = other.position.clone();
    let redirect = Command::Redirect { position, owners: vec![OWNER] };
    assert_eq!(one.execute_now(redirect), [Answer::Durable]);
    let bytes = one.engine().pending_bytes_for(OWNER);
    defer(&mut one, NodeId(8), &key("0"), &delta);

    // It is counted the same by whoever opens it; what is in the log is not refused then.
    let disk = one.disk().clone();
    let mut one =
        MemoryEngine::open(disk, EngineConfig { hint_bytes_max: bound, ..config(1, 2) }).unwrap();
    assert_eq!(one.engine().pending_bytes_for(OWNER), bytes);
    let again = one.execute_now(deferred(OWNER, &key("0"), &delta));
    assert_eq!(again, [Answer::Failed(StorageError::HintsFull { bytes })]);
    let mut pending = outbox(&mut one, None, 2);
    pending.iter().for_each(|pending| deliver(&mut one, pending));
    assert!(one.engine().pending_bytes_for(OWNER) < bound);
    let pending = pending.remove(0);
    defer(&mut one, OWNER, &pending.key, &delta);
    for pending in outbox(&mut one, None, 1_000) {
        deliver(&mut one, &pending);
    }
    assert_eq!((one.engine().pending_for(OWNER), one.engine().pending_bytes_for(OWNER)), (0, 0));
    assert_eq!(one.engine().pending_for(NodeId(8)), 1);
}

/// However much that is, it is done in one step: one that stopped half way for want of room would begin anew for ever.
#[test]
fn what_is_kept_for_one_is_kept_for_the_owners_in_its_place_and_merged_here() {
    let limits = EngineConfig { pending_bytes_max: 1_000, ..config(1, 1) };
    let mut one = Stepped::open(&SimDisk::new(), limits);
    let mut two = MemoryEngine::new(config(2, 2));
    let delta = updated(&mut two, &key("k"), add(&["x".repeat(900).as_str()]));
    one.give(1, deferred(OWNER, &key("k"), &delta));
    assert!(one.take());
    one.commit();
    one.checkpoint();
    one.answered();
    one.give(2, Command::Outbox { owner: OWNER, after: None, limit: 10 });
    let [(2, Answer::Outbox(pending))] = &one.answered()[..] else { panic!("one is pending") };
    let owners = [1, 7, 8].map(NodeId).to_vec();
    let redirect = Command::Redirect { position: pending[0].position.clone(), owners };
    one.give(3, redirect.clone());
    let bytes = one.engine.pending_bytes();
    assert!(bytes > 2_000, "{bytes}");
    one.give(4, redirect.clone());
    assert_eq!(one.answered(), [(4, Answer::Failed(StorageError::Overloaded(bytes)))]);
    // Refused by the disk, nothing of it was done.
    one.disk.fail_next(SeamError::Full);
    assert!(one.take());
    one.commit();
    assert_eq!(one.answered(), [(3, Answer::Failed(StorageError::Full))]);
    let pending = [OWNER, NodeId(7), NodeId(8)].map(|owner| one.engine.pending_for(owner));
    assert_eq!(pending, [1, 0, 0]);
    one.give(5, redirect.clone());
    assert!(one.take());
    // One record, which has no delta: a hole in the log takes all of it or nothing.
    assert!(one.batch.as_ref().unwrap().records.len() < 200);
    one.commit();
    assert_eq!(one.answered(), [(5, Answer::Durable)]);
    let mut one = MemoryEngine::open(one.disk, config(1, 2)).unwrap();
    assert_eq!(outbox(&mut one, None, 10), []);
    assert_eq!(whole(&mut one, &key("k")), whole(&mut two, &key("k")));
    for owner in [7, 8].map(NodeId) {
        assert_eq!(outbox_of(&mut one, owner, None, 10)[0].delta, delta);
    }
    // What is there no more is not kept again; what is, not thrown away for want of another owner.
    assert_eq!(one.execute_now(redirect), [Answer::Durable]);
    assert_eq!(one.engine().pending_for(NodeId(7)), 1);
    let position = outbox_of(&mut one, NodeId(7), None, 1).remove(0).position;
    for owners in [vec![], vec![NodeId(7)]] {
        let redirect = Command::Redirect { position: position.clone(), owners };
        assert_eq!(one.execute_now(redirect), [Answer::Durable]);
        assert_eq!(one.engine().pending_for(NodeId(7)), 1);
    }
}

#[test]
fn the_bytes_of_hints_are_those_of_their_rows_however_they_were_made() {
    let mut one = MemoryEngine::new(config(1, 1));
    for name in ["x", "y", "x", "z"] {
        let delta = updated(&mut one, &key("k"), add(&[name]));
        defer(&mut one, OWNER, &key("k"), &delta);
        let delta = updated(&mut one, &key("l"), put(name));
        defer(&mut one, OWNER, &key("l"), &delta);
    }
    let counted = one.engine().pending_bytes_for(OWNER);
    let mut rows = 0;
    one.engine()
        .rows
        .scan(Table::Outbox, &[], &[], |key, record| {
            rows += key.len() + record.len();
            std::ops::ControlFlow::Continue(())
        })
        .unwrap();
    assert_eq!(counted, rows as u64);
}
