//! Preference lists beside a naive twin that walks one partition at a time (Dynamo §4.3).

use clock::NodeId;
use proptest::collection::btree_set;
use proptest::prelude::{any, prop_assert_eq, proptest};
use ring::{Member, Partition, PartitionCount, Ring};

/// The definition, word for word: walk clockwise, skip nodes already listed, idle members last.
fn walked_one_by_one(ring: &Ring, from: Partition) -> Vec<NodeId> {
    let mut list = Vec::new();
    for steps in 0..ring.partition_count().get() {
        let owner = ring.owner(Partition((from.0 + steps) % ring.partition_count().get()));
        if !list.contains(&owner) {
            list.push(owner);
        }
    }
    for &member in ring.members() {
        if !list.contains(&member) {
            list.push(member);
        }
    }
    list
}

proptest! {
    #[test]
    fn a_preference_list_is_the_walk_and_owners_are_its_prefix(
        members in btree_set(any::<u64>(), 1..24),
        size in 0_u32..7,
        spread in 0_usize..6,
    ) {
        let members: Vec<NodeId> = members.into_iter().map(NodeId).collect();
        let count = PartitionCount::new(1 << size).unwrap();
        let placed: Vec<Member> = members.iter().copied().map(Member::new).collect();
        let ring = Ring::place(&placed, count, spread, None).unwrap().ring;
        for partition in count.iter() {
            let list = ring.preference_list(partition);
            prop_assert_eq!(&list, &walked_one_by_one(&ring, partition));

            let mut everyone = list.clone();
            everyone.sort_unstable();
            prop_assert_eq!(&everyone, &members, "total, nobody twice");

            for n in 0..=members.len() + 1 {
                let owners: Vec<NodeId> = ring.owners(partition, n).collect();
                prop_assert_eq!(&owners, &list[..n.min(list.len())]);
                for (place, &member) in list.iter().enumerate() {
                    prop_assert_eq!(ring.is_owner(partition, n, member), place < n);
                }
            }
        }
    }
}
