//! How even a ring is, and what a join moves, as members join one by one.

use clock::NodeId;
use plotters::coord::Shift;
use plotters::prelude::*;
use ring::{Member, PartitionCount, Ring};

use crate::Failure;
use crate::charts::{BLUE, Chart, Line, RED, YELLOW, draw as draw_chart};

/// Of the default policy, for which nodes place their rings.
const N: usize = 3;
/// Partitions of each ring: the default, and enough for a thousand members.
const PARTITIONS: [u32; 2] = [4_096, 16_384];
const SIZES: [u64; 6] = [4, 10, 30, 100, 300, 1_000];

/// A ring of so many members.
pub(crate) struct Measured {
    members: u64,
    /// By number of partitions: replicas of the fullest member beside the mean, at this size; replicas
    /// moved by joins beside the least, over all joins since the size before.
    by_partitions: Vec<(f64, f64)>,
}

/// Ids as a node's name gives them: scattered.
fn node(number: u64) -> NodeId {
    NodeId((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

pub(crate) fn measure() -> Vec<Measured> {
    let mut measured: Vec<Measured> =
        SIZES.into_iter().map(|members| Measured { members, by_partitions: Vec::new() }).collect();
    for partitions in PARTITIONS {
        let count = PartitionCount::new(partitions).expect("a power of two");
        let mut members: Vec<Member> = (0..3).map(|number| Member::new(node(number))).collect();
        let place = |members: &[Member], before: Option<&Ring>| {
            Ring::place(members, count, Ring::spread_for(N as u8), before)
                .expect("members are distinct")
                .ring
        };
        let mut ring = place(&members, None);
        for entry in &mut measured {
            let (mut moved, mut least) = (0, 0);
            while (members.len() as u64) < entry.members {
                members.push(Member::new(node(members.len() as u64)));
                let next = place(&members, Some(&ring));
                moved += ring.replica_moves(&next, N).len();
                least += partitions as usize * N / members.len();
                ring = next;
            }
            let mut held = std::collections::BTreeMap::<NodeId, usize>::new();
            for partition in count.iter() {
                ring.owners(partition, N).for_each(|owner| *held.entry(owner).or_default() += 1);
            }
            let mean = f64::from(partitions) * N as f64 / members.len() as f64;
            let most = held.values().copied().max().unwrap_or_default() as f64;
            entry.by_partitions.push((most / mean, moved as f64 / least as f64));
        }
    }
    measured
}

pub(crate) fn print(measured: &[Measured]) {
    eprintln!("members | heaviest, moved beside the least: Q = {PARTITIONS:?}");
    for it in measured {
        eprint!("{:>7} |", it.members);
        for (heaviest, moved) in &it.by_partitions {
            eprint!(" {heaviest:.3}, {moved:.3} |");
        }
        eprintln!();
    }
}

pub(crate) fn draw(
    left: &DrawingArea<SVGBackend<'_>, Shift>,
    right: &DrawingArea<SVGBackend<'_>, Shift>,
    measured: &[Measured],
) -> Result<(), Failure> {
    let lines = |part: fn(&(f64, f64)) -> f64| -> Vec<Line> {
        let colors = [YELLOW, BLUE];
        let of = |at: usize| Line {
            name: format!("Q = {}", PARTITIONS[at]),
            color: colors[at],
            points: measured
                .iter()
                .map(|it| (it.members as f64, part(&it.by_partitions[at])))
                .collect(),
        };
        let points = measured.iter().map(|it| (it.members as f64, 1.0)).collect();
        let least = Line { name: "the least there can be".into(), color: RED, points };
        vec![least, of(0), of(1)]
    };
    let xs = SIZES.map(|size| size as f64);
    let chart = |about, y, most| Chart {
        about,
        x: "members",
        y,
        xs: &xs,
        range: 0.95..most,
        is_log: false,
    };
    draw_chart(left, &chart("the fullest member", "replicas / mean", 1.5), &lines(|it| it.0))?;
    draw_chart(right, &chart("moved by joins", "replicas / least", 1.5), &lines(|it| it.1))
}
