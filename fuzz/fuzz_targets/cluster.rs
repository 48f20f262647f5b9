//! What members of a cluster agree on, as gossip and notes carry it: rings, who owns the partitions, how
//! far the barrier is, the policies of buckets. The first byte says which; two of them are joined.

#![no_main]

use clock::NodeId;
use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{bounded, check_join, decoded, parts};
use replication::{Barrier, BarrierStanding, BarrierTable, BucketPolicy, Buckets, PolicyTable};
use ring::{Ownership, Partition, Ring};
use values::Limits;

fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let [one, other] = parts::<2>(rest);
    match kind {
        0 => {
            for ring in [one, other].into_iter().filter_map(decoded::<Ring>) {
                check_ring(&ring);
            }
        }
        1 => {
            let states = [one, other].map(decoded::<Ownership>);
            states.iter().flatten().for_each(check_ownership);
            if let [Some(one), Some(other)] = &states {
                bounded(rest.len(), || {
                    check_join(one, other, |state, other| drop(state.join(other)));
                });
            }
        }
        2 => {
            let tables = [one, other].map(decoded::<BarrierTable>);
            if let [Some(one), Some(other)] = &tables {
                // Nothing is joined into an empty table as it is.
                let heard = [one, other].map(|table| {
                    let mut heard = BarrierTable::default();
                    heard.join(table);
                    heard
                });
                heard.iter().for_each(check_barrier);
                check_join(&heard[0], &heard[1], |table, other| {
                    table.join(other);
                });
            }
            let _ = decoded::<BarrierStanding>(one);
        }
        3 => {
            let tables = [one, other].map(decoded::<PolicyTable>).map(|table| {
                let mut held = PolicyTable::default();
                held.join(&table.unwrap_or_default());
                held
            });
            for table in &tables {
                let buckets = Buckets::new(table, BucketPolicy::default(), &Limits::default());
                let _ = (buckets.list(), table.digest());
                let notes = table.notes().into_iter().map(|(name, note)| (name, Some(note)));
                assert_eq!(&PolicyTable::of_notes(&notes.collect::<Vec<_>>()), table);
            }
            check_join(&tables[0], &tables[1], |table, other| drop(table.join(other)));
        }
        _ => (),
    }
});

fn check_ring(ring: &Ring) {
    for number in [0, 1, 65_535, u32::MAX] {
        let list = ring.preference_list(Partition(number));
        assert_eq!(list.len(), ring.members().len());
        assert_eq!(list[0], ring.owner(Partition(number)));
    }
}

fn check_ownership(state: &Ownership) {
    for number in [0, 1, state.partition_count().get() - 1] {
        let partition = Partition(number);
        for ring in [Some(state.present(partition)), state.beside(partition)].into_iter().flatten()
        {
            assert_eq!(ring.partition_count(), state.partition_count());
            check_ring(ring);
        }
        let _ = (state.driver(partition), state.tenure(partition));
    }
    let mut same = state.clone();
    assert!(!same.join(state).is_changed(), "it is not joined with itself: {state:?}");
}

/// A member that begins anew, whoever that is, is in a later life than all know of.
fn check_barrier(table: &BarrierTable) {
    // Nobody comes to the last life of all, after which there is no next one.
    if table.standings.values().any(|told| told.life == u64::MAX) {
        return;
    }
    for &me in table.standings.keys().take(4).chain([&NodeId(1)]) {
        let reborn = Barrier::reborn(me, table);
        assert!(table.standings.get(&me).is_none_or(|told| told.life < reborn.life), "{table:?}");
    }
}
