use clock::NodeId;
use ring::{Limit, Member, Partition, PartitionCount, Placement, Ring, Weight, Zone};
use std::collections::{BTreeMap, BTreeSet};

fn node(number: u64) -> NodeId {
    NodeId((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

fn member(number: u64, weight: u16, zone: &str) -> Member {
    let zone = (!zone.is_empty()).then(|| Zone::new(zone).unwrap());
    Member { node: node(number), weight: Weight::new(weight).unwrap(), zone }
}

fn place(members: &[Member], previous: Option<&Ring>) -> Placement {
    Ring::place(members, PartitionCount::default(), 3, previous).unwrap()
}

fn repetitions(ring: &Ring, spread: usize) -> usize {
    let count = ring.partition_count().get();
    let window = |start: u32| (start..).take(spread).map(|p| ring.owner(Partition(p % count)));
    (0..count).filter(|&start| window(start).collect::<BTreeSet<_>>().len() < spread).count()
}
fn held(ring: &Ring) -> BTreeMap<NodeId, usize> {
    let mut held: BTreeMap<NodeId, usize> = ring.members().iter().map(|&m| (m, 0)).collect();
    for p in ring.partition_count().iter() {
        for o in ring.owners(p, 3) {
            *held.get_mut(&o).unwrap() += 1;
        }
    }
    held
}

#[test]
fn sweep() {
    let cases: Vec<(&str, Box<dyn Fn(u64) -> Member>)> = vec![
        ("124", Box::new(|i| member(i, [1, 2, 4][i as usize % 3], ""))),
        ("421", Box::new(|i| member(i, [4, 2, 1][i as usize % 3], ""))),
        ("1118", Box::new(|i| member(i, [1, 1, 1, 8][i as usize % 4], ""))),
        ("z2", Box::new(|i| member(i, 1, ["a", "b"][i as usize % 2]))),
        ("z3", Box::new(|i| member(i, 1, ["a", "b", "c"][i as usize % 3]))),
        ("z4", Box::new(|i| member(i, 1, ["a", "b", "c", "d"][i as usize % 4]))),
        ("z5", Box::new(|i| member(i, 1, ["a", "b", "c", "d", "e"][i as usize % 5]))),
        ("z2uneven", Box::new(|i| member(i, 1, ["a", "b", "b"][i as usize % 3]))),
        ("z3uneven", Box::new(|i| member(i, 1, ["a", "b", "c", "c", "c", "b"][i as usize % 6]))),
        (
            "z4uneven",
            Box::new(|i| member(i, 1, ["a", "b", "c", "c", "d", "b", "c"][i as usize % 7])),
        ),
        (
            "z3w124",
            Box::new(|i| {
                member(i, [1, 2, 4, 2, 1][i as usize % 5], ["a", "b", "c"][i as usize % 3])
            }),
        ),
        (
            "z6w",
            Box::new(|i| {
                member(
                    i,
                    [1, 2, 4, 2, 1][i as usize % 5],
                    ["a", "b", "c", "d", "e", "f"][i as usize % 6],
                )
            }),
        ),
    ];
    let only = std::env::var("ONLY").ok();
    for (name, make) in &cases {
        if only.as_ref().is_some_and(|o| o != name) {
            continue;
        }
        let mut ring: Option<Ring> = None;
        let mut members = Vec::new();
        let started = std::time::Instant::now();
        for i in 0..100_u64 {
            if i > 20 && i % 10 != 0 { /* still join */ }
            members.push(make(i));
            let placed = place(&members, ring.as_ref());
            let n = members.len();
            let rep = repetitions(&placed.ring, 3);
            let q = placed.ring.loads();
            let heavy_owned = q
                .iter()
                .zip(&placed.shares)
                .map(|(l, s)| l.1 as f64 / s.possible)
                .fold(0.0, f64::max);
            let h = held(&placed.ring);
            let heavy = placed
                .shares
                .iter()
                .map(|s| h[&s.node] as f64 / (3.0 * s.possible))
                .fold(0.0, f64::max);
            let heavy_due =
                placed.shares.iter().map(|s| h[&s.node] as f64 / (3.0 * s.due)).fold(0.0, f64::max);
            if let Some(before) = &ring {
                let hb = held(before);
                let moved = before.replica_moves(&placed.ring, 3).len();
                let least: f64 = placed
                    .shares
                    .iter()
                    .map(|s| {
                        (3.0 * s.possible - hb.get(&s.node).copied().unwrap_or(0) as f64).max(0.0)
                    })
                    .sum();
                let newcomer: f64 = placed
                    .shares
                    .iter()
                    .find(|s| s.node == node(i))
                    .map(|s| 3.0 * s.possible)
                    .unwrap();
                let bad = rep > 4 || heavy > 1.10 || moved as f64 > 1.1 * least;
                if n > 3 && (n <= 12 || bad) {
                    println!(
                        "{name} n={n} rep={rep} owned={heavy_owned:.3} held={heavy:.3} due={heavy_due:.3} moved={moved} least={least:.0} ({:.2}) newcomer={newcomer:.0} ({:.2}) limits={}",
                        moved as f64 / least,
                        moved as f64 / newcomer,
                        placed.limits.len()
                    );
                }
            }
            ring = Some(placed.ring);
        }
        println!("{name}: {:?}", started.elapsed());
    }
}
