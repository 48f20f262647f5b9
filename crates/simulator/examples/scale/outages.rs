//! What a node that was away missed: the hints that wait for it and how long they take; and what a
//! comparison costs that finds it where no hint was kept.

use plotters::coord::Shift;
use plotters::prelude::*;
use replication::{AntiEntropyConfig, Counters};
use simulator::{NetworkFaults, Random, Sim, SimOptions};
use values::{CounterOp, Key, Operation};

use crate::Failure;
use crate::charts::{BLUE, Chart, GREEN, Line, RED, YELLOW, draw as draw_chart};

const NODES: usize = 6;
const KEYS: u64 = 10_000;
/// From one write to the next.
const WRITE_MS: u64 = 10;
const SECONDS: [u64; 5] = [1, 3, 10, 30, 100];

/// One outage.
pub(crate) struct Measured {
    seconds: u64,
    /// Writes meanwhile.
    writes: u64,
    /// Deltas kept for the node, and delivered to it.
    kept: u64,
    delivered: u64,
    /// Until nothing waits any more, in milliseconds after it came back.
    drained_ms: u64,
    /// Where no hint was kept: keys that a comparison brought, its bytes, and until all was equal.
    keys: u64,
    bytes: u64,
    equal_ms: u64,
}

fn key(number: u64) -> Key {
    Key::new("default", format!("key{number}")).expect("it is short")
}

fn cluster(hints_lost: u32, compares: bool) -> Sim {
    let anti_entropy =
        AntiEntropyConfig { interval_ms: compares.then_some(600_000), bytes_per_second: 8 << 20 };
    let network = NetworkFaults { delay_min_ms: 1, delay_max_ms: 3, ..NetworkFaults::default() };
    let options =
        SimOptions { nodes: NODES, hints_lost, anti_entropy, network, ..SimOptions::default() };
    let mut sim = Sim::new(1, options);
    for number in 0..KEYS {
        let node = (number % NODES as u64) as usize;
        let done = sim.update(node, &key(number), Operation::Counter(CounterOp::Add(1)));
        done.expect("nothing is wrong");
    }
    sim.run_until_quiet();
    sim
}

fn sum(sim: &Sim) -> Counters {
    let mut all = Counters::default();
    for node in 0..sim.nodes() {
        let Some(it) = sim.counters(node) else { continue };
        all.hinted_writes += it.hinted_writes;
        all.deliveries += it.deliveries;
        all.keys_pulled += it.keys_pulled;
        all.keys_pushed += it.keys_pushed;
        all.comparison_bytes += it.comparison_bytes;
    }
    all
}

/// Writes without node 0 for a time. Returns how many there were.
fn write_without_one(sim: &mut Sim, random: &mut Random, seconds: u64) -> u64 {
    sim.crash(0);
    let until_ms = sim.now_ms() + seconds * 1_000;
    let mut writes = 0;
    while sim.now_ms() < until_ms {
        let node = random.between(1, NODES as u64 - 1) as usize;
        let key = key(random.below(KEYS));
        sim.update(node, &key, Operation::Counter(CounterOp::Add(1)))
            .expect("two owners are there");
        writes += 1;
        sim.advance(WRITE_MS);
    }
    writes
}

pub(crate) fn measure() -> Vec<Measured> {
    SECONDS.into_iter().map(one).collect()
}

fn one(seconds: u64) -> Measured {
    let (mut sim, mut random) = (cluster(0, false), Random::new(seconds));
    let before = sum(&sim);
    let writes = write_without_one(&mut sim, &mut random, seconds);
    let kept = sum(&sim).hinted_writes - before.hinted_writes;
    sim.restart(0);
    let back_ms = sim.now_ms();
    while sim.pending() > 0 {
        sim.advance(10);
    }
    let drained_ms = sim.now_ms() - back_ms;
    let delivered = sum(&sim).deliveries - before.deliveries;

    let (mut sim, mut random) = (cluster(1_000, true), Random::new(seconds));
    write_without_one(&mut sim, &mut random, seconds);
    let before = sum(&sim);
    sim.restart(0);
    let back_ms = sim.now_ms();
    sim.run_until_quiet();
    let (after, equal_ms) = (sum(&sim), sim.now_ms() - back_ms);
    let moved = |it: &Counters| it.keys_pulled + it.keys_pushed;
    let bytes = after.comparison_bytes - before.comparison_bytes;
    let keys = moved(&after) - moved(&before);
    Measured { seconds, writes, kept, delivered, drained_ms, keys, bytes, equal_ms }
}

pub(crate) fn print(measured: &[Measured]) {
    eprintln!(
        "seconds away | writes | kept, delivered | drained after ms | compared: keys, bytes, equal within ms"
    );
    for it in measured {
        eprintln!(
            "{:>12} | {} | {} {} | {} | {} {} {}",
            it.seconds,
            it.writes,
            it.kept,
            it.delivered,
            it.drained_ms,
            it.keys,
            it.bytes,
            it.equal_ms
        );
    }
}

pub(crate) fn draw(
    left: &DrawingArea<SVGBackend<'_>, Shift>,
    right: &DrawingArea<SVGBackend<'_>, Shift>,
    measured: &[Measured],
) -> Result<(), Failure> {
    let line = |name: &str, color, value: &dyn Fn(&Measured) -> f64| Line {
        name: name.into(),
        color,
        points: measured.iter().map(|it| (it.seconds as f64, value(it).max(1.0))).collect(),
    };
    let xs = SECONDS.map(|seconds| seconds as f64);
    let chart = |about, y, most| Chart {
        about,
        x: "seconds that a node was away",
        y,
        xs: &xs,
        range: 1.0..most,
        is_log: true,
    };
    let hints = [
        line("writes meanwhile", RED, &|it| it.writes as f64),
        line("kept for it", YELLOW, &|it| it.kept as f64),
        line("delivered to it", BLUE, &|it| it.delivered as f64),
    ];
    draw_chart(left, &chart("hints of one node of six", "deltas", 1e6), &hints)?;
    let repair = [
        line("keys brought", YELLOW, &|it| it.keys as f64),
        line("KB compared", BLUE, &|it| it.bytes as f64 / 1e3),
        line("KB for each 100 keys", GREEN, &|it| it.bytes as f64 / 10.0 / it.keys.max(1) as f64),
    ];
    draw_chart(right, &chart("the same, found by comparing", "keys, KB", 1e6), &repair)
}
