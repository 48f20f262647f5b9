//! Merging is a join, and whatever way records take, whoever got them all holds the same.

use std::collections::BTreeMap;

use clock::NodeId;
use membership::{About, Entry, Incarnation, Load, MemberState, Phase, Record, Table};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest};

/// Any record that passes the checks, from few values so that much coincides.
fn record() -> impl Strategy<Value = Record> {
    let phase = prop_oneof![
        Just(Phase::Expected),
        Just(Phase::Joining),
        Just(Phase::Up),
        Just(Phase::Leaving),
        Just(Phase::Left)
    ];
    (1_u64..4, 0_u64..2, 1_u64..4, 1_u64..4, phase, 0_u64..5, any::<bool>()).prop_map(
        |(generation, nonce, version, joined, phase, ended, loaded)| {
            let joined = joined.min(generation);
            let load = Load { stored_bytes: u64::from(loaded), requests_per_second: 0 };
            let incarnation = Incarnation { generation, nonce };
            let about = About::new("a", "h:1");
            let entry = Entry { incarnation, version, joined, over: None, phase, about, load };
            let ended = if phase == Phase::Left { ended.max(joined) } else { ended };
            Record { entry, ended }
        },
    )
}

fn join(a: &Record, b: &Record) -> Record {
    let mut joined = a.clone();
    joined.merge(b);
    joined
}

proptest! {
    #[test]
    fn merge_is_a_join(a in record(), b in record(), c in record()) {
        prop_assert_eq!(join(&a, &b), join(&b, &a), "commutative");
        prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)), "associative");
        prop_assert_eq!(join(&a, &a), a.clone(), "idempotent");
        prop_assert_eq!(join(&a, &join(&a, &b)), join(&a, &b), "inflationary");
        prop_assert!(join(&a, &b).check().is_ok(), "what merges well-formed records is well-formed");
    }

    /// A removal is not undone by what the member says in or before the generation removed, nor by a
    /// later start that goes on with the same membership.
    #[test]
    fn what_is_over_stays_over_until_a_later_membership(a in record(), b in record()) {
        let joined = join(&a, &b);
        if a.is_over() && joined.entry.joined <= a.entry.joined.max(a.ended) {
            prop_assert!(joined.is_over());
            prop_assert!(matches!(joined.state(), MemberState::Left | MemberState::Removed));
        }
        prop_assert_eq!(joined.is_over(), joined.entry.joined <= a.ended.max(b.ended));
    }

    /// The naive twin keeps every record that it ever got and looks for the newest when asked.
    #[test]
    fn a_table_agrees_with_its_naive_twin(
        records in vec((1_u64..4, record()), 0..30),
        order in any::<u64>(),
    ) {
        let table: Table =
            records.iter().map(|(node, record)| (NodeId(*node), record.clone())).collect();
        let mut shuffled = records.clone();
        shuffled.sort_by_key(|(node, record)| {
            record.entry.version.wrapping_mul(order) ^ node.wrapping_mul(order >> 7)
        });
        let repeated = shuffled.iter().chain(&records);
        let other: Table =
            repeated.map(|(node, record)| (NodeId(*node), record.clone())).collect();
        prop_assert_eq!(&table, &other, "order and repetition make no difference");

        let mut twin: BTreeMap<u64, Vec<&Record>> = BTreeMap::new();
        for (node, record) in &records {
            twin.entry(*node).or_default().push(record);
        }
        prop_assert_eq!(table.len(), twin.len());
        for (node, all) in twin {
            let newest = all.iter().map(|record| &record.entry).max().unwrap();
            let ended = all.iter().map(|record| record.ended).max().unwrap();
            let held = table.get(NodeId(node)).unwrap();
            prop_assert_eq!(&held.entry, newest);
            prop_assert_eq!(held.ended, ended);
        }
    }
}
